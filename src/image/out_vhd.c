/*
 * out_vhd.c: VHD images, dynamic or fixed (-o subformat=fixed). Sizes are exact: the creator is given as
 * one whose images every program takes by their size and not by their geometry.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/vhd_format.h"
#include "image/out.h"

enum {
    VHD_BLOCK = 2 * MIB,
    VHD_BITMAP = 512,
    VHD_UNIT = 64 * KIB,
    VHD_ALIGN = 4096, /* of the data in a block */
    VHD_TABLE_OFF = VHD_FOOTER + VHD_DYN_HEADER,
    VHD_EPOCH = 946684800, /* 2000-01-01 in Unix time */
};
#define VHD_MAX_SIZE (2040ull << 30)

struct out_vhd {
    bool fixed;
    uint32_t *table; /* big-endian */
    uint32_t entries;
    uint64_t end; /* where the data of the next block begin: aligned */
};

static int out_vhd_options(struct out *o, const struct out_opts *opts, struct err *e)
{
    static const char *const known[] = { "subformat", "force_size", "size", NULL };
    const char *variant = out_option(opts, "subformat");
    struct out_vhd *v = o->priv;

    if (out_check_options(opts, known, e))
        return -EINVAL;
    if (opts->compress)
        return err_set(e, EINVAL, "vhd images are not compressed: -O qcow2 or vmdk can be");
    if (variant && strcmp(variant, "dynamic") && strcmp(variant, "fixed"))
        return err_set(e, EINVAL, "subformat=%s: vhd knows dynamic and fixed", variant);
    if (o->size > VHD_MAX_SIZE)
        return err_set(e, EFBIG, "a vhd image has at most 2040 GiB; -O vhdx has more");
    v->fixed = variant && !strcmp(variant, "fixed");
    return 0;
}

static int out_vhd_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    struct out_vhd *v = calloc(1, sizeof(*v));

    o->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    if (out_vhd_options(o, opts, e))
        return -EINVAL;
    o->unit = VHD_UNIT;
    if (v->fixed)
        return 0;
    v->entries = (uint32_t)((o->size + VHD_BLOCK - 1) / VHD_BLOCK);
    v->table = malloc((size_t)v->entries * sizeof(*v->table) + 1);
    if (!v->table)
        return err_set(e, ENOMEM, "out of memory");
    memset(v->table, 0xff, (size_t)v->entries * sizeof(*v->table));
    v->end = align_up(VHD_TABLE_OFF + align_up((uint64_t)v->entries * 4, VHD_FOOTER) + VHD_BITMAP,
                      VHD_ALIGN);
    return 0;
}

static void out_vhd_close(struct out *o)
{
    struct out_vhd *v = o->priv;

    if (v)
        free(v->table);
    free(v);
}

/* A new block: all of its sectors are there. */
static int out_vhd_block(struct out *o, uint32_t *entry)
{
    struct out_vhd *v = o->priv;
    uint8_t bitmap[VHD_BITMAP];
    uint64_t at = v->end - VHD_BITMAP;

    memset(bitmap, 0xff, sizeof(bitmap));
    st_be32(entry, (uint32_t)(at / BLK_SECTOR));
    v->end += VHD_BLOCK + VHD_ALIGN;
    return out_pwrite(o, bitmap, sizeof(bitmap), at);
}

static int out_vhd_place(struct out *o, struct out_chunk *c)
{
    const struct out_vhd *v = o->priv;
    uint32_t n = (c->len + o->unit - 1) / o->unit;
    int rc = 0;

    for (uint32_t i = 0; !rc && i < n; i++) {
        uint64_t off = c->off + (uint64_t)i * o->unit;

        c->place[i] = off;
        if (v->fixed || !c->used[i])
            continue;
        if (ld_be32(&v->table[off / VHD_BLOCK]) == VHD_FREE)
            rc = out_vhd_block(o, &v->table[off / VHD_BLOCK]);
        c->place[i] = (uint64_t)ld_be32(&v->table[off / VHD_BLOCK]) * BLK_SECTOR + VHD_BITMAP +
                      off % VHD_BLOCK;
    }
    return rc;
}

static int out_vhd_store(struct out *o, struct out_chunk *c)
{
    return out_store_units(o, c);
}

/* The specification's own rule (its appendix). */
static void out_vhd_geometry(uint64_t size, uint8_t *footer)
{
    uint64_t sectors = min_u64(size / BLK_SECTOR, 65535ull * 16 * 255), tracks;
    unsigned heads, per_track;

    if (sectors >= 65535ull * 16 * 63) {
        per_track = 255;
        heads = 16;
        tracks = sectors / per_track;
    } else {
        per_track = 17;
        tracks = sectors / per_track;
        heads = (unsigned)max_u64((tracks + 1023) / 1024, 4);
        if (tracks >= heads * 1024ull || heads > 16) {
            per_track = 31;
            heads = 16;
            tracks = sectors / per_track;
        }
        if (tracks >= heads * 1024ull) {
            per_track = 63;
            heads = 16;
            tracks = sectors / per_track;
        }
    }
    st_be16(footer + VHD_CYLINDERS, (uint16_t)(tracks / heads));
    footer[VHD_HEADS] = (uint8_t)heads;
    footer[VHD_SECTORS] = (uint8_t)per_track;
}

static void out_vhd_footer(const struct out *o, uint8_t *f)
{
    const struct out_vhd *v = o->priv;
    time_t now = time(NULL);

    memset(f, 0, VHD_FOOTER);
    out_mark(f + VHD_COOKIE, "conectix");
    st_be32(f + VHD_FEATURES, 2); /* always set */
    st_be32(f + VHD_VERSION, 0x00010000);
    st_be64(f + VHD_HEADER_OFFSET, v->fixed ? UINT64_MAX : VHD_FOOTER);
    st_be32(f + VHD_TIME, now > VHD_EPOCH ? (uint32_t)(now - VHD_EPOCH) : 0);
    out_mark(f + VHD_CREATOR, "win ");
    st_be32(f + VHD_CREATOR_VERSION, 0x00060001);
    out_mark(f + VHD_CREATOR_OS, "Wi2k");
    st_be64(f + VHD_ORIGINAL_SIZE, o->size);
    st_be64(f + VHD_SIZE, o->size);
    out_vhd_geometry(o->size, f);
    st_be32(f + VHD_TYPE, v->fixed ? VHD_FIXED : VHD_DYNAMIC);
    out_uuid(f + VHD_UUID);
    st_be32(f + VHD_CHECKSUM, vhd_checksum(f, VHD_FOOTER, VHD_CHECKSUM));
}

static int out_vhd_finish_dynamic(struct out *o, const uint8_t *footer)
{
    const struct out_vhd *v = o->priv;
    uint64_t table = (uint64_t)v->entries * sizeof(*v->table);
    uint64_t end = v->end - VHD_BITMAP; /* the last block's end, and some */
    uint8_t h[VHD_DYN_HEADER] = "cxsparse";
    int rc;

    st_be64(h + VHD_DYN_DATA_OFFSET, UINT64_MAX);
    st_be64(h + VHD_DYN_TABLE, VHD_TABLE_OFF);
    st_be32(h + VHD_DYN_VERSION, 0x00010000);
    st_be32(h + VHD_DYN_ENTRIES, v->entries);
    st_be32(h + VHD_DYN_BLOCK_SIZE, VHD_BLOCK);
    st_be32(h + VHD_DYN_CHECKSUM, vhd_checksum(h, VHD_DYN_HEADER, VHD_DYN_CHECKSUM));
    rc = out_pwrite(o, v->table, table, VHD_TABLE_OFF);
    if (!rc)
        rc = out_pwrite(o, h, sizeof(h), VHD_FOOTER);
    if (!rc)
        rc = out_pwrite(o, footer, VHD_FOOTER, end);
    return rc ? rc : out_pwrite(o, footer, VHD_FOOTER, 0);
}

static int out_vhd_finish(struct out *o)
{
    const struct out_vhd *v = o->priv;
    uint8_t footer[VHD_FOOTER];
    uint64_t end = align_up(o->size, BLK_SECTOR);

    out_vhd_footer(o, footer);
    if (!v->fixed)
        return out_vhd_finish_dynamic(o, footer);
    if (ftruncate(o->fd, (off_t)(end + VHD_FOOTER))) /* the last unit may be longer than the disk */
        return -errno;
    return out_pwrite(o, footer, VHD_FOOTER, end);
}

const struct out_ops out_vhd_ops = {
    .format = "vhd",
    .open = out_vhd_open,
    .close = out_vhd_close,
    .place = out_vhd_place,
    .store = out_vhd_store,
    .finish = out_vhd_finish,
};
