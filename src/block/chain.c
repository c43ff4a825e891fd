/*
 * chain.c: what concerns a whole stack of disks and the files they are in: backing files, block status
 * through all layers, information, resizing, making new images: see block.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_lock.h"
#include "block/formats.h"
#include "block/remote.h"

/* --- names --- */

/* "nbd://...", "rbd:...": a name that is no path. */
static bool chain_has_scheme(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

    return n && name[n] == ':';
}

/* The file name in QEMU's long form, json:{"driver":"qcow2","file":{"driver":"file","filename":"..."}}; or NULL. */
static char *chain_json_name(const char *text)
{
    json_t *top = json_loads(text, 0, NULL), *at = top, *name = NULL;
    char *copy;

    for (int depth = 0; at && !name && depth < 4; depth++) {
        name = json_object_get(at, "filename");
        if (!name)
            name = json_object_get(at, "file.filename");
        at = json_object_get(at, "file");
    }
    copy = json_is_string(name) ? strdup(json_string_value(name)) : NULL;
    json_decref(top);
    return copy;
}

static char *chain_resolve_json(const char *path, const char *name)
{
    char *inner = chain_json_name(name + 5), *full;

    if (!inner || !strncmp(inner, "json:", 5)) {
        free(inner);
        return strdup(name);
    }
    full = blk_resolve(path, inner);
    free(inner);
    return full;
}

char *blk_resolve(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t dir = slash ? (size_t)(slash + 1 - path) : 0, n = strlen(name);
    char *full;

    if (!strncmp(name, "json:", 5))
        return chain_resolve_json(path, name);
    if (!strncmp(name, "file://", 7))
        return strdup(name + 7);
    if (!strncmp(name, "file:", 5))
        return blk_resolve(path, name + 5);
    if (!dir || *name == '/' || chain_has_scheme(name))
        return strdup(name);
    full = malloc(dir + n + 1);
    if (full) {
        memcpy(full, path, dir);
        memcpy(full + dir, name, n + 1);
    }
    return full;
}

/* --- backing files --- */

static bool chain_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    if (!strcmp(a, b))
        return true;
    return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int chain_check(const struct blk *b, const char *path, struct err *e)
{
    unsigned depth = 0;

    for (; b; b = b->above) {
        if (chain_same_file(b->path, path))
            return err_set(e, ELOOP,
                           "disk '%s' is, through its backing files, based on itself: the chain is "
                           "damaged, `ruche image rebase -u` mends it",
                           b->path);
        if (++depth >= BLK_MAX_DEPTH)
            return err_set(e, ELOOP, "disk '%s': more than %d backing files below each other",
                           b->path, (int)BLK_MAX_DEPTH);
    }
    return 0;
}

int blk_open_backing(struct blk *b, const struct blk_opts *o, const char *name, const char *format,
                     struct err *e)
{
    struct blk_opts below = { .readonly = !o->backing_write,
                              .no_uring = o->no_uring,
                              .share = o->share,
                              .loop = o->loop,
                              .timeout_ms = o->timeout_ms,
                              .cancel_fd = o->cancel_fd,
                              .cache =
                                  o->cache == BLK_CACHE_NONE || o->cache == BLK_CACHE_DIRECTSYNC
                                      ? BLK_CACHE_NONE
                                      : BLK_CACHE_WRITEBACK,
                              .passphrase = o->passphrase,
                              .above = b };
    char *path;
    int rc;

    if (o->no_backing)
        return 0;
    if (o->fd)
        return err_set(
            e, ENOTSUP,
            "disk '%s' is based on another image ('%s'), which a VM that runs may not open: "
            "`ruche image convert` makes one image of both",
            b->path, name);
    path = o->backing ? strdup(o->backing) : blk_resolve(b->path, name);
    if (!path)
        return err_set(e, ENOMEM, "out of memory");
    below.path = path;
    below.format = o->backing && o->backing_format ? o->backing_format : format;
    rc = chain_check(b, path, e);
    if (!rc) {
        b->backing = blk_open(&below, e);
        if (!b->backing)
            rc = err_prefix(e, "the backing file of disk '%s'", b->path);
    }
    free(path);
    return rc;
}

/* --- what is where --- */

/* The file's own answer, for what has no mapping: the same place in the file below. */
static int chain_status_below(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    if (b->child && b->child->ops->status)
        return b->child->ops->status(b->child, off, len, x);
    *x = (struct blk_extent){ .len = len, .flags = BLK_X_ALLOCATED | BLK_X_DATA, .layer = b };
    return 0;
}

static int chain_status_one(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    *x = (struct blk_extent){ .len = len, .layer = b };
    return b->ops->status ? b->ops->status(b, off, len, x) : chain_status_below(b, off, len, x);
}

int blk_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    uint64_t left = len;

    b = blk_image(b);
    if (!len || off >= b->size || len > b->size - off)
        return -EINVAL;
    for (unsigned depth = 0;; depth++, b = b->backing) {
        int rc = 0;

        if (off >= b->size) /* shorter than the layers above */
            *x = (struct blk_extent){ .len = left, .flags = BLK_X_ZERO, .layer = b };
        else
            rc = chain_status_one(b, off, min_u64(left, b->size - off), x);
        x->depth = depth;
        left = x->len;
        if (rc || (x->flags & BLK_X_ALLOCATED))
            return rc;
        if (off >= b->size || !b->backing)
            break;
    }
    x->flags = BLK_X_ZERO;
    x->depth = 0;
    return 0;
}

void blk_info(struct blk *b, struct blk_info *i)
{
    *i = (struct blk_info){ 0 };
    b = blk_image(b);
    if (b->ops->info)
        b->ops->info(b, i);
}

/* --- sizes and new images --- */

int blk_resize(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    struct blk *image = blk_image(b);
    int rc;

    if (b->readonly)
        return err_set(e, EROFS, "disk '%s' is open read-only and cannot get another size",
                       b->path);
    if (!image->ops->truncate)
        return err_set(e, EOPNOTSUPP, "disk '%s': the size of a %s image cannot be changed",
                       b->path, image->ops->format);
    if (size % BLK_SECTOR || size > INT64_MAX - BLK_SECTOR)
        return err_set(e, EINVAL, "disk '%s': a size is a multiple of %d bytes below 8 EiB",
                       b->path, (int)BLK_SECTOR);
    rc = image->ops->truncate(image, size, prealloc, e);
    for (; !rc && b != image; b = b->child)
        b->size = atomic_load(&image->size);
    return rc;
}

int blk_create(const struct blk_create_opts *o, struct err *e)
{
    const char *format = o->format ? o->format : "raw";
    const struct blk_ops *ops = blk_format_find(format);

    if (!ops)
        return err_set(e, EINVAL, "there is no format '%s'; known are: %s", format,
                       blk_format_names());
    if (!ops->create)
        return err_set(e, EOPNOTSUPP, "images of format '%s' can be read but not made", format);
    if (o->size > INT64_MAX - BLK_SECTOR)
        return err_set(e, EFBIG, "image '%s': the size is too large", o->path);
    return ops->create(o, e);
}

int blk_create_file(const char *path, struct err *e)
{
    struct stat st;
    int fd, rc = 0;

    if (remote_find(path))
        return err_set(
            e, ENOTSUP,
            "image '%s': on a server, only raw images can be made, and on NBD servers none: "
            "write into what is there with `ruche image convert -n`",
            path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (fd < 0)
        return err_set(e, errno, "image '%s' cannot be made: %s", path, strerror(errno));
    if (fstat(fd, &st))
        rc = err_set(e, errno, "image '%s': %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        rc = err_set(e, EINVAL, "image '%s' is neither a file nor a block device", path);
    if (!rc)
        rc = file_lock(fd, path, true, e);
    if (!rc && S_ISREG(st.st_mode) && ftruncate(fd, 0))
        rc = err_set(e, errno, "image '%s' cannot be emptied: %s", path, strerror(errno));
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}
