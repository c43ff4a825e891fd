/*
 * qcow2_count.c: see qcow2_count.h.
 */
#include "block/qcow2_count.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block/qcow2_bitmap.h"

#define COUNT_MAX_CLUSTERS BIT64(28)

int qcow2_count_init(struct qcow2_count *k, struct qcow2 *q, struct blk_check *c)
{
    *k = (struct qcow2_count){ .q = q, .c = c };
    k->clusters = align_up(q->file->size, q->cluster_size) >> q->cluster_bits;
    if (k->clusters > COUNT_MAX_CLUSTERS)
        return -EFBIG;
    k->room = k->clusters + 1;
    k->n = calloc(k->room, sizeof(*k->n));
    return k->n ? 0 : -ENOMEM;
}

void qcow2_count_fini(struct qcow2_count *k)
{
    free(k->n);
    k->n = NULL;
}

void qcow2_count_say(struct qcow2_count *k, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    if (!k->c->say)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    k->c->say(k->c->opaque, line);
}

bool qcow2_count_range(struct qcow2_count *k, uint64_t off, uint64_t len, const char *what)
{
    unsigned bits = k->q->cluster_bits;
    uint64_t end;

    if (!len)
        return true;
    if (ckd_add(&end, off, len) || (end - 1) >> bits >= k->clusters) {
        qcow2_count_say(k, "ERROR: %s at 0x%llx lies behind the end of the file", what,
                        (unsigned long long)off);
        k->c->corruptions++;
        return false;
    }
    for (uint64_t c = off >> bits; c <= (end - 1) >> bits; c++)
        if (k->n[c] < UINT32_MAX)
            k->n[c]++;
    return true;
}

/* --- the mapping --- */

struct count_walk {
    bool active;
    uint64_t guest, last_host;
};

static void count_statistics(struct qcow2_count *k, struct count_walk *w, uint64_t host)
{
    if (!w->active)
        return;
    k->c->allocated_clusters++;
    if (w->last_host && host != w->last_host + k->q->cluster_size)
        k->c->fragmented_clusters++;
    w->last_host = host;
}

static void count_entry(struct qcow2_count *k, struct count_walk *w, const uint8_t *entry)
{
    const struct qcow2 *q = k->q;
    uint64_t e = ld_be64(entry), host = e & QCOW2_OFFSET, len = q->cluster_size;
    struct qcow2_map m;

    if (!e)
        return;
    if (qcow2_map_entry(q, w->guest, entry, &m) ||
        (host && !q->external && !(e & QCOW2_COMPRESSED) && qcow2_in_cluster(q, host))) {
        qcow2_count_say(k, "ERROR: the L2 entry 0x%llx for guest offset 0x%llx is impossible",
                        (unsigned long long)e, (unsigned long long)w->guest);
        k->c->corruptions++;
        return;
    }
    if (e & QCOW2_COMPRESSED) {
        qcow2_map_packed(q, e, &host, &len);
        len = min_u64(len,
                      max_u64(q->file->size, host + 1) - host); /* the last one may be cut short */
        if (w->active)
            k->c->compressed_clusters++;
    }
    if (q->external || !host) {
        if (w->active && q->external && m.kind == QCOW2_K_DATA)
            k->c->allocated_clusters++;
        return;
    }
    if (qcow2_count_range(k, host, len, "data"))
        count_statistics(k, w, align_down(host, q->cluster_size));
}

static int count_l2(struct qcow2_count *k, uint64_t off, struct count_walk *w, uint8_t *table)
{
    const struct qcow2 *q = k->q;
    int rc = qcow2_meta_read(k->q, off, table, q->cluster_size);

    if (rc) {
        qcow2_count_say(k, "ERROR: the L2 table at 0x%llx cannot be read: %s",
                        (unsigned long long)off, strerror(-rc));
        k->c->check_errors++;
        return 0;
    }
    for (uint32_t at = 0; at < q->cluster_size; at += q->entry_size) {
        count_entry(k, w, table + at);
        w->guest += q->cluster_size;
    }
    return 0;
}

/* A table twice in one mapping would make a hostile image take for ever. */
static bool count_seen(uint64_t *seen, uint64_t cluster)
{
    bool was = seen[cluster / 64] >> (cluster % 64) & 1;

    seen[cluster / 64] |= BIT64(cluster % 64);
    return was;
}

static int count_tables(struct qcow2_count *k, const uint64_t *l1, uint64_t size, bool active,
                        uint64_t *seen, uint8_t *table)
{
    const struct qcow2 *q = k->q;
    uint64_t budget = BIT64(20) + 4 * k->clusters;
    struct count_walk w = { .active = active };
    int rc = 0;

    for (uint64_t i = 0; !rc && i < size; i++) {
        uint64_t off = l1[i] & QCOW2_OFFSET;

        w.guest = i << (q->cluster_bits + q->l2_bits);
        if (!off && !l1[i])
            continue;
        if ((l1[i] & QCOW2_L1_BAD) || !off || qcow2_in_cluster(q, off)) {
            qcow2_count_say(k, "ERROR: L1 entry %llu (0x%llx) is impossible", (unsigned long long)i,
                            (unsigned long long)l1[i]);
            k->c->corruptions++;
        } else if (qcow2_count_range(k, off, q->cluster_size, "an L2 table")) {
            if (k->tables++ > budget)
                return -EFBIG;
            if (!count_seen(seen, off >> q->cluster_bits)) {
                rc = count_l2(k, off, &w, table);
            } else {
                qcow2_count_say(k, "ERROR: the L2 table at 0x%llx is used twice",
                                (unsigned long long)off);
                k->c->corruptions++;
            }
        }
    }
    return rc;
}

int qcow2_count_l1(struct qcow2_count *k, const uint64_t *l1, uint64_t size, bool active)
{
    uint64_t *seen = calloc(k->clusters / 64 + 1, sizeof(*seen));
    uint8_t *table = malloc(k->q->cluster_size);
    int rc = seen && table ? count_tables(k, l1, size, active, seen, table) : -ENOMEM;

    free(seen);
    free(table);
    return rc;
}

int qcow2_count_active(struct qcow2_count *k)
{
    const struct qcow2 *q = k->q;

    qcow2_count_range(k, q->h.l1_off, (uint64_t)q->h.l1_size * 8, "the L1 table");
    return qcow2_count_l1(k, q->l1, q->h.l1_size, true);
}

/* --- the rest --- */

static int count_snapshot(struct qcow2_count *k, const struct qcow2_snapshot *s)
{
    struct qcow2 *q = k->q;
    uint64_t *l1;
    int rc;

    if (s->l1_size > QCOW2_MAX_L1 / 8 || qcow2_in_cluster(q, s->l1_off)) {
        qcow2_count_say(k, "ERROR: the L1 table of snapshot '%s' is impossible", s->name);
        k->c->corruptions++;
        return 0;
    }
    if (!s->l1_size ||
        !qcow2_count_range(k, s->l1_off, (uint64_t)s->l1_size * 8, "the L1 table of a snapshot"))
        return 0;
    l1 = malloc((size_t)s->l1_size * 8);
    rc = l1 ? qcow2_table_read(q, s->l1_off, s->l1_size, l1) : -ENOMEM;
    if (!rc)
        rc = qcow2_count_l1(k, l1, s->l1_size, false);
    free(l1);
    return rc;
}

static void count_bitmap_table(struct qcow2_count *k, uint64_t off, uint64_t n)
{
    uint64_t *table = n <= QCOW2_MAX_L1 / 8 ? malloc(n * 8 + 8) : NULL;

    if (!qcow2_count_range(k, off, n * 8, "the table of a bitmap") || !table ||
        qcow2_table_read(k->q, off, n, table)) {
        k->c->check_errors += !table;
        free(table);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        if (table[i] & QCOW2_OFFSET)
            qcow2_count_range(k, table[i] & QCOW2_OFFSET, k->q->cluster_size, "a bitmap");
    free(table);
}

static int count_bitmaps(struct qcow2_count *k)
{
    struct qcow2 *q = k->q;
    struct qcow2_bitmaps list;
    int rc;

    qcow2_count_range(k, q->h.bitmaps.dir_off, q->h.bitmaps.dir_size, "the directory of bitmaps");
    rc = qcow2_bitmap_dir_load(q, &list);
    if (rc == -EINVAL) {
        qcow2_count_say(k, "ERROR: the directory of bitmaps is damaged");
        k->c->corruptions++;
        return 0;
    }
    if (rc == -ENOMEM)
        return rc;
    k->c->check_errors += !!rc;
    for (uint32_t i = 0; i < list.n; i++)
        count_bitmap_table(k, list.v[i].table_off, list.v[i].table_n);
    qcow2_bitmap_dir_unload(&list);
    return 0;
}

int qcow2_count_rest(struct qcow2_count *k, const struct qcow2_snapshots *list, int64_t but)
{
    struct qcow2 *q = k->q;
    int rc = 0;

    qcow2_count_range(k, 0, q->cluster_size, "the header");
    qcow2_count_range(k, q->h.snapshots_off, list->bytes, "the table of snapshots");
    if (q->h.luks.off)
        qcow2_count_range(k, q->h.luks.off, q->h.luks.len, "the encryption header");
    if (q->h.bitmaps.n)
        rc = count_bitmaps(k);
    for (uint32_t i = 0; !rc && i < list->n; i++)
        if (i != but)
            rc = count_snapshot(k, &list->v[i]);
    return rc;
}

void qcow2_count_refcounts(struct qcow2_count *k)
{
    struct qcow2 *q = k->q;

    qcow2_count_range(k, q->h.rt_off, (uint64_t)q->h.rt_clusters << q->cluster_bits,
                      "the refcount table");
    for (uint64_t i = 0; i < q->rt_size; i++) {
        if (!q->rt[i])
            continue;
        if (qcow2_in_cluster(q, q->rt[i])) {
            qcow2_count_say(k, "ERROR: refcount block %llu is at an impossible place",
                            (unsigned long long)i);
            k->c->corruptions++;
        } else {
            qcow2_count_range(k, q->rt[i], q->cluster_size, "a refcount block");
        }
    }
}
