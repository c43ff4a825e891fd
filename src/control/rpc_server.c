/* rpc_server.c: see rpc_server.h. A call is a part of its client: there is one of each at a time. */
#include "control/rpc_server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum { RPC_MESSAGE_MAX = 512 };

struct rpc_call {
    struct rpc_server *server;
    struct rpc_call *next;
    struct loop_fd watch;
    int passed; /* a descriptor that came with a request; -1: none */
    int fd;     /* -1: the client left, and a method has not answered yet */
    bool busy, pumping, at_end, hang_up;
    json_t *id; /* of the request under way; NULL: a notification */
    char *out;  /* the reply that leaves */
    size_t out_len, out_at;
    size_t in_len;
    char in[RPC_LINE_MAX];
};

struct rpc_server {
    struct loop *loop;
    int listen_fd;
    struct loop_fd listen_watch;
    const struct rpc_method *methods;
    size_t n_methods;
    void *opaque;
    struct rpc_call *clients;
    unsigned n_clients;
};

static void rpc_server_pump(struct rpc_call *c);

/* --- clients --- */

static void rpc_server_forget(struct rpc_call *c)
{
    struct rpc_call **p = &c->server->clients;

    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    c->server->n_clients--;
    util_close(&c->passed);
    json_decref(c->id);
    free(c->out);
    free(c);
}

/* Closes the connection; the memory stays while a method still works for it. */
static void rpc_server_leave(struct rpc_call *c)
{
    if (c->fd >= 0)
        loop_fd_del(&c->watch);
    util_close(&c->fd);
    if (!c->busy)
        rpc_server_forget(c);
}

/* --- replies --- */

/* Takes line, malloc'd; NULL: there was no memory for it, and the client learns by losing us. */
static void rpc_server_reply(struct rpc_call *c, char *line)
{
    json_decref(c->id);
    c->id = NULL;
    c->busy = false;
    if (!line)
        c->hang_up = true;
    free(c->out);
    c->out = line;
    c->out_len = line ? strlen(line) : 0;
    c->out_at = 0;
    if (!c->pumping)
        rpc_server_pump(c);
}

/* Of a notification nothing is told. */
static void rpc_server_done(struct rpc_call *c)
{
    c->busy = false;
    if (!c->pumping)
        rpc_server_pump(c);
}

void rpc_answer(struct rpc_call *c, json_t *result)
{
    if (c->id && c->fd >= 0) {
        rpc_server_reply(c, rpc_result_line(c->id, result));
        return;
    }
    json_decref(result);
    rpc_server_done(c);
}

static void rpc_server_error(struct rpc_call *c, int code, const char *message)
{
    rpc_server_reply(c, rpc_error_line(c->id, code, message));
}

void rpc_refuse(struct rpc_call *c, int code, const char *fmt, ...)
{
    char message[RPC_MESSAGE_MAX];
    va_list ap;

    if (!c->id || c->fd < 0) {
        rpc_server_done(c);
        return;
    }
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    rpc_server_error(c, code, message);
}

/* --- requests --- */

static const struct rpc_method *rpc_server_find(const struct rpc_server *s, const char *name)
{
    for (size_t i = 0; i < s->n_methods; i++)
        if (!strcmp(s->methods[i].name, name))
            return &s->methods[i];
    return NULL;
}

static void rpc_server_request(struct rpc_call *c, const char *line, size_t len)
{
    const struct rpc_method *m;
    struct rpc_request q;
    struct err e = { 0 };
    int rc = rpc_request_parse(&q, line, len, &e);

    c->busy = true;
    c->id = json_incref(q.id);
    if (rc) {
        rpc_server_error(c, rc, e.msg); /* also without an id: who sends that must be told */
        rpc_request_fini(&q);
        return;
    }
    m = rpc_server_find(c->server, q.method);
    if (m)
        m->call(c->server->opaque, c, q.params);
    else
        rpc_refuse(c, RPC_NO_METHOD, "there is no method %.64s; the method \"methods\" lists them",
                   q.method);
    rpc_request_fini(&q);
}

/* --- the connection --- */

/* false: the client is gone. */
static bool rpc_server_flush(struct rpc_call *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n =
            send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        c->out_at += (size_t)n;
    }
    free(c->out);
    c->out = NULL;
    c->out_at = c->out_len = 0;
    return true;
}

/* Serves the first line that is there; false: there is no whole one. */
static bool rpc_server_line(struct rpc_call *c)
{
    char *end = memchr(c->in, '\n', c->in_len);
    size_t len;

    if (!end && c->in_len == sizeof(c->in)) {
        c->hang_up = c->busy = true;
        rpc_server_error(c, RPC_INVALID_REQUEST, "a request has at most 65535 bytes");
        c->in_len = 0;
        return true;
    }
    if (!end)
        return false;
    len = (size_t)(end - c->in);
    if (len && c->in[len - 1] == '\r')
        len--;
    if (len)
        rpc_server_request(c, c->in, len);
    c->in_len -= (size_t)(end - c->in) + 1;
    memmove(c->in, end + 1, c->in_len);
    return true;
}

int rpc_take_fd(struct rpc_call *c)
{
    int fd = c->passed;

    c->passed = -1;
    return fd;
}

/* Keeps the last descriptor, and closes all others. */
static void rpc_server_take_fds(struct rpc_call *c, struct msghdr *msg)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        size_t len = h->cmsg_len - CMSG_LEN(0);

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= len; at += sizeof(int)) {
            util_close(&c->passed);
            memcpy(&c->passed, CMSG_DATA(h) + at, sizeof(int));
        }
    }
}

/* false: nothing more now; an end is noted. */
static bool rpc_server_receive(struct rpc_call *c)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { c->in + c->in_len, sizeof(c->in) - c->in_len };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    ssize_t n;

    do
        n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        rpc_server_take_fds(c, &msg);
    if (n > 0) {
        c->in_len += (size_t)n;
        return true;
    }
    c->at_end = n == 0 || errno != EAGAIN;
    return false;
}

/* All that can be done now; false: the connection is over. */
static bool rpc_server_turn(struct rpc_call *c)
{
    for (;;) {
        if (!rpc_server_flush(c))
            return false;
        if (c->out || c->busy)
            return true;
        if (c->hang_up)
            return false;
        if (rpc_server_line(c))
            continue;
        if (c->at_end)
            return false;
        if (!rpc_server_receive(c) && !c->at_end)
            return true;
    }
}

static void rpc_server_pump(struct rpc_call *c)
{
    bool alive;

    if (c->fd < 0) {
        if (!c->busy)
            rpc_server_forget(c);
        return;
    }
    c->pumping = true;
    alive = rpc_server_turn(c);
    c->pumping = false;
    if (alive)
        alive = !loop_fd_events(&c->watch, c->out ? EPOLLOUT : c->busy ? 0 : EPOLLIN);
    if (!alive)
        rpc_server_leave(c);
}

static void rpc_server_ready(struct loop_fd *w, uint32_t events)
{
    struct rpc_call *c = container_of(w, struct rpc_call, watch);

    if (c->busy && (events & (EPOLLHUP | EPOLLERR)))
        rpc_server_leave(c); /* the method goes on for nobody */
    else
        rpc_server_pump(c);
}

int rpc_server_adopt(struct rpc_server *s, int fd)
{
    struct rpc_call *c;
    int rc;

    if (s->n_clients == RPC_CLIENTS_MAX)
        return -EBUSY;
    c = malloc(sizeof(*c));
    if (!c)
        return -ENOMEM;
    memset(c, 0, offsetof(struct rpc_call, in)); /* the rest is not touched before it is used */
    c->server = s;
    c->fd = fd;
    c->passed = -1;
    rc = loop_fd_add(s->loop, &c->watch, fd, EPOLLIN, rpc_server_ready);
    if (rc) {
        free(c);
        return rc;
    }
    c->next = s->clients;
    s->clients = c;
    s->n_clients++;
    return 0;
}

/* The folder is its owner's only; this is for the one who opened it to others. */
static bool rpc_server_may_talk(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
           (!peer.uid || peer.uid == geteuid());
}

static void rpc_server_accept(struct loop_fd *w, uint32_t events)
{
    struct rpc_server *s = container_of(w, struct rpc_server, listen_watch);
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return; /* it went away again */
    if (!rpc_server_may_talk(fd) || rpc_server_adopt(s, fd)) {
        log_warn("control", "a client was turned away");
        close(fd);
    }
}

/* --- life --- */

struct rpc_server *rpc_server_create(struct loop *l, int listen_fd,
                                     const struct rpc_method *methods, size_t n_methods,
                                     void *opaque, struct err *e)
{
    struct rpc_server *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return err_oom(e);
    *s = (struct rpc_server){ .loop = l,
                              .listen_fd = listen_fd,
                              .methods = methods,
                              .n_methods = n_methods,
                              .opaque = opaque };
    if (listen_fd < 0)
        return s;
    rc = loop_fd_add(l, &s->listen_watch, listen_fd, EPOLLIN, rpc_server_accept);
    if (rc) {
        err_set(e, -rc, "cannot watch the control socket: %s", strerror(-rc));
        free(s);
        return NULL;
    }
    return s;
}

/* The last words to a client, if they leave at once. */
static void rpc_server_dismiss(struct rpc_call *c)
{
    c->pumping = true; /* nothing is served any more */
    if (c->busy)
        rpc_refuse(c, RPC_FAILED, "the VM has ended");
    if (c->fd >= 0)
        (void)rpc_server_flush(c);
    c->busy = false;
    rpc_server_leave(c);
}

void rpc_server_destroy(struct rpc_server *s)
{
    struct rpc_call *next;

    if (!s)
        return;
    for (struct rpc_call *c = s->clients; c; c = next) {
        next = c->next;
        rpc_server_dismiss(c);
    }
    if (s->listen_fd >= 0)
        loop_fd_del(&s->listen_watch);
    util_close(&s->listen_fd);
    free(s);
}
