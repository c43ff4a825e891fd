/*
 * vhd.c: Virtual PC and Hyper-V disk images (VHD), read-only: fixed, dynamic and differencing.
 *
 *     fixed     the disk, then a footer
 *     dynamic   footer, header, table of u32 (sector of each block), blocks, footer; a block is a bitmap
 *               of its sectors and its data
 *
 * A fixed image looks like a raw one from its beginning: it is opened as VHD if the user says so.
 */
#include <errno.h>
#include <string.h>

#include "block/foreign.h"
#include "block/formats.h"
#include "block/vhd_format.h"

struct vhd {
    bool fixed, differencing;
    uint32_t *table; /* big-endian, as it is in the file */
    uint32_t entries;
    uint64_t block_size, bitmap_size;
    uint8_t **bitmap; /* differencing: one a block; NULL: it has all of its sectors */
};

static bool vhd_probe(const void *head, size_t n)
{
    return n >= VHD_FOOTER && !memcmp(head, "conectix", 8);
}

/* Programs differ in what they mean: some round the disk down to its geometry of cylinders. */
static uint64_t vhd_size(const uint8_t *footer)
{
    static const char *const by_size[] = { "win ", "qem2", "d2v ", "tap", "CTXS", "wa\0", "ruch" };
    uint64_t geometry =
        (uint64_t)ld_be16(footer + VHD_CYLINDERS) * footer[VHD_HEADS] * footer[VHD_SECTORS];

    for (size_t i = 0; i < ARRAY_SIZE(by_size); i++)
        if (!strncmp((const char *)footer + VHD_CREATOR, by_size[i], 4))
            return ld_be64(footer + VHD_SIZE);
    if (geometry && geometry < VHD_MAX_GEOMETRY &&
        geometry * BLK_SECTOR <= ld_be64(footer + VHD_SIZE))
        return geometry * BLK_SECTOR;
    return ld_be64(footer + VHD_SIZE);
}

/* The footer, from the end; what was cut off there has its copy at the beginning. */
static int vhd_read_footer(struct foreign *f, uint8_t *footer, struct err *e)
{
    uint64_t size = f->file[0]->size;
    int rc = 0;

    if (size < VHD_FOOTER)
        return foreign_bad(f, e, "it is too short");
    for (unsigned i = 0; !rc && i < 2; i++) {
        rc = foreign_pread(f, 0, i ? 0 : size - VHD_FOOTER, footer, VHD_FOOTER, e);
        if (!rc && vhd_probe(footer, VHD_FOOTER) &&
            vhd_checksum(footer, VHD_FOOTER, VHD_CHECKSUM) == ld_be32(footer + VHD_CHECKSUM))
            return 0;
    }
    return rc ? rc : foreign_bad(f, e, "there is no valid footer at its end nor at its beginning");
}

static int vhd_open_fixed(struct foreign *f, struct err *e)
{
    uint64_t size = f->file[0]->size;

    f->variant = "fixed";
    if (f->size > size)
        return foreign_bad(f, e, "the file is shorter than the disk");
    return 0;
}

/* One bitmap a block; those of full blocks are not kept. */
static int vhd_load_bitmaps(struct foreign *f, struct err *e)
{
    struct vhd *v = f->priv;
    uint64_t left = min_u64(FOREIGN_MAX_TABLES, f->file[0]->size); /* they are different ones */

    v->bitmap = calloc(v->entries, sizeof(*v->bitmap));
    if (!v->bitmap)
        return err_set(e, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < v->entries; i++) {
        uint64_t sector = ld_be32(&v->table[i]);
        uint64_t used = v->block_size / BLK_SECTOR / 8;
        bool full = true;
        uint8_t *map;

        if (sector == VHD_FREE)
            continue;
        if (left < v->bitmap_size)
            return foreign_bad(f, e, "it has more bitmaps than there is room for");
        left -= v->bitmap_size;
        map = foreign_load(f, 0, sector * BLK_SECTOR, v->bitmap_size, "sector bitmap", e);
        if (!map)
            return -EINVAL;
        for (uint64_t k = 0; full && k < used; k++)
            full = map[k] == 0xff;
        if (full) {
            free(map);
            continue;
        }
        v->bitmap[i] = map;
    }
    return 0;
}

/*
 * Where the parent is: the locator with a relative Windows path, else its bare name, in the same folder.
 * Absolute names are of another machine.
 */
static int vhd_find_parent(struct foreign *f, const uint8_t *h, struct err *e)
{
    char *name = foreign_utf16(h + VHD_DYN_PARENT_NAME, VHD_DYN_PARENT_UNITS, true);

    for (unsigned i = 0; i < VHD_DYN_LOCATORS; i++) {
        const uint8_t *l = h + VHD_DYN_LOCATOR + 24 * i;
        uint32_t len = ld_be32(l + 8);
        void *text;

        if (memcmp(l, "W2ru", 4) || !len || len > 4096)
            continue;
        text = foreign_load(f, 0, ld_be64(l + 16), len, "parent's name", e);
        if (!text) {
            free(name);
            return -EINVAL;
        }
        free(name);
        name = foreign_utf16(text, len / 2, false);
        free(text);
    }
    if (!name)
        return foreign_bad(f, e, "it does not name its parent");
    foreign_windows_path(name);
    f->backing = name;
    f->backing_format = "vhd";
    return 0;
}

static int vhd_open_dynamic(struct foreign *f, const uint8_t *footer, struct err *e)
{
    struct vhd *v = f->priv;
    uint8_t h[VHD_DYN_HEADER];
    int rc = foreign_pread(f, 0, ld_be64(footer + VHD_HEADER_OFFSET), h, sizeof(h), e);

    if (rc)
        return rc;
    if (memcmp(h, "cxsparse", 8))
        return foreign_bad(f, e, "its second header is missing");
    v->block_size = ld_be32(h + VHD_DYN_BLOCK_SIZE);
    v->entries = ld_be32(h + VHD_DYN_ENTRIES);
    if (!is_pow2(v->block_size) || v->block_size < BLK_SECTOR || v->block_size > 256 * MIB)
        return foreign_bad(f, e, "blocks of %u bytes", ld_be32(h + VHD_DYN_BLOCK_SIZE));
    if (f->size > v->entries * v->block_size)
        return foreign_bad(f, e, "its table of %u blocks is too short for its size", v->entries);
    v->bitmap_size = align_up((v->block_size / BLK_SECTOR + 7) / 8, BLK_SECTOR);
    f->unit = (uint32_t)v->block_size;
    f->variant = v->differencing ? "differencing" : "dynamic";
    v->table = foreign_load(f, 0, ld_be64(h + VHD_DYN_TABLE),
                            (uint64_t)v->entries * sizeof(*v->table), "block table", e);
    if (!v->table)
        return -EINVAL;
    if (!v->differencing)
        return 0;
    rc = vhd_find_parent(f, h, e);
    return rc ? rc : vhd_load_bitmaps(f, e);
}

static int vhd_open(struct foreign *f, struct err *e)
{
    struct vhd *v = calloc(1, sizeof(*v));
    uint8_t footer[VHD_FOOTER];
    uint32_t type;
    int rc;

    f->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    rc = vhd_read_footer(f, footer, e);
    if (rc)
        return rc;
    type = ld_be32(footer + VHD_TYPE);
    f->size = align_down(vhd_size(footer), BLK_SECTOR);
    if (!f->size)
        return foreign_bad(f, e, "its disk has no size");
    v->fixed = type == VHD_FIXED;
    v->differencing = type == VHD_DIFFERENCING;
    if (v->fixed)
        return vhd_open_fixed(f, e);
    if (type != VHD_DYNAMIC && type != VHD_DIFFERENCING)
        return foreign_bad(f, e, "there is no disk type %u", type);
    return vhd_open_dynamic(f, footer, e);
}

static void vhd_close(struct foreign *f)
{
    struct vhd *v = f->priv;

    if (!v)
        return;
    for (uint32_t i = 0; v->bitmap && i < v->entries; i++)
        free(v->bitmap[i]);
    free(v->bitmap);
    free(v->table);
    free(v);
}

static bool vhd_has_sector(const uint8_t *map, uint64_t sector)
{
    return map[sector / 8] & 0x80u >> sector % 8;
}

/* Sectors of a differencing block are its own or the parent's, one by one. */
static void vhd_map_sectors(const uint8_t *map, uint64_t in_block, uint64_t end,
                            struct foreign_extent *x)
{
    uint64_t sector = in_block / BLK_SECTOR;
    bool own = vhd_has_sector(map, sector);

    while (++sector * BLK_SECTOR < end && vhd_has_sector(map, sector) == own)
        ;
    x->len = sector * BLK_SECTOR - in_block;
    if (!own)
        x->kind = FOREIGN_PARENT;
}

static void vhd_map(const struct foreign *f, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    const struct vhd *v = f->priv;
    uint64_t block, in_block, sector;

    *x = (struct foreign_extent){ .kind = FOREIGN_DATA, .len = f->size - off, .host_off = off };
    if (v->fixed)
        return;
    block = off / v->block_size;
    in_block = off % v->block_size;
    sector = ld_be32(&v->table[block]);
    x->len = v->block_size - in_block;
    if (sector == VHD_FREE) {
        x->kind = FOREIGN_PARENT;
        return;
    }
    x->host_off = sector * BLK_SECTOR + v->bitmap_size + in_block;
    if (v->differencing && v->bitmap[block])
        vhd_map_sectors(v->bitmap[block], in_block, min_u64(v->block_size, in_block + len), x);
}

const struct foreign_format vhd_format = {
    .blk = FOREIGN_BLK(vhd),
    .open = vhd_open,
    .close = vhd_close,
    .map = vhd_map,
};
