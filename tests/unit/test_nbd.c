/* Disks on NBD servers, judged by nbdkit and qemu-nbd; what is missing is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blkjob.h"

enum { DISK = 1 << 20, PATIENCE_MS = 3000 };

struct fixture {
    bool qemu;                         /* the server is qemu-nbd */
    const char *filter, *parameter[2]; /* of nbdkit; NULL: none */
    uint64_t timeout_ms;
    char dir[64], file[96], sock[96], uri[160];
    pid_t server;
    struct loop *loop;
    struct blk *b;
};

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
}

static void start_server(struct fixture *f)
{
    unlink(f->sock);
    f->server = fork();
    if (!f->server) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (f->qemu)
            execlp("qemu-nbd", "qemu-nbd", "-t", "-f", "raw", "-k", f->sock, "--discard=unmap",
                   f->file, NULL);
        else if (f->filter)
            execlp("nbdkit", "nbdkit", "-f", "-U", f->sock, f->filter, "file", f->file,
                   f->parameter[0], f->parameter[1], NULL);
        else
            execlp("nbdkit", "nbdkit", "-f", "-U", f->sock, "file", f->file, NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 500 && access(f->sock, F_OK); i++) {
        if (waitpid(f->server, NULL, WNOHANG) == f->server) { /* not installed */
            f->server = 0;
            return;
        }
        nap();
    }
}

static void stop_server(struct fixture *f)
{
    if (!f->server)
        return;
    kill(f->server, SIGKILL);
    waitpid(f->server, NULL, 0);
    f->server = 0;
}

static struct blk *open_disk(struct fixture *f, struct err *e)
{
    struct blk_opts o = {
        .path = f->uri, .format = "raw", .loop = f->loop, .timeout_ms = f->timeout_ms
    };

    *e = (struct err){ 0 };
    return blk_open(&o, e);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fd;

    assert_non_null(f);
    f->qemu = *ctx != NULL;
    snprintf(f->dir, sizeof(f->dir), "/tmp/ruche-test-nbd-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof(f->file), "%s/disk", f->dir);
    snprintf(f->sock, sizeof(f->sock), "%s/s", f->dir);
    snprintf(f->uri, sizeof(f->uri), "nbd+unix:///?socket=%s", f->sock);
    fd = open(f->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, DISK), 0);
    close(fd);
    f->loop = loop_create(NULL);
    start_server(f);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->b);
    stop_server(f);
    loop_destroy(f->loop);
    unlink(f->file);
    unlink(f->sock);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void need_disk(struct fixture *f)
{
    struct err e;

    if (!f->server)
        skip();
    f->b = open_disk(f, &e);
    for (unsigned i = 0; i < 500 && !f->b && e.code == ECONNREFUSED;
         i++) { /* bound, but not listening */
        nap();
        f->b = open_disk(f, &e);
    }
    if (!f->b && (e.code == ENOENT || e.code == ENOTSUP)) /* no libnbd */
        skip();
    if (!f->b)
        fail_msg("%s", e.msg);
}

static void test_read_write(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *buf = malloc(DISK), one[512];

    assert_non_null(buf);
    need_disk(f);
    assert_int_equal(f->b->size, DISK);
    memset(buf, 0x11, DISK);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, DISK, 0), 0);
    memset(one, 0x22, sizeof(one));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 1024, one, 512, BLK_F_FUA), 0);
    assert_int_equal(blkjob_run(f->b, BLK_FLUSH, 0, NULL, 0, 0), 0);
    blkjob_expect(f->b, 0, 0x11, 1024);
    blkjob_expect(f->b, 1024, 0x22, 512);
    blkjob_expect(f->b, 1536, 0x11, DISK - 1536);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE_ZEROES, 65536, NULL, 65536, BLK_F_UNMAP), 0);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE_ZEROES, 262144, NULL, 1024, BLK_F_FUA), 0);
    assert_int_equal(blkjob_run(f->b, BLK_DISCARD, 131072, NULL, 65536, 0), 0);
    blkjob_expect(f->b, 65536, 0, 65536);
    blkjob_expect(f->b, 262144, 0, 1024);
    blkjob_expect(f->b, 262144 + 1024, 0x11, 4096);
    assert_int_equal(blkjob_run(f->b, BLK_READ, DISK, one, 512, 0), -EINVAL);
    free(buf);
}

static void test_status(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_extent x;
    char buf[4096];

    memset(buf, 1, sizeof(buf));
    need_disk(f);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 512 * KIB, buf, sizeof(buf), 0), 0);
    assert_int_equal(blk_status(f->b, 0, DISK, &x), 0);
    assert_true(x.flags & BLK_X_ZERO);
    assert_true(x.len <= 512 * KIB);
    assert_int_equal(blk_status(f->b, 512 * KIB, 4096, &x), 0);
    assert_true(x.flags & BLK_X_DATA);
}

static void test_many(void **ctx)
{
    struct fixture *f = *ctx;
    enum { N = 500 };
    struct blkjob *job = calloc(N, sizeof(*job));
    uint8_t *buf = calloc(N, 2048);

    assert_true(job && buf);
    need_disk(f);
    for (unsigned i = 0; i < N; i++) {
        memset(buf + i * 2048, (int)i, 2048);
        blkjob_start(f->b, &job[i], BLK_WRITE, i * 2048, buf + i * 2048, 2048, 0);
    }
    blk_drain(f->b);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(job[i].n_done == 1 && !job[i].err, 1);
    blkjob_expect(f->b, 300 * 2048, 300 & 0xff, 2048);
    free(job);
    free(buf);
}

/* The server goes away and comes back: requests wait, and none is lost. */
static void test_reconnect(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t buf[4096];
    struct blkjob job;

    memset(buf, 0x77, sizeof(buf));
    need_disk(f);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 0, buf, sizeof(buf), 0), 0);
    stop_server(f);
    blkjob_start(f->b, &job, BLK_WRITE, 8192, buf, sizeof(buf), 0);
    for (unsigned i = 0; i < 10; i++)
        loop_poll(f->loop, 20);
    assert_int_equal(job.n_done, 0);
    start_server(f);
    blkjob_wait(f->b, &job);
    assert_int_equal(job.err, 0);
    blkjob_expect(f->b, 0, 0x77, 4096);
    blkjob_expect(f->b, 8192, 0x77, 4096);
}

/* A server that takes nothing but blocks of 4 KiB: a disk with sectors of 512 bytes all the same. */
static void test_blocks(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t buf[10000];
    struct blk_extent x;

    if (f->qemu)
        skip();
    stop_server(f);
    f->filter = "--filter=blocksize-policy";
    f->parameter[0] = "blocksize-minimum=4096";
    f->parameter[1] = "blocksize-error-policy=error";
    start_server(f);
    need_disk(f);
    memset(buf, 0x55, sizeof(buf));
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 512, buf, 512, BLK_F_FUA), 0);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE, 5120, buf, 9728, 0), 0);
    assert_int_equal(blkjob_run(f->b, BLK_WRITE_ZEROES, 5632, NULL, 8192, BLK_F_UNMAP), 0);
    assert_int_equal(blkjob_run(f->b, BLK_FLUSH, 0, NULL, 0, 0), 0);
    blkjob_expect(f->b, 0, 0, 512);
    blkjob_expect(f->b, 512, 0x55, 512);
    blkjob_expect(f->b, 1024, 0, 4096);
    blkjob_expect(f->b, 5120, 0x55, 512);
    blkjob_expect(f->b, 5632, 0, 8192);
    blkjob_expect(f->b, 13824, 0x55, 1024);
    assert_int_equal(blk_status(f->b, 512, DISK - 512, &x), 0);
    assert_true(x.flags & BLK_X_DATA);
}

static void expect_silence(struct fixture *f, int cancel_fd, int code)
{
    struct blk_opts o = {
        .path = f->uri, .format = "raw", .loop = f->loop, .timeout_ms = 100, .cancel_fd = cancel_fd
    };
    struct err e = { 0 };

    assert_null(blk_open(&o, &e));
    if (e.code == ENOENT || e.code == ENOTSUP) /* no libnbd */
        skip();
    assert_int_equal(e.code, code);
    assert_true(code != ETIMEDOUT || strstr(e.msg, "says nothing"));
}

/* A server that takes the connection and is silent, at once or when it is asked to read, is not waited for long. */
static void test_silent_at_open(void **ctx)
{
    struct fixture *f = *ctx;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), cancel = eventfd(1, EFD_CLOEXEC);

    stop_server(f);
    unlink(f->sock);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->sock);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 5), 0);
    expect_silence(f, 0, ETIMEDOUT);
    expect_silence(f, cancel, ECANCELED);
    close(cancel);
    close(s);
    f->filter = "--filter=delay";
    f->parameter[0] = "rdelay=100";
    start_server(f);
    if (f->server && !f->qemu)
        expect_silence(f, 0, ETIMEDOUT);
}

/* One that falls silent is tried once more; then requests fail, until it answers again. */
static void test_silent_in_use(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_extent x;
    uint8_t buf[4096];
    struct blkjob job;

    memset(buf, 0x66, sizeof(buf));
    f->timeout_ms = PATIENCE_MS;
    need_disk(f);
    kill(f->server, SIGSTOP);
    assert_int_equal(waitpid(f->server, NULL, WUNTRACED), f->server); /* all of its threads stand */
    blkjob_start(f->b, &job, BLK_WRITE, 0, buf, sizeof(buf), 0);
    blkjob_wait(f->b, &job);
    assert_int_equal(job.err, -ETIMEDOUT);
    assert_int_equal(blk_status(f->b, 0, DISK, &x), 0); /* at once: nobody can be asked */
    assert_true(x.flags & BLK_X_DATA);
    kill(f->server, SIGCONT);
    while (blkjob_run(f->b, BLK_WRITE, 0, buf, sizeof(buf), 0))
        nap();
    blkjob_expect(f->b, 0, 0x66, 4096);
}

static void test_refusals(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e;

    need_disk(f);
    snprintf(f->uri, sizeof(f->uri), "nbd+unix:///?socket=%s/none", f->dir);
    assert_null(open_disk(f, &e));
    assert_non_null(strstr(e.msg, "cannot be reached"));
    snprintf(f->uri, sizeof(f->uri), "nbd://127.0.0.1:1/x");
    assert_null(open_disk(f, &e));
    assert_non_null(strstr(e.msg, "cannot be reached"));
    snprintf(f->uri, sizeof(f->uri), "rbd:pool");
    assert_null(open_disk(f, &e));
    assert_true(strstr(e.msg, "rbd:POOL/IMAGE") || e.code == ENOTSUP);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, NULL),                       \
        cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, "qemu")

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_read_write),
        BOTH(test_status),
        BOTH(test_many),
        cmocka_unit_test_prestate_setup_teardown(test_blocks, set_up, tear_down, NULL),
        BOTH(test_reconnect),
        BOTH(test_silent_at_open),

        cmocka_unit_test_prestate_setup_teardown(test_silent_in_use, set_up, tear_down, NULL),
        BOTH(test_refusals),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
