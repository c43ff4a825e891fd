/* What lies between a guest's disk and its format: filter.c, throttle.c, guard.c; the bottom is a driver of ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/formats.h"
#include "block/guard.h"

enum { DISK = 1 << 20, LEN = 4096 };

struct fixture {
    char path[64];
    struct loop *loop;
    struct blk *b;
    struct blk_ops bottom; /* raw, but for submit */
    struct blk_watcher watcher;
    unsigned stuck, unstuck;
    char why[512];

    int err; /* what the bottom answers */
    unsigned n_seen;
    struct blk_req seen; /* the last one */
};

static struct fixture *fixture_of(struct blk *b)
{
    return container_of(b->ops, struct fixture, bottom);
}

static void bottom_submit(struct blk *b, struct blk_req *r)
{
    struct fixture *f = fixture_of(b);

    f->n_seen++;
    f->seen = *r;
    blk_done_later(r, f->err);
}

static void on_stuck(struct blk_watcher *w, const char *why)
{
    struct fixture *f = container_of(w, struct fixture, watcher);

    f->stuck++;
    snprintf(f->why, sizeof(f->why), "%s", why);
}

static void on_unstuck(struct blk_watcher *w)
{
    container_of(w, struct fixture, watcher)->unstuck++;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fd;

    assert_non_null(f);
    snprintf(f->path, sizeof(f->path), "/tmp/ruche-test-layers-XXXXXX");
    fd = mkstemp(f->path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK), 0);
    close(fd);
    f->loop = loop_create(NULL);
    f->watcher = (struct blk_watcher){ on_stuck, on_unstuck };
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->b);
    loop_destroy(f->loop);
    unlink(f->path);
    free(f);
    return 0;
}

static void open_disk(struct fixture *f, const struct blk_opts *with)
{
    struct blk_opts o = *with;
    struct blk *image;
    struct err e = { 0 };

    o.path = f->path;
    o.format = "raw";
    o.loop = f->loop;
    f->b = blk_open(&o, &e);
    assert_non_null(f->b);
    image = blk_image(f->b);
    f->bottom = *image->ops;
    f->bottom.submit = bottom_submit;
    image->ops = &f->bottom;
}

static void open_guarded(struct fixture *f, enum blk_on_error what)
{
    struct err e = { 0 };

    open_disk(f, &(struct blk_opts){ 0 });
    assert_int_equal(blk_guard_add(f->b, "disk", what, &f->watcher, &e), 0);
}

struct job {
    struct blk_req req;
    struct iovec iov;
    char data[LEN];
    int n_done, err;
};

static void job_done(struct blk_req *r, int err)
{
    struct job *job = container_of(r, struct job, req);

    job->n_done++;
    job->err = err;
}

static void job_start(struct fixture *f, struct job *job, enum blk_op op, int byte, unsigned flags)
{
    memset(job, 0, sizeof(*job));
    memset(job->data, byte, LEN);
    job->iov = (struct iovec){ job->data, LEN };
    job->req =
        (struct blk_req){ .op = op, .flags = flags, .len = LEN, .iov = &job->iov, .niov = 1 };
    job->req.done = job_done;
    blk_submit(f->b, &job->req);
}

static int run(struct fixture *f, enum blk_op op, int byte, unsigned flags)
{
    struct job job;

    f->n_seen = 0;
    job_start(f, &job, op, byte, flags);
    assert_int_equal(job.n_done, 0);
    while (!job.n_done)
        loop_poll(f->loop, 1000);
    return job.err;
}

/* --- filter --- */

static void test_unsafe(void **ctx)
{
    struct fixture *f = *ctx;

    open_disk(f, &(struct blk_opts){ .cache = BLK_CACHE_UNSAFE });
    assert_int_equal(run(f, BLK_FLUSH, 0, 0), 0);
    assert_int_equal(f->n_seen, 0);
    assert_int_equal(run(f, BLK_WRITE, 1, BLK_F_FUA), 0);
    assert_int_equal(f->seen.flags, 0);
}

static void test_writethrough(void **ctx)
{
    struct fixture *f = *ctx;

    open_disk(f, &(struct blk_opts){ .cache = BLK_CACHE_WRITETHROUGH });
    assert_true(f->b->write_through);
    assert_int_equal(run(f, BLK_WRITE, 0, 0), 0);
    assert_int_equal(f->seen.op, BLK_WRITE);
    assert_int_equal(f->seen.flags, BLK_F_FUA);
    assert_int_equal(run(f, BLK_FLUSH, 0, 0), 0);
    assert_int_equal(f->n_seen, 1);
}

static void test_discard_ignored(void **ctx)
{
    struct fixture *f = *ctx;

    open_disk(f, &(struct blk_opts){ .no_discard = true, .detect_zeroes = BLK_DETECT_UNMAP });
    assert_int_equal(run(f, BLK_DISCARD, 0, 0), 0);
    assert_int_equal(f->n_seen, 0);
    assert_int_equal(run(f, BLK_WRITE_ZEROES, 0, BLK_F_UNMAP), 0);
    assert_int_equal(f->seen.flags, 0);
    assert_int_equal(run(f, BLK_WRITE, 0, 0), 0); /* found out, but nothing is unmapped */
    assert_int_equal(f->seen.op, BLK_WRITE_ZEROES);
    assert_int_equal(f->seen.flags, 0);
}

static void test_detect_zeroes(void **ctx)
{
    struct fixture *f = *ctx;
    struct job job;

    open_disk(f, &(struct blk_opts){ .detect_zeroes = BLK_DETECT_UNMAP });
    assert_int_equal(run(f, BLK_WRITE, 0, BLK_F_FUA), 0);
    assert_int_equal(f->seen.op, BLK_WRITE_ZEROES);
    assert_int_equal(f->seen.flags, BLK_F_UNMAP | BLK_F_FUA);
    assert_int_equal(run(f, BLK_WRITE, 7, 0), 0);
    assert_int_equal(f->seen.op, BLK_WRITE);
    memset(&job, 0, sizeof(job)); /* only the last byte is something */
    job.data[LEN - 1] = 1;
    job.iov = (struct iovec){ job.data, LEN };
    job.req = (struct blk_req){
        .op = BLK_WRITE, .len = LEN, .iov = &job.iov, .niov = 1, .done = job_done
    };
    blk_submit(f->b, &job.req);
    blk_drain(f->b);
    assert_int_equal(f->seen.op, BLK_WRITE);
}

/* --- throttle --- */

static uint64_t timed_ns(struct fixture *f, enum blk_op op, unsigned n)
{
    uint64_t start = util_monotonic_ns();
    struct job *job = calloc(n, sizeof(*job));

    assert_non_null(job);
    for (unsigned i = 0; i < n; i++)
        job_start(f, &job[i], op, 1, 0);
    for (unsigned i = 0; i < n; i++)
        while (!job[i].n_done)
            loop_poll(f->loop, 1000);
    free(job);
    return util_monotonic_ns() - start;
}

static void test_iops(void **ctx)
{
    struct fixture *f = *ctx;

    open_disk(f, &(struct blk_opts){ .limits = { .iops = { 200 }, .burst_ms = 50 } });
    /* 10 are free, and the one that fills the bucket; the others come at one in 5 ms */
    assert_true(timed_ns(f, BLK_READ, 41) >= 145 * 1000000ull);
    run(f, BLK_FLUSH, 0, 0); /* is not counted */
}

static void test_bps_of_writes(void **ctx)
{
    struct fixture *f = *ctx;
    struct job read, write[3];

    open_disk(f, &(struct blk_opts){ .limits = { .bps = { 0, 0, LEN }, .burst_ms = 1 } });
    for (unsigned i = 0; i < 3; i++)
        job_start(f, &write[i], BLK_WRITE, 1, 0);
    job_start(f, &read, BLK_READ, 1, 0);
    while (!read.n_done) /* is not held up by the writes */
        loop_poll(f->loop, 1000);
    assert_int_equal(write[0].n_done, 1);
    assert_int_equal(write[2].n_done, 0);
    blk_drain(f->b); /* does not wait for the limit */
    assert_int_equal(write[2].n_done, 1);
    assert_int_equal(write[2].err, 0);
}

/* --- guard --- */

static void test_enospc_is_kept(void **ctx)
{
    struct fixture *f = *ctx;
    struct job first, second;

    open_guarded(f, BLK_ON_ERROR_ENOSPC);
    f->err = -ENOSPC;
    job_start(f, &first, BLK_WRITE, 1, 0);
    job_start(f, &second, BLK_WRITE_ZEROES, 1, 0);
    while (!f->stuck || f->n_seen < 2)
        loop_poll(f->loop, 1000);
    while (f->n_seen < 4) /* tried again, in vain */
        loop_poll(f->loop, 2000);
    assert_int_equal(f->stuck, 1);
    assert_non_null(strstr(f->why, "No space left"));
    assert_int_equal(first.n_done + second.n_done, 0);
    f->err = 0;
    while (!f->unstuck)
        loop_poll(f->loop, 2000);
    assert_int_equal(first.n_done + second.n_done, 2);
    assert_int_equal(first.err | second.err, 0);
    assert_int_equal(f->stuck, 1);
    f->err = -EIO; /* all else is the guest's */
    assert_int_equal(run(f, BLK_WRITE, 1, 0), -EIO);
    f->err = -ENOSPC;
    assert_int_equal(run(f, BLK_READ, 1, 0), -ENOSPC);
}

static void test_given_back(void **ctx)
{
    struct fixture *f = *ctx;
    struct job job;

    open_guarded(f, BLK_ON_ERROR_PAUSE);
    f->err = -EIO;
    job_start(f, &job, BLK_READ, 1, 0);
    while (!f->stuck)
        loop_poll(f->loop, 1000);
    blk_drain(f->b);
    assert_int_equal(job.n_done, 1);
    assert_int_equal(job.err, -ECANCELED);
    assert_int_equal(f->unstuck, 1);
    job_start(f, &job, BLK_READ, 1, 0); /* and once more */
    while (f->stuck < 2)
        loop_poll(f->loop, 1000);
    blk_drain(f->b);
}

static void test_ignored_and_reported(void **ctx)
{
    struct fixture *f = *ctx;

    open_guarded(f, BLK_ON_ERROR_IGNORE);
    f->err = -EIO;
    assert_int_equal(run(f, BLK_WRITE, 1, 0), 0);
    blk_close(f->b);
    open_guarded(f, BLK_ON_ERROR_REPORT);
    f->err = -ENOSPC;
    assert_int_equal(run(f, BLK_WRITE, 1, 0), -ENOSPC);
    assert_int_equal(f->stuck, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unsafe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writethrough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_discard_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_detect_zeroes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_iops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bps_of_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_enospc_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ignored_and_reported, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
