/*
 * image_map.c: `ruche image map`: what is where, as qemu-img prints it.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"

struct image_map_run {
    uint64_t off;
    struct blk_extent x;
};

static bool image_map_goes_on(const struct image_map_run *r, const struct blk_extent *x)
{
    return r->x.len && r->x.flags == x->flags && r->x.depth == x->depth &&
           (!(x->flags & BLK_X_OFFSET) ||
            (r->x.layer == x->layer && r->x.host_off + r->x.len == x->host_off));
}

static void image_map_print_json(const struct image_map_run *r, bool first)
{
    const struct blk_extent *x = &r->x;

    printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, \"zero\": %s, "
           "\"data\": %s, \"compressed\": %s",
           first ? "[" : ",\n", (unsigned long long)r->off, (unsigned long long)x->len, x->depth,
           x->flags & BLK_X_ALLOCATED ? "true" : "false", x->flags & BLK_X_ZERO ? "true" : "false",
           x->flags & BLK_X_DATA ? "true" : "false",
           x->flags & BLK_X_COMPRESSED ? "true" : "false");
    if (x->flags & BLK_X_OFFSET)
        printf(", \"offset\": %llu", (unsigned long long)x->host_off);
    printf("}");
}

static void image_map_print(const struct image_args *a, const struct image_map_run *r, bool first)
{
    if (!r->x.len)
        return;
    if (a->json)
        image_map_print_json(r, first);
    else if ((r->x.flags & BLK_X_DATA) && (r->x.flags & BLK_X_OFFSET))
        printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)r->off,
               (unsigned long long)r->x.len, (unsigned long long)r->x.host_off, r->x.layer->path);
}

static int image_map_all(const struct image_args *a, struct blk *b, uint64_t off, uint64_t end,
                         struct err *e)
{
    struct image_map_run r = { .off = off };
    bool first = true;

    while (off < end) {
        struct blk_extent x;
        int rc = blk_status(b, off, end - off, &x);

        if (rc)
            return err_set(e, -rc, "image '%s': what is at byte %llu cannot be found out: %s",
                           b->path, (unsigned long long)off, strerror(-rc));
        if (image_map_goes_on(&r, &x)) {
            r.x.len += x.len;
        } else {
            image_map_print(a, &r, first);
            first = first && !r.x.len;
            r = (struct image_map_run){ off, x };
        }
        off += x.len;
    }
    image_map_print(a, &r, first);
    if (a->json)
        printf("%s\n", r.x.len ? "]" : "[]");
    return 0;
}

static int image_map(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = {
        .path = a->operands[0], .format = a->format, .readonly = true, .share = a->share
    };
    struct blk *b = image_session_disk(s, &o, e);
    uint64_t off = align_down(a->offset, BLK_SECTOR);

    if (!b)
        return 0;
    if (!a->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    off = min_u64(off, b->size);
    return image_map_all(a, b, off, off + min_u64(a->length, b->size - off), e) ? CMD_BAD_INPUT : 0;
}

int cmd_image_map(int argc, char **argv)
{
    return image_run(IMAGE_MAP, argc, argv, 1, 1, image_map);
}
