/*
 * qcow2_check.c: do the refcounts say what there is? And mending them.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_count.h"

struct check {
    struct qcow2 *q;
    struct qcow2_count k;
    uint32_t *disk; /* the refcounts as the file has them */
    unsigned fix;
    uint64_t other; /* mistakes that new refcounts do not mend */
};

static int check_read_block(struct check *ck, uint64_t index, uint8_t *block)
{
    struct qcow2 *q = ck->q;
    uint64_t first = index << q->rb_bits, per = BIT64(q->rb_bits);
    int rc;

    if (!q->rt[index] || qcow2_in_cluster(q, q->rt[index]) || q->rt[index] >= q->file->size)
        return 0;
    rc = qcow2_meta_read(q, q->rt[index], block, q->cluster_size);
    if (rc) {
        qcow2_count_say(&ck->k, "ERROR: refcount block %llu cannot be read: %s",
                        (unsigned long long)index, strerror(-rc));
        ck->k.c->check_errors++;
        return 0;
    }
    for (uint64_t i = 0; i < per && first + i < ck->k.clusters; i++)
        ck->disk[first + i] =
            (uint32_t)min_u64(UINT32_MAX, qcow2_refcount_entry(block, q->h.refcount_order, i));
    return 0;
}

static int check_read_refcounts(struct check *ck)
{
    struct qcow2 *q = ck->q;
    uint8_t *block = malloc(q->cluster_size);
    int rc = 0;

    ck->disk = calloc(ck->k.clusters + 1, sizeof(*ck->disk));
    if (!block || !ck->disk)
        rc = -ENOMEM;
    for (uint64_t i = 0; !rc && i < q->rt_size && i << q->rb_bits < ck->k.clusters; i++)
        rc = check_read_block(ck, i, block);
    free(block);
    return rc;
}

static void check_compare(struct check *ck)
{
    struct blk_check *c = ck->k.c;

    for (uint64_t i = 0; i < ck->k.clusters; i++) {
        uint32_t has = ck->disk[i], is = ck->k.n[i];

        if (is || has)
            c->image_end = (i + 1) << ck->q->cluster_bits;
        if (has == is)
            continue;
        qcow2_count_say(&ck->k, "%s cluster %llu refcount=%u reference=%u",
                        has > is ? "Leaked" : "ERROR", (unsigned long long)i, has, is);
        if (has > is)
            c->leaks++;
        else
            c->corruptions++;
    }
}

/* --- the flags that say whether a cluster is used once --- */

static void check_flag(struct check *ck, uint64_t entry, const char *what, uint64_t where)
{
    uint64_t c = (entry & QCOW2_OFFSET) >> ck->q->cluster_bits;

    if (!(entry & QCOW2_OFFSET) || c >= ck->k.clusters ||
        (ck->disk[c] == 1) == !!(entry & QCOW2_COPIED))
        return;
    qcow2_count_say(&ck->k, "ERROR OFLAG_COPIED %s %llu: entry=%llx refcount=%u", what,
                    (unsigned long long)where, (unsigned long long)entry, ck->disk[c]);
    ck->k.c->corruptions++;
}

static int check_flags(struct check *ck)
{
    struct qcow2 *q = ck->q;
    uint8_t *table = malloc(q->cluster_size);
    int rc = table ? 0 : -ENOMEM;

    for (uint64_t i = 0; !rc && i < q->h.l1_size; i++) {
        uint64_t off = q->l1[i] & QCOW2_OFFSET;

        check_flag(ck, q->l1[i], "L2 table", i);
        if (!off || qcow2_in_cluster(q, off) || off >= q->file->size || q->external ||
            qcow2_meta_read(q, off, table, q->cluster_size))
            continue;
        for (uint32_t at = 0; at < q->cluster_size; at += q->entry_size)
            if (!(ld_be64(table + at) & QCOW2_COMPRESSED))
                check_flag(ck, ld_be64(table + at), "data cluster",
                           (i << q->l2_bits) + at / q->entry_size);
    }
    free(table);
    return rc;
}

/* --- mending --- */

static int check_rebuild(struct check *ck, struct err *e)
{
    struct qcow2 *q = ck->q;
    struct qcow2_rebuild r = { .q = q, .want = ck->k, .h = q->h, .e = e };
    struct blk_check quiet = { 0 };
    uint64_t *l1 = malloc((size_t)q->h.l1_size * 8 + 8);
    int rc = qcow2_count_init(&r.have, q, &quiet);

    r.want.n = malloc(ck->k.room * sizeof(uint32_t));
    if (!rc && (!r.want.n || !l1))
        rc = -ENOMEM;
    if (!rc) {
        memcpy(r.want.n, ck->k.n, ck->k.room * sizeof(uint32_t));
        memcpy(r.have.n, ck->k.n, ck->k.room * sizeof(uint32_t));
        qcow2_count_refcounts(&r.have);
        memcpy(l1, q->l1, (size_t)q->h.l1_size * 8);
        r.h.incompat &= ~(uint64_t)QCOW2_I_DIRTY;
        if (!ck->other)
            r.h.incompat &= ~(uint64_t)QCOW2_I_CORRUPT;
        rc = qcow2_rebuild_active(&r, l1, q->h.l1_size, false);
    }
    if (!rc)
        rc = qcow2_rebuild_finish(&r);
    free(l1);
    qcow2_count_fini(&r.want);
    qcow2_count_fini(&r.have);
    return rc;
}

static bool check_wants_rebuild(const struct check *ck)
{
    const struct blk_check *c = ck->k.c;
    bool marked = ck->q->h.incompat & (QCOW2_I_DIRTY | QCOW2_I_CORRUPT);

    if (c->corruptions - ck->other || marked)
        return ck->fix & BLK_FIX_ERRORS;
    return c->leaks && ck->fix;
}

static int check_fix(struct check *ck, struct err *e)
{
    struct blk_check *c = ck->k.c;
    int rc = 0;

    if (!check_wants_rebuild(ck))
        return 0;
    if (c->check_errors)
        return err_set(e, EIO, "disk '%s' cannot be repaired, because parts of it cannot be read",
                       ck->q->b->path);
    rc = check_rebuild(ck, e);
    if (rc)
        return err_set(e, -rc, "disk '%s' cannot be repaired: %s", ck->q->b->path, strerror(-rc));
    c->corruptions_fixed = c->corruptions - ck->other;
    c->leaks_fixed = c->leaks;
    c->corruptions = ck->other;
    c->leaks = 0;
    ck->q->corrupt = ck->other != 0;
    return 0;
}

static int check_run(struct check *ck, struct err *e)
{
    struct qcow2_snapshots list;
    int rc = qcow2_snapshot_load(ck->q, &list);

    if (rc == -EINVAL) {
        qcow2_count_say(&ck->k, "ERROR: the table of snapshots is damaged");
        ck->k.c->check_errors++;
        return 0;
    }
    if (!rc)
        rc = qcow2_count_rest(&ck->k, &list, -1);
    qcow2_snapshot_unload(&list);
    if (!rc)
        rc = qcow2_count_active(&ck->k);
    ck->other = ck->k.c->corruptions;
    if (!rc)
        rc = check_read_refcounts(ck);
    if (!rc) {
        uint32_t *n = malloc(ck->k.room * sizeof(*n)); /* new refcounts do not need the old ones */

        if (!n)
            return -ENOMEM;
        memcpy(n, ck->k.n, ck->k.room * sizeof(*n));
        qcow2_count_refcounts(&ck->k);
        check_compare(ck);
        free(ck->k.n);
        ck->k.n = n;
        rc = check_flags(ck);
    }
    return rc ? rc : check_fix(ck, e);
}

/* A disk that is only read has not needed its refcounts until now. */
static int check_prepare(struct qcow2 *q)
{
    int rc = 0;

    if (!q->b->readonly)
        return qcow2_meta_commit_all(q);
    if (!q->rt) {
        pthread_mutex_lock(&q->lock);
        rc = qcow2_refcount_reload(q);
        pthread_mutex_unlock(&q->lock);
    }
    return rc;
}

int qcow2_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *e)
{
    struct check ck = { .q = qcow2_of(b), .fix = fix };
    int rc;

    if (fix && b->readonly)
        return err_set(e, EROFS, "disk '%s' is open read-only and cannot be repaired", b->path);
    qcow2_meta_hold(ck.q);
    rc = check_prepare(ck.q);
    if (!rc)
        rc = qcow2_count_init(&ck.k, ck.q, c);
    c->total_clusters = align_up(b->size, ck.q->cluster_size) >> ck.q->cluster_bits;
    if (!rc)
        rc = check_run(&ck, e);
    qcow2_meta_release(ck.q);
    qcow2_count_fini(&ck.k);
    free(ck.disk);
    if (rc == -EFBIG)
        return err_set(e, EFBIG, "disk '%s' is too large to be checked, or damaged on purpose",
                       b->path);
    return rc ? err_set(e, -rc, "disk '%s' cannot be checked: %s", b->path, strerror(-rc)) : 0;
}
