/*
 * qcow2_refcount.c: which clusters of the file are taken. Blocks of the refcount table are in memory where
 * allocation goes on; others are loaded or made by meta jobs. Lock held in all of it; functions that block let
 * it go meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { REFCOUNT_FREES_MANY = 4096 };

uint64_t qcow2_refcount_entry(const uint8_t *block, unsigned order, uint64_t i)
{
    switch (order) {
    case 3:
        return block[i];
    case 4:
        return ld_be16(block + i * 2);
    case 5:
        return ld_be32(block + i * 4);
    case 6:
        return ld_be64(block + i * 8);
    default: { /* less than a byte */
        uint64_t bit = i << order;

        return block[bit / 8] >> (bit % 8) & (BIT(BIT(order)) - 1);
    }
    }
}

void qcow2_refcount_entry_set(uint8_t *block, unsigned order, uint64_t i, uint64_t count)
{
    uint64_t bit = i << order;
    unsigned mask;

    switch (order) {
    case 3:
        block[i] = (uint8_t)count;
        break;
    case 4:
        st_be16(block + i * 2, (uint16_t)count);
        break;
    case 5:
        st_be32(block + i * 4, (uint32_t)count);
        break;
    case 6:
        st_be64(block + i * 8, count);
        break;
    default:
        mask = BIT(BIT(order)) - 1;
        block[bit / 8] =
            (uint8_t)((block[bit / 8] & ~(mask << (bit % 8))) | (count & mask) << (bit % 8));
    }
}

static uint64_t refcount_max(const struct qcow2 *q)
{
    return q->h.refcount_order == 6 ? UINT64_MAX : BIT64(BIT(q->h.refcount_order)) - 1;
}

/* --- blocks in memory --- */

static void refcount_drop(struct qcow2 *q, size_t at)
{
    struct qcow2_refblock *rb = q->rb_list[at];

    q->rb[rb->index] = NULL;
    q->rb_list[at] = q->rb_list[--q->rb_n];
    free(rb->data);
    free(rb);
}

static void refcount_make_room(struct qcow2 *q)
{
    size_t oldest = SIZE_MAX;

    for (size_t i = 0; i < q->rb_n; i++)
        if (!q->rb_list[i]->dirty && !q->rb_list[i]->writing &&
            (oldest == SIZE_MAX || q->rb_list[i]->used < q->rb_list[oldest]->used))
            oldest = i;
    if (oldest != SIZE_MAX && q->rb_n >= q->rb_max)
        refcount_drop(q, oldest);
}

/* Owns data if it succeeds. */
static int refcount_insert(struct qcow2 *q, uint64_t index, uint8_t *data)
{
    struct qcow2_refblock *rb = calloc(1, sizeof(*rb));

    refcount_make_room(q);
    if (rb && q->rb_n == q->rb_room) {
        size_t room = q->rb_room ? 2 * q->rb_room : 16;
        struct qcow2_refblock **list = realloc(q->rb_list, room * sizeof(struct qcow2_refblock *));

        if (!list) {
            free(rb);
            return -ENOMEM;
        }
        q->rb_list = list;
        q->rb_room = room;
    }
    if (!rb)
        return -ENOMEM;
    *rb = (struct qcow2_refblock){ .index = index, .data = data, .used = ++q->rb_clock };
    q->rb_list[q->rb_n++] = rb;
    q->rb[index] = rb;
    return 0;
}

/* 0: the block is in memory; -ENOENT: there is none. */
static int refcount_load(struct qcow2 *q, uint64_t index)
{
    uint64_t off = index < q->rt_size ? q->rt[index] : 0;
    uint8_t *data;
    int rc;

    if (index < q->rt_size && q->rb[index]) {
        q->rb[index]->used = ++q->rb_clock;
        return 0;
    }
    if (!off)
        return -ENOENT;
    if (qcow2_in_cluster(q, off) || off >= q->file->size)
        return qcow2_map_corrupt(q, "an impossible place of refcounts", off);
    data = malloc(q->cluster_size);
    if (!data)
        return -ENOMEM;
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_meta_read(q, off, data, q->cluster_size);
    pthread_mutex_lock(&q->lock);
    if (!rc)
        rc = refcount_insert(q, index, data);
    if (rc)
        free(data);
    return rc;
}

void qcow2_refcount_fini(struct qcow2 *q)
{
    while (q->rb_n)
        refcount_drop(q, q->rb_n - 1);
    free(q->rb_list);
    free(q->rb);
    free(q->rt);
    free(q->frees.v);
    free(q->waiting.v);
    q->rb_list = NULL;
    q->rb = NULL;
    q->rt = NULL;
    q->rb_room = 0;
    q->rb_dirty = 0;
    q->frees = q->waiting = (struct qcow2_frees){ 0 };
}

int qcow2_refcount_reload(struct qcow2 *q)
{
    uint64_t n = (uint64_t)q->h.rt_clusters * q->cluster_size / 8;
    int rc;

    qcow2_refcount_fini(q);
    q->rt = calloc(n, sizeof(uint64_t));
    q->rb = calloc(n, sizeof(struct qcow2_refblock *));
    if (!q->rt || !q->rb)
        return -ENOMEM;
    q->rt_size = n;
    q->rb_max = max_u64(4, QCOW2_REF_CACHE / q->cluster_size);
    q->hint = 0;
    q->packed_next = 0;
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_table_read(q, q->h.rt_off, n, q->rt);
    pthread_mutex_lock(&q->lock);
    for (uint64_t i = 0; i < n; i++)
        q->rt[i] &= ~(uint64_t)(BLK_SECTOR - 1);
    q->virgin = q->file->grows ? align_up(q->file->size, q->cluster_size) : UINT64_MAX;
    return rc;
}

static void refcount_dirty(struct qcow2 *q, struct qcow2_refblock *rb)
{
    if (!rb->dirty)
        q->rb_dirty++;
    rb->dirty = true;
    if (q->rb_dirty > q->rb_max / 2) {
        q->want_commit = true;
        qcow2_meta_kick(q);
    }
}

/* --- allocating --- */

/* The block that has cluster c, if it is in memory. */
static struct qcow2_refblock *refcount_block(struct qcow2 *q, uint64_t c)
{
    uint64_t index = c >> q->rb_bits;

    return index < q->rt_size ? q->rb[index] : NULL;
}

static uint64_t refcount_get(const struct qcow2 *q, const struct qcow2_refblock *rb, uint64_t c)
{
    return qcow2_refcount_entry(rb->data, q->h.refcount_order, c & (BIT64(q->rb_bits) - 1));
}

static void refcount_set(struct qcow2 *q, struct qcow2_refblock *rb, uint64_t c, uint64_t count)
{
    qcow2_refcount_entry_set(rb->data, q->h.refcount_order, c & (BIT64(q->rb_bits) - 1), count);
    refcount_dirty(q, rb);
    if (!count) {
        q->hint = min_u64(q->hint, c);
        if (q->packed_next && (q->packed_next - 1) >> q->cluster_bits == c)
            q->packed_next = 0;
    }
}

/* Moves the hint to a free cluster. -EAGAIN: what comes next is not in memory. */
static int refcount_seek(struct qcow2 *q, struct qcow2_refblock **out)
{
    for (;;) {
        struct qcow2_refblock *rb = refcount_block(q, q->hint);
        uint64_t end = align_down(q->hint, BIT64(q->rb_bits)) + BIT64(q->rb_bits);

        if (!rb)
            return -EAGAIN;
        while (q->hint < end && refcount_get(q, rb, q->hint))
            q->hint++;
        if (q->hint == end)
            continue;
        rb->used = ++q->rb_clock;
        *out = rb;
        return 0;
    }
}

int qcow2_refcount_alloc(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got, bool *fresh)
{
    struct qcow2_refblock *rb;
    uint64_t n = 0, c, end;
    int rc = refcount_seek(q, &rb);

    if (rc)
        return rc;
    c = q->hint;
    end = align_down(c, BIT64(q->rb_bits)) + BIT64(q->rb_bits);
    *host = c << q->cluster_bits;
    if (c >> (56 - q->cluster_bits))
        return -EFBIG;
    while (n < want && c + n < end && !refcount_get(q, rb, c + n))
        n++;
    if (*host < q->cluster_size ||
        (*host < q->file->size && !qcow2_map_sane(q, *host, n << q->cluster_bits)))
        return qcow2_map_corrupt(q, "metadata that counts as free space", *host);
    for (uint64_t i = 0; i < n; i++)
        refcount_set(q, rb, c + i, 1);
    q->hint = c + n;
    *got = n;
    *fresh = *host >= q->virgin;
    if (q->virgin != UINT64_MAX)
        q->virgin = max_u64(q->virgin, (c + n) << q->cluster_bits);
    return 0;
}

/* One more reference to the cluster that the last packed bytes are in, if it can have that. */
static bool refcount_share_packed(struct qcow2 *q)
{
    uint64_t c = (q->packed_next - 1) >> q->cluster_bits;
    struct qcow2_refblock *rb = refcount_block(q, c);

    if (!rb || refcount_get(q, rb, c) >= refcount_max(q))
        return false;
    refcount_set(q, rb, c, refcount_get(q, rb, c) + 1);
    return true;
}

int qcow2_refcount_alloc_bytes(struct qcow2 *q, uint64_t len, uint64_t *host)
{
    uint64_t in = qcow2_in_cluster(q, q->packed_next), last = q->packed_next, cluster, got;
    bool fresh;
    int rc;

    if (in && len <= q->cluster_size - in && refcount_share_packed(q)) {
        *host = last;
        q->packed_next = last + len;
        return 0;
    }
    rc = qcow2_refcount_alloc(q, 1, &cluster, &got, &fresh);
    if (rc)
        return rc;
    if (cluster >= BIT64(min_u64(56, 62 - (q->cluster_bits - 8)))) {
        qcow2_refcount_undo(q, cluster, q->cluster_size);
        return -EFBIG;
    }
    if (in && cluster == align_up(last, q->cluster_size) && refcount_share_packed(q))
        *host = last;
    else
        *host = cluster;
    q->packed_next = *host + len;
    return 0;
}

void qcow2_refcount_undo(struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t first = host >> q->cluster_bits, last = (host + len - 1) >> q->cluster_bits;

    for (uint64_t c = first; c <= last; c++) {
        struct qcow2_refblock *rb = refcount_block(q, c);

        if (rb && refcount_get(q, rb, c))
            refcount_set(q, rb, c, refcount_get(q, rb, c) - 1);
        else if (!rb)
            qcow2_refcount_free_later(q, c << q->cluster_bits, q->cluster_size);
    }
}

/* Without memory it stays taken: a leak, which check finds. */
static void refcount_note(const struct qcow2 *q, struct qcow2_frees *f, uint64_t host, uint64_t len)
{
    struct qcow2_free *last = f->n ? &f->v[f->n - 1] : NULL;

    if (last && last->off + last->len == host && !qcow2_in_cluster(q, host)) {
        last->len += len;
        return;
    }
    if (!f->v || f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 64;
        struct qcow2_free *v = realloc(f->v, room * sizeof(*v));

        if (!v)
            return;
        f->v = v;
        f->room = room;
    }
    f->v[f->n++] = (struct qcow2_free){ host, len };
}

void qcow2_refcount_free_later(struct qcow2 *q, uint64_t host, uint64_t len)
{
    struct qcow2_frees *f = &q->frees;

    if (q->external)
        return;
    refcount_note(q, f, host, len);
    if (q->b->loop && f->n == 1)
        loop_timer_set(&q->commit_timer, util_monotonic_ns() + 500000000u);
    if (f->n > REFCOUNT_FREES_MANY) {
        q->want_commit = true;
        qcow2_meta_kick(q);
    }
}

/* --- more of them --- */

/* A block that is not there yet lies at the beginning of what it describes: surely free, and counted by itself. */
static int refcount_make_block(struct qcow2 *q, uint64_t index)
{
    uint64_t off = index << (q->rb_bits + q->cluster_bits),
             sector = align_down(index, BLK_SECTOR / 8);
    uint64_t n = min_u64(BLK_SECTOR / 8, q->rt_size - sector), entries[BLK_SECTOR / 8];
    uint8_t *data = calloc(1, q->cluster_size);
    int rc;

    if (!data)
        return -ENOMEM;
    if (!index || (off < q->file->size && !qcow2_map_sane(q, off, q->cluster_size))) {
        free(data);
        return qcow2_map_corrupt(q, "no refcounts", off);
    }
    qcow2_refcount_entry_set(data, q->h.refcount_order, 0, 1);
    memcpy(entries, q->rt + sector, n * sizeof(*entries));
    entries[index - sector] = off;
    if (q->virgin != UINT64_MAX)
        q->virgin = max_u64(q->virgin, off + q->cluster_size);
    pthread_mutex_unlock(&q->lock);
    rc = qcow2_meta_write(q, off, data, q->cluster_size);
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (!rc)
        rc = qcow2_table_write(q, q->h.rt_off + sector * 8, n, entries);
    pthread_mutex_lock(&q->lock);
    if (!rc)
        rc = refcount_insert(q, index, data);
    if (rc) {
        free(data);
        return rc;
    }
    q->rt[index] = off;
    return 0;
}

/* How many blocks a table of that many entries needs for itself and them, from a free place on. */
static uint64_t refcount_blocks_for(const struct qcow2 *q, uint64_t rt_clusters)
{
    uint64_t n = 1;

    while (n << q->rb_bits < n + rt_clusters)
        n++;
    return n;
}

struct refcount_growth {
    uint64_t entries, rt_clusters, blocks; /* of the new table; new blocks */
    uint64_t start;                        /* where the blocks are, and behind them the table */
    uint64_t *rt;
    struct qcow2_refblock **rb;
};

static int refcount_grow_write(struct qcow2 *q, const struct refcount_growth *g)
{
    uint64_t used = g->blocks + g->rt_clusters, off = g->start;
    uint8_t *data = malloc(q->cluster_size);
    int rc = data ? 0 : -ENOMEM;

    for (uint64_t b = 0; !rc && b < g->blocks; b++, off += q->cluster_size) {
        memset(data, 0, q->cluster_size);
        for (uint64_t i = 0; i < BIT64(q->rb_bits) && used; i++, used--)
            qcow2_refcount_entry_set(data, q->h.refcount_order, i, 1);
        rc = qcow2_meta_write(q, off, data, q->cluster_size);
    }
    free(data);
    if (!rc)
        rc = qcow2_table_write(q, off, g->entries, g->rt);
    return rc ? rc : qcow2_meta_flush(q);
}

/* The new table is in the file: from now on it is the one. */
static int refcount_grow_switch(struct qcow2 *q, struct refcount_growth *g)
{
    uint64_t old_off = q->h.rt_off, old_len = (uint64_t)q->h.rt_clusters << q->cluster_bits;
    uint32_t old_clusters = q->h.rt_clusters;
    int rc;

    q->h.rt_off = g->start + (g->blocks << q->cluster_bits);
    q->h.rt_clusters = (uint32_t)g->rt_clusters;
    rc = qcow2_table_write_header_sector(q);
    if (!rc)
        rc = qcow2_meta_flush(q);
    if (rc) { /* which of the two is there, nobody knows: the old one stays valid, and the new one may */
        q->h.rt_off = old_off;
        q->h.rt_clusters = old_clusters;
        return rc;
    }
    pthread_mutex_lock(&q->lock);
    free(q->rt);
    free(q->rb);
    q->rt = g->rt;
    q->rb = g->rb;
    q->rt_size = g->entries;
    if (q->virgin != UINT64_MAX)
        q->virgin =
            max_u64(q->virgin, g->start + ((g->blocks + g->rt_clusters) << q->cluster_bits));
    qcow2_refcount_free_later(q, old_off, old_len);
    pthread_mutex_unlock(&q->lock);
    return 0;
}

static int refcount_grow(struct qcow2 *q)
{
    uint64_t per_cluster = q->cluster_size / 8, first = q->rt_size;
    struct refcount_growth g = { .entries =
                                     align_up(q->rt_size + q->rt_size / 2 + 1, per_cluster) };
    int rc;

    g.rt_clusters = g.entries / per_cluster;
    g.blocks = refcount_blocks_for(q, g.rt_clusters);
    g.start = first << (q->rb_bits + q->cluster_bits);
    if (g.entries * 8 > QCOW2_MAX_RT || g.start >> 55)
        return -EFBIG;
    g.rt = calloc(g.entries, sizeof(uint64_t));
    g.rb = calloc(g.entries, sizeof(struct qcow2_refblock *));
    if (!g.rt || !g.rb) {
        free(g.rt);
        free(g.rb);
        return -ENOMEM;
    }
    memcpy(g.rt, q->rt, q->rt_size * sizeof(uint64_t));
    memcpy(g.rb, q->rb, q->rt_size * sizeof(struct qcow2_refblock *));
    for (uint64_t b = 0; b < g.blocks; b++)
        g.rt[first + b] = g.start + (b << q->cluster_bits);
    pthread_mutex_unlock(&q->lock);
    rc = refcount_grow_write(q, &g);
    if (!rc)
        rc = refcount_grow_switch(q, &g);
    pthread_mutex_lock(&q->lock);
    if (rc) {
        free(g.rt);
        free(g.rb);
    }
    return rc;
}

int qcow2_refcount_refill(struct qcow2 *q)
{
    struct qcow2_refblock *rb;
    int rc;

    while ((rc = refcount_seek(q, &rb)) == -EAGAIN) {
        uint64_t index = q->hint >> q->rb_bits;

        if (index >= q->rt_size)
            rc = refcount_grow(q);
        else if (!q->rt[index])
            rc = refcount_make_block(q, index);
        else
            rc = refcount_load(q, index);
        if (rc)
            break;
    }
    return rc;
}

int qcow2_refcount_alloc_wait(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got)
{
    bool fresh;
    int rc;

    while ((rc = qcow2_refcount_alloc(q, want, host, got, &fresh)) == -EAGAIN) {
        rc = qcow2_refcount_refill(q);
        if (rc)
            break;
    }
    return rc;
}

/* --- giving back --- */

/* All but the last reference go at once; clusters with that one are collected. */
static void refcount_release_cluster(struct qcow2 *q, uint64_t c, struct qcow2_frees *last)
{
    struct qcow2_refblock *rb;

    if (refcount_load(q, c >> q->rb_bits))
        return; /* it stays taken */
    rb = refcount_block(q, c);
    if (!refcount_get(q, rb, c)) {
        qcow2_map_corrupt(q, "a cluster in use that counts as free", c << q->cluster_bits);
    } else if (refcount_get(q, rb, c) > 1) {
        refcount_set(q, rb, c, refcount_get(q, rb, c) - 1);
    } else {
        if (q->packed_next && (q->packed_next - 1) >> q->cluster_bits == c)
            q->packed_next = 0; /* no more goes in there: it is about to be punched */
        refcount_note(q, last, c << q->cluster_bits, q->cluster_size);
    }
}

static void refcount_punch(struct qcow2 *q, const struct qcow2_frees *f)
{
    struct qcow2_batch m = { .q = q };

    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].off < q->file->size)
            qcow2_batch_add(&m, q->file, BLK_DISCARD, f->v[i].off, NULL,
                            min_u64(f->v[i].len, q->file->size - f->v[i].off), 0);
    if (qcow2_batch_wait(&m)) /* the space stays with the file: no harm */
        log_limited(&q->limit, LOG_WARN, "block", "disk '%s': freed space stays in its file",
                    q->b->path);
}

static void refcount_release_last(struct qcow2 *q, const struct qcow2_frees *f)
{
    for (size_t i = 0; i < f->n; i++)
        for (uint64_t c = f->v[i].off >> q->cluster_bits;
             c < (f->v[i].off + f->v[i].len) >> q->cluster_bits; c++)
            if (!refcount_load(q, c >> q->rb_bits) && refcount_get(q, refcount_block(q, c), c))
                refcount_set(q, refcount_block(q, c), c, 0);
}

void qcow2_refcount_release(struct qcow2 *q, struct qcow2_frees *f)
{
    struct qcow2_frees last = { 0 };

    for (size_t i = 0; i < f->n; i++)
        for (uint64_t c = f->v[i].off >> q->cluster_bits;
             c <= (f->v[i].off + f->v[i].len - 1) >> q->cluster_bits; c++)
            refcount_release_cluster(q, c, &last);
    pthread_mutex_unlock(&q->lock);
    refcount_punch(q, &last);
    pthread_mutex_lock(&q->lock);
    refcount_release_last(q, &last);
    free(last.v);
    free(f->v);
    *f = (struct qcow2_frees){ 0 };
}
