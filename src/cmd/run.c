/*
 * run.c: `ruche run`: starts ruche-vmm with the configuration, waits, and tells how it ended.
 *
 * This process stays only to outlive the VMM: it puts the terminal back when the VMM could not, and
 * passes signals on. The VMM gets the configuration as JSON in a memfd and dies with this process.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "accel/accel.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/run_image.h"
#include "cmd/run_seed.h"
#include "cmd/run_uefi.h"

enum { RUN_TELL_S = 5 };
#define RUN_INSIST_NS (2 * 1000000000ull)

struct run_terminal {
    bool is_tty;
    struct termios saved;
    int flags; /* of stdin: a killed VMM leaves O_NONBLOCK on the shared description */
};

static void run_terminal_save(struct run_terminal *t)
{
    t->is_tty = !tcgetattr(STDIN_FILENO, &t->saved);
    t->flags = fcntl(STDIN_FILENO, F_GETFL);
}

static void run_terminal_restore(const struct run_terminal *t)
{
    if (t->is_tty)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &t->saved);
    if (t->flags >= 0)
        fcntl(STDIN_FILENO, F_SETFL, t->flags);
}

/* A memfd with the text, to be inherited; -errno. */
static int run_config_fd(const char *json)
{
    int fd = memfd_create("ruche-config", 0), r;

    if (fd < 0)
        return -errno;
    r = util_write_all(fd, json, strlen(json));
    if (!r && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r)
        close(fd);
    return r ? r : fd;
}

/* ruche-vmm lives beside this program. */
static int run_vmm_path(char *path, size_t len, struct err *e)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0)
        return err_set(e, ENODEV, "cannot find my own program: /proc is not mounted");
    self[n] = '\0';
    if ((size_t)snprintf(path, len, "%s/ruche-vmm", dirname(self)) >= len)
        return err_set(e, ENAMETOOLONG, "the path of ruche-vmm is too long");
    if (access(path, X_OK))
        return err_set(e, ENODEV, "%s cannot be started: %s; it belongs beside ruche", path,
                       strerror(errno));
    return 0;
}

/* The child: only async-signal-safe calls up to exec. */
static _Noreturn void run_exec(const char *path, int config_fd, pid_t parent, const sigset_t *mask)
{
    char fd_text[16], parent_text[16];

    snprintf(fd_text, sizeof(fd_text), "%d", config_fd);
    snprintf(parent_text, sizeof(parent_text), "%d", (int)parent);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execl(path, "ruche-vmm", "--config-fd", fd_text, "--parent", parent_text, (char *)NULL);
    fprintf(stderr, "ruche: cannot start %s: %s\n", path, strerror(errno));
    _exit(CMD_HOST);
}

/* How the VM's process is asked to end. */
struct run_end {
    uint64_t asked_ns; /* 0: it was not */
    bool told;         /* how to make it */
};

/* Of what has been asked before: SIGKILL, if that is some time ago; the terminal's SIGINT comes to both of us. */
static int run_insist(struct run_end *end, int sig)
{
    uint64_t now = util_monotonic_ns();

    if (sig == SIGUSR1)
        return sig;
    if (!end->asked_ns)
        end->asked_ns = now;
    if (now - end->asked_ns < RUN_INSIST_NS)
        return sig;
    fprintf(stderr, "ruche: the VM does not end: it is killed\n");
    return SIGKILL;
}

/* The next signal, or 0 when it is time to tell something. */
static int run_next_signal(const struct run_end *end, const sigset_t *set)
{
    const struct timespec patience = { .tv_sec = RUN_TELL_S };
    int sig;

    if (end->asked_ns && !end->told) {
        sig = sigtimedwait(set, NULL, &patience);
        return sig < 0 && errno == EAGAIN ? 0 : sig;
    }
    return sigwait(set, &sig) ? -1 : sig;
}

/*
 * Waits for the child while passing signals on; `set` is blocked. Returns its wait status. A VM whose disk is at a server
 * that does not answer cannot end: a second signal kills it.
 */
static int run_wait(pid_t child, const sigset_t *set)
{
    struct run_end end = { 0 };
    int status, sig;

    for (;;) {
        pid_t got = waitpid(child, &status, WNOHANG);

        if (got == child)
            return status;
        BUG_ON(got < 0); /* it is ours, and SIGCHLD is not ignored */
        sig = run_next_signal(&end, set);
        if (!sig) {
            fprintf(stderr,
                    "ruche: the VM is still ending: does a disk not answer? A second signal "
                    "kills it\n");
            end.told = true;
        } else if (sig > 0 && sig != SIGCHLD) {
            kill(child, run_insist(&end, sig));
        }
    }
}

static int run_status(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fprintf(stderr, "ruche: the VM's process was ended by signal %d (%s)\n", WTERMSIG(status),
            strsignal(WTERMSIG(status)));
    return CMD_VMM_DIED;
}

static int run_start(const char *json, struct err *e)
{
    struct run_terminal terminal;
    char path[PATH_MAX];
    sigset_t set, old;
    pid_t child, self = getpid();
    int fd, status;

    if (run_vmm_path(path, sizeof(path), e))
        return cmd_fail(e);
    fd = run_config_fd(json);
    if (fd < 0) {
        err_set(e, -fd, "cannot pass the configuration on: %s", strerror(-fd));
        return cmd_fail(e);
    }
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    signal(SIGCHLD, SIG_DFL); /* a caller may have it ignored, and then nobody could wait */
    sigprocmask(SIG_BLOCK, &set, &old);
    run_terminal_save(&terminal);
    child = fork();
    if (!child)
        run_exec(path, fd, self, &old);
    close(fd);
    if (child < 0) {
        err_set(e, EAGAIN, "cannot start a process: %s", strerror(errno));
        return cmd_fail(e);
    }
    status = run_wait(child, &set);
    run_terminal_restore(&terminal);
    return run_status(status);
}

/* The VMM may not remove files any more: sockets that it made are taken away here. */
static void run_remove_socket(const char *where)
{
    struct stat st;

    if (!strncmp(where, "unix:", 5) && !lstat(where + 5, &st) && S_ISSOCK(st.st_mode))
        unlink(where + 5);
}

static bool run_on_terminal(const struct vm_config *c)
{
    return (!strcmp(c->serial, "stdio") || !strcmp(c->console, "stdio")) && isatty(STDIN_FILENO);
}

/* The accelerator too is the one that would be used; a host without it is told so as at a start. */
static int run_dry(struct vm_config *c, struct err *e)
{
    const struct accel_ops *accel;
    char *json;

    if (accel_choose(c->accel, &accel, NULL, 0, e) || config_effective(c, e))
        return cmd_fail(e);
    if (strcmp(c->accel, "kvm-only") != 0) {
        free(c->accel);
        c->accel = strdup(accel->name);
    }
    json = c->accel ? config_to_json(c) : NULL;
    if (!json) {
        err_set(e, EINVAL, "the configuration is not valid UTF-8 text");
        return cmd_fail(e);
    }
    puts(json);
    free(json);
    return CMD_OK;
}

static int run_config(struct options *o, struct err *e)
{
    char *json;
    int status;

    if (run_image_prepare(o, e) || run_seed_prepare(o, e))
        return cmd_fail(e);
    run_uefi_prepare(o);
    if (config_check(&o->config, e))
        return cmd_fail(e);
    if (o->dry_run)
        return run_dry(&o->config, e);
    json = config_to_json(&o->config);
    if (!json) {
        err_set(e, EINVAL, "the configuration is not valid UTF-8 text");
        return cmd_fail(e);
    }
    if (run_on_terminal(&o->config))
        fprintf(stderr, "ruche: this terminal is the guest's console now; Ctrl-] leaves it and "
                        "ends the VM\n");
    status = run_start(json, e);
    run_remove_socket(o->config.serial);
    run_remove_socket(o->config.console);
    if (o->config.gdb)
        run_remove_socket(o->config.gdb);
    free(json);
    return status;
}

int cmd_run(int argc, char **argv)
{
    struct options o;
    struct err e = { 0 };
    int status;

    if (options_parse(&o, argc, argv, &e)) {
        fprintf(stderr, "ruche: %s\n", e.msg);
        status = e.code == ENOMEM ? CMD_HOST : CMD_USAGE;
    } else if (o.help) {
        options_print_help(stdout);
        status = CMD_OK;
    } else {
        status = run_config(&o, &e);
    }
    options_fini(&o);
    return status;
}
