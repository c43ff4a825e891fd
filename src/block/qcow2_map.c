/*
 * qcow2_map.c: what an L2 entry means, and what is at a place of the disk. Entries come from a file that may
 * be hostile: nothing is used before it has been found to lie within the image.
 */
#include <errno.h>

#include "block/qcow2_priv.h"

int qcow2_map_corrupt(struct qcow2 *q, const char *what, uint64_t where)
{
    log_limited(&q->limit, LOG_ERROR, "block",
                "disk '%s' is damaged: %s at 0x%llx; `ruche image check` tells more", q->b->path,
                what, (unsigned long long)where);
    q->corrupt = true;
    return -EIO;
}

static bool map_overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a < b + b_len && b < a + a_len;
}

bool qcow2_map_sane(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t end;

    if (ckd_add(&end, host, len) || end > INT64_MAX - BLK_SECTOR)
        return false;
    if (q->external)
        return true;
    return host < q->file->size && host >= q->cluster_size &&
           !map_overlaps(host, len, q->h.l1_off, (uint64_t)q->h.l1_size * 8) &&
           !map_overlaps(host, len, q->h.rt_off, q->rt_size * 8);
}

/* Bits 0 to x-1: offset; then the number of further sectors: x = 62 - (cluster_bits - 8). */
void qcow2_map_packed(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (entry >> x & (BIT64(q->cluster_bits - 8) - 1)) + 1;

    *host = entry & (BIT64(x) - 1) & (BIT64(56) - 1);
    *len = sectors * BLK_SECTOR - (*host & (BLK_SECTOR - 1));
}

/* The run of subclusters that are what the one at `in` is. */
static void map_subclusters(const struct qcow2 *q, uint64_t bitmap, uint64_t in,
                            struct qcow2_map *m)
{
    unsigned first = (unsigned)(in >> q->sub_bits), i = first;
    uint64_t pattern = BIT64(first) | BIT64(first + 32), want = bitmap & pattern;

    while (i < QCOW2_SUBS && (bitmap & (BIT64(i) | BIT64(i + 32))) == want) {
        i++;
        want = (want & 0x7fffffff7fffffffull) << 1;
    }
    m->len = ((uint64_t)i << q->sub_bits) - in;
    m->kind = bitmap >> first & 1          ? QCOW2_K_DATA
              : bitmap >> (first + 32) & 1 ? QCOW2_K_ZERO
                                           : QCOW2_K_NONE;
}

int qcow2_map_entry(const struct qcow2 *q, uint64_t guest, const uint8_t *entry,
                    struct qcow2_map *m)
{
    uint64_t e = ld_be64(entry), in = qcow2_in_cluster(q, guest);

    *m = (struct qcow2_map){ .len = q->cluster_size - in,
                             .entry = e,
                             .host = (e & QCOW2_OFFSET) + in };
    if (e & QCOW2_COMPRESSED) {
        uint64_t host, len;

        m->kind = QCOW2_K_PACKED;
        qcow2_map_packed(q, e, &host, &len);
        return q->external || (e & QCOW2_COPIED) || !qcow2_map_sane(q, host, len) ? -EIO : 0;
    }
    if ((e & QCOW2_L2_BAD) || qcow2_in_cluster(q, e & QCOW2_OFFSET))
        return -EIO;
    if (q->extended) {
        uint64_t bitmap = ld_be64(entry + 8);

        if ((e & QCOW2_ZERO) || (bitmap & bitmap >> 32 & UINT32_MAX))
            return -EIO;
        map_subclusters(q, bitmap, in, m);
    } else if (e & QCOW2_ZERO) {
        m->kind = QCOW2_K_ZERO;
    } else {
        m->kind =
            (e & QCOW2_OFFSET) || (q->external && (e & QCOW2_COPIED)) ? QCOW2_K_DATA : QCOW2_K_NONE;
    }
    if (q->external && m->kind == QCOW2_K_DATA && m->host != guest)
        return -EIO;
    if (m->kind == QCOW2_K_DATA && !qcow2_map_sane(q, m->host - in, q->cluster_size))
        return -EIO;
    return 0;
}

bool qcow2_map_reads_zero(const struct qcow2 *q, enum qcow2_kind kind, uint64_t off)
{
    return kind == QCOW2_K_ZERO ||
           (kind == QCOW2_K_NONE && (!q->b->backing || off >= q->b->backing->size));
}

static bool map_joins(const struct qcow2_map *m, const struct qcow2_map *next)
{
    if (m->kind != next->kind || m->kind == QCOW2_K_PACKED)
        return false;
    return m->kind != QCOW2_K_DATA || next->host == m->host + m->len;
}

/* Within one slice, which is loaded. */
static int map_run(struct qcow2 *q, const struct qcow2_slice *s, uint64_t off, uint64_t len,
                   struct qcow2_map *m)
{
    uint64_t index = off >> q->cluster_bits;
    uint64_t left = q->slice_entries - (index & (q->slice_entries - 1));
    uint64_t slice_end = (index + left) << q->cluster_bits;
    int rc = qcow2_map_entry(q, off, qcow2_entry(q, s, index), m);

    while (!rc && m->len < len && off + m->len < slice_end) {
        struct qcow2_map next;

        if (qcow2_map_entry(q, off + m->len, qcow2_entry(q, s, (off + m->len) >> q->cluster_bits),
                            &next) ||
            !map_joins(m, &next))
            break;
        m->len += next.len;
    }
    m->len = min_u64(m->len, len);
    return rc;
}

int qcow2_map_find(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_map *m,
                   struct qcow2_issue *issue)
{
    uint64_t index = qcow2_l1_index(q, off), table = q->l1[index] & QCOW2_OFFSET;
    struct qcow2_slice *s;

    *m = (struct qcow2_map){ .kind = QCOW2_K_NONE };
    if (!table) {
        m->len = min_u64(len, ((index + 1) << (q->cluster_bits + q->l2_bits)) - off);
        return 0;
    }
    if ((q->l1[index] & QCOW2_L1_BAD) || qcow2_in_cluster(q, table) || table >= q->file->size)
        return qcow2_map_corrupt(q, "an impossible L1 entry for guest offset", off);
    s = qcow2_cache_get(q, table, off >> q->cluster_bits & (BIT64(q->l2_bits) - 1), issue);
    if (!s)
        return -ENOMEM;
    if (s->loading) {
        m->wait = s;
        return 1;
    }
    return map_run(q, s, off, len, m)
               ? qcow2_map_corrupt(q, "an impossible L2 entry for guest offset", off)
               : 0;
}
