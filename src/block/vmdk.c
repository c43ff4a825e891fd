/*
 * vmdk.c: VMware disk images, read-only. A description in words lists extents, each in a file of its own
 * (monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs) or in the file with the description
 * (monolithicSparse, streamOptimized); vmdk_sparse.c reads those with grain tables. Files are looked for in
 * the image's own folder only. Not read: seSparse.
 */
#include "block/vmdk_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"

enum { VMDK_LINE = 1024, VMDK_TEXT_MIN = 21 };
static const char vmdk_text_magic[] = "# Disk DescriptorFile";

static bool vmdk_probe(const void *head, size_t n)
{
    const char *p = head;

    if (n >= VMDK_HEADER && (!memcmp(p, "KDMV", 4) || !memcmp(p, "COWD", 4)))
        return true;
    return n >= VMDK_TEXT_MIN && !strncasecmp(p, vmdk_text_magic, VMDK_TEXT_MIN);
}

/* --- the description --- */

/* The next line of *text into line, without its end and leading blanks; false: there is none. */
static bool vmdk_line(const char **text, char *line)
{
    size_t n, keep;

    if (!**text)
        return false;
    *text += strspn(*text, " \t");
    n = strcspn(*text, "\r\n");
    keep = n < VMDK_LINE - 1 ? n : VMDK_LINE - 1;
    memcpy(line, *text, keep);
    line[keep] = '\0';
    *text += n;
    *text += strspn(*text, "\r\n");
    return true;
}

/* The value of key=value or key="value", inside line; NULL if it is another key. */
static char *vmdk_value(char *line, const char *key)
{
    size_t n = strlen(key);
    char *v;

    if (strncasecmp(line, key, n))
        return NULL;
    v = line + n;
    v += strspn(v, " \t");
    if (*v++ != '=')
        return NULL;
    v += strspn(v, " \t");
    if (*v == '"') {
        v++;
        v[strcspn(v, "\"")] = '\0';
    } else {
        v[strcspn(v, " \t")] = '\0';
    }
    return v;
}

static int vmdk_add_extent(struct foreign *f, const struct vmdk_extent *x, struct err *e)
{
    struct vmdk *v = f->priv;
    struct vmdk_extent *all;

    if (v->n_extents == FOREIGN_MAX_FILES)
        return foreign_unsupported(f, e, "has more than %d extents", FOREIGN_MAX_FILES);
    if (!x->size || x->size > INT64_MAX - f->size)
        return foreign_bad(f, e, "an extent of no possible size");
    all = realloc(v->extents, (v->n_extents + 1) * sizeof(*all));
    if (!all)
        return err_set(e, ENOMEM, "out of memory");
    v->extents = all;
    all[v->n_extents] = *x;
    all[v->n_extents++].start = f->size;
    f->size += x->size;
    return 0;
}

/* A file with grain tables; its own header says how large it is, the description must agree. */
static int vmdk_add_sparse(struct foreign *f, struct vmdk_extent *x, struct err *e)
{
    uint64_t said = x->size;
    int rc = vmdk_sparse_open(f, x, e);

    if (!rc && said && said < x->size)
        x->size = said; /* the header rounds up to a grain */
    if (!rc && said > x->size)
        rc = foreign_bad(f, e, "an extent is smaller than its description says");
    if (!rc)
        rc = vmdk_add_extent(f, x, e);
    if (rc)
        vmdk_sparse_close(x);
    return rc;
}

static int vmdk_add_flat(struct foreign *f, struct vmdk_extent *x, struct err *e)
{
    if (x->flat_off > f->file[x->file]->size || x->size > f->file[x->file]->size - x->flat_off)
        return foreign_bad(f, e, "file '%s' is shorter than the description says",
                           f->file[x->file]->path);
    return vmdk_add_extent(f, x, e);
}

/* Cuts the next word off *at; "" at the end. */
static char *vmdk_word(char **at)
{
    char *word = *at + strspn(*at, " \t");

    *at = word + strcspn(word, " \t");
    if (**at)
        *(*at)++ = '\0';
    return word;
}

/* A number of sectors as bytes; -EINVAL: it is none, or too large. */
static int vmdk_sectors(const char *text, uint64_t *bytes)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || errno || (*end && !strchr(" \t", *end)) ||
        n > INT64_MAX / BLK_SECTOR)
        return -EINVAL;
    *bytes = n * BLK_SECTOR;
    return 0;
}

/* The file of an extent, and behind its name where in there a flat one begins. */
static int vmdk_extent_file(struct foreign *f, char *rest, const char *type, struct vmdk_extent *x,
                            struct err *e)
{
    char *name = strchr(rest, '"'), *end = name ? strchr(name + 1, '"') : NULL;
    bool sparse = !strcmp(type, "SPARSE") || !strcmp(type, "VMFSSPARSE");
    int rc;

    if (!end)
        return foreign_bad(f, e, "an extent without a file");
    if (!sparse && strcmp(type, "FLAT") && strcmp(type, "VMFS"))
        return foreign_unsupported(f, e, "has an extent of the type %.20s, which is not known here",
                                   type);
    *end++ = '\0';
    end += strspn(end, " \t");
    rc = foreign_add_file(f, name + 1, e);
    if (rc)
        return rc;
    x->file = f->n_files - 1;
    if (sparse)
        return vmdk_add_sparse(f, x, e);
    x->kind = VMDK_FLAT;
    if (*end && vmdk_sectors(end, &x->flat_off))
        return foreign_bad(f, e, "an extent begins at sector '%.20s'", end);
    return vmdk_add_flat(f, x, e);
}

/* "RW 4192256 SPARSE "disk-s001.vmdk"", and a number behind it for flat ones */
static int vmdk_extent_line(struct foreign *f, char *line, struct err *e)
{
    struct vmdk_extent x = { 0 };
    char *at = line, *access = vmdk_word(&at), *sectors = vmdk_word(&at), *type = vmdk_word(&at);

    if (vmdk_sectors(sectors, &x.size))
        return foreign_bad(f, e, "an extent of '%.20s' sectors", sectors);
    if (!strcmp(access, "NOACCESS"))
        return foreign_unsupported(f, e, "has an extent that may not be read (NOACCESS)");
    if (strcmp(type, "ZERO"))
        return vmdk_extent_file(f, at, type, &x, e);
    x.kind = VMDK_ZERO;
    return vmdk_add_extent(f, &x, e);
}

static int vmdk_parent(struct foreign *f, const char *hint, struct err *e)
{
    free(f->backing);
    f->backing = strdup(hint);
    f->backing_format = "vmdk";
    return f->backing ? 0 : err_set(e, ENOMEM, "out of memory");
}

static void vmdk_variant(struct foreign *f, const char *type)
{
    static const char *const known[] = {
        "monolithicSparse",     "monolithicFlat",     "streamOptimized",
        "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs",
        "vmfsSparse",           "vmfsThin",           "custom"
    };

    f->variant = "unknown";
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (!strcasecmp(type, known[i]))
            f->variant = known[i];
}

/* `embedded`: the description is inside the only sparse extent, whose line names this very file. */
static int vmdk_describe(struct foreign *f, const char *text, bool embedded, struct err *e)
{
    char line[VMDK_LINE], hint[VMDK_LINE] = "", *value;
    bool has_parent = false;
    int rc = 0;

    while (!rc && vmdk_line(&text, line)) {
        if ((value = vmdk_value(line, "createType")))
            vmdk_variant(f, value);
        else if ((value = vmdk_value(line, "parentCID")))
            has_parent = strcasecmp(value, "ffffffff") != 0;
        else if ((value = vmdk_value(line, "parentFileNameHint")))
            snprintf(hint, sizeof(hint), "%s", value);
        else if (!embedded && (!strncmp(line, "RW ", 3) || !strncmp(line, "RDONLY ", 7) ||
                               !strncmp(line, "NOACCESS ", 9)))
            rc = vmdk_extent_line(f, line, e);
    }
    if (rc || !has_parent)
        return rc;
    return *hint ? vmdk_parent(f, hint, e) : foreign_bad(f, e, "it does not name its parent");
}

/* len bytes of the file as text, cut at the first NUL. */
static char *vmdk_text(const struct foreign *f, uint64_t off, uint64_t len, struct err *e)
{
    char *text, *whole;

    if (len > FOREIGN_MAX_TEXT) {
        foreign_bad(f, e, "its description is of %llu bytes", (unsigned long long)len);
        return NULL;
    }
    text = foreign_load(f, 0, off, len, "description", e);
    whole = text ? realloc(text, len + 1) : NULL;
    if (!whole) {
        free(text);
        return text ? err_oom(e) : NULL;
    }
    whole[len] = '\0';
    return whole;
}

static int vmdk_open_description(struct foreign *f, struct err *e)
{
    char *text = vmdk_text(f, 0, min_u64(f->file[0]->size, FOREIGN_MAX_TEXT), e);
    int rc = text ? vmdk_describe(f, text, false, e) : -EINVAL;

    free(text);
    return !rc && !f->size ? foreign_bad(f, e, "its description has no extents") : rc;
}

static int vmdk_open_single(struct foreign *f, struct err *e)
{
    struct vmdk_extent x = { 0 };
    struct vmdk *v = f->priv;
    char *text;
    int rc = vmdk_add_sparse(f, &x, e);

    f->variant = "custom";
    if (rc || !v->desc_size)
        return rc;
    text = vmdk_text(f, v->desc_off, v->desc_size, e);
    rc = text ? vmdk_describe(f, text, true, e) : -EINVAL;
    free(text);
    return rc;
}

static int vmdk_open(struct foreign *f, struct err *e)
{
    struct vmdk *v = calloc(1, sizeof(*v));
    uint8_t magic[4];
    int rc;

    f->priv = v;
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    v->room = FOREIGN_MAX_TABLES;
    rc = foreign_pread(f, 0, 0, magic, sizeof(magic), e);
    if (rc)
        return rc;
    if (!memcmp(magic, "KDMV", 4) || !memcmp(magic, "COWD", 4))
        return vmdk_open_single(f, e);
    return vmdk_open_description(f, e);
}

static void vmdk_close(struct foreign *f)
{
    struct vmdk *v = f->priv;

    if (!v)
        return;
    for (unsigned i = 0; i < v->n_extents; i++)
        vmdk_sparse_close(&v->extents[i]);
    free(v->extents);
    free(v);
}

/* --- reading --- */

static const struct vmdk_extent *vmdk_extent_at(const struct vmdk *v, uint64_t off)
{
    unsigned low = 0, high = v->n_extents - 1;

    while (low < high) {
        unsigned mid = (low + high + 1) / 2;

        if (v->extents[mid].start <= off)
            low = mid;
        else
            high = mid - 1;
    }
    return &v->extents[low];
}

static void vmdk_map(const struct foreign *f, uint64_t off, uint64_t len, struct foreign_extent *x)
{
    const struct vmdk_extent *ext = vmdk_extent_at(f->priv, off);
    uint64_t in = off - ext->start;

    (void)len;
    *x = (struct foreign_extent){ .kind = FOREIGN_ZERO, .len = ext->size - in };
    if (ext->kind == VMDK_FLAT) {
        x->kind = FOREIGN_DATA;
        x->file = ext->file;
        x->host_off = ext->flat_off + in;
    } else if (ext->kind == VMDK_SPARSE) {
        vmdk_sparse_map(ext, in, x);
        x->len = min_u64(x->len, ext->size - in);
    }
}

const struct foreign_format vmdk_format = {
    .blk = FOREIGN_BLK(vmdk),
    .open = vmdk_open,
    .close = vmdk_close,
    .map = vmdk_map,
    .unpack = vmdk_sparse_unpack,
};
