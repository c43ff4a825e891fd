/*
 * qcow2_snap.c: taking, applying and deleting internal snapshots. Each makes new refcounts, a new L1 where the
 * mapping changes, and a new table of snapshots, and then switches to them at once (qcow2_rebuild.c).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_count.h"

struct snap {
    struct qcow2 *q;
    struct qcow2_snapshots list;
    struct qcow2_rebuild r;
    struct blk_check found;
    int64_t which; /* of the list; -1: none of that name */
    uint64_t *l1;  /* the mapping to be */
    uint32_t l1_size;
    uint64_t vm_state;
};

static int64_t snap_find(const struct qcow2_snapshots *list, const char *tag)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i].name, tag))
            return i;
    for (uint32_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i].id, tag))
            return i;
    return -1;
}

/* What the file has now, and what of it stays: all but snapshot `but`, and the active mapping if it does. */
static int snap_count(struct snap *s, int64_t but, bool active)
{
    int rc = qcow2_count_init(&s->r.have, s->q, &s->found);

    if (!rc)
        rc = qcow2_count_init(&s->r.want, s->q, &s->found);
    if (!rc)
        rc = qcow2_count_rest(&s->r.have, &s->list, -1);
    if (!rc)
        rc = qcow2_count_active(&s->r.have);
    if (!rc)
        qcow2_count_refcounts(&s->r.have);
    if (!rc)
        rc = qcow2_count_rest(&s->r.want, &s->list, but);
    if (!rc && active)
        rc = qcow2_count_active(&s->r.want);
    for (uint64_t c = s->q->h.snapshots_off >> s->q->cluster_bits;
         !rc && s->list.bytes &&
         c <= (s->q->h.snapshots_off + s->list.bytes - 1) >> s->q->cluster_bits;
         c++)
        if (c < s->r.want.clusters && s->r.want.n[c])
            s->r.want.n[c]--; /* a new table is written */
    return rc;
}

static int snap_write_list(struct snap *s)
{
    struct qcow2 *q = s->q;
    uint64_t len, off = 0;
    uint8_t *buf = qcow2_snapshot_encode(&s->list, &len);
    int rc = buf ? 0 : -ENOMEM;

    if (!rc && len) {
        off = qcow2_rebuild_alloc(&s->r, align_up(len, q->cluster_size) >> q->cluster_bits);
        rc = off ? qcow2_meta_write(q, off, buf, len) : -ENOMEM;
    }
    free(buf);
    s->r.h.snapshots_off = off;
    s->r.h.n_snapshots = s->list.n;
    return rc;
}

static int snap_take_l1(struct snap *s, const uint64_t *l1, uint32_t size, uint32_t room)
{
    s->l1 = calloc((size_t)max_u64(size, room) + 1, sizeof(*s->l1));
    s->l1_size = (uint32_t)max_u64(size, room);
    if (!s->l1)
        return -ENOMEM;
    if (l1)
        memcpy(s->l1, l1, (size_t)size * 8);
    return 0;
}

static int snap_count_l1(struct qcow2_count *k, const struct snap *s)
{
    /* qcow2_snap() frees it. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    return qcow2_count_l1(k, s->l1, s->l1_size, false);
}

/* --- each --- */

static void snap_new_id(const struct qcow2_snapshots *list, char *id, size_t len)
{
    unsigned long highest = 0;

    for (uint32_t i = 0; i < list->n; i++)
        highest = max_u64(highest, strtoul(list->v[i].id, NULL, 10));
    snprintf(id, len, "%lu", highest + 1);
}

static int snap_add(struct snap *s, const char *tag)
{
    struct qcow2_snapshot *v = realloc(s->list.v, (s->list.n + 1) * sizeof(*v)), *added;
    uint64_t now = util_realtime_ns();
    char id[32];

    if (!v)
        return -ENOMEM;
    s->list.v = v;
    snap_new_id(&s->list, id, sizeof(id));
    added = &v[s->list.n++];
    *added = (struct qcow2_snapshot){ .l1_off = s->q->h.l1_off,
                                      .l1_size = s->q->h.l1_size,
                                      .date_sec = (uint32_t)(now / 1000000000u),
                                      .date_nsec = (uint32_t)(now % 1000000000u),
                                      .disk_size = s->q->h.size };
    added->id = strdup(id);
    added->name = strdup(tag);
    return added->id && added->name ? 0 : -ENOMEM;
}

/* The mapping as it is becomes the snapshot's; the disk gets a copy in which everything is shared. */
static int snap_create(struct snap *s, const char *tag, struct err *e)
{
    struct qcow2 *q = s->q;
    int rc;

    if (s->which >= 0)
        return err_set(e, EEXIST, "disk '%s' has a snapshot '%s' already", q->b->path, tag);
    if (!*tag || strlen(tag) > QCOW2_MAX_NAME)
        return err_set(e, EINVAL, "a snapshot needs a name of at most %d bytes",
                       (int)QCOW2_MAX_NAME);
    if (s->list.n >= QCOW2_MAX_SNAPSHOTS)
        return err_set(e, ENOSPC, "disk '%s' has %d snapshots, and that is all there may be",
                       q->b->path, (int)QCOW2_MAX_SNAPSHOTS);
    rc = snap_count(s, -1, true);
    if (!rc)
        rc = snap_take_l1(s, q->l1, q->h.l1_size, 0);
    if (!rc)
        rc = qcow2_count_l1(&s->r.want, q->l1, q->h.l1_size, false);
    if (!rc)
        rc = snap_add(s, tag);
    return rc;
}

static int snap_missing(struct snap *s, const char *tag, struct err *e)
{
    return err_set(e, ENOENT,
                   "disk '%s' has no snapshot '%s'; `ruche image snapshot -l` lists them",
                   s->q->b->path, tag);
}

static int snap_apply(struct snap *s, const char *tag, struct err *e)
{
    struct qcow2 *q = s->q;
    const struct qcow2_snapshot *v;
    uint64_t entries;
    int rc;

    if (s->which < 0)
        return snap_missing(s, tag, e);
    v = &s->list.v[s->which];
    entries = qcow2_header_l1_entries(&q->h, v->disk_size);
    if (max_u64(v->l1_size, entries) > QCOW2_MAX_L1 / 8 || v->disk_size > INT64_MAX - BLK_SECTOR)
        return err_set(e, EINVAL, "snapshot '%s' is damaged", tag);
    rc = snap_count(s, -1, false);
    if (!rc)
        rc = snap_take_l1(s, NULL, v->l1_size, (uint32_t)entries);
    if (!rc && v->l1_size)
        rc = qcow2_table_read(q, v->l1_off, v->l1_size, s->l1);
    if (!rc)
        rc = snap_count_l1(&s->r.want, s);
    s->r.h.size = v->disk_size;
    return rc;
}

static int snap_delete(struct snap *s, const char *tag, struct err *e)
{
    struct qcow2_snapshot *v;
    int rc;

    if (s->which < 0)
        return snap_missing(s, tag, e);
    rc = snap_count(s, s->which, true);
    if (rc)
        return rc;
    v = &s->list.v[s->which];
    free(v->id);
    free(v->name);
    free(v->extra);
    memmove(v, v + 1, (s->list.n - (size_t)s->which - 1) * sizeof(*v));
    s->list.n--;
    return snap_take_l1(s, s->q->l1, s->q->h.l1_size, 0);
}

static int snap_do(struct snap *s, enum blk_snap what, const char *tag, struct err *e)
{
    int rc = qcow2_snapshot_load(s->q, &s->list);

    if (rc)
        return rc;
    s->which = snap_find(&s->list, tag);
    if (what == BLK_SNAP_CREATE)
        rc = snap_create(s, tag, e);
    else
        rc = what == BLK_SNAP_APPLY ? snap_apply(s, tag, e) : snap_delete(s, tag, e);
    if (!rc && (s->found.corruptions || s->found.check_errors))
        rc = err_set(e, EIO, "disk '%s' is damaged: `ruche image repair %s` first", s->q->b->path,
                     s->q->b->path);
    if (!rc)
        rc = qcow2_rebuild_active(&s->r, s->l1, s->l1_size, what != BLK_SNAP_DELETE);
    if (!rc)
        rc = snap_write_list(s);
    if (!rc)
        rc = qcow2_rebuild_finish(&s->r);
    if (!rc)
        s->q->b->size = align_up(s->q->h.size, BLK_SECTOR);
    return rc;
}

/* All of the disk may have become another. */
static int snap_bitmaps(struct qcow2 *q)
{
    int rc = qcow2_bitmap_resize(q, q->b->size);

    if (!rc) {
        pthread_mutex_lock(&q->lock);
        qcow2_bitmap_set_all(q);
        pthread_mutex_unlock(&q->lock);
        rc = qcow2_bitmap_store(q, true);
    }
    return rc;
}

int qcow2_snap(struct blk *b, enum blk_snap what, const char *tag, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    struct snap s = { .q = q, .which = -1 };
    int rc;

    if (b->readonly)
        return err_set(e, EROFS, "disk '%s' is open read-only", b->path);
    if (q->external)
        return err_set(e, ENOTSUP,
                       "disk '%s' has an external data file, and so no internal snapshots",
                       b->path);
    qcow2_meta_hold(q);
    s.r = (struct qcow2_rebuild){ .q = q, .e = e };
    rc = q->corrupt ? -EIO : qcow2_meta_commit_all(q);
    if (!rc && what == BLK_SNAP_APPLY && q->bitmaps)
        rc = qcow2_bitmap_begin_resize(q);
    s.r.h = q->h;
    if (!rc)
        rc = snap_do(&s, what, tag, e);
    if (!rc && what == BLK_SNAP_APPLY && q->bitmaps && q->bitmaps->n)
        rc = snap_bitmaps(q);
    qcow2_meta_release(q);
    qcow2_snapshot_unload(&s.list);
    qcow2_count_fini(&s.r.want);
    qcow2_count_fini(&s.r.have);
    free(s.l1);
    return rc ? err_set(e, -rc, "disk '%s': its snapshots cannot be changed: %s", b->path,
                        strerror(-rc))
              : 0;
}
