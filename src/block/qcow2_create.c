/*
 * qcow2_create.c: new images: header, refcounts and an empty L1 table, in this order.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/qcow2.h"
#include "block/qcow2_options.h"
#include "block/qcow2_priv.h"

struct create {
    const struct blk_create_opts *o;
    struct qcow2_options opt;
    struct qcow2_header h;
    uint64_t cluster, clusters; /* clusters of the new file */
    uint64_t blocks;            /* of refcounts, behind the table */
    uint8_t *luks;              /* the encryption header */
    int fd;
};

/* Opens the backing file to see that it is there, how large, and what it is. */
static int create_backing(struct create *c, struct err *e)
{
    const struct blk_create_opts *o = c->o;
    struct blk_opts below = { .format = o->backing_format,
                              .readonly = true,
                              .passphrase = o->passphrase };
    char *path;
    struct blk *b;

    if (!o->backing)
        return 0;
    if (strlen(o->backing) > QCOW2_MAX_NAME)
        return err_set(e, EINVAL,
                       "image '%s': the name of the backing file is longer than %d bytes", o->path,
                       (int)QCOW2_MAX_NAME);
    if (o->backing_unchecked && o->size)
        return 0;
    path = blk_resolve(o->path, o->backing);
    if (!path) {
        err_oom(e);
        return -ENOMEM;
    }
    below.path = path;
    b = blk_open(&below, e);
    free(path);
    if (!b)
        return err_prefix(e, "the backing file of image '%s'", o->path);
    if (!o->size)
        c->h.size = b->size;
    if (!o->backing_format)
        c->h.backing_format = strdup(b->ops->format);
    blk_close(b);
    return 0;
}

static int create_header(struct create *c, struct err *e)
{
    struct qcow2_header *h = &c->h;
    const struct qcow2_options *opt = &c->opt;

    h->version = (uint32_t)opt->version;
    h->cluster_bits = opt->cluster_bits;
    h->refcount_order = opt->refcount_order;
    h->compression = opt->compression;
    h->length = h->version < 3 ? QCOW2_HEADER_V2 : QCOW2_HEADER_V3 + 8;
    h->incompat = (opt->extended_l2 ? QCOW2_I_EXTENDED_L2 : 0u) |
                  (opt->compression ? QCOW2_I_COMPRESSION : 0u) |
                  (opt->data_file ? QCOW2_I_DATA_FILE : 0u);
    h->compat = opt->lazy_refcounts ? QCOW2_C_LAZY : 0;
    h->autoclear = opt->data_file_raw ? QCOW2_A_RAW_DATA : 0;
    if (c->o->backing)
        h->backing = strdup(c->o->backing);
    if (c->o->backing && c->o->backing_format)
        h->backing_format = strdup(c->o->backing_format);
    if (opt->data_file)
        h->data_file = strdup(opt->data_file);
    if ((c->o->backing && !h->backing) || (opt->data_file && !h->data_file)) {
        err_oom(e);
        return -ENOMEM;
    }
    if (!h->size)
        h->size = c->o->size;
    return 0;
}

static int create_encryption(struct create *c, struct err *e)
{
    struct qcow2_header *h = &c->h;

    if (!c->opt.encrypt)
        return 0;
    h->crypt = 2;
    h->luks.len = qcow2_luks_header_len(&c->opt.luks);
    c->luks = malloc(h->luks.len);
    if (!c->luks) {
        err_oom(e);
        return -ENOMEM;
    }
    return qcow2_luks_format(&c->opt.luks, c->o->passphrase, c->luks, e);
}

/* Header, table, blocks, L1, encryption header: as many blocks as count all of that. */
static int create_layout(struct create *c, struct err *e)
{
    struct qcow2_header *h = &c->h;
    uint64_t per_block = BIT64(h->cluster_bits + 3 - h->refcount_order), entries, l1, luks;

    c->cluster = BIT64(h->cluster_bits);
    entries = qcow2_header_l1_entries(h, align_up(h->size, BLK_SECTOR));
    if (entries > QCOW2_MAX_L1 / 8)
        return err_set(e, EFBIG,
                       "image '%s': clusters of %llu bytes are too small for that size; use "
                       "cluster_size=64K or more",
                       c->o->path, (unsigned long long)c->cluster);
    l1 = align_up(max_u64(entries, 1) * 8, c->cluster) / c->cluster;
    luks = align_up(h->luks.len, c->cluster) / c->cluster;
    do {
        c->blocks++;
        h->rt_clusters = (uint32_t)(align_up(c->blocks * 8, c->cluster) / c->cluster);
        c->clusters = 1 + h->rt_clusters + c->blocks + l1 + luks;
    } while (c->blocks * per_block < c->clusters);
    h->rt_off = c->cluster;
    h->l1_size = (uint32_t)entries;
    h->l1_off = (1 + h->rt_clusters + c->blocks) * c->cluster;
    h->luks.off = luks ? h->l1_off + l1 * c->cluster : 0;
    return 0;
}

static int create_write(const struct create *c, const void *buf, size_t len, uint64_t off)
{
    if (lseek(c->fd, (off_t)off, SEEK_SET) < 0)
        return -errno;
    return util_write_all(c->fd, buf, len);
}

static int create_write_refcounts(const struct create *c, uint8_t *buf)
{
    uint64_t per_block = c->cluster * 8 >> c->h.refcount_order, left = c->clusters;
    uint64_t first = c->h.rt_off + c->h.rt_clusters * c->cluster;
    int rc = 0;

    for (uint64_t b = 0; !rc && b < c->blocks; b++) {
        memset(buf, 0, c->cluster);
        for (uint64_t i = 0; i < per_block && left; i++, left--)
            qcow2_refcount_entry_set(buf, c->h.refcount_order, i, 1);
        rc = create_write(c, buf, c->cluster, first + b * c->cluster);
    }
    for (uint64_t b = 0; !rc && b < c->blocks; b++) {
        uint64_t be;

        st_be64(&be, first + b * c->cluster);
        rc = create_write(c, &be, sizeof(be), c->h.rt_off + b * sizeof(be));
    }
    return rc;
}

/*
 * A block device keeps what it had: the tables are written there as well. In a file the L1 table is no hole: what leads
 * to all data must find its space when data has taken the last of it.
 */
static int create_clear(const struct create *c, uint8_t *zeros)
{
    uint64_t at = 0, end = c->clusters * c->cluster;
    struct stat st;
    int rc = 0;

    if (fstat(c->fd, &st))
        return -errno;
    if (S_ISREG(st.st_mode)) {
        if (ftruncate(c->fd, (off_t)end))
            return -errno;
        at = c->h.l1_off;
        end = at + (uint64_t)c->h.l1_size * 8;
    }
    for (; !rc && at < end; at += c->cluster)
        rc = create_write(c, zeros, min_u64(end - at, c->cluster), at);
    return rc;
}

static int create_write_all(struct create *c, struct err *e)
{
    uint8_t *buf = calloc(1, c->cluster);
    int rc = buf ? create_clear(c, buf) : -ENOMEM;

    if (!rc)
        rc = create_write_refcounts(c, buf);
    if (!rc && c->luks)
        rc = create_write(c, c->luks, c->h.luks.len, c->h.luks.off);
    if (!rc) {
        memset(buf, 0, c->cluster);
        rc = qcow2_header_build(&c->h, buf, c->cluster);
    }
    if (!rc)
        rc = create_write(c, buf, c->cluster, 0);
    free(buf);
    if (rc == -E2BIG)
        return err_set(
            e, E2BIG,
            "image '%s': the names of other files do not fit into a cluster of %llu bytes",
            c->o->path, (unsigned long long)c->cluster);
    return rc ? err_set(e, -rc, "image '%s' cannot be written: %s", c->o->path, strerror(-rc)) : 0;
}

static int create_data_file(const struct create *c, struct err *e)
{
    struct blk_create_opts raw = { .format = "raw", .size = align_up(c->h.size, BLK_SECTOR) };
    char *path;
    int rc;

    if (!c->opt.data_file)
        return 0;
    path = blk_resolve(c->o->path, c->opt.data_file);
    if (!path) {
        err_oom(e);
        return -ENOMEM;
    }
    raw.path = path;
    rc = blk_create(&raw, e);
    free(path);
    return rc;
}

static int create_preallocate(const struct create *c, struct err *e)
{
    struct blk_opts o = {
        .path = c->o->path, .format = "qcow2", .no_backing = true, .passphrase = c->o->passphrase
    };
    struct blk *b;
    int rc;

    if (!c->opt.preallocation)
        return 0;
    b = blk_open(&o, e);
    if (!b)
        return -EIO;
    rc = qcow2_preallocate(b, 0, c->opt.preallocation, e);
    blk_close(b);
    return rc;
}

static int create_file(struct create *c, struct err *e)
{
    int rc;

    c->fd = blk_create_file(c->o->path, e);
    if (c->fd < 0)
        return c->fd;
    rc = create_write_all(c, e);
    close(c->fd);
    return rc;
}

int qcow2_create(const struct blk_create_opts *o, struct err *e)
{
    struct create c = { .o = o, .opt = { .version = 3, .cluster_bits = 16, .refcount_order = 4 } };
    int rc = qcow2_options_parse(o->options, &c.opt, e);

    if (!rc)
        rc = qcow2_options_check(&c.opt, o->backing, e);
    if (!rc)
        rc = create_backing(&c, e);
    if (!rc)
        rc = create_header(&c, e);
    if (!rc)
        rc = create_encryption(&c, e);
    if (!rc)
        rc = create_layout(&c, e);
    if (!rc)
        rc = create_data_file(&c, e);
    if (!rc)
        rc = create_file(&c, e);
    if (!rc)
        rc = create_preallocate(&c, e);
    qcow2_header_fini(&c.h);
    free(c.luks);
    return rc;
}
