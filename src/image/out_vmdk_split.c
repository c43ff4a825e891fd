/*
 * out_vmdk_split.c: VMDK images in several files: a description in words, and the disk in one flat file
 * (monolithicFlat) or in pieces of 2 GiB, flat or sparse (twoGbMaxExtentFlat, twoGbMaxExtentSparse). Each piece
 * has a writer of its own; they get their names when they are complete, the description is the last.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/out_vmdk.h"

enum { SPLIT_MAX = 1000 };
#define SPLIT_BYTES (2ull << 30) /* whole chunks */

struct split_part {
    char path[PATH_MAX];
    struct out_opts opts;
    struct out *out;
};
struct out_split {
    const char *type; /* in words of the description */
    bool sparse;
    uint64_t span; /* of the disk, to a part */
    struct out_vmdk_hw hw;
    struct split_part *parts;
    unsigned n;
};

static int split_type(struct out_split *s, const struct out_opts *opts)
{
    static const char *const types[] = { "monolithicFlat", "twoGbMaxExtentFlat",
                                         "twoGbMaxExtentSparse" };
    const char *variant = out_option(opts, "subformat");

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        if (strcmp(variant, types[i]))
            continue;
        s->type = types[i];
        s->sparse = i == 2;
        s->span = i ? SPLIT_BYTES : INT64_MAX;
    }
    return s->type ? 0 : -EINVAL;
}

/* disk.vmdk: disk-flat.vmdk, or disk-f001.vmdk, disk-s001.vmdk and so on. */
static int split_name(const struct out_split *s, const char *path, unsigned i, char *name)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    char number[16] = "flat";
    int n;

    if (!dot || (slash && dot < slash))
        dot = path + strlen(path);
    if (s->span == SPLIT_BYTES)
        snprintf(number, sizeof(number), "%c%03u", s->sparse ? 's' : 'f', i + 1);
    n = snprintf(name, PATH_MAX, "%.*s-%s%s", (int)(dot - path), path, number, dot);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int split_open_part(struct out *o, unsigned i, uint64_t size, struct err *e)
{
    struct out_split *s = o->priv;
    struct split_part *p = &s->parts[i];

    if (split_name(s, o->opts->path, i, p->path))
        return err_set(e, ENAMETOOLONG, "image '%s': its name is too long", o->opts->path);
    p->opts = (struct out_opts){ .path = p->path,
                                 .format = s->sparse ? "vmdk" : "raw",
                                 .size = size,
                                 .allocate = o->opts->allocate,
                                 .sync = o->opts->sync,
                                 .sparse = o->opts->sparse };
    p->out = out_open_as(s->sparse ? &out_vmdk_part_ops : &out_raw_ops, &p->opts, o->loop, e);
    if (p->out)
        s->n = i + 1;
    return p->out ? 0 : -EINVAL;
}

static int out_split_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    struct out_split *s = calloc(1, sizeof(*s));
    uint64_t n, left = o->size;
    int rc = 0;

    o->priv = s;
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    if (split_type(s, opts))
        return err_set(e, EINVAL,
                       "subformat=%s: known are monolithicSparse, monolithicFlat, "
                       "twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized",
                       out_option(opts, "subformat"));
    if (opts->compress)
        return err_set(e, EINVAL, "only -o subformat=streamOptimized is compressed");
    if (out_vmdk_hw(opts, &s->hw, e))
        return -EINVAL;
    n = max_u64((o->size + s->span - 1) / s->span, 1);
    if (n > SPLIT_MAX)
        return err_set(e, EFBIG, "a vmdk image in pieces of 2 GiB has at most %d of them",
                       (int)SPLIT_MAX);
    s->parts = calloc(n, sizeof(*s->parts));
    if (!s->parts)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; !rc && i < n; i++) {
        rc = split_open_part(o, i, min_u64(left, s->span), e);
        left -= min_u64(left, s->span);
    }
    if (rc)
        return rc;
    o->unit = s->parts[0].out->unit;
    o->wants_zeros = s->parts[0].out->wants_zeros;
    o->allocate = s->parts[0].out->allocate;
    return 0;
}

static void out_split_close(struct out *o)
{
    struct out_split *s = o->priv;

    for (unsigned i = 0; s && i < s->n; i++)
        out_close(s->parts[i].out);
    if (s)
        free(s->parts);
    free(s);
}

/* The part that has off, and where in it. */
static struct out *split_part(const struct out *o, uint64_t *off)
{
    const struct out_split *s = o->priv;
    struct out *part = s->parts[*off / s->span].out;

    *off %= s->span;
    return part;
}

static int out_split_place(struct out *o, struct out_chunk *c)
{
    struct out_chunk in_part = *c;
    struct out *part = split_part(o, &in_part.off);

    return part->ops->place ? part->ops->place(part, &in_part) : 0;
}

static int out_split_store(struct out *o, struct out_chunk *c)
{
    struct out_chunk in_part = *c;
    struct out *part = split_part(o, &in_part.off);

    return part->ops->store(part, &in_part);
}

static int out_split_zero(struct out *o, uint64_t off, uint64_t len)
{
    const struct out_split *s = o->priv;
    int rc = 0;

    while (!rc && len) {
        uint64_t at = off, n;
        struct out *part = split_part(o, &at);

        n = min_u64(len, s->span - at);
        rc = part->ops->zero(part, at, n);
        off += n;
        len -= n;
    }
    return rc;
}

/* The lines of the description, which name files without their folder. */
static char *split_extents(const struct out *o)
{
    const struct out_split *s = o->priv;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    for (unsigned i = 0; f && i < s->n; i++) {
        const char *slash = strrchr(s->parts[i].path, '/');
        uint64_t sectors = align_up(s->parts[i].opts.size, BLK_SECTOR) / BLK_SECTOR;

        fprintf(f, "RW %llu %s \"%s\"%s\n", (unsigned long long)sectors,
                s->sparse ? "SPARSE" : "FLAT", slash ? slash + 1 : s->parts[i].path,
                s->sparse ? "" : " 0");
    }
    if (f && fclose(f)) {
        free(text);
        text = NULL;
    }
    return text;
}

static int out_split_finish(struct out *o)
{
    const struct out_split *s = o->priv;
    char *extents = split_extents(o), *text = NULL;
    struct err e = { 0 };
    int rc = extents ? 0 : -ENOMEM;

    for (unsigned i = 0; !rc && i < s->n; i++)
        rc = out_finish(s->parts[i].out, &e);
    if (!rc) {
        text = out_vmdk_describe(o, &s->hw, s->type, extents);
        rc = text ? out_pwrite(o, text, strlen(text), 0) : -ENOMEM;
    }
    if (!rc && ftruncate(o->fd, (off_t)strlen(text)))
        rc = -errno;
    free(extents);
    free(text);
    return rc;
}

const struct out_ops out_vmdk_split_ops = {
    .format = "vmdk",
    .open = out_split_open,
    .close = out_split_close,
    .place = out_split_place,
    .store = out_split_store,
    .zero = out_split_zero,
    .finish = out_split_finish,
};
