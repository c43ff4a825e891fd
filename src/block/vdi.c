/*
 * vdi.c: VirtualBox disk images (VDI 1.1), read-only: dynamic, fixed and differencing (vdi_parent.c).
 *
 *     0      header: signature at 64, 1.1 at 68; offsets of the map and of the data
 *     map    u32 for each block: its number in the data, or free (reads as zeros), or zeros
 *     data   blocks of, as a rule, 1 MiB
 */
#include <errno.h>

#include "base/endian.h"
#include "block/foreign.h"
#include "block/formats.h"
#include "block/vdi_format.h"

struct vdi {
    uint32_t *map; /* little-endian, as it is in the file */
    uint32_t blocks;
    uint64_t block_size, data_off;
};

static bool vdi_probe(const void *head, size_t n)
{
    const uint8_t *p = head;

    return n >= VDI_HEADER && ld_le32(p + VDI_SIGNATURE) == VDI_MAGIC &&
           ld_le32(p + VDI_VERSION) >> 16 == 1;
}

static int vdi_check_header(struct foreign *f, const uint8_t *h, struct err *e)
{
    struct vdi *v = f->priv;
    uint32_t type = ld_le32(h + VDI_TYPE);

    if (!vdi_probe(h, VDI_HEADER))
        return foreign_unsupported(f, e, "is not a VDI image of version 1");
    if (type < VDI_DYNAMIC || type > VDI_DIFFERENCING)
        return foreign_unsupported(f, e, "is a VDI image of type %u, which is not known here",
                                   type);
    f->variant = type == VDI_FIXED ? "static" : type == VDI_DYNAMIC ? "dynamic" : "differencing";
    f->size = align_up(ld_le64(h + VDI_DISK_SIZE), BLK_SECTOR);
    v->blocks = ld_le32(h + VDI_BLOCKS);
    v->block_size = ld_le32(h + VDI_BLOCK_SIZE);
    v->data_off = ld_le32(h + VDI_DATA_OFFSET);
    if (ld_le32(h + VDI_SECTOR_SIZE) != BLK_SECTOR)
        return foreign_unsupported(f, e, "has sectors of %u bytes, not 512",
                                   ld_le32(h + VDI_SECTOR_SIZE));
    if (!is_pow2(v->block_size) || v->block_size < BLK_SECTOR || v->block_size > 256 * MIB)
        return foreign_bad(f, e, "blocks of %u bytes", ld_le32(h + VDI_BLOCK_SIZE));
    if (ld_le32(h + VDI_BLOCK_EXTRA))
        return foreign_unsupported(f, e, "has extra data in front of each block");
    if (!f->size || f->size > (uint64_t)v->blocks * v->block_size)
        return foreign_bad(f, e, "%u blocks are too few for its size", v->blocks);
    f->unit = (uint32_t)v->block_size;
    return 0;
}

static int vdi_open(struct foreign *f, struct err *e)
{
    struct vdi *v = calloc(1, sizeof(*v));
    uint8_t h[VDI_HEADER];
    int rc;

    f->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    rc = foreign_pread(f, 0, 0, h, sizeof(h), e);
    if (!rc)
        rc = vdi_check_header(f, h, e);
    if (rc)
        return rc;
    v->map = foreign_load(f, 0, ld_le32(h + VDI_MAP_OFFSET), (uint64_t)v->blocks * sizeof(*v->map),
                          "block map", e);
    if (!v->map)
        return -EINVAL;
    return ld_le32(h + VDI_TYPE) >= VDI_UNDO ? vdi_parent_find(f, h, e) : 0;
}

static void vdi_close(struct foreign *f)
{
    struct vdi *v = f->priv;

    if (v)
        free(v->map);
    free(v);
}

static void vdi_map(const struct foreign *f, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    const struct vdi *v = f->priv;
    uint32_t entry = ld_le32(&v->map[off / v->block_size]);
    uint64_t in_block = off % v->block_size;

    (void)len;
    *x = (struct foreign_extent){ .kind = FOREIGN_DATA, .len = v->block_size - in_block };
    if (entry >= VDI_ZERO) {
        x->kind = entry == VDI_ZERO ? FOREIGN_ZERO : FOREIGN_PARENT;
        return;
    }
    x->host_off = v->data_off + entry * v->block_size + in_block;
}

const struct foreign_format vdi_format = {
    .blk = FOREIGN_BLK(vdi),
    .open = vdi_open,
    .close = vdi_close,
    .map = vdi_map,
};
