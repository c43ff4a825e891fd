/*
 * xhci.c: the controller as a PCI function. See xhci_priv.h. Not modelled: streams, isochronous endpoints,
 * bandwidth, interrupt moderation, more than one interrupter, hubs, debug capability.
 *
 * Locking: the device lock, for all of it and for the devices in its ports.
 */
#include "hw/xhci_priv.h"

#include <errno.h>
#include <string.h>

enum {
    XHCI_CLASS = 0x0c0330,
    XHCI_VENDOR = 0x1b36, /* an xHCI controller with no quirks, as systems know it */
    XHCI_DEVICE = 0x000d,
    XHCI_REVISION = 1,
    XHCI_SBRN = 0x60, /* serial bus release number: USB 3.0 */
    XHCI_MSIX_BAR = 2,
};

static struct xhci *xhci_of(struct device *d)
{
    return container_of(d, struct xhci, pci.dev);
}

/* --- interrupts --- */

/* 4.17.3: a message is sent once and takes the pending bit with it; a pin shows the bit. */
void xhci_interrupt(struct xhci *x)
{
    bool level;

    if (x->event_pending && !(x->erdp & ERDP_EHB)) {
        x->event_pending = false;
        x->erdp |= ERDP_EHB;
        x->iman |= IMAN_IP;
        x->sts |= STS_EINT;
    }
    level = (x->iman & IMAN_IP) && (x->iman & IMAN_IE) && (x->cmd & CMD_INTE);
    if (level && pci_msix_enabled(&x->pci)) {
        x->iman &= ~(uint32_t)IMAN_IP;
        pci_msix_fire(&x->pci, 0);
        level = false;
    }
    pci_set_intx(&x->pci, level);
}

void xhci_die(struct xhci *x, const char *why)
{
    log_limited(&x->pci.dev.log, LOG_WARN, "xhci", "the guest broke the rules: %s", why);
    x->cmd &= ~(uint32_t)CMD_RUN;
    x->sts |= STS_HSE | STS_HALTED;
}

/* --- the run loop --- */

static void xhci_run_slot(struct xhci *x, unsigned slot)
{
    while (x->ring_ready[slot]) {
        unsigned ep = (unsigned)__builtin_ctz(x->ring_ready[slot]);

        if (!xhci_event_room(x))
            return;
        if (!xhci_xfer_step(x, slot, ep))
            x->ring_ready[slot] &= ~BIT(ep);
    }
}

static void xhci_run_ports(struct xhci *x)
{
    while (x->port_events && xhci_event_room(x)) {
        unsigned n = (unsigned)__builtin_ctz(x->port_events);

        x->port_events &= (uint8_t)~BIT(n);
        x->sts |= STS_PCD;
        xhci_event(x, (uint64_t)(n + 1) << 24, (uint32_t)CC_SUCCESS << 24,
                   TRB_EV_PORT << TRB_TYPE_SHIFT);
    }
}

static bool xhci_is_running(const struct xhci *x)
{
    return x->cmd & CMD_RUN;
}

static bool xhci_has_work(const struct xhci *x)
{
    uint32_t any = 0;

    for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++)
        any |= x->ring_ready[slot];
    return any != 0;
}

/* Devices answer at once and so make more work, which the outermost call does. */
void xhci_run(struct xhci *x)
{
    if (x->running || x->quiet || !xhci_is_running(x) || !pci_bus_master(&x->pci))
        return;
    x->running = true;
    x->budget = XHCI_BUDGET;
    do {
        xhci_run_ports(x);
        while (x->commands_running && xhci_is_running(x) && xhci_event_room(x) &&
               xhci_command_step(x))
            ;
        for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++)
            xhci_run_slot(x, slot);
    } while (xhci_is_running(x) && xhci_has_work(x) && xhci_event_room(x));
    x->running = false;
    xhci_interrupt(x);
}

/* What a loaded or resumed controller had to do waits until the VM runs. */
static void xhci_work(struct loop_work *w)
{
    struct xhci *x = container_of(w, struct xhci, work);

    pthread_mutex_lock(&x->pci.dev.lock);
    for (unsigned i = 0; i < XHCI_PORTS && !x->quiet; i++)
        usb_resume(x->port[i].dev);
    xhci_run(x);
    pthread_mutex_unlock(&x->pci.dev.lock);
}

static void xhci_wake(struct usb_host *h, struct usb_dev *d, unsigned ep, bool in)
{
    struct xhci *x = container_of(h, struct xhci, host);
    unsigned n = 0;

    while (n < XHCI_PORTS && x->port[n].dev != d)
        n++;
    if (n < XHCI_PORTS && !xhci_port_active(x, n))
        xhci_port_wake(x, n);
    for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++)
        if (x->slot[slot].enabled && x->slot[slot].port == n + 1)
            xhci_ready(x, slot, 2 * ep + in);
    xhci_run(x);
}

/* --- the device --- */

/* 4.2: as after power-on, or by the guest's command. What is plugged in stays so. */
void xhci_reset(struct xhci *x)
{
    x->cmd = x->dnctrl = x->config = x->iman = x->erstsz = 0;
    x->imod = 4000;
    x->sts = STS_HALTED;
    x->dcbaap = x->erstba = x->erdp = 0;
    x->commands = (struct xhci_ring){ 0 };
    x->event = (struct xhci_event_at){ 0 };
    x->commands_running = x->event_ready = x->event_pending = x->saved = false;
    x->event_cycle = true;
    memset(x->slot, 0, sizeof(x->slot));
    memset(x->ring_ready, 0, sizeof(x->ring_ready));
    xhci_port_reset_all(x);
}

static void xhci_state_ep(struct xhci_ep *ep, struct state *s)
{
    state_u8(s, &ep->state);
    state_u64(s, &ep->ring.at);
    state_bool(s, &ep->ring.cycle);
    state_u32(s, &ep->done);
    state_u32(s, &ep->moved);
    state_bool(s, &ep->in_td);
    state_bool(s, &ep->in);
    state_bool(s, &ep->cut);
    state_bool(s, &ep->told);
    state_require(s, ep->state <= EP_ERROR, "no such endpoint state");
}

static void xhci_state_slot(struct xhci_slot *slot, struct state *s)
{
    state_bool(s, &slot->enabled);
    state_u8(s, &slot->state);
    state_u8(s, &slot->port);
    state_u64(s, &slot->context);
    state_require(s, slot->state <= SLOT_CONFIGURED && slot->port <= XHCI_PORTS,
                  "slot out of range");
    for (unsigned i = 0; slot->enabled && i < XHCI_EPS; i++)
        xhci_state_ep(&slot->ep[i], s);
}

static void xhci_state_events(struct xhci *x, struct state *s)
{
    state_u32(s, &x->event.segment);
    state_u32(s, &x->event.index);
    state_u32(s, &x->event.len);
    state_u64(s, &x->event.base);
    state_bool(s, &x->event_ready);
    state_bool(s, &x->event_cycle);
    state_bool(s, &x->event_pending);
}

static void xhci_state(struct device *d, struct state *s)
{
    struct xhci *x = xhci_of(d);

    pci_state(&x->pci, s);
    if (state_loading(s))
        memset(x->slot, 0, sizeof(x->slot)); /* of slots that are off, no endpoints follow */
    state_u32(s, &x->cmd);
    state_u32(s, &x->sts);
    state_u32(s, &x->dnctrl);
    state_u32(s, &x->config);
    state_u64(s, &x->dcbaap);
    state_u64(s, &x->commands.at);
    state_bool(s, &x->commands.cycle);
    state_bool(s, &x->commands_running);
    state_u32(s, &x->iman);
    state_u32(s, &x->imod);
    state_u32(s, &x->erstsz);
    state_u64(s, &x->erstba);
    state_u64(s, &x->erdp);
    xhci_state_events(x, s);
    state_bool(s, &x->saved);
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        xhci_state_slot(&x->slot[i], s);
        state_u32(s, &x->ring_ready[i]);
    }
    state_u8(s, &x->port_events);
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        bool plugged = x->port[i].dev;

        state_u32(s, &x->port[i].sc);
        state_bool(s, &plugged);
        state_require(s, plugged == (x->port[i].dev != NULL), "other USB devices are plugged in");
        if (x->port[i].dev)
            usb_state(x->port[i].dev, s);
    }
}

static void xhci_sync(struct device *d)
{
    struct xhci *x = xhci_of(d);

    pci_sync(&x->pci);
    x->quiet = false;
    xhci_interrupt(x);
    loop_post(vm_loop(d->vm), &x->work);
}

static void xhci_quiesce(struct device *d)
{
    struct xhci *x = xhci_of(d);

    pthread_mutex_lock(&d->lock);
    x->quiet = true;
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < XHCI_PORTS; i++)
        usb_quiesce(x->port[i].dev);
}

static void xhci_destroy(struct device *d)
{
    struct xhci *x = xhci_of(d);

    loop_unpost(vm_loop(d->vm), &x->work);
    for (unsigned i = 0; i < XHCI_PORTS; i++)
        usb_destroy(x->port[i].dev);
    free(x);
}

static const struct device_ops xhci_ops = {
    .type = "xhci",
    .version = 1,
    .state = xhci_state,
    .sync = xhci_sync,
    .quiesce = xhci_quiesce,
    .destroy = xhci_destroy,
};

static int xhci_plug(struct xhci *x, struct usb_dev *d, struct err *e)
{
    bool usb3 = d->speed == USB_SUPER;
    unsigned n = usb3 ? 0 : XHCI_PORTS_USB3, end = usb3 ? XHCI_PORTS_USB3 : XHCI_PORTS;

    while (n < end && x->port[n].dev)
        n++;
    if (n == end)
        return err_set(e, ENOSPC, "too many USB devices: the controller has %d ports for USB %d",
                       usb3 ? XHCI_PORTS_USB3 : XHCI_PORTS_USB2, usb3 ? 3 : 2);
    x->port[n].dev = d;
    usb_plug(d, &x->host);
    return 0;
}

int xhci_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, struct usb_dev *const *devs,
                unsigned n, struct err *e)
{
    struct xhci *x = calloc(1, sizeof(*x));
    int rc = 0;

    if (!x)
        return err_set(e, ENOMEM, "out of memory");
    pci_init(&x->pci, &xhci_ops, vm, "xhci", XHCI_VENDOR, XHCI_DEVICE, XHCI_CLASS, XHCI_REVISION);
    x->pci.cfg[XHCI_SBRN] = 0x30;
    pci_add_bar(&x->pci, 0, XHCI_BAR_LEN, false, true, &xhci_io);
    pci_add_intx(&x->pci);
    x->host = (struct usb_host){ &x->pci.dev, xhci_wake };
    x->work.call = xhci_work;
    for (unsigned i = 0; !rc && i < n; i++)
        rc = xhci_plug(x, devs[i], e);
    xhci_reset(x);
    if (!rc) {
        pci_add_msix(&x->pci, XHCI_MSIX_BAR, 1);
        rc = pci_add(bus, &x->pci, devfn, e);
    }
    if (rc)
        free(x);
    return rc;
}
