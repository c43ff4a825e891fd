/*
 * image_create.c: `ruche image create`, `resize` and `snapshot`.
 */
#include <errno.h>
#include <string.h>

#include "block/formats.h"
#include "cmd/image.h"
#include "image/create.h"

/* --- create --- */

/* The value of the last "key=value" in the list, or NULL. */
static const char *image_create_option(const char *const *list, const char *key)
{
    const char *found = NULL;
    size_t n = strlen(key);

    for (; list && *list; list++)
        if (!strncmp(*list, key, n) && (*list)[n] == '=')
            found = *list + n + 1;
    return found;
}

static int image_create_size(const struct image_args *a, const char *const *list, uint64_t *size,
                             struct err *e)
{
    const char *text = a->operands[1] ? a->operands[1] : image_create_option(list, "size");

    *size = 0;
    if (!text)
        return 0;
    if (util_parse_size(text, size))
        return err_set(e, EINVAL, "no size is %s; write it like 512M or 20G", text);
    *size = align_up(*size, BLK_SECTOR);
    return 0;
}

/* The backing file's size, and that it can be opened at all. */
static int image_create_backing(struct image_session *s, struct blk_create_opts *c, struct err *e)
{
    char *path = blk_resolve(c->path, c->backing);
    struct blk_opts o = { .path = path, .format = c->backing_format, .readonly = true };
    const struct blk *b;

    if (!path)
        return err_set(e, ENOMEM, "out of memory");
    b = image_session_disk(s, &o, e);
    free(path);
    if (!b)
        return err_prefix(e, "the backing file");
    if (!c->size)
        c->size = b->size;
    if (!c->backing_format)
        c->backing_format = b->ops->format;
    c->backing_unchecked = true; /* by others: many an NBD server takes one client at a time */
    return 0;
}

static int image_create(const struct image_args *a, struct image_session *s, struct err *e)
{
    const char **list = image_new_options(a);
    struct blk_create_opts c = { .path = a->operands[0],
                                 .format =
                                     a->format ? a->format : blk_format_by_name(a->operands[0]),
                                 .backing = a->backing,
                                 .backing_format = a->backing_format,
                                 .backing_unchecked = a->unsafe,
                                 .options = list };
    char size[32];
    int rc;

    if (!c.backing)
        c.backing = image_create_option(list, "backing_file");
    if (!c.backing_format)
        c.backing_format = image_create_option(list, "backing_fmt");
    rc = image_create_size(a, list, &c.size, e);
    if (!rc && c.backing && !a->unsafe)
        rc = image_create_backing(s, &c, e);
    if (!rc && !c.size)
        rc = err_set(e, EINVAL, "how large shall image '%s' be? Say it behind the name, like 20G",
                     c.path);
    if (!rc)
        rc = image_session_new_key(s, c.path, c.format, list, &c.passphrase, e);
    if (!rc)
        rc = image_create_empty(&c, e);
    image_human_size(c.size, size, sizeof(size));
    if (!rc && !a->quiet)
        printf("image '%s' is made: %s, %s\n", c.path, c.format, size);
    free(list);
    return 0;
}

int cmd_image_create(int argc, char **argv)
{
    return image_run(IMAGE_CREATE, argc, argv, 1, 2, image_create);
}

/* --- resize --- */

static int image_resize_size(const char *text, uint64_t old, uint64_t *size, struct err *e)
{
    bool relative = *text == '+' || *text == '-';
    uint64_t n;

    if (util_parse_size(text + relative, &n))
        return err_set(e, EINVAL, "no size is %s; write it like 20G, +5G or -5G", text);
    if (*text == '-' && n > old)
        return err_set(e, EINVAL, "the disk has only %llu bytes", (unsigned long long)old);
    if (*text == '+' && n > INT64_MAX - old)
        return err_set(e, EINVAL, "no disk can be as large as that");
    n = *text == '+' ? old + n : *text == '-' ? old - n : n;
    *size = align_up(n, BLK_SECTOR);
    return 0;
}

static int image_resize_prealloc(const char *text, enum blk_prealloc *p, struct err *e)
{
    static const char *const modes[] = { "off", "metadata", "falloc", "full" };

    *p = BLK_PREALLOC_OFF;
    for (size_t i = 0; text && i < ARRAY_SIZE(modes); i++)
        if (!strcmp(text, modes[i])) {
            *p = (enum blk_prealloc)i;
            return 0;
        }
    return text ? err_set(e, EINVAL, "--preallocation %s: known are off, metadata, falloc, full",
                          text)
                : 0;
}

static int image_resize(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0], .format = a->format };
    enum blk_prealloc prealloc;
    struct blk *b = image_session_disk(s, &o, e);
    uint64_t size = 0;

    if (!b || image_resize_prealloc(a->prealloc, &prealloc, e) ||
        image_resize_size(a->operands[1], b->size, &size, e))
        return 0;
    if (size < b->size && !a->shrink) {
        err_set(e, EINVAL,
                "that would cut off what is at the end of the disk: shrink the file system and the "
                "partition in the guest first, then say --shrink");
        return 0;
    }
    if (!blk_resize(b, size, prealloc, e) && !a->quiet)
        printf("Image resized.\n");
    return 0;
}

int cmd_image_resize(int argc, char **argv)
{
    return image_run(IMAGE_RESIZE, argc, argv, 2, 2, image_resize);
}

/* --- snapshot --- */

static int image_snapshot_list(const struct image_args *a, struct blk *b)
{
    struct blk_info i;
    int status = CMD_OK;

    blk_info(b, &i);
    if (a->json)
        status = image_print_json(i.snapshots ? json_incref(i.snapshots) : json_array());
    else
        image_print_snapshots(i.snapshots);
    json_decref(i.snapshots);
    json_decref(i.specific);
    return status;
}

static int image_snapshot(const struct image_args *a, struct image_session *s, struct err *e)
{
    const char *tags[] = {
        [BLK_SNAP_CREATE] = a->create, [BLK_SNAP_APPLY] = a->apply, [BLK_SNAP_DELETE] = a->remove
    };
    unsigned wanted = !!a->create + !!a->apply + !!a->remove;
    struct blk_opts o = { .path = a->operands[0],
                          .format = a->format,
                          .readonly = !wanted,
                          .share = a->share && !wanted,
                          .no_backing = !wanted };
    struct blk *b;

    if (wanted + a->list > 1) {
        err_set(e, EINVAL, "one of -l, -a, -c and -d at a time");
        return CMD_USAGE;
    }
    b = image_session_disk(s, &o, e);
    if (!b)
        return 0;
    if (!wanted)
        return image_snapshot_list(a, b);
    if (!b->ops->snap) {
        err_set(e, ENOTSUP, "image '%s' is %s, which has no snapshots inside; qcow2 has", b->path,
                b->ops->format);
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
        if (tags[i])
            b->ops->snap(b, (enum blk_snap)i, tags[i], e);
    return 0;
}

int cmd_image_snapshot(int argc, char **argv)
{
    return image_run(IMAGE_SNAPSHOT, argc, argv, 1, 1, image_snapshot);
}
