/*
 * uhci.c: registers and ports (UHCI 1.1, 2), and the frame timer.
 *
 * The schedule is in guest memory and nobody says when it changes, so it has to be looked at. While nothing moves
 * in it that is done in steps of several frames, all of which are carried out then; a device that has something
 * ends the step at once. The frame number goes by the clock all the time. A controller that is stopped, suspended
 * or empty has no timer.
 *
 * Not modelled: legacy keyboard emulation, isochronous transfers' timing, data toggles (no packet is ever lost).
 *
 * Locking: the device lock, for all of it and for the devices in its ports.
 */
#include "hw/uhci_priv.h"

#include <errno.h>

#include "base/endian.h"

enum {
    UHCI_CLASS = 0x0c0300,
    UHCI_BAR = 4,
    UHCI_BAR_LEN = 32,
    UHCI_SBRN = 0x60,   /* serial bus release number */
    UHCI_LEGSUP = 0xc0, /* legacy support */
    UHCI_PIRQ = 0x2000, /* its interrupts go to the PIRQ */
    UHCI_PIN_D = 4,
    SOFMOD_DEFAULT = 64,
};
enum {
    REG_CMD = 0x00,
    REG_STS = 0x02,
    REG_INTR = 0x04,
    REG_FRNUM = 0x06,
    REG_BASE = 0x08,
    REG_SOFMOD = 0x0c,
    REG_PORT = 0x10,
};
enum { FRAME_NS = 1000000, FRAME_MASK = 0x7ff, CATCH_UP = 64 };
/* After so many idle frames, steps of so many: 8 ms first, then 32. */
enum { IDLE_SOON = 64, IDLE_LONG = 1024, STEP_SOON = 8, STEP_LONG = 32 };
enum { PORT_WRITABLE = PORT_PED | PORT_RD | PORT_RESET | PORT_SUSPEND };

static struct uhci *uhci_of(struct device *d)
{
    return container_of(d, struct uhci, pci.dev);
}

static void uhci_interrupt(struct uhci *u)
{
    bool level = ((u->sts & STS_INT) && (u->causes & u->intr)) ||
                 ((u->sts & STS_ERROR) && (u->intr & INTR_ERROR)) ||
                 ((u->sts & STS_RESUME) && (u->intr & INTR_RESUME)) ||
                 (u->sts & (STS_HOST | STS_PROCESS));

    pci_set_intx(&u->pci, level);
}

/* --- frames --- */

static bool uhci_is_running(const struct uhci *u)
{
    return (u->cmd & CMD_RUN) && !(u->cmd & (CMD_SUSPEND | CMD_GRESET));
}

static bool uhci_has_devices(const struct uhci *u)
{
    return u->dev[0] || u->dev[1];
}

static uint64_t uhci_now(struct uhci *u)
{
    return clock_now_ns(vm_clock(u->pci.dev.vm));
}

static void uhci_arm(struct uhci *u)
{
    unsigned step = u->idle < IDLE_SOON ? 1 : u->idle < IDLE_LONG ? STEP_SOON : STEP_LONG;

    if (uhci_is_running(u) && uhci_has_devices(u) && !u->quiet)
        clock_timer_set(&u->timer, u->frame_ns + (uint64_t)step * FRAME_NS);
    else
        clock_timer_cancel(&u->timer);
}

/* After a long pause only the last frames are made up for. */
static void uhci_skip(struct uhci *u, uint64_t now)
{
    uint64_t behind;

    if (u->frame_ns > now)
        u->frame_ns = now; /* of a state with another clock */
    behind = (now - u->frame_ns) / FRAME_NS;
    if (behind <= CATCH_UP)
        return;
    u->frame = (uint16_t)(u->frame + behind - CATCH_UP);
    u->frame_ns += (behind - CATCH_UP) * FRAME_NS;
}

static void uhci_stop(struct uhci *u)
{
    u->cmd &= (uint16_t)~CMD_RUN;
    u->sts |= STS_HALTED;
    for (unsigned i = 0; i < UHCI_PORTS; i++)
        if (u->dev[i])
            u->dev[i]->polled = false;
}

/* All frames that are over by now. */
static void uhci_run(struct uhci *u)
{
    uint64_t now = uhci_now(u);

    if (!uhci_is_running(u) || u->quiet)
        return;
    uhci_skip(u, now);
    while (uhci_is_running(u) && u->frame_ns + FRAME_NS <= now) {
        if (pci_bus_master(&u->pci) && uhci_frame(u, u->frame))
            u->idle = 0;
        else if (u->idle < IDLE_LONG)
            u->idle++;
        u->frame++;
        u->frame_ns += FRAME_NS;
        if (u->sts & (STS_HOST | STS_PROCESS))
            uhci_stop(u);
    }
    uhci_interrupt(u);
}

static void uhci_tick(struct clock_timer *t)
{
    struct uhci *u = container_of(t, struct uhci, timer);

    pthread_mutex_lock(&u->pci.dev.lock);
    uhci_run(u);
    uhci_arm(u);
    pthread_mutex_unlock(&u->pci.dev.lock);
}

/* The current frame, which has begun but is not carried out before its end. */
static uint16_t uhci_frame_number(struct uhci *u)
{
    uint64_t now = uhci_now(u), since = 0;

    if (uhci_is_running(u) && now > u->frame_ns)
        since = (now - u->frame_ns) / FRAME_NS;
    return (uint16_t)((u->frame + since) & FRAME_MASK);
}

static void uhci_start(struct uhci *u)
{
    u->sts &= (uint16_t)~STS_HALTED;
    u->frame_ns = uhci_now(u);
    u->idle = 0;
}

/* --- ports --- */

static void uhci_resume_detected(struct uhci *u, unsigned n)
{
    u->port[n] |= PORT_RD;
    u->sts |= STS_RESUME;
    uhci_interrupt(u);
}

/* A device has something: in a suspended port it may say so, else it is looked at with the next frame. */
static void uhci_wake(struct usb_host *h, struct usb_dev *d, unsigned ep, bool in)
{
    struct uhci *u = container_of(h, struct uhci, host);
    unsigned n = u->dev[1] == d;
    bool asleep = (u->port[n] & PORT_SUSPEND) || (u->cmd & CMD_SUSPEND);

    (void)ep;
    (void)in;
    if (asleep && d->remote_wakeup && !u->quiet)
        uhci_resume_detected(u, n);
    u->idle = 0;
    uhci_arm(u);
}

static void uhci_port_reset(struct uhci *u, unsigned n)
{
    u->port[n] = PORT_ONE;
    if (!u->dev[n])
        return;
    usb_reset(u->dev[n]);
    u->port[n] |= PORT_CCS | PORT_CSC;
}

static void uhci_port_write(struct uhci *u, unsigned n, uint16_t val)
{
    uint16_t was = u->port[n], now = was & ~(val & (PORT_CSC | PORT_PEDC));

    now = (uint16_t)((now & ~PORT_WRITABLE) | (val & PORT_WRITABLE));
    if (!u->dev[n])
        now &= (uint16_t)~PORT_PED;
    if ((val & PORT_RESET) && u->dev[n]) {
        now &= (uint16_t) ~(PORT_PED | PORT_SUSPEND);
        if (!(was & PORT_RESET))
            usb_reset(u->dev[n]);
    }
    if ((was & PORT_RD) && !(val & PORT_RD)) /* the end of a resume */
        now &= (uint16_t)~PORT_SUSPEND;
    u->port[n] = now;
}

/* --- registers --- */

static void uhci_reset(struct uhci *u)
{
    u->cmd = u->intr = 0;
    u->sts = STS_HALTED;
    u->causes = 0;
    u->sofmod = SOFMOD_DEFAULT;
    u->base = 0;
    u->frame = 0;
    u->frame_ns = 0;
    u->idle = 0;
    for (unsigned i = 0; i < UHCI_PORTS; i++)
        uhci_port_reset(u, i);
}

static void uhci_write_command(struct uhci *u, uint16_t val)
{
    bool ran = uhci_is_running(u);

    if (val & CMD_HCRESET) {
        uhci_reset(u);
        return;
    }
    if ((val & CMD_GRESET) && !(u->cmd & CMD_GRESET))
        for (unsigned i = 0; i < UHCI_PORTS; i++)
            uhci_port_reset(u, i);
    if (ran)
        u->frame = uhci_frame_number(u);
    u->cmd = val & 0xff;
    if (uhci_is_running(u) && !ran)
        uhci_start(u);
    else if (ran)
        u->frame_ns = uhci_now(u);
    if (!(u->cmd & CMD_RUN))
        uhci_stop(u);
}

static uint16_t uhci_read16(struct uhci *u, unsigned off)
{
    switch (off) {
    case REG_CMD:
        return u->cmd;
    case REG_STS:
        return u->sts;
    case REG_INTR:
        return u->intr;
    case REG_FRNUM:
        return uhci_frame_number(u);
    case REG_BASE:
        return (uint16_t)u->base;
    case REG_BASE + 2:
        return (uint16_t)(u->base >> 16);
    case REG_SOFMOD:
        return u->sofmod;
    case REG_PORT:
    case REG_PORT + 2:
        return u->port[(off - REG_PORT) / 2];
    default:
        return 0xff7f; /* no such port: bit 7 tells */
    }
}

static void uhci_write16(struct uhci *u, unsigned off, uint16_t val)
{
    switch (off) {
    case REG_CMD:
        uhci_write_command(u, val);
        break;
    case REG_STS:
        u->sts &= (uint16_t) ~(val & ~STS_HALTED);
        if (val & STS_INT)
            u->causes = 0;
        break;
    case REG_INTR:
        u->intr = val & 15;
        break;
    case REG_FRNUM:
        if (u->sts & STS_HALTED)
            u->frame = val & FRAME_MASK;
        break;
    case REG_BASE:
        u->base = (u->base & 0xffff0000) | (val & 0xf000);
        break;
    case REG_BASE + 2:
        u->base = (u->base & 0xffff) | (uint32_t)val << 16;
        break;
    case REG_SOFMOD:
        u->sofmod = val & 0x7f;
        break;
    case REG_PORT:
    case REG_PORT + 2:
        uhci_port_write(u, (off - REG_PORT) / 2, val);
        break;
    default:
        break;
    }
}

static uint64_t uhci_read(struct device *d, uint64_t off, unsigned size)
{
    struct uhci *u = uhci_of(d);
    uint32_t val = uhci_read16(u, (unsigned)off & ~1u);

    if (size == 4)
        val |= (uint32_t)uhci_read16(u, (unsigned)off + 2) << 16;
    return size == 1 && off & 1 ? val >> 8 : val;
}

/* A byte: only the low ones of the registers are written so. */
static void uhci_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct uhci *u = uhci_of(d);

    if (size == 1 && (off & 1))
        return;
    uhci_write16(u, (unsigned)off & ~1u, (uint16_t)val);
    if (size == 4)
        uhci_write16(u, (unsigned)off + 2, (uint16_t)(val >> 16));
    uhci_arm(u);
    uhci_interrupt(u);
}

static const struct io_ops uhci_io = { uhci_read, uhci_write, 1, 4 };

/* --- the device --- */

static void uhci_state(struct device *d, struct state *s)
{
    struct uhci *u = uhci_of(d);

    pci_state(&u->pci, s);
    state_u16(s, &u->cmd);
    state_u16(s, &u->sts);
    state_u16(s, &u->intr);
    state_u8(s, &u->causes);
    state_u8(s, &u->sofmod);
    state_u32(s, &u->base);
    state_u16(s, &u->frame);
    state_u64(s, &u->frame_ns);
    state_u32(s, &u->idle);
    state_require(s, u->frame_ns < INT64_MAX, "a frame in the far future");
    for (unsigned i = 0; i < UHCI_PORTS; i++) {
        bool plugged = u->dev[i];

        state_u16(s, &u->port[i]);
        state_bool(s, &plugged);
        state_require(s, plugged == (u->dev[i] != NULL), "other USB devices are plugged in");
        if (u->dev[i])
            usb_state(u->dev[i], s);
    }
}

/* What waited while the VM stood goes on once it runs. */
static void uhci_work(struct loop_work *w)
{
    struct uhci *u = container_of(w, struct uhci, work);

    pthread_mutex_lock(&u->pci.dev.lock);
    for (unsigned i = 0; i < UHCI_PORTS && !u->quiet; i++)
        usb_resume(u->dev[i]);
    pthread_mutex_unlock(&u->pci.dev.lock);
}

static void uhci_sync(struct device *d)
{
    struct uhci *u = uhci_of(d);

    pci_sync(&u->pci);
    u->quiet = false;
    uhci_interrupt(u);
    uhci_arm(u);
    loop_post(vm_loop(d->vm), &u->work);
}

static void uhci_quiesce(struct device *d)
{
    struct uhci *u = uhci_of(d);

    pthread_mutex_lock(&d->lock);
    u->quiet = true;
    clock_timer_cancel(&u->timer);
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < UHCI_PORTS; i++)
        usb_quiesce(u->dev[i]);
}

static void uhci_destroy(struct device *d)
{
    struct uhci *u = uhci_of(d);

    loop_unpost(vm_loop(d->vm), &u->work);
    clock_timer_cancel(&u->timer);
    for (unsigned i = 0; i < UHCI_PORTS; i++)
        usb_destroy(u->dev[i]);
    free(u);
}

static const struct device_ops uhci_ops = {
    .type = "piix3-uhci",
    .version = 1,
    .state = uhci_state,
    .sync = uhci_sync,
    .quiesce = uhci_quiesce,
    .destroy = uhci_destroy,
};

static void uhci_init_pci(struct uhci *u, struct vm *vm)
{
    struct pci_dev *p = &u->pci;

    pci_init(p, &uhci_ops, vm, "uhci", 0x8086, 0x7020, UHCI_CLASS, 1);
    p->cfg[UHCI_SBRN] = 0x10;
    st_le16(p->cfg + UHCI_LEGSUP, UHCI_PIRQ);
    st_le16(p->wmask + UHCI_LEGSUP, UHCI_PIRQ);
    pci_add_bar(p, UHCI_BAR, UHCI_BAR_LEN, true, false, &uhci_io);
    pci_add_intx(p);
    p->cfg[PCI_INT_PIN] = UHCI_PIN_D;
}

int uhci_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, struct usb_dev *const *devs,
                unsigned n, struct err *e)
{
    struct uhci *u = calloc(1, sizeof(*u));
    int rc;

    if (!u)
        return err_set(e, ENOMEM, "out of memory");
    if (n > UHCI_PORTS) {
        free(u);
        return err_set(e, ENOSPC, "too many USB devices: the controller has %d ports", UHCI_PORTS);
    }
    uhci_init_pci(u, vm);
    u->host = (struct usb_host){ &u->pci.dev, uhci_wake };
    u->work.call = uhci_work;
    clock_timer_init(vm_clock(vm), &u->timer, uhci_tick);
    for (unsigned i = 0; i < n; i++) {
        u->dev[i] = devs[i];
        usb_plug(devs[i], &u->host);
    }
    uhci_reset(u);
    rc = pci_add(bus, &u->pci, devfn, e);
    if (rc)
        free(u);
    return rc;
}
