/* program.c: see program.h. */
#include "cmd/program.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child: it says in `tell` why it could not become the program. */
static _Noreturn void program_become(const char *const argv[], uint64_t file_max,
                                     const sigset_t *mask, int tell)
{
    struct rlimit limit;
    int in = open("/dev/null", O_RDONLY);

    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody would wait for it, or want what it makes */
    getrlimit(RLIMIT_FSIZE, &limit);
    if (file_max)
        limit.rlim_cur = min_u64(file_max, limit.rlim_cur);
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_IGN); /* the limit is an error of its write() */
    dup2(in, STDIN_FILENO);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], (char *const *)argv);
    (void)!write(tell, &errno, sizeof(errno));
    _exit(127);
}

/* 0 or -errno. */
static int program_start(const char *const argv[], uint64_t file_max, const sigset_t *mask,
                         pid_t *child)
{
    int tell[2], why = 0;

    if (pipe2(tell, O_CLOEXEC))
        return -errno;
    *child = fork();
    if (!*child)
        program_become(argv, file_max, mask, tell[1]);
    why = *child < 0 ? errno : 0;
    close(tell[1]);
    if (*child > 0 && read(tell[0], &why, sizeof(why)) == (ssize_t)sizeof(why))
        waitpid(*child, NULL, 0);
    close(tell[0]);
    return -why;
}

/* Its wait status; *sig: what was to end us meanwhile, which it is told. */
static int program_wait(pid_t child, const sigset_t *set, int *sig)
{
    int status, next;

    for (;;) {
        pid_t got = waitpid(child, &status, WNOHANG);

        if (got == child)
            return status;
        BUG_ON(got < 0); /* it is ours, and SIGCHLD is not ignored */
        if (sigwait(set, &next) || next == SIGCHLD)
            continue;
        *sig = next;
        kill(child, next);
    }
}

/* What is to be waited for: the child's end, and what ends us, unless whoever started us had it ignored (nohup). */
static void program_signals(sigset_t *set)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction old;

    sigemptyset(set);
    sigaddset(set, SIGCHLD);
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
        if (!sigaction(ends[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaddset(set, ends[i]);
}

int program_status(const char *const argv[], uint64_t file_max, struct err *e)
{
    int sig = 0, status = 0, rc;
    sigset_t set, old;
    pid_t child = 0;

    program_signals(&set);
    signal(SIGCHLD, SIG_DFL); /* a caller may have it ignored, and then nobody could wait */
    sigprocmask(SIG_BLOCK, &set, &old);
    rc = program_start(argv, file_max, &old, &child);
    if (!rc)
        status = program_wait(child, &set, &sig);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return err_set(e, rc == -ENOENT ? ENODEV : -rc, "cannot start %s: %s", argv[0],
                       rc == -ENOENT ? "it is not installed" : strerror(-rc));
    if (sig || WIFSIGNALED(status))
        return err_set(e, EINTR, "%s was ended by signal %d", argv[0],
                       sig ? sig : WTERMSIG(status));
    return WEXITSTATUS(status);
}

int program_run(const char *const argv[], struct err *e)
{
    int status = program_status(argv, 0, e);

    return status > 0 ? err_set(e, EIO, "%s failed: see above", argv[0]) : status;
}

int program_find(const char *name, char *path, size_t len, struct err *e)
{
    static const char *const places[] = { "../../tools", "../libexec/ruche" };
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *dir;

    if (n < 0)
        return err_set(e, ENODEV, "cannot find my own program: /proc is not mounted");
    self[n] = '\0';
    dir = dirname(self);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if ((size_t)snprintf(path, len, "%s/%s/%s", dir, places[i], name) < len &&
            !access(path, X_OK))
            return 0;
    return err_set(e, ENODEV, "%s is missing: it belongs into %s/%s", name, dir, places[1]);
}
