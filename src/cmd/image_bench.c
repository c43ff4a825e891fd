/*
 * image_bench.c: `ruche image bench`.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"
#include "image/bench.h"

static int image_bench_cache(const char *mode, enum blk_cache *cache, struct err *e)
{
    static const char *const modes[] = {
        [BLK_CACHE_WRITEBACK] = "writeback", [BLK_CACHE_WRITETHROUGH] = "writethrough",
        [BLK_CACHE_NONE] = "none",           [BLK_CACHE_DIRECTSYNC] = "directsync",
        [BLK_CACHE_UNSAFE] = "unsafe",
    };

    *cache = BLK_CACHE_WRITEBACK;
    for (size_t i = 0; mode && i < ARRAY_SIZE(modes); i++)
        if (!strcmp(modes[i], mode)) {
            *cache = (enum blk_cache)i;
            return 0;
        }
    return mode ? err_set(e, EINVAL, "-t %s: writeback, writethrough, none, directsync or unsafe",
                          mode)
                : 0;
}

static void image_bench_tell(const struct image_args *a, const struct bench_opts *o,
                             const struct bench_result *r)
{
    double wall = (double)r->wall_ns / 1e9, cpu = (double)r->cpu_ns / 1e9;
    double count = (double)o->count;

    if (a->json) {
        image_print_json(json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "seconds", wall, "cpu-seconds",
                                   cpu, "requests-per-second", count / wall,
                                   "requests-per-cpu-second", cpu > 0 ? count / cpu : 0.0,
                                   "bytes-per-second", count * (double)o->size / wall,
                                   "slowest-seconds", (double)r->slowest_ns / 1e9));
        return;
    }
    printf("Run completed in %.3f seconds.\n", wall);
    printf("%.0f requests/s, %.1f MiB/s, %.0f requests per CPU second, slowest %.3f ms\n",
           count / wall, count * (double)o->size / wall / MIB, cpu > 0 ? count / cpu : 0.0,
           (double)r->slowest_ns / 1e6);
}

static int image_bench(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts d = { .path = a->operands[0],
                          .format = a->format,
                          .readonly = !a->write,
                          .share = a->share && !a->write,
                          .no_uring = a->aio && strcmp(a->aio, "uring") &&
                                      strcmp(a->aio, "io_uring") && strcmp(a->aio, "native") };
    struct bench_opts o = { .loop = s->loop,
                            .count = a->count,
                            .size = a->size,
                            .step = a->step ? a->step : a->size,
                            .off = a->offset,
                            .depth = (unsigned)min_u64(a->depth, BENCH_DEPTH_MAX + 1),
                            .flush = a->flush,
                            .pattern = (uint8_t)a->pattern,
                            .write = a->write,
                            .random = a->random };
    struct bench_result r;
    struct blk *b = NULL;

    if (!image_bench_cache(a->cache, &d.cache, e))
        b = image_session_disk(s, &d, e);
    if (!b)
        return 0;
    if (!a->json && !a->quiet)
        printf("Sending %llu %s requests, %llu bytes each, %u in parallel (starting at offset "
               "%llu, step "
               "size %llu)\n",
               (unsigned long long)o.count, o.write ? "write" : "read", (unsigned long long)o.size,
               o.depth, (unsigned long long)o.off, (unsigned long long)o.step);
    if (!bench_disk(b, &o, &r, e))
        image_bench_tell(a, &o, &r);
    return 0;
}

int cmd_image_bench(int argc, char **argv)
{
    return image_run(IMAGE_BENCH, argc, argv, 1, 1, image_bench);
}
