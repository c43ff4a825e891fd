/*
 * qcow2_write.c: writes. Into clusters that are the disk's alone, in place; else into new ones, which become
 * part of the mapping when the data is in them. What of such a cluster the guest does not write is read from
 * where it was while the guest's bytes are already on their way.
 */
#include <errno.h>
#include <string.h>

#include "base/iov.h"
#include "block/qcow2_luks.h"
#include "block/qcow2_priv.h"

enum { WRITE_ZERO_CLUSTERS = 64 }; /* a write of zeros in one part */

/* --- allocations under way --- */

struct qcow2_alloc *qcow2_write_conflict(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t first = align_down(off, q->cluster_size);
    struct qcow2_alloc *lowest = NULL;

    for (struct qcow2_alloc *a = q->allocs; a; a = a->next)
        if (a->guest < off + len && first < a->guest + (uint64_t)a->n * q->cluster_size &&
            (!lowest || a->guest < lowest->guest))
            lowest = a;
    return lowest;
}

static void write_forget(struct qcow2 *q, struct qcow2_alloc *a)
{
    struct qcow2_alloc **at = &q->allocs;

    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    a->slice->pins--;
}

static void write_free_old(struct qcow2 *q, uint64_t old)
{
    uint64_t host = old & QCOW2_OFFSET, len = q->cluster_size;

    if (old & QCOW2_COMPRESSED)
        qcow2_map_packed(q, old, &host, &len);
    if (host)
        qcow2_refcount_free_later(q, host, len);
}

/* Bits of the subclusters of cluster i that have become valid. */
static uint64_t write_sub_bits(const struct qcow2 *q, const struct qcow2_alloc *a, unsigned i)
{
    uint64_t start = a->guest + (uint64_t)i * q->cluster_size;
    uint64_t from = max_u64(a->from, start) - start;
    uint64_t to = min_u64(a->to, start + q->cluster_size) - start;
    unsigned first = (unsigned)(from >> q->sub_bits), last = (unsigned)((to - 1) >> q->sub_bits);

    return (BIT64(last + 1) - 1) & ~(BIT64(first) - 1);
}

static void write_link_cluster(struct qcow2 *q, struct qcow2_alloc *a, unsigned i)
{
    uint8_t *e = qcow2_entry(q, a->slice, (a->guest >> q->cluster_bits) + i);
    uint64_t old = ld_be64(e);

    if (!a->reuse)
        write_free_old(q, old);
    st_be64(e, a->packed ? a->packed : (a->host + (uint64_t)i * q->cluster_size) | QCOW2_COPIED);
    if (q->extended) {
        uint64_t subs = old & QCOW2_COMPRESSED ? 0 : ld_be64(e + 8);
        uint64_t now = a->packed ? 0 : write_sub_bits(q, a, i);

        subs = a->packed ? 0 : subs & ~(now << 32);
        st_be64(e + 8, (a->reuse ? subs : subs & ~(uint64_t)UINT32_MAX) | now);
    }
}

/* All that was to be written has been. No lock held; here: as BLK_F_HERE says, else on the loop thread. */
static void write_alloc_end(struct qcow2_alloc *a, bool here)
{
    struct qcow2 *q = a->q;
    struct qcow2_op *op = a->op, *waiters;
    int err = a->err;

    pthread_mutex_lock(&q->lock);
    if (!err) {
        for (unsigned i = 0; i < a->n; i++)
            write_link_cluster(q, a, i);
        qcow2_cache_dirty(q, a->slice);
        if (a->packed)
            qcow2_packed_forget(q, a->packed);
    } else if (!a->reuse) {
        qcow2_refcount_undo(q, a->host,
                            a->packed ? a->packed_len : (uint64_t)a->n * q->cluster_size);
    }
    write_forget(q, a);
    waiters = a->waiters;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
    free(a);
    qcow2_op_run_list(waiters, 0, !here);
    if (here)
        qcow2_op_put_here(op, err);
    else
        qcow2_op_put(op, err, true);
}

static void write_alloc_put(struct qcow2_alloc *a, int err, bool here)
{
    int none = 0;

    if (err)
        atomic_compare_exchange_strong(&a->err, &none, err);
    if (atomic_fetch_sub(&a->pending, 1) == 1)
        write_alloc_end(a, here);
}

static void write_data_done(struct blk_req *req, int err)
{
    struct qcow2_alloc *a = container_of(req, struct qcow2_alloc, data.io.req);
    struct qcow2 *q = a->q;
    unsigned flags = req->flags;

    if (a->data.iov != a->data.inline_iov && a->data.iov != a->op->r->iov)
        free(a->data.iov);
    write_alloc_put(a, err, flags & BLK_F_HERE);
    if ((flags & BLK_F_HERE) && !(flags & BLK_F_MORE))
        qcow2_op_end_here(q, flags);
}

/* --- copy on write --- */

static void write_cow_written(struct blk_req *req, int err)
{
    struct qcow2_cow *c = container_of(req, struct qcow2_cow, write.req);

    free(c->buf);
    write_alloc_put(c->alloc, err, false);
}

static void write_cow_read(struct blk_req *req, int err)
{
    struct qcow2_cow *c = container_of(req, struct qcow2_cow, read.req);
    struct qcow2 *q = c->alloc->q;

    if (!err && q->luks)
        err = qcow2_luks_encrypt(q->luks, c->write.req.off, c->buf, req->len);
    if (err) {
        free(c->buf);
        write_alloc_put(c->alloc, err, false);
        return;
    }
    blk_submit(c->write.to, &c->write.req);
}

static int write_cow_prepare(struct qcow2_alloc *a, struct qcow2_cow *c, uint64_t guest,
                             uint64_t len)
{
    if (!len)
        return 0;
    c->alloc = a;
    c->buf = malloc(len);
    if (!c->buf)
        return -ENOMEM;
    c->iov = (struct iovec){ c->buf, len };
    c->read.to = a->q->b;
    c->read.nested = true;
    c->read.req = (struct blk_req){
        .op = BLK_READ, .off = guest, .len = len, .iov = &c->iov, .niov = 1, .done = write_cow_read
    };
    c->write.to = a->q->data;
    c->write.req = c->read.req;
    c->write.req.op = BLK_WRITE;
    c->write.req.off = a->host + (guest - a->guest);
    c->write.req.done = write_cow_written;
    return 0;
}

/* In how large pieces does an old entry have to be copied into the new cluster? */
static uint64_t write_cow_unit(const struct qcow2 *q, const uint8_t *entry, bool reuse)
{
    uint64_t e = ld_be64(entry);

    if (!q->extended)
        return q->cluster_size;
    if (!reuse && ((e & QCOW2_COMPRESSED) || (e & QCOW2_OFFSET)))
        return q->cluster_size;
    return BIT64(q->sub_bits);
}

/* Is what is at guest offset `at` in the cluster already, as far as `to`? */
static bool write_cow_there(const struct qcow2 *q, uint64_t at, const uint8_t *entry, bool reuse)
{
    struct qcow2_map m;

    return reuse && q->extended && !qcow2_map_entry(q, at, entry, &m) && m.kind == QCOW2_K_DATA;
}

static bool write_cow_zero(const struct qcow2 *q, uint64_t at, uint64_t len, const uint8_t *entry)
{
    struct qcow2_map m;

    return !qcow2_map_entry(q, at, entry, &m) && m.len >= len &&
           qcow2_map_reads_zero(q, m.kind, at);
}

/*
 * What has to come along with the guest's [off, end): a->from and a->to, and what of it is just zeros.
 */
struct write_edges {
    uint64_t zero_before, zero_behind; /* to be written as zeros */
    uint64_t copy_before, copy_behind;
};

static void write_edges(const struct qcow2_op *op, struct qcow2_alloc *a, uint64_t off,
                        uint64_t end, struct write_edges *w)
{
    const struct qcow2 *q = a->q;
    uint64_t index = a->guest >> q->cluster_bits;
    const uint8_t *first = qcow2_entry(q, a->slice, index);
    const uint8_t *last = qcow2_entry(q, a->slice, index + a->n - 1);
    bool full = op->r->niov + 2 > BLK_MAX_SEGS; /* no room for zeros */

    *w = (struct write_edges){ 0 };
    a->from = off;
    if (!write_cow_there(q, off, first, a->reuse))
        a->from = align_down(off, write_cow_unit(q, first, a->reuse));
    a->to = end;
    if (!write_cow_there(q, end - 1, last, a->reuse))
        a->to = align_up(end, write_cow_unit(q, last, a->reuse));
    if (q->external) /* the other file ends with the disk */
        a->to = min_u64(a->to, max_u64(end, q->data->size));
    w->copy_before = off - a->from;
    w->copy_behind = a->to - end;
    if (w->copy_before && !full && write_cow_zero(q, a->from, w->copy_before, first)) {
        w->zero_before = a->fresh ? 0 : w->copy_before;
        w->copy_before = 0;
    }
    if (w->copy_behind && !full && write_cow_zero(q, end, w->copy_behind, last)) {
        w->zero_behind = a->fresh ? 0 : w->copy_behind;
        w->copy_behind = 0;
    }
}

/* --- encryption --- */

/* Replaces the vector of a part by an encrypted copy. */
static int write_encrypt(struct qcow2 *q, struct qcow2_part *p, const struct iovec *keep,
                         uint64_t host, uint64_t len)
{
    uint8_t *buf = malloc(len + sizeof(struct iovec) + 16);
    struct iovec *iov;

    if (!buf)
        return -ENOMEM;
    iov = (struct iovec *)(void *)buf; /* the vector first, so that one free() does for both */
    buf += sizeof(*iov);
    iov_copy_from(p->iov, (unsigned)p->io.req.niov, 0, buf, len);
    if (p->iov != p->inline_iov && p->iov != keep)
        free(p->iov);
    *iov = (struct iovec){ buf, len };
    p->iov = iov;
    p->io.req.niov = 1;
    return qcow2_luks_encrypt(q->luks, host, buf, len);
}

/* --- issuing --- */

static int write_in_place(struct qcow2_op *op, uint64_t host, uint64_t len,
                          struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    struct qcow2_part *p = qcow2_op_part(op);
    int rc;

    if (!p)
        return -ENOMEM;
    rc = qcow2_op_vector(op, p, op->pos, len, 0, 0);
    if (!rc && q->luks)
        rc = write_encrypt(q, p, op->r->iov, host, len);
    if (rc) {
        qcow2_op_part_free(p);
        return rc;
    }
    qcow2_op_part_issue(op, p, q->data, host, len, issue);
    op->pos += len;
    return 0;
}

static int write_alloc_data(struct qcow2_op *op, struct qcow2_alloc *a, uint64_t len,
                            const struct write_edges *w)
{
    struct qcow2 *q = a->q;
    struct blk_req *req = &a->data.io.req;
    uint64_t off = op->r->off + op->pos;
    int rc;

    a->data.op = op;
    a->data.io.to = a->packed ? q->file : q->data;
    if (a->packed) {
        a->data.iov = a->data.inline_iov;
        a->data.iov[0] = (struct iovec){ op->packed, op->packed_len };
        *req = (struct blk_req){ .off = a->host, .len = op->packed_len, .niov = 1 };
        rc = 0;
    } else {
        rc = qcow2_op_vector(op, &a->data, op->pos, len, w->zero_before, w->zero_behind);
        req->off = a->host + (off - a->guest) - w->zero_before;
        req->len = len + w->zero_before + w->zero_behind;
        if (!rc && q->luks)
            rc = write_encrypt(q, &a->data, op->r->iov, req->off, req->len);
    }
    req->op = BLK_WRITE;
    req->flags = qcow2_op_anywhere(op);
    req->iov = a->data.iov;
    req->done = write_data_done;
    return rc;
}

/* Everything is reserved: on its way. */
static void write_alloc_issue(struct qcow2_op *op, struct qcow2_alloc *a, uint64_t len,
                              struct qcow2_issue *issue)
{
    struct qcow2 *q = a->q;

    a->next = q->allocs;
    q->allocs = a;
    a->slice->pins++;
    op->commit = op->commit || (op->r->flags & BLK_F_FUA);
    op->pos += len;
    atomic_fetch_add(&op->pending, 1);
    atomic_init(&a->pending, 1u + !!a->cow[0].buf + !!a->cow[1].buf);
    qcow2_issue_add(issue, &a->data.io);
    for (int i = 0; i < 2; i++)
        if (a->cow[i].buf)
            qcow2_issue_add(issue, &a->cow[i].read);
}

static int write_alloc_start(struct qcow2_op *op, struct qcow2_alloc *a, uint64_t len,
                             struct qcow2_issue *issue)
{
    uint64_t off = op->r->off + op->pos;
    struct write_edges w = { 0 };
    int rc;

    if (!a->packed)
        write_edges(op, a, off, off + len, &w);
    rc = write_alloc_data(op, a, len, &w);
    if (!rc)
        rc = write_cow_prepare(a, &a->cow[0], a->from, w.copy_before);
    if (!rc)
        rc = write_cow_prepare(a, &a->cow[1], off + len, w.copy_behind);
    if (rc) {
        if (a->data.iov != a->data.inline_iov && a->data.iov != op->r->iov)
            free(a->data.iov);
        free(a->cow[0].buf);
        return rc;
    }
    write_alloc_issue(op, a, len, issue);
    return 0;
}

/* --- choosing --- */

enum write_way { WRITE_IN_PLACE, WRITE_REUSE, WRITE_NEW };

/* How the cluster with that entry is written to, at guest offset off; its host offset or 0. */
static int write_way(const struct qcow2 *q, uint64_t off, const uint8_t *entry, enum write_way *way,
                     struct qcow2_map *m)
{
    uint64_t e = ld_be64(entry);

    if (qcow2_map_entry(q, off, entry, m))
        return -EIO;
    *way = WRITE_NEW;
    if (q->external) {
        m->host = off;
        *way = m->kind == QCOW2_K_DATA ? WRITE_IN_PLACE : WRITE_REUSE;
    } else if (m->kind != QCOW2_K_PACKED && (e & QCOW2_COPIED) && (e & QCOW2_OFFSET)) {
        if (!qcow2_map_sane(q, e & QCOW2_OFFSET, q->cluster_size))
            return -EIO;
        *way = m->kind == QCOW2_K_DATA ? WRITE_IN_PLACE : WRITE_REUSE;
    }
    return 0;
}

/* How many bytes from off are written the same way, in one run of the file? */
static int write_run(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t off, uint64_t len,
                     enum write_way way, const struct qcow2_map *m, uint64_t *run)
{
    uint64_t step = way == WRITE_IN_PLACE ? m->len : q->cluster_size - qcow2_in_cluster(q, off);

    *run = min_u64(step, len);
    while (*run < len) {
        uint64_t at = off + *run;
        enum write_way next_way;
        struct qcow2_map next;

        if (write_way(q, at, qcow2_entry(q, s, at >> q->cluster_bits), &next_way, &next))
            return -EIO;
        if (next_way != way || (way != WRITE_NEW && next.host != m->host + *run))
            break;
        step = way == WRITE_IN_PLACE ? next.len : q->cluster_size;
        *run += min_u64(step, len - *run);
    }
    return 0;
}

static uint64_t write_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((host + len - 1) / BLK_SECTOR) - host / BLK_SECTOR;

    return QCOW2_COMPRESSED | sectors << x | host;
}

/* Finds a place for [off, off + *len), which may become less. */
static int write_reserve(struct qcow2_op *op, struct qcow2_alloc *a, const struct qcow2_map *m,
                         uint64_t off, uint64_t *len)
{
    struct qcow2 *q = op->q;
    uint64_t in = qcow2_in_cluster(q, off),
             want = align_up(in + *len, q->cluster_size) >> q->cluster_bits;
    uint64_t got = want;
    int rc = 0;

    a->guest = off - in;
    if (op->packed) {
        a->packed_len = op->packed_len;
        rc = qcow2_refcount_alloc_bytes(q, op->packed_len, &a->host);
        a->packed = rc ? 0 : write_packed_entry(q, a->host, op->packed_len);
    } else if (a->reuse) {
        a->host = q->external ? a->guest : m->host - in;
    } else {
        rc = qcow2_refcount_alloc(q, want, &a->host, &got, &a->fresh);
        a->fresh = a->fresh && !q->luks;
    }
    a->n = (unsigned)got;
    *len = min_u64(*len, (got << q->cluster_bits) - in);
    return rc;
}

static int write_new(struct qcow2_op *op, struct qcow2_slice *s, const struct qcow2_map *m,
                     uint64_t len, bool reuse, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    struct qcow2_alloc *a = calloc(1, sizeof(*a));
    int rc;

    if (!a)
        return -ENOMEM;
    a->q = q;
    a->op = op;
    a->slice = s;
    a->reuse = reuse;
    rc = write_reserve(op, a, m, op->r->off + op->pos, &len);
    if (rc == -EAGAIN) {
        free(a);
        op->next = q->wait_refill;
        q->wait_refill = op;
        q->want_refill = true;
        qcow2_meta_kick(q);
        return 1;
    }
    if (!rc) {
        rc = write_alloc_start(op, a, len, issue);
        if (rc && !reuse)
            qcow2_refcount_undo(q, a->host,
                                a->packed ? a->packed_len : (uint64_t)a->n * q->cluster_size);
    }
    if (rc) {
        free(a);
        return rc;
    }
    return 0;
}

/* Until what it waits for is there. */
static int write_park(struct qcow2_op *op, struct qcow2_op **list)
{
    op->next = *list;
    *list = op;
    return 1;
}

int qcow2_write_step(struct qcow2_op *op, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    uint64_t off = op->r->off + op->pos, len = op->r->len - op->pos, l1 = qcow2_l1_index(q, off);
    struct qcow2_alloc *busy;
    enum write_way way;
    struct qcow2_slice *s;
    struct qcow2_map m;
    int rc;

    if (q->corrupt || q->locked)
        return q->corrupt ? -EIO : -EACCES;
    if (op->zeros)
        len = min_u64(len, (uint64_t)q->cluster_size * WRITE_ZERO_CLUSTERS);
    busy = qcow2_write_conflict(q, off, len);
    if (busy && busy->guest <= off)
        return write_park(op, &busy->waiters);
    if (busy)
        len = busy->guest - off;
    if (!(q->l1[l1] & QCOW2_COPIED) || !(q->l1[l1] & QCOW2_OFFSET)) {
        op->want_l1 = (int64_t)l1;
        qcow2_meta_kick(q);
        return write_park(op, &q->wait_table);
    }
    s = qcow2_cache_get(q, q->l1[l1] & QCOW2_OFFSET,
                        off >> q->cluster_bits & (BIT64(q->l2_bits) - 1), issue);
    if (!s)
        return -ENOMEM;
    if (s->loading)
        return write_park(op, &s->waiters);
    rc = write_way(q, off, qcow2_entry(q, s, off >> q->cluster_bits), &way, &m);
    if (op->packed)
        way = WRITE_NEW;
    len = min_u64(len, align_down(off, (uint64_t)q->slice_entries << q->cluster_bits) +
                           ((uint64_t)q->slice_entries << q->cluster_bits) - off);
    if (!rc)
        rc = write_run(q, s, off, len, way, &m, &len);
    if (rc)
        return qcow2_map_corrupt(q, "an impossible L2 entry for guest offset", off);
    if (way == WRITE_IN_PLACE)
        return write_in_place(op, m.host, len, issue);
    return write_new(op, s, &m, len, way == WRITE_REUSE, issue);
}
