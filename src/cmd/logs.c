/*
 * logs.c: `ruche logs`: what a VM's process wrote to its log, and what it kept of the serial port's output;
 * also after its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/vms.h"

enum { LOGS_POLL_NS = 100000000 };

/* Copies from *at to the end, and moves *at there. 0 or -errno. */
static int logs_copy(int fd, uint64_t *at)
{
    char buf[8192];
    ssize_t n;

    while ((n = pread(fd, buf, sizeof(buf), (off_t)*at)) > 0) {
        int rc = util_write_all(STDOUT_FILENO, buf, (size_t)n);

        if (rc)
            return rc;
        *at += (uint64_t)n;
    }
    return n ? -errno : 0;
}

/* Goes on until the VM has ended. A full file loses its older half meanwhile (base/tail_file.h). */
static int logs_follow(const struct rundir *dir, int fd, uint64_t *at)
{
    const struct timespec nap = { .tv_nsec = LOGS_POLL_NS };

    for (;;) {
        bool alive = rundir_holder(dir);
        struct stat st;
        int rc;

        if (!fstat(fd, &st) && (uint64_t)st.st_size < *at)
            *at = *at > RUNDIR_LOG_MAX / 2 ? *at - RUNDIR_LOG_MAX / 2 : 0;
        rc = logs_copy(fd, at);
        if (rc || !alive)
            return rc;
        nanosleep(&nap, NULL);
    }
}

static int logs_print(const char *name, const char *file, bool follow, struct err *e)
{
    struct rundir dir;
    int rc = rundir_open(&dir, name), fd = rc ? -1 : openat(dir.fd, file, O_RDONLY | O_CLOEXEC);
    uint64_t at = 0;

    if (fd < 0) {
        rundir_close(&dir);
        return err_set(e, ENOENT,
                       "no VM named %.64s has left a %s here; `ruche list` has those that run",
                       name, file);
    }
    rc = logs_copy(fd, &at);
    if (!rc && follow)
        rc = logs_follow(&dir, fd, &at);
    close(fd);
    rundir_close(&dir);
    return rc == -EPIPE ? 0 : rc ? err_set(e, -rc, "cannot print the log: %s", strerror(-rc)) : 0;
}

int cmd_logs(int argc, char **argv)
{
    bool follow = false, serial = false;
    const struct arg_option options[] = { { "--follow", "-f", .given = &follow },
                                          { "--serial", .given = &serial } };
    struct err e = { 0 };
    int n, rc = args_words(argc, argv, options, ARRAY_SIZE(options), 1, 1, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    rc = logs_print(argv[1], serial ? "serial" : "log", follow, &e);
    if (rc)
        fprintf(stderr, "ruche: %s\n", e.msg);
    return rc ? rc == -ENOENT ? CMD_NO_VM : CMD_HOST : CMD_OK;
}
