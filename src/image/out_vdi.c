/*
 * out_vdi.c: VirtualBox images, dynamic or (-o static=on) fixed. Blocks of 1 MiB are given out as the disk
 * goes on; inside a block, what is zero is left as a hole.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/vdi_format.h"
#include "image/out.h"

enum { VDI_BLOCK = MIB, VDI_UNIT = 64 * KIB, VDI_ALIGN = MIB };
#define VDI_MAX_SIZE (0xfffffff0ull * VDI_BLOCK)

struct out_vdi {
    uint32_t *map; /* little-endian */
    uint32_t blocks, used;
    uint64_t data_off;
    bool fixed;
};

static int out_vdi_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = { "static", "size", NULL };
    struct out_vdi *v = calloc(1, sizeof(*v));
    const char *fixed;

    o->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    if (out_check_options(opts, known, e))
        return -EINVAL;
    if (opts->compress)
        return err_set(e, EINVAL, "vdi images are not compressed: -O qcow2 or vmdk can be");
    if (o->size > VDI_MAX_SIZE)
        return err_set(e, EFBIG, "a vdi image has at most 4 PiB");
    fixed = out_option(opts, "static");
    v->fixed = opts->allocate || (fixed && !strcmp(fixed, "on"));
    v->blocks = (uint32_t)((o->size + VDI_BLOCK - 1) / VDI_BLOCK);
    v->map = malloc((size_t)v->blocks * sizeof(*v->map) + 1);
    if (!v->map)
        return err_set(e, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < v->blocks; i++)
        st_le32(&v->map[i], v->fixed ? i : VDI_FREE);
    v->used = v->fixed ? v->blocks : 0;
    v->data_off = align_up(VDI_HEADER + (uint64_t)v->blocks * sizeof(*v->map), VDI_ALIGN);
    o->unit = VDI_UNIT;
    return 0;
}

static void out_vdi_close(struct out *o)
{
    struct out_vdi *v = o->priv;

    if (v)
        free(v->map);
    free(v);
}

static int out_vdi_place(struct out *o, struct out_chunk *c)
{
    struct out_vdi *v = o->priv;
    uint32_t n = (c->len + o->unit - 1) / o->unit;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t off = c->off + (uint64_t)i * o->unit;
        uint32_t *entry = &v->map[off / VDI_BLOCK];

        if (!c->used[i])
            continue;
        if (ld_le32(entry) == VDI_FREE)
            st_le32(entry, v->used++);
        c->place[i] = v->data_off + (uint64_t)ld_le32(entry) * VDI_BLOCK + off % VDI_BLOCK;
    }
    return 0;
}

static int out_vdi_store(struct out *o, struct out_chunk *c)
{
    return out_store_units(o, c);
}

static int out_vdi_finish(struct out *o)
{
    const struct out_vdi *v = o->priv;
    uint64_t end = v->data_off + (uint64_t)v->used * VDI_BLOCK;
    uint8_t h[VDI_HEADER] = "<<< Oracle VM VirtualBox Disk Image >>>\n";
    int rc;

    st_le32(h + VDI_SIGNATURE, VDI_MAGIC);
    st_le32(h + VDI_VERSION, 0x00010001);
    st_le32(h + VDI_HEADER_SIZE, 0x190);
    st_le32(h + VDI_TYPE, v->fixed ? VDI_FIXED : VDI_DYNAMIC);
    st_le32(h + VDI_MAP_OFFSET, VDI_HEADER);
    st_le32(h + VDI_DATA_OFFSET, (uint32_t)v->data_off);
    st_le32(h + VDI_SECTOR_SIZE, BLK_SECTOR);
    st_le64(h + VDI_DISK_SIZE, o->size);
    st_le32(h + VDI_BLOCK_SIZE, VDI_BLOCK);
    st_le32(h + VDI_BLOCKS, v->blocks);
    st_le32(h + VDI_BLOCKS_USED, v->used);
    out_uuid(h + VDI_UUID_IMAGE);
    out_uuid(h + VDI_UUID_SNAPSHOT);
    rc = out_pwrite(o, v->map, (size_t)v->blocks * sizeof(*v->map), VDI_HEADER);
    if (!rc && ftruncate(o->fd, (off_t)end))
        rc = -errno;
    return rc ? rc : out_pwrite(o, h, sizeof(h), 0);
}

const struct out_ops out_vdi_ops = {
    .format = "vdi",
    .open = out_vdi_open,
    .close = out_vdi_close,
    .place = out_vdi_place,
    .store = out_vdi_store,
    .finish = out_vdi_finish,
};
