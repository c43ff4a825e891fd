/*
 * rbd.c: an image in a Ceph cluster, rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:NAME=VALUE...], through librbd, which
 * is loaded when the first such disk is opened. The names are Ceph's options (mon_host, keyring, ...), and id
 * (of the user) and conf (the file of the cluster; /etc/ceph/ceph.conf), as in QEMU. A backslash takes the meaning
 * off the next character.
 *
 * Completions come on librbd's threads.
 */
#include <errno.h>
#include <rados/librados.h>
#include <rbd/librbd.h>
#include <string.h>

#include "block/formats.h"
#include "block/remote.h"

#define RADOS_FUNCTIONS(F)                                                                         \
    F(rados_create)                                                                                \
    F(rados_conf_read_file)                                                                        \
    F(rados_conf_set)                                                                              \
    F(rados_connect)                                                                               \
    F(rados_ioctx_create)                                                                          \
    F(rados_ioctx_set_namespace)                                                                   \
    F(rados_ioctx_destroy)                                                                         \
    F(rados_shutdown)
#define RBD_FUNCTIONS(F)                                                                           \
    F(rbd_open)                                                                                    \
    F(rbd_open_read_only)                                                                          \
    F(rbd_close)                                                                                   \
    F(rbd_get_size)                                                                                \
    F(rbd_aio_create_completion)                                                                   \
    F(rbd_aio_readv)                                                                               \
    F(rbd_aio_writev)                                                                              \
    F(rbd_aio_flush)                                                                               \
    F(rbd_aio_discard)                                                                             \
    F(rbd_aio_write_zeroes)                                                                        \
    F(rbd_aio_get_return_value)                                                                    \
    F(rbd_aio_release)

struct rbd_lib {
    void *rados, *rbd; /* for dlclose() */
#define RBD_POINTER(name) __typeof__(name) *name;
    RADOS_FUNCTIONS(RBD_POINTER)
    RBD_FUNCTIONS(RBD_POINTER)
#undef RBD_POINTER
};

/* The parts of the name, all in one copy of it. */
struct rbd_name {
    char *copy, *pool, *namespace, *image, *snapshot, *options;
};

struct rbd_disk {
    struct remote remote;
    struct rbd_lib lib;
    struct rbd_name name;
    rados_t cluster;
    rados_ioctx_t pool;
    rbd_image_t image;
};

/* --- the name --- */

/* Cuts *rest at the first of the separators that no backslash guards; *found: which one, or 0. */
static char *rbd_cut(char **rest, const char *separators, char *found)
{
    char *start = *rest, *from = start, *to = start;

    while (*from && !strchr(separators, *from)) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from++;
    }
    *found = *from;
    *rest = *from ? from + 1 : from;
    *to = '\0';
    return start;
}

static int rbd_parse(struct rbd_name *n, const char *path, struct err *e)
{
    char *rest, end;

    n->copy = rest = strdup(path + strlen("rbd:"));
    if (!rest)
        return err_set(e, ENOMEM, "out of memory");
    n->pool = rbd_cut(&rest, "/:@", &end);
    if (end == '/')
        n->image = rbd_cut(&rest, "/:@", &end);
    if (end == '/') {
        n->namespace = n->image;
        n->image = rbd_cut(&rest, ":@", &end);
    }
    if (end == '@')
        n->snapshot = rbd_cut(&rest, ":", &end);
    n->options = rest;
    if (!*n->pool || !n->image || !*n->image)
        return err_set(
            e, EINVAL,
            "disk '%s': write it as rbd:POOL/IMAGE, with :id=USER:conf=FILE behind it if need be",
            path);
    return 0;
}

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
    int rc = d->lib.rbd_aio_create_completion(op, rbd_completed, &c);

    if (rc < 0)
        return rc;
    if (op->flushing || r->op == BLK_FLUSH)
        rc = d->lib.rbd_aio_flush(d->image, c);
    else if (r->op == BLK_READ)
        rc = d->lib.rbd_aio_readv(d->image, r->iov, r->niov, r->off, c);
    else if (r->op == BLK_WRITE)
        rc = d->lib.rbd_aio_writev(d->image, r->iov, r->niov, r->off, c);
    else if (r->op == BLK_DISCARD)
        rc = d->lib.rbd_aio_discard(d->image, r->off, r->len, c);
    else
        rc = d->lib.rbd_aio_write_zeroes(
            d->image, r->off, r->len, c,
            r->flags & BLK_F_UNMAP ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION, 0);
    if (rc < 0)
        d->lib.rbd_aio_release(c);
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
    ssize_t rc = op->d->lib.rbd_aio_get_return_value(completion);
    bool write = op->r->op == BLK_WRITE || op->r->op == BLK_WRITE_ZEROES;

    op->d->lib.rbd_aio_release(completion);
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

/* --- opening --- */

static int rbd_load(struct rbd_lib *lib, const char *disk, struct err *e)
{
#define RBD_SYMBOL(name) { #name, &lib->name },
    const struct remote_symbol rados[] = { RADOS_FUNCTIONS(RBD_SYMBOL) };
    const struct remote_symbol rbd[] = { RBD_FUNCTIONS(RBD_SYMBOL) };
#undef RBD_SYMBOL

    lib->rados = remote_load("librados.so.2", "librados2", disk, rados, ARRAY_SIZE(rados), e);
    if (!lib->rados)
        return -ENOENT;
    lib->rbd = remote_load("librbd.so.1", "librbd1", disk, rbd, ARRAY_SIZE(rbd), e);
    return lib->rbd ? 0 : -ENOENT;
}

/* The options behind the image's name that start with `name` (id, conf) or that are none of these (NULL). */
static int rbd_option(struct rbd_disk *d, char *option, struct err *e)
{
    char *value = strchr(option, '=');

    if (!value)
        return err_set(e, EINVAL, "rbd: what is \"%s\"? Options are written NAME=VALUE", option);
    *value++ = '\0';
    if (!strcmp(option, "conf") || !strcmp(option, "id"))
        return 0; /* seen before */
    if (d->lib.rados_conf_set(d->cluster, option, value) < 0)
        return err_set(e, EINVAL, "rbd: Ceph does not take %s=%s", option, value);
    return 0;
}

/* The value of an option that is needed before the others, or NULL; a copy. */
static char *rbd_find(const char *options, const char *name)
{
    char *copy = strdup(options), *rest = copy, *value = NULL, end;
    size_t n = strlen(name);

    while (copy && *rest && !value) {
        const char *option = rbd_cut(&rest, ":", &end);

        if (!strncmp(option, name, n) && option[n] == '=')
            value = strdup(option + n + 1);
    }
    free(copy);
    return value;
}

static int rbd_configure(struct rbd_disk *d, const char *path, struct err *e)
{
    char *id = rbd_find(d->name.options, "id"), *conf = rbd_find(d->name.options, "conf"), end;
    char *rest = d->name.options;
    int rc = d->lib.rados_create(&d->cluster, id);

    if (rc < 0) {
        d->cluster = NULL;
        err_set(e, -rc, "disk '%s': Ceph cannot be used: %s", path, strerror(-rc));
    } else {
        rc = d->lib.rados_conf_read_file(d->cluster, conf);
        if (rc < 0 && !conf)
            rc = 0; /* there may be none: the options say it all */
        if (rc < 0)
            err_set(e, -rc, "disk '%s': Ceph's configuration %s cannot be read: %s", path, conf,
                    strerror(-rc));
    }
    while (rc >= 0 && *rest)
        rc = rbd_option(d, rbd_cut(&rest, ":", &end), e);
    free(id);
    free(conf);
    return rc < 0 ? rc : 0;
}

static int rbd_connect(struct rbd_disk *d, const struct blk_opts *o, struct err *e)
{
    const struct rbd_name *n = &d->name;
    int rc = d->lib.rados_connect(d->cluster);

    if (rc < 0)
        return err_set(e, -rc, "disk '%s': the Ceph cluster cannot be reached: %s", o->path,
                       strerror(-rc));
    rc = d->lib.rados_ioctx_create(d->cluster, n->pool, &d->pool);
    if (rc < 0) {
        d->pool = NULL;
        return err_set(e, -rc, "disk '%s': the pool %s cannot be used: %s", o->path, n->pool,
                       strerror(-rc));
    }
    if (n->namespace)
        d->lib.rados_ioctx_set_namespace(d->pool, n->namespace);
    rc = o->readonly || n->snapshot
             ? d->lib.rbd_open_read_only(d->pool, n->image, &d->image, n->snapshot)
             : d->lib.rbd_open(d->pool, n->image, &d->image, NULL);
    if (rc < 0) {
        d->image = NULL;
        return err_set(e, -rc, "disk '%s': the image %s cannot be opened: %s", o->path, n->image,
                       strerror(-rc));
    }
    return 0;
}

static void rbd_free(struct rbd_disk *d)
{
    if (d->image)
        d->lib.rbd_close(d->image);
    if (d->pool)
        d->lib.rados_ioctx_destroy(d->pool);
    if (d->cluster)
        d->lib.rados_shutdown(d->cluster);
    remote_fini(&d->remote);
    free(d->name.copy);
    /* Ceph's libraries leave threads behind that do not survive their code: no dlclose(). */
    free(d);
}

static int rbd_open_disk(struct rbd_disk *d, const struct blk_opts *o, uint64_t *size,
                         struct err *e)
{
    int rc = rbd_parse(&d->name, o->path, e);

    if (!rc && d->name.snapshot && !o->readonly)
        rc = err_set(e, EROFS, "disk '%s' is a snapshot: add ,readonly", o->path);
    if (!rc)
        rc = rbd_load(&d->lib, o->path, e);
    if (!rc)
        rc = remote_init(&d->remote, o->loop, e);
    if (!rc)
        rc = rbd_configure(d, o->path, e);
    if (!rc)
        rc = rbd_connect(d, o, e);
    if (!rc && d->lib.rbd_get_size(d->image, size) < 0)
        rc = err_set(e, EIO, "disk '%s': its size cannot be found out", o->path);
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

const struct blk_ops blk_rbd_ops = {
    .format = "rbd",
    .open = rbd_disk_open,
    .close = rbd_disk_close,
    .submit = rbd_submit,
    .wait = rbd_wait,
};
