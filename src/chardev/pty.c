/*
 * pty.c: a pseudo-terminal whose other side any terminal program opens by name. While nobody has it
 * open the output is only remembered; whoever opens it is shown it.
 */
#include "chardev/chardev_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

struct pty {
    struct chardev *c;
    int master;
    int notify; /* inotify: the master does not tell when the other side is opened */
    struct loop_fd watch;
};

/* Somebody has the other side open. */
static bool pty_is_open(const struct pty *p)
{
    struct pollfd pfd = { .fd = p->master, .events = 0 };

    return poll(&pfd, 1, 0) == 0;
}

static void pty_opened(struct loop_fd *w, uint32_t events)
{
    struct pty *p = container_of(w, struct pty, watch);
    char drop[1024];
    int in, out;

    (void)events;
    while (read(p->notify, drop, sizeof(drop)) > 0)
        ;
    if (p->c->in_fd >= 0 || !pty_is_open(p))
        return;
    in = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
    out = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
    if (in >= 0 && out >= 0) {
        chardev_connect(p->c, in, out, true);
    } else {
        util_close(&in);
        util_close(&out);
    }
}

static void pty_hangup(struct chardev *c, bool output, int error)
{
    (void)output;
    (void)error;
    chardev_disconnect_in(c);
    chardev_disconnect_out(c);
}

/*
 * Raw, so that the terminal does not echo the guest's output back to it. Opening and closing the other
 * side once also makes the master report "nobody there" until it is opened again.
 */
static int pty_prepare(const char *name)
{
    struct termios t;
    int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || tcgetattr(fd, &t)) {
        int rc = -errno;

        util_close(&fd);
        return rc;
    }
    cfmakeraw(&t);
    tcsetattr(fd, TCSANOW, &t);
    close(fd);
    return 0;
}

static int pty_set_up(struct pty *p)
{
    char name[64];
    int rc;

    p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (p->master < 0 || grantpt(p->master) || unlockpt(p->master) ||
        ptsname_r(p->master, name, sizeof(name)))
        return -errno;
    rc = pty_prepare(name);
    if (rc)
        return rc;
    p->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (p->notify < 0 || inotify_add_watch(p->notify, name, IN_OPEN) < 0)
        return -errno;
    p->c->where = strdup(name);
    return loop_fd_add(p->c->loop, &p->watch, p->notify, EPOLLIN, pty_opened);
}

static void pty_free(struct pty *p)
{
    loop_fd_del(&p->watch);
    util_close(&p->notify);
    util_close(&p->master);
    free(p);
}

static int pty_open(struct chardev *c, const char *arg, struct err *e)
{
    struct pty *p = calloc(1, sizeof(*p));
    int rc;

    (void)arg;
    if (!p) {
        err_oom(e);
        return -ENOMEM;
    }
    *p = (struct pty){ .c = c, .master = -1, .notify = -1 };
    rc = pty_set_up(p);
    if (rc) {
        pty_free(p);
        return err_set(e, -rc, "cannot make a pseudo-terminal for the serial line: %s",
                       strerror(-rc));
    }
    c->priv = p;
    return 0;
}

static void pty_close(struct chardev *c)
{
    pty_free(c->priv);
}

const struct chardev_kind chardev_pty = {
    .prefix = "pty",
    .open = pty_open,
    .close = pty_close,
    .hangup = pty_hangup,
};
