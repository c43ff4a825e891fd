/* xhci_ring.c: rings of TRBs (4.9, 4.11): those of the guest are followed, the event ring is written. */
#include "base/endian.h"
#include "hw/xhci_priv.h"

enum { SEGMENT_MIN = 16, SEGMENT_MAX = 4096, SEGMENT_ENTRY = 16, EVENTS_A_STEP = 2 };

enum xhci_fetch xhci_ring_fetch(struct xhci *x, struct xhci_ring *r, struct xhci_trb *t)
{
    for (unsigned links = 0; links < XHCI_LINKS; links++) {
        uint8_t raw[XHCI_TRB];

        if (!x->budget || !--x->budget) {
            xhci_die(x, "a ring without an end");
            return FETCH_BAD;
        }
        if (!guest_read(vm_mem(x->pci.dev.vm), r->at, raw, sizeof(raw))) {
            xhci_die(x, "a ring outside of memory");
            return FETCH_BAD;
        }
        *t = (struct xhci_trb){ ld_le64(raw), ld_le32(raw + 8), ld_le32(raw + 12) };
        if ((t->control & TRB_CYCLE) != r->cycle)
            return FETCH_EMPTY;
        if (xhci_trb_type(t) != TRB_LINK)
            return FETCH_OK;
        r->at = t->param & ~15ull;
        r->cycle ^= (t->control & TRB_TOGGLE) != 0;
    }
    xhci_die(x, "links that lead only to links");
    return FETCH_BAD;
}

/* --- the event ring --- */

/* The segment's base and length, by the table; false: there is no such thing. */
static bool xhci_event_segment(struct xhci *x, struct xhci_event_at *at, uint32_t segment)
{
    uint8_t entry[SEGMENT_ENTRY];

    if (!guest_read(vm_mem(x->pci.dev.vm), x->erstba + (uint64_t)segment * SEGMENT_ENTRY, entry,
                    sizeof(entry)))
        return false;
    *at = (struct xhci_event_at){
        .segment = segment,
        .base = ld_le64(entry) & ~63ull,
        .len = ld_le32(entry + 8) & 0xffff,
    };
    return at->len >= SEGMENT_MIN && at->len <= SEGMENT_MAX;
}

static bool xhci_event_next(struct xhci *x, struct xhci_event_at *at, bool *wrapped)
{
    if (++at->index < at->len)
        return true;
    *wrapped = at->segment + 1 >= x->erstsz;
    return xhci_event_segment(x, at, *wrapped ? 0 : at->segment + 1);
}

static bool xhci_event_start(struct xhci *x)
{
    if (x->event_ready)
        return true;
    if (!x->erstsz || x->erstsz > XHCI_SEGMENTS)
        return false; /* not set up yet */
    if (!xhci_event_segment(x, &x->event, 0)) {
        xhci_die(x, "no event ring");
        return false;
    }
    x->event_cycle = true;
    x->event_ready = true;
    return true;
}

/* One place stays free, so that a full ring differs from an empty one. */
bool xhci_event_room(struct xhci *x)
{
    struct xhci_event_at at;
    bool wrapped = false;

    if (!(x->cmd & CMD_RUN) || !xhci_event_start(x))
        return false;
    at = x->event;
    for (unsigned i = 0; i < EVENTS_A_STEP; i++) {
        if (!xhci_event_next(x, &at, &wrapped)) {
            xhci_die(x, "no such segment of the event ring");
            return false;
        }
        if (at.base + (uint64_t)at.index * XHCI_TRB == (x->erdp & ~15ull))
            return false;
    }
    return true;
}

void xhci_event(struct xhci *x, uint64_t param, uint32_t status, uint32_t control)
{
    uint8_t raw[XHCI_TRB];
    bool wrapped = false;

    st_le64(raw, param);
    st_le32(raw + 8, status);
    st_le32(raw + 12, (control & ~(uint32_t)(TRB_CYCLE | TRB_BEI)) | x->event_cycle);
    if (!guest_write(vm_mem(x->pci.dev.vm), x->event.base + (uint64_t)x->event.index * XHCI_TRB,
                     raw, sizeof(raw)) ||
        !xhci_event_next(x, &x->event, &wrapped)) {
        xhci_die(x, "the event ring is outside of memory");
        return;
    }
    x->event_cycle ^= wrapped;
    if (!(control & TRB_BEI))
        x->event_pending = true;
}
