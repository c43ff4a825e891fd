/*
 * out_raw.c: raw targets: files and block devices, and stdout, which has to be written from the beginning to
 * the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/out.h"

struct out_raw {
    bool device;
};

static int out_raw_prealloc(struct out *o, const char *mode, struct err *e)
{
    int rc;

    if (!mode || !strcmp(mode, "off"))
        return 0;
    if (strcmp(mode, "falloc") && strcmp(mode, "full"))
        return err_set(e, EINVAL, "preallocation '%s': a raw image knows off, falloc, full", mode);
    if (!strcmp(mode, "full"))
        o->allocate = o->wants_zeros = true;
    rc = o->size ? posix_fallocate(o->fd, 0, (off_t)o->size) : 0;
    return rc ? err_set(e, rc, "image '%s' cannot get its space: %s", o->opts->path, strerror(rc))
              : 0;
}

static int out_raw_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = { "preallocation", "size", NULL };
    struct out_raw *raw = calloc(1, sizeof(*raw));
    uint64_t have = 0;
    struct stat st;

    o->priv = raw;
    if (!raw)
        return err_set(e, ENOMEM, "out of memory");
    if (out_check_options(opts, known, e))
        return -EINVAL;
    if (opts->compress)
        return err_set(e, EINVAL, "raw images are not compressed: -O qcow2 or vmdk can be");
    o->unit = opts->sparse ? opts->sparse : 4 * KIB;
    if (fstat(o->fd, &st))
        return err_set(e, errno, "image '%s': %s", opts->path, strerror(errno));
    raw->device = S_ISBLK(st.st_mode);
    if (!raw->device) {
        o->wants_zeros = opts->allocate;
        return out_raw_prealloc(o, out_option(opts, "preallocation"), e);
    }
    o->wants_zeros = !opts->is_zero;
    if (ioctl(o->fd, BLKGETSIZE64, &have) || have < o->size)
        return err_set(e, ENOSPC, "'%s' has only %llu bytes", opts->path, (unsigned long long)have);
    return 0;
}

static void out_raw_close(struct out *o)
{
    free(o->priv);
}

static int out_raw_store(struct out *o, struct out_chunk *c)
{
    const struct out_raw *raw = o->priv;
    struct out_span s = { 0 };

    while (out_next_span(o, c, &s)) {
        int rc = 0;

        if (s.used)
            rc = out_pwrite(o, c->data + s.from, s.to - s.from, c->off + s.from);
        else if (raw->device && o->wants_zeros)
            rc = o->ops->zero(o, c->off + s.from, s.to - s.from);
        if (rc)
            return rc;
    }
    return 0;
}

static int out_raw_zero(struct out *o, uint64_t off, uint64_t len)
{
    static const uint8_t zeros[64 * KIB];
    int mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

    if (!o->allocate && !fallocate(o->fd, mode, (off_t)off, (off_t)len))
        return 0;
    while (len) {
        size_t n = min_u64(len, sizeof(zeros));
        int rc = out_pwrite(o, zeros, n, off);

        if (rc)
            return rc;
        off += n;
        len -= n;
    }
    return 0;
}

static int out_raw_finish(struct out *o)
{
    const struct out_raw *raw = o->priv;

    return !raw->device && ftruncate(o->fd, (off_t)o->size) ? -errno : 0;
}

const struct out_ops out_raw_ops = {
    .format = "raw",
    .open = out_raw_open,
    .close = out_raw_close,
    .store = out_raw_store,
    .zero = out_raw_zero,
    .finish = out_raw_finish,
};

/* --- stdout --- */

struct out_stream {
    uint64_t pos;
};

static int out_stream_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = { NULL };

    o->unit = 64 * KIB;
    o->allocate = true;
    o->priv = calloc(1, sizeof(struct out_stream));
    if (!o->priv)
        return err_set(e, ENOMEM, "out of memory");
    return out_check_options(opts, known, e);
}

static int out_stream_skip(struct out *o, uint64_t to)
{
    static const uint8_t zeros[64 * KIB];
    struct out_stream *s = o->priv;

    while (s->pos < to) {
        size_t n = min_u64(to - s->pos, sizeof(zeros));
        int rc = util_write_all(STDOUT_FILENO, zeros, n);

        if (rc)
            return rc;
        s->pos += n;
    }
    return 0;
}

static int out_stream_place(struct out *o, struct out_chunk *c)
{
    struct out_stream *s = o->priv;
    int rc = out_stream_skip(o, c->off);

    if (!rc)
        rc = util_write_all(STDOUT_FILENO, c->data, c->len);
    s->pos += c->len;
    return rc;
}

static int out_stream_store(struct out *o, struct out_chunk *c)
{
    (void)o, (void)c;
    return 0;
}

static int out_stream_finish(struct out *o)
{
    return out_stream_skip(o, o->size);
}

const struct out_ops out_stream_ops = {
    .format = "raw",
    .open = out_stream_open,
    .close = out_raw_close,
    .place = out_stream_place,
    .store = out_stream_store,
    .finish = out_stream_finish,
    .own_target = true,
};
