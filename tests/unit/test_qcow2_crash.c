/*
 * Power cuts under a qcow2 image. A guest writes, flushes and discards at random; everything that reaches the file
 * is written down. Then the file is put together as a cut at some moment may leave it (of what was not flushed any
 * part may be missing), and has to be free of corruption, with every flushed write in it.
 *
 * usage: test_qcow2_crash [--soak MINUTES [SEED]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "block/formats.h"
#include "block/qcow2_bitmap.h"
#include "memblk.h"

enum {
    SECTOR = 512,
    DISK = 3 * MIB,
    SECTORS = DISK / SECTOR,
    OPS = 260,
    DEPTH = 8,
    OP_MAX = 96 * 1024,
    NEVER = INT32_MAX,
};

enum kind { K_WRITE, K_ZERO, K_DISCARD, K_FLUSH };

/* What the guest asked for; the version of what it wrote is its number plus one. */
struct op {
    enum kind kind;
    uint32_t first, n; /* sectors */
    bool fua;
    int submitted, done; /* events of the file by then; NEVER */
    int finished_as;     /* the order of completions */
    int safe;            /* event by which a flush had made it safe; NEVER */
};

struct job {
    struct blk_req req;
    struct iovec iov;
    struct run *run;
    struct op *op;
    uint8_t *buf;
    bool busy;
};

struct run {
    char dir[64], path[96], base[96];
    const char *const *options;
    bool backing, bitmaps;
    uint64_t rng;
    struct memblk *m;
    struct blk *b;
    struct op ops[OPS];
    int n, completions;
    struct job jobs[DEPTH];
    unsigned cuts, judged;
};

static uint64_t rnd(struct run *r)
{
    r->rng ^= r->rng << 13;
    r->rng ^= r->rng >> 7;
    r->rng ^= r->rng << 17;
    return r->rng;
}

static void fill_sector(uint8_t *p, uint32_t sector, uint32_t version)
{
    sector ^= 0xa5a5a5a5; /* never zeros */
    for (int i = 0; i < SECTOR; i += 8) {
        memcpy(p + i, &sector, 4);
        memcpy(p + i + 4, &version, 4);
    }
}

/* The version of a sector's content: -1 zeros, -2 nonsense. */
static int64_t version_of(const uint8_t *p, uint32_t sector)
{
    static const uint8_t zeros[SECTOR];
    uint8_t want[SECTOR];
    uint32_t version;

    if (!memcmp(p, zeros, SECTOR))
        return -1;
    memcpy(&version, p + 4, 4);
    fill_sector(want, sector, version);
    return memcmp(p, want, SECTOR) ? -2 : (int64_t)version;
}

static void job_done(struct blk_req *req, int err)
{
    struct job *j = container_of(req, struct job, req);
    struct run *r = j->run;

    j->busy = false;
    if (err) /* never done, as far as the guest can rely on it */
        return;
    j->op->done = (int)memblk_events(r->m);
    j->op->finished_as = r->completions++;
    if (j->op->fua)
        j->op->safe = j->op->done;
    if (j->op->kind != K_FLUSH)
        return;
    for (int i = 0; i < r->n; i++) /* what had been done when the flush was asked for */
        if (r->ops[i].done != NEVER && r->ops[i].finished_as < (int)j->op->first &&
            r->ops[i].safe == NEVER)
            r->ops[i].safe = j->op->done;
}

static bool in_use(const struct run *r, const struct op *op)
{
    for (int i = 0; i < DEPTH; i++)
        if (r->jobs[i].busy && r->jobs[i].op->kind != K_FLUSH &&
            op->first < r->jobs[i].op->first + r->jobs[i].op->n &&
            r->jobs[i].op->first < op->first + op->n)
            return true;
    return false;
}

static void choose(struct run *r, struct op *op)
{
    unsigned what = (unsigned)(rnd(r) % 100);

    *op = (struct op){ .done = NEVER, .safe = NEVER };
    op->kind = what < 62 ? K_WRITE : what < 74 ? K_ZERO : what < 88 ? K_DISCARD : K_FLUSH;
    op->n = (uint32_t)(1 + rnd(r) % (what % 4 ? 24 : OP_MAX / SECTOR));
    op->first = (uint32_t)(rnd(r) % (SECTORS - op->n));
    if (rnd(r) % 2) /* places that are written again and again */
        op->first %= 256;
    op->fua = op->kind == K_WRITE && !(rnd(r) % 12);
}

static void start(struct run *r, struct job *j, struct op *op)
{
    static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE_ZEROES, BLK_DISCARD, BLK_FLUSH };

    j->busy = true;
    j->op = op;
    j->run = r;
    j->req = (struct blk_req){ .op = ops[op->kind],
                               .flags = (op->fua ? BLK_F_FUA : 0u) |
                                        (op->kind == K_ZERO && rnd(r) % 2 ? BLK_F_UNMAP : 0u),
                               .off = (uint64_t)op->first * SECTOR,
                               .len = (uint64_t)op->n * SECTOR,
                               .done = job_done };
    if (op->kind == K_WRITE) {
        for (uint32_t i = 0; i < op->n; i++)
            fill_sector(j->buf + i * SECTOR, op->first + i, (uint32_t)(op - r->ops) + 1);
        j->iov = (struct iovec){ j->buf, op->n * SECTOR };
        j->req.iov = &j->iov;
        j->req.niov = 1;
    } else if (op->kind == K_FLUSH) {
        j->req.off = j->req.len = 0;
        op->first = (uint32_t)r->completions; /* of a flush: how much had been done before */
        op->n = 0;
    }
    op->submitted = (int)memblk_events(r->m);
    blk_submit(r->b, &j->req);
}

/* Guest load from here to the end of r->ops, or up to `until`. */
static void load(struct run *r, int until)
{
    while (r->n < until) {
        struct job *j = &r->jobs[rnd(r) % DEPTH];
        struct op *op = &r->ops[r->n];

        while (j->busy)
            blk_wait(r->b);
        choose(r, op);
        while (in_use(r, op))
            blk_wait(r->b);
        r->n++;
        start(r, j, op);
    }
    blk_drain(r->b);
}

/* --- judging --- */

/* content: of the disk at event `at`. */
static bool content_allowed(const struct run *r, const uint8_t *content, int at, char *why,
                            size_t len)
{
    int32_t *lowest = calloc(SECTORS, sizeof(*lowest)); /* version that must be there at least */
    bool *zero = malloc(SECTORS), ok = true;

    for (uint32_t s = 0; s < SECTORS; s++)
        zero[s] = !r->backing;
    for (int i = 0; i < r->n; i++) {
        const struct op *op = &r->ops[i];

        for (uint32_t s = op->first;
             op->kind != K_FLUSH && op->submitted <= at && s < op->first + op->n; s++) {
            if (op->kind == K_DISCARD) {
                zero[s] = true;
            } else if (op->safe <= at) {
                lowest[s] = i + 1;
                zero[s] = op->kind == K_ZERO;
            } else if (op->kind == K_ZERO) {
                zero[s] = true;
            }
        }
    }
    for (uint32_t s = 0; ok && s < SECTORS; s++) {
        int64_t v = version_of(content + (uint64_t)s * SECTOR, s);
        const struct op *op = v > 0 && v <= r->n ? &r->ops[v - 1] : NULL;

        if (v == -1)
            ok = zero[s];
        else if (!v)
            ok = r->backing && !lowest[s];
        else
            ok = op && v >= lowest[s] && op->kind == K_WRITE && op->submitted <= at &&
                 s >= op->first && s < op->first + op->n;
        if (!ok)
            snprintf(why, len, "sector %u has version %lld, at least %d is safe, zeros %s", s,
                     (long long)v, lowest[s], zero[s] ? "allowed" : "not allowed");
    }
    free(lowest);
    free(zero);
    return ok;
}

static void say(void *opaque, const char *line)
{
    (void)opaque;
    if (!strncmp(line, "ERROR", 5)) /* leaks are allowed */
        fprintf(stderr, "%s\n", line);
}

/* A bitmap says that it is not to be trusted, or has everything that was written. */
static bool bitmaps_honest(const struct run *r, struct blk *b, int at)
{
    struct qcow2_bitmaps list;
    bool ok = !qcow2_bitmap_dir_load(qcow2_of(b), &list);

    for (uint32_t i = 0; ok && i < list.n; i++) {
        struct qcow2_bitmap *m = &list.v[i];

        if (m->flags & QCOW2_BITMAP_IN_USE)
            continue;
        ok = qcow2_bitmap_sound(qcow2_of(b), m) && !qcow2_bitmap_load(qcow2_of(b), m);
        for (int k = 0; ok && k < r->n; k++)
            for (uint32_t s = r->ops[k].first;
                 ok && r->ops[k].kind != K_FLUSH && r->ops[k].submitted <= at &&
                 s < r->ops[k].first + r->ops[k].n;
                 s++)
                ok = bitmap_test(m->bits, (uint64_t)s * SECTOR >> m->grain_bits);
    }
    if (ok)
        qcow2_bitmap_dir_unload(&list);
    return ok;
}

static bool check_is_clean(struct blk *b, char *why, size_t len)
{
    struct blk_check c = { .say = say };
    struct err e = { 0 };

    if (b->ops->check(b, 0, &c, &e)) {
        snprintf(why, len, "%s", e.msg);
        return false;
    }
    if (c.corruptions || c.check_errors)
        snprintf(why, len, "%llu corruptions",
                 (unsigned long long)(c.corruptions + c.check_errors));
    return !c.corruptions && !c.check_errors;
}

static bool qemu_finds_sound(const struct run *r, const struct memblk *m)
{
    char command[256], path[128];
    int rc;

    snprintf(path, sizeof(path), "%s/cut", r->dir);
    memblk_save(m, path);
    snprintf(command, sizeof(command), "qemu-img check %s >/dev/null 2>&1", path);
    rc = memblk_shell(command);
    unlink(path);
    return rc == 0 || rc == 3; /* leaks */
}

static void judge(struct run *r, struct memblk *m, int at, bool with_qemu)
{
    struct blk_opts o = { .path = r->path, .readonly = true };
    uint8_t *content = malloc(DISK);
    char why[600] = "";
    struct err e = { 0 };
    struct blk *b = memblk_open_image(m, &blk_qcow2_ops, &o, &e);
    bool ok = b != NULL;

    if (!ok)
        snprintf(why, sizeof(why), "%s", e.msg);
    ok = ok && check_is_clean(b, why, sizeof(why));
    if (ok && blk_read_sync(b, 0, content, DISK)) {
        ok = false;
        snprintf(why, sizeof(why), "it cannot be read");
    }
    ok = ok && content_allowed(r, content, at, why, sizeof(why));
    if (ok && !bitmaps_honest(r, b, at)) {
        ok = false;
        snprintf(why, sizeof(why), "a bitmap lies");
    }
    if (ok && with_qemu && !qemu_finds_sound(r, m)) {
        ok = false;
        snprintf(why, sizeof(why), "qemu-img check says that it is damaged");
    }
    blk_close(b);
    free(content);
    r->cuts++;
    r->judged += with_qemu;
    if (!ok) {
        memblk_save(m, "/tmp/ruche-qcow2-crash.qcow2");
        fail_msg("cut at event %d of %u: %s (kept as /tmp/ruche-qcow2-crash.qcow2)", at,
                 memblk_events(r->m), why);
    }
}

static void cut_everywhere(struct run *r, unsigned cuts, unsigned qemu_every)
{
    unsigned events = memblk_events(r->m);
    bool has_qemu = !access("/usr/bin/qemu-img", X_OK);

    for (unsigned i = 0; i < cuts; i++) {
        unsigned at = (unsigned)((uint64_t)i * (events + 1) / cuts);
        struct memblk *cut = memblk_cut(r->m, at, rnd(r));

        judge(r, cut, (int)at, has_qemu && qemu_every && i % qemu_every == qemu_every / 2);
        memblk_destroy(cut);
    }
}

/* --- the image --- */

static void make_image(struct run *r)
{
    struct blk_create_opts o = {
        .path = r->path, .format = "qcow2", .size = DISK, .options = r->options
    };
    struct blk_opts oo = { .path = r->path };
    struct err e = { 0 };

    if (r->backing) {
        FILE *f = fopen(r->base, "we");
        uint8_t buf[SECTOR];

        for (uint32_t s = 0; s < SECTORS; s++) {
            fill_sector(buf, s, 0);
            fwrite(buf, 1, SECTOR, f);
        }
        fclose(f);
        o.backing = r->base;
        o.backing_format = "raw";
    }
    if (blk_create(&o, &e))
        fail_msg("%s", e.msg);
    r->m = memblk_load(r->path);
    memblk_seed(r->m, rnd(r) | 1);
    r->b = memblk_open_image(r->m, &blk_qcow2_ops, &oo, &e);
    if (!r->b)
        fail_msg("%s", e.msg);
    for (unsigned i = 0; r->bitmaps && i < 2; i++) {
        struct blk_bitmap bm = { .name = i ? "coarse" : "fine", .granularity = i ? 0 : SECTOR };

        if (r->b->ops->bitmap(r->b, &bm, &e))
            fail_msg("%s", e.msg);
    }
}

static struct run *begin(const char *const *options, bool backing, uint64_t seed)
{
    struct run *r = calloc(1, sizeof(*r));

    r->rng = seed * 0x9e3779b97f4a7c15ull | 1;
    r->options = options;
    r->backing = backing;
    r->bitmaps = seed % 2 && !(options[0] && options[1] && strstr(options[1], "0.10"));
    snprintf(r->dir, sizeof(r->dir), "/tmp/ruche-test-crash-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->path, sizeof(r->path), "%s/disk", r->dir);
    snprintf(r->base, sizeof(r->base), "%s/base", r->dir);
    for (int i = 0; i < DEPTH; i++)
        r->jobs[i].buf = malloc(OP_MAX);
    make_image(r);
    return r;
}

static unsigned end(struct run *r)
{
    unsigned cuts = r->cuts;

    blk_close(r->b);
    memblk_destroy(r->m);
    unlink(r->path);
    unlink(r->base);
    rmdir(r->dir);
    for (int i = 0; i < DEPTH; i++)
        free(r->jobs[i].buf);
    free(r);
    return cuts;
}

static void snap(struct run *r, enum blk_snap what)
{
    struct err e = { 0 };

    if (r->b->ops->snap(r->b, what, "s", &e))
        fail_msg("%s", e.msg);
}

/* A guest's life: load, a snapshot, more load, the snapshot goes, more load, the end. */
static unsigned crash(const char *const *options, bool backing, uint64_t seed, bool snapshots,
                      unsigned cuts, unsigned qemu_every)
{
    struct run *r = begin(options, backing, seed);

    memblk_record(r->m);
    load(r, OPS / 3);
    if (snapshots)
        snap(r, BLK_SNAP_CREATE);
    load(r, 2 * OPS / 3);
    if (snapshots)
        snap(r, BLK_SNAP_DELETE);
    load(r, OPS);
    blk_close(r->b);
    r->b = NULL;
    cut_everywhere(r, cuts, qemu_every);
    return end(r);
}

/* --- the tests --- */

static const char *const sets[][4] = {
    { NULL },
    { "cluster_size=4K", NULL },
    { "cluster_size=512", "refcount_bits=64", NULL },
    { "cluster_size=16K", "extended_l2=on", NULL },
    { "cluster_size=1K", "compat=0.10", NULL },
    { "cluster_size=2K", "refcount_bits=8", NULL },
};

static void test_cuts(void **ctx)
{
    unsigned cuts = 0;

    (void)ctx;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(sets); i++)
        cuts += crash(sets[i / 2], i % 2, i + 1, i % 3 == 1, 200, 50);
    print_message("%u cuts survived\n", cuts);
    assert_true(cuts >= 2000);
}

/* The host's disk fails now and then, or is full; what was done and flushed all the same is there. */
static void test_errors(void **ctx)
{
    (void)ctx;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct run *r = begin(sets[seed % ARRAY_SIZE(sets)], seed & 1, seed);

        memblk_record(r->m);
        for (int until = OPS / 8; until <= OPS; until += OPS / 8) {
            memblk_fail(r->m, (unsigned)(1 + rnd(r) % 60), rnd(r) % 2 ? -EIO : -ENOSPC,
                        (unsigned)(rnd(r) % 6));
            load(r, until);
        }
        memblk_fail(r->m, 0, 0, 0);
        blk_close(r->b);
        r->b = NULL;
        cut_everywhere(r, 20, 0);
        end(r);
    }
}

static int soak(unsigned minutes, uint64_t seed)
{
    uint64_t until = util_monotonic_ns() + minutes * 60000000000ull;
    unsigned long long cuts = 0;

    for (; util_monotonic_ns() < until; seed++)
        cuts += crash(sets[seed % ARRAY_SIZE(sets)], seed / 7 & 1, seed, seed / 3 & 1, 400, 100);
    printf("%llu cuts survived, up to seed %llu\n", cuts, (unsigned long long)seed);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_errors),
    };

    if (argc > 2 && !strcmp(argv[1], "--soak"))
        return soak((unsigned)strtoul(argv[2], NULL, 10),
                    argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
    cmocka_set_test_filter(getenv("QCOW2_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
