/*
 * chardev.c: the rings between a device and the outside, and the pumps that empty and fill them.
 * Locking: c->lock guards the rings' counters. A pump works on its part of a ring without the lock:
 * nobody else moves out_sent or in_head, and the other side never enters the part in use.
 */
#include "chardev/chardev_priv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tail_file.h"

#define CHARDEV_FLUSH_NS 1000000000ull

static const struct chardev_kind *const chardev_kinds[] = {
    &chardev_stdio, &chardev_none, &chardev_file, &chardev_unix, &chardev_pty,
};

static void chardev_pump_in(struct chardev *c);

static bool chardev_is_gone(int error)
{
    return error != EAGAIN && error != EINTR;
}

static void chardev_out_ready(struct loop_fd *w, uint32_t events);
static void chardev_in_ready(struct loop_fd *w, uint32_t events);

/* Writes one contiguous piece of the ring; 1: go on, 0: nothing more to do now, or -errno. */
static int chardev_write_piece(struct chardev *c)
{
    size_t at, len;
    ssize_t n;

    pthread_mutex_lock(&c->lock);
    at = c->out_sent % CHARDEV_OUT_SIZE;
    len = min_u64(c->out_head - c->out_sent, CHARDEV_OUT_SIZE - at);
    pthread_mutex_unlock(&c->lock);
    if (!len)
        return 0;
    n = write(c->out_fd, c->out + at, len);
    if (n < 0)
        return -errno;
    pthread_mutex_lock(&c->lock);
    c->out_sent += (uint64_t)n;
    pthread_mutex_unlock(&c->lock);
    return 1;
}

/* Tells the device that there is room again, once at least half of the ring is free. */
static void chardev_unstall(struct chardev *c)
{
    bool tell;

    pthread_mutex_lock(&c->lock);
    tell = c->stalled && c->out_head - c->out_sent <= CHARDEV_OUT_SIZE / 2;
    if (tell)
        c->stalled = false;
    pthread_mutex_unlock(&c->lock);
    if (tell && c->ops && c->ops->writable)
        c->ops->writable(c->opaque);
}

static void chardev_pump_out(struct chardev *c)
{
    int rc = 0;

    if (c->out_fd < 0)
        return;
    do
        rc = chardev_write_piece(c);
    while (rc > 0 || rc == -EINTR);
    if (rc == -EAGAIN) {
        if (!c->out_watch.loop)
            rc = loop_fd_add(c->loop, &c->out_watch, c->out_fd, EPOLLOUT, chardev_out_ready);
        else
            rc = 0;
    } else {
        loop_fd_del(&c->out_watch);
    }
    if (rc < 0) {
        c->kind->hangup(c, true, -rc);
        return;
    }
    chardev_unstall(c);
}

static void chardev_out_ready(struct loop_fd *w, uint32_t events)
{
    (void)events; /* errors and hang-ups come out of write() */
    chardev_pump_out(container_of(w, struct chardev, out_watch));
}

static void chardev_in_push(struct chardev *c, const uint8_t *buf, size_t n)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < n; i++)
        c->in[c->in_head++ % CHARDEV_IN_SIZE] = buf[i];
    pthread_mutex_unlock(&c->lock);
    if (n && c->ops && c->ops->readable)
        c->ops->readable(c->opaque);
}

/* Room in the input ring; none: notes that reading has to be resumed. */
static size_t chardev_in_room(struct chardev *c)
{
    size_t room;

    pthread_mutex_lock(&c->lock);
    room = CHARDEV_IN_SIZE - (size_t)(c->in_head - c->in_tail);
    c->in_full = !room;
    pthread_mutex_unlock(&c->lock);
    return room;
}

/* Waits for input; descriptors that cannot be waited for (regular files) are simply read. */
static bool chardev_in_wait(struct chardev *c)
{
    int rc;

    if (c->in_watch.loop)
        return true;
    rc = loop_fd_add(c->loop, &c->in_watch, c->in_fd, EPOLLIN, chardev_in_ready);
    return rc != -EPERM;
}

static void chardev_pump_in(struct chardev *c)
{
    uint8_t buf[512];
    size_t room;

    while (c->in_fd >= 0) {
        ssize_t n;

        room = chardev_in_room(c);
        if (!room) {
            loop_fd_del(&c->in_watch);
            return;
        }
        n = read(c->in_fd, buf, room < sizeof(buf) ? room : sizeof(buf));
        if (n < 0 && errno == EAGAIN) {
            if (chardev_in_wait(c))
                return;
            n = 0; /* can be neither read nor waited for */
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            c->kind->hangup(c, false, n ? errno : 0);
            return;
        }
        chardev_in_push(c, buf, c->kind->filter ? c->kind->filter(c, buf, (size_t)n) : (size_t)n);
    }
}

static void chardev_in_ready(struct loop_fd *w, uint32_t events)
{
    (void)events;
    chardev_pump_in(container_of(w, struct chardev, in_watch));
}

/* One piece of the ring to who keeps it; false: they have all. What nobody waited for may be gone already. */
static bool chardev_keep_piece(struct chardev *c)
{
    uint8_t piece[1024];
    size_t at, len;

    pthread_mutex_lock(&c->lock);
    if (c->out_head - c->out_kept > CHARDEV_OUT_SIZE)
        c->out_kept = c->out_head - CHARDEV_OUT_SIZE;
    at = c->out_kept % CHARDEV_OUT_SIZE;
    len = min_u64(min_u64(c->out_head - c->out_kept, CHARDEV_OUT_SIZE - at), sizeof(piece));
    memcpy(piece, c->out + at, len);
    pthread_mutex_unlock(&c->lock);
    c->out_kept += len;
    if (c->heard)
        c->heard(c->heard_opaque, piece, len);
    return len && !(c->keep && tail_file_write(c->keep, piece, len));
}

static void chardev_keep_new(struct chardev *c)
{
    while ((c->keep || c->heard) && chardev_keep_piece(c))
        ;
}

static void chardev_kicked(struct loop_work *w)
{
    struct chardev *c = container_of(w, struct chardev, kick);

    chardev_keep_new(c);
    if (!c->out_watch.loop)
        chardev_pump_out(c);
    if (!c->in_watch.loop)
        chardev_pump_in(c);
    chardev_unstall(c);
}

void chardev_connect(struct chardev *c, int in_fd, int out_fd, bool replay)
{
    c->in_fd = in_fd;
    c->out_fd = out_fd;
    pthread_mutex_lock(&c->lock);
    c->connected = out_fd >= 0;
    if (replay)
        c->out_sent = c->out_head - min_u64(c->out_head, CHARDEV_OUT_SIZE);
    pthread_mutex_unlock(&c->lock);
    loop_post(c->loop, &c->kick);
}

void chardev_disconnect_in(struct chardev *c)
{
    loop_fd_del(&c->in_watch);
    util_close(&c->in_fd);
}

void chardev_disconnect_out(struct chardev *c)
{
    loop_fd_del(&c->out_watch);
    util_close(&c->out_fd);
    pthread_mutex_lock(&c->lock);
    c->connected = false;
    c->out_sent = c->out_head; /* nobody will read it: the device must not wait */
    pthread_mutex_unlock(&c->lock);
    chardev_unstall(c);
}

static const struct chardev_kind *chardev_find(const char *spec, const char **arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(chardev_kinds); i++) {
        const char *prefix = chardev_kinds[i]->prefix;
        size_t len = strlen(prefix);

        if (strncmp(spec, prefix, len))
            continue;
        *arg = spec + len;
        if (prefix[len - 1] == ':' ? **arg : !**arg)
            return chardev_kinds[i];
    }
    return NULL;
}

/*
 * A reader that goes away must not end the VM. pipes have no MSG_NOSIGNAL, so the signal is ignored for
 * the whole process, unless the program has its own handler.
 */
static void chardev_ignore_sigpipe(void)
{
    struct sigaction sa;

    if (!sigaction(SIGPIPE, NULL, &sa) && !(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

struct chardev *chardev_open(const char *spec, struct loop *l, void (*leave)(void *opaque),
                             void *leave_opaque, struct err *e)
{
    const char *arg = NULL;
    const struct chardev_kind *kind = chardev_find(spec, &arg);
    struct chardev *c;

    if (!kind) {
        err_set(e, EINVAL,
                "'%s' is not a serial line: use stdio, none, file:PATH, unix:PATH or pty", spec);
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        return err_oom(e);
    c->loop = l;
    c->kind = kind;
    c->leave = leave;
    c->leave_opaque = leave_opaque;
    c->in_fd = c->out_fd = -1;
    c->kick.call = chardev_kicked;
    pthread_mutex_init(&c->lock, NULL);
    chardev_ignore_sigpipe();
    if (!kind->open(c, arg, e))
        return c;
    pthread_mutex_destroy(&c->lock);
    free(c->where);
    free(c);
    return NULL;
}

void chardev_close(struct chardev *c)
{
    if (!c)
        return;
    c->ops = NULL;
    chardev_keep_new(c);
    chardev_flush(c);
    chardev_disconnect_in(c);
    chardev_disconnect_out(c);
    if (c->kind->close)
        c->kind->close(c);
    loop_unpost(c->loop, &c->kick);
    pthread_mutex_destroy(&c->lock);
    free(c->where);
    free(c);
}

void chardev_attach(struct chardev *c, const struct chardev_ops *ops, void *opaque)
{
    c->opaque = opaque;
    c->ops = ops;
}

void chardev_keep(struct chardev *c, struct tail_file *f)
{
    c->keep = f;
}

void chardev_listen(struct chardev *c,
                    void (*heard)(void *opaque, const uint8_t *bytes, size_t len), void *opaque)
{
    c->heard = heard;
    c->heard_opaque = opaque;
}

size_t chardev_write(struct chardev *c, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    size_t taken = len, at, first;
    bool post;

    pthread_mutex_lock(&c->lock);
    if (c->connected)
        taken = min_u64(len, CHARDEV_OUT_SIZE - (c->out_head - c->out_sent));
    if (taken < len)
        c->stalled = true;
    for (size_t done = 0; done < taken; done += first) {
        at = c->out_head % CHARDEV_OUT_SIZE;
        first = min_u64(taken - done, CHARDEV_OUT_SIZE - at);
        memcpy(c->out + at, p + done, first);
        c->out_head += first;
    }
    if (!c->connected)
        c->out_sent = c->out_head;
    post = (c->connected || c->keep || c->heard) && taken;
    pthread_mutex_unlock(&c->lock);
    if (post)
        loop_post(c->loop, &c->kick);
    return taken;
}

size_t chardev_read(struct chardev *c, void *buf, size_t len)
{
    uint8_t *p = buf;
    size_t n = 0;
    bool resume;

    pthread_mutex_lock(&c->lock);
    while (n < len && c->in_tail != c->in_head)
        p[n++] = c->in[c->in_tail++ % CHARDEV_IN_SIZE];
    resume = c->in_full && n;
    if (resume)
        c->in_full = false;
    pthread_mutex_unlock(&c->lock);
    if (resume)
        loop_post(c->loop, &c->kick);
    return n;
}

void chardev_flush(struct chardev *c)
{
    uint64_t until = util_monotonic_ns() + CHARDEV_FLUSH_NS;

    while (c->out_fd >= 0) {
        struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };
        int rc = chardev_write_piece(c);

        if (rc == 0 || (rc < 0 && chardev_is_gone(-rc)) || util_monotonic_ns() > until)
            return;
        if (rc == -EAGAIN)
            poll(&p, 1, 20);
    }
}

const char *chardev_where(const struct chardev *c)
{
    return c->where;
}
