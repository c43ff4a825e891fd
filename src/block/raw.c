/*
 * raw.c: the bytes of the file are the bytes of the disk. A file whose size is no multiple of a sector is
 * a disk rounded up to one: file.c reads zeros beyond the end and lets a write there extend the file.
 *
 * Where the format was not said but found out, a guest could write the header of another one into its disk, and
 * have the next start open a "backing file" of its choice. Such a write is refused (QEMU does the same).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/iov.h"
#include "base/log.h"
#include "block/file_impl.h"
#include "block/formats.h"
#include "block/remote.h"

enum { RAW_HEAD = 4096 };

struct raw {
    bool probed;
    atomic_bool refused; /* it has been said */
};

/* A write to the start of a probed disk: what tells formats apart is in memory that the guest cannot change. */
struct raw_head {
    struct blk_req req, *of;
    char data[RAW_HEAD];
    struct iovec iov[];
};

static int raw_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct raw *raw = calloc(1, sizeof(*raw));

    if (!raw)
        return err_set(e, ENOMEM, "out of memory");
    raw->probed = !o->format;
    b->size = align_up(b->child->size, BLK_SECTOR);
    b->priv = raw;
    return 0;
}

static void raw_close(struct blk *b)
{
    free(b->priv);
}

static void raw_head_done(struct blk_req *req, int err)
{
    struct raw_head *h = container_of(req, struct raw_head, req);
    struct blk_req *r = h->of;

    free(h);
    blk_done(r, err);
}

/* Once: the guest can do it as often as it likes. */
static void raw_refuse(struct blk *b, struct blk_req *r)
{
    struct raw *raw = b->priv;

    if (!atomic_exchange(&raw->refused, true))
        log_warn(
            "block",
            "disk '%s': the guest wants to write another image format's header to its start, which "
            "is refused: the next start would take it for such an image (format=raw allows it)",
            b->path);
    blk_done_later(r, -EPERM);
}

static void raw_write_head(struct blk *b, struct blk_req *r)
{
    struct raw_head *h = malloc(sizeof(*h) + ((size_t)r->niov + 1) * sizeof(h->iov[0]));
    size_t n = min_u64(r->len, sizeof(h->data));

    if (!h) {
        blk_done_later(r, -ENOMEM);
        return;
    }
    iov_copy_from(r->iov, (unsigned)r->niov, 0, h->data, n);
    if (blk_format_probe(h->data, n) != &blk_raw_ops) {
        free(h);
        raw_refuse(b, r);
        return;
    }
    h->of = r;
    h->iov[0] = (struct iovec){ h->data, n };
    h->req = (struct blk_req){ .op = BLK_WRITE,
                               .flags = r->flags & (BLK_F_FUA | BLK_F_MORE),
                               .len = r->len,
                               .iov = h->iov,
                               .done = raw_head_done };
    h->req.niov = 1 + (int)iov_slice(h->iov + 1, r->iov, (unsigned)r->niov, n, r->len - n);
    blk_submit(b->child, &h->req);
}

static void raw_submit(struct blk *b, struct blk_req *r)
{
    const struct raw *raw = b->priv;

    if (raw->probed && !r->off && r->op == BLK_WRITE)
        raw_write_head(b, r);
    else
        b->child->ops->submit(b->child, r);
}

static int raw_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    int rc = b->child->ops->truncate
                 ? b->child->ops->truncate(b->child, size, prealloc, e)
                 : err_set(e, EOPNOTSUPP, "disk '%s' cannot get another size", b->path);

    if (!rc)
        b->size = align_up(b->child->size, BLK_SECTOR);
    return rc;
}

static int raw_create_prealloc(const struct blk_create_opts *o, enum blk_prealloc *p, struct err *e)
{
    static const char key[] = "preallocation=";
    static const char *const modes[] = { "off", NULL, "falloc", "full" };

    *p = BLK_PREALLOC_OFF;
    for (size_t i = 0; o->options && o->options[i]; i++) {
        const char *value = o->options[i] + sizeof(key) - 1;
        size_t m = 0;

        if (!strncmp(o->options[i], "size=", 5))
            continue;
        if (strncmp(o->options[i], key, sizeof(key) - 1))
            return err_set(e, EINVAL,
                           "option '%s': a raw image knows only preallocation=", o->options[i]);
        while (m < ARRAY_SIZE(modes) && (!modes[m] || strcmp(modes[m], value)))
            m++;
        if (m == ARRAY_SIZE(modes))
            return err_set(e, EINVAL, "preallocation '%s': a raw image knows off, falloc, full",
                           value);
        *p = (enum blk_prealloc)m;
    }
    return 0;
}

static int raw_create(const struct blk_create_opts *o, struct err *e)
{
    const struct blk_ops *remote = remote_find(o->path);
    enum blk_prealloc prealloc;
    int fd, rc;

    if (o->backing)
        return err_set(e, EINVAL, "image '%s': a raw image has no backing file; -f qcow2 can",
                       o->path);
    rc = raw_create_prealloc(o, &prealloc, e);
    if (rc)
        return rc;
    if (remote && remote->create && prealloc == BLK_PREALLOC_OFF)
        return remote->create(o, e);
    fd = blk_create_file(o->path, e);
    if (fd < 0)
        return fd;
    rc = file_map_resize(fd, 0, o->size, prealloc);
    if (rc)
        err_set(e, -rc, "image '%s' cannot get its size: %s", o->path, strerror(-rc));
    close(fd);
    return rc;
}

const struct blk_ops blk_raw_ops = {
    .format = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .truncate = raw_truncate,
    .create = raw_create,
};
