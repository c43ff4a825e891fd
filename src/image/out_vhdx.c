/*
 * out_vhdx.c: VHDX images, dynamic or fixed (-o subformat=fixed). The log is there and empty. Blocks are
 * given out as the disk goes on; inside a block, what is zero is left as a hole.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/vhdx_format.h"
#include "image/out.h"

enum {
    VHDX_LOG_OFF = MIB,
    VHDX_LOG_LEN = MIB,
    VHDX_META_OFF = 2 * MIB,
    VHDX_META_LEN = MIB,
    VHDX_BAT_OFF = 3 * MIB,
    VHDX_UNIT = 64 * KIB,
    VHDX_SECTOR = 512,
    VHDX_PHYSICAL = 4096,
};

struct out_vhdx {
    bool fixed;
    uint64_t *bat; /* little-endian */
    uint64_t block, ratio, entries, bat_len, end;
};

/* Larger blocks for larger disks, as Hyper-V and qemu-img do. */
static uint64_t out_vhdx_default_block(uint64_t size)
{
    return size > 100 * GIB ? 32 * MIB : size > GIB ? 16 * MIB : 8 * MIB;
}

static int out_vhdx_options(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = { "subformat",        "block_size", "log_size",
                                         "block_state_zero", "size",       NULL };
    const char *variant = out_option(opts, "subformat"), *block = out_option(opts, "block_size");
    struct out_vhdx *v = o->priv;

    if (out_check_options(opts, known, e))
        return -EINVAL;
    if (opts->compress)
        return err_set(e, EINVAL, "vhdx images are not compressed: -O qcow2 or vmdk can be");
    if (variant && strcmp(variant, "dynamic") && strcmp(variant, "fixed"))
        return err_set(e, EINVAL, "subformat=%s: vhdx knows dynamic and fixed", variant);
    v->fixed = variant && !strcmp(variant, "fixed");
    v->block = out_vhdx_default_block(o->size);
    if (block && strcmp(block, "0") &&
        (util_parse_size(block, &v->block) || !is_pow2(v->block) || v->block < VHDX_BLOCK_MIN ||
         v->block > VHDX_BLOCK_MAX))
        return err_set(e, EINVAL, "block_size=%s: a power of two from 1M to 256M", block);
    if (o->size > VHDX_MAX_SIZE)
        return err_set(e, EFBIG, "a vhdx image has at most 64 TiB");
    return 0;
}

/* The entry of a data block: one for a bitmap comes after each `ratio` of them. */
static uint64_t *out_vhdx_entry(const struct out_vhdx *v, uint64_t block)
{
    return &v->bat[block + block / v->ratio];
}

static void out_vhdx_block(struct out_vhdx *v, uint64_t *entry)
{
    st_le64(entry, v->end | VHDX_BLOCK_FULL);
    v->end += v->block;
}

static int out_vhdx_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    struct out_vhdx *v = calloc(1, sizeof(*v));
    uint64_t blocks;
    unsigned bits;

    o->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    if (out_vhdx_options(o, opts, e))
        return -EINVAL;
    bits = (unsigned)__builtin_ctzll(v->block);
    blocks = (o->size + v->block - 1) >> bits;
    v->ratio = VHDX_CHUNK_SECTORS * VHDX_SECTOR >> bits;
    v->entries = blocks + (blocks ? (blocks - 1) / v->ratio : 0);
    v->bat_len = align_up(max_u64(v->entries, 1) * sizeof(*v->bat), MIB);
    v->bat = calloc(v->entries + 1, sizeof(*v->bat));
    if (!v->bat)
        return err_set(e, ENOMEM, "out of memory");
    v->end = VHDX_BAT_OFF + v->bat_len;
    for (uint64_t i = 0; v->fixed && i < blocks; i++)
        out_vhdx_block(v, out_vhdx_entry(v, i));
    o->unit = VHDX_UNIT;
    return 0;
}

static void out_vhdx_close(struct out *o)
{
    struct out_vhdx *v = o->priv;

    if (v)
        free(v->bat);
    free(v);
}

static int out_vhdx_place(struct out *o, struct out_chunk *c)
{
    struct out_vhdx *v = o->priv;
    uint32_t n = (c->len + o->unit - 1) / o->unit;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t off = c->off + (uint64_t)i * o->unit;
        uint64_t *entry = out_vhdx_entry(v, off / v->block);

        if (!c->used[i])
            continue;
        if (!*entry)
            out_vhdx_block(v, entry);
        c->place[i] = (ld_le64(entry) & VHDX_OFFSET_MASK) + off % v->block;
    }
    return 0;
}

static int out_vhdx_store(struct out *o, struct out_chunk *c)
{
    return out_store_units(o, c);
}

/* --- the end --- */

static void out_vhdx_region(uint8_t *r, const char *guid, uint64_t off, uint64_t len)
{
    memcpy(r, guid, VHDX_GUID_LEN);
    st_le64(r + 16, off);
    st_le32(r + 24, (uint32_t)len);
    st_le32(r + 28, 1); /* required */
}

static int out_vhdx_put_regions(struct out *o)
{
    const struct out_vhdx *v = o->priv;
    uint8_t *t = calloc(1, VHDX_REGIONS_SIZE);
    int rc;

    if (!t)
        return -ENOMEM;
    out_mark(t, "regi");
    st_le32(t + 8, 2);
    out_vhdx_region(t + VHDX_REGION_ENTRIES, VHDX_GUID_BAT, VHDX_BAT_OFF, v->bat_len);
    out_vhdx_region(t + VHDX_REGION_ENTRIES + VHDX_REGION_ENTRY, VHDX_GUID_METADATA, VHDX_META_OFF,
                    VHDX_META_LEN);
    st_le32(t + 4, vhdx_checksum(t, VHDX_REGIONS_SIZE, 4));
    rc = out_pwrite(o, t, VHDX_REGIONS_SIZE, VHDX_REGIONS1);
    if (!rc)
        rc = out_pwrite(o, t, VHDX_REGIONS_SIZE, VHDX_REGIONS2);
    free(t);
    return rc;
}

static int out_vhdx_put_metadata(struct out *o)
{
    const struct out_vhdx *v = o->priv;
    uint8_t uuid[16], m[VHDX_META_ENTRIES + 5 * VHDX_META_ENTRY] = "metadata", data[64] = { 0 };
    const struct {
        const char *guid;
        uint32_t len, flags;
        uint64_t value;
    } items[] = {
        { VHDX_GUID_PARAMETERS, 8, VHDX_META_REQUIRED, v->block | (v->fixed ? BIT64(32) : 0) },
        { VHDX_GUID_SIZE, 8, VHDX_META_REQUIRED | VHDX_META_IS_VIRTUAL, o->size },
        { VHDX_GUID_LOGICAL, 4, VHDX_META_REQUIRED | VHDX_META_IS_VIRTUAL, VHDX_SECTOR },
        { VHDX_GUID_PHYSICAL, 4, VHDX_META_REQUIRED | VHDX_META_IS_VIRTUAL, VHDX_PHYSICAL },
        { VHDX_GUID_PAGE83, 16, VHDX_META_REQUIRED | VHDX_META_IS_VIRTUAL, 0 },
    };
    uint32_t at = 0;
    int rc;

    st_le16(m + 10, ARRAY_SIZE(items));
    for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
        uint8_t *x = m + VHDX_META_ENTRIES + i * VHDX_META_ENTRY;

        memcpy(x, items[i].guid, VHDX_GUID_LEN);
        st_le32(x + 16, VHDX_META_TABLE + at);
        st_le32(x + 20, items[i].len);
        st_le32(x + 24, items[i].flags);
        st_le64(data + at, items[i].value);
        at += items[i].len;
    }
    out_uuid(uuid);
    memcpy(data + at - sizeof(uuid), uuid, sizeof(uuid));
    rc = out_pwrite(o, m, sizeof(m), VHDX_META_OFF);
    return rc ? rc : out_pwrite(o, data, at, VHDX_META_OFF + VHDX_META_TABLE);
}

/* Both headers, the second being the newer. */
static int out_vhdx_put_headers(struct out *o)
{
    uint8_t *h = calloc(1, VHDX_HEADER_SIZE);
    int rc = h ? 0 : -ENOMEM;

    for (unsigned i = 0; !rc && i < 2; i++) {
        memset(h, 0, VHDX_HEADER_SIZE);
        out_mark(h, "head");
        st_le64(h + VHDX_HEADER_SEQUENCE, i);
        out_uuid(h + VHDX_HEADER_FILE_GUID);
        out_uuid(h + VHDX_HEADER_DATA_GUID);
        st_le16(h + VHDX_HEADER_VERSION, 1);
        st_le32(h + VHDX_HEADER_LOG_LENGTH, VHDX_LOG_LEN);
        st_le64(h + VHDX_HEADER_LOG_OFFSET, VHDX_LOG_OFF);
        st_le32(h + VHDX_HEADER_CHECKSUM, vhdx_checksum(h, VHDX_HEADER_SIZE, VHDX_HEADER_CHECKSUM));
        rc = out_pwrite(o, h, VHDX_HEADER_SIZE, i ? VHDX_HEADER2 : VHDX_HEADER1);
    }
    free(h);
    return rc;
}

static int out_vhdx_put_identifier(struct out *o)
{
    static const char creator[] = "Ruche " RUCHE_VERSION;
    uint8_t id[8 + 2 * sizeof(creator)] = "vhdxfile";

    for (size_t i = 0; i < sizeof(creator); i++)
        st_le16(id + 8 + 2 * i, (uint16_t)creator[i]);
    return out_pwrite(o, id, sizeof(id), 0);
}

static int out_vhdx_finish(struct out *o)
{
    const struct out_vhdx *v = o->priv;
    int rc = out_pwrite(o, v->bat, v->entries * sizeof(*v->bat), VHDX_BAT_OFF);

    if (!rc && ftruncate(o->fd, (off_t)v->end))
        rc = -errno;
    if (!rc)
        rc = out_vhdx_put_metadata(o);
    if (!rc)
        rc = out_vhdx_put_regions(o);
    if (!rc)
        rc = out_vhdx_put_headers(o);
    return rc ? rc : out_vhdx_put_identifier(o);
}

const struct out_ops out_vhdx_ops = {
    .format = "vhdx",
    .open = out_vhdx_open,
    .close = out_vhdx_close,
    .place = out_vhdx_place,
    .store = out_vhdx_store,
    .finish = out_vhdx_finish,
};
