/*
 * qcow2_zero.c: discards and writes of zeros. Whole clusters change their entry, in a meta job; what is left of
 * a write of zeros at both ends is written as such.
 */
#include <errno.h>

#include "block/qcow2_priv.h"

struct zero_edge {
    struct qcow2_io io;
    struct qcow2_op *op;
};

static void zero_edge_done(struct blk_req *r, int err)
{
    struct zero_edge *z = container_of(r, struct zero_edge, io.req);
    struct qcow2_op *op = z->op;

    free(z);
    qcow2_op_put(op, err, true);
}

/* Less than a cluster, on its own way. */
static int zero_edge(struct qcow2_op *op, uint64_t off, uint64_t len, struct qcow2_issue *issue)
{
    struct zero_edge *z = len ? calloc(1, sizeof(*z)) : NULL;

    if (!len)
        return 0;
    if (!z)
        return -ENOMEM;
    z->op = op;
    z->io.to = op->q->b;
    z->io.nested = true;
    z->io.req =
        (struct blk_req){ .op = BLK_WRITE_ZEROES, .off = off, .len = len, .done = zero_edge_done };
    atomic_fetch_add(&op->pending, 1);
    qcow2_issue_add(issue, &z->io);
    return 0;
}

/* The whole clusters of the request; the last one of the disk counts as whole. */
static void zero_middle(const struct qcow2_op *op, uint64_t *from, uint64_t *to)
{
    const struct qcow2 *q = op->q;
    uint64_t end = op->r->off + op->r->len;

    *from = align_up(op->r->off, q->cluster_size);
    *to = end == q->b->size ? align_up(end, q->cluster_size) : align_down(end, q->cluster_size);
}

int qcow2_zero_start(struct qcow2_op *op, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    const struct blk_req *r = op->r;
    bool discard = r->op == BLK_DISCARD, cannot = q->h.version < 3 && q->b->backing;
    uint64_t from, to;
    int rc;

    if (q->corrupt)
        return -EIO;
    zero_middle(op, &from, &to);
    if (from >= to || cannot) {
        if (discard)
            op->pos = r->len; /* it is advice */
        else
            op->zeros = true;
        return 0;
    }
    if (!discard) {
        rc = zero_edge(op, r->off, from - r->off, issue);
        if (!rc && to < r->off + r->len)
            rc = zero_edge(op, to, r->off + r->len - to, issue);
        if (rc)
            return rc;
    }
    op->pos = r->len;
    op->next = q->wait_zero;
    q->wait_zero = op;
    qcow2_meta_kick(q);
    return 1;
}

/* --- the meta job --- */

static void zero_free(struct qcow2 *q, uint64_t old)
{
    uint64_t host = old & QCOW2_OFFSET, len = q->cluster_size;

    if (old & QCOW2_COMPRESSED)
        qcow2_map_packed(q, old, &host, &len);
    if (host && !q->external)
        qcow2_refcount_free_later(q, host, len);
}

static void zero_set(const struct qcow2 *q, uint8_t *entry, uint64_t e)
{
    if (q->extended) {
        st_be64(entry, e & ~QCOW2_ZERO);
        st_be64(entry + 8, (uint64_t)UINT32_MAX << 32);
    } else {
        st_be64(entry, e);
    }
}

/* One cluster. 1: its entry has changed; 0; -EIO. Lock held. */
static int zero_cluster(struct qcow2 *q, const struct blk_req *r, uint64_t guest, uint8_t *entry)
{
    bool unmap = r->op == BLK_DISCARD || (r->flags & BLK_F_UNMAP);
    uint64_t old = ld_be64(entry);
    struct qcow2_map m;

    if (qcow2_map_entry(q, guest, entry, &m))
        return -EIO;
    if (m.kind == QCOW2_K_NONE && !(old & QCOW2_OFFSET) && m.len == q->cluster_size &&
        (r->op == BLK_DISCARD || qcow2_map_reads_zero(q, m.kind, guest)))
        return 0;
    if (m.kind == QCOW2_K_ZERO && m.len == q->cluster_size && (!unmap || !(old & QCOW2_OFFSET)))
        return 0;
    if (q->external) {
        zero_set(q, entry, guest | QCOW2_COPIED | QCOW2_ZERO);
    } else if (q->h.version < 3) {
        zero_free(q, old);
        st_be64(entry, 0); /* no backing file: zeros */
    } else if (!unmap && (old & QCOW2_COPIED) && !(old & QCOW2_COMPRESSED) &&
               (old & QCOW2_OFFSET)) {
        zero_set(q, entry, old | QCOW2_ZERO);
    } else {
        zero_free(q, old);
        zero_set(q, entry, QCOW2_ZERO);
    }
    return 1;
}

/* The clusters of [off, to) that one slice has; *next is where to go on. Lock held. */
static int zero_slice(struct qcow2 *q, const struct blk_req *r, uint64_t off, uint64_t to,
                      uint64_t *next)
{
    uint64_t span = (uint64_t)q->slice_entries << q->cluster_bits, l1 = qcow2_l1_index(q, off);
    struct qcow2_slice *s;
    bool changed = false;
    int rc;

    *next = min_u64(to, align_down(off, span) + span);
    if (qcow2_write_conflict(q, off, *next - off)) {
        *next = off;
        qcow2_meta_block(q);
        return 0;
    }
    rc = qcow2_cache_load(q, q->l1[l1] & QCOW2_OFFSET,
                          off >> q->cluster_bits & (BIT64(q->l2_bits) - 1), &s);
    if (rc)
        return rc;
    if (qcow2_write_conflict(q, off, *next - off)) { /* began while the slice was loading */
        *next = off;
        return 0;
    }
    for (rc = 0; rc >= 0 && off < *next; off += q->cluster_size) {
        rc = zero_cluster(q, r, off, qcow2_entry(q, s, off >> q->cluster_bits));
        changed = changed || rc > 0;
    }
    if (changed)
        qcow2_cache_dirty(q, s);
    return rc < 0 ? qcow2_map_corrupt(q, "an impossible L2 entry before guest offset", off) : 0;
}

/* One step from off; *next is where to go on. */
static int zero_step(struct qcow2 *q, const struct blk_req *r, uint64_t off, uint64_t to,
                     uint64_t *next)
{
    uint64_t l1 = qcow2_l1_index(q, off), table_end = (l1 + 1) << (q->cluster_bits + q->l2_bits);
    int rc = 0;

    pthread_mutex_lock(&q->lock);
    if (!(q->l1[l1] & QCOW2_OFFSET) &&
        (r->op == BLK_DISCARD || qcow2_map_reads_zero(q, QCOW2_K_NONE, off)) && !q->external) {
        *next = min_u64(to, table_end);
    } else if (!(q->l1[l1] & QCOW2_OFFSET) || !(q->l1[l1] & QCOW2_COPIED)) {
        *next = off;
        pthread_mutex_unlock(&q->lock);
        return qcow2_table_make_own(q, l1);
    } else {
        rc = zero_slice(q, r, off, to, next);
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int zero_external(struct qcow2 *q, uint64_t from, uint64_t to)
{
    struct qcow2_batch m = { .q = q };
    uint64_t end = min_u64(to, q->data->size);

    if (from < end)
        qcow2_batch_add(&m, q->data, BLK_WRITE_ZEROES, from, NULL, end - from, BLK_F_UNMAP);
    return qcow2_batch_wait(&m);
}

int qcow2_zero_job(struct qcow2_op *op)
{
    struct qcow2 *q = op->q;
    uint64_t from, to;
    int rc = 0;

    zero_middle(op, &from, &to);
    if (q->external)
        rc = zero_external(q, from, to);
    while (!rc && from < to)
        rc = zero_step(q, op->r, from, to, &from);
    return rc;
}
