#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats.h"
#include "memblk.h"

enum { DISK = 6 * MIB + 512 * 37 };

struct fixture {
    char dir[64], path[96], base[96];
};

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/ruche-test-qcow2-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/disk.qcow2", f->dir);
    snprintf(f->base, sizeof(f->base), "%s/base", f->dir);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;
    char command[128];

    snprintf(command, sizeof(command), "%s/data", f->dir);
    unlink(command);
    unlink(f->path);
    unlink(f->base);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void create(struct fixture *f, uint64_t size, const char *const *options,
                   const char *backing)
{
    struct blk_create_opts o = {
        .path = f->path, .format = "qcow2", .size = size, .options = options
    };
    struct err e = { 0 };

    if (backing) {
        o.backing = "base";
        o.backing_format = backing;
    }
    if (blk_create(&o, &e))
        fail_msg("%s", e.msg);
}

static struct blk *open_disk(struct fixture *f)
{
    struct blk_opts o = { .path = f->path };
    struct err e = { 0 };
    struct blk *b = blk_open(&o, &e);

    if (!b)
        fail_msg("%s", e.msg);
    return b;
}

/* What a file of random bytes and holes is based on. */
static void make_base(struct fixture *f, uint8_t *model, uint64_t size, uint64_t seed)
{
    FILE *file = fopen(f->base, "we");

    for (uint64_t i = 0; i < size; i++)
        model[i] = i / 65536 % 3 ? (uint8_t)rnd(&seed) : 0;
    assert_int_equal(fwrite(model, 1, size, file), size);
    fclose(file);
}

struct job {
    struct blk_req req;
    struct iovec iov[3];
    uint8_t *buf;
    uint64_t off, len;
    bool busy, done;
    int err;
};

static void job_done(struct blk_req *r, int err)
{
    struct job *j = container_of(r, struct job, req);

    j->err = err;
    j->done = true;
}

static void job_start(struct blk *b, struct job *j, enum blk_op op, unsigned flags)
{
    uint64_t first = j->len / 3, second = j->len / 2 - first;

    j->done = false;
    j->busy = true;
    j->iov[0] = (struct iovec){ j->buf, first };
    j->iov[1] = (struct iovec){ j->buf + first, second };
    j->iov[2] = (struct iovec){ j->buf + first + second, j->len - first - second };
    j->req = (struct blk_req){
        .op = op, .flags = flags, .off = j->off, .len = j->len, .done = job_done
    };
    if (op == BLK_READ || op == BLK_WRITE) {
        j->req.iov = j->iov;
        j->req.niov = 3;
    }
    blk_submit(b, &j->req);
}

static void job_wait(struct blk *b, struct job *j)
{
    while (!j->done)
        blk_wait(b);
    j->busy = false;
}

enum { JOBS = 16, JOB_MAX = 400 * 1024 };

static bool overlaps(const struct job *jobs, uint64_t off, uint64_t len)
{
    for (int i = 0; i < JOBS; i++)
        if (jobs[i].busy && !jobs[i].done && off < jobs[i].off + jobs[i].len &&
            jobs[i].off < off + len)
            return true;
    return false;
}

static void check_all(struct blk *b, const uint8_t *model)
{
    uint8_t *buf = malloc(DISK);

    for (uint64_t off = 0; off < DISK; off += JOB_MAX) {
        uint64_t n = min_u64(JOB_MAX, DISK - off);

        assert_int_equal(blk_read_sync(b, off, buf, n), 0);
        for (uint64_t i = 0; i < n; i += 512)
            if (memcmp(buf + i, model + off + i, 512))
                fail_msg("sector at 0x%llx differs", (unsigned long long)(off + i));
    }
    free(buf);
}

/* Random requests, several at a time, never two at one place; the model says what has to come out. */
static void torture(struct blk *b, uint8_t *model, uint64_t seed, int rounds, unsigned extra_flags)
{
    struct job *jobs = calloc(JOBS, sizeof(*jobs));

    for (int i = 0; i < JOBS; i++)
        jobs[i].buf = malloc(JOB_MAX);
    for (int n = 0; n < rounds; n++) {
        struct job *j = &jobs[rnd(&seed) % JOBS];
        unsigned what = (unsigned)(rnd(&seed) % 100), flags = 0;

        if (j->busy)
            job_wait(b, j);
        assert_int_equal(j->err, 0);
        j->len = (1 + rnd(&seed) % (what % 5 ? 40 : JOB_MAX / 512 - 1)) * 512;
        j->off = rnd(&seed) % ((DISK - j->len) / 512 + 1) * 512;
        if (extra_flags & BLK_F_COMPRESS) {
            j->off = align_down(j->off, 65536);
            j->len = min_u64(65536, DISK - j->off);
        }
        while (overlaps(jobs, j->off, j->len))
            blk_wait(b);
        for (int i = 0; i < JOBS; i++)
            if (jobs[i].done)
                jobs[i].busy = false;
        if (overlaps(jobs, j->off, j->len))
            continue;
        if (what < 55) {
            for (uint64_t i = 0; i < j->len; i++)
                j->buf[i] = what % 2 ? (uint8_t)rnd(&seed) : (uint8_t)(seed + i / 7 % 13);
            memcpy(model + j->off, j->buf, j->len);
            flags = rnd(&seed) % 10 ? 0 : BLK_F_FUA;
            job_start(b, j, BLK_WRITE, flags | (rnd(&seed) % 2 ? extra_flags : 0));
        } else if (what < 75) {
            job_start(b, j, BLK_READ, 0);
            job_wait(b, j);
            assert_memory_equal(j->buf, model + j->off, j->len);
        } else if (what < 90) {
            memset(model + j->off, 0, j->len);
            job_start(b, j, BLK_WRITE_ZEROES, rnd(&seed) % 2 ? BLK_F_UNMAP : 0);
        } else if (what < 95) {
            uint8_t *now = malloc(j->len);

            job_start(b, j, BLK_DISCARD, 0);
            job_wait(b, j);
            assert_int_equal(blk_read_sync(b, j->off, now, j->len), 0);
            for (uint64_t i = 0; i < j->len; i += 512) { /* as it was, or zeros */
                uint8_t zeros[512] = { 0 };

                if (memcmp(now + i, model + j->off + i, 512))
                    assert_memory_equal(now + i, zeros, 512);
            }
            memcpy(model + j->off, now, j->len);
            free(now);
        } else {
            j->len = 0;
            job_start(b, j, BLK_FLUSH, 0);
        }
    }
    blk_drain(b);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].err, 0);
        free(jobs[i].buf);
    }
    free(jobs);
}

static int run_command(const char *format, const char *path)
{
    char command[8192];

    snprintf(command, sizeof(command), format, path);
    return system(command); /* a test's own command */
}

static void judge(struct fixture *f)
{
    if (access("/usr/bin/qemu-img", X_OK))
        return;
    if (run_command("qemu-img check -q %s >/dev/null 2>&1", f->path)) {
        run_command("qemu-img check %s", f->path);
        fail_msg("qemu-img check");
    }
}

static void torture_image(struct fixture *f, const char *const *options, const char *backing,
                          uint64_t seed, unsigned flags)
{
    uint8_t *model = calloc(1, DISK);
    struct blk *b;

    if (backing)
        make_base(f, model, DISK - 3 * MIB, seed | 1);
    create(f, DISK, options, backing);
    for (int i = 0; i < 3; i++) {
        b = open_disk(f);
        assert_int_equal(b->size, DISK);
        torture(b, model, seed + 77 * i + 1, 600, flags);
        check_all(b, model);
        blk_close(b);
        judge(f);
        b = open_disk(f);
        check_all(b, model);
        blk_close(b);
    }
    free(model);
}

static void test_plain(void **ctx)
{
    torture_image(*ctx, NULL, NULL, 42, 0);
}

static void test_backing(void **ctx)
{
    torture_image(*ctx, NULL, "raw", 43, 0);
}

static void test_small_clusters(void **ctx)
{
    const char *options[] = { "cluster_size=512", NULL };

    torture_image(*ctx, options, "raw", 44, 0);
}

static void test_large_clusters(void **ctx)
{
    const char *options[] = { "cluster_size=2M", "refcount_bits=1", NULL };

    torture_image(*ctx, options, "raw", 45, 0);
}

static void test_extended(void **ctx)
{
    const char *options[] = { "extended_l2=on", "cluster_size=64K", "refcount_bits=64", NULL };

    torture_image(*ctx, options, "raw", 46, 0);
}

static void test_version_2(void **ctx)
{
    const char *options[] = { "compat=0.10", "cluster_size=4K", NULL };

    torture_image(*ctx, options, NULL, 47, 0);
    torture_image(*ctx, options, "raw", 48, 0);
}

static void test_compressed(void **ctx)
{
    const char *options[] = { "compression_type=zstd", NULL };

    torture_image(*ctx, NULL, NULL, 49, BLK_F_COMPRESS);
    torture_image(*ctx, options, "raw", 50, BLK_F_COMPRESS);
}

static void test_data_file(void **ctx)
{
    char name[128]; /* qemu-img takes a relative one from where it is started */
    const char *options[] = { name, NULL }, *raw[] = { name, "data_file_raw=on", NULL };

    snprintf(name, sizeof(name), "data_file=%s/data", ((struct fixture *)*ctx)->dir);
    torture_image(*ctx, options, NULL, 51, 0);
    torture_image(*ctx, raw, NULL, 52, 0);
}

static void self_check(struct blk *b)
{
    struct blk_check c = { 0 };
    struct err e = { 0 };

    if (b->ops->check(b, 0, &c, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(c.corruptions + c.check_errors + c.leaks, 0);
}

static void snap(struct blk *b, enum blk_snap what, const char *tag)
{
    struct err e = { 0 };

    blk_drain(b);
    if (b->ops->snap(b, what, tag, &e))
        fail_msg("%s", e.msg);
    self_check(b);
}

static void reopen(struct fixture *f, struct blk **b, const uint8_t *model)
{
    check_all(*b, model);
    blk_close(*b);
    judge(f);
    *b = open_disk(f);
    check_all(*b, model);
}

static void snapshots_of(struct fixture *f, const char *const *options, const char *backing)
{
    uint8_t *model = calloc(1, DISK), *one = malloc(DISK), *two = malloc(DISK);
    struct err e = { 0 };
    struct blk *b;

    if (backing)
        make_base(f, model, DISK - MIB, 5);
    create(f, DISK, options, backing);
    b = open_disk(f);
    torture(b, model, 100, 300, 0);
    snap(b, BLK_SNAP_CREATE, "one");
    memcpy(one, model, DISK);
    reopen(f, &b, model);
    torture(b, model, 200, 300, 0);
    self_check(b);
    snap(b, BLK_SNAP_CREATE, "two");
    memcpy(two, model, DISK);
    torture(b, model, 300, 300, 0);
    reopen(f, &b, model);
    assert_int_equal(b->ops->snap(b, BLK_SNAP_CREATE, "two", &e), -EEXIST);
    assert_int_equal(b->ops->snap(b, BLK_SNAP_DELETE, "three", NULL), -ENOENT);
    snap(b, BLK_SNAP_APPLY, "one");
    memcpy(model, one, DISK);
    reopen(f, &b, model);
    torture(b, model, 400, 300, 0);
    snap(b, BLK_SNAP_DELETE, "one");
    reopen(f, &b, model);
    snap(b, BLK_SNAP_APPLY, "2");
    memcpy(model, two, DISK);
    torture(b, model, 500, 300, 0);
    reopen(f, &b, model);
    snap(b, BLK_SNAP_DELETE, "two");
    torture(b, model, 600, 300, 0);
    reopen(f, &b, model);
    blk_close(b);
    free(model);
    free(one);
    free(two);
}

static void test_snapshots(void **ctx)
{
    const char *small[] = { "cluster_size=4K", "refcount_bits=8", NULL };
    const char *extended[] = { "extended_l2=on", NULL }, *old[] = { "compat=0.10", NULL };

    snapshots_of(*ctx, NULL, NULL);
    snapshots_of(*ctx, small, "raw");
    snapshots_of(*ctx, extended, "raw");
    snapshots_of(*ctx, old, NULL);
}

static void resize(struct blk *b, uint64_t size, enum blk_prealloc mode)
{
    struct err e = { 0 };

    if (blk_resize(b, size, mode, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(b->size, size);
    self_check(b);
}

static void test_resize(void **ctx)
{
    const char *options[] = { "cluster_size=512", NULL };
    uint8_t *model = calloc(1, DISK);
    struct fixture *f = *ctx;
    struct blk *b;

    make_base(f, model, DISK, 7);
    create(f, DISK - MIB, options, "raw");
    memset(model + DISK - MIB, 0, MIB);
    b = open_disk(f);
    resize(b, DISK, BLK_PREALLOC_OFF); /* the longer base does not show */
    torture(b, model, 1, 300, 0);
    resize(b, 100 * MIB, BLK_PREALLOC_OFF); /* needs another L1 */
    resize(b, DISK, BLK_PREALLOC_OFF);
    reopen(f, &b, model);
    resize(b, MIB + 512, BLK_PREALLOC_OFF);
    resize(b, DISK, BLK_PREALLOC_OFF);
    memset(model + MIB + 512, 0, DISK - MIB - 512);
    reopen(f, &b, model);
    torture(b, model, 2, 300, 0);
    reopen(f, &b, model);
    blk_close(b);
    free(model);
}

static void test_preallocation(void **ctx)
{
    static const char *const sets[][3] = { { "preallocation=metadata", NULL },
                                           { "preallocation=falloc", "extended_l2=on" },
                                           { "preallocation=full", "cluster_size=4K" },
                                           { "preallocation=metadata", "compat=0.10" } };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        uint8_t *model = calloc(1, DISK);
        struct blk_extent x;
        struct blk *b;

        create(f, DISK, sets[i], NULL);
        judge(f);
        b = open_disk(f);
        assert_int_equal(blk_status(b, DISK / 2, 512, &x), 0);
        assert_true(x.flags & BLK_X_OFFSET);
        check_all(b, model);
        torture(b, model, i + 1, 200, 0);
        reopen(f, &b, model);
        resize(b, 2 * DISK, BLK_PREALLOC_METADATA);
        resize(b, DISK, BLK_PREALLOC_OFF);
        reopen(f, &b, model);
        blk_close(b);
        free(model);
    }
}

/* Refcounts that are wrong in every way are found and mended. */
static void test_repair(void **ctx)
{
    uint8_t *model = calloc(1, DISK);
    struct fixture *f = *ctx;
    struct blk_check c = { 0 };
    struct err e = { 0 };
    struct blk *b;
    int fd;

    create(f, DISK, NULL, NULL);
    b = open_disk(f);
    torture(b, model, 9, 300, 0);
    check_all(b, model);
    blk_close(b);
    fd = open(f->path, O_RDWR | O_CLOEXEC);
    for (int i = 3; i < 90; i += 2) {
        uint8_t count[2] = { 0, (uint8_t)(i % 3) };

        assert_int_equal(pwrite(fd, count, 2, 2 * 65536 + i * 2), 2);
    }
    close(fd);
    b = open_disk(f);
    assert_int_equal(b->ops->check(b, 0, &c, &e), 0);
    assert_true(c.corruptions && c.leaks);
    assert_int_equal(b->ops->check(b, BLK_FIX_ERRORS | BLK_FIX_LEAKS, &c, &e), 0);
    assert_true(c.corruptions_fixed);
    self_check(b);
    reopen(f, &b, model);
    torture(b, model, 10, 300, 0);
    reopen(f, &b, model);
    blk_close(b);
    free(model);
}

/* An image encrypted by qemu-img: read what qemu-io wrote, and the other way. */
static void test_luks(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_opts o = { .path = f->path, .passphrase = "wrong" };
    struct err e = { 0 };
    uint8_t *model;
    struct blk *b;

    if (access("/usr/bin/qemu-io", X_OK))
        skip();
    assert_int_equal(
        run_command("qemu-img create -q --object secret,id=s,data=secret -f qcow2 -o "
                    "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 %s 6310400",
                    f->path),
        0);
    assert_int_equal(run_command("qemu-io --object secret,id=s,data=secret --image-opts "
                                 "driver=qcow2,encrypt.key-secret=s,file.filename=%s "
                                 "-c 'write -P 90 65000 300000' >/dev/null",
                                 f->path),
                     0);
    assert_null(blk_open(&o, &e));
    assert_int_equal(e.code, EKEYREJECTED);
    model = calloc(1, DISK);
    memset(model + 65000, 90, 300000);
    o.passphrase = "secret";
    for (int i = 0; i < 2; i++) {
        b = blk_open(&o, &e);
        assert_non_null(b);
        check_all(b, model);
        torture(b, model, 11 + i, 300, 0);
        check_all(b, model);
        blk_close(b);
        assert_int_equal(
            run_command("qemu-img check -q --object secret,id=s,data=secret --image-opts "
                        "driver=qcow2,encrypt.key-secret=s,file.filename=%s",
                        f->path),
            0);
    }
    memset(model, 17, 100000);
    assert_int_equal(run_command("qemu-io --object secret,id=s,data=secret --image-opts "
                                 "driver=qcow2,encrypt.key-secret=s,file.filename=%s "
                                 "-c 'write -P 17 0 100000' >/dev/null",
                                 f->path),
                     0);
    b = blk_open(&o, &e);
    check_all(b, model);
    blk_close(b);
    free(model);
}

/* --- with QEMU's tools --- */

static bool has_qemu(void)
{
    return !access("/usr/bin/qemu-img", X_OK) && !access("/usr/bin/qemu-io", X_OK);
}

/* qemu-io does random things to the image, and the model knows them. */
static void qemu_torture(struct fixture *f, uint8_t *model, uint64_t *seed, bool compress)
{
    static const char *const verbs[] = { "write -P %u", "write -z", "write -z -u", "discard",
                                         "write -c -P %u" };
    char command[8192];
    size_t n = (size_t)snprintf(command, sizeof(command), "qemu-io -d unmap -f qcow2 %s", f->path);

    for (int i = 0; i < 40; i++) {
        unsigned verb = !i && compress ? 4 : (unsigned)(rnd(seed) % 4),
                 pattern = 1 + (unsigned)(rnd(seed) % 250);
        uint64_t len = (1 + rnd(seed) % 200) * 512, off = rnd(seed) % ((DISK - len) / 512) * 512;

        if (verb == 3 || verb == 4) { /* whole clusters, so that it is known what becomes of them */
            off = rnd(seed) % (DISK / (2 * MIB)) * (2 * MIB);
            len = 2 * MIB;
        }
        n += (size_t)snprintf(command + n, sizeof(command) - n, " -c '");
        n += (size_t)snprintf(command + n, sizeof(command) - n, verbs[verb], pattern);
        n += (size_t)snprintf(command + n, sizeof(command) - n, " %llu %llu'",
                              (unsigned long long)off, (unsigned long long)len);
        memset(model + off, verb % 4 ? 0 : (int)pattern, len);
    }
    snprintf(command + n, sizeof(command) - n, " >/dev/null");
    assert_int_equal(run_command("%s", command), 0);
}

static void qemu_compare(struct fixture *f, const uint8_t *model)
{
    char command[512];
    FILE *file = fopen(f->base, "we");

    assert_int_equal(fwrite(model, 1, DISK, file), DISK);
    fclose(file);
    snprintf(command, sizeof(command), "qemu-img compare -q -f qcow2 -F raw %s %s", f->path,
             f->base);
    assert_int_equal(run_command("%s", command), 0);
}

static void test_against_qemu(void **ctx)
{
    static const char *const options[] = {
        "cluster_size=64k",
        "cluster_size=512",
        "cluster_size=2M,refcount_bits=1",
        "cluster_size=32k,extended_l2=on",
        "compat=0.10,cluster_size=4k",
        "compression_type=zstd,lazy_refcounts=on",
        "preallocation=metadata,cluster_size=16k",
        "refcount_bits=64,cluster_size=1M",
    };
    struct fixture *f = *ctx;
    uint64_t seed = 4711;

    if (!has_qemu())
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        uint8_t *model = calloc(1, DISK);
        char command[256];
        struct blk *b;

        snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 -o %s %s %d", options[i],
                 f->path, DISK);
        assert_int_equal(run_command("%s", command), 0);
        for (int round = 0; round < 2; round++) {
            qemu_torture(f, model, &seed, !round && i != 1 && i != 6); /* onto nothing */
            b = open_disk(f);
            self_check(b);
            check_all(b, model);
            torture(b, model, rnd(&seed), 200, 0);
            if (strstr(options[i], "refcount_bits=1")) /* cannot count to two */
                assert_int_equal(b->ops->snap(b, BLK_SNAP_CREATE, "a", NULL), -EOVERFLOW);
            else
                snap(b, BLK_SNAP_CREATE, round ? "b" : "a");
            torture(b, model, rnd(&seed), 100, 0);
            blk_close(b);
            if (!strstr(options[i], "refcount_bits=1"))
                assert_int_equal(
                    run_command(round ? "qemu-img snapshot -d a %s" : "qemu-img snapshot -c q %s",
                                f->path),
                    0);
            judge(f);
            qemu_compare(f, model);
        }
        free(model);
    }
}

/* A chain of three: names relative to the image above, formats guessed or given. */
static void test_chain(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *model = calloc(1, DISK);
    char middle[128];
    struct blk_create_opts o = { .path = middle, .format = "qcow2", .backing = "base" };
    struct blk_extent x;
    struct err e = { 0 };
    struct blk *b;

    snprintf(middle, sizeof(middle), "%s/data", f->dir);
    make_base(f, model, DISK, 3);
    assert_int_equal(blk_create(&o, &e), 0);
    o = (struct blk_create_opts){ .path = f->path, .format = "qcow2", .backing = "data" };
    assert_int_equal(blk_create(&o, &e), 0);
    b = open_disk(f);
    assert_int_equal(b->size, DISK);
    check_all(b, model);
    assert_int_equal(blk_status(b, 65536, 512, &x), 0);
    assert_int_equal(x.depth, 2);
    torture(b, model, 8, 300, 0);
    check_all(b, model);
    assert_int_equal(b->ops->set_backing(b, f->path, "qcow2", &e), 0); /* itself */
    blk_close(b);
    assert_null(blk_open(&(struct blk_opts){ .path = f->path }, &e));
    assert_int_equal(e.code, ELOOP);
    free(model);
}

/* A bitmap that should record writes is marked as in use by whoever does not keep it. */
static void test_bitmaps(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk *b;

    if (!has_qemu())
        skip();
    create(f, DISK, NULL, NULL);
    assert_int_equal(run_command("qemu-img bitmap --add %s dirty", f->path), 0);
    assert_int_equal(run_command("qemu-img info %s | grep -q in-use", f->path) != 0, true);
    b = open_disk(f);
    self_check(b);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 0, MIB, 0), 0);
    snap(b, BLK_SNAP_CREATE, "s");
    blk_close(b);
    judge(f);
    assert_int_equal(run_command("qemu-img info %s | grep -q in-use", f->path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_backing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_small_clusters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_clusters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_extended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_version_2, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compressed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_data_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_snapshots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resize, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_preallocation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_luks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_against_qemu, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bitmaps, set_up, tear_down),
    };

    cmocka_set_test_filter(getenv("QCOW2_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
