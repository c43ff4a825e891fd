/*
 * xhci_command.c: commands (4.6), and the contexts (6.2) through which they say what a slot and an endpoint
 * are to be. An input context is an input control context and a device context; a device context is a slot
 * context and one for each endpoint, 32 bytes each.
 *
 *     slot:      0 entries << 27 | speed << 20 | route   4 port << 16 | exit latency
 *               12 state << 27 | address
 *     endpoint:  0 interval << 16 | streams << 10 | state   4 packet size << 16 | type << 3
 *                8 dequeue pointer (u64), bit 0: cycle
 */
#include <string.h>

#include "base/endian.h"
#include "hw/xhci_priv.h"

enum { EP_TYPE_CONTROL = 4, EP_TYPE_IN = 4, EP_STATE_MASK = 7, EP_DEQUEUE = 8 };
enum { ADD_SLOT = BIT(0), ADD_EP0 = BIT(1), INPUT_LEN = XHCI_CTX * (XHCI_EPS + 1) };
enum { SLOT_ENTRIES_SHIFT = 27, SLOT_STATE_SHIFT = 27 };
#define SLOT_ENTRIES (31u << SLOT_ENTRIES_SHIFT)

static bool xhci_read(struct xhci *x, uint64_t gpa, void *buf, size_t len)
{
    return guest_read(vm_mem(x->pci.dev.vm), gpa, buf, len);
}

static void xhci_write(struct xhci *x, uint64_t gpa, const void *buf, size_t len)
{
    if (!guest_write(vm_mem(x->pci.dev.vm), gpa, buf, len))
        xhci_die(x, "a context is outside of memory");
}

static uint64_t xhci_ep_context(const struct xhci *x, unsigned slot, unsigned ep)
{
    return x->slot[slot].context + (uint64_t)ep * XHCI_CTX;
}

/* --- output contexts --- */

void xhci_ep_set_state(struct xhci *x, unsigned slot, unsigned ep, enum xhci_ep_state state)
{
    const struct xhci_ring *r = &x->slot[slot].ep[ep].ring;
    uint64_t at = xhci_ep_context(x, slot, ep);
    uint8_t raw[EP_DEQUEUE + 8];

    x->slot[slot].ep[ep].state = (uint8_t)state;
    if (!xhci_read(x, at, raw, sizeof(raw))) {
        xhci_die(x, "an endpoint context is outside of memory");
        return;
    }
    st_le32(raw, (ld_le32(raw) & ~(uint32_t)EP_STATE_MASK) | state);
    if (state > EP_RUNNING)
        st_le64(raw + EP_DEQUEUE, r->at | r->cycle);
    xhci_write(x, at, raw, sizeof(raw));
}

/* entries: 0, those that it has; and its address. */
static void xhci_slot_set_state(struct xhci *x, unsigned slot, enum xhci_slot_state state,
                                unsigned address, unsigned entries)
{
    uint8_t raw[16];

    x->slot[slot].state = (uint8_t)state;
    if (!xhci_read(x, x->slot[slot].context, raw, sizeof(raw))) {
        xhci_die(x, "a slot context is outside of memory");
        return;
    }
    if (entries)
        st_le32(raw, (ld_le32(raw) & ~(uint32_t)SLOT_ENTRIES) | entries << SLOT_ENTRIES_SHIFT);
    st_le32(raw + 12, (uint32_t)state << SLOT_STATE_SHIFT | address);
    xhci_write(x, x->slot[slot].context, raw, sizeof(raw));
}

static struct usb_dev *xhci_slot_dev(const struct xhci *x, unsigned slot)
{
    unsigned port = x->slot[slot].port;

    return port ? x->port[port - 1].dev : NULL;
}

/* An endpoint as its context in the input context says; it runs. */
static void xhci_ep_enable(struct xhci *x, unsigned slot, unsigned ep, uint8_t ctx[XHCI_CTX])
{
    uint64_t dequeue = ld_le64(ctx + EP_DEQUEUE);

    x->slot[slot].ep[ep] = (struct xhci_ep){
        .state = EP_RUNNING,
        .ring = { .at = dequeue & ~15ull, .cycle = dequeue & 1 },
    };
    st_le32(ctx, (ld_le32(ctx) & ~(uint32_t)EP_STATE_MASK) | EP_RUNNING);
    xhci_write(x, xhci_ep_context(x, slot, ep), ctx, XHCI_CTX);
}

static void xhci_ep_disable(struct xhci *x, unsigned slot, unsigned ep)
{
    if (x->slot[slot].ep[ep].state == EP_OFF)
        return;
    xhci_ep_set_state(x, slot, ep, EP_OFF);
    x->slot[slot].ep[ep] = (struct xhci_ep){ 0 };
    x->ring_ready[slot] &= ~BIT(ep);
}

void xhci_slot_off(struct xhci *x, unsigned slot)
{
    x->slot[slot] = (struct xhci_slot){ 0 };
    x->ring_ready[slot] = 0;
}

/* --- slots --- */

static enum xhci_cc xhci_enable_slot(struct xhci *x, unsigned *slot)
{
    unsigned n = 1, max = x->config & 0xff;

    while (n <= XHCI_SLOTS && x->slot[n].enabled)
        n++;
    if (n > XHCI_SLOTS || n > max)
        return CC_NO_SLOTS;
    xhci_slot_off(x, n);
    x->slot[n].enabled = true;
    *slot = n;
    return CC_SUCCESS;
}

static enum xhci_cc xhci_disable_slot(struct xhci *x, unsigned slot)
{
    if (x->slot[slot].context)
        xhci_slot_set_state(x, slot, SLOT_OFF, 0, 0);
    xhci_slot_off(x, slot);
    return CC_SUCCESS;
}

/* The root port of a device that can be talked to, or 0. */
static unsigned xhci_find_port(const struct xhci *x, unsigned slot, const uint8_t *slot_ctx)
{
    unsigned port = ld_le32(slot_ctx + 4) >> 16 & 0xff;

    if (!port || port > XHCI_PORTS ||
        (ld_le32(slot_ctx) & 0xfffff)) /* a route: there are no hubs */
        return 0;
    for (unsigned i = 1; i <= XHCI_SLOTS; i++)
        if (i != slot && x->slot[i].enabled && x->slot[i].port == port)
            return 0;
    return xhci_port_active(x, port - 1) ? port : 0;
}

static enum xhci_cc xhci_address_device(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    struct xhci_slot *s = &x->slot[slot];
    bool set = !(t->control & TRB_BSR);
    uint8_t in[3 * XHCI_CTX], pointer[8], *slot_ctx = in + XHCI_CTX, *ep0 = in + 2 * XHCI_CTX;
    unsigned port;

    if (!xhci_read(x, t->param & ~15ull, in, sizeof(in)) ||
        !xhci_read(x, x->dcbaap + 8 * slot, pointer, sizeof(pointer)))
        return CC_PARAMETER;
    if (ld_le32(in) || (ld_le32(in + 4) & 3) != (ADD_SLOT | ADD_EP0) ||
        (ld_le32(ep0 + 4) >> 3 & 7) != EP_TYPE_CONTROL)
        return CC_PARAMETER;
    if (s->state >= SLOT_ADDRESSED || (s->state == SLOT_DEFAULT && !set))
        return CC_CONTEXT_STATE;
    port = xhci_find_port(x, slot, slot_ctx);
    if (!port)
        return CC_TRANSACTION;
    s->port = (uint8_t)port;
    s->context = ld_le64(pointer) & ~63ull;
    if (set)
        x->port[port - 1].dev->address = (uint8_t)slot;
    xhci_write(x, s->context, slot_ctx, XHCI_CTX);
    xhci_slot_set_state(x, slot, set ? SLOT_ADDRESSED : SLOT_DEFAULT, set ? slot : 0, 0);
    xhci_ep_enable(x, slot, 1, ep0);
    return CC_SUCCESS;
}

static enum xhci_cc xhci_reset_device(struct xhci *x, unsigned slot)
{
    if (x->slot[slot].state < SLOT_ADDRESSED)
        return CC_CONTEXT_STATE;
    for (unsigned ep = 2; ep < XHCI_EPS; ep++)
        xhci_ep_disable(x, slot, ep);
    xhci_slot_dev(x, slot)->address = 0;
    xhci_slot_set_state(x, slot, SLOT_DEFAULT, 0, 1);
    return CC_SUCCESS;
}

/* --- endpoints of a slot --- */

static enum xhci_cc xhci_deconfigure(struct xhci *x, unsigned slot)
{
    for (unsigned ep = 2; ep < XHCI_EPS; ep++)
        xhci_ep_disable(x, slot, ep);
    xhci_slot_set_state(x, slot, SLOT_ADDRESSED, slot, 1);
    return CC_SUCCESS;
}

/* Direction and number agree, there are no streams, and a device's endpoint can be of this type. */
static bool xhci_ep_valid(const uint8_t *ctx, unsigned ep)
{
    unsigned type = ld_le32(ctx + 4) >> 3 & 7;

    return type && type != EP_TYPE_CONTROL && (type > EP_TYPE_IN) == (ep & 1) &&
           !(ld_le32(ctx) >> 10 & 31);
}

static enum xhci_cc xhci_configure(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    uint8_t in[INPUT_LEN];
    uint32_t drop, add;
    bool any = false;

    if (x->slot[slot].state < SLOT_ADDRESSED)
        return CC_CONTEXT_STATE;
    if (t->control & TRB_DC)
        return xhci_deconfigure(x, slot);
    if (!xhci_read(x, t->param & ~15ull, in, sizeof(in)))
        return CC_PARAMETER;
    drop = ld_le32(in);
    add = ld_le32(in + 4);
    if ((drop & 3) || !(add & ADD_SLOT))
        return CC_PARAMETER;
    for (unsigned ep = 2; ep < XHCI_EPS; ep++)
        if (add & BIT(ep) && !xhci_ep_valid(in + XHCI_CTX * (ep + 1), ep))
            return CC_PARAMETER;
    for (unsigned ep = 2; ep < XHCI_EPS; ep++) {
        if ((drop | add) & BIT(ep))
            xhci_ep_disable(x, slot, ep);
        if (add & BIT(ep))
            xhci_ep_enable(x, slot, ep, in + XHCI_CTX * (ep + 1));
        any |= x->slot[slot].ep[ep].state != EP_OFF;
    }
    xhci_slot_set_state(x, slot, any ? SLOT_CONFIGURED : SLOT_ADDRESSED, slot,
                        ld_le32(in + XHCI_CTX) >> SLOT_ENTRIES_SHIFT);
    return CC_SUCCESS;
}

/* What may change of a slot and of endpoint 0 is only told back: nothing here depends on it. */
static enum xhci_cc xhci_evaluate(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    uint8_t in[3 * XHCI_CTX], out[2 * XHCI_CTX], *ep0 = in + 2 * XHCI_CTX;
    uint32_t add;

    if (x->slot[slot].state < SLOT_DEFAULT)
        return CC_CONTEXT_STATE;
    if (!xhci_read(x, t->param & ~15ull, in, sizeof(in)) ||
        !xhci_read(x, x->slot[slot].context, out, sizeof(out)))
        return CC_PARAMETER;
    add = ld_le32(in + 4);
    if (ld_le32(in))
        return CC_PARAMETER;
    if (add & ADD_SLOT) {
        memcpy(out + 4, in + XHCI_CTX + 4, 2);             /* maximum exit latency */
        st_le32(out + 8, (ld_le32(out + 8) & 0x003fffff) | /* interrupter */
                             (ld_le32(in + XHCI_CTX + 8) & 0xffc00000));
    }
    if (add & ADD_EP0)
        memcpy(out + XHCI_CTX + 6, ep0 + 6, 2); /* maximum packet size */
    xhci_write(x, x->slot[slot].context, out, sizeof(out));
    return CC_SUCCESS;
}

static enum xhci_cc xhci_reset_ep(struct xhci *x, unsigned slot, unsigned ep)
{
    if (x->slot[slot].ep[ep].state != EP_HALTED)
        return CC_CONTEXT_STATE;
    xhci_ep_set_state(x, slot, ep, EP_STOPPED);
    return CC_SUCCESS;
}

/* 4.6.9: the transfer that it waited with is told, with what it has moved. */
static enum xhci_cc xhci_stop_ep(struct xhci *x, unsigned slot, unsigned ep)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];
    struct xhci_trb t;

    if (p->state != EP_RUNNING)
        return CC_CONTEXT_STATE;
    if (xhci_ring_fetch(x, &p->ring, &t) == FETCH_OK)
        xhci_xfer_event(x, slot, ep, &t, CC_STOPPED, (t.status & 0x1ffff) - p->done);
    xhci_ep_set_state(x, slot, ep, EP_STOPPED);
    x->ring_ready[slot] &= ~BIT(ep);
    return CC_SUCCESS;
}

static enum xhci_cc xhci_set_dequeue(struct xhci *x, unsigned slot, unsigned ep,
                                     const struct xhci_trb *t)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];

    if (p->state != EP_STOPPED && p->state != EP_ERROR)
        return CC_CONTEXT_STATE;
    *p = (struct xhci_ep){
        .state = EP_STOPPED,
        .ring = { .at = t->param & ~15ull, .cycle = t->param & 1 },
    };
    xhci_ep_set_state(x, slot, ep, EP_STOPPED);
    return CC_SUCCESS;
}

/* --- the command ring --- */

static enum xhci_cc xhci_ep_command(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    unsigned ep = t->control >> 16 & 31;

    if (!ep || x->slot[slot].ep[ep].state == EP_OFF)
        return CC_EP_OFF;
    switch (xhci_trb_type(t)) {
    case TRB_RESET_EP:
        return xhci_reset_ep(x, slot, ep);
    case TRB_STOP_EP:
        return xhci_stop_ep(x, slot, ep);
    default:
        return xhci_set_dequeue(x, slot, ep, t);
    }
}

static enum xhci_cc xhci_slot_command(struct xhci *x, unsigned slot, const struct xhci_trb *t)
{
    if (!slot || slot > XHCI_SLOTS || !x->slot[slot].enabled)
        return CC_SLOT_OFF;
    switch (xhci_trb_type(t)) {
    case TRB_DISABLE_SLOT:
        return xhci_disable_slot(x, slot);
    case TRB_ADDRESS_DEVICE:
        return xhci_address_device(x, slot, t);
    case TRB_CONFIGURE_EP:
        return xhci_configure(x, slot, t);
    case TRB_EVALUATE:
        return xhci_evaluate(x, slot, t);
    case TRB_RESET_DEVICE:
        return xhci_reset_device(x, slot);
    default:
        return xhci_ep_command(x, slot, t);
    }
}

bool xhci_command_step(struct xhci *x)
{
    struct xhci_trb t;
    enum xhci_cc cc;
    unsigned slot, type;
    uint64_t at;

    if (xhci_ring_fetch(x, &x->commands, &t) != FETCH_OK)
        return false;
    type = xhci_trb_type(&t);
    slot = t.control >> 24;
    at = x->commands.at;
    x->commands.at += XHCI_TRB;
    if (type == TRB_COMMAND_NOOP)
        cc = CC_SUCCESS;
    else if (type == TRB_ENABLE_SLOT)
        cc = xhci_enable_slot(x, &slot);
    else if (type >= TRB_DISABLE_SLOT && type <= TRB_RESET_DEVICE)
        cc = xhci_slot_command(x, slot, &t);
    else
        cc = CC_TRB;
    if (!(x->sts & STS_HSE))
        xhci_event(x, at, (uint32_t)cc << 24,
                   TRB_EV_COMMAND << TRB_TYPE_SHIFT | (uint32_t)slot << 24);
    return true;
}
