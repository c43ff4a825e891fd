/*
 * image_overlay.c: `ruche image commit` and `rebase`.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"
#include "cmd/progress.h"
#include "image/overlay.h"

/* --- commit --- */

static int image_commit(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0], .format = a->format, .backing_write = true };
    struct blk *b = image_session_disk(s, &o, e);
    struct progress p;
    struct overlay_progress show = { progress_show, &p };
    int rc;

    if (!b)
        return 0;
    if (!b->backing) {
        err_set(e, EINVAL, "image '%s' has no backing file to commit to", b->path);
        return 0;
    }
    if (a->backing && !image_same_file(a->backing, b->backing->path)) {
        err_set(
            e, ENOTSUP,
            "'%s' is not the backing file of '%s', which is '%s': commit one layer at a time, from "
            "the top",
            a->backing, b->path, b->backing->path);
        return 0;
    }
    progress_start(&p, a->progress, a->quiet);
    rc = overlay_commit(b, &show, e);
    progress_end(&p, !rc);
    if (!rc && !a->quiet)
        printf("Image committed.\n");
    return 0;
}

int cmd_image_commit(int argc, char **argv)
{
    return image_run(IMAGE_COMMIT, argc, argv, 1, 1, image_commit);
}

/* --- rebase --- */

static int image_rebase_set(struct blk *b, const char *base, const char *format, struct err *e)
{
    if (!b->ops->set_backing)
        return err_set(e, ENOTSUP,
                       "image '%s' is %s, which has no backing file; qcow2 can have one", b->path,
                       b->ops->format);
    return b->ops->set_backing(b, *base ? base : NULL, *base ? format : NULL, e);
}

/* The new backing disk, which is named as the overlay will name it. */
static struct blk *image_rebase_new(const struct image_args *a, struct image_session *s,
                                    struct err *e)
{
    char *path = blk_resolve(a->operands[0], a->backing);
    struct blk_opts o = { .path = path, .format = a->backing_format, .readonly = true };
    struct blk *new = path ? image_session_disk(s, &o, e) : err_oom(e);

    free(path);
    if (!new)
        err_prefix(e, "the new backing file");
    return new;
}

static int image_rebase_safe(const struct image_args *a, struct image_session *s, struct blk *b,
                             struct err *e)
{
    struct blk *new = *a->backing ? image_rebase_new(a, s, e) : NULL;
    const char *format = a->backing_format;
    struct progress p;
    struct overlay_progress show = { progress_show, &p };
    int rc;

    if (*a->backing && !new)
        return -EINVAL;
    progress_start(&p, a->progress, a->quiet);
    rc = overlay_rebase(b, new, &show, e);
    progress_end(&p, !rc);
    if (!format && new)
        format = new->ops->format;
    return rc ? rc : image_rebase_set(b, a->backing, format, e);
}

static int image_rebase(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0], .format = a->format, .no_backing = a->unsafe };
    struct blk *b;

    if (!a->backing) {
        err_set(e, EINVAL, "which backing file? -b BASE, or -b '' for none");
        return CMD_USAGE;
    }
    b = image_session_disk(s, &o, e);
    if (b && a->unsafe)
        image_rebase_set(b, a->backing, a->backing_format, e);
    else if (b)
        image_rebase_safe(a, s, b, e);
    return 0;
}

int cmd_image_rebase(int argc, char **argv)
{
    return image_run(IMAGE_REBASE, argc, argv, 1, 1, image_rebase);
}
