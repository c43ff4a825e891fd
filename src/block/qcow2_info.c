/*
 * qcow2_info.c: what an image says about itself, in the words of qemu-img.
 */
#include <jansson.h>

#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_snapshot.h"

/* A name in a hostile image may be no UTF-8: then it is left out. */
static void info_set(json_t *o, const char *name, json_t *value)
{
    if (value)
        json_object_set_new(o, name, value);
}

static json_t *info_specific(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->h;
    json_t *o = json_object();

    info_set(o, "compat", json_string(h->version < 3 ? "0.10" : "1.1"));
    info_set(o, "compression-type", json_string(h->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
    info_set(o, "refcount-bits", json_integer((json_int_t)BIT(h->refcount_order)));
    if (h->version >= 3) {
        info_set(o, "lazy-refcounts", json_boolean(h->compat & QCOW2_C_LAZY));
        info_set(o, "corrupt", json_boolean(h->incompat & QCOW2_I_CORRUPT));
        info_set(o, "extended-l2", json_boolean(q->extended));
        info_set(o, "bitmaps", qcow2_bitmap_info(q));
    }
    if (h->crypt == 2)
        info_set(o, "encrypt", json_pack("{s:s}", "format", "luks"));
    if (q->external) {
        info_set(o, "data-file", json_string(h->data_file));
        info_set(o, "data-file-raw", json_boolean(h->autoclear & QCOW2_A_RAW_DATA));
    }
    return o;
}

static json_t *info_snapshots(struct qcow2 *q)
{
    struct qcow2_snapshots list;
    json_t *a = json_array();

    if (qcow2_snapshot_load(q, &list))
        return a;
    for (uint32_t i = 0; i < list.n; i++) {
        const struct qcow2_snapshot *s = &list.v[i];
        json_t *o = json_object();

        info_set(o, "id", json_string(s->id));
        info_set(o, "name", json_string(s->name));
        info_set(o, "date-sec", json_integer(s->date_sec));
        info_set(o, "date-nsec", json_integer(s->date_nsec));
        info_set(o, "vm-clock-sec", json_integer((json_int_t)(s->clock_ns / 1000000000u)));
        info_set(o, "vm-clock-nsec", json_integer((json_int_t)(s->clock_ns % 1000000000u)));
        info_set(o, "vm-state-size", json_integer((json_int_t)s->vm_state));
        json_array_append_new(a, o);
    }
    qcow2_snapshot_unload(&list);
    return a;
}

void qcow2_info(struct blk *b, struct blk_info *i)
{
    struct qcow2 *q = qcow2_of(b);

    i->cluster_size = q->cluster_size;
    i->backing = q->h.backing;
    i->backing_format = q->h.backing_format;
    i->dirty = q->h.incompat & QCOW2_I_DIRTY;
    i->corrupt = q->h.incompat & QCOW2_I_CORRUPT;
    i->encrypted = q->h.crypt;
    i->specific = info_specific(q);
    if (q->h.n_snapshots)
        i->snapshots = info_snapshots(q);
}
