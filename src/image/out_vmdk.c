/*
 * out_vmdk.c: VMDK images in one file.
 *
 *     monolithicSparse   header, description, directory and tables twice, grains
 *     streamOptimized    header, description; packed grains, each table behind its grains; directory and
 *                        footer: never written backwards, as OVF wants it
 *
 * A grain table is complete when the disk has passed its 32 MiB, and is written then.
 */
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/vmdk_format.h"
#include "image/out_vmdk.h"

enum {
    VMDK_GRAIN_BYTES = 64 * KIB,
    VMDK_PER_TABLE = 512,
    VMDK_TABLE_BYTES = VMDK_PER_TABLE * 4,
    VMDK_DESC_SECTORS = 20,
    VMDK_SPAN = VMDK_GRAIN_BYTES * VMDK_PER_TABLE, /* of the disk, to a table */
    VMDK_STREAM_START = 64 * KIB,                  /* of the first grain */
    VMDK_PACKED_MAX = VMDK_GRAIN_BYTES + VMDK_GRAIN_BYTES / 8 + BLK_SECTOR,
};
#define VMDK_MAX_SIZE (2ull << 40) /* sectors have 32 bits in a table */

struct out_vmdk {
    bool stream;
    uint32_t *directory; /* little-endian, sectors; for monolithicSparse the second copy follows */
    uint64_t tables;
    uint32_t table[VMDK_PER_TABLE]; /* the current one: number table_index */
    uint64_t table_index;
    bool table_used;
    uint64_t table_off[2]; /* monolithicSparse: of both copies of the first table, bytes */
    uint64_t gd_off[2];
    uint64_t grains; /* bytes: where they begin */
    uint64_t end;    /* bytes */
    struct out_vmdk_hw hw;
    bool part; /* the description is elsewhere */
};

/* --- opening --- */

int out_vmdk_hw(const struct out_opts *opts, struct out_vmdk_hw *hw, struct err *e)
{
    static const char *const known[] = { "subformat",    "adapter_type", "hwversion", "compat6",
                                         "zeroed_grain", "size",         NULL };
    static const char *const adapters[] = { "ide", "buslogic", "lsilogic", "legacyESX" };
    const char *adapter = out_option(opts, "adapter_type"),
               *version = out_option(opts, "hwversion");
    size_t i = 0;

    if (out_check_options(opts, known, e))
        return -EINVAL;
    snprintf(hw->version, sizeof(hw->version), "%s", version ? version : "4");
    if (strspn(hw->version, "0123456789") != strlen(hw->version))
        return err_set(e, EINVAL, "hwversion=%s: a number", version);
    snprintf(hw->adapter, sizeof(hw->adapter), "%s", adapter ? adapter : "ide");
    while (i < ARRAY_SIZE(adapters) && strcmp(adapters[i], hw->adapter))
        i++;
    return i < ARRAY_SIZE(adapters)
               ? 0
               : err_set(e, EINVAL, "adapter_type=%s: ide, buslogic, lsilogic or legacyESX",
                         adapter);
}

static int out_vmdk_options(struct out *o, const struct out_opts *opts, struct err *e)
{
    const char *variant = out_option(opts, "subformat");
    struct out_vmdk *v = o->priv;

    if (out_vmdk_hw(opts, &v->hw, e))
        return -EINVAL;
    if (variant && strcmp(variant, v->stream ? "streamOptimized" : "monolithicSparse"))
        return err_set(e, EINVAL,
                       "subformat=%s: known are monolithicSparse, monolithicFlat, "
                       "twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized",
                       variant);
    if (opts->compress && !v->stream)
        return err_set(e, EINVAL, "only -o subformat=streamOptimized is compressed");
    if (o->size > VMDK_MAX_SIZE)
        return err_set(e, EFBIG, "a vmdk image in one file has at most 2 TiB");
    return 0;
}

/* Everything in front of the grains has its place from the beginning. */
static void out_vmdk_lay_out(struct out_vmdk *v)
{
    uint64_t gd = align_up(v->tables * sizeof(uint32_t), BLK_SECTOR);
    uint64_t tables = v->tables * VMDK_TABLE_BYTES, at = (1ull + VMDK_DESC_SECTORS) * BLK_SECTOR;

    for (unsigned copy = 0; copy < 2; copy++) {
        v->gd_off[copy] = at;
        v->table_off[copy] = at + gd;
        for (uint64_t i = 0; i < v->tables; i++)
            st_le32(&v->directory[copy * v->tables + i],
                    (uint32_t)((v->table_off[copy] + i * VMDK_TABLE_BYTES) / BLK_SECTOR));
        at += gd + tables;
    }
    v->grains = v->end = align_up(at, VMDK_GRAIN_BYTES);
}

static int out_vmdk_start(struct out *o, const struct out_opts *opts, bool stream, struct err *e)
{
    struct out_vmdk *v = calloc(1, sizeof(*v));

    o->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    v->stream = stream;
    if (out_vmdk_options(o, opts, e))
        return -EINVAL;
    v->tables = max_u64((o->size + VMDK_SPAN - 1) / VMDK_SPAN, 1);
    v->directory = calloc(v->tables * 2, sizeof(*v->directory));
    if (!v->directory)
        return err_set(e, ENOMEM, "out of memory");
    v->grains = v->end = VMDK_STREAM_START;
    if (!stream)
        out_vmdk_lay_out(v);
    o->unit = VMDK_GRAIN_BYTES;
    if (stream) {
        o->chunk = OUT_CHUNK_PACKED;
        o->packed_room = o->chunk / VMDK_GRAIN_BYTES * VMDK_PACKED_MAX;
    }
    return 0;
}

static int out_vmdk_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    return out_vmdk_start(o, opts, false, e);
}

static int out_vmdk_stream_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    return out_vmdk_start(o, opts, true, e);
}

static int out_vmdk_part_open(struct out *o, const struct out_opts *opts, struct err *e)
{
    int rc = out_vmdk_start(o, opts, false, e);
    struct out_vmdk *v = o->priv;

    if (v)
        v->part = true;
    return rc;
}

static void out_vmdk_close(struct out *o)
{
    struct out_vmdk *v = o->priv;

    if (v)
        free(v->directory);
    free(v);
}

/* --- grains --- */

/* A marker's sector: a count of sectors, 0, and what follows. */
static int out_vmdk_marker(struct out *o, uint64_t sectors, uint32_t type)
{
    struct out_vmdk *v = o->priv;
    uint8_t m[BLK_SECTOR] = { 0 };
    uint64_t at = v->end;

    st_le64(m, sectors);
    st_le32(m + 12, type);
    v->end += BLK_SECTOR;
    return out_pwrite(o, m, sizeof(m), at);
}

static int out_vmdk_put_table(struct out *o)
{
    struct out_vmdk *v = o->priv;
    int rc = 0;

    if (!v->table_used)
        return 0;
    if (v->stream) {
        rc = out_vmdk_marker(o, VMDK_TABLE_BYTES / BLK_SECTOR, VMDK_MARK_TABLE);
        st_le32(&v->directory[v->table_index], (uint32_t)(v->end / BLK_SECTOR));
        if (!rc)
            rc = out_pwrite(o, v->table, sizeof(v->table), v->end);
        v->end += sizeof(v->table);
    }
    for (unsigned copy = 0; !v->stream && !rc && copy < 2; copy++)
        rc = out_pwrite(o, v->table, sizeof(v->table),
                        v->table_off[copy] + v->table_index * VMDK_TABLE_BYTES);
    memset(v->table, 0, sizeof(v->table));
    v->table_used = false;
    return rc;
}

static int out_vmdk_place(struct out *o, struct out_chunk *c)
{
    struct out_vmdk *v = o->priv;
    uint32_t n = (c->len + o->unit - 1) / o->unit;
    int rc = 0;

    if (c->off / VMDK_SPAN != v->table_index) {
        rc = out_vmdk_put_table(o);
        v->table_index = c->off / VMDK_SPAN;
    }
    for (uint32_t i = 0; !rc && i < n; i++) {
        uint64_t grain = c->off / VMDK_GRAIN_BYTES + i;

        if (!c->used[i])
            continue;
        c->place[i] = v->end;
        st_le32(&v->table[grain % VMDK_PER_TABLE], (uint32_t)(v->end / BLK_SECTOR));
        v->table_used = true;
        v->end += v->stream ? c->packed_len[i] : VMDK_GRAIN_BYTES;
    }
    return rc;
}

static int out_vmdk_store(struct out *o, struct out_chunk *c)
{
    return out_store_units(o, c);
}

static void *out_vmdk_scratch(const struct out *o)
{
    (void)o;
    return malloc(ISAL_DEF_LVL3_DEFAULT);
}

/* A grain's sector, size and zlib stream, filled up to a sector. */
static int out_vmdk_pack_grain(const struct out_chunk *c, uint32_t i, uint8_t *out)
{
    struct isal_zstream z;
    uint32_t len;

    isal_deflate_init(&z);
    z.end_of_stream = 1;
    z.flush = NO_FLUSH;
    z.gzip_flag = IGZIP_ZLIB;
    z.level = 3;
    z.level_buf = c->scratch;
    z.level_buf_size = ISAL_DEF_LVL3_DEFAULT;
    z.next_in = c->data + (size_t)i * VMDK_GRAIN_BYTES;
    z.avail_in = VMDK_GRAIN_BYTES;
    z.next_out = out + VMDK_GRAIN_MARK;
    z.avail_out = VMDK_PACKED_MAX - VMDK_GRAIN_MARK;
    if (isal_deflate(&z) != COMP_OK || z.internal_state.state != ZSTATE_END)
        return -EIO;
    st_le64(out, (c->off + (uint64_t)i * VMDK_GRAIN_BYTES) / BLK_SECTOR);
    st_le32(out + 8, z.total_out);
    len = (uint32_t)align_up(VMDK_GRAIN_MARK + z.total_out, BLK_SECTOR);
    memset(out + VMDK_GRAIN_MARK + z.total_out, 0, len - VMDK_GRAIN_MARK - z.total_out);
    c->packed_len[i] = len;
    return 0;
}

static int out_vmdk_pack(const struct out *o, struct out_chunk *c)
{
    uint32_t n = (c->len + o->unit - 1) / o->unit, at = 0;
    int rc = 0;

    for (uint32_t i = 0; !rc && i < n; i++) {
        c->packed_at[i] = at;
        c->packed_len[i] = 0;
        if (c->used[i])
            rc = out_vmdk_pack_grain(c, i, c->packed + at);
        at += c->packed_len[i];
    }
    return rc;
}

/* --- the end --- */

char *out_vmdk_describe(const struct out *o, const struct out_vmdk_hw *hw, const char *type,
                        const char *extents)
{
    bool ide = !strcmp(hw->adapter, "ide");
    uint64_t sectors = align_up(o->size, BLK_SECTOR) / BLK_SECTOR, heads = ide ? 16 : 255;
    size_t room = strlen(extents) + 1024;
    char *text = calloc(1, room);
    uint8_t id[16];

    if (!text)
        return NULL;
    out_uuid(id);
    snprintf(text, room,
             "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\ncreateType=\"%s\"\n\n"
             "# Extent description\n%s\n"
             "# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\n"
             "ddb.geometry.cylinders = \"%llu\"\nddb.geometry.heads = \"%llu\"\n"
             "ddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\n"
             "ddb.toolsVersion = \"2147483647\"\n",
             ld_le32(id) & 0xfffffffeu, type, extents, hw->version,
             (unsigned long long)(sectors / (63 * heads)), (unsigned long long)heads, hw->adapter);
    return text;
}

/* Inside the image, whose only extent is itself. */
static int out_vmdk_put_description(struct out *o)
{
    const struct out_vmdk *v = o->priv;
    char room[VMDK_DESC_SECTORS * BLK_SECTOR] = "", path[PATH_MAX], line[512];
    char *text;

    if (v->part)
        return 0;
    snprintf(path, sizeof(path), "%s", o->opts->path);
    snprintf(line, sizeof(line), "RW %llu SPARSE \"%.255s\"\n",
             (unsigned long long)(o->size / BLK_SECTOR), basename(path));
    text = out_vmdk_describe(o, &v->hw, v->stream ? "streamOptimized" : "monolithicSparse", line);
    if (!text)
        return -ENOMEM;
    snprintf(room, sizeof(room), "%s", text);
    free(text);
    return out_pwrite(o, room, sizeof(room), BLK_SECTOR);
}

static void out_vmdk_header(const struct out *o, uint64_t gd_sector, uint8_t *h)
{
    const struct out_vmdk *v = o->priv;

    memset(h, 0, VMDK_HEADER);
    out_mark(h, "KDMV");
    st_le32(h + VMDK_VERSION, v->stream ? 3 : 1);
    st_le32(h + VMDK_FLAGS,
            VMDK_FLAG_LINE_ENDS |
                (v->stream ? VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS : VMDK_FLAG_REDUNDANT));
    st_le64(h + VMDK_CAPACITY, o->size / BLK_SECTOR);
    st_le64(h + VMDK_GRAIN, VMDK_GRAIN_BYTES / BLK_SECTOR);
    st_le64(h + VMDK_DESC_OFFSET, !v->part);
    st_le64(h + VMDK_DESC_SIZE, v->part ? 0 : VMDK_DESC_SECTORS);
    st_le32(h + VMDK_ENTRIES, VMDK_PER_TABLE);
    st_le64(h + VMDK_RGD_OFFSET, v->stream ? 0 : v->gd_off[0] / BLK_SECTOR);
    st_le64(h + VMDK_GD_OFFSET, gd_sector);
    st_le64(h + VMDK_OVERHEAD, v->grains / BLK_SECTOR);
    out_mark(h + VMDK_LINE_ENDS, "\n \r\n");
    st_le16(h + VMDK_COMPRESSION, v->stream ? VMDK_DEFLATE : 0);
}

/* The directory, the footer, which is the header with its place, and a sector of zeros. */
static int out_vmdk_finish_stream(struct out *o)
{
    struct out_vmdk *v = o->priv;
    uint64_t bytes = align_up(v->tables * sizeof(*v->directory), BLK_SECTOR), gd;
    uint8_t h[VMDK_HEADER], end[BLK_SECTOR] = { 0 };
    int rc = out_vmdk_marker(o, bytes / BLK_SECTOR, VMDK_MARK_DIRECTORY);

    gd = v->end;
    v->end += bytes;
    if (!rc)
        rc = out_pwrite(o, v->directory, v->tables * sizeof(*v->directory), gd);
    if (!rc)
        rc = out_vmdk_marker(o, 1, VMDK_MARK_FOOTER);
    out_vmdk_header(o, gd / BLK_SECTOR, h);
    if (!rc)
        rc = out_pwrite(o, h, sizeof(h), v->end);
    if (!rc)
        rc = out_pwrite(o, end, sizeof(end), v->end + sizeof(h));
    out_vmdk_header(o, VMDK_AT_END, h);
    return rc ? rc : out_pwrite(o, h, sizeof(h), 0);
}

static int out_vmdk_finish(struct out *o)
{
    struct out_vmdk *v = o->priv;
    uint8_t h[VMDK_HEADER];
    int rc = out_vmdk_put_table(o);

    if (!rc)
        rc = out_vmdk_put_description(o);
    if (rc || v->stream)
        return rc ? rc : out_vmdk_finish_stream(o);
    for (unsigned copy = 0; !rc && copy < 2; copy++)
        rc = out_pwrite(o, v->directory + copy * v->tables, v->tables * sizeof(*v->directory),
                        v->gd_off[copy]);
    if (!rc && ftruncate(o->fd, (off_t)v->end))
        rc = -errno;
    out_vmdk_header(o, v->gd_off[1] / BLK_SECTOR, h);
    return rc ? rc : out_pwrite(o, h, sizeof(h), 0);
}

const struct out_ops out_vmdk_ops = {
    .format = "vmdk",
    .open = out_vmdk_open,
    .close = out_vmdk_close,
    .place = out_vmdk_place,
    .store = out_vmdk_store,
    .finish = out_vmdk_finish,
};

const struct out_ops out_vmdk_part_ops = {
    .format = "vmdk",
    .open = out_vmdk_part_open,
    .close = out_vmdk_close,
    .place = out_vmdk_place,
    .store = out_vmdk_store,
    .finish = out_vmdk_finish,
};

const struct out_ops out_vmdk_stream_ops = {
    .format = "vmdk",
    .open = out_vmdk_stream_open,
    .close = out_vmdk_close,
    .scratch = out_vmdk_scratch,
    .scratch_free = free,
    .pack = out_vmdk_pack,
    .place = out_vmdk_place,
    .store = out_vmdk_store,
    .finish = out_vmdk_finish,
};
