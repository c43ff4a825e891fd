/*
 * luks.c: plain LUKS 1 images (format=luks), as `qemu-img create -f luks` and cryptsetup make them: the header, then
 * the disk, encrypted sector by sector. Never found by sight: a guest may encrypt the whole of its raw disk, and then
 * it is not ours to open.
 *
 * What was never written reads as noise. Discards do nothing, zeros are written. Not read: LUKS 2.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/iov.h"
#include "block/formats.h"
#include "block/qcow2_luks.h"
#include "block/qcow2_options.h"

enum { LUKS_FIXED = 592, LUKS_PAYLOAD = 104, LUKS_HEADER_MAX = 64 * MIB, LUKS_ZEROS = MIB };

struct luks {
    struct qcow2_luks *key; /* NULL: only to be looked at */
    uint64_t payload;       /* where the disk begins in the file */
};

/* A request on its way to the file. */
struct luks_io {
    struct blk_req req, *of;
    struct blk *b;
    uint64_t done; /* of a write of zeros, which goes in pieces */
    struct iovec iov;
    uint8_t buf[];
};

/* --- opening --- */

static int luks_check(struct blk *b, const uint8_t *h, struct err *e)
{
    struct luks *l = b->priv;

    if (memcmp(h, "LUKS\xba\xbe", 6))
        return err_set(e, EINVAL, "disk '%s' is not a LUKS image", b->path);
    if (ld_be16(h + 6) != 1)
        return err_set(e, ENOTSUP,
                       "disk '%s' is of version %u of LUKS, and only 1 is known here: `cryptsetup "
                       "convert --type luks1` may help",
                       b->path, ld_be16(h + 6));
    l->payload = (uint64_t)ld_be32(h + LUKS_PAYLOAD) * BLK_SECTOR;
    if (l->payload < LUKS_FIXED || l->payload > LUKS_HEADER_MAX || l->payload > b->child->size)
        return err_set(e, EINVAL, "disk '%s': its LUKS header is damaged", b->path);
    b->size = align_down(b->child->size - l->payload, BLK_SECTOR);
    return 0;
}

static int luks_unlock(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct luks *l = b->priv;
    uint8_t *header = calloc(1, l->payload + 1);
    int rc = header ? blk_read_sync(b->child, 0, header, l->payload) : -ENOMEM;

    if (rc)
        err_set(e, -rc, "disk '%s' cannot be read: %s", b->path, strerror(-rc));
    else
        l->key = qcow2_luks_open(header, l->payload, o->passphrase, b->path, e);
    free(header);
    return l->key ? 0 : -EINVAL;
}

static int luks_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    uint8_t h[LUKS_FIXED] = { 0 };
    int rc;

    b->priv = calloc(1, sizeof(struct luks));
    if (!b->priv)
        return err_set(e, ENOMEM, "out of memory");
    rc = blk_read_sync(b->child, 0, h, min_u64(sizeof(h), b->child->size));
    if (rc)
        err_set(e, -rc, "disk '%s' cannot be read: %s", b->path, strerror(-rc));
    else
        rc = luks_check(b, h, e);
    if (!rc && (o->passphrase || !o->readonly || !o->no_backing))
        rc = luks_unlock(b, o, e);
    if (rc)
        free(b->priv);
    return rc;
}

static void luks_close(struct blk *b)
{
    struct luks *l = b->priv;

    qcow2_luks_close(l->key);
    free(l);
}

/* --- requests --- */

static void luks_end(struct luks_io *io, int err)
{
    struct blk_req *r = io->of;

    free(io);
    blk_done(r, err);
}

static void luks_read_done(struct blk_req *req, int err)
{
    struct luks_io *io = container_of(req, struct luks_io, req);
    const struct luks *l = io->b->priv;

    if (!err)
        err = qcow2_luks_decrypt(l->key, io->of->off, io->of->iov, io->of->niov, io->of->len);
    luks_end(io, err);
}

static void luks_write_done(struct blk_req *req, int err)
{
    luks_end(container_of(req, struct luks_io, req), err);
}

static void luks_zero_done(struct blk_req *req, int err);

/* The next piece of a write of zeros: 0 or -errno. */
static int luks_zero_piece(struct luks_io *io)
{
    const struct luks *l = io->b->priv;
    uint64_t off = io->of->off + io->done, len = min_u64(io->of->len - io->done, LUKS_ZEROS);

    memset(io->buf, 0, len);
    io->iov = (struct iovec){ io->buf, len };
    io->req = (struct blk_req){ .op = BLK_WRITE,
                                .flags = io->of->flags & BLK_F_FUA,
                                .off = l->payload + off,
                                .len = len,
                                .iov = &io->iov,
                                .niov = 1,
                                .done = luks_zero_done };
    return qcow2_luks_encrypt(l->key, off, io->buf, len);
}

static void luks_zero_done(struct blk_req *req, int err)
{
    struct luks_io *io = container_of(req, struct luks_io, req);

    io->done += req->len;
    if (!err && io->done < io->of->len) {
        err = luks_zero_piece(io);
        if (!err) {
            blk_submit(io->b->child, &io->req);
            return;
        }
    }
    luks_end(io, err);
}

static int luks_prepare(struct luks_io *io)
{
    const struct luks *l = io->b->priv;
    struct blk_req *r = io->of;

    if (r->op == BLK_WRITE_ZEROES)
        return luks_zero_piece(io);
    io->req = (struct blk_req){ .op = r->op,
                                .flags = r->flags & (BLK_F_FUA | BLK_F_MORE),
                                .off = l->payload + r->off,
                                .len = r->len,
                                .iov = r->iov,
                                .niov = r->niov,
                                .done = luks_read_done };
    if (r->op == BLK_READ)
        return 0;
    iov_copy_from(r->iov, (unsigned)r->niov, 0, io->buf, r->len);
    io->iov = (struct iovec){ io->buf, r->len };
    io->req.iov = &io->iov;
    io->req.niov = 1;
    io->req.done = luks_write_done;
    return qcow2_luks_encrypt(l->key, r->off, io->buf, r->len);
}

static void luks_submit(struct blk *b, struct blk_req *r)
{
    const struct luks *l = b->priv;
    uint64_t room = r->op == BLK_WRITE          ? r->len
                    : r->op == BLK_WRITE_ZEROES ? min_u64(r->len, LUKS_ZEROS)
                                                : 0;
    struct luks_io *io;
    int rc;

    if (r->op == BLK_FLUSH) {
        b->child->ops->submit(b->child, r);
        return;
    }
    if (r->op == BLK_DISCARD || !l->key || (r->off | r->len) % BLK_SECTOR) {
        blk_done_later(r, r->op == BLK_DISCARD ? 0 : l->key ? -EINVAL : -EACCES);
        return;
    }
    io = malloc(sizeof(*io) + room);
    if (!io) {
        blk_done_later(r, -ENOMEM);
        return;
    }
    io->of = r;
    io->b = b;
    io->done = 0;
    rc = luks_prepare(io);
    if (!rc) {
        blk_submit(b->child, &io->req);
        return;
    }
    free(io);
    blk_done_later(r, rc);
}

/* --- the rest --- */

static int luks_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    (void)off;
    *x = (struct blk_extent){ .len = len, .flags = BLK_X_ALLOCATED | BLK_X_DATA, .layer = b };
    return 0;
}

static void luks_info(struct blk *b, struct blk_info *i)
{
    (void)b;
    i->encrypted = true;
}

static int luks_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    const struct luks *l = b->priv;
    int rc = b->child->ops->truncate
                 ? b->child->ops->truncate(b->child, l->payload + size, prealloc, e)
                 : err_set(e, EOPNOTSUPP, "disk '%s' cannot get another size", b->path);

    if (!rc)
        b->size = size;
    return rc;
}

/* QEMU's names are those of qcow2 without their "encrypt.". */
static int luks_options(const char *const *options, struct qcow2_options *to, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; !rc && options && options[i]; i++) {
        const char *given = options[i], *one[2] = { NULL };
        char text[128];

        if (!strncmp(given, "size=", 5))
            continue;
        snprintf(text, sizeof(text), "%s%s", strncmp(given, "encrypt.", 8) ? "encrypt." : "",
                 given);
        one[0] = text;
        rc = qcow2_options_parse(one, to, e);
    }
    return rc;
}

static int luks_create_file(const struct blk_create_opts *o, const uint8_t *header, uint64_t len,
                            struct err *e)
{
    int fd = blk_create_file(o->path, e), rc;

    if (fd < 0)
        return fd;
    rc = ftruncate(fd, (off_t)(len + o->size)) ? -errno : util_write_all(fd, header, len);
    close(fd);
    return rc ? err_set(e, -rc, "image '%s' cannot be written: %s", o->path, strerror(-rc)) : 0;
}

static int luks_create(const struct blk_create_opts *o, struct err *e)
{
    struct qcow2_options opt = { 0 };
    uint8_t *header = NULL;
    uint64_t len;
    int rc = luks_options(o->options, &opt, e);

    if (!rc && o->backing)
        rc = err_set(e, EINVAL,
                     "image '%s': a LUKS image has no backing file; -f qcow2 --encrypt can",
                     o->path);
    len = qcow2_luks_header_len(&opt.luks);
    if (!rc) {
        header = malloc(len);
        rc = header ? qcow2_luks_format(&opt.luks, o->passphrase, header, e)
                    : err_set(e, ENOMEM, "out of memory");
    }
    if (!rc)
        rc = luks_create_file(o, header, len, e);
    free(header);
    return rc;
}

const struct blk_ops blk_luks_ops = {
    .format = "luks",
    .open = luks_open,
    .close = luks_close,
    .submit = luks_submit,
    .status = luks_status,
    .info = luks_info,
    .truncate = luks_truncate,
    .create = luks_create,
};
