/*
 * image_check.c: `ruche image check` and `repair`, with the exit statuses of qemu-img: 1 could not be
 * checked, 2 corrupt, 3 only space is lost, 63 there is nothing to check in this format.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"

enum { IMAGE_CHECK_FAILED = 1, IMAGE_CHECK_CORRUPT, IMAGE_CHECK_LEAKS, IMAGE_CHECK_NO_SUCH = 63 };

static void image_check_say(void *opaque, const char *line)
{
    const struct image_args *a = opaque;

    if (!a->quiet)
        fprintf(a->json ? stderr : stdout, "%s\n", line);
}

static int image_check_status(const struct blk_check *c, unsigned fix)
{
    uint64_t corruptions = c->corruptions, leaks = c->leaks;

    if (fix) {
        corruptions -= min_u64(corruptions, c->corruptions_fixed);
        leaks -= min_u64(leaks, c->leaks_fixed);
    }
    if (c->check_errors)
        return IMAGE_CHECK_FAILED;
    return corruptions ? IMAGE_CHECK_CORRUPT : leaks ? IMAGE_CHECK_LEAKS : CMD_OK;
}

static int image_check_json(const struct blk *b, const struct blk_check *c)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "filename", b->path, "format", b->ops->format,
                          "check-errors", (json_int_t)c->check_errors, "image-end-offset",
                          (json_int_t)c->image_end);
    const struct {
        const char *key;
        uint64_t n;
    } counts[] = {
        { "corruptions", c->corruptions },
        { "leaks", c->leaks },
        { "corruptions-fixed", c->corruptions_fixed },
        { "leaks-fixed", c->leaks_fixed },
        { "total-clusters", c->total_clusters },
        { "allocated-clusters", c->allocated_clusters },
        { "fragmented-clusters", c->fragmented_clusters },
        { "compressed-clusters", c->compressed_clusters },
    };

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        if (counts[i].n)
            json_object_set_new(o, counts[i].key, json_integer((json_int_t)counts[i].n));
    return image_print_json(o);
}

static double image_check_percent(uint64_t part, uint64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0;
}

static void image_check_print(const struct blk_check *c)
{
    unsigned long long corruptions = c->corruptions, leaks = c->leaks;

    if (c->corruptions_fixed || c->leaks_fixed)
        printf("Mended: %llu mistakes, %llu lost clusters\n",
               (unsigned long long)c->corruptions_fixed, (unsigned long long)c->leaks_fixed);
    corruptions -= min_u64(corruptions, c->corruptions_fixed);
    leaks -= min_u64(leaks, c->leaks_fixed);
    if (corruptions)
        printf(
            "%llu mistakes were found; data may be lost, and writing to the image may lose more. "
            "`ruche image repair` mends what it can: make a copy first\n",
            corruptions);
    if (leaks)
        printf("%llu clusters of space are lost, no data; `ruche image repair -r leaks` gets them "
               "back\n",
               leaks);
    if (!corruptions && !leaks && !c->check_errors)
        printf("No errors were found on the image.\n");
    if (c->total_clusters)
        printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               (unsigned long long)c->allocated_clusters, (unsigned long long)c->total_clusters,
               image_check_percent(c->allocated_clusters, c->total_clusters),
               image_check_percent(c->fragmented_clusters, c->allocated_clusters),
               image_check_percent(c->compressed_clusters, c->allocated_clusters));
    if (c->image_end)
        printf("Image end offset: %llu\n", (unsigned long long)c->image_end);
}

static int image_check_run(const struct image_args *a, struct image_session *s, unsigned fix,
                           struct err *e)
{
    struct blk_opts o = { .path = a->operands[0],
                          .format = a->format,
                          .readonly = !fix,
                          .share = a->share,
                          .no_backing = true,
                          .repair = true };
    struct blk_check c = { .say = image_check_say, .opaque = (void *)(uintptr_t)a };
    struct blk *b = image_session_disk(s, &o, e);

    if (!b)
        return IMAGE_CHECK_FAILED;
    if (!b->ops->check) {
        err_set(e, ENOTSUP, "image '%s': there is nothing to check in the format %s", b->path,
                b->ops->format);
        return IMAGE_CHECK_NO_SUCH;
    }
    if (b->ops->check(b, fix, &c, e))
        return IMAGE_CHECK_FAILED;
    if (a->json)
        image_check_json(b, &c);
    else if (!a->quiet)
        image_check_print(&c);
    return image_check_status(&c, fix);
}

static int image_check(const struct image_args *a, struct image_session *s, struct err *e)
{
    bool repair = a->command == IMAGE_REPAIR;
    unsigned fix = repair ? BLK_FIX_LEAKS | BLK_FIX_ERRORS : 0;

    if (a->repair && strcmp(a->repair, "leaks") && strcmp(a->repair, "all")) {
        err_set(e, EINVAL, "-r %s: leaks or all can be mended", a->repair);
        return IMAGE_CHECK_FAILED;
    }
    if (a->repair)
        fix = BLK_FIX_LEAKS | (strcmp(a->repair, "all") ? 0 : BLK_FIX_ERRORS);
    return image_check_run(a, s, fix, e);
}

int cmd_image_check(int argc, char **argv)
{
    return image_run(IMAGE_CHECK, argc, argv, 1, 1, image_check);
}

int cmd_image_repair(int argc, char **argv)
{
    return image_run(IMAGE_REPAIR, argc, argv, 1, 1, image_check);
}
