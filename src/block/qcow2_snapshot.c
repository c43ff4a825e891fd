/*
 * qcow2_snapshot.c: see qcow2_snapshot.h.
 */
#include "block/qcow2_snapshot.h"

#include <errno.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { SNAPSHOT_FIXED = 40, SNAPSHOT_EXTRA_MAX = 1024, SNAPSHOT_TABLE_MAX = 64 * MIB };

static int snapshot_decode(struct qcow2_snapshot *s, const uint8_t *p, uint64_t left,
                           uint64_t *used)
{
    uint32_t id_len, name_len;

    if (left < SNAPSHOT_FIXED)
        return -EINVAL;
    s->l1_off = ld_be64(p);
    s->l1_size = ld_be32(p + 8);
    id_len = ld_be16(p + 12);
    name_len = ld_be16(p + 14);
    s->date_sec = ld_be32(p + 16);
    s->date_nsec = ld_be32(p + 20);
    s->clock_ns = ld_be64(p + 24);
    s->vm_state = ld_be32(p + 32);
    s->extra_len = ld_be32(p + 36);
    if (s->extra_len > SNAPSHOT_EXTRA_MAX ||
        SNAPSHOT_FIXED + s->extra_len + id_len + name_len > left)
        return -EINVAL;
    p += SNAPSHOT_FIXED;
    s->extra = malloc(s->extra_len + 16u);
    s->id = strndup((const char *)p + s->extra_len, id_len);
    s->name = strndup((const char *)p + s->extra_len + id_len, name_len);
    if (!s->extra || !s->id || !s->name)
        return -ENOMEM;
    memcpy(s->extra, p, s->extra_len);
    if (s->extra_len >= 8)
        s->vm_state = ld_be64(s->extra);
    if (s->extra_len >= 16)
        s->disk_size = ld_be64(s->extra + 8);
    *used = align_up(SNAPSHOT_FIXED + s->extra_len + id_len + name_len, 8);
    return 0;
}

static uint8_t *snapshot_read(struct qcow2 *q, uint64_t *len, int *rc)
{
    uint64_t each = SNAPSHOT_FIXED + SNAPSHOT_EXTRA_MAX + 2 * 65536ull, off = q->h.snapshots_off;
    uint8_t *buf;

    *len = min_u64(q->h.n_snapshots * each, SNAPSHOT_TABLE_MAX);
    *len = off < q->file->size ? min_u64(*len, q->file->size - off) : 0;
    buf = malloc(*len + 1);
    *rc = !buf ? -ENOMEM : *len ? qcow2_meta_read(q, off, buf, *len) : -EINVAL;
    return buf;
}

int qcow2_snapshot_load(struct qcow2 *q, struct qcow2_snapshots *list)
{
    uint64_t len, at = 0, used = 0;
    uint8_t *buf;
    int rc = 0;

    *list = (struct qcow2_snapshots){ 0 };
    if (!q->h.n_snapshots)
        return 0;
    list->v = calloc(q->h.n_snapshots, sizeof(*list->v));
    if (!list->v)
        return -ENOMEM;
    buf = snapshot_read(q, &len, &rc);
    while (!rc && list->n < q->h.n_snapshots) {
        rc = snapshot_decode(&list->v[list->n++], buf + at, at < len ? len - at : 0, &used);
        at += used;
        if (!rc && !list->v[list->n - 1].disk_size)
            list->v[list->n - 1].disk_size = q->h.size;
    }
    free(buf);
    list->bytes = at;
    if (rc)
        qcow2_snapshot_unload(list);
    return rc;
}

void qcow2_snapshot_unload(struct qcow2_snapshots *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        free(list->v[i].id);
        free(list->v[i].name);
        free(list->v[i].extra);
    }
    free(list->v);
    *list = (struct qcow2_snapshots){ 0 };
}

static uint64_t snapshot_len(const struct qcow2_snapshot *s)
{
    return align_up(SNAPSHOT_FIXED + max_u64(s->extra_len, 16) + strlen(s->id) + strlen(s->name),
                    8);
}

static void snapshot_encode_one(const struct qcow2_snapshot *s, uint8_t *p)
{
    size_t id = strlen(s->id), name = strlen(s->name);
    uint32_t extra = (uint32_t)max_u64(s->extra_len, 16);

    st_be64(p, s->l1_off);
    st_be32(p + 8, s->l1_size);
    st_be16(p + 12, (uint16_t)id);
    st_be16(p + 14, (uint16_t)name);
    st_be32(p + 16, s->date_sec);
    st_be32(p + 20, s->date_nsec);
    st_be64(p + 24, s->clock_ns);
    st_be32(p + 32, s->vm_state > UINT32_MAX ? 0 : (uint32_t)s->vm_state);
    st_be32(p + 36, extra);
    p += SNAPSHOT_FIXED;
    if (s->extra_len)
        memcpy(p, s->extra, s->extra_len);
    st_be64(p, s->vm_state);
    st_be64(p + 8, s->disk_size);
    memcpy(p + extra, s->id, id);
    memcpy(p + extra + id, s->name, name);
}

uint8_t *qcow2_snapshot_encode(const struct qcow2_snapshots *list, uint64_t *len)
{
    uint8_t *buf;
    uint64_t at = 0;

    *len = 0;
    for (uint32_t i = 0; i < list->n; i++)
        *len += snapshot_len(&list->v[i]);
    buf = calloc(1, *len + 1);
    for (uint32_t i = 0; buf && i < list->n; i++) {
        snapshot_encode_one(&list->v[i], buf + at);
        at += snapshot_len(&list->v[i]);
    }
    return buf;
}
