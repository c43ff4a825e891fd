/*
 * xhci_xfer.c: transfer rings (4.10, 4.11). A transfer (TD) is a chain of TRBs; each is carried out by itself,
 * straight from or to guest memory, and what has moved of one that waits is kept (ep->done).
 */
#include "base/endian.h"
#include "hw/xhci_priv.h"

enum { LEN_MASK = 0x1ffff, MOVED_MASK = 0xffffff, IMMEDIATE = 8 };

void xhci_xfer_event(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t,
                     enum xhci_cc cc, uint32_t residue)
{
    xhci_event(x, x->slot[slot].ep[ep].ring.at, (uint32_t)cc << 24 | (residue & 0xffffff),
               TRB_EV_TRANSFER << TRB_TYPE_SHIFT | ep << 16 | slot << 24 | (t->control & TRB_BEI));
}

/* On to the next TRB. */
static void xhci_xfer_advance(struct xhci_ep *p, const struct xhci_trb *t)
{
    p->ring.at += XHCI_TRB;
    p->done = 0;
    p->in_td = t->control & TRB_CHAIN;
}

static bool xhci_xfer_halt(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t,
                           enum xhci_cc cc, uint32_t residue)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];

    xhci_xfer_event(x, slot, ep, t, cc, residue);
    xhci_ep_set_state(x, slot, ep, cc == CC_TRB ? EP_ERROR : EP_HALTED);
    p->done = 0;
    p->in_td = p->cut = false;
    return false;
}

/* --- data --- */

struct xhci_move {
    struct usb_dev *dev;
    unsigned ep; /* of the device */
    bool in, end;
    uint32_t len, done;
};

/* The part of the TRB's buffer that is left, to or from the device; false: there is no such memory. */
static bool xhci_xfer_move(struct xhci *x, const struct xhci_trb *t, struct xhci_move *m,
                           uint32_t from, enum usb_result *r)
{
    uint8_t immediate[IMMEDIATE], *buf = immediate;

    m->done = 0;
    if (t->control & TRB_IDT) {
        if (m->in || m->len > IMMEDIATE)
            return false;
        st_le64(immediate, t->param);
        buf += from;
    } else if (m->len > from) {
        buf = guest_ptr(vm_mem(x->pci.dev.vm), t->param + from, m->len - from, m->in);
        if (!buf)
            return false;
    }
    *r = m->in ? usb_in(m->dev, m->ep, buf, m->len - from, &m->done, &m->end)
               : usb_out(m->dev, m->ep, buf, m->len - from, &m->done);
    return true;
}

/* The TRB is done with: as much as was asked for, or less if the device ended the transfer. */
static void xhci_xfer_complete(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t,
                               uint32_t residue, bool end)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];
    bool cut = residue || (end && t->control & TRB_CHAIN);

    p->cut |= cut;
    if (t->control & TRB_IOC || (residue && t->control & TRB_ISP)) {
        xhci_xfer_event(x, slot, ep, t, residue ? CC_SHORT : CC_SUCCESS, residue);
        p->told |= residue != 0;
    }
    xhci_xfer_advance(p, t);
}

static bool xhci_xfer_data(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t,
                           bool in)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];
    struct xhci_move m = {
        .dev = x->port[x->slot[slot].port - 1].dev,
        .ep = ep / 2,
        .in = in,
        .len = t->status & LEN_MASK,
    };
    enum usb_result r;

    if (p->done > m.len || !xhci_xfer_move(x, t, &m, p->done, &r))
        return xhci_xfer_halt(x, slot, ep, t, CC_TRB, m.len);
    p->done += m.done;
    p->moved = (p->moved + m.done) & MOVED_MASK;
    if (r == USB_STALL)
        return xhci_xfer_halt(x, slot, ep, t, CC_STALL, m.len - p->done);
    if (r == USB_NAK)
        return false;
    xhci_xfer_complete(x, slot, ep, t, m.len - p->done, m.end);
    return true;
}

/* --- the other kinds --- */

/* 4.10.1.1: the rest of a transfer that a short packet has ended moves nothing. */
static void xhci_xfer_skip(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];

    if ((t->control & TRB_IOC) && !p->told)
        xhci_xfer_event(x, slot, ep, t, CC_SHORT, t->status & LEN_MASK);
    xhci_xfer_advance(p, t);
}

/* 4.11.5.2: reports what the transfer has moved, with a word of the guest's. */
static void xhci_xfer_event_data(struct xhci *x, unsigned slot, unsigned ep,
                                 const struct xhci_trb *t)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];
    enum xhci_cc cc = p->cut ? CC_SHORT : CC_SUCCESS;

    if (t->control & TRB_IOC)
        xhci_event(x, t->param, (uint32_t)cc << 24 | p->moved,
                   TRB_EV_TRANSFER << TRB_TYPE_SHIFT | TRB_EV_ED | ep << 16 | slot << 24 |
                       (t->control & TRB_BEI));
    p->moved = 0;
    xhci_xfer_advance(p, t);
}

static bool xhci_xfer_setup(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t)
{
    uint8_t bytes[IMMEDIATE];

    if (!(t->control & TRB_IDT) || (t->status & LEN_MASK) != sizeof(bytes))
        return xhci_xfer_halt(x, slot, ep, t, CC_TRB, 0);
    st_le64(bytes, t->param);
    usb_setup(x->port[x->slot[slot].port - 1].dev, bytes);
    xhci_xfer_complete(x, slot, ep, t, 0, false);
    return true;
}

/* The status has no data; on its way in, the request is carried out. */
static bool xhci_xfer_status(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t)
{
    struct usb_dev *dev = x->port[x->slot[slot].port - 1].dev;
    uint32_t done;
    bool end;
    enum usb_result r = t->control & TRB_DIR ? usb_in(dev, 0, NULL, 0, &done, &end)
                                             : usb_out(dev, 0, NULL, 0, &done);

    if (r != USB_OK)
        return xhci_xfer_halt(x, slot, ep, t, CC_STALL, 0);
    xhci_xfer_complete(x, slot, ep, t, 0, false);
    return true;
}

static bool xhci_xfer_control(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];

    switch (xhci_trb_type(t)) {
    case TRB_SETUP:
        return xhci_xfer_setup(x, slot, ep, t);
    case TRB_DATA:
        p->in = t->control & TRB_DIR;
        return xhci_xfer_data(x, slot, ep, t, p->in);
    case TRB_NORMAL:
        return xhci_xfer_data(x, slot, ep, t, p->in);
    case TRB_STATUS:
        return xhci_xfer_status(x, slot, ep, t);
    default:
        return xhci_xfer_halt(x, slot, ep, t, CC_TRB, 0);
    }
}

static bool xhci_xfer_trb(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t)
{
    struct xhci_ep *p = &x->slot[slot].ep[ep];
    unsigned type = xhci_trb_type(t);

    if (type == TRB_EVENT_DATA) {
        xhci_xfer_event_data(x, slot, ep, t);
    } else if (type == TRB_NOOP) {
        xhci_xfer_complete(x, slot, ep, t, 0, false);
    } else if (p->cut) {
        xhci_xfer_skip(x, slot, ep, t);
    } else if (ep == 1) {
        return xhci_xfer_control(x, slot, ep, t);
    } else if (type == TRB_NORMAL) {
        return xhci_xfer_data(x, slot, ep, t, ep & 1);
    } else {
        return xhci_xfer_halt(x, slot, ep, t, CC_TRB, 0);
    }
    return true;
}

bool xhci_xfer_step(struct xhci *x, unsigned slot, unsigned ep)
{
    struct xhci_slot *s = &x->slot[slot];
    struct xhci_ep *p = &s->ep[ep];
    struct xhci_trb t;

    if (!s->enabled || p->state != EP_RUNNING || !s->port || !xhci_port_active(x, s->port - 1u))
        return false;
    if (xhci_ring_fetch(x, &p->ring, &t) != FETCH_OK)
        return false;
    if (!p->in_td && !p->done) {
        p->cut = p->told = false;
        p->moved = 0;
    }
    return xhci_xfer_trb(x, slot, ep, &t);
}
