/*
 * vmdk_sparse.c: one extent with grain tables ("KDMV", and ESX's older "COWD"): a directory of tables of
 * u32 entries, each the sector of a grain; 0 is free, 1 zeros if the header says so. A compressed grain is
 * led by its sector and size.
 */
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>

#include "base/endian.h"
#include "block/vmdk_impl.h"

enum {
    VMDK_GRAIN_MAX = FOREIGN_MAX_UNIT,
    VMDK_ENTRIES_MAX = 64 * KIB,
    VMDK_TABLES_MAX = 4 * MIB, /* 128 TiB with tables and grains of the usual size */
    COWD_CAPACITY = 12,        /* sectors, u32, like the following */
    COWD_GRAIN = 16,
    COWD_GD_OFFSET = 20,
    COWD_ENTRIES = 4096,
};

/* The header that counts: in a stream it is the footer, 1024 bytes from the end. */
static int vmdk_sparse_header(struct foreign *f, const struct vmdk_extent *x, uint8_t *h,
                              struct err *e)
{
    uint64_t size = f->file[x->file]->size;
    int rc = foreign_pread(f, x->file, 0, h, VMDK_HEADER, e);

    if (rc || memcmp(h, "KDMV", 4) || ld_le64(h + VMDK_GD_OFFSET) != VMDK_AT_END)
        return rc;
    if (size < 4ull * VMDK_HEADER)
        return foreign_bad(f, e, "it was cut off");
    rc = foreign_pread(f, x->file, size - 2ull * VMDK_HEADER, h, VMDK_HEADER, e);
    if (!rc && (memcmp(h, "KDMV", 4) || ld_le64(h + VMDK_GD_OFFSET) == VMDK_AT_END))
        rc = foreign_bad(f, e, "it was cut off: the footer is missing");
    return rc;
}

static int vmdk_sparse_table(struct foreign *f, struct vmdk_extent *x, uint32_t i, uint64_t sector,
                             struct err *e)
{
    struct vmdk *v = f->priv;
    uint64_t bytes = (uint64_t)x->per_table * sizeof(uint32_t);

    if (v->room < bytes || x->room < bytes)
        return foreign_bad(f, e, "it has more grain tables than there is room for");
    v->room -= bytes;
    x->room -= bytes;
    x->table[i] = foreign_load(f, x->file, sector * BLK_SECTOR, bytes, "grain table", e);
    return x->table[i] ? 0 : -EINVAL;
}

static int vmdk_sparse_tables(struct foreign *f, struct vmdk_extent *x, uint64_t gd_sector,
                              struct err *e)
{
    uint64_t span = x->grain * x->per_table, n = (x->size + span - 1) / span;
    uint32_t *directory;
    int rc = 0;

    if (n > VMDK_TABLES_MAX || gd_sector > INT64_MAX / BLK_SECTOR)
        return foreign_bad(f, e, "a grain directory of %llu entries", (unsigned long long)n);
    directory = foreign_load(f, x->file, gd_sector * BLK_SECTOR, n * sizeof(*directory),
                             "grain directory", e);
    x->table = directory ? calloc(n, sizeof(*x->table)) : NULL;
    if (!x->table) {
        free(directory);
        return directory ? err_set(e, ENOMEM, "out of memory") : -EINVAL;
    }
    x->n_tables = (uint32_t)n;
    x->room = f->file[x->file]->size;
    for (uint32_t i = 0; !rc && i < n; i++)
        if (ld_le32(&directory[i]))
            rc = vmdk_sparse_table(f, x, i, ld_le32(&directory[i]), e);
    free(directory);
    return rc;
}

static int vmdk_sparse_check(struct foreign *f, const struct vmdk_extent *x, uint64_t grain,
                             uint64_t capacity, struct err *e)
{
    if (!is_pow2(grain) || grain > VMDK_GRAIN_MAX / BLK_SECTOR)
        return foreign_bad(f, e, "grains of %llu sectors", (unsigned long long)grain);
    if (!capacity || capacity > INT64_MAX / BLK_SECTOR)
        return foreign_bad(f, e, "an extent of %llu sectors", (unsigned long long)capacity);
    if (!x->per_table || x->per_table > VMDK_ENTRIES_MAX)
        return foreign_bad(f, e, "grain tables of %u entries", x->per_table);
    return 0;
}

static int vmdk_sparse_open_cowd(struct foreign *f, struct vmdk_extent *x, const uint8_t *h,
                                 struct err *e)
{
    int rc;

    x->per_table = COWD_ENTRIES;
    rc = vmdk_sparse_check(f, x, ld_le32(h + COWD_GRAIN), ld_le32(h + COWD_CAPACITY), e);
    if (rc)
        return rc;
    x->grain = (uint64_t)ld_le32(h + COWD_GRAIN) * BLK_SECTOR;
    x->size = (uint64_t)ld_le32(h + COWD_CAPACITY) * BLK_SECTOR;
    f->unit = (uint32_t)x->grain;
    return vmdk_sparse_tables(f, x, ld_le32(h + COWD_GD_OFFSET), e);
}

static int vmdk_sparse_compression(struct foreign *f, struct vmdk_extent *x, const uint8_t *h,
                                   struct err *e)
{
    uint32_t flags = ld_le32(h + VMDK_FLAGS);

    x->compressed = flags & VMDK_FLAG_COMPRESSED;
    x->markers = flags & VMDK_FLAG_MARKERS;
    x->zero_grains = flags & VMDK_FLAG_ZERO_GRAINS;
    if (!x->compressed)
        return 0;
    if (ld_le16(h + VMDK_COMPRESSION) != VMDK_DEFLATE)
        return foreign_unsupported(f, e, "is compressed in a way that is not known here (%u)",
                                   ld_le16(h + VMDK_COMPRESSION));
    if (f->packed && f->unit != x->grain)
        return foreign_unsupported(f, e, "has compressed extents with grains of several sizes");
    f->packed = true;
    return 0;
}

int vmdk_sparse_open(struct foreign *f, struct vmdk_extent *x, struct err *e)
{
    struct vmdk *v = f->priv;
    uint8_t h[VMDK_HEADER];
    uint64_t gd;
    int rc = vmdk_sparse_header(f, x, h, e);

    if (rc)
        return rc;
    x->kind = VMDK_SPARSE;
    if (!memcmp(h, "COWD", 4))
        return vmdk_sparse_open_cowd(f, x, h, e);
    if (memcmp(h, "KDMV", 4))
        return foreign_bad(f, e, "file '%s' is no sparse extent", f->file[x->file]->path);
    if (ld_le32(h + VMDK_VERSION) > 3)
        return foreign_unsupported(f, e, "is a VMDK of the unknown version %u",
                                   ld_le32(h + VMDK_VERSION));
    x->per_table = ld_le32(h + VMDK_ENTRIES);
    rc = vmdk_sparse_check(f, x, ld_le64(h + VMDK_GRAIN), ld_le64(h + VMDK_CAPACITY), e);
    if (rc)
        return rc;
    x->grain = ld_le64(h + VMDK_GRAIN) * BLK_SECTOR;
    x->size = ld_le64(h + VMDK_CAPACITY) * BLK_SECTOR;
    rc = vmdk_sparse_compression(f, x, h, e);
    if (rc)
        return rc;
    f->unit = (uint32_t)x->grain;
    if (!x->file && ld_le64(h + VMDK_DESC_OFFSET) < UINT32_MAX &&
        ld_le64(h + VMDK_DESC_SIZE) < UINT32_MAX) {
        v->desc_off = ld_le64(h + VMDK_DESC_OFFSET) * BLK_SECTOR;
        v->desc_size = ld_le64(h + VMDK_DESC_SIZE) * BLK_SECTOR;
    }
    gd = ld_le64(h + VMDK_GD_OFFSET);
    return vmdk_sparse_tables(f, x, gd ? gd : ld_le64(h + VMDK_RGD_OFFSET), e);
}

void vmdk_sparse_close(struct vmdk_extent *x)
{
    for (uint32_t i = 0; x->table && i < x->n_tables; i++)
        free(x->table[i]);
    free(x->table);
    x->table = NULL;
}

void vmdk_sparse_map(const struct vmdk_extent *ext, uint64_t in, struct foreign_extent *x)
{
    uint64_t grain = in / ext->grain;
    const uint32_t *table = ext->table[grain / ext->per_table];
    uint32_t sector = table ? ld_le32(&table[grain % ext->per_table]) : 0;

    x->len = ext->grain - in % ext->grain;
    x->file = ext->file;
    if (!sector) {
        x->kind = FOREIGN_PARENT;
        if (!table) /* up to the end of what the table would be for */
            x->len += (ext->per_table - 1 - grain % ext->per_table) * ext->grain;
    } else if (sector == 1 && ext->zero_grains) {
        x->kind = FOREIGN_ZERO;
    } else if (ext->compressed) {
        x->kind = FOREIGN_PACKED;
        x->host_off = (uint64_t)sector * BLK_SECTOR;
        x->host_len = ext->grain + ext->grain / 8 + 2ull * BLK_SECTOR; /* deflate adds little */
        x->skip = in % ext->grain;
    } else {
        x->kind = FOREIGN_DATA;
        x->host_off = (uint64_t)sector * BLK_SECTOR + in % ext->grain;
    }
}

int vmdk_sparse_unpack(const struct foreign *f, const struct foreign_extent *x, const void *in,
                       size_t n, void *out)
{
    const struct vmdk *v = f->priv;
    struct inflate_state z;
    const uint8_t *p = in;
    bool markers = false;

    for (unsigned i = 0; i < v->n_extents; i++)
        markers |= v->extents[i].file == x->file && v->extents[i].markers;
    if (markers) {
        if (n < VMDK_GRAIN_MARK || ld_le32(p + 8) > n - VMDK_GRAIN_MARK)
            return -EIO;
        n = ld_le32(p + 8);
        p += VMDK_GRAIN_MARK;
    }
    isal_inflate_init(&z);
    z.crc_flag = ISAL_ZLIB;
    z.next_in = (uint8_t *)(uintptr_t)p; /* is only read */
    z.avail_in = (uint32_t)n;
    z.next_out = out;
    z.avail_out = f->unit;
    if (isal_inflate_stateless(&z) != ISAL_DECOMP_OK)
        return -EIO;
    memset((uint8_t *)out + z.total_out, 0,
           f->unit - z.total_out); /* the last grain may be short */
    return 0;
}
