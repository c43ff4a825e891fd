/*
 * foreign_check.c: `check` for formats that are only read: that what the tables point to is in the file, and
 * that no two places of the disk share it. What opening the image has checked is right already.
 */
#include <errno.h>
#include <stdio.h>

#include "block/foreign.h"

enum { FOREIGN_CHECK_SAYS = 16 };

/* A piece of a file that belongs to the disk. */
struct foreign_range {
    unsigned file;
    uint64_t host_off, len, off;
};
struct foreign_ranges {
    struct foreign_range *v;
    size_t n, room;
};

static void foreign_check_say(struct blk_check *c, const char *what, uint64_t off)
{
    char line[128];

    if (c->say && c->corruptions < FOREIGN_CHECK_SAYS) {
        snprintf(line, sizeof(line), "byte %llu of the disk: %s", (unsigned long long)off, what);
        c->say(c->opaque, line);
    }
    c->corruptions++;
}

static int foreign_check_add(struct foreign_ranges *r, const struct foreign_extent *x, uint64_t off,
                             uint64_t len)
{
    if (r->n == r->room) {
        size_t room = r->room ? r->room * 2 : 256;
        struct foreign_range *v = realloc(r->v, room * sizeof(*v));

        if (!v)
            return -ENOMEM;
        r->v = v;
        r->room = room;
    }
    r->v[r->n++] = (struct foreign_range){ x->file, x->host_off, len, off };
    return 0;
}

static int foreign_check_order(const void *a, const void *b)
{
    const struct foreign_range *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->host_off < y->host_off ? -1 : x->host_off > y->host_off;
}

static void foreign_check_shared(struct foreign_ranges *r, struct blk_check *c)
{
    if (r->n)
        qsort(r->v, r->n, sizeof(*r->v), foreign_check_order);
    for (size_t i = 1; i < r->n; i++)
        if (r->v[i].file == r->v[i - 1].file &&
            r->v[i].host_off < r->v[i - 1].host_off + r->v[i - 1].len)
            foreign_check_say(c, "its data are those of another place too", r->v[i].off);
}

/* One extent. The file may end within the last one: what is missing there reads as zeros. */
static int foreign_check_extent(const struct foreign *f, const struct foreign_extent *x,
                                uint64_t off, struct foreign_ranges *r, struct blk_check *c)
{
    uint64_t len = x->kind == FOREIGN_PACKED ? 1 : x->len, unit = f->unit ? f->unit : BLK_SECTOR;

    if (x->kind != FOREIGN_DATA && x->kind != FOREIGN_PACKED)
        return 0;
    c->allocated_clusters += (x->len + unit - 1) / unit;
    c->compressed_clusters += x->kind == FOREIGN_PACKED;
    if (x->host_off >= f->file[x->file]->size) {
        foreign_check_say(c, "its data are behind the end of the file", off);
        return 0;
    }
    if (!x->file)
        c->image_end = max_u64(c->image_end, x->host_off + len);
    return foreign_check_add(r, x, off, len);
}

int foreign_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *e)
{
    const struct foreign *f = b->priv;
    struct foreign_ranges r = { 0 };
    struct foreign_extent x;
    int rc = 0;

    if (fix)
        return err_set(e, ENOTSUP,
                       "disk '%s' is a %s image, which can only be read: convert what is "
                       "readable of it with `ruche image convert`",
                       b->path, b->ops->format);
    if (f->unit)
        c->total_clusters = (f->size + f->unit - 1) / f->unit;
    for (uint64_t off = 0; !rc && off < f->size; off += x.len) {
        foreign_map(b, off, f->size - off, &x);
        rc = foreign_check_extent(f, &x, off, &r, c);
    }
    if (!rc)
        foreign_check_shared(&r, c);
    free(r.v);
    return rc ? err_set(e, ENOMEM, "out of memory") : 0;
}
