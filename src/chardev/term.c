#include "chardev/term.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { TERM_SHARED_MAX = 4 };

static struct {
    atomic_bool raw; /* saved is to be put back */
    bool hooked;     /* atexit() and handlers are in place */
    int fd;
    struct termios saved;
    struct {
        int fd, flags;
    } shared[TERM_SHARED_MAX];
    atomic_uint n_shared; /* O_NONBLOCK was set on these */
} term = { .fd = -1 };

static const int term_fatal[] = {
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS,
};

/* A terminal that is not our session's (su -c, setsid) knows no background: it is ours. */
static bool term_foreground(void)
{
    pid_t pgrp = tcgetpgrp(term.fd);

    return pgrp < 0 ? errno == ENOTTY : pgrp == getpgrp();
}

static void term_enter_raw(void)
{
    struct termios t = term.saved;

    cfmakeraw(&t);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    tcsetattr(term.fd, TCSANOW, &t);
}

void term_restore(void)
{
    int saved_errno = errno;

    /* From the background, changing the terminal would stop us; and it is another's by now. */
    if (atomic_exchange(&term.raw, false) && term_foreground())
        tcsetattr(term.fd, TCSANOW, &term.saved);
    for (unsigned n = atomic_exchange(&term.n_shared, 0); n > 0; n--)
        fcntl(term.shared[n - 1].fd, F_SETFL, term.shared[n - 1].flags);
    errno = saved_errno;
}

static void term_on_fatal(int sig)
{
    term_restore();
    signal(sig, SIG_DFL);
    raise(sig); /* delivered when this handler returns */
}

/* After `fg`: the shell has put its own modes back in the meantime. */
static void term_on_cont(int sig)
{
    int saved_errno = errno;

    (void)sig;
    if (atomic_load(&term.raw) && term_foreground())
        term_enter_raw();
    errno = saved_errno;
}

static void term_handle(int sig, void (*handler)(int sig))
{
    struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK };
    struct sigaction old;

    if (sigaction(sig, NULL, &old) || (old.sa_flags & SA_SIGINFO) || old.sa_handler != SIG_DFL)
        return; /* whoever handles it ends the process in an orderly way, or ignores it */
    sigaction(sig, &sa, NULL);
}

static void term_hook(void)
{
    if (term.hooked)
        return;
    term.hooked = true;
    atexit(term_restore);
    for (size_t i = 0; i < ARRAY_SIZE(term_fatal); i++)
        term_handle(term_fatal[i], term_on_fatal);
    term_handle(SIGCONT, term_on_cont);
}

int term_raw(int fd, struct err *e)
{
    if (tcgetattr(fd, &term.saved))
        return err_set(e, errno, "cannot read the terminal's settings: %s", strerror(errno));
    term.fd = fd;
    term_hook();
    atomic_store(&term.raw, true);
    if (term_foreground())
        term_enter_raw();
    return 0;
}

/* An open file of its own for what fd refers to; -1 where the kind of file or its rights forbid it. */
static int term_reopen(int fd, int mode)
{
    char path[32];
    struct stat st;

    if (fstat(fd, &st) || !(S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)))
        return -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

int term_nonblocking(int fd, int mode)
{
    int flags = fcntl(fd, F_GETFL);
    unsigned n = atomic_load(&term.n_shared);
    int own;

    if (flags < 0)
        return -errno;
    own = term_reopen(fd, mode);
    if (own >= 0)
        return own;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return -errno;
    if (!(flags & O_NONBLOCK) && n < TERM_SHARED_MAX) {
        term_hook();
        term.shared[n].fd = fd;
        term.shared[n].flags = flags;
        atomic_store(&term.n_shared, n + 1);
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    return own;
}
