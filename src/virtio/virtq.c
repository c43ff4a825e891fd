/*
 * virtq.c: see virtq.h. The three areas of a split queue of N entries, all little-endian:
 *
 *     desc   N x { u64 addr, u32 len, u16 flags, u16 next }               16-byte aligned
 *     avail  u16 flags, u16 idx, u16 ring[N], u16 used_event               2-byte aligned, driver writes
 *     used   u16 flags, u16 idx, N x { u32 id, u32 len }, u16 avail_event  4-byte aligned, we write
 *
 * idx counts without bound, modulo 2^16; an entry is ring[idx % N].
 */
#include "virtio/virtq.h"

#include <errno.h>
#include <string.h>

enum {
    VIRTQ_DESC_NEXT = 1,
    VIRTQ_DESC_WRITE = 2,
    VIRTQ_DESC_INDIRECT = 4,
    VIRTQ_AVAIL_NO_INTERRUPT = 1,
    VIRTQ_USED_NO_NOTIFY = 1,
    VIRTQ_FIRST_SEGS = 8,
};

struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* A chain being read: where its descriptors are, and what has been gathered. */
struct virtq_walk {
    struct virtq *q;
    struct virtq_elem *el;
    unsigned cap;
    uint64_t table;    /* gpa */
    unsigned in_table; /* entries there */
    bool indirect;
};

static uint64_t virtq_avail_len(const struct virtq *q)
{
    return 6 + 2ull * q->size;
}

static uint64_t virtq_used_len(const struct virtq *q)
{
    return 6 + 8ull * q->size;
}

static bool virtq_shape_ok(const struct virtq *q)
{
    return is_pow2(q->size) && q->size <= q->max_size && !(q->desc & 15) && !(q->avail & 1) &&
           !(q->used & 3);
}

bool virtq_valid(const struct virtq *q)
{
    return virtq_shape_ok(q) && guest_ptr(q->mem, q->desc, 16ull * q->size, false) &&
           guest_ptr(q->mem, q->avail, virtq_avail_len(q), false) &&
           guest_ptr(q->mem, q->used, virtq_used_len(q), true);
}

/* One 16-bit field of the available ring; false: it is not RAM. */
static bool virtq_avail_u16(const struct virtq *q, uint64_t off, uint16_t *val)
{
    const uint16_t *p = guest_ptr(q->mem, q->avail + off, 2, false);

    if (!p)
        return false;
    *val = __atomic_load_n(p, __ATOMIC_ACQUIRE);
    return true;
}

static void virtq_used_u16(struct virtq *q, uint64_t off, uint16_t val)
{
    uint16_t *p = guest_ptr(q->mem, q->used + off, 2, true);

    if (!p)
        return;
    __atomic_store_n(p, val, __ATOMIC_RELEASE);
    guest_written(q->mem, q->used + off, 2);
}

/* How many buffers wait: 0 to size, -EINVAL. */
static int virtq_waiting(const struct virtq *q)
{
    uint16_t idx, n;

    if (!virtq_avail_u16(q, 2, &idx))
        return -EINVAL;
    n = (uint16_t)(idx - q->last_avail);
    return n > q->size ? -EINVAL : n;
}

bool virtq_set_notify(struct virtq *q, bool on)
{
    if (!q->ready)
        return false;
    if (!q->event_idx)
        virtq_used_u16(q, 0, on ? 0 : VIRTQ_USED_NO_NOTIFY);
    else if (on) /* off: an event index that lies behind us does it */
        virtq_used_u16(q, 4 + 8ull * q->size, q->last_avail);
    if (!on)
        return false;
    /* The driver publishes its index, then reads what we wrote: ours must be seen before we read. */
    util_fence(); /* what the driver sees was written before, what it wrote is read behind */
    return virtq_waiting(q) != 0;
}

static bool virtq_grow(struct virtq_walk *w)
{
    struct virtq_elem *el = w->el;
    unsigned n = el->n_out + el->n_in, cap = w->cap ? w->cap * 2 : VIRTQ_FIRST_SEGS;
    struct iovec *iov;

    if (n < w->cap)
        return true;
    iov = malloc(cap * (sizeof(*el->iov) + sizeof(*el->gpa)));
    if (!iov)
        return false;
    if (n) {
        memcpy(iov, el->iov, n * sizeof(*iov));
        memcpy(iov + cap, el->gpa, n * sizeof(*el->gpa));
    }
    free(el->iov);
    el->iov = iov;
    el->gpa = (uint64_t *)(iov + cap);
    w->cap = cap;
    return true;
}

static int virtq_add_segment(struct virtq_walk *w, const struct virtq_desc *d)
{
    struct virtq_elem *el = w->el;
    bool write = d->flags & VIRTQ_DESC_WRITE;
    unsigned n = el->n_out + el->n_in;
    void *hva;

    if (n >= VIRTQ_MAX_SEG || (!write && el->n_in))
        return -EINVAL;
    hva = guest_ptr(w->q->mem, d->addr, d->len, write);
    if (!hva)
        return -EINVAL;
    if (!virtq_grow(w))
        return -ENOMEM;
    el->iov[n] = (struct iovec){ hva, d->len };
    el->gpa[n] = d->addr;
    if (write) {
        el->n_in++;
        el->in_len += d->len;
    } else {
        el->n_out++;
        el->out_len += d->len;
    }
    return 0;
}

static int virtq_read_desc(const struct virtq_walk *w, unsigned i, struct virtq_desc *d)
{
    const void *p;

    if (i >= w->in_table)
        return -EINVAL;
    p = guest_ptr(w->q->mem, w->table + 16ull * i, sizeof(*d), false);
    if (!p)
        return -EINVAL;
    memcpy(d, p, sizeof(*d));
    return 0;
}

/* From now on the chain continues in the table that d describes: no NEXT beside it, no second level. */
static int virtq_enter_table(struct virtq_walk *w, const struct virtq_desc *d)
{
    if (!w->q->indirect || w->indirect || (d->flags & VIRTQ_DESC_NEXT) || !d->len ||
        d->len % sizeof(*d))
        return -EINVAL;
    w->table = d->addr;
    w->in_table = (unsigned)(d->len / sizeof(*d));
    w->indirect = true;
    return 0;
}

/* No chain is longer than its table, so counting steps finds loops. */
static int virtq_walk_chain(struct virtq_walk *w, unsigned i)
{
    struct virtq_desc d;

    for (unsigned left = w->in_table; left; left--) {
        int rc = virtq_read_desc(w, i, &d);

        if (!rc && (d.flags & VIRTQ_DESC_INDIRECT)) {
            rc = virtq_enter_table(w, &d);
            return rc ? rc : virtq_walk_chain(w, 0); /* once: there is no second level */
        }
        if (!rc)
            rc = virtq_add_segment(w, &d);
        if (rc || !(d.flags & VIRTQ_DESC_NEXT))
            return rc;
        i = d.next;
    }
    return -EINVAL;
}

int virtq_fetch(struct virtq *q, uint16_t head, struct virtq_elem *el)
{
    struct virtq_walk w = { .q = q, .el = el, .table = q->desc, .in_table = q->size };
    int rc;

    *el = (struct virtq_elem){ .head = head };
    rc = q->ready ? virtq_walk_chain(&w, head) : -EINVAL;
    if (rc)
        virtq_elem_fini(el);
    return rc;
}

int virtq_pop(struct virtq *q, struct virtq_elem *el)
{
    int rc = q->ready ? virtq_waiting(q) : 0;
    uint16_t head;

    *el = (struct virtq_elem){ 0 };
    if (!rc && q->ready && virtq_set_notify(q, true))
        rc = virtq_waiting(q);
    if (rc <= 0)
        return rc;
    if (!virtq_avail_u16(q, 4 + 2ull * (q->last_avail & (q->size - 1u)), &head))
        return -EINVAL;
    rc = virtq_fetch(q, head, el);
    if (rc)
        return rc;
    q->last_avail++;
    return 1;
}

void virtq_elem_fini(struct virtq_elem *el)
{
    free(el->iov);
    *el = (struct virtq_elem){ 0 };
}

void virtq_push(struct virtq *q, const struct virtq_elem *el, uint32_t written)
{
    uint64_t slot = q->used + 4 + 8ull * (q->used_idx & (q->size - 1u));
    uint32_t entry[2] = { el->head, written };

    /* All of the writable part: a request that failed half-way wrote more than it says. */
    for (unsigned i = el->n_out; i < el->n_out + el->n_in; i++)
        guest_written(q->mem, el->gpa[i], el->iov[i].iov_len);
    if (!guest_write(q->mem, slot, entry, sizeof(entry)))
        return;
    q->used_idx++;
    virtq_used_u16(q, 2, q->used_idx);
}

bool virtq_should_notify(struct virtq *q)
{
    uint16_t old = q->signalled_used, now = q->used_idx, val;
    bool was_valid = q->signalled_valid;

    if (!q->ready || old == now) /* nothing new */
        return false;
    /* We published our index; now read what the driver wants: it does these in the other order. */
    util_fence(); /* what the driver sees was written before, what it wrote is read behind */
    q->signalled_used = now;
    q->signalled_valid = true;
    if (!q->event_idx)
        return virtq_avail_u16(q, 0, &val) && !(val & VIRTQ_AVAIL_NO_INTERRUPT);
    if (!virtq_avail_u16(q, 4 + 2ull * q->size, &val))
        return false;
    return !was_valid || (uint16_t)(now - val - 1) < (uint16_t)(now - old);
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){
        .mem = q->mem, .max_size = q->max_size, .size = q->max_size, .msix_vector = VIRTQ_NO_VECTOR
    };
}

void virtq_state(struct virtq *q, struct state *s)
{
    state_u16(s, &q->size);
    state_bool(s, &q->ready);
    state_u64(s, &q->desc);
    state_u64(s, &q->avail);
    state_u64(s, &q->used);
    state_u16(s, &q->last_avail);
    state_u16(s, &q->used_idx);
    state_u16(s, &q->signalled_used);
    state_bool(s, &q->signalled_valid);
    state_u16(s, &q->msix_vector);
    state_require(s, !q->ready || virtq_shape_ok(q), "a queue of impossible shape");
    state_require(s, is_pow2(q->size) && q->size <= q->max_size, "a queue of impossible size");
    if (state_loading(s) && state_error(s))
        virtq_reset(q);
}
