/*
 * foreign.c: opening images that are only read, and what is where in them; see foreign.h.
 */
#include "block/foreign.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int foreign_bad(const struct foreign *f, struct err *e, const char *fmt, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_set(e, EINVAL, "disk '%s' is damaged: %s", f->path, what);
}

int foreign_unsupported(const struct foreign *f, struct err *e, const char *fmt, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_set(e, ENOTSUP, "disk '%s' %s", f->path, what);
}

int foreign_pread(const struct foreign *f, unsigned file, uint64_t off, void *buf, size_t len,
                  struct err *e)
{
    struct blk *b = f->file[file];
    int rc;

    if (off > b->size || len > b->size - off)
        return foreign_bad(f, e, "it ends before byte %llu, where more should be",
                           (unsigned long long)off);
    rc = blk_read_sync(b, off, buf, len);
    return rc ? err_set(e, -rc, "disk '%s' cannot be read: %s", f->path, strerror(-rc)) : 0;
}

void *foreign_load(const struct foreign *f, unsigned file, uint64_t off, uint64_t len,
                   const char *what, struct err *e)
{
    uint64_t size = f->file[file]->size;
    void *buf;

    if (!len || off > size || len > size - off) {
        foreign_bad(f, e, "its %s lies outside of the file", what);
        return NULL;
    }
    if (len > FOREIGN_MAX_TABLES) {
        foreign_unsupported(f, e, "has a %s of %llu bytes: that is too large", what,
                            (unsigned long long)len);
        return NULL;
    }
    buf = malloc(len);
    if (!buf)
        return err_oom(e);
    if (!foreign_pread(f, file, off, buf, len, e))
        return buf;
    free(buf);
    return NULL;
}

/*
 * A file that an image names must lie beside it: images come from others, and what they name would be read
 * with our rights and shown to the guest.
 */
static bool foreign_is_beside(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

int foreign_add_file(struct foreign *f, const char *name, struct err *e)
{
    struct blk_opts o = { .format = "raw", .readonly = true, .loop = f->loop };
    struct blk **all;
    char *path;

    if (!foreign_is_beside(name))
        return foreign_unsupported(
            f, e,
            "names '%s', which is in another folder, and is not followed there: "
            "put that file beside it and change the name in the description",
            name);
    if (f->fixed)
        return foreign_unsupported(f, e,
                                   "consists of several files, which a VM that runs may not open: "
                                   "`ruche image convert` makes "
                                   "one image of them");
    all = realloc(f->file, (f->n_files + 1) * sizeof(*all));
    if (!all)
        return err_set(e, ENOMEM, "out of memory");
    f->file = all;
    path = blk_resolve(f->path, name);
    if (!path)
        return err_set(e, ENOMEM, "out of memory");
    o.path = path;
    all[f->n_files] = blk_open(&o, e);
    free(path);
    if (!all[f->n_files])
        return -EINVAL;
    f->n_files++;
    return 0;
}

/* --- the driver --- */

static const struct foreign_format *foreign_format_of(const struct blk *b)
{
    return container_of(b->ops, struct foreign_format, blk);
}

static void foreign_free(const struct foreign_format *format, struct foreign *f)
{
    foreign_io_destroy(f);
    format->close(f);
    for (unsigned i = 1; i < f->n_files; i++) /* the first is the child */
        blk_close(f->file[i]);
    free(f->file);
    free(f->backing);
    free(f);
}

static int foreign_start(struct blk *b, struct foreign *f, const struct blk_opts *o, struct err *e)
{
    int rc = foreign_format_of(b)->open(f, e);

    if (!rc && f->size > INT64_MAX - BLK_SECTOR)
        rc = foreign_bad(f, e, "no disk is as large as it says");
    if (!rc && f->backing)
        rc = blk_open_backing(b, o, f->backing, f->backing_format, e);
    if (!rc && b->backing && b->backing->ops == b->ops && foreign_format_of(b)->parent)
        rc = foreign_format_of(b)->parent(f, b->backing->priv, e);
    return rc ? rc : foreign_io_create(b, f, e);
}

int foreign_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct foreign *f;
    int rc;

    if (!b->readonly)
        return err_set(e, EROFS,
                       "disk '%s' is a %s image, which can only be read: add ,readonly, or make a "
                       "disk of it with `ruche image convert -O qcow2`",
                       o->path, b->ops->format);
    f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, ENOMEM, "out of memory");
    f->path = b->path;
    f->loop = o->loop;
    f->alone = o->no_backing;
    f->fixed = o->fd != 0;
    f->file = malloc(sizeof(struct blk *));
    if (!f->file) {
        free(f);
        return err_set(e, ENOMEM, "out of memory");
    }
    f->file[0] = b->child;
    f->n_files = 1;
    rc = foreign_start(b, f, o, e);
    if (rc) {
        foreign_free(foreign_format_of(b), f);
        return rc;
    }
    b->priv = f;
    b->size = f->size;
    return 0;
}

void foreign_close(struct blk *b)
{
    foreign_free(foreign_format_of(b), b->priv);
}

/* Does y, which is at x->len behind x, go on where x ends? */
static bool foreign_goes_on(const struct foreign_extent *x, const struct foreign_extent *y)
{
    if (x->kind != y->kind || x->kind == FOREIGN_PACKED)
        return false;
    return x->kind != FOREIGN_DATA || (x->file == y->file && x->host_off + x->len == y->host_off);
}

void foreign_map(const struct blk *b, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    const struct foreign_format *format = foreign_format_of(b);
    const struct foreign *f = b->priv;
    struct foreign_extent y;

    format->map(f, off, len, x);
    while (x->len < len) {
        format->map(f, off + x->len, len - x->len, &y);
        if (!foreign_goes_on(x, &y))
            return;
        x->len += y.len;
    }
    x->len = len;
}

/* Below the driver of raw images, which changes nothing. */
static const struct blk *foreign_file(const struct foreign *f, unsigned i)
{
    return f->file[i]->child ? f->file[i]->child : f->file[i];
}

int foreign_unpack(struct blk *b, const struct blk_extent *x, const void *in, void *out)
{
    const struct foreign *f = b->priv;
    struct foreign_extent unit = { .kind = FOREIGN_PACKED, .len = x->len };

    while (unit.file < f->n_files && foreign_file(f, unit.file) != x->layer)
        unit.file++;
    return foreign_format_of(b)->unpack(f, &unit, in, x->packed_len, out);
}

/* A unit of which only a part is asked for, or there, is not to be had this way. */
static void foreign_status_packed(struct blk *b, const struct foreign_extent *x,
                                  struct blk_extent *out)
{
    const struct foreign *f = b->priv;
    const struct blk *file = foreign_file(f, x->file);

    if (x->skip || x->len != f->unit || x->host_off >= file->size)
        return;
    out->host_off = x->host_off;
    out->packed_len = (uint32_t)min_u64(x->host_len, file->size - x->host_off);
    out->packer = b;
    out->layer = file;
}

int foreign_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
    static const unsigned flags[] = {
        [FOREIGN_ZERO] = BLK_X_ALLOCATED | BLK_X_ZERO,
        [FOREIGN_DATA] = BLK_X_ALLOCATED | BLK_X_DATA | BLK_X_OFFSET,
        [FOREIGN_PACKED] = BLK_X_ALLOCATED | BLK_X_DATA | BLK_X_COMPRESSED,
        [FOREIGN_PARENT] = 0,
    };
    const struct foreign *f = b->priv;
    struct foreign_extent x;
    const struct blk *file;

    foreign_map(b, off, len, &x);
    out->flags = flags[x.kind];
    out->len = x.len;
    if (x.kind == FOREIGN_PACKED)
        foreign_status_packed(b, &x, out);
    if (x.kind != FOREIGN_DATA)
        return 0;
    file = f->file[x.file];
    if (x.host_off >= file->size || x.len > file->size - x.host_off) {
        out->flags &= ~(unsigned)BLK_X_OFFSET; /* beyond its end the file has nothing */
        return 0;
    }
    out->host_off = x.host_off;
    out->layer = foreign_file(f, x.file);
    return 0;
}

void foreign_info(struct blk *b, struct blk_info *i)
{
    const struct foreign *f = b->priv;

    i->cluster_size = f->unit;
    i->compressed = f->packed;
    i->backing = f->backing;
    i->backing_format = f->backing_format;
    if (f->variant)
        i->specific = json_pack("{s:s}", "variant", f->variant);
}
