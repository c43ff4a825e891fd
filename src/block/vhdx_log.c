/*
 * vhdx_log.c: the log of a VHDX image that was not closed (MS-VHDX 2.3), replayed in memory: the image
 * itself stays as it is. The log is a ring; the active sequence is the one that ends in the entry with the
 * highest sequence number and begins at the tail that this entry names.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "block/vhdx_impl.h"

enum { VHDX_LOG_MAX = 64 * MIB, VHDX_LOG_PATCHES = 1u << 20 };

struct vhdx_log {
    const uint8_t *guid;
    uint8_t *ring;
    uint64_t size;
};
struct vhdx_entry {
    uint64_t at, sequence;
    uint32_t len, tail, descriptors;
};

/* A run of the ring, as one buffer of the caller. */
static void vhdx_log_copy(const struct vhdx_log *l, uint64_t at, uint8_t *out, uint64_t len)
{
    uint64_t first = min_u64(len, l->size - at);

    memcpy(out, l->ring + at, first);
    memcpy(out + first, l->ring, len - first);
}

/* The number of sectors that the descriptors take with their header. */
static uint64_t vhdx_log_head_sectors(uint32_t descriptors)
{
    return ((uint64_t)descriptors * VHDX_LOG_DESCRIPTOR + VHDX_LOG_HEADER + VHDX_LOG_SECTOR - 1) /
           VHDX_LOG_SECTOR;
}

/* The whole entry at `at`, or NULL if there is no valid one; freed by the caller. */
static uint8_t *vhdx_log_entry(const struct vhdx_log *l, uint64_t at, struct vhdx_entry *x)
{
    const uint8_t *h = l->ring + at;
    uint8_t *all;

    x->at = at;
    x->len = ld_le32(h + VHDX_LOG_LENGTH);
    x->tail = ld_le32(h + VHDX_LOG_TAIL);
    x->sequence = ld_le64(h + VHDX_LOG_SEQUENCE);
    x->descriptors = ld_le32(h + VHDX_LOG_DESCRIPTORS);
    if (memcmp(h, "loge", 4) || !x->len || x->len % VHDX_LOG_SECTOR || x->len > l->size ||
        x->tail % VHDX_LOG_SECTOR || x->tail >= l->size || !x->sequence ||
        memcmp(h + VHDX_LOG_GUID, l->guid, VHDX_GUID_LEN) ||
        vhdx_log_head_sectors(x->descriptors) * VHDX_LOG_SECTOR > x->len)
        return NULL;
    all = malloc(x->len);
    if (!all)
        return NULL;
    vhdx_log_copy(l, at, all, x->len);
    if (vhdx_checksum(all, x->len, VHDX_LOG_CHECKSUM) == ld_le32(h + VHDX_LOG_CHECKSUM))
        return all;
    free(all);
    return NULL;
}

/* The newest entry; walks whole entries, so that the work is that of reading the log about once. */
static bool vhdx_log_find_head(const struct vhdx_log *l, struct vhdx_entry *head)
{
    bool found = false;
    uint64_t at = 0;

    while (at < l->size) {
        struct vhdx_entry x;
        uint8_t *all = vhdx_log_entry(l, at, &x);

        free(all);
        if (!all) {
            at += VHDX_LOG_SECTOR;
            continue;
        }
        if (!found || x.sequence > head->sequence)
            *head = x;
        found = true;
        at += x.len;
    }
    return found;
}

static int vhdx_log_patch(struct vhdx *v, uint64_t off, const uint8_t *data, uint64_t len)
{
    struct vhdx_patch *p;

    if (v->n_patches == VHDX_LOG_PATCHES || off > INT64_MAX - len)
        return -EINVAL;
    if (is_pow2(v->n_patches) || !v->n_patches) {
        p = realloc(v->patches, (v->n_patches ? v->n_patches * 2 : 1) * sizeof(*p));
        if (!p)
            return -ENOMEM;
        v->patches = p;
    }
    p = &v->patches[v->n_patches];
    *p = (struct vhdx_patch){ .off = off, .len = len };
    if (data) {
        p->data = malloc(VHDX_LOG_SECTOR);
        if (!p->data)
            return -ENOMEM;
        memcpy(p->data, data, VHDX_LOG_SECTOR);
    }
    v->n_patches++;
    return 0;
}

/* A data sector holds 4084 of the 4096 bytes; its descriptor the first eight and the last four. */
static int vhdx_log_data(struct vhdx *v, const uint8_t *d, const uint8_t *sector, uint64_t sequence)
{
    uint8_t data[VHDX_LOG_SECTOR];

    if (memcmp(sector, "data", 4) ||
        ((uint64_t)ld_le32(sector + 4) << 32 | ld_le32(sector + VHDX_LOG_SECTOR - 4)) != sequence)
        return -EINVAL;
    memcpy(data, sector, sizeof(data));
    memcpy(data, d + 8, 8);
    memcpy(data + VHDX_LOG_SECTOR - 4, d + 4, 4);
    return vhdx_log_patch(v, ld_le64(d + 16), data, VHDX_LOG_SECTOR);
}

static int vhdx_log_replay_entry(struct vhdx *v, const uint8_t *all, const struct vhdx_entry *x)
{
    uint64_t sector = vhdx_log_head_sectors(x->descriptors);

    for (uint32_t i = 0; i < x->descriptors; i++) {
        const uint8_t *d = all + VHDX_LOG_HEADER + (size_t)i * VHDX_LOG_DESCRIPTOR;
        int rc;

        if (ld_le64(d + 24) != x->sequence)
            return -EINVAL;
        if (!memcmp(d, "zero", 4)) {
            rc = vhdx_log_patch(v, ld_le64(d + 16), NULL, ld_le64(d + 8));
        } else {
            if (memcmp(d, "desc", 4) || (sector + 1) * VHDX_LOG_SECTOR > x->len)
                return -EINVAL;
            rc = vhdx_log_data(v, d, all + sector++ * VHDX_LOG_SECTOR, x->sequence);
        }
        if (rc)
            return rc;
    }
    return 0;
}

static int vhdx_log_replay(struct foreign *f, const struct vhdx_log *l, struct err *e)
{
    struct vhdx *v = f->priv;
    struct vhdx_entry head, x;
    uint64_t at, last = 0;

    if (!vhdx_log_find_head(l, &head))
        return foreign_bad(f, e, "it was not closed, and its log has no valid entry");
    for (at = head.tail;; at = (at + x.len) % l->size) {
        uint8_t *all = vhdx_log_entry(l, at, &x);
        int rc = -EINVAL;

        if (all && (!last || x.sequence == last + 1))
            rc = vhdx_log_replay_entry(v, all, &x);
        free(all);
        if (rc == -ENOMEM)
            return err_set(e, ENOMEM, "out of memory");
        if (rc)
            return foreign_bad(f, e, "it was not closed, and its log is broken");
        last = x.sequence;
        if (x.at == head.at)
            return 0;
    }
}

int vhdx_log_load(struct foreign *f, struct err *e)
{
    static const uint8_t none[VHDX_GUID_LEN];
    struct vhdx *v = f->priv;
    struct vhdx_log l = { .guid = v->header + VHDX_HEADER_LOG_GUID,
                          .size = ld_le32(v->header + VHDX_HEADER_LOG_LENGTH) };
    int rc;

    if (!memcmp(l.guid, none, VHDX_GUID_LEN))
        return 0;
    if (ld_le16(v->header + VHDX_HEADER_LOG_VERSION))
        return foreign_unsupported(f, e, "was not closed, and its log is of an unknown version");
    if (!l.size || l.size % MIB || l.size > VHDX_LOG_MAX)
        return foreign_bad(f, e, "it was not closed, and its log is of %llu bytes",
                           (unsigned long long)l.size);
    l.ring = foreign_load(f, 0, ld_le64(v->header + VHDX_HEADER_LOG_OFFSET), l.size, "log", e);
    if (!l.ring)
        return -EINVAL;
    rc = vhdx_log_replay(f, &l, e);
    free(l.ring);
    return rc;
}

void vhdx_log_apply(const struct vhdx *v, uint64_t off, void *buf, uint64_t len)
{
    for (size_t i = 0; i < v->n_patches; i++) {
        const struct vhdx_patch *p = &v->patches[i];
        uint64_t from = max_u64(off, p->off), to = min_u64(off + len, p->off + p->len);

        if (from >= to)
            continue;
        if (p->data)
            memcpy((uint8_t *)buf + (from - off), p->data + (from - p->off), to - from);
        else
            memset((uint8_t *)buf + (from - off), 0, to - from);
    }
}

void vhdx_log_free(struct vhdx *v)
{
    for (size_t i = 0; i < v->n_patches; i++)
        free(v->patches[i].data);
    free(v->patches);
}
