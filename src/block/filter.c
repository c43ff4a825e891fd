/*
 * filter.c: what a user's options make of requests before the format sees them: flushes that are forgotten
 * (cache=unsafe) or part of every write (writethrough), discards that do nothing, zeros that are found out.
 */
#include "block/formats.h"

#include <errno.h>
#include <string.h>

struct filter {
    bool flush_ignored, fua_always, no_discard, detect, detect_unmap;
};

bool blk_filter_wanted(const struct blk_opts *o)
{
    return o->no_discard || o->detect_zeroes != BLK_DETECT_OFF ||
           o->cache == BLK_CACHE_WRITETHROUGH || o->cache == BLK_CACHE_DIRECTSYNC ||
           o->cache == BLK_CACHE_UNSAFE;
}

static int filter_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct filter *f = calloc(1, sizeof(*f));

    if (!f)
        return err_set(e, ENOMEM, "out of memory");
    f->flush_ignored = o->cache == BLK_CACHE_UNSAFE;
    f->fua_always = o->cache == BLK_CACHE_WRITETHROUGH || o->cache == BLK_CACHE_DIRECTSYNC;
    f->no_discard = o->no_discard;
    f->detect = o->detect_zeroes != BLK_DETECT_OFF;
    f->detect_unmap = o->detect_zeroes == BLK_DETECT_UNMAP && !o->no_discard;
    b->size = atomic_load(&b->child->size);
    b->write_through = f->fua_always;
    b->priv = f;
    return 0;
}

static void filter_close(struct blk *b)
{
    free(b->priv);
}

/* The first bytes, then each against its predecessor: data is told apart at once, and libc is fast. */
static bool filter_is_zero(const void *buf, size_t len)
{
    static const uint8_t zeros[16];
    size_t head = min_u64(len, sizeof(zeros));

    return !memcmp(buf, zeros, head) && !memcmp(buf, (const char *)buf + head, len - head);
}

static bool filter_all_zero(const struct blk_req *r)
{
    for (int i = 0; i < r->niov; i++)
        if (!filter_is_zero(r->iov[i].iov_base, r->iov[i].iov_len))
            return false;
    return true;
}

/* The guest may change the data meanwhile: then it is one of the two states that it had. */
static void filter_write(const struct filter *f, struct blk_req *r)
{
    if (!f->detect || !filter_all_zero(r))
        return;
    r->op = BLK_WRITE_ZEROES;
    r->flags |= f->detect_unmap ? BLK_F_UNMAP : 0;
}

/* True: there is nothing left to do. */
static bool filter_apply(const struct filter *f, struct blk_req *r)
{
    if (r->op == BLK_WRITE)
        filter_write(f, r);
    if (r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES) {
        if (f->fua_always)
            r->flags |= BLK_F_FUA;
        if (f->flush_ignored)
            r->flags &= ~(unsigned)BLK_F_FUA;
        if (f->no_discard)
            r->flags &= ~(unsigned)BLK_F_UNMAP;
    }
    return (r->op == BLK_FLUSH && f->flush_ignored) || (r->op == BLK_DISCARD && f->no_discard);
}

static void filter_submit(struct blk *b, struct blk_req *r)
{
    if (filter_apply(b->priv, r))
        blk_done_later(r, 0);
    else
        b->child->ops->submit(b->child, r);
}

const struct blk_ops blk_filter_ops = {
    .format = "filter",
    .layer = true,
    .open = filter_open,
    .close = filter_close,
    .submit = filter_submit,
};
