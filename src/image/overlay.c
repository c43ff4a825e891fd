#include "image/overlay.h"

#include <errno.h>
#include <string.h>

enum { OVERLAY_BUFFER = 2 * MIB, OVERLAY_GRAIN = 64 * KIB };

static void overlay_show(const struct overlay_progress *p, uint64_t done, uint64_t total)
{
    if (p->show)
        p->show(p->opaque, done, total);
}

static int overlay_error(struct err *e, const struct blk *b, uint64_t off, int rc)
{
    return rc ? err_set(e, -rc, "disk '%s', byte %llu: %s", b->path, (unsigned long long)off,
                        strerror(-rc))
              : 0;
}

static int overlay_copy_down(struct blk *b, uint64_t off, const struct blk_extent *x, uint8_t *buf,
                             struct err *e)
{
    int rc;

    if (x->flags & BLK_X_ZERO)
        return overlay_error(e, b->backing, off,
                             blk_op_sync(b->backing, BLK_WRITE_ZEROES, off, x->len, BLK_F_UNMAP));
    for (uint64_t at = 0; at < x->len; at += OVERLAY_BUFFER) {
        size_t n = min_u64(x->len - at, OVERLAY_BUFFER);

        rc = overlay_error(e, b, off + at, blk_read_sync(b, off + at, buf, n));
        if (!rc)
            rc = overlay_error(e, b->backing, off + at,
                               blk_write_sync(b->backing, off + at, buf, n));
        if (rc)
            return rc;
    }
    return 0;
}

int overlay_commit(struct blk *b, const struct overlay_progress *p, struct err *e)
{
    uint8_t *buf = malloc(OVERLAY_BUFFER);
    uint64_t off = 0;
    int rc = 0;

    if (!buf)
        return err_set(e, ENOMEM, "out of memory");
    if (b->backing->size < b->size)
        rc = blk_resize(b->backing, b->size, BLK_PREALLOC_OFF, e);
    while (!rc && off < b->size) {
        struct blk_extent x;

        rc = overlay_error(e, b, off, blk_status(b, off, b->size - off, &x));
        if (!rc && !x.depth && (x.flags & BLK_X_ALLOCATED))
            rc = overlay_copy_down(b, off, &x, buf, e);
        off += rc ? 0 : x.len;
        overlay_show(p, off, b->size);
    }
    if (!rc)
        rc = overlay_error(e, b->backing, 0, blk_op_sync(b->backing, BLK_FLUSH, 0, 0, 0));
    free(buf);
    return rc;
}

/* --- rebase --- */

/* What `new` has there; behind its end, or without it, zeros. */
static int overlay_read_new(struct blk *new, uint64_t off, uint8_t *buf, size_t len)
{
    uint64_t have = new &&off < new->size ? min_u64(new->size - off, len) : 0;

    memset(buf + have, 0, len - have);
    return have ? blk_read_sync(new, off, buf, have) : 0;
}

/* Writes the pieces that differ to the overlay itself. */
static int overlay_keep(struct blk *b, uint64_t off, const uint8_t *now, const uint8_t *then,
                        size_t len)
{
    for (size_t at = 0; at < len; at += OVERLAY_GRAIN) {
        size_t n = min_u64(OVERLAY_GRAIN, len - at);
        int rc = memcmp(now + at, then + at, n) ? blk_write_sync(b, off + at, now + at, n) : 0;

        if (rc)
            return rc;
    }
    return 0;
}

static int overlay_rebase_range(struct blk *b, struct blk *new, uint64_t off, uint64_t len,
                                uint8_t *buf)
{
    while (len) {
        size_t n = min_u64(len, OVERLAY_BUFFER);
        int rc = blk_read_sync(b, off, buf, n);

        if (!rc)
            rc = overlay_read_new(new, off, buf + OVERLAY_BUFFER, n);
        if (!rc)
            rc = overlay_keep(b, off, buf, buf + OVERLAY_BUFFER, n);
        if (rc)
            return rc;
        off += n;
        len -= n;
    }
    return 0;
}

int overlay_rebase(struct blk *b, struct blk *new, const struct overlay_progress *p, struct err *e)
{
    uint8_t *buf = malloc((size_t)2 * OVERLAY_BUFFER);
    uint64_t off = 0;
    int rc = 0;

    if (!buf)
        return err_set(e, ENOMEM, "out of memory");
    while (!rc && off < b->size) {
        struct blk_extent x;
        bool own, nothing;

        rc = overlay_error(e, b, off, blk_status(b, off, b->size - off, &x));
        own = !x.depth && (x.flags & BLK_X_ALLOCATED);
        nothing = !new && (x.flags & BLK_X_ZERO);
        if (!rc && !own && !nothing)
            rc = overlay_error(e, b, off, overlay_rebase_range(b, new, off, x.len, buf));
        off += rc ? 0 : x.len;
        overlay_show(p, off, b->size);
    }
    if (!rc)
        rc = overlay_error(e, b, 0, blk_op_sync(b, BLK_FLUSH, 0, 0, 0));
    free(buf);
    return rc;
}
