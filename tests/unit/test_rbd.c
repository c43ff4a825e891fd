/* rbd.c against libraries that only look like Ceph's (fake_rados.c, fake_rbd.c): names, requests, completions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blkjob.h"

enum { DISK = 1 << 20, MANY = 64 };

struct fixture {
    char dir[64], file[96];
    struct loop *loop;
    struct blk *b;
};

static struct blk *try_open(struct fixture *f, const char *path, bool readonly, struct err *e)
{
    struct blk_opts o = { .path = path, .format = "raw", .readonly = readonly, .loop = f->loop };

    *e = (struct err){ 0 };
    return blk_open(&o, e);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e;
    int fd;

    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "/tmp/ruche-test-rbd-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    setenv("FAKE_RBD", f->dir, 1);
    setenv("FAKE_OSD_TIMEOUT", "0", 1);
    snprintf(f->file, sizeof(f->file), "%s/a:b", f->dir);
    fd = open(f->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, DISK), 0);
    close(fd);
    f->loop = loop_create(NULL);
    f->b = try_open(f, "rbd:pool/space/a\\:b:id=me:mon_host=10.0.0.1\\:6789", false, &e);
    if (!f->b)
        fail_msg("%s", e.msg);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->b);
    loop_destroy(f->loop);
    unlink(f->file);
    rmdir(f->dir);
    free(f);
    return 0;
}

struct job {
    struct blkjob blk;
    uint8_t data[4096];
};

static void job_start(struct fixture *f, struct job *job, enum blk_op op, uint64_t off,
                      unsigned flags)
{
    blkjob_start(f->b, &job->blk, op, off, job->data, sizeof(job->data), flags);
}

static void test_requests(void **ctx)
{
    struct fixture *f = *ctx;
    struct job *job = calloc(MANY, sizeof(*job));

    assert_non_null(job);
    assert_int_equal(f->b->size, DISK);
    for (unsigned i = 0; i < MANY; i++) {
        memset(job[i].data, (int)i + 1, sizeof(job[i].data));
        job_start(f, &job[i], BLK_WRITE, i * 4096, i % 2 ? BLK_F_FUA : 0);
    }
    for (unsigned i = 0; i < MANY; i++)
        blkjob_wait(f->b, &job[i].blk);
    job_start(f, &job[0], BLK_DISCARD, 0, 0);
    job_start(f, &job[1], BLK_WRITE_ZEROES, 4096, BLK_F_FUA);
    job_start(f, &job[2], BLK_FLUSH, 0, 0);
    blk_drain(f->b);
    for (unsigned i = 0; i < MANY; i++)
        job_start(f, &job[i], BLK_READ, i * 4096, 0);
    blk_drain(f->b);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(job[i].blk.err, 0);
        assert_int_equal(job[i].data[4095], i < 2 ? 0 : i + 1);
    }
    free(job);
}

static void expect_extent(struct fixture *f, uint64_t off, unsigned flag, uint64_t len)
{
    struct blk_extent x;

    assert_int_equal(blk_status(f->b, off, DISK - off, &x), 0);
    assert_int_equal(x.flags & (BLK_X_DATA | BLK_X_ZERO), flag);
    assert_int_equal(x.len, len);
}

/* Objects have 64 KiB: two of them neighbours, a third one apart. */
static void test_what_is_where(void **ctx)
{
    struct fixture *f = *ctx;
    char byte[BLK_SECTOR] = "x";

    expect_extent(f, 512, BLK_X_ZERO, DISK - 512);
    assert_int_equal(blk_write_sync(f->b, 0x21000, byte, sizeof(byte)), 0);
    assert_int_equal(blk_write_sync(f->b, 0x32000, byte, sizeof(byte)), 0);
    assert_int_equal(blk_write_sync(f->b, 0x90000, byte, sizeof(byte)), 0);
    expect_extent(f, 0, BLK_X_ZERO, 0x20000);
    expect_extent(f, 0x1fe00, BLK_X_ZERO, 0x200);
    expect_extent(f, 0x20000, BLK_X_DATA, 0x20000);
    expect_extent(f, 0x3fe00, BLK_X_DATA, 0x200);
    expect_extent(f, 0x40000, BLK_X_ZERO, 0x50000);
    expect_extent(f, 0x98000, BLK_X_DATA, 0x8000);
    expect_extent(f, 0xa0000, BLK_X_ZERO, DISK - 0xa0000);
}

static void test_new_image(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_create_opts c = { .path = "rbd:pool/new", .format = "raw", .size = DISK };
    char path[96];
    struct blk *b;
    struct err e = { 0 };

    assert_int_equal(blk_create(&c, &e), 0);
    assert_int_equal(blk_create(&c, &e), -EEXIST);
    b = try_open(f, c.path, false, &e);
    assert_non_null(b);
    assert_int_equal(b->size, DISK);
    assert_int_equal(blk_resize(b, 2 * DISK, BLK_PREALLOC_OFF, &e), 0);
    assert_int_equal(b->size, 2 * DISK);
    assert_int_equal(blk_resize(b, DISK, BLK_PREALLOC_FULL, &e), -ENOTSUP);
    blk_close(b);
    c.format = "qcow2";
    e = (struct err){ 0 };
    assert_int_equal(blk_create(&c, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, "only raw"));
    snprintf(path, sizeof(path), "%s/new", f->dir);
    unlink(path);
}

/* Opening ends some time; a disk in use waits as long as its owner said. */
static void test_patience(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e;

    assert_string_equal(getenv("FAKE_OSD_TIMEOUT"), "0");
    assert_null(try_open(f, "rbd:pool/stuck", false, &e));
    assert_int_equal(e.code, ETIMEDOUT);
    blk_close(f->b);
    f->b = try_open(f, "rbd:pool/a\\:b:rados_osd_op_timeout=77", false, &e);
    assert_non_null(f->b);
    assert_string_equal(getenv("FAKE_OSD_TIMEOUT"), "77");
}

static void expect_refusal(struct fixture *f, const char *path, bool readonly, const char *word)
{
    struct err e;

    assert_null(try_open(f, path, readonly, &e));
    if (!strstr(e.msg, word))
        fail_msg("%s", e.msg);
}

static void test_refusals(void **ctx)
{
    struct fixture *f = *ctx;

    expect_refusal(f, "rbd:pool", false, "rbd:POOL/IMAGE");
    expect_refusal(f, "rbd:/image", false, "rbd:POOL/IMAGE");
    expect_refusal(f, "rbd:none/x", false, "no pool none");
    expect_refusal(f, "rbd:pool/x", false, "no image x");
    expect_refusal(f, "rbd:pool/x", false, "rbd ls pool");
    expect_refusal(f, "rbd:pool/a\\:b@never", true, "no snapshot never");
    expect_refusal(f, "rbd:pool/x@snap", false, "readonly");
    expect_refusal(f, "rbd:pool/x:id=nobody", false, "Ceph cannot be used");
    expect_refusal(f, "rbd:pool/x:conf=/nowhere", false, "/nowhere");
    expect_refusal(f, "rbd:pool/x:odd=1", false, "does not take odd=1");
    expect_refusal(f, "rbd:pool/x:odd", false, "NAME=VALUE");
    expect_refusal(f, "rbd:pool/x:mon_host=down\\:1", false, "cannot be reached");
}

/* The fakes lie beside this program; libraries are searched where the environment said at its start. */
static void start_with_fakes(char **argv)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0 || getenv("FAKE_RBD_STARTED"))
        return;
    self[n] = '\0';
    setenv("FAKE_RBD_STARTED", "1", 1);
    setenv("LD_LIBRARY_PATH", dirname(self), 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
    };

    (void)argc;
    start_with_fakes(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
