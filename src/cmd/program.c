/* program.c: see program.h. */
#include "cmd/program.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int program_run(const char *const argv[], struct err *e)
{
    posix_spawn_file_actions_t actions;
    int status = 0, rc;
    pid_t child;

    signal(SIGCHLD, SIG_DFL); /* a caller may have it ignored, and then nobody could wait */
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    rc = posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc)
        return err_set(e, rc == ENOENT ? ENODEV : rc, "cannot start %s: %s", argv[0],
                       rc == ENOENT ? "it is not installed" : strerror(rc));
    while (waitpid(child, &status, 0) < 0)
        BUG_ON(errno != EINTR);
    if (WIFSIGNALED(status))
        return err_set(e, EINTR, "%s was ended by signal %d", argv[0], WTERMSIG(status));
    return WEXITSTATUS(status) ? err_set(e, EIO, "%s failed: see above", argv[0]) : 0;
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
