/*
 * block.c: opening stacks, and the life of a request: see block.h.
 */
#include "block/block.h"

#include <errno.h>
#include <string.h>

#include "block/formats.h"
#include "block/guard.h"
#include "block/remote.h"

enum { BLK_HEAD = 4096 };

/* --- requests --- */

void blk_done(struct blk_req *r, int err)
{
    struct blk *b = r->top;

    if (b->guard && blk_guard_keeps(b->guard, r, &err))
        return;
    /* Before done(), which may submit the next one or free r; drain runs on this same thread. */
    atomic_fetch_sub(&b->in_flight, 1);
    r->done(r, err);
}

/* Failures, and what follows them, are the guard's to judge, on the loop thread. */
bool blk_may_end_here(const struct blk_req *r, int err)
{
    return !err && (r->flags & BLK_F_ANYWHERE) && !(r->flags & BLK_F_AGAIN);
}

/* blk_drain() may be waiting on the loop thread: what done() needs is there until the count falls. */
void blk_done_here(struct blk_req *r, unsigned how)
{
    struct blk *b = r->top;

    r->flags &= ~(unsigned)(BLK_F_MORE | BLK_F_AT_COMMIT);
    r->flags |= BLK_F_HERE | how;
    r->done(r, 0);
    atomic_fetch_sub(&b->in_flight, 1);
}

static uint64_t blk_iov_len(const struct blk_req *r)
{
    uint64_t len = 0;

    for (int i = 0; i < r->niov; i++)
        len += r->iov[i].iov_len;
    return len;
}

/* 0, or why the request cannot be passed on. */
static int blk_check(const struct blk *b, const struct blk_req *r)
{
    bool data = r->op == BLK_READ || r->op == BLK_WRITE;
    uint64_t end = b->grows ? INT64_MAX - BLK_SECTOR : b->size;

    if (b->empty)
        return -ENOMEDIUM;
    if (r->op == BLK_FLUSH)
        return 0;
    if (!r->len || r->off > end || r->len > end - r->off)
        return -EINVAL;
    if (data && (r->niov <= 0 || r->niov > BLK_MAX_SEGS || blk_iov_len(r) != r->len))
        return -EINVAL;
    return b->readonly && r->op != BLK_READ ? -EROFS : 0;
}

void blk_done_later(struct blk_req *r, int err)
{
    struct blk *b = r->top;

    r->priv[0] = (void *)(intptr_t)err; /* no driver has it any more */
    r->next = NULL;
    pthread_mutex_lock(&b->lock);
    *b->finished_tail = r;
    b->finished_tail = &r->next;
    pthread_mutex_unlock(&b->lock);
    if (b->loop)
        loop_post(b->loop, &b->finish);
}

static struct blk_req *blk_take_finished(struct blk *b)
{
    struct blk_req *r;

    pthread_mutex_lock(&b->lock);
    r = b->finished;
    b->finished = NULL;
    b->finished_tail = &b->finished;
    pthread_mutex_unlock(&b->lock);
    return r;
}

static bool blk_complete_finished(struct blk *b)
{
    struct blk_req *r = blk_take_finished(b);
    bool any = r != NULL;

    while (r) {
        struct blk_req *next = r->next;

        blk_done(r, (int)(intptr_t)r->priv[0]);
        r = next;
    }
    return any;
}

static void blk_finish(struct loop_work *w)
{
    blk_complete_finished(container_of(w, struct blk, finish));
}

/* What is written to lies within the file from now on. */
static void blk_grow(struct blk *b, const struct blk_req *r)
{
    uint64_t size = b->size, end = r->off + r->len;

    while ((r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES) && end > size)
        if (atomic_compare_exchange_weak(&b->size, &size, end))
            break;
}

void blk_submit(struct blk *b, struct blk_req *r)
{
    int err = blk_check(b, r);

    r->top = b;
    r->next = NULL;
    r->flags &= ~(unsigned)BLK_F_HERE;
    atomic_fetch_add(&b->in_flight, 1);
    if (err) {
        blk_done_later(r, err);
        return;
    }
    if (b->grows)
        blk_grow(b, r);
    b->ops->submit(b, r);
}

void blk_commit(struct blk *b)
{
    while (b && !b->ops->commit)
        b = b->child;
    if (b)
        b->ops->commit(b);
}

void blk_wait(struct blk *b)
{
    for (; b; b = b->child) {
        if (blk_complete_finished(b))
            return;
        if (b->ops->wait) {
            b->ops->wait(b);
            return;
        }
    }
}

void blk_drain(struct blk *b)
{
    while (atomic_load(&b->in_flight))
        if (!b->guard || !blk_guard_give_back(b->guard))
            blk_wait(b);
}

struct blk_sync {
    struct blk_req req;
    int err;
};

static void blk_sync_done(struct blk_req *r, int err)
{
    container_of(r, struct blk_sync, req)->err = err;
}

static int blk_sync(struct blk *b, const struct blk_req *r)
{
    struct blk_sync s = { .req = *r };

    s.req.done = blk_sync_done;
    blk_submit(b, &s.req);
    blk_drain(b);
    return s.err;
}

int blk_read_sync(struct blk *b, uint64_t off, void *buf, size_t len)
{
    struct iovec iov = { buf, len };
    struct blk_req r = { .op = BLK_READ, .off = off, .len = len, .iov = &iov, .niov = 1 };

    return blk_sync(b, &r);
}

int blk_write_sync(struct blk *b, uint64_t off, const void *buf, size_t len)
{
    struct iovec iov = { (void *)(uintptr_t)buf, len }; /* is only read */
    struct blk_req r = { .op = BLK_WRITE, .off = off, .len = len, .iov = &iov, .niov = 1 };

    return blk_sync(b, &r);
}

int blk_op_sync(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, unsigned flags)
{
    struct blk_req r = { .op = op, .off = off, .len = len, .flags = flags };

    return blk_sync(b, &r);
}

/* --- stacks --- */

static void blk_free(struct blk *b)
{
    if (b->loop)
        loop_unpost(b->loop, &b->finish);
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
}

struct blk *blk_open_driver(const struct blk_ops *ops, struct blk *child, const struct blk_opts *o,
                            struct err *e)
{
    struct blk *b = calloc(1, sizeof(*b));

    if (!b)
        return err_oom(e);
    b->ops = ops;
    b->child = child;
    b->loop = o->loop;
    b->readonly = o->readonly;
    b->above = o->above;
    b->path = strdup(o->path);
    b->finish.call = blk_finish;
    b->finished_tail = &b->finished;
    pthread_mutex_init(&b->lock, NULL);
    if (b->path && !ops->open(b, o, e))
        return b;
    if (!b->path)
        err_oom(e);
    blk_close(b->backing);
    blk_free(b);
    return NULL;
}

void blk_close(struct blk *b)
{
    if (!b)
        return;
    blk_drain(b);
    blk_guard_destroy(b->guard);
    if (b->ops->close)
        b->ops->close(b);
    blk_close(b->child);
    blk_close(b->backing);
    blk_free(b);
}

struct blk *blk_image(struct blk *b)
{
    while (b->ops->layer && b->child)
        b = b->child;
    return b;
}

/* The driver for what is in the file, by its head unless the user said it. */
static const struct blk_ops *blk_choose(struct blk *file, const struct blk_opts *o, struct err *e)
{
    size_t n = min_u64(BLK_HEAD, file->size);
    const struct blk_ops *ops;
    uint8_t head[BLK_HEAD];
    const char *phrase, *cure;
    int rc;

    if (o->format) {
        ops = blk_format_find(o->format);
        if (!ops)
            err_set(e, EINVAL, "disk '%s': there is no format '%s'; known are: %s", o->path,
                    o->format, blk_format_names());
        return ops;
    }
    rc = blk_read_sync(file, 0, head, n);
    if (rc) {
        err_set(e, -rc, "disk '%s' cannot be read: %s", o->path, strerror(-rc));
        return NULL;
    }
    ops = blk_format_probe(head, n);
    phrase = blk_format_foreign(head, n, &cure);
    if (ops != &blk_raw_ops || !phrase)
        return ops;
    err_set(e, EMEDIUMTYPE,
            "disk '%s' is %s, which cannot be used as it is: %s (or say format=raw)", o->path,
            phrase, cure);
    return NULL;
}

/* What the options ask for beyond the format, each as a driver of its own; owns b, also when it fails. */
static struct blk *blk_open_layers(struct blk *b, const struct blk_opts *o, struct err *e)
{
    const struct {
        const struct blk_ops *ops;
        bool wanted;
    } layers[] = {
        { &blk_filter_ops, blk_filter_wanted(o) },
        { &blk_throttle_ops, blk_throttle_wanted(&o->limits) },
    };

    for (size_t i = 0; b && i < ARRAY_SIZE(layers); i++) {
        struct blk *child = b;

        if (!layers[i].wanted)
            continue;
        b = blk_open_driver(layers[i].ops, child, o, e);
        if (!b)
            blk_close(child);
    }
    return b;
}

/* The file, or what stands for it at a server, as bytes. */
static struct blk *blk_open_file(const struct blk_opts *o, struct err *e)
{
    const struct blk_ops *remote = o->fd ? NULL : remote_find(o->path);
    struct blk *file = blk_open_driver(remote ? remote : &blk_file_ops, NULL, o, e), *b = file;

    if (file && blk_blocks_wanted(file))
        b = blk_open_driver(&blk_blocks_ops, file, o, e);
    if (!b)
        blk_close(file);
    return b;
}

struct blk *blk_open(const struct blk_opts *o, struct err *e)
{
    struct blk *file = blk_open_file(o, e), *b = NULL;
    const struct blk_ops *ops = file ? blk_choose(file, o, e) : NULL;

    if (ops)
        b = blk_open_driver(ops, file, o, e);
    if (!b)
        blk_close(file);
    return blk_open_layers(b, o, e);
}
