/*
 * image_bitmap.c: `ruche image bitmap`, and the bitmaps that a conversion takes along.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"

static int image_bitmap_edit(struct blk *b, const struct blk_bitmap *o, struct err *e)
{
    if (!b->ops->bitmap)
        return err_set(e, ENOTSUP, "image '%s' is %s, which has no dirty bitmaps; qcow2 has",
                       b->path, b->ops->format);
    return b->ops->bitmap(b, o, e);
}

static int image_bitmap_merge(const struct image_args *a, struct blk *b, struct blk *from,
                              struct err *e)
{
    const char **list = image_split_options(a->merge);
    int rc = a->merge && !list ? err_set(e, ENOMEM, "out of memory") : 0;

    for (size_t i = 0; !rc && list && list[i]; i++) {
        struct blk_bitmap o = {
            .what = BLK_BITMAP_MERGE, .name = a->operands[1], .from = from, .from_name = list[i]
        };

        rc = image_bitmap_edit(b, &o, e);
    }
    free(list);
    return rc;
}

/* In the only order that makes sense: qemu-img's is that of the command line. */
static void image_bitmap_do(const struct image_args *a, struct blk *b, struct blk *from,
                            struct err *e)
{
    const struct {
        bool wanted;
        enum blk_bitmap_what what;
    } before[] = { { a->bitmap_remove, BLK_BITMAP_REMOVE },
                   { a->bitmap_add, BLK_BITMAP_ADD },
                   { a->bitmap_clear, BLK_BITMAP_CLEAR },
                   { a->bitmap_disable, BLK_BITMAP_DISABLE },
                   { a->bitmap_enable, BLK_BITMAP_ENABLE } };
    int rc = 0;

    for (size_t i = 0; !rc && i < ARRAY_SIZE(before); i++) {
        struct blk_bitmap o = { .what = before[i].what,
                                .name = a->operands[1],
                                .granularity = a->granularity };

        if (before[i].wanted)
            rc = image_bitmap_edit(b, &o, e);
    }
    if (!rc)
        image_bitmap_merge(a, b, from, e);
}

static const char *image_bitmap_wrong(const struct image_args *a)
{
    if (!(a->bitmap_add || a->bitmap_remove || a->bitmap_clear || a->bitmap_enable ||
          a->bitmap_disable || a->merge))
        return "what shall become of the bitmap? --add, --remove, --clear, --enable, --disable or "
               "--merge SOURCE";
    if (a->granularity && !a->bitmap_add)
        return "-g is said of a new bitmap: --add";
    if (a->backing && !a->merge)
        return "-b says where the bitmap of --merge is; there is no --merge";
    if (a->backing_format && !a->backing)
        return "-F is the format of the image that -b names; there is no -b";
    if (a->bitmap_enable && a->bitmap_disable)
        return "either --enable or --disable";
    return NULL;
}

static int image_bitmap(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0], .format = a->format, .no_backing = true };
    struct blk_opts of = {
        .path = a->backing, .format = a->backing_format, .readonly = true, .no_backing = true
    };
    const char *wrong = image_bitmap_wrong(a);
    struct blk *b, *from = NULL;

    if (wrong) {
        err_set(e, EINVAL, "%s", wrong);
        return CMD_USAGE;
    }
    if (a->backing && !image_same_file(a->backing, a->operands[0])) {
        from = image_session_disk(s, &of, e);
        if (!from)
            return 0;
    }
    b = image_session_disk(s, &o, e);
    if (b)
        image_bitmap_do(a, b, from, e);
    return 0;
}

int cmd_image_bitmap(int argc, char **argv)
{
    return image_run(IMAGE_BITMAP, argc, argv, 2, 2, image_bitmap);
}

/* --- convert --bitmaps --- */

static bool image_bitmap_has(const json_t *m, const char *flag)
{
    const json_t *flags = json_object_get(m, "flags"), *one;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)flags, i,
                       one) if (!strcmp(json_string_value(one), flag)) return true;
    return false;
}

static int image_bitmap_copy(struct blk *from, struct blk *to, const json_t *m, struct err *e)
{
    struct blk_bitmap o = {
        .what = BLK_BITMAP_ADD,
        .name = json_string_value(json_object_get(m, "name")),
        .granularity = (uint64_t)json_integer_value(json_object_get(m, "granularity")),
        .from = from,
        .from_name = json_string_value(json_object_get(m, "name")),
    };
    int rc = image_bitmap_edit(to, &o, e);

    if (!rc && !image_bitmap_has(m, "auto")) {
        o.what = BLK_BITMAP_DISABLE;
        rc = image_bitmap_edit(to, &o, e);
    }
    o.what = BLK_BITMAP_MERGE;
    return rc ? rc : image_bitmap_edit(to, &o, e);
}

int image_bitmaps_copy(struct blk *from, struct blk *to, bool broken, struct err *e)
{
    const json_t *list, *m;
    struct blk_info i;
    size_t k;
    int rc = 0;

    blk_info(from, &i);
    list = json_object_get(i.specific, "bitmaps");
    json_array_foreach((json_t *)(uintptr_t)list, k, m)
    {
        if (!rc && !(broken && image_bitmap_has(m, "in-use")))
            rc = image_bitmap_copy(from, to, m, e);
    }
    json_decref(i.specific);
    json_decref(i.snapshots);
    return rc;
}
