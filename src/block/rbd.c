/*
 * rbd.c: an image in a Ceph cluster, rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:NAME=VALUE...], through librbd, which
 * is loaded when the first such disk is opened. The names are Ceph's options (mon_host, keyring, ...), and id
 * (of the user) and conf (the file of the cluster; /etc/ceph/ceph.conf), as in QEMU. A backslash takes the meaning
 * off the next character.
 *
 * Completions come on librbd's threads.
 */
#include <errno.h>
#include <string.h>

#include "block/formats.h"
#include "block/rbd_priv.h"

struct rbd_disk {
    struct remote remote;
    struct rbd_link link;
    rbd_image_t image;
    uint64_t object; /* bytes of the objects that it is made of; 0: it has no map of them */
};

/* --- requests --- */

struct rbd_op {
    struct rbd_disk *d;
    struct blk_req *r;
    bool flushing; /* the flush behind a write that has to be stable */
};

static void rbd_completed(rbd_completion_t completion, void *opaque);

static int rbd_start(struct rbd_op *op)
{
    struct rbd_disk *d = op->d;
    struct blk_req *r = op->r;
    rbd_completion_t c;
    int rc = d->link.lib.rbd_aio_create_completion(op, rbd_completed, &c);

    if (rc < 0)
        return rc;
    if (op->flushing || r->op == BLK_FLUSH)
        rc = d->link.lib.rbd_aio_flush(d->image, c);
    else if (r->op == BLK_READ)
        rc = d->link.lib.rbd_aio_readv(d->image, r->iov, r->niov, r->off, c);
    else if (r->op == BLK_WRITE)
        rc = d->link.lib.rbd_aio_writev(d->image, r->iov, r->niov, r->off, c);
    else if (r->op == BLK_DISCARD)
        rc = d->link.lib.rbd_aio_discard(d->image, r->off, r->len, c);
    else
        rc = d->link.lib.rbd_aio_write_zeroes(
            d->image, r->off, r->len, c,
            r->flags & BLK_F_UNMAP ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION, 0);
    if (rc < 0)
        d->link.lib.rbd_aio_release(c);
    return rc;
}

static void rbd_end(struct rbd_op *op, int err)
{
    struct remote *remote = &op->d->remote;
    struct blk_req *r = op->r;

    free(op);
    remote_done(remote, r, err);
}

static void rbd_completed(rbd_completion_t completion, void *opaque)
{
    struct rbd_op *op = opaque;
    ssize_t rc = op->d->link.lib.rbd_aio_get_return_value(completion);
    bool write = op->r->op == BLK_WRITE || op->r->op == BLK_WRITE_ZEROES;

    op->d->link.lib.rbd_aio_release(completion);
    if (rc >= 0 && write && (op->r->flags & BLK_F_FUA) && !op->flushing) {
        op->flushing = true;
        rc = rbd_start(op);
        if (rc >= 0)
            return;
    }
    rbd_end(op, rc < 0 ? (int)rc : 0);
}

static void rbd_submit(struct blk *b, struct blk_req *r)
{
    struct rbd_disk *d = b->priv;
    struct rbd_op *op = calloc(1, sizeof(*op));
    int rc;

    if (!op) {
        remote_done(&d->remote, r, -ENOMEM);
        return;
    }
    op->d = d;
    op->r = r;
    rc = rbd_start(op);
    if (rc < 0)
        rbd_end(op, rc);
}

static void rbd_wait(struct blk *b)
{
    remote_wait(&((struct rbd_disk *)b->priv)->remote);
}

/* --- what is where --- */

enum { RBD_FOUND = -9000 }; /* not an errno: ends the search */

struct rbd_search {
    uint64_t off;        /* where we want to know it */
    uint64_t start, end; /* the first run of objects that ends behind it */
};

static int rbd_found(uint64_t off, size_t len, int exists, void *opaque)
{
    struct rbd_search *s = opaque;

    if (!exists || off + len <= s->off)
        return 0;
    if (s->end && off != s->end)
        return RBD_FOUND;
    if (!s->end)
        s->start = off;
    s->end = off + len;
    return 0;
}

/*
 * The map of objects tells which of them there are. Before 2022 librbd gave wrong answers to questions that do not
 * begin with an object.
 */
static int rbd_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    struct rbd_disk *d = b->priv;
    struct rbd_search s = { .off = off };
    uint64_t from;
    int rc;

    *x = (struct blk_extent){ .len = len, .flags = BLK_X_ALLOCATED | BLK_X_DATA, .layer = b };
    if (!d->object)
        return 0;
    from = off - off % d->object;
    rc = d->link.lib.rbd_diff_iterate2(d->image, NULL, from, off + len - from, true, true,
                                       rbd_found, &s);
    if (rc < 0 && rc != RBD_FOUND)
        return 0; /* it has to be read */
    if (s.end && s.start <= off) {
        x->len = min_u64(len, s.end - off);
    } else {
        x->flags = BLK_X_ALLOCATED | BLK_X_ZERO;
        x->len = s.end ? min_u64(len, s.start - off) : len;
    }
    return 0;
}

/* Only with its map: without it, each object would be asked for. */
static void rbd_find_map(struct rbd_disk *d)
{
    const struct rbd_lib *lib = &d->link.lib;
    uint64_t features, flags;
    rbd_image_info_t info;

    if (lib->rbd_get_features(d->image, &features) < 0 ||
        lib->rbd_get_flags(d->image, &flags) < 0 ||
        lib->rbd_stat(d->image, &info, sizeof(info)) < 0)
        return;
    if ((features & RBD_FEATURE_FAST_DIFF) && !(flags & RBD_FLAG_FAST_DIFF_INVALID))
        d->object = info.obj_size;
}

/* --- opening --- */

static void rbd_free(struct rbd_disk *d)
{
    if (d->image)
        d->link.lib.rbd_close(d->image);
    rbd_link_close(&d->link);
    remote_fini(&d->remote);
    free(d);
}

static int rbd_open_disk(struct rbd_disk *d, const struct blk_opts *o, uint64_t *size,
                         struct err *e)
{
    int rc = remote_init(&d->remote, o->loop, e);

    if (!rc)
        rc = rbd_link_open(&d->link, o->path, e);
    if (!rc && d->link.name.snapshot && !o->readonly)
        rc = err_set(e, EROFS, "disk '%s' is a snapshot, which never changes: add ,readonly",
                     o->path);
    if (!rc)
        rc = rbd_link_image(&d->link, o->path, o->readonly, &d->image, e);
    if (!rc && d->link.lib.rbd_get_size(d->image, size) < 0)
        rc = err_set(e, EIO, "disk '%s': its size cannot be found out", o->path);
    if (!rc)
        rbd_find_map(d);
    return rc;
}

static int rbd_disk_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct rbd_disk *d = calloc(1, sizeof(*d));
    uint64_t size = 0;
    int rc;

    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    d->remote.event_fd = -1;
    rc = rbd_open_disk(d, o, &size, e);
    if (rc) {
        rbd_free(d);
        return rc;
    }
    b->size = size;
    b->priv = d;
    return 0;
}

static void rbd_disk_close(struct blk *b)
{
    rbd_free(b->priv);
}

static int rbd_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    const struct rbd_disk *d = b->priv;
    int rc;

    if (prealloc != BLK_PREALLOC_OFF)
        return err_set(e, ENOTSUP, "disk '%s': Ceph takes space when it is written to", b->path);
    rc = d->link.lib.rbd_resize(d->image, size);
    if (rc < 0)
        return err_set(e, -rc, "disk '%s' cannot get another size: %s", b->path, strerror(-rc));
    b->size = size;
    return 0;
}

static int rbd_disk_create(const struct blk_create_opts *o, struct err *e)
{
    struct rbd_link l = { 0 };
    int rc = rbd_link_open(&l, o->path, e);

    if (!rc)
        rc = rbd_link_create(&l, o->path, o->size, e);
    rbd_link_close(&l);
    return rc;
}

const struct blk_ops blk_rbd_ops = {
    .format = "rbd",
    .open = rbd_disk_open,
    .close = rbd_disk_close,
    .submit = rbd_submit,
    .wait = rbd_wait,
    .status = rbd_status,
    .truncate = rbd_truncate,
    .create = rbd_disk_create,
};
