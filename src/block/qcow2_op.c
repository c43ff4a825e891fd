/*
 * qcow2_op.c: the life of a request: see qcow2_priv.h. It is cut into parts along the mapping; a read needs
 * nothing else, and is here.
 */
#include <errno.h>
#include <string.h>

#include "base/iov.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_luks.h"

/* --- passing down --- */

void qcow2_issue_init(struct qcow2_issue *i)
{
    i->head = NULL;
    i->tail = &i->head;
}

void qcow2_issue_add(struct qcow2_issue *i, struct qcow2_io *io)
{
    io->next = NULL;
    *i->tail = io;
    i->tail = &io->next;
}

void qcow2_wake(struct qcow2 *q)
{
    if (!atomic_load(&q->sleeping))
        return;
    pthread_mutex_lock(&q->lock);
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

void qcow2_issue_go(struct qcow2 *q, struct qcow2_issue *i)
{
    struct qcow2_io *io = i->head;

    while (io) { /* it is gone once it has been submitted */
        struct qcow2_io *next = io->next;

        if (io->nested)
            qcow2_op_nested(qcow2_of(io->to), &io->req);
        else
            blk_submit(io->to, &io->req);
        io = next;
    }
    if (i->head)
        qcow2_wake(q);
}

/* --- the end of an op --- */

enum op_where {
    OP_LATER, /* in submit, or on a thread with other work: the loop thread completes it */
    OP_LOOP,  /* on the loop thread */
    OP_HERE,  /* where the file completed the last part */
};

static void op_complete(struct qcow2_op *op)
{
    struct blk_req *r = op->r;
    bool nested = op->nested;
    int err = op->err;

    free(op->packed);
    free(op);
    if (nested)
        r->done(r, err);
    else
        blk_done(r, err);
}

void qcow2_op_ready_call(struct loop_work *w)
{
    struct qcow2 *q = container_of(w, struct qcow2, ready_work);
    struct qcow2_op *op;

    pthread_mutex_lock(&q->lock);
    op = q->ready;
    q->ready = NULL;
    pthread_mutex_unlock(&q->lock);
    while (op) {
        struct qcow2_op *next = op->next;

        op_complete(op);
        op = next;
    }
}

/* Which may end on the thread that did the last of it; see qcow2_op_put_here(). Lock held. */
static bool op_gather(struct qcow2_op *op)
{
    struct qcow2 *q = op->q;

    if (op->nested || !blk_may_end_here(op->r, op->err))
        return false;
    op->next = q->gathered;
    q->gathered = op;
    return true;
}

static void op_finish(struct qcow2_op *op, enum op_where where)
{
    struct qcow2 *q = op->q;

    pthread_mutex_lock(&q->lock);
    if (op->commit && !op->err) { /* what it wrote is in the file; now the way to it */
        op->commit = false;
        atomic_store(&op->pending, 1);
        op->next = q->wait_commit;
        q->wait_commit = op;
        q->want_commit = true;
        qcow2_meta_kick(q);
        pthread_mutex_unlock(&q->lock);
        return;
    }
    qcow2_meta_user_gone(q, op->epoch);
    if (where != OP_LOOP && !(where == OP_HERE && op_gather(op))) {
        op->next = q->ready;
        q->ready = op;
        if (q->b->loop)
            loop_post(q->b->loop, &q->ready_work);
        pthread_cond_broadcast(&q->cond);
    }
    pthread_mutex_unlock(&q->lock);
    if (where == OP_LOOP)
        op_complete(op);
}

static void op_put(struct qcow2_op *op, int err, enum op_where where)
{
    int none = 0;

    if (err)
        atomic_compare_exchange_strong(&op->err, &none, err);
    if (atomic_fetch_sub(&op->pending, 1) == 1)
        op_finish(op, where);
}

void qcow2_op_put(struct qcow2_op *op, int err, bool on_loop)
{
    op_put(op, err, on_loop ? OP_LOOP : OP_LATER);
}

void qcow2_op_put_here(struct qcow2_op *op, int err)
{
    op_put(op, err, OP_HERE);
}

void qcow2_op_end_here(struct qcow2 *q, unsigned flags)
{
    struct qcow2_op *op;

    pthread_mutex_lock(&q->lock);
    op = q->gathered;
    q->gathered = NULL;
    pthread_mutex_unlock(&q->lock);
    if (!op)
        return;
    while (op) {
        struct qcow2_op *next = op->next;
        struct blk_req *r = op->r;

        free(op->packed);
        free(op);
        blk_done_here(r, (flags & BLK_F_AT_COMMIT) |
                             (next && next->r->top == r->top ? BLK_F_MORE : 0u));
        op = next;
    }
    pthread_mutex_lock(&q->lock);
    q->ended_here++;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

/* --- parts --- */

struct qcow2_part *qcow2_op_part(struct qcow2_op *op)
{
    struct qcow2_part *p = op->part_used ? calloc(1, sizeof(*p)) : &op->part;

    op->part_used = true;
    if (p)
        p->op = op;
    return p;
}

void qcow2_op_part_free(struct qcow2_part *p)
{
    if (p->iov && p->iov != p->inline_iov && p->iov != p->op->r->iov)
        free(p->iov);
    p->iov = NULL;
    if (p != &p->op->part)
        free(p);
}

static int op_vector_zeros(struct qcow2 *q, struct qcow2_part *p, uint64_t len)
{
    size_t n = len / q->cluster_size + 1;
    int used = 0;

    if (n > QCOW2_INLINE_IOV)
        p->iov = calloc(n, sizeof(*p->iov));
    else
        p->iov = p->inline_iov;
    if (!p->iov)
        return -ENOMEM;
    for (; len; used++) {
        p->iov[used] = (struct iovec){ q->zeros, min_u64(len, q->cluster_size) };
        len -= p->iov[used].iov_len;
    }
    p->io.req.niov = used;
    return 0;
}

int qcow2_op_vector(struct qcow2_op *op, struct qcow2_part *p, uint64_t pos, uint64_t len,
                    uint64_t before, uint64_t behind)
{
    const struct blk_req *r = op->r;
    unsigned n = 0;

    p->pos = pos;
    if (op->zeros)
        return op_vector_zeros(op->q, p, len + before + behind);
    if (!pos && len == r->len && !before && !behind) {
        p->iov = r->iov;
        p->io.req.niov = r->niov;
        return 0;
    }
    p->iov = p->inline_iov;
    if (r->niov + 2 > QCOW2_INLINE_IOV)
        p->iov = calloc((size_t)r->niov + 2, sizeof(*p->iov));
    if (!p->iov)
        return -ENOMEM;
    if (before)
        p->iov[n++] = (struct iovec){ op->q->zeros, before };
    n += iov_slice(p->iov + n, r->iov, (unsigned)r->niov, pos, len);
    if (behind)
        p->iov[n++] = (struct iovec){ op->q->zeros, behind };
    p->io.req.niov = (int)n;
    return 0;
}

static void op_part_done(struct blk_req *req, int err)
{
    struct qcow2_part *p = container_of(req, struct qcow2_part, io.req);
    struct qcow2_op *op = p->op;
    struct qcow2 *q = op->q;
    unsigned flags = req->flags;

    if (!err && op->q->luks && p->io.to == op->q->data && req->op == BLK_READ)
        err = qcow2_luks_decrypt(op->q->luks, req->off, p->iov, req->niov, req->len);
    qcow2_op_part_free(p);
    if (!(flags & BLK_F_HERE)) {
        qcow2_op_put(op, err, true);
        return;
    }
    qcow2_op_put_here(op, err);
    if (!(flags & BLK_F_MORE))
        qcow2_op_end_here(q, flags);
}

unsigned qcow2_op_anywhere(const struct qcow2_op *op)
{
    return op->q->luks ? 0 : op->r->flags & (BLK_F_ANYWHERE | BLK_F_AT_COMMIT);
}

void qcow2_op_part_issue(struct qcow2_op *op, struct qcow2_part *p, struct blk *to, uint64_t host,
                         uint64_t len, struct qcow2_issue *issue)
{
    struct blk_req *req = &p->io.req;

    req->op = op->zeros ? BLK_WRITE : op->r->op;
    req->flags = op->commit || req->op != BLK_WRITE ? 0 : op->r->flags & BLK_F_FUA;
    req->flags |= (op->more ? BLK_F_MORE : 0u) | qcow2_op_anywhere(op);
    req->off = host;
    req->len = len;
    req->iov = p->iov;
    req->done = op_part_done;
    p->io.to = to;
    atomic_fetch_add(&op->pending, 1);
    qcow2_issue_add(issue, &p->io);
}

/* --- reads --- */

static int op_read_from(struct qcow2_op *op, struct blk *from, uint64_t host, uint64_t len,
                        struct qcow2_issue *issue)
{
    struct qcow2_part *p = qcow2_op_part(op);

    if (!p)
        return -ENOMEM;
    if (qcow2_op_vector(op, p, op->pos, len, 0, 0)) {
        qcow2_op_part_free(p);
        return -ENOMEM;
    }
    qcow2_op_part_issue(op, p, from, host, len, issue);
    return 0;
}

static void op_read_zeros(struct qcow2_op *op, uint64_t len)
{
    const struct blk_req *r = op->r;
    uint64_t skip = op->pos;

    for (int i = 0; i < r->niov && len; i++) {
        uint64_t from = min_u64(skip, r->iov[i].iov_len),
                 n = min_u64(len, r->iov[i].iov_len - from);

        memset((char *)r->iov[i].iov_base + from, 0, n);
        skip -= from;
        len -= n;
    }
}

/* Wholly behind the end of the file there is nothing: it was cut off. In the last cluster it is zeros. */
static int op_read_data(struct qcow2_op *op, const struct qcow2_map *m, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;

    if (q->locked)
        return -EACCES;
    if (align_down(m->host + m->len - 1, q->cluster_size) >= q->data->size && !q->external) {
        log_limited(&q->limit, LOG_ERROR, "block",
                    "disk '%s': its file ends before the data that it should have at 0x%llx",
                    q->b->path, (unsigned long long)m->host);
        return -EIO;
    }
    return op_read_from(op, q->data, m->host, m->len, issue);
}

static int op_read_step(struct qcow2_op *op, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    uint64_t off = op->r->off + op->pos;
    struct qcow2_map m;
    int rc = qcow2_map_find(q, off, op->r->len - op->pos, &m, issue);

    if (rc == 1) {
        op->next = m.wait->waiters;
        m.wait->waiters = op;
    }
    if (rc)
        return rc;
    if (m.kind == QCOW2_K_DATA) {
        rc = op_read_data(op, &m, issue);
    } else if (m.kind == QCOW2_K_PACKED) {
        rc = qcow2_packed_read(op, &m, off, m.len, issue);
    } else if (qcow2_map_reads_zero(q, m.kind, off)) {
        op_read_zeros(op, m.len);
    } else {
        m.len = min_u64(m.len, q->b->backing->size - off);
        rc = op_read_from(op, q->b->backing, off, m.len, issue);
    }
    op->pos += m.len;
    return rc;
}

/* --- flushes --- */

static int op_flush_part(struct qcow2_op *op, struct blk *to, struct qcow2_issue *issue)
{
    struct qcow2_part *p = qcow2_op_part(op);

    if (!p)
        return -ENOMEM;
    qcow2_op_part_issue(op, p, to, 0, 0, issue);
    return 0;
}

static int op_flush(struct qcow2_op *op, struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    int rc;

    if (qcow2_meta_dirty(q)) {
        op->commit = true; /* op_finish() sees to it */
        return 0;
    }
    rc = op_flush_part(op, q->file, issue);
    return rc || !q->external ? rc : op_flush_part(op, q->data, issue);
}

/* --- the beginning, and going on --- */

static int op_step(struct qcow2_op *op, struct qcow2_issue *issue)
{
    switch (op->r->op) {
    case BLK_READ:
        return op_read_step(op, issue);
    case BLK_WRITE:
        if ((op->r->flags & BLK_F_COMPRESS) && !op->packed && !op->pos && qcow2_packed_write(op))
            return 1;
        return qcow2_write_step(op, issue);
    case BLK_FLUSH:
        break;
    case BLK_DISCARD:
    case BLK_WRITE_ZEROES:
        return op->zeros ? qcow2_write_step(op, issue) : qcow2_zero_start(op, issue);
    }
    return -EINVAL;
}

void qcow2_op_run(struct qcow2_op *op, bool on_loop)
{
    struct qcow2 *q = op->q;
    struct qcow2_issue issue;
    int rc = 0;

    qcow2_issue_init(&issue);
    pthread_mutex_lock(&q->lock);
    while (!rc && !op->err && op->pos < op->r->len)
        rc = op_step(op, &issue);
    op->more = false; /* who calls blk_commit() does not wait for what comes later */
    pthread_mutex_unlock(&q->lock);
    qcow2_issue_go(q, &issue);
    if (rc != 1) /* else whoever it waits for may have ended it already */
        qcow2_op_put(op, rc, on_loop);
}

void qcow2_op_run_list(struct qcow2_op *op, int err, bool on_loop)
{
    while (op) {
        struct qcow2_op *next = op->next;

        if (err)
            qcow2_op_put(op, err, on_loop);
        else
            qcow2_op_run(op, on_loop);
        op = next;
    }
}

static void op_begin(struct qcow2_op *op)
{
    struct qcow2 *q = op->q;
    struct qcow2_issue issue;
    int rc = 0;

    op->more = op->more && op->r->op != BLK_FLUSH;
    qcow2_issue_init(&issue);
    pthread_mutex_lock(&q->lock);
    op->epoch = q->epoch;
    q->users[q->epoch & 1]++;
    if (op->r->op == BLK_FLUSH)
        rc = op_flush(op, &issue);
    else if (op->r->op != BLK_READ && (op->r->flags & BLK_F_FUA))
        op->commit = op->r->op != BLK_WRITE || qcow2_meta_dirty(q);
    if (q->bitmaps && op->r->op != BLK_READ && op->r->op != BLK_FLUSH && !op->nested)
        qcow2_bitmap_record(q, op->r->off, op->r->len);
    pthread_mutex_unlock(&q->lock);
    qcow2_issue_go(q, &issue);
    if (op->r->op == BLK_FLUSH || rc)
        qcow2_op_put(op, rc, false);
    else
        qcow2_op_run(op, false);
}

static void op_submit(struct qcow2 *q, struct blk_req *r, bool nested)
{
    struct qcow2_op *op = calloc(1, sizeof(*op));

    BUG_ON(!op); /* nowhere to keep the failure */
    op->q = q;
    op->r = r;
    op->nested = nested;
    op->more = !nested && (r->flags & BLK_F_MORE);
    op->want_l1 = -1;
    atomic_init(&op->pending, 1);
    op_begin(op);
}

void qcow2_submit(struct blk *b, struct blk_req *r)
{
    op_submit(qcow2_of(b), r, false);
}

void qcow2_submit_commit(struct blk *b)
{
    struct qcow2 *q = qcow2_of(b);

    blk_commit(q->file);
    if (q->external)
        blk_commit(q->data);
    blk_commit(b->backing);
}

void qcow2_op_nested(struct qcow2 *q, struct blk_req *r)
{
    op_submit(q, r, true);
}

/* --- blocking --- */

static struct blk *op_busy_below(struct qcow2 *q)
{
    struct blk *below[] = { q->file, q->data, q->b->backing };

    for (size_t i = 0; i < ARRAY_SIZE(below); i++)
        if (below[i] && atomic_load(&below[i]->in_flight))
            return below[i];
    return NULL;
}

/* What the caller has looked at under the lock cannot change unseen before this waits. */
void qcow2_wait_locked(struct qcow2 *q)
{
    struct blk *below = NULL;

    if (q->ended_here != q->ended_seen) { /* maybe behind the caller's look at what is in flight */
        q->ended_seen = q->ended_here;
        return;
    }
    if (!q->ready) {
        atomic_store(&q->sleeping, true); /* before the look: see qcow2_wake() */
        below = op_busy_below(q);
        if (!below)
            pthread_cond_wait(&q->cond, &q->lock);
        atomic_store(&q->sleeping, false);
    }
    pthread_mutex_unlock(&q->lock);
    if (below)
        blk_wait(below);
    else
        qcow2_op_ready_call(&q->ready_work);
    pthread_mutex_lock(&q->lock);
}

void qcow2_wait(struct blk *b)
{
    struct qcow2 *q = qcow2_of(b);

    pthread_mutex_lock(&q->lock);
    qcow2_wait_locked(q);
    pthread_mutex_unlock(&q->lock);
}
