/*
 * blocks.c: on top of a server's disk that takes only whole blocks (4 KiB, say), or has no whole number of sectors:
 * a disk of bytes. A request is done a part after the other: what it covers of a block, whole blocks as they
 * are, what it covers of the last one. A part of a block is read, changed, and written back.
 *
 *      off                 end
 *       v                   v
 *    |..xx|xxxx|xxxx|xxxx|x...|
 *       ^ 1     2         ^ 3
 *
 * Meanwhile no other write may change that block, or it would be undone: changes are in a list, in the order in which
 * they came, and one waits for those before it that touch the same blocks, if one of the two has a part of a block.
 *
 * A last sector that the disk has only in part reads as zeros behind its end, where zeros can be written, too.
 *
 * Locking: `lock` guards the list and who in it has started; what has started is the one's that completes its request.
 */
#include <errno.h>
#include <string.h>

#include "base/iov.h"
#include "block/formats.h"

struct blocks {
    uint32_t size; /* of a block: a power of two */
    pthread_mutex_t lock;
    struct blocks_op *first, **tail;
};

struct blocks_op {
    struct blk_req req; /* to the child */
    struct blk *b;
    struct blk_req *of;
    uint64_t from, to; /* the blocks that it touches */
    uint64_t at, end;  /* what is left to do, and the disk has */
    bool partial;      /* changes a part of a block */
    bool started;
    bool is_read;  /* the block of this part is in memory */
    uint64_t step; /* how far `at` moves when the request is done */
    char *block;   /* memory of one, if there are parts */
    struct blocks_op *next;
    struct iovec iov[];
};

static uint32_t blocks_size(const struct blk *b)
{
    return ((const struct blocks *)b->priv)->size;
}

/* --- parts --- */

static void blocks_next(struct blocks_op *op);
static void blocks_finish(struct blocks_op *op, int err);

static void blocks_done(struct blk_req *req, int err)
{
    struct blocks_op *op = container_of(req, struct blocks_op, req);

    op->at += op->step;
    if (err)
        blocks_finish(op, err);
    else
        blocks_next(op);
}

static void blocks_ask(struct blocks_op *op, enum blk_op what, uint64_t off, uint64_t len, int niov)
{
    op->req = (struct blk_req){ .op = what,
                                .flags = op->of->flags & (BLK_F_FUA | BLK_F_UNMAP),
                                .off = off,
                                .len = len,
                                .iov = niov ? op->iov : NULL,
                                .niov = niov,
                                .done = blocks_done };
    blk_submit(op->b->child, &op->req);
}

static void blocks_do_whole(struct blocks_op *op, uint64_t len)
{
    const struct blk_req *r = op->of;
    int niov = 0;

    if (r->op == BLK_READ || r->op == BLK_WRITE)
        niov = (int)iov_slice(op->iov, r->iov, (unsigned)r->niov, op->at - r->off, len);
    op->step = len;
    blocks_ask(op, r->op, op->at, len, niov);
}

/* Bytes [at, at + len) of the block in memory. */
static void blocks_change(struct blocks_op *op, uint64_t in_block, uint64_t len)
{
    const struct blk_req *r = op->of;

    if (r->op == BLK_READ)
        iov_copy_to(r->iov, (unsigned)r->niov, op->at - r->off, op->block + in_block, len);
    else if (r->op == BLK_WRITE)
        iov_copy_from(r->iov, (unsigned)r->niov, op->at - r->off, op->block + in_block, len);
    else
        memset(op->block + in_block, 0, len);
}

/* Of the block at `start`, which has n bytes. True: nothing has to be waited for. */
static bool blocks_do_part(struct blocks_op *op, uint64_t start, uint64_t n)
{
    uint64_t len = min_u64(op->end, start + n) - op->at;

    op->iov[0] = (struct iovec){ op->block, n };
    op->step = 0;
    op->is_read = !op->is_read;
    if (op->is_read) {
        blocks_ask(op, BLK_READ, start, n, 1);
        return false;
    }
    blocks_change(op, op->at - start, len);
    if (op->of->op == BLK_READ) {
        op->at += len;
        return true;
    }
    op->step = len;
    blocks_ask(op, BLK_WRITE, start, n, 1);
    return false;
}

static void blocks_next(struct blocks_op *op)
{
    uint32_t size = blocks_size(op->b);

    while (op->at < op->end) {
        uint64_t start = align_down(op->at, size), whole = align_down(op->end, size);

        if (op->at == start && start < whole) {
            blocks_do_whole(op, whole - start);
            return;
        }
        if (!blocks_do_part(op, start, min_u64(size, op->b->size - start)))
            return;
    }
    blocks_finish(op, 0);
}

/* --- requests --- */

static bool blocks_is_change(const struct blk_req *r)
{
    return r->op != BLK_READ && r->op != BLK_FLUSH;
}

/* Lock held. */
static bool blocks_must_wait(const struct blocks *s, const struct blocks_op *op)
{
    for (const struct blocks_op *o = s->first; o != op; o = o->next)
        if ((o->partial || op->partial) && o->from < op->to && op->from < o->to)
            return true;
    return false;
}

/* Takes op out of the list; the ones that may start now, as a list of their own by req.next. */
static struct blk_req *blocks_take(struct blocks *s, struct blocks_op *op)
{
    struct blk_req *ready = NULL, **tail = &ready;
    struct blocks_op **p = &s->first;

    pthread_mutex_lock(&s->lock);
    while (*p != op)
        p = &(*p)->next;
    *p = op->next;
    if (!*p)
        s->tail = p;
    for (struct blocks_op *o = s->first; o; o = o->next) {
        if (o->started || blocks_must_wait(s, o))
            continue;
        o->started = true;
        o->req.next = NULL;
        *tail = &o->req;
        tail = &o->req.next;
    }
    pthread_mutex_unlock(&s->lock);
    return ready;
}

/* What lies behind the end of the disk: less than a sector. */
static void blocks_zero_rest(const struct blk_req *r, uint64_t end)
{
    static const char zeros[BLK_SECTOR];

    if (r->op == BLK_READ && end < r->off + r->len)
        iov_copy_to(r->iov, (unsigned)r->niov, end - r->off, zeros, r->off + r->len - end);
}

/* 0, or why it cannot be written. */
static int blocks_check_rest(const struct blk_req *r, uint64_t end)
{
    char buf[BLK_SECTOR];
    size_t n = 0;

    if (r->op == BLK_WRITE && end < r->off + r->len)
        n = iov_copy_from(r->iov, (unsigned)r->niov, end - r->off, buf, sizeof(buf));
    for (size_t i = 0; i < n; i++)
        if (buf[i])
            return -ENOSPC;
    return 0;
}

/* Loop thread. */
static void blocks_finish(struct blocks_op *op, int err)
{
    struct blk_req *r = op->of;
    struct blk_req *ready = blocks_is_change(r) ? blocks_take(op->b->priv, op) : NULL;

    blocks_zero_rest(r, op->end);
    free(op->block);
    free(op);
    while (ready) {
        struct blk_req *next = ready->next;

        blocks_next(container_of(ready, struct blocks_op, req));
        ready = next;
    }
    blk_done(r, err);
}

static struct blocks_op *blocks_create_op(struct blk *b, struct blk_req *r, uint64_t at,
                                          uint64_t end)
{
    uint32_t size = blocks_size(b);
    struct blocks_op *op = malloc(sizeof(*op) + ((size_t)r->niov + 1) * sizeof(op->iov[0]));

    if (!op)
        return NULL;
    *op = (struct blocks_op){ .b = b,
                              .of = r,
                              .from = align_down(at, size),
                              .to = align_up(end, size),
                              .at = at,
                              .end = end,
                              .partial = (at | end) & (size - 1) };
    if (op->partial)
        op->block = malloc(size);
    if (!op->partial || op->block)
        return op;
    free(op);
    return NULL;
}

static void blocks_start(struct blocks *s, struct blocks_op *op)
{
    bool starts = true;

    if (blocks_is_change(op->of)) {
        pthread_mutex_lock(&s->lock);
        *s->tail = op;
        s->tail = &op->next;
        starts = op->started = !blocks_must_wait(s, op);
        pthread_mutex_unlock(&s->lock);
    }
    if (starts)
        blocks_next(op);
}

static void blocks_submit(struct blk *b, struct blk_req *r)
{
    uint32_t size = blocks_size(b);
    uint64_t at = r->off, end = min_u64(r->off + r->len, b->size);
    struct blocks_op *op;
    int rc = blocks_check_rest(r, end);

    if (r->op == BLK_FLUSH ||
        (r->op == BLK_READ && !((at | end) & (size - 1)) && end == at + r->len)) {
        b->child->ops->submit(b->child, r);
        return;
    }
    if (r->op == BLK_DISCARD) {
        at = align_up(at, size);
        end = align_down(end, size);
    }
    if (rc || at >= end) { /* nothing is there, or only parts of blocks that keep their data */
        blocks_zero_rest(r, max_u64(end, r->off));
        blk_done_later(r, rc);
        return;
    }
    op = blocks_create_op(b, r, at, end);
    if (op)
        blocks_start(b->priv, op);
    else
        blk_done_later(r, -ENOMEM);
}

/* --- the disk --- */ /* --- the disk --- */

static int blocks_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    uint64_t from = align_down(off, blocks_size(b));
    uint64_t to = min_u64(align_up(off + len, blocks_size(b)), b->size);
    int rc = 0;

    if (off >= b->size) {
        *x = (struct blk_extent){ .len = len, .flags = BLK_X_ALLOCATED | BLK_X_ZERO, .layer = b };
        return 0;
    }
    *x = (struct blk_extent){ .len = to - from, .flags = BLK_X_ALLOCATED | BLK_X_DATA, .layer = b };
    if (b->child->ops->status)
        rc = b->child->ops->status(b->child, from, to - from, x);
    if (x->len <= off - from) /* no whole block: the server does not keep to its own word */
        *x = (struct blk_extent){ .len = to - from,
                                  .flags = BLK_X_ALLOCATED | BLK_X_DATA,
                                  .layer = b };
    x->len = min_u64(x->len - (off - from), len);
    return rc;
}

bool blk_blocks_wanted(const struct blk *file)
{
    return file->block > 1 || (file->block && file->size % BLK_SECTOR);
}

static int blocks_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct blocks *s = calloc(1, sizeof(*s));

    (void)o;
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->tail = &s->first;
    s->size = b->child->block;
    b->size = atomic_load(&b->child->size);
    b->priv = s;
    return 0;
}

static void blocks_close(struct blk *b)
{
    struct blocks *s = b->priv;

    pthread_mutex_destroy(&s->lock);
    free(s);
}

const struct blk_ops blk_blocks_ops = {
    .format = "blocks",
    .open = blocks_open,
    .close = blocks_close,
    .submit = blocks_submit,
    .status = blocks_status,
};
