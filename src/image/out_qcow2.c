/*
 * out_qcow2.c: qcow2 images (version 3) written in one go: what a conversion needs, and nothing that a
 * running disk would. Clusters are given out one behind the other, so that tables are known when the disk
 * has passed them: an L2 table is written when the next one begins, refcounts at the end.
 *
 *     cluster 0            header; written last
 *     then                 L1 table
 *     then                 data and L2 tables, as the disk goes on
 *     at the end           refcount blocks and table
 *
 * Packed clusters lie byte by byte behind each other; a cluster of the file may belong to many of them, so
 * that its references are counted.
 */
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/endian.h"
#include "image/out.h"

enum {
    QCOW2_HEADER = 112,
    QCOW2_WINDOW_BITS = 12, /* what readers expect of deflate */
    QCOW2_ZSTD_LEVEL = 2,   /* a quarter faster than 3 for one percent of size */
    QCOW2_L1_MAX = 32 * MIB,
    QCOW2_REFCOUNT_MAX = 65535,
};
#define QCOW2_COPIED BIT64(63)
#define QCOW2_PACKED BIT64(62)

struct out_qcow2 {
    uint32_t cluster_bits, cluster;
    bool zstd, lazy;

    uint64_t end;    /* of the file, whole clusters */
    uint64_t packed; /* where the next packed cluster goes if it fits there */
    uint64_t *l1;    /* big-endian */
    uint64_t l1_off;
    uint32_t l1_len;
    uint64_t *l2; /* the current table, big-endian; of the part of the disk with this number: */
    uint64_t l2_index;
    bool l2_used;

    uint16_t *refs; /* with packed clusters: references of each cluster of the file */
    uint64_t refs_len;
};

/* --- options --- */

static int out_qcow2_options(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = {
        "cluster_size", "compat",        "compression_type", "lazy_refcounts", "refcount_bits",
        "extended_l2",  "preallocation", "encryption",       "size",           NULL
    };
    const char *cluster = out_option(opts, "cluster_size"), *lazy, *type;
    struct out_qcow2 *q = o->priv;
    uint64_t size = 64 * KIB;

    if (out_check_options(opts, known, e))
        return -EINVAL;
    if (cluster && (util_parse_size(cluster, &size) || !is_pow2(size) || size < BLK_SECTOR ||
                    size > OUT_CHUNK_MAX))
        return err_set(e, EINVAL, "cluster_size=%s: a power of two from 512 to 2M", cluster);
    q->cluster = (uint32_t)size;
    q->cluster_bits = (uint32_t)__builtin_ctz(q->cluster);
    lazy = out_option(opts, "lazy_refcounts");
    q->lazy = lazy && !strcmp(lazy, "on");
    type = out_option(opts, "compression_type");
    q->zstd = type && !strcmp(type, "zstd");
    if (type && strcmp(type, "zlib") && !q->zstd)
        return err_set(e, EINVAL, "compression_type=%s: zlib or zstd", type);
    return 0;
}

static uint64_t out_qcow2_l2_entries(const struct out_qcow2 *q)
{
    return q->cluster / sizeof(uint64_t);
}

static int out_qcow2_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    struct out_qcow2 *q = calloc(1, sizeof(*q));
    unsigned bits;
    uint64_t l1;

    o->priv = q;
    if (!q)
        return err_set(e, ENOMEM, "out of memory");
    if (out_qcow2_options(o, opts, e))
        return -EINVAL;
    bits = 2 * q->cluster_bits - 3; /* of what an L2 table describes */
    l1 = (o->size + BIT64(bits) - 1) >> bits;
    if (l1 > QCOW2_L1_MAX / sizeof(uint64_t))
        return err_set(e, EFBIG, "a disk of this size needs larger clusters: -o cluster_size=");
    q->l1_len = (uint32_t)max_u64(l1, 1);
    q->l1 = calloc(q->l1_len, sizeof(*q->l1));
    q->l2 = calloc(1, q->cluster);
    if (!q->l1 || !q->l2)
        return err_set(e, ENOMEM, "out of memory");
    q->l1_off = q->cluster;
    q->end = q->l1_off + align_up((uint64_t)q->l1_len * sizeof(*q->l1), q->cluster);
    o->unit = q->cluster;
    if (opts->compress) { /* each cluster on its own is no larger than as it is */
        o->chunk = OUT_CHUNK_PACKED;
        o->packed_room = (uint32_t)max_u64(o->chunk, q->cluster);
    }
    return 0;
}

static void out_qcow2_close(struct out *o)
{
    struct out_qcow2 *q = o->priv;

    if (!q)
        return;
    free(q->l1);
    free(q->l2);
    free(q->refs);
    free(q);
}

/* --- packing --- */

struct out_qcow2_scratch {
    struct isal_zstream z;
    uint8_t *level_buf;
    ZSTD_CCtx *zstd;
};

static void *out_qcow2_scratch(const struct out *o)
{
    const struct out_qcow2 *q = o->priv;
    struct out_qcow2_scratch *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    if (q->zstd)
        s->zstd = ZSTD_createCCtx();
    else if (o->packed_room)
        s->level_buf = malloc(ISAL_DEF_LVL3_DEFAULT);
    return s;
}

static void out_qcow2_scratch_free(void *scratch)
{
    struct out_qcow2_scratch *s = scratch;

    ZSTD_freeCCtx(s->zstd);
    free(s->level_buf);
    free(s);
}

static size_t out_qcow2_deflate(struct out_qcow2_scratch *s, const uint8_t *in, uint32_t len,
                                uint8_t *out, uint32_t room)
{
    isal_deflate_init(&s->z);
    s->z.end_of_stream = 1;
    s->z.flush = NO_FLUSH;
    s->z.gzip_flag = IGZIP_DEFLATE;
    s->z.hist_bits = QCOW2_WINDOW_BITS;
    s->z.level = 3;
    s->z.level_buf = s->level_buf;
    s->z.level_buf_size = ISAL_DEF_LVL3_DEFAULT;
    s->z.next_in = (uint8_t *)(uintptr_t)in; /* is only read */
    s->z.avail_in = len;
    s->z.next_out = out;
    s->z.avail_out = room;
    if (isal_deflate(&s->z) != COMP_OK || s->z.internal_state.state != ZSTATE_END)
        return 0;
    return s->z.total_out;
}

static size_t out_qcow2_zstd(struct out_qcow2_scratch *s, const uint8_t *in, uint32_t len,
                             uint8_t *out, uint32_t room)
{
    size_t n = ZSTD_compressCCtx(s->zstd, out, room, in, len, QCOW2_ZSTD_LEVEL);

    return ZSTD_isError(n) ? 0 : n;
}

/* What does not get smaller stays as it is. */
static int out_qcow2_pack(const struct out *o, struct out_chunk *c)
{
    struct out_qcow2_scratch *s = c->scratch;
    uint32_t n = (c->len + o->unit - 1) / o->unit, at = 0;

    for (uint32_t i = 0; o->packed_room && i < n; i++) {
        const uint8_t *in = c->data + (size_t)i * o->unit;
        uint32_t room = o->unit - 1;
        size_t len = 0;

        if (c->used[i])
            len = s->zstd ? out_qcow2_zstd(s, in, o->unit, c->packed + at, room)
                          : out_qcow2_deflate(s, in, o->unit, c->packed + at, room);
        c->packed_at[i] = at;
        c->packed_len[i] = (uint32_t)len;
        at += (uint32_t)len;
    }
    return 0;
}

/* --- places --- */

static int out_qcow2_ref(struct out_qcow2 *q, uint64_t from, uint64_t to, bool packed)
{
    if (!packed && !q->refs)
        return 0;
    for (uint64_t i = from / q->cluster; i <= (to - 1) / q->cluster; i++) {
        if (i >= q->refs_len) {
            uint64_t len = max_u64(i + 1, q->refs_len * 2 + 1024);
            uint16_t *refs = realloc(q->refs, len * sizeof(*refs));

            if (!refs)
                return -ENOMEM;
            memset(refs + q->refs_len, 0, (len - q->refs_len) * sizeof(*refs));
            q->refs = refs;
            q->refs_len = len;
        }
        q->refs[i]++;
    }
    return 0;
}

/* Whole clusters behind everything else. */
static uint64_t out_qcow2_alloc(struct out_qcow2 *q, uint64_t len)
{
    uint64_t at = q->end;

    q->end += align_up(len, q->cluster);
    return at;
}

/* Behind the last packed cluster, or in a new cluster if nothing can go on there. */
static int out_qcow2_place_packed(struct out_qcow2 *q, uint32_t len, uint64_t *place)
{
    uint64_t left = align_up(q->packed, q->cluster) - q->packed, in;

    if (left < len && q->packed + left != q->end)
        q->packed = q->end;
    in = q->packed & (q->cluster - 1);
    if (in && q->refs[q->packed / q->cluster] == QCOW2_REFCOUNT_MAX)
        q->packed = q->end;
    *place = q->packed;
    q->packed += len;
    q->end = max_u64(q->end, align_up(q->packed, q->cluster));
    return out_qcow2_ref(q, *place, q->packed, true);
}

static uint64_t out_qcow2_packed_entry(const struct out_qcow2 *q, uint64_t place, uint32_t len)
{
    uint64_t sectors = ((place + len - 1) >> 9) - (place >> 9);

    return QCOW2_PACKED | place | sectors << (62 - (q->cluster_bits - 8));
}

/* The table is complete: no later chunk belongs to it. */
static int out_qcow2_put_l2(struct out *o)
{
    struct out_qcow2 *q = o->priv;
    uint64_t at;
    int rc;

    if (!q->l2_used)
        return 0;
    at = out_qcow2_alloc(q, q->cluster);
    rc = out_qcow2_ref(q, at, at + q->cluster, false);
    if (!rc)
        rc = out_pwrite(o, q->l2, q->cluster, at);
    st_be64(&q->l1[q->l2_index], at | QCOW2_COPIED);
    memset(q->l2, 0, q->cluster);
    q->l2_used = false;
    return rc;
}

static int out_qcow2_place_unit(struct out *o, struct out_chunk *c, uint32_t i)
{
    struct out_qcow2 *q = o->priv;
    uint64_t cluster = c->off / q->cluster + i, entry;
    uint32_t packed = c->packed_len ? c->packed_len[i] : 0;
    int rc = 0;

    if (cluster / out_qcow2_l2_entries(q) != q->l2_index) {
        rc = out_qcow2_put_l2(o);
        q->l2_index = cluster / out_qcow2_l2_entries(q);
    }
    if (packed) {
        rc = rc ? rc : out_qcow2_place_packed(q, packed, &c->place[i]);
        entry = out_qcow2_packed_entry(q, c->place[i], packed);
    } else {
        c->place[i] = out_qcow2_alloc(q, q->cluster);
        rc = rc ? rc : out_qcow2_ref(q, c->place[i], c->place[i] + q->cluster, false);
        entry = c->place[i] | QCOW2_COPIED;
    }
    st_be64(&q->l2[cluster % out_qcow2_l2_entries(q)], entry);
    q->l2_used = true;
    return rc;
}

static int out_qcow2_place(struct out *o, struct out_chunk *c)
{
    uint32_t n = (c->len + o->unit - 1) / o->unit;
    int rc = 0;

    for (uint32_t i = 0; !rc && i < n; i++)
        if (c->used[i])
            rc = out_qcow2_place_unit(o, c, i);
    return rc;
}

static int out_qcow2_store(struct out *o, struct out_chunk *c)
{
    return out_store_units(o, c);
}

/* --- the end --- */

/*
 * References of clusters [first, first + n) as a refcount block has them. Before the first packed cluster
 * nothing is counted, and whatever is not counted has one.
 */
static void out_qcow2_refcounts(const struct out_qcow2 *q, uint64_t first, uint64_t n,
                                uint16_t *out)
{
    uint64_t all = q->end / q->cluster;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t k = first + i;
        uint16_t count = k < q->refs_len && q->refs[k] ? q->refs[k] : 1;

        st_be16(&out[i], k < all ? count : 0);
    }
}

static int out_qcow2_put_refcounts(struct out *o, uint64_t *table_off, uint32_t *table_clusters)
{
    struct out_qcow2 *q = o->priv;
    uint64_t per_block = q->cluster / sizeof(uint16_t), data = q->end / q->cluster;
    uint64_t blocks = 0, tables = 0, need, first;
    uint64_t *table;
    uint16_t *block;
    int rc = 0;

    do { /* they describe themselves too */
        need = data + blocks + tables;
        blocks = (need + per_block - 1) / per_block;
        tables = (blocks * sizeof(uint64_t) + q->cluster - 1) / q->cluster;
    } while (need != data + blocks + tables);
    first = out_qcow2_alloc(q, blocks * q->cluster);
    *table_off = out_qcow2_alloc(q, tables * q->cluster);
    *table_clusters = (uint32_t)tables;
    table = calloc(tables, q->cluster);
    block = malloc(q->cluster);
    for (uint64_t i = 0; table && block && !rc && i < blocks; i++) {
        out_qcow2_refcounts(q, i * per_block, per_block, block);
        st_be64(&table[i], first + i * q->cluster);
        rc = out_pwrite(o, block, q->cluster, first + i * q->cluster);
    }
    if (!table || !block)
        rc = -ENOMEM;
    if (!rc)
        rc = out_pwrite(o, table, tables * q->cluster, *table_off);
    free(table);
    free(block);
    return rc;
}

static int out_qcow2_put_header(struct out *o, uint64_t table_off, uint32_t table_clusters)
{
    const struct out_qcow2 *q = o->priv;
    uint8_t h[QCOW2_HEADER + 8] = "QFI\xfb"; /* and the end of the list of extensions */

    st_be32(h + 4, 3);
    st_be32(h + 20, q->cluster_bits);
    st_be64(h + 24, o->size);
    st_be32(h + 36, q->l1_len);
    st_be64(h + 40, q->l1_off);
    st_be64(h + 48, table_off);
    st_be32(h + 56, table_clusters);
    st_be64(h + 72, q->zstd ? BIT64(3) : 0); /* incompatible: compression type */
    st_be64(h + 80, q->lazy ? BIT64(0) : 0); /* compatible: lazy refcounts */
    st_be32(h + 96, 4);                      /* refcounts of 2^4 bits */
    st_be32(h + 100, QCOW2_HEADER);
    h[104] = q->zstd ? 1 : 0;
    return out_pwrite(o, h, sizeof(h), 0);
}

static int out_qcow2_finish(struct out *o)
{
    struct out_qcow2 *q = o->priv;
    uint64_t table_off = 0;
    uint32_t table_clusters = 0;
    int rc = out_qcow2_put_l2(o);

    if (!rc)
        rc = out_pwrite(o, q->l1, (uint64_t)q->l1_len * sizeof(*q->l1), q->l1_off);
    if (!rc)
        rc = out_qcow2_put_refcounts(o, &table_off, &table_clusters);
    if (!rc && ftruncate(o->fd, (off_t)q->end))
        rc = -errno;
    return rc ? rc : out_qcow2_put_header(o, table_off, table_clusters);
}

const struct out_ops out_qcow2_ops = {
    .format = "qcow2",
    .open = out_qcow2_open,
    .close = out_qcow2_close,
    .scratch = out_qcow2_scratch,
    .scratch_free = out_qcow2_scratch_free,
    .pack = out_qcow2_pack,
    .place = out_qcow2_place,
    .store = out_qcow2_store,
    .finish = out_qcow2_finish,
};
