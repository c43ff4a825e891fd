/*
 * vhdx.c: Hyper-V disk images (VHDX, MS-VHDX 1), read-only: fixed and dynamic. The log of an image that was
 * not closed is replayed in memory (vhdx_log.c). Differencing images: vhdx_parent.c.
 *
 *     0       file identifier     192 KiB  region table
 *     64 KiB  header              256 KiB  its copy: where the BAT and the metadata are
 *     128 KiB its copy            then     log, metadata, BAT, blocks, each at a multiple of 1 MiB
 */
#include "block/vhdx_impl.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "block/formats.h"

/* CRC-32C (Castagnoli), bit by bit over a table of 16: metadata only, speed does not matter. */
uint32_t vhdx_checksum(const void *p, size_t n, size_t at)
{
    const uint8_t *b = p;
    uint32_t table[16], crc = ~0u;

    for (uint32_t i = 0; i < 16; i++) {
        uint32_t c = i;

        for (int k = 0; k < 4; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < n; i++) {
        crc ^= i >= at && i < at + 4 ? 0 : b[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static bool vhdx_probe(const void *head, size_t n)
{
    return n >= 8 && !memcmp(head, "vhdxfile", 8);
}

static bool vhdx_header_valid(const uint8_t *h)
{
    return !memcmp(h, "head", 4) &&
           vhdx_checksum(h, VHDX_HEADER_SIZE, VHDX_HEADER_CHECKSUM) ==
               ld_le32(h + VHDX_HEADER_CHECKSUM) &&
           ld_le16(h + VHDX_HEADER_VERSION) == 1;
}

static int vhdx_read_header(struct foreign *f, struct err *e)
{
    static const uint64_t at[] = { VHDX_HEADER1, VHDX_HEADER2 };
    struct vhdx *v = f->priv;
    uint8_t h[VHDX_HEADER_SIZE];
    bool found = false;

    for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
        int rc = foreign_pread(f, 0, at[i], h, sizeof(h), e);

        if (rc)
            return rc;
        if (!vhdx_header_valid(h) || (found && ld_le64(h + VHDX_HEADER_SEQUENCE) <=
                                                   ld_le64(v->header + VHDX_HEADER_SEQUENCE)))
            continue;
        memcpy(v->header, h, sizeof(h));
        found = true;
    }
    return found ? 0 : foreign_bad(f, e, "neither of its headers is valid");
}

/* --- regions --- */

static bool vhdx_regions_valid(const uint8_t *t)
{
    return !memcmp(t, "regi", 4) && vhdx_checksum(t, VHDX_REGIONS_SIZE, 4) == ld_le32(t + 4) &&
           ld_le32(t + 8) <= VHDX_REGIONS_MAX;
}

static int vhdx_find_regions(struct foreign *f, const uint8_t *t, struct err *e)
{
    struct vhdx *v = f->priv;

    for (uint32_t i = 0; i < ld_le32(t + 8); i++) {
        const uint8_t *r = t + VHDX_REGION_ENTRIES + (size_t)i * VHDX_REGION_ENTRY;

        if (!memcmp(r, VHDX_GUID_BAT, VHDX_GUID_LEN)) {
            v->bat_off = ld_le64(r + 16);
            v->bat_len = ld_le32(r + 24);
        } else if (!memcmp(r, VHDX_GUID_METADATA, VHDX_GUID_LEN)) {
            v->meta_off = ld_le64(r + 16);
            v->meta_len = ld_le32(r + 24);
        } else if (ld_le32(r + 28) & 1) {
            return foreign_unsupported(f, e, "needs a feature of VHDX that is not known here");
        }
    }
    if (!v->bat_len || v->meta_len < VHDX_META_TABLE)
        return foreign_bad(f, e, "its block table or its metadata is missing");
    return 0;
}

static int vhdx_read_regions(struct foreign *f, struct err *e)
{
    static const uint64_t at[] = { VHDX_REGIONS1, VHDX_REGIONS2 };
    const struct vhdx *v = f->priv;

    for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
        uint8_t *t = foreign_load(f, 0, at[i], VHDX_REGIONS_SIZE, "region table", e);
        bool valid;
        int rc;

        if (!t)
            return -EINVAL;
        vhdx_log_apply(v, at[i], t, VHDX_REGIONS_SIZE);
        valid = vhdx_regions_valid(t);
        rc = valid ? vhdx_find_regions(f, t, e) : 0;
        free(t);
        if (valid)
            return rc;
    }
    return foreign_bad(f, e, "neither of its region tables is valid");
}

/* --- metadata --- */

/* Copies an item's first n bytes; -ENOENT without a sentence if there is none. */
static int vhdx_meta_item(const struct vhdx *v, const uint8_t *meta, const char *guid, void *out,
                          uint32_t n)
{
    for (uint32_t i = 0; i < ld_le16(meta + 10); i++) {
        const uint8_t *m = meta + VHDX_META_ENTRIES + (size_t)i * VHDX_META_ENTRY;
        uint32_t off = ld_le32(m + 16);

        if (memcmp(m, guid, VHDX_GUID_LEN))
            continue;
        if (ld_le32(m + 20) < n || off > v->meta_len || v->meta_len - off < n)
            return -ENOENT;
        memcpy(out, meta + off, n);
        return 0;
    }
    return -ENOENT;
}

static int vhdx_find_parent(struct foreign *f, const uint8_t *meta, struct err *e)
{
    const struct vhdx *v = f->priv;

    for (uint32_t i = 0; i < ld_le16(meta + 10); i++) {
        const uint8_t *m = meta + VHDX_META_ENTRIES + (size_t)i * VHDX_META_ENTRY;
        uint32_t off = ld_le32(m + 16), len = ld_le32(m + 20);

        if (memcmp(m, VHDX_GUID_PARENT, VHDX_GUID_LEN))
            continue;
        if (off > v->meta_len || len > v->meta_len - off)
            break;
        return vhdx_parent_find(f, meta + off, len, e);
    }
    return foreign_bad(f, e, "it does not name its parent");
}

static int vhdx_check_metadata(struct foreign *f, const uint8_t *meta, struct err *e)
{
    struct vhdx *v = f->priv;
    uint8_t params[8], size[8], sector[4];

    if (memcmp(meta, "metadata", 8) || ld_le16(meta + 10) > VHDX_META_MAX)
        return foreign_bad(f, e, "its metadata table has no signature");
    if (vhdx_meta_item(v, meta, VHDX_GUID_PARAMETERS, params, sizeof(params)) ||
        vhdx_meta_item(v, meta, VHDX_GUID_SIZE, size, sizeof(size)) ||
        vhdx_meta_item(v, meta, VHDX_GUID_LOGICAL, sector, sizeof(sector)))
        return foreign_bad(f, e,
                           "its metadata lacks the size of the disk, of blocks or of sectors");
    v->block_size = ld_le32(params);
    v->sector_size = ld_le32(sector);
    f->size = ld_le64(size);
    v->differencing = ld_le32(params + 4) & VHDX_PARAM_HAS_PARENT;
    if (!is_pow2(v->block_size) || v->block_size < VHDX_BLOCK_MIN || v->block_size > VHDX_BLOCK_MAX)
        return foreign_bad(f, e, "blocks of %u bytes", ld_le32(params));
    if (v->sector_size != 512 && v->sector_size != 4096)
        return foreign_bad(f, e, "sectors of %u bytes", v->sector_size);
    if (!f->size || f->size % v->sector_size || f->size > VHDX_MAX_SIZE)
        return foreign_bad(f, e, "a disk of %llu bytes", (unsigned long long)f->size);
    f->unit = (uint32_t)v->block_size;
    f->variant = v->differencing ? "differencing" : ld_le32(params + 4) & 1 ? "fixed" : "dynamic";
    return v->differencing ? vhdx_find_parent(f, meta, e) : 0;
}

static int vhdx_read_metadata(struct foreign *f, struct err *e)
{
    struct vhdx *v = f->priv;
    uint8_t *meta;
    int rc;

    v->meta_len = (uint32_t)min_u64(v->meta_len, MIB); /* nothing known lies beyond */
    meta = foreign_load(f, 0, v->meta_off, v->meta_len, "metadata", e);
    if (!meta)
        return -EINVAL;
    vhdx_log_apply(v, v->meta_off, meta, v->meta_len);
    rc = vhdx_check_metadata(f, meta, e);
    free(meta);
    return rc;
}

static int vhdx_read_bat(struct foreign *f, struct err *e)
{
    struct vhdx *v = f->priv;
    uint64_t blocks = (f->size + v->block_size - 1) / v->block_size, entries;

    v->ratio = VHDX_CHUNK_SECTORS * v->sector_size / v->block_size;
    entries = blocks + (blocks - 1) / v->ratio;
    v->chunks = (blocks + v->ratio - 1) / v->ratio;
    if (v->differencing) /* the last chunk's bitmap is used too */
        entries = v->chunks * (v->ratio + 1);
    if (entries > v->bat_len / sizeof(*v->bat))
        return foreign_bad(f, e, "its block table is too short for its size");
    v->bat = foreign_load(f, 0, v->bat_off, entries * sizeof(*v->bat), "block table", e);
    if (!v->bat)
        return -EINVAL;
    vhdx_log_apply(v, v->bat_off, v->bat, entries * sizeof(*v->bat));
    return v->differencing ? vhdx_parent_bitmaps(f, blocks, e) : 0;
}

static int vhdx_open(struct foreign *f, struct err *e)
{
    struct vhdx *v = calloc(1, sizeof(*v));
    int rc;

    f->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    rc = vhdx_read_header(f, e);
    if (!rc)
        rc = vhdx_log_load(f, e);
    if (!rc)
        rc = vhdx_read_regions(f, e);
    if (!rc)
        rc = vhdx_read_metadata(f, e);
    return rc ? rc : vhdx_read_bat(f, e);
}

static void vhdx_close(struct foreign *f)
{
    struct vhdx *v = f->priv;

    if (!v)
        return;
    vhdx_log_free(v);
    vhdx_parent_free(v);
    free(v->bat);
    free(v);
}

static void vhdx_map(const struct foreign *f, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    const struct vhdx *v = f->priv;
    uint64_t block = off / v->block_size, in_block = off % v->block_size;
    uint64_t entry = ld_le64(&v->bat[block + block / v->ratio]); /* skips the bitmaps' entries */

    *x = (struct foreign_extent){ .kind = FOREIGN_DATA, .len = v->block_size - in_block };
    if (v->differencing && (entry & VHDX_STATE_MASK) == VHDX_BLOCK_PARTIAL) {
        x->host_off = (entry & VHDX_OFFSET_MASK) + in_block;
        vhdx_parent_map(v, off, min_u64(len, x->len), x);
        return;
    }
    if ((entry & VHDX_STATE_MASK) != VHDX_BLOCK_FULL) {
        x->kind = (entry & VHDX_STATE_MASK) == VHDX_BLOCK_ABSENT ? FOREIGN_PARENT : FOREIGN_ZERO;
        return;
    }
    x->host_off = (entry & VHDX_OFFSET_MASK) + in_block;
}

const struct foreign_format vhdx_format = {
    .blk = FOREIGN_BLK(vhdx),
    .open = vhdx_open,
    .close = vhdx_close,
    .map = vhdx_map,
    .parent = vhdx_parent_check,
};
