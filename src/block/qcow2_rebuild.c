/*
 * qcow2_rebuild.c: new refcounts for an image, and with them another mapping (snapshots) or right flags (repair).
 * All of it goes to clusters that nothing uses; then one write of the header's first sector makes it valid. A cut
 * at any moment leaves the image as it was, or as it is to be.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_count.h"

/* --- free clusters --- */

static bool rebuild_reserve(struct qcow2_count *k, uint64_t clusters)
{
    uint32_t *n;

    if (clusters <= k->clusters)
        return true;
    if (clusters > k->room) {
        uint64_t room = clusters + clusters / 8 + 1024;

        n = realloc(k->n, room * sizeof(*n));
        if (!n)
            return false;
        k->n = n;
        k->room = room;
    }
    memset(k->n + k->clusters, 0, (clusters - k->clusters) * sizeof(*k->n));
    k->clusters = clusters;
    return true;
}

static bool rebuild_free(const struct qcow2_rebuild *r, uint64_t c)
{
    return (c >= r->want.clusters || !r->want.n[c]) && (c >= r->have.clusters || !r->have.n[c]);
}

uint64_t qcow2_rebuild_alloc(struct qcow2_rebuild *r, uint64_t clusters)
{
    uint64_t c = max_u64(r->next, 1), run = 0;

    for (; run < clusters; c++)
        run = rebuild_free(r, c) ? run + 1 : 0;
    if (!rebuild_reserve(&r->want, c))
        return 0;
    for (uint64_t i = c - run; i < c; i++)
        r->want.n[i] = 1;
    if (clusters == 1)
        r->next = c;
    return (c - run) << r->q->cluster_bits;
}

static void rebuild_unref(struct qcow2_rebuild *r, uint64_t off, uint64_t len)
{
    unsigned bits = r->q->cluster_bits;

    for (uint64_t c = off >> bits; len && c <= (off + len - 1) >> bits; c++)
        if (c < r->want.clusters && r->want.n[c] && r->want.n[c] < UINT32_MAX)
            r->want.n[c]--;
}

/* --- the mapping --- */

static uint64_t rebuild_flag(const struct qcow2_rebuild *r, uint64_t entry)
{
    uint64_t c = (entry & QCOW2_OFFSET) >> r->q->cluster_bits;

    if (!(entry & QCOW2_OFFSET) || c >= r->want.clusters)
        return entry;
    return r->want.n[c] == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED;
}

/* Sets the flags in a table; did any change? */
static bool rebuild_flags(const struct qcow2_rebuild *r, uint8_t *table)
{
    const struct qcow2 *q = r->q;
    bool changed = false;

    for (uint32_t at = 0; at < q->cluster_size && !q->external; at += q->entry_size) {
        uint64_t e = ld_be64(table + at), now = e & QCOW2_COMPRESSED ? e : rebuild_flag(r, e);

        if (now == e)
            continue;
        st_be64(table + at, now);
        changed = true;
    }
    return changed;
}

static int rebuild_table(struct qcow2_rebuild *r, uint64_t *entry, uint8_t *table)
{
    struct qcow2 *q = r->q;
    uint64_t off = *entry & QCOW2_OFFSET, now;
    int rc;

    if (!off || (*entry & QCOW2_L1_BAD) || qcow2_in_cluster(q, off) || off >= q->file->size)
        return 0; /* nonsense stays what it is */
    rc = qcow2_meta_read(q, off, table, q->cluster_size);
    if (rc || !rebuild_flags(r, table))
        return rc;
    now = qcow2_rebuild_alloc(r, 1);
    if (!now)
        return -ENOMEM;
    rebuild_unref(r, off, q->cluster_size);
    *entry = now;
    return qcow2_meta_write(q, now, table, q->cluster_size);
}

static int rebuild_tables(struct qcow2_rebuild *r, uint64_t *l1, uint32_t size)
{
    uint8_t *table = malloc(r->q->cluster_size);
    int rc = table ? 0 : -ENOMEM;

    for (uint32_t i = 0; !rc && i < size; i++)
        rc = rebuild_table(r, &l1[i], table);
    for (uint32_t i = 0; !rc && i < size; i++)
        l1[i] = rebuild_flag(r, l1[i]);
    free(table);
    return rc;
}

static bool rebuild_same_l1(const struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
    return size == q->h.l1_size && !memcmp(l1, q->l1, (size_t)size * 8);
}

int qcow2_rebuild_active(struct qcow2_rebuild *r, uint64_t *l1, uint32_t size, bool fresh_l1)
{
    struct qcow2 *q = r->q;
    uint64_t old_len = (uint64_t)q->h.l1_size * 8, clusters;
    int rc = rebuild_tables(r, l1, size);

    if (rc)
        return rc;
    if (!size || (!fresh_l1 && rebuild_same_l1(q, l1, size))) {
        if (fresh_l1 && q->h.l1_off) /* an empty disk: the table is only a place */
            r->h.l1_off = q->h.l1_off;
        return 0;
    }
    clusters = align_up((uint64_t)size * 8, q->cluster_size) >> q->cluster_bits;
    r->h.l1_off = qcow2_rebuild_alloc(r, clusters);
    r->h.l1_size = size;
    if (!r->h.l1_off)
        return -ENOMEM;
    if (!fresh_l1)
        rebuild_unref(r, q->h.l1_off, old_len);
    return qcow2_table_write(q, r->h.l1_off, size, l1);
}

/* --- refcounts --- */

static bool rebuild_block_needed(const struct qcow2_rebuild *r, uint64_t index)
{
    uint64_t first = index << r->q->rb_bits,
             end = min_u64(first + BIT64(r->q->rb_bits), r->want.clusters);

    for (uint64_t c = first; c < end; c++)
        if (r->want.n[c])
            return true;
    return false;
}

/* A place for the table and every block that is needed, those for themselves too. */
static int rebuild_place(struct qcow2_rebuild *r, uint64_t **rt, uint64_t *entries)
{
    const struct qcow2 *q = r->q;
    uint64_t per = BIT64(q->rb_bits), blocks = 2, clusters = 1;
    bool more = true;

    /* Generous: more entries than blocks cost nothing. */
    for (int i = 0; i < 64 && blocks * per < max_u64(r->want.clusters, r->have.clusters) + blocks +
                                                 clusters + per;
         i++) {
        blocks = (max_u64(r->want.clusters, r->have.clusters) + blocks + clusters) / per + 2;
        clusters = align_up(blocks * 8, q->cluster_size) >> q->cluster_bits;
    }
    *entries = (clusters << q->cluster_bits) / 8;
    if (*entries * 8 > QCOW2_MAX_RT)
        return -EFBIG;
    *rt = calloc(*entries, sizeof(uint64_t));
    r->h.rt_off = *rt ? qcow2_rebuild_alloc(r, clusters) : 0;
    r->h.rt_clusters = (uint32_t)clusters;
    if (!r->h.rt_off)
        return -ENOMEM;
    while (more) {
        more = false;
        for (uint64_t i = 0; i << q->rb_bits < r->want.clusters; i++) {
            if (i >= *entries)
                return -EFBIG;
            if ((*rt)[i] || !rebuild_block_needed(r, i))
                continue;
            (*rt)[i] = qcow2_rebuild_alloc(r, 1);
            if (!(*rt)[i])
                return -ENOMEM;
            more = true;
        }
    }
    return 0;
}

static int rebuild_write_block(struct qcow2_rebuild *r, uint64_t index, uint64_t off,
                               uint8_t *block)
{
    struct qcow2 *q = r->q;
    unsigned order = q->h.refcount_order;
    uint64_t most = order >= 5 ? UINT32_MAX : BIT64(BIT(order)) - 1, first = index << q->rb_bits;

    memset(block, 0, q->cluster_size);
    for (uint64_t i = 0; i < BIT64(q->rb_bits) && first + i < r->want.clusters; i++) {
        if (r->want.n[first + i] > most)
            return -EOVERFLOW;
        qcow2_refcount_entry_set(block, order, i, r->want.n[first + i]);
    }
    return qcow2_meta_write(q, off, block, q->cluster_size);
}

static int rebuild_write_refcounts(struct qcow2_rebuild *r)
{
    struct qcow2 *q = r->q;
    uint64_t *rt = NULL, entries = 0;
    uint8_t *block = malloc(q->cluster_size);
    int rc = block ? rebuild_place(r, &rt, &entries) : -ENOMEM;

    for (uint64_t i = 0; !rc && i < entries; i++)
        if (rt[i])
            rc = rebuild_write_block(r, i, rt[i], block);
    if (!rc)
        rc = qcow2_table_write(q, r->h.rt_off, entries, rt);
    if (!rc)
        rc = qcow2_meta_flush(q);
    free(block);
    free(rt);
    return rc;
}

/* --- the end --- */

/* The new header; an error may leave either of the two in the file. */
static int rebuild_switch(struct qcow2_rebuild *r)
{
    struct qcow2 *q = r->q;
    struct qcow2_header old = q->h;
    int rc;

    q->h = r->h;
    rc = qcow2_table_write_header_sector(q);
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (rc) {
        q->h = old;
        q->corrupt = true; /* not to be written to until it has been opened again */
        return rc;
    }
    return qcow2_load_tables(q);
}

static void rebuild_punch(struct qcow2_rebuild *r)
{
    struct qcow2 *q = r->q;
    struct qcow2_batch m = { .q = q };
    uint64_t start = 0;

    for (uint64_t c = 0; c <= r->have.clusters; c++) {
        bool gone =
            c < r->have.clusters && r->have.n[c] && (c >= r->want.clusters || !r->want.n[c]);

        if (gone && !start)
            start = c;
        if (gone || !start)
            continue;
        qcow2_batch_add(&m, q->file, BLK_DISCARD, start << q->cluster_bits, NULL,
                        min_u64(c << q->cluster_bits, q->file->size) - (start << q->cluster_bits),
                        0);
        start = 0;
    }
    if (qcow2_batch_wait(&m))
        log_warn("block", "disk '%s': freed space stays in its file", q->b->path);
}

int qcow2_rebuild_finish(struct qcow2_rebuild *r)
{
    int rc = rebuild_write_refcounts(r);

    if (rc == -EOVERFLOW)
        return err_set(
            r->e, EOVERFLOW,
            "disk '%s': a cluster is used more often than its refcount_bits=%u can count",
            r->q->b->path, BIT(r->q->h.refcount_order));
    if (!rc)
        rc = rebuild_switch(r);
    if (!rc)
        rebuild_punch(r);
    return rc;
}
