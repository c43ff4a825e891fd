/*
 * image_measure.c: `ruche image measure` and `amend`.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"
#include "image/measure.h"

static int image_measure_print(const struct image_args *a, const struct measure *m)
{
    if (!a->json) {
        printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)m->required,
               (unsigned long long)m->full);
        if (m->has_bitmaps)
            printf("bitmaps size: %llu\n", (unsigned long long)m->bitmaps);
        return CMD_OK;
    }
    if (m->has_bitmaps)
        return image_print_json(json_pack("{s:I, s:I, s:I}", "bitmaps", (json_int_t)m->bitmaps,
                                          "required", (json_int_t)m->required, "fully-allocated",
                                          (json_int_t)m->full));
    return image_print_json(json_pack("{s:I, s:I}", "required", (json_int_t)m->required,
                                      "fully-allocated", (json_int_t)m->full));
}

static int image_measure(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0],
                          .format = a->format,
                          .readonly = true,
                          .share = a->share,
                          .snapshot = image_snapshot_name(a->snapshot) };
    const char **list = image_new_options(a);
    struct blk *b = NULL;
    struct measure m;
    int status = 0;

    if ((a->new_size == UINT64_MAX) == !a->operands[0])
        err_set(e, EINVAL, "either an image, or --size SIZE of a disk that is not there yet");
    else if (a->operands[0])
        b = image_session_disk(s, &o, e);
    if (!e->code && !measure_disk(b, b ? b->size : align_up(a->new_size, BLK_SECTOR),
                                  a->out_format ? a->out_format : "raw", list, &m, e))
        status = image_measure_print(a, &m);
    free(list);
    return status;
}

int cmd_image_measure(int argc, char **argv)
{
    return image_run(IMAGE_MEASURE, argc, argv, 0, 1, image_measure);
}

/* --- amend --- */

static int image_amend(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0], .format = a->format, .no_backing = true };
    const char **list = image_new_options(a);
    struct blk *b;

    if (!list) {
        err_set(e, EINVAL, "what shall change? -o NAME=VALUE,...");
        return CMD_USAGE;
    }
    b = image_session_disk(s, &o, e);
    if (b && !b->ops->amend)
        err_set(e, ENOTSUP, "image '%s' is %s, which has no options that can be changed in place",
                b->path, b->ops->format);
    else if (b)
        b->ops->amend(b, list, e);
    free(list);
    return 0;
}

int cmd_image_amend(int argc, char **argv)
{
    return image_run(IMAGE_AMEND, argc, argv, 1, 1, image_amend);
}
