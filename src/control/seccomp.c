/*
 * seccomp.c: which system calls the process may still make (seccomp(2), by libseccomp), and what is
 * said when it makes another one. The lists are what our code, glibc, libslirp and liburing use
 * after set-up; there is nothing in them that starts a program or touches another process.
 */
#include "control/sandbox_priv.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

/* Every thread: memory, time, locks, signals, and I/O on what is open already. */
static const char *const seccomp_common[] = {
#define SYSCALL(name) #name,
#include "control/seccomp_common.def"
#undef SYSCALL
};
/* The loop and the worker threads: files by name, threads, and tightening of this filter. */
static const char *const seccomp_loop[] = {
#define SYSCALL(name) #name,
#include "control/seccomp_loop.def"
#undef SYSCALL
};

/* ioctl requests, by mask: a whole group, or just one. */
static const struct {
    uint64_t mask, request;
} seccomp_ioctls[] = {
    { 0xff00, 0xae00 }, /* KVM */
    { 0xff00, 0x1200 }, /* block devices */
    { UINT32_MAX, TCGETS },     { UINT32_MAX, TCSETS },    { UINT32_MAX, TCSETSW },
    { UINT32_MAX, TCSETSF },    { UINT32_MAX, FIONREAD },  { UINT32_MAX, FIONBIO },
    { UINT32_MAX, TIOCGWINSZ }, { UINT32_MAX, TIOCGPGRP },
};

enum { SECCOMP_NAMES = 512, SECCOMP_LINE = 256 };

/*
 * For the signal handler, which has no argument and may not allocate: what it says and does. Set once,
 * before the first filter.
 */
static struct {
    char *name[SECCOMP_NAMES]; /* of each system call number */
    void (*before_exit)(void);
} seccomp_report;

static size_t seccomp_append(char *line, size_t at, const char *text)
{
    while (*text && at < SECCOMP_LINE - 1)
        line[at++] = *text++;
    line[at] = 0;
    return at;
}

static size_t seccomp_append_number(char *line, size_t at, unsigned n)
{
    char digits[12];
    size_t i = sizeof(digits) - 1;

    digits[i] = 0;
    do
        digits[--i] = (char)('0' + n % 10);
    while (n /= 10);
    return seccomp_append(line, at, digits + i);
}

static void seccomp_violation(int sig, siginfo_t *si, void *context)
{
    unsigned nr = (unsigned)si->si_syscall;
    const char *name = nr < SECCOMP_NAMES ? seccomp_report.name[nr] : NULL;
    char line[SECCOMP_LINE], thread[17] = "";
    size_t at = 0;

    (void)sig;
    (void)context;
    prctl(PR_GET_NAME, thread);
    if (seccomp_report.before_exit)
        seccomp_report.before_exit();
    at = seccomp_append(line, at, "the sandbox stopped system call ");
    at = seccomp_append(line, at, name ? name : "unknown");
    at = seccomp_append(line, at, " (");
    at = seccomp_append_number(line, at, nr);
    at = seccomp_append(line, at, ") in thread ");
    at = seccomp_append(line, at, thread);
    at = seccomp_append(line, at, ": please report; --no-sandbox runs without it");
    if (!log_on_stderr()) {
        (void)!write(STDERR_FILENO, line, at);
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    log_error("sandbox", "%s", line);
    syscall(SYS_exit_group,
            SANDBOX_EXIT_STATUS); /* _exit() would let a sanitizer open files first */
}

int seccomp_catch(void (*before_exit)(void), struct err *e)
{
    struct sigaction sa = { .sa_sigaction = seccomp_violation,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK };

    seccomp_report.before_exit = before_exit;
    for (int nr = 0; nr < SECCOMP_NAMES; nr++)
        if (!seccomp_report.name[nr])
            seccomp_report.name[nr] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
    if (sigaction(SIGSYS, &sa, NULL))
        return err_set(e, errno, "cannot watch over the sandbox: %s", strerror(errno));
    return 0;
}

/* A name that this library does not know is a call that this C library does not make either. */
static int seccomp_allow(scmp_filter_ctx ctx, const char *const *names, size_t n)
{
    int rc = 0;

    for (size_t i = 0; !rc && i < n; i++) {
        int nr = seccomp_syscall_resolve_name(names[i]);

        if (nr != __NR_SCMP_ERROR && nr >= 0)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
    }
    return rc;
}

static int seccomp_allow_ioctls(scmp_filter_ctx ctx)
{
    int rc = 0;

    for (size_t i = 0; !rc && i < ARRAY_SIZE(seccomp_ioctls); i++)
        rc = seccomp_rule_add(
            ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
            SCMP_A1_64(SCMP_CMP_MASKED_EQ, seccomp_ioctls[i].mask, seccomp_ioctls[i].request));
    return rc;
}

/* New threads, but no new processes. clone3 hides its flags in memory: without it clone is used. */
static int seccomp_allow_threads(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

    return rc ? rc : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int seccomp_allow_sockets(scmp_filter_ctx ctx)
{
    static const unsigned families[] = { AF_INET, AF_INET6, AF_UNIX };
    int rc = 0;

    for (size_t i = 0; !rc && i < ARRAY_SIZE(families); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                              SCMP_A0_64(SCMP_CMP_EQ, families[i], 0));
    return rc;
}

static int seccomp_fill(scmp_filter_ctx ctx, enum seccomp_profile profile, bool network)
{
    int rc = seccomp_allow(ctx, seccomp_common, ARRAY_SIZE(seccomp_common));

    if (!rc)
        rc = seccomp_allow_ioctls(ctx);
    if (rc || profile == SECCOMP_VCPU)
        return rc;
    rc = seccomp_allow(ctx, seccomp_loop, ARRAY_SIZE(seccomp_loop));
    if (!rc)
        rc = seccomp_allow_threads(ctx);
    if (!rc && network)
        rc = seccomp_allow_sockets(ctx);
    return rc;
}

int seccomp_enter(enum seccomp_profile profile, bool network, struct err *e)
{
    scmp_filter_ctx ctx;
    int rc;

    if (prctl(PR_GET_SECCOMP) < 0)
        return -ENOSYS;
    ctx = seccomp_init(SCMP_ACT_TRAP);
    if (!ctx)
        return err_set(e, ENOMEM, "out of memory");
    rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, profile == SECCOMP_LOOP);
    if (!rc)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
    if (!rc) /* frequent ones are found in a tree instead of a list */
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!rc)
        rc = seccomp_fill(ctx, profile, network);
    if (!rc)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return rc ? err_set(e, -rc, "cannot filter the VM's system calls: %s", strerror(-rc)) : 0;
}
