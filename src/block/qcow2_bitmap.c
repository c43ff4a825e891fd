/*
 * qcow2_bitmap.c: persistent dirty bitmaps. We do not keep them: one that should record every write is marked as
 * being in use before the first write, so that nobody takes it for complete.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { BITMAP_DIR_MAX = 64 * MIB, BITMAP_ENTRY = 24, BITMAP_IN_USE = BIT(0), BITMAP_AUTO = BIT(1) };

/* The length of the entry at p, or 0 if it is damaged. */
static size_t bitmap_entry_len(const uint8_t *p, size_t left)
{
    size_t len;

    if (left < BITMAP_ENTRY)
        return 0;
    len = align_up(BITMAP_ENTRY + (size_t)ld_be16(p + 18) + ld_be32(p + 20), 8);
    return len <= left ? len : 0;
}

static bool bitmap_mark(uint8_t *dir, size_t len)
{
    bool changed = false;
    size_t n;

    for (size_t at = 0; (n = bitmap_entry_len(dir + at, len - at)); at += n) {
        uint32_t flags = ld_be32(dir + at + 12);

        if (!(flags & BITMAP_AUTO) || (flags & BITMAP_IN_USE))
            continue;
        st_be32(dir + at + 12, flags | BITMAP_IN_USE);
        changed = true;
    }
    return changed;
}

int qcow2_bitmap_begin_writing(struct qcow2 *q, struct err *e)
{
    uint64_t len = q->h.bitmaps.dir_size, off = q->h.bitmaps.dir_off;
    uint8_t *dir;
    int rc;

    if (!q->h.bitmaps.n || !(q->h.autoclear & QCOW2_A_BITMAPS))
        return 0;
    if (len > BITMAP_DIR_MAX || qcow2_in_cluster(q, off) || !qcow2_map_sane(q, off, len))
        return err_set(e, EINVAL,
                       "disk '%s': its bitmaps are damaged; `ruche image check` tells more",
                       q->b->path);
    dir = malloc(len);
    if (!dir)
        return err_set(e, ENOMEM, "out of memory");
    rc = qcow2_meta_read(q, off, dir, len);
    if (!rc && bitmap_mark(dir, len)) {
        rc = qcow2_meta_write(q, off, dir, len);
        if (!rc)
            rc = qcow2_meta_flush(q);
    }
    free(dir);
    return rc ? err_set(e, -rc, "disk '%s': its bitmaps cannot be marked as in use: %s", q->b->path,
                        strerror(-rc))
              : 0;
}
