/*
 * out.c: the file of an image that is being written, and what its writers share; see out.h.
 *
 * A file that is not there yet is made without a name and gets it when it is complete, so that an
 * interrupted conversion leaves nothing. One that is there is written over in place, because its owner,
 * links and space are meant to stay; and so is everything where the file system has no nameless files.
 */
#include "image/out.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats.h"
#include "block/remote.h"

enum { OUT_IOV = 64 };

int out_pwrite(const struct out *o, const void *buf, size_t len, uint64_t off)
{
    const char *p = buf;

    while (len) {
        ssize_t n = pwrite(o->fd, p, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENOSPC;
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

const char *out_option(const struct out_opts *opts, const char *key)
{
    const char *found = NULL;
    size_t n = strlen(key);

    for (const char *const *x = opts->options; x && *x; x++)
        if (!strncmp(*x, key, n) && (*x)[n] == '=')
            found = *x + n + 1;
    return found;
}

int out_check_options(const struct out_opts *opts, const char *const *known, struct err *e)
{
    char names[256] = "";

    for (const char *const *k = known; *k; k++)
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
                 k == known ? "" : ", ", *k);
    for (const char *const *x = opts->options; x && *x; x++) {
        const char *const *k = known;

        while (*k && (strncmp(*x, *k, strlen(*k)) || (*x)[strlen(*k)] != '='))
            k++;
        if (!*k)
            return err_set(e, EINVAL, "option '%s': the format %s knows %s", *x,
                           opts->format ? opts->format : "raw", *names ? names : "none");
    }
    return 0;
}

bool out_next_span(const struct out *o, const struct out_chunk *c, struct out_span *s)
{
    uint32_t i = s->to / o->unit;

    if (s->to >= c->len)
        return false;
    s->from = s->to;
    s->used = c->used[i];
    for (; s->to < c->len && c->used[i] == s->used; i++)
        s->to = (uint32_t)min_u64(s->to + (uint64_t)o->unit, c->len);
    return true;
}

/* How many units from i on can be written in one go: their bytes and their places follow each other. */
static uint32_t out_run(const struct out *o, const struct out_chunk *c, uint32_t i, uint32_t n,
                        uint32_t *len)
{
    bool packed = c->packed_len && c->packed_len[i];
    uint32_t k = i;

    *len = 0;
    for (; k < n && c->used[k]; k++) {
        bool this_packed = c->packed_len && c->packed_len[k];

        if (this_packed != packed || c->place[k] != c->place[i] + *len ||
            (packed && c->packed_at[k] != c->packed_at[i] + *len))
            break;
        *len += packed ? c->packed_len[k] : o->unit;
    }
    return k - i;
}

int out_store_units(struct out *o, const struct out_chunk *c)
{
    uint32_t n = (c->len + o->unit - 1) / o->unit, i = 0;

    while (i < n) {
        uint32_t len, count = c->used[i] ? out_run(o, c, i, n, &len) : 0;
        const uint8_t *from = c->data + (size_t)i * o->unit;
        int rc;

        if (!count) {
            i++;
            continue;
        }
        if (c->packed_len && c->packed_len[i])
            from = c->packed + c->packed_at[i];
        rc = out_pwrite(o, from, len, c->place[i]);
        if (rc)
            return rc;
        i += count;
    }
    return 0;
}

void out_mark(uint8_t *p, const char *text)
{
    while (*text)
        *p++ = (uint8_t)*text++;
}

void out_uuid(uint8_t uuid[16])
{
    if (getrandom(uuid, 16, 0) != 16)
        memset(uuid, 0x5a, 16);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

/* --- the target's file --- */

static int out_nameless(const char *path)
{
    char copy[PATH_MAX];

    if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
        return -1;
    return open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
}

static int out_open_file(struct out *o, struct err *e)
{
    struct stat st;

    if (stat(o->opts->path, &st) && errno == ENOENT) {
        o->fd = out_nameless(o->opts->path);
        o->temporary = o->fd >= 0;
    }
    if (o->fd < 0)
        o->fd = blk_create_file(o->opts->path, e);
    return o->fd < 0 ? o->fd : 0;
}

static int out_name_file(const struct out *o)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
    return linkat(AT_FDCWD, path, AT_FDCWD, o->opts->path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* --- which writer --- */

/* The options that the writer of plain qcow2 images understands; with others qcow2's driver writes. */
static bool out_qcow2_is_plain(const struct out_opts *opts)
{
    static const char *const plain[] = {
        "cluster_size=",     "compat=1.1",        "compat=v3",
        "compression_type=", "lazy_refcounts=",   "refcount_bits=16",
        "extended_l2=off",   "preallocation=off", "encryption=off"
    };

    for (const char *const *x = opts->options; x && *x; x++) {
        size_t i = 0;

        while (i < ARRAY_SIZE(plain) && strncmp(*x, plain[i], strlen(plain[i])))
            i++;
        if (i == ARRAY_SIZE(plain))
            return false;
    }
    return !opts->backing && !opts->allocate;
}

static const struct out_ops *out_choose(const struct out_opts *opts, struct err *e)
{
    static const struct out_ops *const by_name[] = { &out_raw_ops, &out_qcow2_ops, &out_vdi_ops,
                                                     &out_vhd_ops, &out_vhdx_ops,  &out_vmdk_ops };
    const char *format = opts->format ? opts->format : "raw", *variant;

    if (!strcmp(format, "vpc"))
        format = "vhd";
    if (!strcmp(opts->path, "-")) {
        if (!strcmp(format, "raw"))
            return &out_stream_ops;
        err_set(e, EINVAL, "stdout can only be written to as raw");
        return NULL;
    }
    if (opts->no_create || remote_find(opts->path) || opts->backing)
        return &out_disk_ops;
    variant = out_option(opts, "subformat");
    if (!strcmp(format, "vmdk") && variant && !strcmp(variant, "streamOptimized"))
        return &out_vmdk_stream_ops;
    if (!strcmp(format, "vmdk") && variant &&
        (!strcmp(variant, "monolithicFlat") || !strncmp(variant, "twoGbMaxExtent", 14)))
        return &out_vmdk_split_ops;
    if (!strcmp(format, "vmdk") && opts->compress && !variant)
        return &out_vmdk_stream_ops;
    if (!strcmp(format, "luks"))
        return &out_disk_ops;
    if (!strcmp(format, "qcow2") && !out_qcow2_is_plain(opts))
        return &out_disk_ops;
    for (size_t i = 0; i < ARRAY_SIZE(by_name); i++)
        if (!strcmp(by_name[i]->format, format))
            return by_name[i];
    err_set(e, EINVAL,
            "images of format '%s' cannot be written; known are: raw, qcow2, vmdk, vdi, "
            "vhd, vhdx, luks",
            format);
    return NULL;
}

struct out *out_open_as(const struct out_ops *ops, const struct out_opts *opts, struct loop *loop,
                        struct err *e)
{
    struct out *o = calloc(1, sizeof(*o));

    if (!o)
        return err_oom(e);
    *o = (struct out){ .ops = ops,
                       .opts = opts,
                       .loop = loop,
                       .size = opts->size,
                       .chunk = OUT_CHUNK,
                       .allocate = opts->allocate,
                       .fd = -1 };
    if ((ops->own_target || !out_open_file(o, e)) && !ops->open(o, opts, e)) {
        o->chunk = (uint32_t)max_u64(o->chunk, o->unit);
        BUG_ON(!o->unit || o->chunk % o->unit || o->chunk > OUT_CHUNK_MAX);
        return o;
    }
    out_close(o);
    return NULL;
}

struct out *out_open(const struct out_opts *opts, struct loop *loop, struct err *e)
{
    const struct out_ops *ops = out_choose(opts, e);

    return ops ? out_open_as(ops, opts, loop, e) : NULL;
}

int out_finish(struct out *o, struct err *e)
{
    int rc = o->ops->finish(o);

    if (!rc && o->fd >= 0 && o->opts->sync && fsync(o->fd) && errno != EINVAL && errno != EROFS)
        rc = -errno;
    if (!rc && o->temporary)
        rc = out_name_file(o);
    return rc ? err_set(e, -rc, "image '%s' cannot be written: %s", o->opts->path, strerror(-rc))
              : 0;
}

void out_close(struct out *o)
{
    if (!o)
        return;
    o->ops->close(o);
    if (o->fd >= 0)
        close(o->fd);
    free(o);
}
