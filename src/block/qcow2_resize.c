/*
 * qcow2_resize.c: another size, space that is taken in advance, another backing file, other features.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_options.h"
#include "block/qcow2_priv.h"

/* --- preallocation --- */

struct resize_run { /* host clusters to be taken for the disk */
    uint64_t host, n;
    bool fresh;
};

/* Some of [off, end): the clusters of one slice that have none yet. *next: where to go on. Lock held. */
static int resize_take(struct qcow2 *q, uint64_t off, uint64_t end, uint64_t *next)
{
    uint64_t l1 = qcow2_l1_index(q, off), span = (uint64_t)q->slice_entries << q->cluster_bits;
    struct qcow2_slice *s;
    int rc = qcow2_cache_load(q, q->l1[l1] & QCOW2_OFFSET,
                              off >> q->cluster_bits & (BIT64(q->l2_bits) - 1), &s);

    *next = min_u64(end, align_down(off, span) + span);
    if (rc)
        return rc;
    s->pins++;
    while (!rc && off < *next) {
        uint8_t *entry = qcow2_entry(q, s, off >> q->cluster_bits);
        uint64_t host = off, got = 1;
        bool fresh = true;

        if (ld_be64(entry) || (q->extended && ld_be64(entry + 8))) {
            off += q->cluster_size;
            continue;
        }
        if (!q->external)
            while ((rc = qcow2_refcount_alloc(q, 1, &host, &got, &fresh)) == -EAGAIN) {
                rc = qcow2_refcount_refill(q);
                if (rc)
                    break;
            }
        if (rc)
            break;
        fresh = fresh && !q->h.crypt; /* zeros in the file mean something else there */
        /* With a backing file (extended entries only) the place is taken, but what is read stays the same. */
        st_be64(entry,
                host | QCOW2_COPIED | (fresh || q->extended || q->h.version < 3 ? 0 : QCOW2_ZERO));
        if (q->extended && !q->h.backing)
            st_be64(entry + 8, fresh ? UINT32_MAX : (uint64_t)UINT32_MAX << 32);
        qcow2_cache_dirty(q, s);
        off += q->cluster_size;
    }
    s->pins--;
    return rc;
}

/* All clusters of [from, end) get a place. In a hold; no lock held. */
static int resize_take_all(struct qcow2 *q, uint64_t from, uint64_t end)
{
    int rc = 0;

    from = align_down(from, q->cluster_size);
    while (!rc && from < end) {
        rc = qcow2_table_make_own(q, qcow2_l1_index(q, from));
        pthread_mutex_lock(&q->lock);
        if (!rc)
            rc = resize_take(q, from, end, &from);
        pthread_mutex_unlock(&q->lock);
    }
    return rc;
}

/* The file really has what was taken behind its former end. */
static int resize_fill(struct qcow2 *q, uint64_t was, enum blk_prealloc mode)
{
    struct blk *f = q->external ? q->data : q->file;
    uint64_t end = q->external ? f->size : q->virgin;
    struct err e = { 0 };

    if (end == UINT64_MAX || !f->ops->truncate || f->size > end)
        return 0;
    if (f->size != end)
        was = min_u64(was, f->size);
    if (f->ops->truncate(f, end, BLK_PREALLOC_OFF, &e))
        return -e.code;
    if (mode < BLK_PREALLOC_FALLOC || was >= end)
        return 0;
    return blk_op_sync(f, BLK_WRITE_ZEROES, was, end - was, 0);
}

int qcow2_preallocate(struct blk *b, uint64_t from, enum blk_prealloc mode, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    uint64_t was = q->external ? from : q->file->size;
    int rc;

    if (mode == BLK_PREALLOC_OFF)
        return 0;
    qcow2_meta_hold(q);
    if (q->h.version < 3 && !q->external) /* cannot say of used space that it reads as zeros */
        q->hint = max_u64(q->hint, q->virgin >> q->cluster_bits);
    rc = resize_take_all(q, from, b->size);
    q->hint = 0;
    if (!rc)
        rc = resize_fill(q, was, mode);
    if (!rc)
        rc = qcow2_meta_commit_all(q);
    qcow2_meta_release(q);
    return rc ? err_set(e, -rc, "disk '%s': its space cannot be taken in advance: %s", b->path,
                        strerror(-rc))
              : 0;
}

/* --- size --- */

int qcow2_alloc_row(struct qcow2 *q, uint64_t n, uint64_t *host)
{
    uint64_t got = 0, past;
    int rc;

    pthread_mutex_lock(&q->lock);
    while (!(rc = qcow2_refcount_alloc_wait(q, n, host, &got)) && got < n) {
        past = (*host >> q->cluster_bits) + got;
        qcow2_refcount_undo(q, *host, got << q->cluster_bits);
        q->hint = past;
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

/* An L1 table of that many entries, in the file and in memory. */
static int resize_l1(struct qcow2 *q, uint32_t entries)
{
    uint64_t clusters = align_up((uint64_t)entries * 8, q->cluster_size) >> q->cluster_bits,
             off = 0;
    uint64_t old_off = q->h.l1_off, old_len = (uint64_t)q->h.l1_size * 8;
    uint64_t *l1 = calloc((size_t)entries + 1, sizeof(*l1)),
             *dirty = calloc(entries / 64 + 1, sizeof(*dirty));
    int rc = l1 && dirty ? qcow2_alloc_row(q, clusters, &off) : -ENOMEM;

    if (!rc)
        rc = qcow2_meta_commit(q); /* L1 and refcounts in the file are those in memory */
    if (!rc) {
        memcpy(l1, q->l1, old_len);
        rc = qcow2_table_write(q, off, entries, l1);
    }
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (!rc) {
        q->h.l1_off = off;
        q->h.l1_size = entries;
        rc = qcow2_table_write_header_sector(q);
    }
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (rc) {
        free(l1);
        free(dirty);
        return rc;
    }
    free(q->l1);
    free(q->l1_dirty);
    q->l1 = l1;
    q->l1_dirty = dirty;
    pthread_mutex_lock(&q->lock);
    if (old_len)
        qcow2_refcount_free_later(q, old_off, align_up(old_len, q->cluster_size));
    pthread_mutex_unlock(&q->lock);
    return 0;
}

/* Nothing is left of the clusters from `from` on. Lock held. */
static int resize_drop(struct qcow2 *q, uint64_t from, uint64_t end)
{
    int rc = 0;

    for (uint64_t off = from; !rc && off < end; off += q->cluster_size) {
        uint64_t l1 = qcow2_l1_index(q, off), span = BIT64(q->cluster_bits + q->l2_bits), e, host,
                 len;
        struct qcow2_slice *s;
        uint8_t *entry;

        if (!(q->l1[l1] & QCOW2_OFFSET)) {
            off = align_down(off, span) + span - q->cluster_size;
            continue;
        }
        pthread_mutex_unlock(&q->lock);
        rc = qcow2_table_make_own(q, l1);
        pthread_mutex_lock(&q->lock);
        if (!rc)
            rc = qcow2_cache_load(q, q->l1[l1] & QCOW2_OFFSET,
                                  off >> q->cluster_bits & (BIT64(q->l2_bits) - 1), &s);
        if (rc)
            break;
        entry = qcow2_entry(q, s, off >> q->cluster_bits);
        e = ld_be64(entry);
        host = e & QCOW2_OFFSET;
        len = q->cluster_size;
        if (e & QCOW2_COMPRESSED)
            qcow2_map_packed(q, e, &host, &len);
        if (host)
            qcow2_refcount_free_later(q, host, len);
        if (!e && (!q->extended || !ld_be64(entry + 8)))
            continue;
        memset(entry, 0, q->entry_size);
        qcow2_cache_dirty(q, s);
    }
    return rc;
}

/* The size that the header gives, once all of the tables are written. */
static int resize_set(struct qcow2 *q, uint64_t size)
{
    int rc;

    q->h.size = size;
    rc = qcow2_table_write_header_sector(q);
    if (!rc)
        rc = qcow2_meta_commit_all(q);
    if (!rc)
        q->b->size = size;
    return rc;
}

static int resize_shrink(struct qcow2 *q, uint64_t size)
{
    uint64_t old = q->b->size, end = min_u64(old, align_up(size, q->cluster_size));
    int rc = end > size ? blk_op_sync(q->b, BLK_WRITE_ZEROES, size, end - size, 0) : 0;

    if (rc)
        return rc;
    qcow2_meta_hold(q);
    pthread_mutex_lock(&q->lock);
    rc = resize_drop(q, align_up(size, q->cluster_size), old);
    pthread_mutex_unlock(&q->lock);
    if (!rc)
        rc = qcow2_meta_commit(q);
    if (!rc)
        rc = resize_set(q, size);
    qcow2_meta_release(q);
    return rc;
}

static int resize_grow(struct qcow2 *q, uint64_t size)
{
    uint64_t entries = qcow2_header_l1_entries(&q->h, size), old = q->b->size, covered;
    int rc = 0;

    if (entries > QCOW2_MAX_L1 / 8)
        return -EFBIG;
    qcow2_meta_hold(q);
    if (entries > q->h.l1_size)
        rc = resize_l1(q, (uint32_t)entries);
    if (!rc)
        rc = resize_set(q, size);
    qcow2_meta_release(q);
    covered = q->b->backing ? min_u64(size, q->b->backing->size) : 0;
    if (!rc && covered > old) /* a longer backing file must not show through */
        rc = blk_op_sync(q->b, BLK_WRITE_ZEROES, old, covered - old, 0);
    return rc;
}

static int resize_refuse(const struct qcow2 *q, struct err *e)
{
    if (q->h.n_snapshots && q->h.version < 3)
        return err_set(
            e, ENOTSUP,
            "disk '%s' has snapshots that do not know their size (compat=0.10): delete them, or "
            "amend it to compat=1.1",
            q->b->path);
    return 0;
}

static int resize_do(struct qcow2 *q, uint64_t size, struct err *e)
{
    uint64_t old = q->b->size;
    int rc = 0;

    if (q->external && size > old)
        rc = blk_resize(q->data, size, BLK_PREALLOC_OFF, e);
    if (!rc)
        rc = size < old ? resize_shrink(q, size) : resize_grow(q, size);
    if (!rc && q->external && size < old)
        rc = blk_resize(q->data, size, BLK_PREALLOC_OFF, e);
    return rc;
}

/* Bitmaps are as long as the disk: what is written to its new part is recorded too. */
static int resize_bitmaps(struct qcow2 *q, uint64_t from, uint64_t to)
{
    int rc;

    qcow2_meta_hold(q);
    rc = from == q->b->size ? qcow2_bitmap_begin_resize(q) : 0;
    if (!rc)
        rc = qcow2_bitmap_resize(q, to);
    if (!rc && to == q->b->size)
        rc = qcow2_bitmap_store(q, true);
    qcow2_meta_release(q);
    return rc;
}

int qcow2_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    uint64_t old = b->size;
    bool bitmaps = q->bitmaps && q->bitmaps->n;
    int rc = resize_refuse(q, e);

    if (rc)
        return rc;
    if (bitmaps)
        rc = resize_bitmaps(q, old, max_u64(old, size));
    if (!rc) {
        int stored;

        rc = resize_do(q, size, e);
        stored = bitmaps ? resize_bitmaps(q, 0, b->size) : 0;
        rc = rc ? rc : stored;
    }
    if (!rc && size > old)
        rc = qcow2_preallocate(b, old, prealloc, e);
    return rc ? err_set(e, -rc, "disk '%s' cannot get another size: %s", b->path, strerror(-rc))
              : 0;
}

/* --- what the header says --- */

static int resize_write_header(struct qcow2 *q, struct err *e)
{
    int rc;

    qcow2_meta_hold(q);
    rc = qcow2_meta_commit(q);
    if (!rc)
        rc = qcow2_table_write_header(q);
    qcow2_meta_release(q);
    if (rc == -E2BIG)
        return err_set(e, E2BIG, "disk '%s': the name does not fit into its header", q->b->path);
    return rc ? err_set(e, -rc, "disk '%s': its header cannot be written: %s", q->b->path,
                        strerror(-rc))
              : 0;
}

int qcow2_set_backing(struct blk *b, const char *path, const char *format, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    char *old = q->h.backing, *old_format = q->h.backing_format;
    int rc;

    if (path && (strlen(path) > QCOW2_MAX_NAME || !*path))
        return err_set(e, EINVAL, "a backing file has a name of at most %d bytes",
                       (int)QCOW2_MAX_NAME);
    if (path && (q->h.autoclear & QCOW2_A_RAW_DATA))
        return err_set(e, EINVAL, "disk '%s' has a raw data file, and so no backing file", b->path);
    q->h.backing = path ? strdup(path) : NULL;
    q->h.backing_format = path && format ? strdup(format) : NULL;
    if ((path && !q->h.backing) || (path && format && !q->h.backing_format))
        rc = err_set(e, ENOMEM, "out of memory");
    else
        rc = resize_write_header(q, e);
    if (rc) {
        free(q->h.backing);
        free(q->h.backing_format);
        q->h.backing = old;
        q->h.backing_format = old_format;
        return rc;
    }
    free(old);
    free(old_format);
    return 0;
}

int qcow2_amend(struct blk *b, const char *const *options, struct err *e)
{
    struct qcow2 *q = qcow2_of(b);
    struct qcow2_header *h = &q->h;
    struct qcow2_options is = { .version = h->version,
                                .cluster_bits = h->cluster_bits,
                                .refcount_order = h->refcount_order,
                                .extended_l2 = q->extended,
                                .lazy_refcounts = h->compat & QCOW2_C_LAZY,
                                .data_file_raw = h->autoclear & QCOW2_A_RAW_DATA,
                                .compression = h->compression,
                                .data_file = h->data_file },
                         to = is;
    int rc = qcow2_options_parse(options, &to, e);

    if (!rc && (to.cluster_bits != is.cluster_bits || to.refcount_order != is.refcount_order ||
                to.extended_l2 != is.extended_l2 || to.compression != is.compression ||
                to.data_file != is.data_file || to.data_file_raw != is.data_file_raw ||
                to.encrypt || to.preallocation || to.version < is.version))
        rc = err_set(
            e, ENOTSUP,
            "disk '%s': only compat=1.1 and lazy_refcounts can be changed in place; convert it for "
            "the rest",
            b->path);
    if (!rc && to.version > is.version && h->n_snapshots)
        rc = err_set(e, ENOTSUP, "disk '%s' has snapshots: delete them before compat=1.1", b->path);
    if (!rc)
        rc = qcow2_options_check(&to, h->backing, e);
    if (rc)
        return rc;
    if (to.version > is.version)
        h->length = QCOW2_HEADER_V3 + 8;
    h->version = to.version;
    h->compat = (h->compat & ~(uint64_t)QCOW2_C_LAZY) | (to.lazy_refcounts ? QCOW2_C_LAZY : 0u);
    return resize_write_header(q, e);
}
