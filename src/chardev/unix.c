/*
 * unix.c: a listening unix socket; one client at a time, which is first shown the recent output.
 * Without a client the guest's output is only remembered, never waited for.
 */
#include "chardev/chardev_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sock.h"

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

static int unix_listen(struct unix_server *u, const char *path, struct err *e)
{
    struct sock_addr addr;
    int rc = sock_parse_unix("console socket", path, &addr, e);

    if (rc)
        return rc;
    u->fd = sock_listen("console socket", &addr, e);
    if (u->fd < 0)
        return u->fd;
    rc = stat(path, &u->made) ? -errno : 0;
    if (!rc)
        rc = loop_fd_add(u->c->loop, &u->watch, u->fd, EPOLLIN, unix_accept);
    if (rc) {
        util_close(&u->fd);
        return err_set(e, -rc, "cannot wait for clients of %s: %s", path, strerror(-rc));
    }
    return 0;
}

static int unix_open(struct chardev *c, const char *arg, struct err *e)
{
    struct unix_server *u = calloc(1, sizeof(*u));
    int rc;

    if (!u) {
        err_oom(e);
        return -ENOMEM;
    }
    *u = (struct unix_server){ .c = c, .fd = -1 };
    rc = unix_listen(u, arg, e);
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
