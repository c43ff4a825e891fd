/*
 * block.c: opening stacks, and the life of a request: see block.h.
 */
#include "block/block.h"

#include <errno.h>
#include <string.h>

#include "block/formats.h"

enum { BLK_HEAD = 4096 };

/* --- requests --- */

void blk_done(struct blk_req *r, int err)
{
    struct blk *b = r->top;

    /* Before done(), which may submit the next one or free r; drain runs on this same thread. */
    atomic_fetch_sub(&b->in_flight, 1);
    r->done(r, err);
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

    if (r->op == BLK_FLUSH)
        return 0;
    if (!r->len || r->off > end || r->len > end - r->off)
        return -EINVAL;
    if (data && (r->niov <= 0 || r->niov > BLK_MAX_SEGS || blk_iov_len(r) != r->len))
        return -EINVAL;
    return b->readonly && r->op != BLK_READ ? -EROFS : 0;
}

static struct blk_req *blk_take_refused(struct blk *b)
{
    struct blk_req *r;

    pthread_mutex_lock(&b->lock);
    r = b->refused;
    if (r)
        b->refused = r->next;
    pthread_mutex_unlock(&b->lock);
    return r;
}

static bool blk_complete_refused(struct blk *b)
{
    struct blk_req *r;
    bool any = false;

    while ((r = blk_take_refused(b))) {
        blk_done(r, blk_check(b, r));
        any = true;
    }
    return any;
}

static void blk_refused(struct loop_work *w)
{
    blk_complete_refused(container_of(w, struct blk, refuse));
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
    r->top = b;
    r->next = NULL;
    atomic_fetch_add(&b->in_flight, 1);
    if (!blk_check(b, r)) {
        if (b->grows)
            blk_grow(b, r);
        b->ops->submit(b, r);
        return;
    }
    pthread_mutex_lock(&b->lock);
    r->next = b->refused;
    b->refused = r;
    pthread_mutex_unlock(&b->lock);
    if (b->loop)
        loop_post(b->loop, &b->refuse);
}

void blk_wait(struct blk *b)
{
    while (!b->ops->wait)
        b = b->child;
    b->ops->wait(b);
}

void blk_drain(struct blk *b)
{
    while (atomic_load(&b->in_flight))
        if (!blk_complete_refused(b))
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
        loop_unpost(b->loop, &b->refuse);
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
}

/* One driver on top of child; owns child only if it succeeds. */
static struct blk *blk_open_one(const struct blk_ops *ops, struct blk *child,
                                const struct blk_opts *o, struct err *e)
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
    b->refuse.call = blk_refused;
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
    if (b->ops->close)
        b->ops->close(b);
    blk_close(b->child);
    blk_close(b->backing);
    blk_free(b);
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

struct blk *blk_open(const struct blk_opts *o, struct err *e)
{
    struct blk *file = blk_open_one(&blk_file_ops, NULL, o, e), *b = NULL;
    const struct blk_ops *ops = file ? blk_choose(file, o, e) : NULL;

    if (ops)
        b = blk_open_one(ops, file, o, e);
    if (!b)
        blk_close(file);
    return b;
}
