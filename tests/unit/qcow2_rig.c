/*
 * qcow2_rig.c: see qcow2_rig.h.
 */
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

#include "memblk.h"
#include "qcow2_rig.h"

uint64_t rig_rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

int rig_set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/ruche-test-qcow2-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/disk.qcow2", f->dir);
    snprintf(f->base, sizeof(f->base), "%s/base", f->dir);
    *ctx = f;
    return 0;
}

int rig_tear_down(void **ctx)
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

void rig_create(struct fixture *f, uint64_t size, const char *const *options, const char *backing)
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

struct blk *rig_open_disk(struct fixture *f)
{
    struct blk_opts o = { .path = f->path };
    struct err e = { 0 };
    struct blk *b = blk_open(&o, &e);

    if (!b)
        fail_msg("%s", e.msg);
    return b;
}

/* What a file of random bytes and holes is based on. */
void rig_make_base(struct fixture *f, uint8_t *model, uint64_t size, uint64_t seed)
{
    FILE *file = fopen(f->base, "we");

    for (uint64_t i = 0; i < size; i++)
        model[i] = i / 65536 % 3 ? (uint8_t)rig_rnd(&seed) : 0;
    assert_int_equal(fwrite(model, 1, size, file), size);
    fclose(file);
}

struct job {
    struct blk_req req;
    struct iovec iov[3];
    uint8_t *buf;
    uint64_t off, len;
    bool busy;
    atomic_bool done; /* behind err */
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

void rig_check_all(struct blk *b, const uint8_t *model)
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

/* A place that no other request is at; false: it was not to be had this time. */
static bool torture_place(struct blk *b, struct job *jobs, struct job *j, uint64_t *seed,
                          bool large, bool clusters)
{
    j->len = (1 + rig_rnd(seed) % (large ? JOB_MAX / 512 - 1 : 40)) * 512;
    j->off = rig_rnd(seed) % ((DISK - j->len) / 512 + 1) * 512;
    if (clusters) {
        j->off = align_down(j->off, 65536);
        j->len = min_u64(65536, DISK - j->off);
    }
    while (overlaps(jobs, j->off, j->len))
        blk_wait(b);
    for (int i = 0; i < JOBS; i++)
        if (jobs[i].done)
            jobs[i].busy = false;
    return !overlaps(jobs, j->off, j->len);
}

/* Afterwards each sector is as it was, or zeros. */
static void torture_discard(struct blk *b, struct job *j, uint8_t *model)
{
    static const uint8_t zeros[512];
    uint8_t *now = malloc(j->len);

    job_start(b, j, BLK_DISCARD, 0);
    job_wait(b, j);
    assert_int_equal(blk_read_sync(b, j->off, now, j->len), 0);
    for (uint64_t i = 0; i < j->len; i += 512)
        if (memcmp(now + i, model + j->off + i, 512))
            assert_memory_equal(now + i, zeros, 512);
    memcpy(model + j->off, now, j->len);
    free(now);
}

static void torture_one(struct blk *b, struct job *j, uint8_t *model, uint64_t *seed, unsigned what,
                        unsigned write_flags)
{
    unsigned anywhere = write_flags & (BLK_F_ANYWHERE | BLK_F_AT_COMMIT | BLK_F_MORE);

    if (what < 55) {
        for (uint64_t i = 0; i < j->len; i++)
            j->buf[i] = what % 2 ? (uint8_t)rig_rnd(seed) : (uint8_t)(*seed + i / 7 % 13);
        memcpy(model + j->off, j->buf, j->len);
        job_start(b, j, BLK_WRITE,
                  (rig_rnd(seed) % 10 ? 0 : BLK_F_FUA) |
                      (rig_rnd(seed) % 2 ? write_flags : anywhere));
    } else if (what < 75) {
        job_start(b, j, BLK_READ, anywhere);
        blk_commit(b);
        job_wait(b, j);
        assert_memory_equal(j->buf, model + j->off, j->len);
    } else if (what < 90) {
        memset(model + j->off, 0, j->len);
        job_start(b, j, BLK_WRITE_ZEROES, (rig_rnd(seed) % 2 ? BLK_F_UNMAP : 0) | anywhere);
    } else if (what < 95) {
        torture_discard(b, j, model);
    } else {
        j->len = 0;
        job_start(b, j, BLK_FLUSH, anywhere);
    }
}

/* Random requests, several at a time, never two at one place; the model says what has to come out. */
void rig_torture(struct blk *b, uint8_t *model, uint64_t seed, int rounds, unsigned write_flags)
{
    struct job *jobs = calloc(JOBS, sizeof(*jobs));

    for (int i = 0; i < JOBS; i++)
        jobs[i].buf = malloc(JOB_MAX);
    for (int n = 0; n < rounds; n++) {
        struct job *j = &jobs[rig_rnd(&seed) % JOBS];
        unsigned what = (unsigned)(rig_rnd(&seed) % 100);

        if (j->busy)
            job_wait(b, j);
        assert_int_equal(j->err, 0);
        if (torture_place(b, jobs, j, &seed, what % 5 == 0, write_flags & BLK_F_COMPRESS))
            torture_one(b, j, model, &seed, what, write_flags);
    }
    blk_drain(b);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].err, 0);
        free(jobs[i].buf);
    }
    free(jobs);
}

int rig_run_command(const char *format, const char *path)
{
    char command[8192];

    snprintf(command, sizeof(command), format, path);
    return memblk_shell(command);
}

void rig_judge(struct fixture *f)
{
    if (access("/usr/bin/qemu-img", X_OK))
        return;
    if (rig_run_command("qemu-img check -q %s >/dev/null 2>&1", f->path)) {
        rig_run_command("qemu-img check %s", f->path);
        fail_msg("qemu-img check");
    }
}

void rig_self_check(struct blk *b)
{
    struct blk_check c = { 0 };
    struct err e = { 0 };

    if (b->ops->check(b, 0, &c, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(c.corruptions + c.check_errors + c.leaks, 0);
}

void rig_snap(struct blk *b, enum blk_snap what, const char *tag)
{
    struct err e = { 0 };

    blk_drain(b);
    if (b->ops->snap(b, what, tag, &e))
        fail_msg("%s", e.msg);
    rig_self_check(b);
}

void rig_reopen(struct fixture *f, struct blk **b, const uint8_t *model)
{
    rig_check_all(*b, model);
    blk_close(*b);
    rig_judge(f);
    *b = rig_open_disk(f);
    rig_check_all(*b, model);
}
