/*
 * qcow2_bitmap_edit.c: adding, removing, clearing, enabling, disabling and merging dirty bitmaps.
 */
#include <errno.h>
#include <string.h>

#include "base/bitmap.h"
#include "block/qcow2_bitmap.h"

enum { EDIT_GRAIN_MIN = 4 * KIB, EDIT_GRAIN_MAX = 64 * KIB, EDIT_BITMAPS = 65535 };
#define EDIT_BITS_MAX BIT64(30)

static struct qcow2_bitmap *edit_find(const struct qcow2_bitmaps *list, const char *name)
{
    for (uint32_t i = 0; list && i < list->n; i++)
        if (!strcmp(list->v[i].name, name))
            return &list->v[i];
    return NULL;
}

static int edit_missing(const struct qcow2 *q, const char *name, struct err *e)
{
    return err_set(e, ENOENT, "disk '%s' has no bitmap '%s'; `ruche image info` lists them",
                   q->b->path, name);
}

static int edit_broken(const struct qcow2 *q, const char *name, struct err *e)
{
    return err_set(e, EINVAL,
                   "disk '%s': bitmap '%s' is inconsistent, because it was not stored, and cannot "
                   "be used; --remove removes it",
                   q->b->path, name);
}

/* --- each --- */

static int edit_add_check(const struct qcow2 *q, const struct blk_bitmap *o, uint64_t grain,
                          struct err *e)
{
    if (q->h.version < 3)
        return err_set(e, ENOTSUP,
                       "disk '%s' is compat=0.10, which has no bitmaps; convert it to compat=1.1",
                       q->b->path);
    if (!*o->name || strlen(o->name) > QCOW2_MAX_NAME)
        return err_set(e, EINVAL, "a bitmap needs a name of at most %d bytes", (int)QCOW2_MAX_NAME);
    if (edit_find(q->bitmaps, o->name))
        return err_set(e, EEXIST, "disk '%s' has a bitmap '%s' already", q->b->path, o->name);
    if (!is_pow2(grain) || grain < BIT(QCOW2_BITMAP_MIN_GRAIN) ||
        grain > BIT64(QCOW2_BITMAP_MAX_GRAIN))
        return err_set(e, EINVAL, "granularity %llu: a power of two from 512 to 2G",
                       (unsigned long long)grain);
    if (q->b->size / grain > EDIT_BITS_MAX || !qcow2_bitmap_fits(q, q->b->size / grain))
        return err_set(e, EFBIG,
                       "granularity %llu is too fine for a disk of that size: its bitmaps would "
                       "need too much memory",
                       (unsigned long long)grain);
    if (q->bitmaps->n >= EDIT_BITMAPS)
        return err_set(e, ENOSPC, "disk '%s' has as many bitmaps as there may be", q->b->path);
    return 0;
}

static int edit_add(struct qcow2 *q, const struct blk_bitmap *o, struct err *e)
{
    uint64_t grain = o->granularity
                         ? o->granularity
                         : min_u64(max_u64(q->cluster_size, EDIT_GRAIN_MIN), EDIT_GRAIN_MAX);
    struct qcow2_bitmaps *list = q->bitmaps;
    struct qcow2_bitmap *v, *m;
    int rc = edit_add_check(q, o, grain, e);

    if (rc)
        return rc;
    v = realloc(list->v, ((size_t)list->n + 1) * sizeof(*v));
    if (!v)
        return -ENOMEM;
    list->v = v;
    m = &v[list->n];
    *m = (struct qcow2_bitmap){ .flags = QCOW2_BITMAP_AUTO,
                                .type = 1,
                                .grain_bits = (uint8_t)__builtin_ctzll(grain),
                                .name = strdup(o->name),
                                .changed = true };
    m->n = align_up(q->b->size, grain) >> m->grain_bits;
    m->bits = calloc(bitmap_words(m->n) + 1, sizeof(*m->bits));
    if (!m->name || !m->bits) {
        qcow2_bitmap_free(m);
        return -ENOMEM;
    }
    list->n++;
    list->other = true;
    return 0;
}

static int edit_remove(struct qcow2 *q, struct qcow2_bitmap *m)
{
    struct qcow2_bitmaps *list = q->bitmaps;
    uint32_t i = (uint32_t)(m - list->v);

    qcow2_bitmap_drop(q, m, &list->gone);
    qcow2_bitmap_free(m);
    memmove(m, m + 1, (list->n - i - 1) * sizeof(*m));
    list->n--;
    list->other = true;
    return 0;
}

/* Every piece that `from` has set is set in m, whatever their granularities. */
static void edit_or(struct qcow2_bitmap *m, const struct qcow2_bitmap *from)
{
    for (uint64_t i = 0; i < from->n; i++) {
        uint64_t first = i;

        if (!(i % 64) && !from->bits[i / 64]) {
            i += 63;
            continue;
        }
        while (i < from->n && bitmap_test(from->bits, i))
            i++;
        if (i > first)
            qcow2_bitmap_set(m, first << from->grain_bits >> m->grain_bits,
                             min_u64(((i << from->grain_bits) - 1) >> m->grain_bits, m->n - 1));
    }
}

static int edit_merge_from(struct qcow2 *q, const struct qcow2_bitmaps *list,
                           struct qcow2_bitmap *m, const char *name, struct err *e)
{
    struct qcow2_bitmap *from = edit_find(list, name);
    int rc;

    if (!from)
        return edit_missing(q, name, e);
    if (list != q->bitmaps)
        from->broken = (from->flags & QCOW2_BITMAP_IN_USE) || !qcow2_bitmap_sound(q, from);
    if (from->broken)
        return edit_broken(q, name, e);
    rc = qcow2_bitmap_load(q, from);
    if (!rc && from != m)
        edit_or(m, from);
    return rc;
}

static int edit_merge(struct qcow2 *q, struct qcow2_bitmap *m, const struct blk_bitmap *o,
                      struct err *e)
{
    struct qcow2 *qf = o->from ? qcow2_of(o->from) : q;
    struct qcow2_bitmaps list = { 0 }, *all = q->bitmaps;
    int rc = 0;

    if (qf != q && o->from->ops != q->b->ops)
        return err_set(e, EINVAL, "disk '%s' is %s, which has no bitmaps; qcow2 has", o->from->path,
                       o->from->ops->format);
    if (qf->b->size != q->b->size)
        return err_set(e, EINVAL, "disks '%s' and '%s' have different sizes, and so their bitmaps",
                       qf->b->path, q->b->path);
    if (qf != q) {
        rc = qcow2_bitmap_dir_load(qf, &list);
        all = &list;
    }
    if (!rc)
        rc = edit_merge_from(qf, all, m, o->from_name, e);
    qcow2_bitmap_dir_unload(&list);
    return rc;
}

/* What needs the bits of a bitmap that is there. */
static int edit_bits(struct qcow2 *q, struct qcow2_bitmap *m, const struct blk_bitmap *o,
                     struct err *e)
{
    int rc;

    if (m->broken)
        return edit_broken(q, o->name, e);
    rc = qcow2_bitmap_load(q, m);
    if (rc)
        return rc;
    m->changed = true;
    switch (o->what) {
    case BLK_BITMAP_CLEAR:
        memset(m->bits, 0, bitmap_words(m->n) * sizeof(*m->bits));
        return 0;
    case BLK_BITMAP_ENABLE:
        m->flags |= QCOW2_BITMAP_AUTO;
        return 0;
    case BLK_BITMAP_DISABLE:
        m->flags &= ~(uint32_t)QCOW2_BITMAP_AUTO;
        return 0;
    default:
        return edit_merge(q, m, o, e);
    }
}

static int edit_do(struct qcow2 *q, const struct blk_bitmap *o, struct err *e)
{
    struct qcow2_bitmap *m = edit_find(q->bitmaps, o->name);

    if (o->what == BLK_BITMAP_ADD)
        return edit_add(q, o, e);
    if (!m)
        return edit_missing(q, o->name, e);
    return o->what == BLK_BITMAP_REMOVE ? edit_remove(q, m) : edit_bits(q, m, o, e);
}

int qcow2_bitmap_edit(struct blk *b, const struct blk_bitmap *o, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    int rc;

    if (b->readonly || !q->bitmaps)
        return err_set(e, EROFS, "disk '%s' is open read-only", b->path);
    qcow2_meta_hold(q);
    rc = edit_do(q, o, e);
    if (!rc) {
        qcow2_bitmap_count_recording(q);
        rc = qcow2_bitmap_store(q, true);
    }
    qcow2_meta_release(q);
    return rc ? err_set(e, -rc, "disk '%s': bitmap '%s' cannot be changed: %s", b->path, o->name,
                        strerror(-rc))
              : 0;
}
