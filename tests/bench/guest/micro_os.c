/*
 * micro_os.c: system calls, processes, signals, timers, page tables, files.
 */
#define _GNU_SOURCE
#include "micro.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint64_t os_getpid(uint64_t n)
{
    uint64_t bad = 0;
    long pid = syscall(SYS_getpid);

    for (uint64_t i = 0; i < n; i++)
        bad += syscall(SYS_getpid) != pid;
    return bad;
}

static uint64_t os_clock(uint64_t n)
{
    struct timespec before = { 0 }, t;
    uint64_t bad = 0;

    for (uint64_t i = 0; i < n; i++) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        bad +=
            t.tv_sec < before.tv_sec || (t.tv_sec == before.tv_sec && t.tv_nsec < before.tv_nsec);
        before = t;
    }
    return bad;
}

static uint64_t os_read(uint64_t n)
{
    static char buf[PAGE];
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    uint64_t sum = 0;

    if (zero < 0 || null < 0)
        micro_die("/dev/zero");
    for (uint64_t i = 0; i < n; i++)
        sum += (uint64_t)read(zero, buf, sizeof(buf)) + (uint64_t)write(null, buf, 100);
    return sum;
}

static uint64_t os_stat(uint64_t n)
{
    struct stat st;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        int fd = open("/bench/cases", O_RDONLY);

        sum += fd >= 0 && fstat(fd, &st) == 0;
        close(fd);
        sum += stat("/bench/no-such-file", &st) != 0;
    }
    return sum;
}

static uint64_t os_files(uint64_t n)
{
    static char buf[3 * PAGE];
    char name[64];
    uint64_t sum = 0;

    memset(buf, 'x', sizeof(buf));
    for (uint64_t i = 0; i < n; i++) {
        int fd;

        snprintf(name, sizeof(name), "/tmp/file%d", (int)(i & 63));
        fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
            micro_die(name);
        sum += (uint64_t)write(fd, buf, sizeof(buf));
        sum += (uint64_t)pread(fd, buf, sizeof(buf), 0);
        close(fd);
        unlink(name);
    }
    return sum;
}

static uint64_t echo(int in, int out, uint64_t n)
{
    uint64_t x, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (read(in, &x, sizeof(x)) != sizeof(x) || write(out, &x, sizeof(x)) != sizeof(x))
            micro_die("echo");
        sum += x;
    }
    return sum;
}

/* A token that goes to another process and back n times. */
static uint64_t ping_pong(const int there[2], const int back[2], uint64_t n)
{
    uint64_t x = 1, sum;
    pid_t pid = fork();

    if (pid == 0) {
        echo(there[0], back[1], n);
        _exit(0);
    }
    if (write(there[1], &x, sizeof(x)) != sizeof(x))
        micro_die("write");
    sum = echo(back[0], there[1], n - 1);
    waitpid(pid, NULL, 0);
    return sum;
}

static uint64_t os_pipe(uint64_t n)
{
    int there[2], back[2];

    if (pipe(there) || pipe(back))
        micro_die("pipe");
    return ping_pong(there, back, n);
}

static uint64_t os_socket(uint64_t n)
{
    int a[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, a))
        micro_die("socketpair");
    return ping_pong((int[2]){ a[1], a[0] }, (int[2]){ a[0], a[1] }, n);
}

/* 64 KiB writes and reads: what a pipeline of filters does. */
static uint64_t os_pipe_bulk(uint64_t n)
{
    static char buf[65536];
    int p[2];
    uint64_t sum = 0;
    ssize_t got;
    pid_t pid;

    if (pipe(p))
        micro_die("pipe");
    pid = fork();
    if (pid == 0) {
        for (uint64_t i = 0; i < n; i++)
            if (write(p[1], buf, sizeof(buf)) != sizeof(buf))
                _exit(1);
        _exit(0);
    }
    close(p[1]);
    while ((got = read(p[0], buf, sizeof(buf))) > 0)
        sum += (uint64_t)got;
    waitpid(pid, NULL, 0);
    return sum;
}

static uint64_t os_epoll(uint64_t n)
{
    int ep = epoll_create1(0), ev = eventfd(0, 0);
    struct epoll_event e = { .events = EPOLLIN };
    uint64_t x = 1, sum = 0;

    if (ep < 0 || ev < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e))
        micro_die("epoll");
    for (uint64_t i = 0; i < n; i++) {
        x = i + 1;
        if (write(ev, &x, sizeof(x)) != sizeof(x))
            micro_die("eventfd");
        sum += (uint64_t)epoll_wait(ep, &e, 1, -1);
        if (read(ev, &x, sizeof(x)) != sizeof(x))
            micro_die("eventfd");
        sum += x;
    }
    return sum;
}

static uint64_t fork_wait(uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
            _exit((int)(i & 127));
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            micro_die("fork");
        sum += (uint64_t)WEXITSTATUS(status);
    }
    return sum;
}

static uint64_t os_fork(uint64_t n)
{
    return fork_wait(n);
}

/* fork of a process with 32 MiB in small pages: page tables are copied and torn down. */
static uint64_t os_fork_big(uint64_t n)
{
    size_t bytes = 32u << 20;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        micro_die("mmap");
    madvise(p, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < bytes; i += PAGE)
        p[i] = 1;
    return fork_wait(n);
}

static uint64_t os_exec(uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
            execl("/bench/micro", "micro", "nothing", (char *)NULL);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            micro_die("fork");
        sum += WEXITSTATUS(status) == 0;
    }
    return sum;
}

static volatile sig_atomic_t signals_seen;

static void on_signal(int sig)
{
    (void)sig;
    signals_seen++;
}

static uint64_t os_signal(uint64_t n)
{
    pid_t me = getpid();

    signal(SIGUSR1, on_signal);
    for (uint64_t i = 0; i < n; i++)
        kill(me, SIGUSR1);
    return (uint64_t)signals_seen;
}

static char *fault_page;

static void on_fault(int sig)
{
    (void)sig;
    signals_seen++;
    mprotect(fault_page, PAGE, PROT_READ | PROT_WRITE);
}

/* A write to a protected page, a handler that makes it writable: what garbage collectors do. */
static uint64_t os_segv(uint64_t n)
{
    fault_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fault_page == MAP_FAILED)
        micro_die("mmap");
    signal(SIGSEGV, on_fault);
    for (uint64_t i = 0; i < n; i++) {
        mprotect(fault_page, PAGE, PROT_READ);
        *(volatile char *)fault_page = (char)i;
    }
    return (uint64_t)signals_seen;
}

/* An interval timer at 4 kHz interrupts a computation of fixed length. */
static uint64_t os_itimer(uint64_t n)
{
    struct itimerval t = { { 0, 250 }, { 0, 250 } }, off = { { 0, 0 }, { 0, 0 } };
    uint64_t x = 1;

    signal(SIGALRM, on_signal);
    setitimer(ITIMER_REAL, &t, NULL);
    for (uint64_t i = 0; i < n; i++)
        x = x * 6364136223846793005u + i;
    setitimer(ITIMER_REAL, &off, NULL);
    return x;
}

/* Sleeps of 100 us: how late timers are. */
static uint64_t os_nanosleep(uint64_t n)
{
    struct timespec t = { 0, 100000 };

    for (uint64_t i = 0; i < n; i++)
        nanosleep(&t, NULL);
    return n;
}

static uint64_t os_page_fault(uint64_t n)
{
    size_t bytes = 4u << 20;
    uint64_t sum = 0;

    for (uint64_t r = 0; r < n; r++) {
        char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            micro_die("mmap");
        madvise(p, bytes, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < bytes; i += PAGE)
            p[i] = (char)i;
        sum += (unsigned char)p[PAGE];
        munmap(p, bytes);
    }
    return sum;
}

static uint64_t os_mmap(uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            micro_die("mmap");
        p[PAGE] = 1;
        sum += (uint64_t)mprotect(p, PAGE, PROT_READ);
        munmap(p, 4 * PAGE);
    }
    return sum;
}

/* Code that is written, run, written again: what a JIT compiler does to whatever runs it. */
static uint64_t os_jit(uint64_t n)
{
    unsigned char *code =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;

    if (code == MAP_FAILED)
        micro_die("mmap");
    for (uint64_t i = 0; i < n; i++) {
        /* lea IMM32(%rdi,%rdi), %rax; ret */
        unsigned char *at = code + (i & 15) * 64;
        uint32_t imm = (uint32_t)i & 0xffff;

        memcpy(at, "\x48\x8d\x84\x3f", 4);
        memcpy(at + 4, &imm, 4);
        at[8] = 0xc3;
        for (int k = 0; k < 50; k++)
            sum = ((uint64_t(*)(uint64_t))(uintptr_t)at)(sum) >> 1;
    }
    return sum;
}

static uint64_t os_yield(uint64_t n)
{
    pid_t pid = fork();

    for (uint64_t i = 0; i < n; i++)
        sched_yield();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return n;
}

const struct micro micro_os[] = {
    { "getpid", os_getpid },
    { "clock", os_clock },
    { "read", os_read },
    { "stat", os_stat },
    { "files", os_files },
    { "pipe", os_pipe },
    { "socket", os_socket },
    { "pipe-bulk", os_pipe_bulk },
    { "epoll", os_epoll },
    { "fork", os_fork },
    { "fork-big", os_fork_big },
    { "exec", os_exec },
    { "signal", os_signal },
    { "segv", os_segv },
    { "itimer", os_itimer },
    { "nanosleep", os_nanosleep },
    { "page-fault", os_page_fault },
    { "mmap", os_mmap },
    { "jit", os_jit },
    { "yield", os_yield },
    { NULL, NULL },
};
