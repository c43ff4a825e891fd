/*
 * sglist.c: see sglist.h.
 */
#include "hw/sglist.h"

void sglist_reset(struct sglist *sg)
{
    sg->n = 0;
    sg->len = 0;
}

/* What goes on where the last piece ends is part of it. */
static bool sglist_goes_on(const struct sglist *sg, uint64_t gpa, const void *p)
{
    const struct iovec *last = &sg->iov[sg->n - 1];

    return sg->gpa[sg->n - 1] + last->iov_len == gpa &&
           (const uint8_t *)last->iov_base + last->iov_len == p;
}

static bool sglist_put(struct sglist *sg, uint64_t gpa, void *p, uint64_t len)
{
    if (sg->n && sglist_goes_on(sg, gpa, p)) {
        sg->iov[sg->n - 1].iov_len += len;
    } else if (sg->n == sg->max) {
        return false;
    } else {
        sg->gpa[sg->n] = gpa;
        sg->iov[sg->n++] = (struct iovec){ p, len };
    }
    sg->len += len;
    return true;
}

enum sglist_result sglist_add(struct sglist *sg, uint64_t gpa, uint64_t len)
{
    while (len) {
        const struct ram_region *r = physmap_find(sg->mem, gpa);
        uint64_t n = r ? min_u64(len, r->gpa + r->len - gpa) : 0;
        void *p = n ? guest_ptr(sg->mem, gpa, n, sg->to_memory) : NULL;

        if (!p)
            return SGLIST_BAD;
        if (!sglist_put(sg, gpa, p, n))
            return SGLIST_FULL;
        gpa += n;
        len -= n;
    }
    return SGLIST_OK;
}

void sglist_cut(struct sglist *sg, uint64_t len)
{
    while (sg->len > len) {
        struct iovec *last = &sg->iov[sg->n - 1];
        uint64_t n = min_u64(sg->len - len, last->iov_len);

        last->iov_len -= n;
        sg->len -= n;
        sg->n -= !last->iov_len;
    }
}

void sglist_written(const struct sglist *sg)
{
    for (unsigned i = 0; i < sg->n; i++)
        guest_written(sg->mem, sg->gpa[i], sg->iov[i].iov_len);
}
