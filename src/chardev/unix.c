/*
 * unix.c: a listening unix socket; one client at a time, which is first shown the recent output.
 * Without a client the guest's output is only remembered, never waited for.
 */
#include "chardev/chardev_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct unix_server {
    struct chardev *c;
    int fd;
    struct loop_fd watch;
    struct stat made; /* the socket file, so that only our own is removed */
};

static void unix_refuse(int client)
{
    static const char busy[] = "ruche: another client is attached to this console\r\n";

    (void)!send(client, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(client);
}

static void unix_accept(struct loop_fd *w, uint32_t events)
{
    struct unix_server *u = container_of(w, struct unix_server, watch);
    int client = accept4(u->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int out;

    (void)events;
    if (client < 0)
        return; /* it went away again */
    out = u->c->in_fd < 0 ? fcntl(client, F_DUPFD_CLOEXEC, 3) : -1;
    if (out < 0)
        unix_refuse(client);
    else
        chardev_connect(u->c, client, out, true);
}

static void unix_hangup(struct chardev *c, bool output, int error)
{
    (void)output;
    (void)error;
    chardev_disconnect_in(c);
    chardev_disconnect_out(c);
}

/* A socket file that nobody listens to any more is left over from a killed process: removes it. */
static int unix_clear_stale(const struct sockaddr_un *addr, struct err *e)
{
    struct stat st;
    int probe, rc;

    if (lstat(addr->sun_path, &st))
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, EEXIST,
                       "%s exists and is not a socket: choose another path for the serial "
                       "line",
                       addr->sun_path);
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    rc = connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
    close(probe);
    if (rc != ECONNREFUSED)
        return err_set(e, EADDRINUSE,
                       "%s is the socket of a running program: choose another path, or "
                       "end that program",
                       addr->sun_path);
    unlink(addr->sun_path);
    return 0;
}

static int unix_listen(struct unix_server *u, const struct sockaddr_un *addr, struct err *e)
{
    int rc = unix_clear_stale(addr, e);

    if (rc)
        return rc;
    u->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode goes on before the name exists: a console is its owner's only. */
    if (u->fd < 0 || fchmod(u->fd, 0600) ||
        bind(u->fd, (const struct sockaddr *)addr, sizeof(*addr)) || listen(u->fd, 4) ||
        stat(addr->sun_path, &u->made)) {
        rc = err_set(e, errno, "cannot listen on %s: %s", addr->sun_path, strerror(errno));
        util_close(&u->fd);
        return rc;
    }
    rc = loop_fd_add(u->c->loop, &u->watch, u->fd, EPOLLIN, unix_accept);
    if (rc) {
        util_close(&u->fd);
        return err_set(e, -rc, "cannot wait for clients of %s: %s", addr->sun_path, strerror(-rc));
    }
    return 0;
}

static int unix_open(struct chardev *c, const char *arg, struct err *e)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct unix_server *u;
    int rc;

    if (strlen(arg) >= sizeof(addr.sun_path))
        return err_set(e, ENAMETOOLONG, "the socket's path %s is too long: at most %zu bytes", arg,
                       sizeof(addr.sun_path) - 1);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", arg);
    u = calloc(1, sizeof(*u));
    if (!u) {
        err_oom(e);
        return -ENOMEM;
    }
    *u = (struct unix_server){ .c = c, .fd = -1 };
    rc = unix_listen(u, &addr, e);
    if (rc) {
        free(u);
        return rc;
    }
    c->priv = u;
    c->where = strdup(arg);
    return 0;
}

static void unix_close(struct chardev *c)
{
    struct unix_server *u = c->priv;
    struct stat st;

    loop_fd_del(&u->watch);
    util_close(&u->fd);
    if (c->where && !stat(c->where, &st) && st.st_ino == u->made.st_ino &&
        st.st_dev == u->made.st_dev)
        unlink(c->where);
    free(u);
}

const struct chardev_kind chardev_unix = {
    .prefix = "unix:",
    .open = unix_open,
    .close = unix_close,
    .hangup = unix_hangup,
};
