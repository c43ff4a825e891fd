#include "image/bench.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct bench;
struct bench_slot {
    struct bench *b;
    struct blk_req req;
    struct iovec iov;
    uint64_t started_ns;
};

struct bench {
    struct blk *disk;
    const struct bench_opts *o;
    struct bench_result *r;
    uint64_t sent, ended, pos, seed;
    unsigned busy;
    int err;
    struct bench_slot slot[BENCH_DEPTH_MAX];
};

static uint64_t bench_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The next place; back to the start where the disk ends. */
static uint64_t bench_next(struct bench *b)
{
    const struct bench_opts *o = b->o;
    uint64_t off = b->pos;

    if (o->random) {
        b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
        return (b->seed >> 16) % (b->disk->size / o->size) * o->size;
    }
    if (off > b->disk->size - o->size)
        off = min_u64(o->off, b->disk->size - o->size);
    b->pos = off + o->step;
    return off;
}

static void bench_done(struct blk_req *r, int err);

/* Sends one more, of a batch that blk_commit() ends. */
static void bench_send(struct bench *b, struct bench_slot *s)
{
    const struct bench_opts *o = b->o;
    bool flush = o->write && o->flush && b->sent && b->sent % (o->flush + 1) == o->flush;

    s->req = (struct blk_req){ .op = flush      ? BLK_FLUSH
                                     : o->write ? BLK_WRITE
                                                : BLK_READ,
                               .flags = BLK_F_MORE,
                               .done = bench_done };
    if (!flush) {
        s->req.off = bench_next(b);
        s->req.len = o->size;
        s->req.iov = &s->iov;
        s->req.niov = 1;
    }
    s->started_ns = util_monotonic_ns();
    b->sent++;
    b->busy++;
    blk_submit(b->disk, &s->req);
}

static void bench_done(struct blk_req *r, int err)
{
    struct bench_slot *s = container_of(r, struct bench_slot, req);
    struct bench *b = s->b;
    uint64_t took = util_monotonic_ns() - s->started_ns;

    b->busy--;
    b->r->slowest_ns = max_u64(b->r->slowest_ns, took);
    if (r->op != BLK_FLUSH)
        b->ended++;
    if (err && !b->err)
        b->err = err;
    if (!b->err && b->ended + b->busy < b->o->count)
        bench_send(b, s);
}

static void bench_run(struct bench *b)
{
    uint64_t wall = util_monotonic_ns(), cpu = bench_cpu_ns();

    for (unsigned i = 0; i < b->o->depth && i < b->o->count; i++)
        bench_send(b, &b->slot[i]);
    blk_commit(b->disk);
    while (b->busy) {
        loop_poll(b->o->loop, -1);
        blk_commit(b->disk);
    }
    b->r->wall_ns = util_monotonic_ns() - wall;
    b->r->cpu_ns = bench_cpu_ns() - cpu;
}

static int bench_check(const struct blk *b, const struct bench_opts *o, struct err *e)
{
    if (!o->depth || o->depth > BENCH_DEPTH_MAX)
        return err_set(e, EINVAL, "from 1 to %d requests at a time", BENCH_DEPTH_MAX);
    if (!o->count)
        return err_set(e, EINVAL, "at least one request");
    if (!o->size || o->size % BLK_SECTOR || o->size > b->size || o->size > 64 * MIB)
        return err_set(e, EINVAL,
                       "a request's size is a multiple of 512, no larger than the disk nor "
                       "64M");
    if (o->off % BLK_SECTOR || o->step % BLK_SECTOR)
        return err_set(e, EINVAL, "offset and step are multiples of 512");
    return 0;
}

int bench_disk(struct blk *disk, const struct bench_opts *o, struct bench_result *r, struct err *e)
{
    struct bench *b;
    uint8_t *memory;

    *r = (struct bench_result){ 0 };
    if (bench_check(disk, o, e))
        return -EINVAL;
    b = calloc(1, sizeof(*b));
    memory = aligned_alloc(PAGE_SIZE, align_up(o->size * o->depth, PAGE_SIZE));
    if (b && memory) {
        memset(memory, o->pattern, o->size * o->depth);
        b->disk = disk;
        b->o = o;
        b->r = r;
        b->pos = o->off;
        for (unsigned i = 0; i < o->depth; i++) {
            b->slot[i].b = b;
            b->slot[i].iov = (struct iovec){ memory + i * o->size, o->size };
        }
        bench_run(b);
        if (b->err)
            err_set(e, -b->err, "disk '%s': a request failed: %s", disk->path, strerror(-b->err));
    } else {
        err_oom(e);
    }
    free(memory);
    free(b);
    return e->code ? -e->code : 0;
}
