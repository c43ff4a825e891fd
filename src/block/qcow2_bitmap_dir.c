/*
 * qcow2_bitmap_dir.c: the directory of bitmaps, from bytes and to bytes.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "block/qcow2_bitmap.h"

enum {
    BITMAP_DIR_MAX = 64 * MIB,
    BITMAP_MAX = 65535,
    BITMAP_ENTRY = 24,
    BITMAP_DIRTY = 1,                /* the only type there is */
    BITMAP_TABLE_MAX = 32 * MIB / 8, /* entries */
};

static uint64_t dir_entry_len(const struct qcow2_bitmap *m)
{
    return align_up(BITMAP_ENTRY + (uint64_t)m->extra_len + strlen(m->name), 8);
}

static int dir_decode(struct qcow2_bitmap *m, const uint8_t *p, uint64_t left, uint64_t *used)
{
    uint64_t name_len, len;

    if (left < BITMAP_ENTRY)
        return -EINVAL;
    m->table_off = ld_be64(p);
    m->table_n = ld_be32(p + 8);
    m->flags = ld_be32(p + 12);
    m->type = p[16];
    m->grain_bits = p[17];
    name_len = ld_be16(p + 18);
    m->extra_len = ld_be32(p + 20);
    len = BITMAP_ENTRY + (uint64_t)m->extra_len + name_len;
    *used = align_up(len, 8);
    if (!name_len || name_len > QCOW2_MAX_NAME || len > left || *used > left)
        return -EINVAL;
    p += BITMAP_ENTRY;
    m->extra = malloc((size_t)m->extra_len + 1);
    m->name = strndup((const char *)p + m->extra_len, name_len);
    if (!m->extra || !m->name)
        return -ENOMEM;
    memcpy(m->extra, p, m->extra_len);
    return strlen(m->name) == name_len ? 0 : -EINVAL;
}

static int dir_decode_all(struct qcow2 *q, struct qcow2_bitmaps *list, const uint8_t *dir)
{
    uint64_t at = 0, used = 0, len = q->h.bitmaps.dir_size;
    int rc = 0;

    while (!rc && list->n < q->h.bitmaps.n) {
        rc = dir_decode(&list->v[list->n++], dir + at, len - at, &used);
        at += used;
    }
    return !rc && at != len ? -EINVAL : rc;
}

int qcow2_bitmap_dir_load(struct qcow2 *q, struct qcow2_bitmaps *list)
{
    uint64_t len = q->h.bitmaps.dir_size, off = q->h.bitmaps.dir_off;
    uint8_t *dir;
    int rc;

    *list = (struct qcow2_bitmaps){ 0 };
    if (!q->h.bitmaps.n)
        return 0;
    if (q->h.bitmaps.n > BITMAP_MAX || len > BITMAP_DIR_MAX ||
        len / BITMAP_ENTRY < q->h.bitmaps.n || qcow2_in_cluster(q, off) || !off ||
        off >= q->file->size || len > q->file->size - off)
        return -EINVAL;
    list->v = calloc(q->h.bitmaps.n, sizeof(*list->v));
    dir = malloc(len);
    rc = list->v && dir ? qcow2_meta_read(q, off, dir, len) : -ENOMEM;
    if (!rc)
        rc = dir_decode_all(q, list, dir);
    free(dir);
    if (rc)
        qcow2_bitmap_dir_unload(list);
    return rc;
}

void qcow2_bitmap_dir_unload(struct qcow2_bitmaps *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        qcow2_bitmap_free(&list->v[i]);
    free(list->v);
    free(list->gone.v);
    *list = (struct qcow2_bitmaps){ 0 };
}

static void dir_encode_one(const struct qcow2_bitmap *m, uint8_t *p)
{
    size_t name = strlen(m->name);

    st_be64(p, m->table_off);
    st_be32(p + 8, m->table_n);
    st_be32(p + 12, m->flags);
    p[16] = m->type;
    p[17] = m->grain_bits;
    st_be16(p + 18, (uint16_t)name);
    st_be32(p + 20, m->extra_len);
    if (m->extra_len)
        memcpy(p + BITMAP_ENTRY, m->extra, m->extra_len);
    memcpy(p + BITMAP_ENTRY + m->extra_len, m->name, name);
}

uint8_t *qcow2_bitmap_dir_encode(const struct qcow2_bitmaps *list, uint64_t *len)
{
    uint64_t at = 0;
    uint8_t *dir;

    *len = 0;
    for (uint32_t i = 0; i < list->n; i++)
        *len += dir_entry_len(&list->v[i]);
    dir = calloc(1, *len + 1);
    for (uint32_t i = 0; dir && i < list->n; i++) {
        dir_encode_one(&list->v[i], dir + at);
        at += dir_entry_len(&list->v[i]);
    }
    return dir;
}

uint64_t qcow2_bitmap_clusters(const struct qcow2 *q, const struct qcow2_bitmap *m, uint64_t size)
{
    uint64_t bits = align_up(size, BIT64(m->grain_bits)) >> m->grain_bits;

    return align_up((bits + 7) / 8, q->cluster_size) >> q->cluster_bits;
}

bool qcow2_bitmap_sound(const struct qcow2 *q, const struct qcow2_bitmap *m)
{
    uint32_t known = QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_OK;

    return m->type == BITMAP_DIRTY && !(m->flags & ~known) &&
           m->grain_bits >= QCOW2_BITMAP_MIN_GRAIN && m->grain_bits <= QCOW2_BITMAP_MAX_GRAIN &&
           (!m->extra_len || (m->flags & QCOW2_BITMAP_EXTRA_OK)) &&
           m->table_n <= BITMAP_TABLE_MAX &&
           m->table_n == qcow2_bitmap_clusters(q, m, q->b->size) &&
           !qcow2_in_cluster(q, m->table_off) &&
           (!m->table_n || (m->table_off >= q->cluster_size && m->table_off < q->file->size &&
                            m->table_n * 8ull <= q->file->size - m->table_off));
}

static json_t *dir_info_one(const struct qcow2_bitmap *m)
{
    json_t *o = json_object(), *flags = json_array(), *name = json_string(m->name);

    if (m->flags & QCOW2_BITMAP_IN_USE)
        json_array_append_new(flags, json_string("in-use"));
    if (m->flags & QCOW2_BITMAP_AUTO)
        json_array_append_new(flags, json_string("auto"));
    json_object_set_new(o, "flags", flags);
    json_object_set_new(o, "name", name ? name : json_string("(no text)"));
    if (m->grain_bits <= QCOW2_BITMAP_MAX_GRAIN)
        json_object_set_new(o, "granularity", json_integer((json_int_t)BIT64(m->grain_bits)));
    return o;
}

json_t *qcow2_bitmap_info(struct qcow2 *q)
{
    struct qcow2_bitmaps list;
    json_t *a;

    if (!q->h.bitmaps.n || qcow2_bitmap_dir_load(q, &list))
        return NULL;
    a = json_array();
    for (uint32_t i = 0; i < list.n; i++)
        json_array_append_new(a, dir_info_one(&list.v[i]));
    qcow2_bitmap_dir_unload(&list);
    return a;
}
