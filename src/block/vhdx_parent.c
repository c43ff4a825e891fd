/*
 * vhdx_parent.c: differencing VHDX images (MS-VHDX 2.5, 2.6.2.6): which image is the parent, and which sectors of
 * partly present blocks are here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "block/vhdx_impl.h"

/* The text at an offset and length that an entry of the locator gives; NULL: there is none. */
static char *vhdx_parent_text(const uint8_t *locator, uint32_t len, uint32_t off, uint32_t n)
{
    if (off > len || n > len - off)
        return NULL;
    return foreign_utf16(locator + off, n / 2, false);
}

/* One key of the locator; takes value. */
static void vhdx_parent_key(struct foreign *f, const char *key, char *value)
{
    struct vhdx *v = f->priv;
    unsigned second = !strcmp(key, "parent_linkage2");

    if (second || !strcmp(key, "parent_linkage")) {
        snprintf(v->linkage[second], sizeof(v->linkage[second]), "%s", value);
    } else if (!strcmp(key, "relative_path") ||
               (!f->backing && !strcmp(key, "absolute_win32_path"))) {
        foreign_windows_path(value);
        free(f->backing);
        f->backing = value;
        return;
    }
    free(value);
}

int vhdx_parent_find(struct foreign *f, const uint8_t *locator, uint32_t len, struct err *e)
{
    if (len < VHDX_LOCATOR_ENTRIES || len > VHDX_LOCATOR_MAX ||
        memcmp(locator, VHDX_GUID_LOCATOR, VHDX_GUID_LEN))
        return foreign_unsupported(f, e, "names its parent in a way that is not known here");
    for (uint32_t i = 0; i < ld_le16(locator + VHDX_LOCATOR_COUNT); i++) {
        const uint8_t *entry = locator + VHDX_LOCATOR_ENTRIES + (size_t)i * VHDX_LOCATOR_ENTRY;
        char *key, *value;

        if ((size_t)(entry - locator) + VHDX_LOCATOR_ENTRY > len)
            break;
        key = vhdx_parent_text(locator, len, ld_le32(entry), ld_le16(entry + 8));
        value = vhdx_parent_text(locator, len, ld_le32(entry + 4), ld_le16(entry + 10));
        if (key && value)
            vhdx_parent_key(f, key, value);
        else
            free(value);
        free(key);
    }
    f->backing_format = "vhdx";
    return f->backing ? 0 : foreign_bad(f, e, "it does not name its parent");
}

/* A chunk's bitmap; its blocks have been found to need it. */
static int vhdx_parent_bitmap(struct foreign *f, uint64_t chunk, uint64_t *left, struct err *e)
{
    struct vhdx *v = f->priv;
    uint64_t entry = ld_le64(&v->bat[chunk * (v->ratio + 1) + v->ratio]);

    if ((entry & VHDX_STATE_MASK) != VHDX_BITMAP_PRESENT)
        return foreign_bad(f, e, "the bitmap of a block that is partly its parent's is missing");
    if (*left < MIB)
        return foreign_bad(f, e, "it has more bitmaps than there is room for");
    *left -= MIB;
    v->bitmap[chunk] = foreign_load(f, 0, entry & VHDX_OFFSET_MASK, MIB, "sector bitmap", e);
    if (!v->bitmap[chunk])
        return -EINVAL;
    vhdx_log_apply(v, entry & VHDX_OFFSET_MASK, v->bitmap[chunk], MIB);
    return 0;
}

int vhdx_parent_bitmaps(struct foreign *f, uint64_t blocks, struct err *e)
{
    struct vhdx *v = f->priv;
    uint64_t left = min_u64(FOREIGN_MAX_TABLES, f->file[0]->size); /* they are different ones */
    int rc = 0;

    v->bitmap = calloc(v->chunks + 1, sizeof(*v->bitmap));
    if (!v->bitmap)
        return err_set(e, ENOMEM, "out of memory");
    for (uint64_t b = 0; !rc && b < blocks; b++)
        if ((ld_le64(&v->bat[b + b / v->ratio]) & VHDX_STATE_MASK) == VHDX_BLOCK_PARTIAL &&
            !v->bitmap[b / v->ratio])
            rc = vhdx_parent_bitmap(f, b / v->ratio, &left, e);
    return rc;
}

/* "{83ed0ec3-24c8-49a6-a959-5e4bd1288015}": the first three numbers are little-endian. */
static void vhdx_parent_guid(const uint8_t *g, char *text, size_t len)
{
    snprintf(text, len, "{%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x}", ld_le32(g),
             ld_le16(g + 4), ld_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

int vhdx_parent_check(const struct foreign *f, const struct foreign *parent, struct err *e)
{
    const struct vhdx *v = f->priv, *p = parent->priv;
    char guid[40];

    vhdx_parent_guid(p->header + VHDX_HEADER_DATA_GUID, guid, sizeof(guid));
    for (unsigned i = 0; i < ARRAY_SIZE(v->linkage); i++)
        if (!strcasecmp(v->linkage[i], guid))
            return 0;
    if (!*v->linkage[0])
        return 0; /* it does not say */
    return err_set(e, ESTALE,
                   "disk '%s': its parent '%s' is another image than the one it was made upon, or "
                   "was written to since",
                   f->path, parent->path);
}

void vhdx_parent_map(const struct vhdx *v, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    uint64_t sector = off / v->sector_size, end = (off + len - 1) / v->sector_size + 1;
    const uint8_t *map = v->bitmap[off / v->block_size / v->ratio];
    uint64_t in = sector % VHDX_CHUNK_SECTORS, n = 1;
    bool own = map[in / 8] >> in % 8 & 1;

    while (sector + n < end && (map[(in + n) / 8] >> (in + n) % 8 & 1) == own)
        n++;
    x->len = n * v->sector_size - off % v->sector_size;
    if (!own)
        x->kind = FOREIGN_PARENT;
}

void vhdx_parent_free(struct vhdx *v)
{
    for (uint64_t i = 0; v->bitmap && i < v->chunks; i++)
        free(v->bitmap[i]);
    free(v->bitmap);
}
