#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/tail_file.h"
#include "chardev/chardev.h"

enum { TURNS = 200, BIG = 300 * KIB };

struct fixture {
    struct loop *loop;
    char dir[32], path[64], spec[72];
    int writable; /* calls */
};

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->loop = loop_create(NULL);
    snprintf(f->dir, sizeof(f->dir), "/tmp/chardev.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/console", f->dir);
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    unlink(f->path);
    rmdir(f->dir);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static struct chardev *open_kind(struct fixture *f, const char *kind)
{
    struct err e = { 0 };
    struct chardev *c;

    snprintf(f->spec, sizeof(f->spec), "%s%s", kind, kind[strlen(kind) - 1] == ':' ? f->path : "");
    c = chardev_open(f->spec, f->loop, NULL, NULL, &e);
    if (!c)
        print_message("%s\n", e.msg);
    assert_non_null(c);
    return c;
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < 8; i++)
        loop_poll(f->loop, 1);
}

static int connect_to(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void expect_text(int fd, const char *text)
{
    char buf[256] = "";
    ssize_t n = read(fd, buf, sizeof(buf) - 1);

    assert_int_equal(n, strlen(text));
    assert_string_equal(buf, text);
}

static void expect_input(struct fixture *f, struct chardev *c, const char *text)
{
    char buf[256] = "";
    size_t n = 0;

    for (int i = 0; i < TURNS && n < strlen(text); i++) {
        loop_poll(f->loop, 1);
        n += chardev_read(c, buf + n, sizeof(buf) - 1 - n);
    }
    assert_string_equal(buf, text);
}

static void test_specs(void **ctx)
{
    static const char *const bad[] = { "",      "stdio2", "file:",           "unix:",
                                       "tcp:1", "ptys",   "unix:/nowhere/x", "file:/nowhere/x" };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err e = { 0 };

        assert_null(chardev_open(bad[i], f->loop, NULL, NULL, &e));
        assert_int_not_equal(e.code, 0);
        assert_true(strlen(e.msg) > 10);
    }
}

static void test_none_takes_all(void **ctx)
{
    static char big[BIG];
    struct chardev *c = open_kind(*ctx, "none");

    assert_int_equal(chardev_write(c, big, BIG), BIG);
    assert_int_equal(chardev_read(c, big, 1), 0);
    assert_null(chardev_where(c));
    chardev_close(c);
}

static void test_file_appends(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[32] = "";
    int fd;

    for (int i = 0; i < 2; i++) {
        struct chardev *c = open_kind(f, "file:");

        assert_int_equal(chardev_write(c, "hello\n", 6), 6);
        chardev_flush(c);
        chardev_close(c);
    }
    fd = open(f->path, O_RDONLY);
    assert_int_equal(read(fd, buf, sizeof(buf)), 12);
    assert_string_equal(buf, "hello\nhello\n");
    close(fd);
}

static void test_unix_replay_and_refusal(void **ctx)
{
    struct fixture *f = *ctx;
    struct chardev *c = open_kind(f, "unix:");
    struct err e = { 0 };
    int first, second;

    assert_int_equal(chardev_write(c, "before ", 7), 7);
    first = connect_to(f->path);
    turn(f);
    assert_int_equal(chardev_write(c, "after", 5), 5);
    turn(f);
    expect_text(first, "before after");
    second = connect_to(f->path);
    turn(f);
    expect_text(second, "ruche: another client is attached to this console\r\n");
    close(second);
    assert_int_equal(write(first, "typed", 5), 5);
    expect_input(f, c, "typed");
    close(first);
    turn(f);
    first = connect_to(f->path);
    turn(f);
    expect_text(first, "before after");
    close(first);
    assert_null(chardev_open(f->spec, f->loop, NULL, NULL, &e)); /* in use */
    assert_non_null(strstr(e.msg, "running program"));
    chardev_close(c);
    assert_int_equal(access(f->path, F_OK), -1);
}

static void test_unix_stale_and_foreign(void **ctx)
{
    struct fixture *f = *ctx;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct err e = { 0 };

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd); /* left over */
    chardev_close(open_kind(f, "unix:"));
    fd = open(f->path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_null(chardev_open(f->spec, f->loop, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "not a socket"));
    assert_int_equal(access(f->path, F_OK), 0);
}

static void count_writable(void *opaque)
{
    ((struct fixture *)opaque)->writable++;
}

/* A client that does not read holds the output up, and nothing is lost when it goes on. */
static void test_back_pressure(void **ctx)
{
    static const struct chardev_ops ops = { .writable = count_writable };
    static uint8_t out[BIG], in[BIG];
    struct fixture *f = *ctx;
    struct chardev *c = open_kind(f, "unix:");
    int fd = connect_to(f->path), small = 4096;
    size_t sent = 0, got = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    chardev_attach(c, &ops, f);
    turn(f);
    for (size_t i = 0; i < BIG; i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    for (int i = 0; i < 40; i++) {
        sent += chardev_write(c, out + sent, BIG - sent);
        loop_poll(f->loop, 0);
    }
    assert_true(sent < BIG);
    for (int i = 0; i < 20 * TURNS && got < BIG; i++) {
        ssize_t n = read(fd, in + got, BIG - got);

        got += n > 0 ? (size_t)n : 0;
        loop_poll(f->loop, 0);
        sent += chardev_write(c, out + sent, BIG - sent);
    }
    assert_int_equal(got, BIG);
    assert_memory_equal(in, out, BIG);
    assert_true(f->writable > 0);
    close(fd);
    chardev_close(c);
}

/* More input than the ring holds waits outside, and arrives. */
static void test_input_waits(void **ctx)
{
    static char out[20000], in[20000];
    struct fixture *f = *ctx;
    struct chardev *c = open_kind(f, "unix:");
    int fd = connect_to(f->path);
    size_t got = 0;

    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)('a' + i % 23);
    assert_int_equal(write(fd, out, sizeof(out)), sizeof(out));
    turn(f);
    for (int i = 0; i < TURNS && got < sizeof(in); i++) {
        got += chardev_read(c, in + got, 1000);
        loop_poll(f->loop, 1);
    }
    assert_int_equal(got, sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    close(fd);
    chardev_close(c);
}

static void test_pty(void **ctx)
{
    struct fixture *f = *ctx;
    struct chardev *c = open_kind(f, "pty");
    static char big[BIG];
    int fd;

    assert_int_equal(chardev_write(c, big, BIG), BIG); /* nobody there: never waits */
    assert_int_equal(chardev_write(c, "login: ", 7), 7);
    for (int i = 0; i < 2; i++) {
        char buf[4096];
        ssize_t n, last = 0;

        fd = open(chardev_where(c), O_RDWR | O_NOCTTY | O_NONBLOCK);
        assert_true(fd >= 0);
        for (int t = 0; t < TURNS && last < 64 * KIB; t++) {
            loop_poll(f->loop, 1);
            while ((n = read(fd, buf, sizeof(buf))) > 0)
                last += n;
        }
        assert_int_equal(last, 64 * KIB);
        assert_int_equal(write(fd, "root\r", 5), 5);
        expect_input(f, c, "root\r");
        close(fd);
        turn(f);
    }
    chardev_close(c);
}

/* In a child whose standard streams are given: echoes the input until "leave" or the text "end". */
static void child_left(void *opaque)
{
    *(bool *)opaque = true;
}

static _Noreturn void child_main(int in, int out)
{
    struct loop *l = loop_create(NULL);
    bool left = false;
    char buf[64], last = 0;
    struct chardev *c;
    size_t n;

    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    c = chardev_open("stdio", l, child_left, &left, NULL);
    if (!c)
        _exit(3);
    chardev_write(c, "ready", 5);
    while (!left && last != '!') {
        loop_poll(l, 100);
        n = chardev_read(c, buf, sizeof(buf));
        chardev_write(c, buf, n);
        if (n)
            last = buf[n - 1];
        if (last == 'K')
            raise(SIGTERM);
        if (last == 'X')
            exit(9);
    }
    chardev_flush(c);
    chardev_close(c);
    _exit(left ? 7 : 0);
}

struct tty_child {
    int master, slave;
    pid_t pid;
    struct termios before;
};

static void tty_child_start(struct tty_child *t)
{
    assert_int_equal(openpty(&t->master, &t->slave, NULL, NULL, NULL), 0);
    tcgetattr(t->slave, &t->before);
    t->pid = fork();
    if (!t->pid) {
        setsid();
        ioctl(t->slave, TIOCSCTTY, 0);
        child_main(t->slave, t->slave);
    }
}

static void tty_expect(struct tty_child *t, const char *text)
{
    char buf[64] = "";
    size_t n = 0;

    while (n < strlen(text)) {
        struct pollfd p = { t->master, POLLIN, 0 };

        assert_int_equal(poll(&p, 1, 5000), 1);
        n += (size_t)read(t->master, buf + n, sizeof(buf) - 1 - n);
    }
    assert_string_equal(buf, text);
}

/* Sends keys; the child must end with this wait status, and leave the terminal as it was. */
static void tty_child_end(struct tty_child *t, const char *keys, size_t n, int want)
{
    struct termios after;
    int status;

    assert_int_equal(write(t->master, keys, n), n);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    assert_int_equal(status, want);
    tcgetattr(t->slave, &after);
    assert_int_equal(after.c_lflag, t->before.c_lflag);
    assert_int_equal(after.c_iflag, t->before.c_iflag);
    assert_int_equal(fcntl(t->slave, F_GETFL) & O_NONBLOCK, 0);
    close(t->master);
    close(t->slave);
}

static void test_stdio_terminal(void **ctx)
{
    static const struct {
        const char *keys;
        int status;
    } ends[] = {
        { "\x1d", 7 << 8 },  /* the escape key alone, by time */
        { "\x1dx", 7 << 8 }, /* or by the next key */
        { "!", 0 },          { "K", SIGTERM }, { "X", 9 << 8 },
    };

    (void)ctx;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        struct tty_child t;
        struct termios raw;

        tty_child_start(&t);
        tty_expect(&t, "ready");
        tcgetattr(t.slave, &raw);
        assert_int_equal(raw.c_lflag & (ISIG | ECHO | ICANON), 0);
        assert_int_equal(write(t.master, "\x03\x1d\x1d", 3), 3);
        tty_expect(&t, "\x03\x1d"); /* Ctrl-C is the guest's; twice the escape key sends it */
        tty_child_end(&t, ends[i].keys, strlen(ends[i].keys), ends[i].status);
    }
}

static void test_stdio_pipe(void **ctx)
{
    int in[2], out[2], status;
    char buf[32] = "";
    pid_t pid;

    (void)ctx;
    assert_int_equal(pipe(in) | pipe(out), 0);
    pid = fork();
    if (!pid) {
        close(in[1]);
        close(out[0]);
        child_main(in[0], out[1]);
    }
    close(in[0]);
    close(out[1]);
    assert_int_equal(read(out[0], buf, sizeof(buf)), 5);
    assert_int_equal(write(in[1], "\x1d?", 2), 2);
    assert_int_equal(read(out[0], buf, sizeof(buf)), 2); /* no escape key outside a terminal */
    close(in[1]); /* the end of the input does not end it, nor that of its reader */
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Whoever is connected or not, all of it is in the file. */
static void test_keeps_output(void **ctx)
{
    static const char *const kinds[] = { "none", "file:" };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct chardev *c = open_kind(f, kinds[i]);
        int fd = memfd_create("kept", MFD_CLOEXEC);
        struct tail_file kept;
        char text[32] = "";

        tail_file_init(&kept, fd, MIB);
        chardev_keep(c, &kept);
        assert_int_equal(chardev_write(c, "one ", 4), 4);
        turn(f);
        assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
        assert_int_equal(chardev_write(c, "two", 3), 3);
        chardev_close(c);
        assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 7);
        assert_string_equal(text, "one two");
        tail_file_fini(&kept);
        close(fd);
    }
}

static void hear(void *opaque, const uint8_t *bytes, size_t len)
{
    strncat(opaque, (const char *)bytes, len);
}

/* Also without a file to keep it in, and with nobody connected. */
static void test_tells_listener(void **ctx)
{
    struct fixture *f = *ctx;
    struct chardev *c = open_kind(f, "none");
    char text[32] = "";

    chardev_listen(c, hear, text);
    assert_int_equal(chardev_write(c, "one ", 4), 4);
    turn(f);
    assert_string_equal(text, "one ");
    assert_int_equal(chardev_write(c, "two", 3), 3);
    chardev_close(c);
    assert_string_equal(text, "one two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_specs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none_takes_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keeps_output, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tells_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_replay_and_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_stale_and_foreign, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stdio_terminal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stdio_pipe, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
