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
#include <sys/wait.h>
#include <unistd.h>

#include "blkjob.h"

enum { DISK = 1 << 20 };

struct fixture {
    char dir[64], path[96];
    struct loop *loop;
    struct blk *b;
    bool no_uring, direct;
};

static void make_file(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

static struct blk *try_open(struct fixture *f, const char *path, const char *format, bool readonly,
                            struct err *e)
{
    struct blk_opts o = { .path = path,
                          .format = format,
                          .readonly = readonly,
                          .no_uring = f->no_uring,
                          .cache = f->direct ? BLK_CACHE_NONE : BLK_CACHE_WRITEBACK,
                          .loop = f->loop };

    *e = (struct err){ 0 };
    return blk_open(&o, e);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e;

    assert_non_null(f);
    f->no_uring = *ctx && strstr(*ctx, "threads");
    f->direct = *ctx && strstr(*ctx, "direct");
    snprintf(f->dir, sizeof(f->dir), "ruche-test-block-XXXXXX"); /* /tmp may not know O_DIRECT */
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/disk", f->dir);
    make_file(f->path, DISK);
    f->loop = loop_create(NULL);
    f->b = try_open(f, f->path, "raw", false, &e);
    assert_non_null(f->b);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->b);
    loop_destroy(f->loop);
    unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void test_read_write(void **ctx)
{
    struct fixture *f = *ctx;
    char out[4096], in[4096];

    assert_int_equal(f->b->size, DISK);
    for (unsigned i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 8192, out, sizeof(out), 0), 0);
    assert_int_equal(blkjob_run(f->b, BLK_READ, 8192, in, sizeof(in), 0), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, DISK - 512, out, 512, BLK_F_FUA), 0);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK - 512, in, 512, 0), 0);
    assert_memory_equal(in, out, 512);
    assert_int_equal(blkjob_run(f->b, BLK_FLUSH, 0, NULL, 0, 0), 0);
    blkjob_expect(f->b, 0, 0, 8192);
}

static void test_out_of_range(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[1024];

    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK, buf, 512, 0), -EINVAL);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK - 512, buf, 1024, 0), -EINVAL);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, UINT64_MAX - 511, buf, 1024, 0), -EINVAL);
    assert_int_equal(blkjob_run(f->b, BLK_DISCARD, 0, NULL, UINT64_MAX, 0), -EINVAL);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE_ZEROES, 1024, NULL, 0, 0), -EINVAL);
}

static void test_discard_and_zeroes(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *ones = malloc(DISK);

    assert_non_null(ones);
    memset(ones, 0xff, DISK);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, ones, DISK, 0), 0);
    assert_int_equal(blkjob_run(f->b, BLK_DISCARD, 65536, NULL, 65536, 0), 0);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE_ZEROES, 262144, NULL, 1536, 0), 0);
    assert_int_equal(
        blkjob_run(f->b, BLK_WRITE_ZEROES, 524288, NULL, 65536, BLK_F_UNMAP | BLK_F_FUA), 0);
    blkjob_expect(f->b, 65536, 0, 65536);
    blkjob_expect(f->b, 131072, 0xff, 131072);
    blkjob_expect(f->b, 262144, 0, 1536);
    blkjob_expect(f->b, 262144 + 1536, 0xff, 512);
    blkjob_expect(f->b, 524288, 0, 65536);
    free(ones);
}

/* More at once than the ring holds, all of them complete, and drain waits for all. */
static void test_many(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 1000 };
    struct blkjob *job = calloc(N, sizeof(*job));
    uint8_t *buf = calloc(N, 1024);

    assert_true(job && buf);
    for (unsigned i = 0; i < N; i++) {
        memset(buf + i * 1024, (int)i, 1024);
        blkjob_start(f->b, &job[i], BLK_WRITE, i * 1024, buf + i * 1024, 1024, 0);
    }
    blk_drain(f->b);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(job[i].n_done, 1);
        assert_int_equal(job[i].err, 0);
    }
    blkjob_expect(f->b, 777 * 1024, 777 & 0xff, 1024);
    /* drain also completes what was refused */
    blkjob_start(f->b, &job[0], BLK_READ, DISK, buf, 512, 0);
    blk_drain(f->b);
    assert_int_equal(job[0].err, -EINVAL);
    free(job);
    free(buf);
}

static void test_odd_tail(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[1024];
    struct stat st;
    struct err e;

    blk_close(f->b);
    make_file(f->path, 1000); /* a sector and a bit: two sectors */
    assert_int_equal(truncate(f->path, 1000), 0);
    f->b = try_open(f, f->path, NULL, false, &e);
    assert_non_null(f->b);
    assert_int_equal(f->b->size, 1024);
    memset(buf, 0x55, sizeof(buf));
    assert_int_equal(blkjob_run(f->b, BLK_READ, 0, buf, 1024, 0), 0);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(buf[i], 0);
    memset(buf, 0x55, sizeof(buf));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 512, buf, 512, 0), 0);
    blkjob_expect(f->b, 512, 0x55, 512);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, 1024);
}

static void test_readonly(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk *second;
    char buf[512] = "x";
    struct err e;

    blk_close(f->b);
    assert_int_equal(chmod(f->path, 0400), 0);
    f->b = try_open(f, f->path, NULL, true, &e);
    assert_non_null(f->b);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, 512, 0), -EROFS);
    assert_int_equal(blkjob_run(f->b, BLK_DISCARD, 0, NULL, 512, 0), -EROFS);
    assert_int_equal(blkjob_run(f->b, BLK_READ, 0, buf, 512, 0), 0);
    second = try_open(f, f->path, NULL, true, &e); /* readers share */
    assert_non_null(second);
    blk_close(second);
    assert_null(try_open(f, f->path, NULL, false, &e)); /* a writer does not */
}

/* Writes of parts of a block leave the rest of it, also where the host wants whole blocks. */
static void test_parts_of_blocks(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 64, LEN = 512 };
    struct blkjob job[N];
    uint8_t *buf = malloc(N * LEN + 1);

    assert_non_null(buf);
    for (unsigned i = 0; i < N; i++) { /* in no order, from odd memory */
        unsigned at = i * 37 % N;

        memset(buf + 1 + at * LEN, (int)at + 1, LEN);
        blkjob_start(f->b, &job[i], BLK_WRITE, at * LEN, buf + 1 + at * LEN, LEN,
                     i % 3 ? 0 : BLK_F_FUA);
    }
    blk_drain(f->b);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(job[i].err, 0);
        blkjob_expect(f->b, i * LEN, (int)i + 1, LEN);
    }
    memset(buf, 0xee, 3 * LEN);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, DISK - 3 * LEN, buf, 3 * LEN, 0), 0);
    blkjob_expect(f->b, DISK - 3 * LEN, 0xee, 3 * LEN);
    blkjob_expect(f->b, DISK - 5 * LEN, 0, 2 * LEN);
    free(buf);
}

/* Somebody cuts the file short under a running guest: what is gone cannot be read, the rest can. */
static void test_cut_short(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[4096];

    assert_int_equal(truncate(f->path, DISK / 2), 0);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK / 2 - 4096, buf, 4096, 0), 0);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK - 4096, buf, 4096, 0), -EIO);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, DISK - 4096, buf, 4096, 0), 0); /* grows again */
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK - 4096, buf, 4096, 0), 0);
}

/* A batch reaches the kernel with its commit. */
static void test_batch(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 40 };
    struct blkjob job[N];
    static uint8_t buf[N][512];

    for (unsigned i = 0; i < N; i++)
        blkjob_start(f->b, &job[i], BLK_READ, i * 4096, buf[i], 512, BLK_F_MORE);
    blk_commit(f->b);
    for (unsigned i = 0; i < N; i++)
        blkjob_wait(f->b, &job[i]);
    blkjob_start(f->b, &job[0], BLK_READ, 0, buf[0], 512, BLK_F_MORE);
    blk_drain(f->b); /* who drains does not wait for it */
    assert_int_equal(job[0].err, 0);
}

struct roamer {
    struct blk_req req;
    struct iovec iov;
    atomic_int n_done, err;
    bool on_loop_thread, more, at_commit;
};

static void roamer_done(struct blk_req *r, int err)
{
    struct roamer *o = container_of(r, struct roamer, req);

    o->on_loop_thread = !(r->flags & BLK_F_HERE);
    o->more = !o->on_loop_thread && (r->flags & BLK_F_MORE);
    o->at_commit = !o->on_loop_thread && (r->flags & BLK_F_AT_COMMIT);
    o->err = err;
    o->n_done++;
}

static void roamer_send(struct fixture *f, struct roamer *o, enum blk_op op, uint64_t off,
                        void *buf, uint64_t len, unsigned flags)
{
    *o = (struct roamer){ .iov = { buf, len } };
    o->req = (struct blk_req){ .op = op,
                               .off = off,
                               .len = len,
                               .flags = BLK_F_ANYWHERE | BLK_F_MORE | flags,
                               .iov = &o->iov,
                               .niov = 1,
                               .done = roamer_done };
    blk_submit(f->b, &o->req);
}

static void roamer_start(struct fixture *f, struct roamer *o, enum blk_op op, uint64_t off,
                         void *buf, uint64_t len)
{
    roamer_send(f, o, op, off, buf, len, 0);
}

/* Requests that may complete on any thread: all do, once, before the disk is at rest. */
static void test_anywhere(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 96, BIG = 128 * KIB, SMALL = 4 * KIB };
    struct roamer *o = calloc(N, sizeof(*o));
    uint8_t *buf = aligned_alloc(4096, DISK), *back = aligned_alloc(4096, DISK);

    assert_true(o && buf && back);
    for (unsigned i = 0; i < DISK; i++)
        buf[i] = (uint8_t)(i * 13 + i / 4096);
    for (unsigned round = 0; round < 8; round++) {
        unsigned n = 0;

        for (uint64_t off = 0; off < DISK / 2; off += BIG)
            roamer_start(f, &o[n++], BLK_WRITE, off, buf + off, BIG);
        for (uint64_t off = DISK / 2; off < DISK / 2 + 64 * SMALL; off += SMALL)
            roamer_start(f, &o[n++], BLK_WRITE, off, buf + off, SMALL);
        blk_commit(f->b);
        blk_drain(f->b);
        for (uint64_t off = 0; off < DISK / 2; off += BIG)
            roamer_start(f, &o[n++], BLK_READ, off, back + off, BIG);
        blk_drain(f->b);
        assert_true(n <= N);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(o[i].n_done, 1);
            assert_int_equal(o[i].err, 0);
        }
        assert_memory_equal(back, buf, DISK / 2);
    }
    roamer_start(f, &o[0], BLK_READ, DISK, buf, SMALL); /* failures are the loop thread's */
    blk_drain(f->b);
    assert_int_equal(o[0].err, -EINVAL);
    assert_true(o[0].on_loop_thread);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK / 2, back, 64 * SMALL, 0), 0);
    assert_memory_equal(back, buf + DISK / 2, 64 * SMALL);
    free(o);
    free(buf);
    free(back);
}

/* Reads that may complete at commit do so or come later, and nothing ends at commit without having asked for it. */
static void test_at_commit(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 8 };
    static uint8_t buf[N][4096];
    struct roamer o[N];

    memset(buf, 0x6b, sizeof(buf));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, sizeof(buf), 0), 0);
    for (unsigned round = 0; round < 2; round++) { /* the second one without a commit */
        memset(buf, 0, sizeof(buf));
        for (unsigned i = 0; i < N; i++)
            roamer_send(f, &o[i], BLK_READ, i * 4096ull, buf[i], 4096, i % 4 ? BLK_F_AT_COMMIT : 0);
        for (unsigned i = 0; i < N; i++)
            assert_false(o[i].n_done && o[i].at_commit);
        if (!round)
            blk_commit(f->b);
        blk_drain(f->b);
        for (unsigned i = 0; i < N; i++) {
            assert_int_equal(o[i].n_done, 1);
            assert_int_equal(o[i].err, 0);
            assert_int_equal(buf[i][4095], 0x6b);
            assert_false(o[i].at_commit && (round || !(i % 4)));
        }
    }
}

/* The last one of those that complete together elsewhere does not promise another. */
static void test_anywhere_more(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 32 };
    static uint8_t buf[N][4096];
    struct roamer o[N];
    unsigned elsewhere = 0, last = 0;

    for (unsigned i = 0; i < N; i++)
        roamer_start(f, &o[i], BLK_WRITE, i * 4096ull, buf[i], 4096);
    blk_commit(f->b);
    blk_drain(f->b);
    for (unsigned i = 0; i < N; i++) {
        elsewhere += !o[i].on_loop_thread;
        last += !o[i].on_loop_thread && !o[i].more;
    }
    assert_true(!elsewhere || last);
}

/* A guest cannot make its disk something else for the next start, unless the user has said what it is. */
static void test_probed_head(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[1024] = { 0 };
    struct err e;

    memcpy(buf, "QFI\xfb\0\0\0\3", 8);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, 1024, 0), 0); /* format=raw */
    memset(buf, 0, 8);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, 1024, 0), 0);
    blk_close(f->b);
    f->b = try_open(f, f->path, NULL, false, &e);
    assert_non_null(f->b);
    memcpy(buf, "QFI\xfb\0\0\0\3", 8);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, 1024, 0), -EPERM);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 512, buf, 1024, 0), 0);
    memset(buf, 0x55, sizeof(buf));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, 1024, BLK_F_FUA), 0);
    blkjob_expect(f->b, 0, 0x55, 1024);
}

static void expect_refusal(struct fixture *f, const char *path, const char *format, int code,
                           const char *word)
{
    struct err e;

    assert_null(try_open(f, path, format, false, &e));
    assert_int_equal(e.code, code);
    assert_non_null(strstr(e.msg, word));
    assert_non_null(strstr(e.msg, path));
}

static void test_refusals(void **ctx)
{
    struct fixture *f = *ctx;
    char path[160];
    int fd;

    snprintf(path, sizeof(path), "%s/other", f->dir);
    expect_refusal(f, path, NULL, ENOENT, "does not exist");
    expect_refusal(f, f->dir, NULL, EISDIR, "directory");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(f, path, NULL, EINVAL, "neither");
    unlink(path);
    make_file(path, 0);
    expect_refusal(f, path, NULL, EINVAL, "empty");
    make_file(path, 4096);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "QED", 4), 4);
    close(fd);
    expect_refusal(f, path, NULL, EMEDIUMTYPE, "QED");
    expect_refusal(f, path, "bogus", EINVAL, "bogus");
    if (getuid()) {
        chmod(path, 0400);
        expect_refusal(f, path, NULL, EACCES, "readonly");
    }
    unlink(path);
}

static void test_lock(void **ctx)
{
    struct fixture *f = *ctx;
    char line[32] = { 0 }, pid[32];
    int up[2], down[2];
    struct err e;
    pid_t child;

    expect_refusal(f, f->path, NULL, EAGAIN, "twice"); /* within one process */
    assert_null(try_open(f, f->path, NULL, true, &e));
    blk_close(f->b);
    f->b = NULL;
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    child = fork();
    if (!child) { /* the holder */
        struct fixture other = { .no_uring = true };

        if (try_open(&other, f->path, NULL, false, &e) && write(up[1], "+", 1) == 1 &&
            read(down[0], line, 1) == 1)
            _exit(0);
        _exit(1);
    }
    assert_int_equal(read(up[0], line, 1), 1);
    snprintf(pid, sizeof(pid), "process %d (", child);
    expect_refusal(f, f->path, NULL, EAGAIN, pid);
    assert_int_equal(write(down[1], "+", 1), 1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    f->b = try_open(f, f->path, NULL, false, &e); /* gone with its holder */
    assert_non_null(f->b);
    for (unsigned i = 0; i < 2; i++) {
        close(up[i]);
        close(down[i]);
    }
}

/* The exit status of a program that gets the disk as its last argument; 127: it is not installed. */
static int judge(struct fixture *f, const char *program, const char *a, const char *b)
{
    int status;
    pid_t child = fork();

    if (!child) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        dup2(null, 1);
        dup2(null, 2);
        execlp(program, program, a, b, f->path, NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

/* QEMU's programs cannot open what we write, nor we what they do, and the message names them. */
static void test_lock_qemu(void **ctx)
{
    struct fixture *f = *ctx;
    int in[2], out[2];
    char line[64];
    struct err e;
    pid_t child;

    if (judge(f, "qemu-img", "info", "-U") == 127)
        skip();
    assert_int_equal(judge(f, "qemu-img", "info", "-U"), 0);
    assert_int_not_equal(judge(f, "qemu-img", "info", "-q"), 0);
    assert_int_not_equal(judge(f, "qemu-io", "-c", "read 0 512"), 0);
    blk_close(f->b);
    f->b = NULL;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    child = fork();
    if (!child) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execlp("qemu-io", "qemu-io", "-fraw", f->path, NULL);
        _exit(127);
    }
    assert_true(read(out[0], line, sizeof(line)) > 0); /* its prompt */
    expect_refusal(f, f->path, NULL, EAGAIN, "(qemu-io)");
    close(in[1]); /* ends it */
    assert_int_equal(waitpid(child, NULL, 0), child);
    f->b = try_open(f, f->path, NULL, false, &e);
    assert_non_null(f->b);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

#define MODE(test, mode) cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, mode)
#define ALL(test)                                                                                  \
    MODE(test, NULL), MODE(test, "threads"), MODE(test, "direct"), MODE(test, "direct threads")

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(test_read_write),         ALL(test_out_of_range),
        ALL(test_discard_and_zeroes), ALL(test_many),
        ALL(test_odd_tail),           ALL(test_readonly),
        ALL(test_refusals),           ALL(test_parts_of_blocks),
        ALL(test_cut_short),          ALL(test_batch),
        ALL(test_probed_head),        ALL(test_lock),
        ALL(test_anywhere),           ALL(test_anywhere_more),
        ALL(test_at_commit),          MODE(test_lock_qemu, NULL),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
