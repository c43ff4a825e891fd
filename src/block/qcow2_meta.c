/*
 * qcow2_meta.c: what takes several steps in order: see qcow2_priv.h. One job runs at a time, on a thread of the
 * pool, or the loop thread holds them all up to do such things itself.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_priv.h"

/* --- blocking --- */

void qcow2_meta_block(struct qcow2 *q)
{
    if (q->meta_running && pthread_equal(q->meta_thread, pthread_self())) {
        pthread_cond_wait(&q->cond, &q->lock); /* the loop thread takes completions */
        return;
    }
    qcow2_wait_locked(q);
}

struct meta_item {
    struct blk_req req;
    struct iovec iov;
    struct qcow2_batch *batch;
};

static void meta_item_done(struct blk_req *r, int err)
{
    struct meta_item *item = container_of(r, struct meta_item, req);
    struct qcow2_batch *m = item->batch;
    struct qcow2 *q = m->q;

    free(item);
    pthread_mutex_lock(&q->lock);
    if (err && !m->err)
        m->err = err;
    m->pending--;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

void qcow2_batch_add(struct qcow2_batch *m, struct blk *to, enum blk_op op, uint64_t off, void *buf,
                     uint64_t len, unsigned flags)
{
    struct meta_item *item = calloc(1, sizeof(*item));

    if (!item) {
        m->err = m->err ? m->err : -ENOMEM;
        return;
    }
    item->batch = m;
    item->iov = (struct iovec){ buf, len };
    item->req = (struct blk_req){ .op = op,
                                  .flags = flags,
                                  .off = off,
                                  .len = len,
                                  .iov = buf ? &item->iov : NULL,
                                  .niov = !!buf,
                                  .done = meta_item_done };
    pthread_mutex_lock(&m->q->lock);
    m->pending++;
    pthread_mutex_unlock(&m->q->lock);
    blk_submit(to, &item->req);
    pthread_mutex_lock(&m->q->lock);
    pthread_cond_broadcast(
        &m->q->cond); /* a qcow2_wait() without anything to wait for has it now */
    pthread_mutex_unlock(&m->q->lock);
}

int qcow2_batch_wait(struct qcow2_batch *m)
{
    pthread_mutex_lock(&m->q->lock);
    while (m->pending)
        qcow2_meta_block(m->q);
    pthread_mutex_unlock(&m->q->lock);
    return m->err;
}

int qcow2_meta_read(struct qcow2 *q, uint64_t off, void *buf, uint64_t len)
{
    struct qcow2_batch m = { .q = q };

    qcow2_batch_add(&m, q->file, BLK_READ, off, buf, len, 0);
    return qcow2_batch_wait(&m);
}

int qcow2_meta_write(struct qcow2 *q, uint64_t off, const void *buf, uint64_t len)
{
    struct qcow2_batch m = { .q = q };

    qcow2_batch_add(&m, q->file, BLK_WRITE, off, (void *)(uintptr_t)buf, len, 0); /* is only read */
    return qcow2_batch_wait(&m);
}

int qcow2_meta_flush(struct qcow2 *q)
{
    struct qcow2_batch m = { .q = q };

    qcow2_batch_add(&m, q->file, BLK_FLUSH, 0, NULL, 0, 0);
    if (q->external)
        qcow2_batch_add(&m, q->data, BLK_FLUSH, 0, NULL, 0, 0);
    return qcow2_batch_wait(&m);
}

/* --- committing --- */

bool qcow2_meta_dirty(const struct qcow2 *q)
{
    return q->n_dirty || q->l1_any_dirty || q->rb_dirty || q->committing;
}

/* A piece of metadata as it was when the commit began. */
struct meta_piece {
    struct meta_piece *next;
    struct qcow2_slice *slice; /* or */
    struct qcow2_refblock *rb; /* or entries of the L1 table from */
    uint64_t l1_from;
    uint64_t off;
    uint32_t len;
    uint8_t data[];
};

static struct meta_piece *meta_piece(struct meta_piece **list, const void *data, uint64_t off,
                                     uint32_t len)
{
    struct meta_piece *p = malloc(sizeof(*p) + len);

    if (!p)
        return NULL;
    *p = (struct meta_piece){ .next = *list, .off = off, .len = len };
    memcpy(p->data, data, len);
    *list = p;
    return p;
}

static void meta_take_refblocks(struct qcow2 *q, struct meta_piece **list)
{
    for (size_t i = 0; i < q->rb_n; i++) {
        struct qcow2_refblock *rb = q->rb_list[i];
        struct meta_piece *p = NULL;

        if (rb->dirty)
            p = meta_piece(list, rb->data, q->rt[rb->index], q->cluster_size);
        if (!p)
            continue;
        p->rb = rb;
        rb->writing = true;
        rb->dirty = false;
        q->rb_dirty--;
    }
}

static void meta_take_slices(struct qcow2 *q, struct meta_piece **list)
{
    for (struct qcow2_slice *s = q->newest; s && q->n_dirty; s = s->older) {
        struct meta_piece *p = s->dirty ? meta_piece(list, s->data, s->off, q->slice_size) : NULL;

        if (!p)
            continue;
        p->slice = s;
        s->pins++;
        s->dirty = false;
        q->n_dirty--;
    }
}

/* L1 entries in whole sectors. */
static void meta_take_l1(struct qcow2 *q, struct meta_piece **list)
{
    uint64_t per = BLK_SECTOR / 8;
    bool left = false;

    for (uint64_t from = 0; q->l1_any_dirty && from < q->h.l1_size; from += per) {
        uint64_t n = min_u64(per, q->h.l1_size - from), be[BLK_SECTOR / 8];
        struct meta_piece *p;

        if (!q->l1_dirty[from / 64])
            continue;
        for (uint64_t i = 0; i < n; i++)
            st_be64(&be[i], q->l1[from + i]);
        p = meta_piece(list, be, q->h.l1_off + from * 8, (uint32_t)n * 8);
        left = left || !p;
        if (!p)
            continue;
        p->l1_from = from;
        q->l1_dirty[from / 64] = 0;
    }
    q->l1_any_dirty = left;
}

static int meta_write_list(struct qcow2 *q, const struct meta_piece *list)
{
    struct qcow2_batch m = { .q = q };

    for (const struct meta_piece *p = list; p; p = p->next)
        qcow2_batch_add(&m, q->file, BLK_WRITE, p->off, (void *)(uintptr_t)p->data, p->len, 0);
    return qcow2_batch_wait(&m);
}

/* They have been written, or have to be again. Lock held. */
static void meta_drop_list(struct qcow2 *q, struct meta_piece *list, bool again)
{
    while (list) {
        struct meta_piece *next = list->next;

        if (list->slice) {
            list->slice->pins--;
            if (again && !list->slice->dirty) {
                list->slice->dirty = true;
                q->n_dirty++;
            }
        } else if (list->rb) {
            list->rb->writing = false;
            if (again && !list->rb->dirty) {
                list->rb->dirty = true;
                q->rb_dirty++;
            }
        } else if (again) {
            q->l1_dirty[list->l1_from / 64] = UINT64_MAX;
            q->l1_any_dirty = true;
        }
        free(list);
        list = next;
    }
}

/* What was freed until now belongs to this commit. Lock held. */
static void meta_turn_epoch(struct qcow2 *q)
{
    if (q->waiting.n || !q->frees.n)
        return;
    q->waiting = q->frees;
    q->frees = (struct qcow2_frees){ 0 };
    q->waiting_committed = false;
    q->epoch++;
}

static bool meta_can_release(const struct qcow2 *q)
{
    return q->waiting.n && q->waiting_committed && !q->users[(q->epoch - 1) & 1];
}

/* Clusters that nothing refers to and nobody uses any more. Lock held. */
static void meta_release_waiting(struct qcow2 *q)
{
    struct qcow2_frees f = q->waiting;

    q->waiting = (struct qcow2_frees){ 0 };
    qcow2_refcount_release(q, &f);
}

int qcow2_meta_commit(struct qcow2 *q)
{
    struct meta_piece *refs = NULL, *maps = NULL;
    bool complete;
    int rc;

    pthread_mutex_lock(&q->lock);
    q->committing = true;
    meta_turn_epoch(q);
    meta_take_refblocks(q, &refs);
    if (!q->rb_dirty) { /* nothing is linked whose refcount does not go before it */
        meta_take_slices(q, &maps);
        meta_take_l1(q, &maps);
    }
    complete = !q->rb_dirty && !q->n_dirty && !q->l1_any_dirty;
    pthread_mutex_unlock(&q->lock);

    rc = meta_write_list(q, refs);
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (!rc && maps) {
        rc = meta_write_list(q, maps);
        if (!rc)
            rc = qcow2_meta_flush(q);
    }

    pthread_mutex_lock(&q->lock);
    meta_drop_list(q, refs, rc != 0);
    meta_drop_list(q, maps, rc != 0);
    q->committing = false;
    if (!rc && !complete)
        rc = -ENOMEM;
    q->waiting_committed = q->waiting_committed || !rc;
    if (meta_can_release(q))
        meta_release_waiting(q);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int qcow2_meta_commit_all(struct qcow2 *q)
{
    bool more = true;
    int rc = 0;

    for (int i = 0; !rc && more && i < 8; i++) {
        rc = qcow2_meta_commit(q);
        pthread_mutex_lock(&q->lock);
        more = qcow2_meta_dirty(q) || q->frees.n || q->waiting.n;
        pthread_mutex_unlock(&q->lock);
    }
    return rc;
}

/* --- jobs --- */

/* Lock held in these; they let it go for what they do. */
static void meta_do_commit(struct qcow2 *q)
{
    struct qcow2_op *ops = q->wait_commit;
    int rc;

    q->want_commit = false;
    q->wait_commit = NULL;
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_meta_commit(q);
    if (rc)
        log_limited(&q->limit, LOG_ERROR, "block", "disk '%s': its metadata cannot be written: %s",
                    q->b->path, strerror(-rc));
    qcow2_op_run_list(ops, rc, false);
    pthread_mutex_lock(&q->lock);
}

static void meta_do_refill(struct qcow2 *q)
{
    struct qcow2_op *ops;
    int rc;

    q->want_refill = false;
    rc = qcow2_refcount_refill(q);
    ops = q->wait_refill;
    q->wait_refill = NULL;
    pthread_mutex_unlock(&q->lock);
    qcow2_op_run_list(ops, rc, false);
    pthread_mutex_lock(&q->lock);
}

static void meta_do_table(struct qcow2 *q)
{
    struct qcow2_op *op = q->wait_table;
    uint64_t index = (uint64_t)op->want_l1;
    int rc;

    q->wait_table = op->next;
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_table_make_own(q, index);
    op->next = NULL;
    qcow2_op_run_list(op, rc, false);
    pthread_mutex_lock(&q->lock);
}

static void meta_do_zero(struct qcow2 *q)
{
    struct qcow2_op *op = q->wait_zero;
    int rc;

    q->wait_zero = op->next;
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_zero_job(op);
    qcow2_op_put(op, rc, false);
    pthread_mutex_lock(&q->lock);
}

/* Lock held. False: nothing left. */
static bool meta_step(struct qcow2 *q)
{
    if (q->wait_table)
        meta_do_table(q);
    else if (q->want_refill || q->wait_refill)
        meta_do_refill(q);
    else if (q->wait_zero)
        meta_do_zero(q);
    else if (q->want_commit)
        meta_do_commit(q);
    else if (meta_can_release(q))
        meta_release_waiting(q);
    else
        return false;
    return true;
}

static void meta_run(struct work *w)
{
    struct qcow2 *q = container_of(w, struct qcow2, meta_work);

    pthread_mutex_lock(&q->lock);
    q->meta_thread = pthread_self();
    q->meta_running = true;
    while (!q->meta_held && meta_step(q))
        ;
    q->meta_running = false;
    q->meta_queued = false;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

void qcow2_meta_kick(struct qcow2 *q)
{
    if (q->meta_queued || q->meta_held || !q->workq)
        return;
    q->meta_queued = true;
    workq_submit(q->workq, &q->meta_work);
}

void qcow2_meta_user_gone(struct qcow2 *q, unsigned epoch)
{
    q->users[epoch & 1]--;
    if (meta_can_release(q))
        qcow2_meta_kick(q);
}

void qcow2_meta_hold(struct qcow2 *q)
{
    pthread_mutex_lock(&q->lock);
    q->meta_held = true;
    while (q->meta_queued)
        qcow2_meta_block(q);
    pthread_mutex_unlock(&q->lock);
}

void qcow2_meta_release(struct qcow2 *q)
{
    pthread_mutex_lock(&q->lock);
    q->meta_held = false;
    if (q->want_commit || q->wait_commit || q->wait_zero || q->wait_table || q->wait_refill)
        qcow2_meta_kick(q);
    pthread_mutex_unlock(&q->lock);
}

/* Space that was freed does not wait for the guest's next flush. */
static void meta_timer(struct loop_timer *t)
{
    struct qcow2 *q = container_of(t, struct qcow2, commit_timer);

    pthread_mutex_lock(&q->lock);
    q->want_commit = true;
    qcow2_meta_kick(q);
    pthread_mutex_unlock(&q->lock);
}

void qcow2_meta_init(struct qcow2 *q)
{
    q->meta_work.run = meta_run;
    if (q->b->loop)
        loop_timer_init(q->b->loop, &q->commit_timer, meta_timer);
}
