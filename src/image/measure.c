/*
 * measure.c: see measure.h. The sums are those of qemu-img, so that who makes volumes of just that size gets what it
 * gets there.
 */
#include "image/measure.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "block/qcow2_options.h"

enum { MEASURE_DIR_ENTRY = 24, MEASURE_HEADER_ENTRY = 8 };

static uint64_t measure_div_up(uint64_t n, uint64_t by)
{
    return n / by + !!(n % by);
}

/* Refcount blocks and table for so many clusters and themselves, in bytes. */
static uint64_t measure_refcounts(uint64_t clusters, uint64_t cluster, unsigned order)
{
    uint64_t per_block = cluster * 8 >> order, per_table = cluster / 8;
    uint64_t blocks = 0, table = 0, n = 0, last;

    do {
        last = n;
        blocks = measure_div_up(clusters + table + blocks, per_block);
        table = measure_div_up(blocks, per_table);
        n = clusters + blocks + table;
    } while (n != last);
    return (blocks + table) * cluster;
}

static uint64_t measure_qcow2_full(const struct qcow2_options *opt, uint64_t size)
{
    uint64_t cluster = BIT64(opt->cluster_bits), entry = opt->extended_l2 ? 16 : 8;
    uint64_t data = align_up(size, cluster), l2, meta = cluster;

    l2 = align_up(data / cluster, cluster / entry) * entry;
    meta += l2 + align_up(l2 / cluster, cluster / MEASURE_HEADER_ENTRY) * MEASURE_HEADER_ENTRY;
    meta += measure_refcounts((meta + data) / cluster, cluster, opt->refcount_order);
    if (opt->encrypt)
        meta += align_up(qcow2_luks_header_len(&opt->luks), cluster);
    return meta + data;
}

/* The bytes of the units that have data. */
static int measure_data(struct blk *b, uint64_t unit, uint64_t *bytes, struct err *e)
{
    uint64_t off = 0;

    *bytes = 0;
    while (b && off < b->size) {
        struct blk_extent x;
        uint64_t end;
        int rc = blk_status(b, off, b->size - off, &x);

        if (rc)
            return err_set(e, -rc, "disk '%s': what is at byte %llu cannot be found out: %s",
                           b->path, (unsigned long long)off, strerror(-rc));
        end = off + x.len;
        if (x.flags & BLK_X_DATA) {
            end = align_up(end, unit);
            *bytes += end - align_down(off, unit);
        }
        off = end;
    }
    return 0;
}

/* A table and the clusters of each, and the directory. */
static uint64_t measure_bitmaps(const json_t *list, uint64_t size, uint64_t cluster)
{
    uint64_t sum = 0, dir = 0;
    const json_t *m;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, m)
    {
        const char *name = json_string_value(json_object_get(m, "name"));
        uint64_t grain = (uint64_t)json_integer_value(json_object_get(m, "granularity"));
        uint64_t bytes = grain ? measure_div_up(measure_div_up(size, grain), 8) : 0;

        sum += (1 + measure_div_up(bytes, cluster)) * cluster;
        dir += align_up(MEASURE_DIR_ENTRY + (name ? strlen(name) : 0), 8);
    }
    return sum + align_up(dir, cluster);
}

static int measure_qcow2(struct blk *b, uint64_t size, const char *const *options,
                         struct measure *m, struct err *e)
{
    struct qcow2_options opt = { .version = 3, .cluster_bits = 16, .refcount_order = 4 };
    struct blk_info i = { 0 };
    uint64_t data;
    int rc = qcow2_options_parse(options, &opt, e);

    if (!rc)
        rc = qcow2_options_check(&opt, false, e);
    if (!rc)
        rc = measure_data(b, BIT64(opt.cluster_bits), &data, e);
    if (rc)
        return rc;
    m->full = measure_qcow2_full(&opt, size);
    if (opt.preallocation == BLK_PREALLOC_FALLOC || opt.preallocation == BLK_PREALLOC_FULL)
        data = align_up(size, BIT64(opt.cluster_bits));
    m->required = m->full - align_up(size, BIT64(opt.cluster_bits)) + data;
    if (!b || opt.version < 3)
        return 0;
    blk_info(b, &i);
    m->has_bitmaps = blk_image(b)->ops->bitmap != NULL;
    m->bitmaps =
        measure_bitmaps(json_object_get(i.specific, "bitmaps"), size, BIT64(opt.cluster_bits));
    json_decref(i.specific);
    json_decref(i.snapshots);
    return 0;
}

int measure_disk(struct blk *b, uint64_t size, const char *format, const char *const *options,
                 struct measure *m, struct err *e)
{
    *m = (struct measure){ 0 };
    if (!strcmp(format, "qcow2"))
        return measure_qcow2(b, size, options, m, e);
    if (strcmp(format, "raw"))
        return err_set(e, ENOTSUP,
                       "how large a %s image becomes is not known in advance; raw and qcow2 are",
                       format);
    m->required = m->full = size;
    return 0;
}
