#include "mem/guest.h"

#include <string.h>

#include "base/bitmap.h"

void guest_region_written(struct physmap *m, struct ram_region *r, uint64_t off, uint64_t len)
{
    bool code = false;

    if (!len || (!r->dirty && !r->code))
        return;
    for (uint64_t page = off >> PAGE_SHIFT; page <= (off + len - 1) >> PAGE_SHIFT; page++) {
        if (r->dirty)
            bitmap_set_atomic(r->dirty, page);
        code |= r->code && bitmap_test(r->code, page);
    }
    if (code && !r->hidden && m->code_written) /* what is hidden is checked when it comes back */
        m->code_written(m->opaque, r->gpa + off, len);
}

void *guest_ptr(struct physmap *m, uint64_t gpa, uint64_t len, bool write)
{
    struct ram_region *r = physmap_find(m, gpa);

    if (!r || !len || len > r->len - (gpa - r->gpa) || (write && r->readonly))
        return NULL;
    if (write)
        guest_region_written(m, r, gpa - r->gpa, len);
    return r->hva + (gpa - r->gpa);
}

void guest_written(struct physmap *m, uint64_t gpa, uint64_t len)
{
    struct ram_region *r = physmap_find(m, gpa);

    if (r && len && len <= r->len - (gpa - r->gpa))
        guest_region_written(m, r, gpa - r->gpa, len);
}

/* Length of the piece at gpa that lies in one region, at most len; 0: not RAM. */
static uint64_t guest_piece(struct physmap *m, uint64_t gpa, uint64_t len)
{
    struct ram_region *r = physmap_find(m, gpa);

    return r ? min_u64(len, r->len - (gpa - r->gpa)) : 0;
}

static bool guest_all_ram(struct physmap *m, uint64_t gpa, uint64_t len, bool write)
{
    while (len) {
        uint64_t n = guest_piece(m, gpa, len);

        if (!n || (write && physmap_find(m, gpa)->readonly))
            return false;
        gpa += n;
        len -= n;
    }
    return true;
}

bool guest_read(struct physmap *m, uint64_t gpa, void *buf, uint64_t len)
{
    char *to = buf;

    if (!guest_all_ram(m, gpa, len, false))
        return false;
    while (len) {
        uint64_t n = guest_piece(m, gpa, len);

        memcpy(to, guest_ptr(m, gpa, n, false), n);
        to += n;
        gpa += n;
        len -= n;
    }
    return true;
}

bool guest_write(struct physmap *m, uint64_t gpa, const void *buf, uint64_t len)
{
    const char *from = buf;

    if (!guest_all_ram(m, gpa, len, true))
        return false;
    while (len) {
        uint64_t n = guest_piece(m, gpa, len);

        memcpy(guest_ptr(m, gpa, n, true), from, n);
        guest_written(m, gpa, n);
        from += n;
        gpa += n;
        len -= n;
    }
    return true;
}

bool guest_fill(struct physmap *m, uint64_t gpa, int byte, uint64_t len)
{
    if (!guest_all_ram(m, gpa, len, true))
        return false;
    while (len) {
        uint64_t n = guest_piece(m, gpa, len);

        memset(guest_ptr(m, gpa, n, true), byte, n);
        guest_written(m, gpa, n);
        gpa += n;
        len -= n;
    }
    return true;
}
