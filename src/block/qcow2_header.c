/*
 * qcow2_header.c: the header cluster, from bytes and to bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { HEADER_FEATURE = 48, HEADER_NAME = 46 };

static const struct {
    uint8_t type, bit;
    const char *name;
} header_features[] = {
    { 0, 0, "dirty bit" },        { 0, 1, "corrupt bit" },         { 0, 2, "external data file" },
    { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
    { 2, 0, "bitmaps" },          { 2, 1, "raw external data" },
};

bool qcow2_probe(const void *head, size_t n)
{
    const uint8_t *p = head;

    return n >= 8 && ld_be32(p) == QCOW2_MAGIC && ld_be32(p + 4) >= 2;
}

uint64_t qcow2_header_l1_entries(const struct qcow2_header *h, uint64_t size)
{
    unsigned entry_bits = h->incompat & QCOW2_I_EXTENDED_L2 ? 4 : 3;
    unsigned shift = 2 * h->cluster_bits - entry_bits;

    return (size >> shift) + !!(size & (BIT64(shift) - 1));
}

static void header_decode(struct qcow2_header *h, const uint8_t *p)
{
    h->version = ld_be32(p + 4);
    h->cluster_bits = ld_be32(p + 20);
    h->size = ld_be64(p + 24);
    h->crypt = ld_be32(p + 32);
    h->l1_size = ld_be32(p + 36);
    h->l1_off = ld_be64(p + 40);
    h->rt_off = ld_be64(p + 48);
    h->rt_clusters = ld_be32(p + 56);
    h->n_snapshots = ld_be32(p + 60);
    h->snapshots_off = ld_be64(p + 64);
    h->refcount_order = 4;
    h->length = QCOW2_HEADER_V2;
    if (h->version < 3)
        return;
    h->incompat = ld_be64(p + 72);
    h->compat = ld_be64(p + 80);
    h->autoclear = ld_be64(p + 88);
    h->refcount_order = ld_be32(p + 96);
    h->length = ld_be32(p + 100);
    if (h->length > QCOW2_HEADER_V3)
        h->compression = p[QCOW2_HEADER_V3];
}

static int header_check_size(const struct qcow2_header *h, const char *path, struct err *e)
{
    uint64_t cluster = BIT64(h->cluster_bits);

    if (h->size > INT64_MAX - BLK_SECTOR)
        return err_set(e, EFBIG, "disk '%s': its size is impossible; the image is damaged", path);
    if (h->l1_size > QCOW2_MAX_L1 / 8 || h->l1_size < qcow2_header_l1_entries(h, h->size))
        return err_set(e, EINVAL,
                       "disk '%s': its L1 table does not fit its size; the image is damaged", path);
    if (h->rt_clusters > QCOW2_MAX_RT / cluster || !h->rt_clusters)
        return err_set(e, EINVAL,
                       "disk '%s': its refcount table has an impossible size; the image is damaged",
                       path);
    if ((h->l1_off | h->rt_off | h->snapshots_off) & (cluster - 1) || h->l1_off > INT64_MAX / 2 ||
        h->rt_off > INT64_MAX / 2 || h->snapshots_off > INT64_MAX / 2 || !h->rt_off ||
        (h->l1_size && !h->l1_off))
        return err_set(e, EINVAL,
                       "disk '%s': a table is at an impossible place; the image is damaged", path);
    if (h->n_snapshots > QCOW2_MAX_SNAPSHOTS)
        return err_set(e, EFBIG, "disk '%s' has more than %d snapshots", path,
                       (int)QCOW2_MAX_SNAPSHOTS);
    return 0;
}

static int header_check(const struct qcow2_header *h, size_t n, const char *path, struct err *e)
{
    unsigned min_bits = h->incompat & QCOW2_I_EXTENDED_L2 ? QCOW2_MIN_EXT_BITS : QCOW2_MIN_BITS;

    if (h->version > 3)
        return err_set(e, ENOTSUP, "disk '%s' is of version %u of qcow2, which is not known here",
                       path, h->version);
    if (h->cluster_bits < min_bits || h->cluster_bits > QCOW2_MAX_BITS)
        return err_set(e, EINVAL,
                       "disk '%s': clusters of 2^%u bytes are not allowed; the image is damaged",
                       path, h->cluster_bits);
    if (h->length < (h->version < 3 ? QCOW2_HEADER_V2 : QCOW2_HEADER_V3) || h->length > n ||
        h->length > BIT64(h->cluster_bits) || h->refcount_order > 6)
        return err_set(e, EINVAL, "disk '%s': its qcow2 header is damaged", path);
    if (h->crypt > 2)
        return err_set(e, ENOTSUP, "disk '%s' is encrypted by method %u, which is not known here",
                       path, h->crypt);
    if (h->compression > QCOW2_ZSTD || !h->compression != !(h->incompat & QCOW2_I_COMPRESSION))
        return err_set(e, ENOTSUP, "disk '%s' is compressed by method %u, which is not known here",
                       path, h->compression);
    return header_check_size(h, path, e);
}

/* --- extensions --- */

static char *header_string(const uint8_t *p, size_t n)
{
    return strndup((const char *)p, n);
}

static int header_keep(struct qcow2_header *h, uint32_t type, const uint8_t *data, uint32_t len)
{
    struct qcow2_ext *x = malloc(sizeof(*x) + len), **at = &h->exts;

    if (!x)
        return -ENOMEM;
    *x = (struct qcow2_ext){ .type = type, .len = len };
    memcpy(x->data, data, len);
    while (*at)
        at = &(*at)->next;
    *at = x;
    return 0;
}

/* 0; -EINVAL: damaged; -ENOMEM. */
static int header_extension(struct qcow2_header *h, uint32_t type, const uint8_t *p, uint32_t len)
{
    char **string = NULL;

    switch (type) {
    case (uint32_t)QCOW2_X_BACKING:
        string = &h->backing_format;
        break;
    case QCOW2_X_DATA_FILE:
        string = &h->data_file;
        break;
    case QCOW2_X_BITMAPS:
        if (len < 24)
            return -EINVAL;
        h->bitmaps.n = ld_be32(p);
        h->bitmaps.dir_size = ld_be64(p + 8);
        h->bitmaps.dir_off = ld_be64(p + 16);
        return 0;
    case QCOW2_X_LUKS:
        if (len < 16)
            return -EINVAL;
        h->luks.off = ld_be64(p);
        h->luks.len = ld_be64(p + 8);
        return 0;
    default:
        return header_keep(h, type, p, len);
    }
    free(*string);
    *string = header_string(p, len);
    return *string ? 0 : -ENOMEM;
}

static int header_extensions(struct qcow2_header *h, const uint8_t *head, size_t end)
{
    size_t at = h->length;

    while (at + 8 <= end) {
        uint32_t type = ld_be32(head + at), len = ld_be32(head + at + 4);
        int rc;

        at += 8;
        if (type == QCOW2_X_END)
            return 0;
        if (len > end - at)
            return -EINVAL;
        rc = header_extension(h, type, head + at, len);
        if (rc)
            return rc;
        at = min_u64(end, align_up(at + len, 8));
    }
    return 0;
}

static void header_feature_name(const struct qcow2_header *h, unsigned bit, char *buf, size_t size)
{
    snprintf(buf, size, "bit %u", bit);
    for (const struct qcow2_ext *x = h->exts; x; x = x->next)
        for (uint32_t i = 0; x->type == QCOW2_X_FEATURES && i + HEADER_FEATURE <= x->len;
             i += HEADER_FEATURE)
            if (x->data[i] == 0 && x->data[i + 1] == bit)
                snprintf(buf, size, "'%.*s'", HEADER_NAME, (const char *)x->data + i + 2);
}

static int header_features_check(const struct qcow2_header *h, const char *path, struct err *e)
{
    uint64_t unknown = h->incompat & ~(uint64_t)QCOW2_I_KNOWN;
    char names[256] = "";
    size_t n = 0;

    if (!unknown)
        return 0;
    for (unsigned bit = 0; bit < 64 && n + 64 < sizeof(names); bit++) {
        char name[64];

        if (!(unknown >> bit & 1))
            continue;
        header_feature_name(h, bit, name, sizeof(name));
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", name);
    }
    return err_set(
        e, ENOTSUP,
        "disk '%s' uses features of qcow2 that are not known here: %s; convert it with the "
        "program that made it",
        path, names);
}

static int header_backing(struct qcow2_header *h, const uint8_t *head, size_t n, const char *path,
                          struct err *e)
{
    uint64_t off = ld_be64(head + 8);
    uint32_t len = ld_be32(head + 16);

    if (!off)
        return 0;
    if (len > QCOW2_MAX_NAME || off > n || len > n - off)
        return err_set(e, EINVAL, "disk '%s': the name of its backing file is damaged", path);
    if (!len)
        return 0;
    h->backing = header_string(head + off, len);
    return h->backing ? 0 : err_set(e, ENOMEM, "out of memory");
}

int qcow2_header_parse(struct qcow2_header *h, const uint8_t *head, size_t n, const char *path,
                       struct err *e)
{
    uint64_t backing_off;
    size_t end;
    int rc;

    *h = (struct qcow2_header){ 0 };
    if (n < QCOW2_HEADER_V3 + 8 && (n < QCOW2_HEADER_V2 || ld_be32(head + 4) > 2))
        return err_set(e, EINVAL, "disk '%s' ends within its qcow2 header", path);
    header_decode(h, head);
    if (h->version <= 3 && h->cluster_bits <= QCOW2_MAX_BITS)
        n = min_u64(n, BIT64(h->cluster_bits));
    backing_off = ld_be64(head + 8);
    end = backing_off && backing_off < n ? backing_off : n;
    rc = h->version <= 3 && h->length <= end ? header_extensions(h, head, end) : 0;
    if (rc == -EINVAL)
        return err_set(e, EINVAL, "disk '%s': a header extension is damaged", path);
    if (rc)
        return err_set(e, -rc, "out of memory");
    if (!(h->autoclear &
          QCOW2_A_BITMAPS)) /* somebody wrote who does not know them: they are void */
        h->bitmaps.n = 0;
    rc = header_features_check(h, path, e);
    if (!rc)
        rc = header_check(h, n, path, e);
    return rc ? rc : header_backing(h, head, n, path, e);
}

void qcow2_header_fini(struct qcow2_header *h)
{
    while (h->exts) {
        struct qcow2_ext *next = h->exts->next;

        free(h->exts);
        h->exts = next;
    }
    free(h->backing);
    free(h->backing_format);
    free(h->data_file);
    h->backing = h->backing_format = h->data_file = NULL;
}

/* --- building --- */

struct header_out {
    uint8_t *p;
    size_t at, room;
    bool full;
};

static uint8_t *header_put(struct header_out *o, uint32_t type, size_t len)
{
    uint8_t *p = o->p + o->at;

    if (o->full || len + 16 > o->room || o->at > o->room - len - 16) {
        o->full = true;
        return NULL;
    }
    st_be32(p, type);
    st_be32(p + 4, (uint32_t)len);
    o->at = align_up(o->at + 8 + len, 8);
    return p + 8;
}

static void header_put_bytes(struct header_out *o, uint32_t type, const void *data, size_t len)
{
    uint8_t *p = header_put(o, type, len);

    if (p)
        memcpy(p, data, len);
}

static void header_put_features(struct header_out *o)
{
    uint8_t *p = header_put(o, QCOW2_X_FEATURES, ARRAY_SIZE(header_features) * HEADER_FEATURE);

    for (size_t i = 0; p && i < ARRAY_SIZE(header_features); i++, p += HEADER_FEATURE) {
        p[0] = header_features[i].type;
        p[1] = header_features[i].bit;
        memcpy(p + 2, header_features[i].name, strlen(header_features[i].name));
    }
}

static void header_put_pointers(struct header_out *o, const struct qcow2_header *h)
{
    uint8_t *p = h->luks.off ? header_put(o, QCOW2_X_LUKS, 16) : NULL;

    if (p) {
        st_be64(p, h->luks.off);
        st_be64(p + 8, h->luks.len);
    }
    p = h->bitmaps.n ? header_put(o, QCOW2_X_BITMAPS, 24) : NULL;
    if (p) {
        st_be32(p, h->bitmaps.n);
        st_be64(p + 8, h->bitmaps.dir_size);
        st_be64(p + 16, h->bitmaps.dir_off);
    }
}

void qcow2_header_put_fixed(const struct qcow2_header *h, uint8_t *p)
{
    st_be32(p, QCOW2_MAGIC);
    st_be32(p + 4, h->version);
    st_be32(p + 20, h->cluster_bits);
    st_be64(p + 24, h->size);
    st_be32(p + 32, h->crypt);
    st_be32(p + 36, h->l1_size);
    st_be64(p + 40, h->l1_off);
    st_be64(p + 48, h->rt_off);
    st_be32(p + 56, h->rt_clusters);
    st_be32(p + 60, h->n_snapshots);
    st_be64(p + 64, h->snapshots_off);
    if (h->version < 3)
        return;
    st_be64(p + 72, h->incompat);
    st_be64(p + 80, h->compat);
    st_be64(p + 88, h->autoclear);
    st_be32(p + 96, h->refcount_order);
    st_be32(p + 100, h->length);
    if (h->length > QCOW2_HEADER_V3)
        p[QCOW2_HEADER_V3] = h->compression;
}

/* Of names and extensions the short ones first: with small clusters the feature table may not fit. */
int qcow2_header_build(const struct qcow2_header *h, uint8_t *cluster, size_t room)
{
    struct header_out o = { .p = cluster, .at = h->length, .room = room };
    size_t name = h->backing ? strlen(h->backing) : 0;
    bool has_features = false;

    qcow2_header_put_fixed(h, cluster);
    if (h->backing_format)
        header_put_bytes(&o, (uint32_t)QCOW2_X_BACKING, h->backing_format,
                         strlen(h->backing_format));
    if (h->data_file)
        header_put_bytes(&o, QCOW2_X_DATA_FILE, h->data_file, strlen(h->data_file));
    header_put_pointers(&o, h);
    for (const struct qcow2_ext *x = h->exts; x; x = x->next) {
        has_features = has_features || x->type == QCOW2_X_FEATURES;
        header_put_bytes(&o, x->type, x->data, x->len);
    }
    if (!has_features && h->version >= 3 &&
        o.at + 8 + sizeof(header_features[0]) + ARRAY_SIZE(header_features) * HEADER_FEATURE + 8 +
                name <=
            room)
        header_put_features(&o);
    if (o.full || o.at + 8 > room || name > room - o.at - 8)
        return -E2BIG;
    o.at += 8; /* the end marker: zeros */
    if (name) {
        st_be64(cluster + 8, o.at);
        st_be32(cluster + 16, (uint32_t)name);
        memcpy(cluster + o.at, h->backing, name);
    }
    return 0;
}
