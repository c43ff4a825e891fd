/*
 * out_disk.c: targets that are written through the block layer: what is there already (-n), remote disks,
 * overlays, and qcow2 images with options that out_qcow2.c does not know.
 */
#include <errno.h>
#include <semaphore.h>
#include <string.h>

#include "block/remote.h"
#include "image/disk_io.h"
#include "image/out.h"

enum { OUT_DISK_ZERO_MAX = 256 * MIB };

/* *is_new: it is empty. A remote disk that is there is written over, as a file would be. */
static int out_disk_create(const struct out_opts *opts, bool *is_new, struct err *e)
{
    const struct blk_ops *remote = remote_find(opts->path);
    struct blk_create_opts c = { .path = opts->path,
                                 .format = opts->format,
                                 .size = opts->size,
                                 .backing = opts->backing,
                                 .backing_format = opts->backing_format,
                                 .options = opts->options,
                                 .passphrase = opts->passphrase };
    struct err failed = { 0 };
    int rc;

    *is_new = false;
    if (opts->no_create || (remote && !remote->create))
        return 0;
    rc = blk_create(&c, &failed);
    *is_new = !rc;
    return !rc || (remote && rc == -EEXIST) ? 0 : err_set(e, failed.code, "%s", failed.msg);
}

static int out_disk_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    struct blk_opts b = {
        .path = opts->path, .format = opts->format, .loop = o->loop, .passphrase = opts->passphrase
    };
    struct blk_info info;
    struct blk *disk;
    bool is_new;

    if (!opts->format)
        b.format = "raw";
    if (out_disk_create(opts, &is_new, e))
        return -EINVAL;
    disk = o->priv = blk_open(&b, e);
    if (!disk)
        return -EINVAL;
    if (disk->size < o->size)
        return err_set(e, ENOSPC,
                       "target '%s' has %llu bytes, fewer than the source, which has %llu",
                       opts->path, (unsigned long long)disk->size, (unsigned long long)o->size);
    blk_info(disk, &info);
    o->unit = (uint32_t)min_u64(max_u64(info.cluster_size, 4 * KIB), OUT_CHUNK_MAX);
    /* an overlay's zeros come with its data; the rest is its backing file's */
    o->wants_zeros = !is_new && !opts->backing && !opts->is_zero;
    if (is_new && !strcmp(b.format, "luks")) /* reads as noise */
        o->wants_zeros = true;
    return 0;
}

static void out_disk_close(struct out *o)
{
    blk_close(o->priv);
}

static int out_disk_write(const struct out *o, const struct out_chunk *c, uint64_t from,
                          uint64_t to)
{
    struct iovec iov = { c->data + from, to - from };
    struct blk_req r = {
        .op = BLK_WRITE, .off = c->off + from, .len = to - from, .iov = &iov, .niov = 1
    };

    if (!o->opts->compress)
        return disk_io_wait(o->priv, &r);
    r.flags = BLK_F_COMPRESS;
    for (uint64_t at = from; at < to; at += o->unit) { /* clusters one by one */
        int rc;

        iov = (struct iovec){ c->data + at, min_u64(o->unit, to - at) };
        r.off = c->off + at;
        r.len = iov.iov_len;
        rc = disk_io_wait(o->priv, &r);
        if (rc)
            return rc;
    }
    return 0;
}

static int out_disk_zero(struct out *o, uint64_t off, uint64_t len)
{
    while (len) {
        struct blk_req r = { .op = BLK_WRITE_ZEROES,
                             .off = off,
                             .len = min_u64(len, OUT_DISK_ZERO_MAX),
                             .flags = o->allocate ? 0 : BLK_F_UNMAP };
        int rc = disk_io_wait(o->priv, &r);

        if (rc)
            return rc;
        off += r.len;
        len -= r.len;
    }
    return 0;
}

static int out_disk_store(struct out *o, struct out_chunk *c)
{
    struct out_span s = { 0 };

    while (out_next_span(o, c, &s)) {
        uint32_t to = (uint32_t)align_up(s.to, BLK_SECTOR);
        int rc = 0;

        if (s.used)
            rc = out_disk_write(o, c, s.from, to);
        else if (o->wants_zeros)
            rc = out_disk_zero(o, c->off + s.from, to - s.from);
        if (rc)
            return rc;
    }
    return 0;
}

/* Loop thread, like opening. */
static int out_disk_finish(struct out *o)
{
    return o->opts->sync ? blk_op_sync(o->priv, BLK_FLUSH, 0, 0, 0) : 0;
}

const struct out_ops out_disk_ops = {
    .format = "disk",
    .open = out_disk_open,
    .close = out_disk_close,
    .store = out_disk_store,
    .zero = out_disk_zero,
    .finish = out_disk_finish,
    .own_target = true,
};
