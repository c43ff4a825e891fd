/*
 * qcow2_table.c: the header in the file, tables of 64-bit numbers, and L2 tables that become the disk's own.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_bitmap.h"

int qcow2_table_read(struct qcow2 *q, uint64_t off, uint64_t n, uint64_t *v)
{
    int rc = n ? qcow2_meta_read(q, off, v, n * 8) : 0;

    for (uint64_t i = 0; !rc && i < n; i++)
        v[i] = ld_be64(&v[i]);
    return rc;
}

int qcow2_table_write(struct qcow2 *q, uint64_t off, uint64_t n, const uint64_t *v)
{
    uint64_t *be = malloc(n * 8);
    int rc;

    if (!be)
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++)
        st_be64(&be[i], v[i]);
    rc = qcow2_meta_write(q, off, be, n * 8);
    free(be);
    return rc;
}

int qcow2_table_write_header_sector(struct qcow2 *q)
{
    qcow2_header_put_fixed(&q->h, q->head);
    return qcow2_meta_write(q, 0, q->head, BLK_SECTOR);
}

int qcow2_table_write_header(struct qcow2 *q)
{
    uint8_t *head = calloc(1, q->cluster_size);
    int rc = head ? qcow2_header_build(&q->h, head, q->cluster_size) : -ENOMEM;

    if (!rc) /* one sector cannot be torn */
        rc = qcow2_meta_write(
            q, 0, head,
            memcmp(head + BLK_SECTOR, q->head + BLK_SECTOR, q->cluster_size - BLK_SECTOR)
                ? q->cluster_size
                : BLK_SECTOR);
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (rc) {
        free(head);
        return rc;
    }
    free(q->head);
    q->head = head;
    return 0;
}

int qcow2_table_begin_writing(struct qcow2 *q, struct err *e)
{
    uint64_t autoclear = q->h.autoclear & QCOW2_A_KNOWN;
    int rc = qcow2_bitmap_begin_writing(q, e);

    if (rc || autoclear == q->h.autoclear)
        return rc;
    q->h.autoclear = autoclear;
    rc = qcow2_table_write_header_sector(q);
    if (!rc)
        rc = qcow2_meta_flush(q);
    return rc ? err_set(e, -rc, "disk '%s': its header cannot be written: %s", q->b->path,
                        strerror(-rc))
              : 0;
}

/* A copy of the table at old (0: an empty one) in cluster host. */
static int table_copy(struct qcow2 *q, uint64_t old, uint64_t host)
{
    uint8_t *buf = calloc(1, q->cluster_size);
    int rc = buf ? 0 : -ENOMEM;

    if (!rc && old)
        rc = qcow2_meta_read(q, old, buf, q->cluster_size);
    if (!rc)
        rc = qcow2_meta_write(q, host, buf, q->cluster_size);
    free(buf);
    return rc;
}

int qcow2_table_make_own(struct qcow2 *q, uint64_t l1_index)
{
    uint64_t old, host, got;
    int rc;

    pthread_mutex_lock(&q->lock);
    old = q->l1[l1_index] & QCOW2_OFFSET;
    rc = old && (q->l1[l1_index] & QCOW2_COPIED) ? 1 : 0;
    if (!rc && old && (qcow2_in_cluster(q, old) || old >= q->file->size))
        rc = qcow2_map_corrupt(q, "an impossible L1 entry", l1_index);
    if (!rc)
        rc = qcow2_refcount_alloc_wait(q, 1, &host, &got);
    pthread_mutex_unlock(&q->lock);
    if (rc)
        return rc == 1 ? 0 : rc;

    rc = table_copy(q, old, host);
    pthread_mutex_lock(&q->lock);
    if (rc) {
        qcow2_refcount_undo(q, host, q->cluster_size);
    } else {
        qcow2_cache_drop_table(q, host);
        q->l1[l1_index] = host | QCOW2_COPIED;
        q->l1_dirty[l1_index / 64] |= BIT64(l1_index % 64);
        q->l1_any_dirty = true;
        if (old)
            qcow2_refcount_free_later(q, old, q->cluster_size);
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}
