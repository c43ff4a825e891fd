/*
 * image_compare.c: `ruche image compare`, with the exit statuses of qemu-img: 0 the same, 1 different, more:
 * it could not be found out.
 */
#include <string.h>

#include "cmd/image.h"
#include "cmd/progress.h"
#include "image/compare.h"

enum { IMAGE_DIFFERENT = 1 };

static struct blk *image_compare_open(const struct image_args *a, struct image_session *s,
                                      unsigned i, struct err *e)
{
    struct blk_opts o = { .path = a->operands[i],
                          .format = i ? a->out_format : a->format,
                          .readonly = true,
                          .share = a->share,
                          .passphrase = i ? image_session_target_key(s) : NULL };

    return image_session_disk(s, &o, e);
}

static int image_compare_tell(const struct image_args *a, const struct compare_result *r,
                              bool sizes_differ)
{
    if (a->json) {
        json_t *o = json_pack("{s:b, s:b}", "identical", r->same, "size-mismatch", sizes_differ);

        if (!r->same && !(a->strict && sizes_differ))
            json_object_set_new(o, "offset", json_integer((json_int_t)r->off));
        image_print_json(o);
    } else if (!a->quiet) {
        if (sizes_differ && !a->strict)
            printf("Warning: Image size mismatch!\n");
        if (r->same)
            printf("Images are identical.\n");
        else if (sizes_differ && a->strict)
            printf("Strict mode: Image size mismatch!\n");
        else if (r->allocation)
            printf("Strict mode: Offset %llu allocation mismatch!\n", (unsigned long long)r->off);
        else
            printf("Content mismatch at offset %llu!\n", (unsigned long long)r->off);
    }
    return r->same ? CMD_OK : IMAGE_DIFFERENT;
}

static int image_compare(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk *x = image_compare_open(a, s, 0, e);
    struct blk *y = x ? image_compare_open(a, s, 1, e) : NULL;
    struct compare_result r = { 0 };
    struct progress p;
    struct compare_opts o = {
        .loop = s->loop, .strict = a->strict, .progress = progress_show, .opaque = &p
    };
    int rc;

    if (!y)
        return 0;
    if (a->strict && x->size != y->size)
        return image_compare_tell(a, &r, true);
    progress_start(&p, a->progress, a->quiet);
    rc = compare_disks(x, y, &o, &r, e);
    progress_end(&p, !rc);
    return rc ? 0 : image_compare_tell(a, &r, x->size != y->size);
}

int cmd_image_compare(int argc, char **argv)
{
    return image_run(IMAGE_COMPARE, argc, argv, 2, 2, image_compare);
}
