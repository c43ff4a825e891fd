#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/workq.h"
#include "control/sandbox.h"

enum { NO_SANDBOX = 77 };

/* Runs fn in a child; its exit status, and what it wrote to standard error in text. */
static int in_child(void (*fn)(void), char *text, size_t len)
{
    int pipe_fd[2], status;
    size_t at = 0;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(pipe_fd), 0);
    pid = fork();
    if (!pid) {
        dup2(pipe_fd[1], STDERR_FILENO);
        close(pipe_fd[1]);
        fn();
        syscall(SYS_exit_group, 0); /* sanitizers do forbidden things in _exit() */
    }
    close(pipe_fd[1]);
    while (at < len - 1 && (n = read(pipe_fd[0], text + at, len - 1 - at)) > 0)
        at += (size_t)n;
    text[at] = 0;
    close(pipe_fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        print_message("ended by signal %d: %s\n", WTERMSIG(status), text);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void before_exit(void)
{
    (void)!write(STDERR_FILENO, "terminal restored\n", 18);
}

static void enter(bool network)
{
    struct sandbox_opts o = { .network = network, .before_exit = before_exit };
    struct err e = { 0 };

    o.read[o.n_read++] = "/etc/hostname";
    o.read[o.n_read++] = "/does/not/exist";
    o.write[o.n_write++] = "/tmp";
    if (sandbox_enter(&o, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        _exit(NO_SANDBOX);
    }
}

static void exec_something(void)
{
    char *argv[] = { "/bin/true", NULL };

    enter(true);
    execv(argv[0], argv);
}

static void test_violation_is_named(void **ctx)
{
    char text[1024];
    int status = in_child(exec_something, text, sizeof(text));

    (void)ctx;
    if (status == 0)
        skip(); /* this kernel has no seccomp */
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(
        strstr(text, "the sandbox stopped system call execve (59) in thread test_sandbox"));
    assert_non_null(strstr(text, "--no-sandbox"));
    assert_non_null(strstr(text, "terminal restored"));
}

static void *thread_violates(void *arg)
{
    struct err e = { 0 };

    pthread_setname_np(pthread_self(), "vcpu7");
    if (sandbox_vcpu_thread(&e)) {
        fprintf(stderr, "%s\n", e.msg);
        _exit(NO_SANDBOX);
    }
    syscall(SYS_openat, AT_FDCWD, "/tmp", O_RDONLY);
    return arg;
}

static void vcpu_opens_file(void)
{
    pthread_t t;

    enter(true);
    pthread_create(&t, NULL, thread_violates, NULL);
    pthread_join(t, NULL);
}

static void test_vcpu_thread_is_tighter(void **ctx)
{
    char text[1024];
    int status = in_child(vcpu_opens_file, text, sizeof(text));

    (void)ctx;
    if (status == 0)
        skip();
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(strstr(text, "openat"));
    assert_non_null(strstr(text, "in thread vcpu7"));
}

/* A thread that was there before is under the filter too. */
static int gate[2];

static void *thread_traces(void *arg)
{
    char c;

    (void)!read(gate[0], &c, 1);
    syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
    return arg;
}

static void early_thread_violates(void)
{
    pthread_t t;

    (void)!pipe(gate);
    pthread_create(&t, NULL, thread_traces, NULL);
    enter(true);
    (void)!write(gate[1], "x", 1);
    pthread_join(t, NULL);
}

static void test_threads_from_before(void **ctx)
{
    char text[1024];
    int status = in_child(early_thread_violates, text, sizeof(text));

    (void)ctx;
    if (status == 0)
        skip();
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(strstr(text, "ptrace"));
}

static void files(void)
{
    int fd;

    enter(true);
    fd = open("/etc/hostname", O_RDONLY);
    if (fd < 0)
        _exit(1);
    close(fd);
    if (open("/etc/resolv.conf", O_RDONLY) < 0 && errno != ENOENT)
        _exit(2);
    fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(3);
    if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
        _exit(4);
    if (open("/etc/hostname", O_RDWR) >= 0)
        _exit(5);
}

static void test_files(void **ctx)
{
    char text[1024];
    int status = in_child(files, text, sizeof(text));

    (void)ctx;
    if (status == 4 && syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0)
        skip(); /* this kernel has no Landlock */
    assert_int_equal(status, 0);
}

static void capabilities(void)
{
    struct __user_cap_header_struct hdr = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];

    enter(true);
    syscall(SYS_capget, &hdr, data);
    if (data[0].effective | data[0].permitted | data[1].effective | data[1].permitted)
        _exit(1);
}

static void test_capabilities(void **ctx)
{
    char text[1024];

    (void)ctx;
    assert_int_equal(in_child(capabilities, text, sizeof(text)), 0);
}

/* What a VMM does all the time goes on: the loop, threads, memory, timers, sockets. */
static void *thread_works(void *arg)
{
    *(int *)arg += 1;
    free(malloc(1 << 20));
    return NULL;
}

static void work_done(struct loop_work *w)
{
    (void)w;
}

static void work_goes_on(void)
{
    struct loop_work w = { .call = work_done };
    struct loop *l;
    pthread_t t;
    int done = 0, n, fd;

    enter(true);
    l = loop_create(NULL);
    loop_post(l, &w);
    loop_poll(l, 1000);
    loop_destroy(l);
    if (pthread_create(&t, NULL, thread_works, &done))
        _exit(1);
    pthread_join(t, NULL);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (!done || fd < 0 || ioctl(fd, FIONREAD, &n))
        _exit(2);
    log_error("test", "still here");
}

static void test_work_goes_on(void **ctx)
{
    char text[1024];
    int status = in_child(work_goes_on, text, sizeof(text));

    (void)ctx;
    if (status)
        print_message("%s\n", text);
    assert_int_equal(status, 0);
    assert_non_null(strstr(text, "still here"));
}

/* A vCPU thread hands blocking work over: several at once, each on a thread of its own. */
enum { JOBS = 4 };

struct job {
    struct work work;
    pthread_barrier_t *all;
};

static void job_meets(struct work *w)
{
    pthread_barrier_wait(container_of(w, struct job, work)->all);
}

static void job_violates(struct work *w)
{
    (void)w;
    syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static void *vcpu_submits(void *q)
{
    pthread_barrier_t all;
    struct job job[JOBS];
    struct err e = { 0 };

    if (sandbox_vcpu_thread(&e))
        _exit(NO_SANDBOX);
    pthread_barrier_init(&all, NULL, JOBS + 1);
    for (unsigned i = 0; i < JOBS; i++) {
        job[i] = (struct job){ .work.run = job_meets, .all = &all };
        workq_submit(q, &job[i].work);
    }
    pthread_barrier_wait(&all);
    return NULL;
}

static void vcpu_hands_over(void)
{
    struct work violation = { .run = job_violates };
    struct workq *q = workq_create(JOBS, NULL);
    pthread_t t;

    enter(true);
    pthread_create(&t, NULL, vcpu_submits, q);
    pthread_join(t, NULL);
    (void)!write(STDERR_FILENO, "handed over\n", 12);
    workq_submit(q, &violation);
    workq_destroy(q);
}

static void test_vcpu_hands_over(void **ctx)
{
    char text[1024];
    int status = in_child(vcpu_hands_over, text, sizeof(text));

    (void)ctx;
    assert_non_null(strstr(text, "handed over"));
    if (status == 0)
        skip();
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(strstr(text, "ptrace"));
}

static void socket_without_network(void)
{
    enter(false);
    socket(AF_INET, SOCK_STREAM, 0);
}

static void test_no_network(void **ctx)
{
    char text[1024];
    int status = in_child(socket_without_network, text, sizeof(text));

    (void)ctx;
    if (status == 0)
        skip();
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(strstr(text, "socket (41)"));
}

static void pushes_to_terminal(void)
{
    enter(true);
    ioctl(0, TIOCSTI, "x");
}

static void test_terminal_injection(void **ctx)
{
    char text[1024];
    int status = in_child(pushes_to_terminal, text, sizeof(text));

    (void)ctx;
    if (status == 0)
        skip();
    assert_int_equal(status, SANDBOX_EXIT_STATUS);
    assert_non_null(strstr(text, "ioctl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_violation_is_named),  cmocka_unit_test(test_vcpu_thread_is_tighter),
        cmocka_unit_test(test_threads_from_before), cmocka_unit_test(test_files),
        cmocka_unit_test(test_capabilities),        cmocka_unit_test(test_work_goes_on),
        cmocka_unit_test(test_no_network),          cmocka_unit_test(test_terminal_injection),
        cmocka_unit_test(test_vcpu_hands_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
