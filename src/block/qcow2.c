/*
 * qcow2.c: opening and closing of qcow2 images, and what they say about themselves: see qcow2_priv.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/formats.h"
#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_luks.h"
#include "block/qcow2_priv.h"
#include "block/qcow2_snapshot.h"

enum { QCOW2_THREADS = 4 };

static int qcow2_oom(struct err *e)
{
    err_oom(e);
    return -ENOMEM;
}

/* --- opening, in this order; each returns 0 or -errno with a sentence --- */

static int qcow2_open_header(struct qcow2 *q, struct err *e)
{
    const char *path = q->b->path;
    uint8_t first[BLK_SECTOR] = { 0 };
    uint64_t n = min_u64(sizeof(first), q->file->size), bits;
    int rc = blk_read_sync(q->file, 0, first, n);

    if (rc)
        return err_set(e, -rc, "disk '%s' cannot be read: %s", path, strerror(-rc));
    if (!qcow2_probe(first, n))
        return err_set(e, EINVAL, "disk '%s' is not a qcow2 image", path);
    bits = ld_be32(first + 20);
    n = bits > QCOW2_MAX_BITS ? n : BIT64(max_u64(bits, QCOW2_MIN_BITS));
    q->head = calloc(1, max_u64(n, sizeof(first)));
    if (!q->head)
        return qcow2_oom(e);
    rc = blk_read_sync(q->file, 0, q->head, min_u64(n, q->file->size));
    if (rc)
        return err_set(e, -rc, "disk '%s' cannot be read: %s", path, strerror(-rc));
    return qcow2_header_parse(&q->h, q->head, n, path, e);
}

static int qcow2_open_geometry(struct qcow2 *q, struct err *e)
{
    const struct qcow2_header *h = &q->h;

    q->extended = h->incompat & QCOW2_I_EXTENDED_L2;
    q->external = h->incompat & QCOW2_I_DATA_FILE;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = BIT(h->cluster_bits);
    q->entry_size = q->extended ? 16 : 8;
    q->l2_bits = h->cluster_bits - (q->extended ? 4 : 3);
    q->rb_bits = h->cluster_bits + 3 - h->refcount_order;
    q->sub_bits = q->extended ? h->cluster_bits - 5 : h->cluster_bits;
    q->data = q->file;
    q->b->size = align_up(h->size, BLK_SECTOR);
    return qcow2_cache_init(q) ? qcow2_oom(e) : 0;
}

static int qcow2_open_may_write(const struct qcow2 *q, const struct blk_opts *o, struct err *e)
{
    if (q->b->readonly || o->repair || !(q->h.incompat & QCOW2_I_CORRUPT))
        return 0;
    return err_set(
        e, EROFS,
        "disk '%s' is marked as damaged: `ruche image repair %s` mends it, or add ,readonly",
        q->b->path, q->b->path);
}

/* Flushes and FUA are ours to pass on, so that the file below need not know of writethrough. */
static enum blk_cache qcow2_cache_below(enum blk_cache cache)
{
    if (cache == BLK_CACHE_DIRECTSYNC)
        return BLK_CACHE_NONE;
    return cache == BLK_CACHE_WRITETHROUGH ? BLK_CACHE_WRITEBACK : cache;
}

static int qcow2_open_data_file(struct qcow2 *q, const struct blk_opts *o, struct err *e)
{
    struct blk_opts below = { .format = "raw",
                              .readonly = o->readonly,
                              .no_uring = o->no_uring,
                              .share = o->share,
                              .cache = qcow2_cache_below(o->cache),
                              .loop = o->loop,
                              .above = q->b };
    char *path;

    if (!q->external)
        return 0;
    if (!q->h.data_file)
        return err_set(e, EINVAL,
                       "disk '%s' has its data in another file, but does not say in which",
                       q->b->path);
    if (o->fd)
        return err_set(e, ENOTSUP,
                       "disk '%s' has its data in another file, which a VM that runs may not open: "
                       "`ruche image convert` makes one image of both",
                       q->b->path);
    path = blk_resolve(q->b->path, q->h.data_file);
    if (path && access(path, F_OK) && !access(q->h.data_file, F_OK)) {
        free(path); /* as QEMU understands it */
        path = strdup(q->h.data_file);
    }
    if (!path)
        return qcow2_oom(e);
    below.path = path;
    q->data = blk_open(&below, e);
    free(path);
    if (q->data)
        return 0;
    q->data = q->file;
    return err_prefix(e, "the data file of disk '%s'", q->b->path);
}

static int qcow2_open_crypt(struct qcow2 *q, const struct blk_opts *o, struct err *e)
{
    uint64_t len = q->h.luks.len, off = q->h.luks.off;
    uint8_t *header;
    int rc;

    if (!q->h.crypt)
        return 0;
    if (q->h.crypt == 1)
        return err_set(
            e, ENOTSUP,
            "disk '%s' has the old AES encryption, which is unsafe and not supported: convert it "
            "with `qemu-img convert`",
            q->b->path);
    if (len < BLK_SECTOR || len > 64 * MIB || off >= q->file->size || len > q->file->size - off)
        return err_set(e, EINVAL, "disk '%s': its encryption header is damaged", q->b->path);
    q->locked = !o->passphrase && (o->repair || (o->readonly && o->no_backing));
    if (q->locked) /* metadata is not encrypted: enough to look at it */
        return 0;
    header = malloc(len);
    if (!header)
        return qcow2_oom(e);
    rc = qcow2_meta_read(q, off, header, len);
    if (rc)
        err_set(e, -rc, "disk '%s' cannot be read: %s", q->b->path, strerror(-rc));
    else
        q->luks = qcow2_luks_open(header, len, o->passphrase, q->b->path, e);
    free(header);
    return rc ? rc : q->luks ? 0 : -EINVAL;
}

int qcow2_load_tables(struct qcow2 *q)
{
    int rc;

    free(q->l1);
    free(q->l1_dirty);
    q->l1 = calloc(q->h.l1_size + 1, sizeof(uint64_t)); /* one more: an empty disk has none */
    q->l1_dirty = calloc(q->h.l1_size / 64 + 1, sizeof(uint64_t));
    q->l1_any_dirty = false;
    if (!q->l1 || !q->l1_dirty)
        return -ENOMEM;
    rc = qcow2_table_read(q, q->h.l1_off, q->h.l1_size, q->l1);
    pthread_mutex_lock(&q->lock);
    qcow2_cache_drop_clean(q);
    if (!rc && !q->b->readonly)
        rc = qcow2_refcount_reload(q);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int qcow2_open_tables(struct qcow2 *q, struct err *e)
{
    int rc;

    if (!q->b->readonly) {
        q->zeros = calloc(1, q->cluster_size);
        if (!q->zeros)
            return qcow2_oom(e);
    }
    rc = qcow2_load_tables(q);
    return rc ? err_set(e, -rc, "disk '%s': its tables cannot be read: %s", q->b->path,
                        strerror(-rc))
              : 0;
}

/* Refcounts that were postponed by whoever wrote last and did not come to an end. */
static int qcow2_open_dirty(struct qcow2 *q, const struct blk_opts *o, struct err *e)
{
    struct blk_check c = { 0 };

    if (q->b->readonly || o->repair || !(q->h.incompat & QCOW2_I_DIRTY))
        return 0;
    log_warn("block", "disk '%s' was not closed properly: its refcounts are being repaired",
             q->b->path);
    return qcow2_check(q->b, BLK_FIX_LEAKS | BLK_FIX_ERRORS, &c, e);
}

static void qcow2_free(struct qcow2 *q)
{
    workq_destroy(q->workq);
    if (q->b->loop) {
        loop_timer_cancel(&q->commit_timer);
        loop_unpost(q->b->loop, &q->ready_work);
    }
    if (q->data != q->file)
        blk_close(q->data);
    if (q->hash)
        qcow2_cache_fini(q);
    qcow2_refcount_fini(q);
    qcow2_bitmap_fini(q);
    qcow2_packed_fini(q);
    qcow2_luks_close(q->luks);
    qcow2_header_fini(&q->h);
    free(q->l1);
    free(q->l1_dirty);
    free(q->head);
    free(q->zeros);
    pthread_cond_destroy(&q->cond);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static struct qcow2 *qcow2_new(struct blk *b)
{
    struct qcow2 *q = calloc(1, sizeof(*q));

    if (!q)
        return NULL;
    q->b = b;
    q->file = q->data = b->child;
    q->ready_work.call = qcow2_op_ready_call;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->cond, NULL);
    b->priv = q;
    qcow2_meta_init(q);
    return q;
}

/* The disk as a snapshot has it: another L1 table, and maybe another size. */
static int qcow2_open_snapshot(struct qcow2 *q, const char *tag, struct err *e)
{
    struct qcow2_snapshots list = { 0 };
    const struct qcow2_snapshot *s = NULL;
    int rc = qcow2_snapshot_load(q, &list);

    if (rc)
        return err_set(e, -rc, "disk '%s': its table of snapshots cannot be read", q->b->path);
    for (unsigned by_name = 0; !s && by_name < 2; by_name++)
        for (uint32_t i = 0; !s && i < list.n; i++)
            if (!strcmp(by_name ? list.v[i].name : list.v[i].id, tag))
                s = &list.v[i];
    if (!s) {
        rc = err_set(e, ENOENT,
                     "disk '%s' has no snapshot '%s'; `ruche image snapshot -l` lists them",
                     q->b->path, tag);
    } else if (s->l1_size > QCOW2_MAX_L1 / 8 || s->disk_size > INT64_MAX - BLK_SECTOR ||
               s->l1_size < qcow2_header_l1_entries(&q->h, s->disk_size)) {
        rc = err_set(e, EINVAL, "disk '%s': snapshot '%s' is damaged", q->b->path, tag);
    } else {
        q->h.l1_off = s->l1_off;
        q->h.l1_size = s->l1_size;
        q->h.size = s->disk_size ? s->disk_size : q->h.size;
        q->b->size = align_up(q->h.size, BLK_SECTOR);
        rc = qcow2_load_tables(q);
        if (rc)
            err_set(e, -rc, "disk '%s': snapshot '%s' cannot be read: %s", q->b->path, tag,
                    strerror(-rc));
    }
    qcow2_snapshot_unload(&list);
    return rc;
}

static int qcow2_open_all(struct qcow2 *q, const struct blk_opts *o, struct err *e)
{
    int rc = qcow2_open_header(q, e);

    if (!rc)
        rc = qcow2_open_geometry(q, e);
    if (!rc)
        rc = qcow2_open_may_write(q, o, e);
    if (!rc)
        rc = qcow2_open_data_file(q, o, e);
    if (!rc)
        rc = qcow2_open_crypt(q, o, e);
    if (!rc)
        rc = qcow2_open_tables(q, e);
    if (!rc && o->snapshot)
        rc = qcow2_open_snapshot(q, o->snapshot, e);
    if (!rc && (q->h.backing || o->backing))
        rc = blk_open_backing(q->b, o, q->h.backing, q->h.backing_format, e);
    if (!rc) {
        q->workq = workq_create(QCOW2_THREADS, e);
        rc = q->workq ? 0 : -ENOMEM;
    }
    if (!rc)
        rc = qcow2_open_dirty(q, o, e);
    if (!rc && !q->b->readonly && !o->repair)
        rc = qcow2_table_begin_writing(q, e);
    return rc;
}

static int qcow2_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct qcow2 *q = qcow2_new(b);
    int rc;

    if (!q)
        return qcow2_oom(e);
    rc = qcow2_open_all(q, o, e);
    if (rc)
        qcow2_free(q);
    return rc;
}

static void qcow2_close_bitmaps(struct qcow2 *q)
{
    int rc = q->corrupt ? -EIO : qcow2_bitmap_store(q, false);

    if (!rc)
        rc = qcow2_meta_commit_all(q);
    if (rc)
        log_error("block", "disk '%s': its bitmaps could not be stored, and are inconsistent: %s",
                  q->b->path, strerror(-rc));
}

static void qcow2_close(struct blk *b)
{
    struct qcow2 *q = qcow2_of(b);
    int rc;

    blk_drain(q->file); /* a thread that completed our last request may not have left us yet */
    if (q->external)
        blk_drain(q->data);
    if (b->backing)
        blk_drain(b->backing);
    qcow2_meta_hold(q);
    rc = b->readonly ? 0 : qcow2_meta_commit_all(q);
    if (!rc && q->bitmaps && q->bitmaps->n)
        qcow2_close_bitmaps(q);
    if (rc)
        log_error(
            "block",
            "disk '%s': its metadata could not be written: %s; what was written since the last "
            "flush may be lost",
            b->path, strerror(-rc));
    qcow2_free(q);
}

/* --- what is where --- */

/* Who reads the file by himself finds nothing behind its end; we know better what that means. */
static const struct blk *qcow2_status_layer(const struct qcow2 *q, const struct qcow2_map *m)
{
    const struct blk *file = q->data->child ? q->data->child : q->data;

    return m->host + m->len <= q->data->size ? file : q->b;
}

/* A cluster of which only a part is asked for, or there, is not to be had this way. */
static void qcow2_status_packed(const struct qcow2 *q, uint64_t off, const struct qcow2_map *m,
                                struct blk_extent *x)
{
    uint64_t len;

    if (qcow2_in_cluster(q, off) || m->len != q->cluster_size)
        return;
    qcow2_map_packed(q, m->entry, &x->host_off, &len);
    x->packed_len = (uint32_t)min_u64(len, q->file->size - x->host_off);
    x->packer = q->b;
    x->layer = q->file;
}

static int qcow2_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    struct qcow2 *q = qcow2_of(b);
    struct qcow2_issue issue;
    struct qcow2_map m;
    int rc;

    qcow2_issue_init(&issue);
    pthread_mutex_lock(&q->lock);
    while ((rc = qcow2_map_find(q, off, len, &m, &issue)) == 1) {
        rc = qcow2_cache_await(q, m.wait, &issue);
        if (rc)
            break;
    }
    pthread_mutex_unlock(&q->lock);
    if (rc)
        return rc;
    x->len = m.len;
    switch (m.kind) {
    case QCOW2_K_NONE:
        x->flags = 0;
        break;
    case QCOW2_K_ZERO:
        x->flags = BLK_X_ALLOCATED | BLK_X_ZERO;
        break;
    case QCOW2_K_DATA:
        x->flags = BLK_X_ALLOCATED | BLK_X_DATA | (q->luks ? 0 : BLK_X_OFFSET);
        x->host_off = m.host;
        x->layer = qcow2_status_layer(q, &m);
        break;
    case QCOW2_K_PACKED:
        x->flags = BLK_X_ALLOCATED | BLK_X_DATA | BLK_X_COMPRESSED;
        qcow2_status_packed(q, off, &m, x);
        break;
    }
    return 0;
}

const struct blk_ops blk_qcow2_ops = {
    .format = "qcow2",
    .probe = qcow2_probe,
    .open = qcow2_open,
    .close = qcow2_close,
    .submit = qcow2_submit,
    .commit = qcow2_submit_commit,
    .wait = qcow2_wait,
    .status = qcow2_status,
    .unpack = qcow2_packed_unpack,
    .info = qcow2_info,
    .truncate = qcow2_truncate,
    .check = qcow2_check,
    .snap = qcow2_snap,
    .bitmap = qcow2_bitmap_edit,
    .set_backing = qcow2_set_backing,
    .amend = qcow2_amend,
    .create = qcow2_create,
};
