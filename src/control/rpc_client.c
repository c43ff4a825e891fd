/* rpc_client.c: see rpc_client.h. */
#include "control/rpc_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RPC_REPLY_MAX = 64 * MIB, RPC_REPLY_STEP = 64 * KIB, NS_PER_MS = 1000000 };

void rpc_client_init(struct rpc_client *c, int fd)
{
    *c = (struct rpc_client){ .fd = fd, .pass = -1 };
}

void rpc_client_fini(struct rpc_client *c)
{
    util_close(&c->fd);
}

/* When a wait that begins now ends; 0: never. */
static uint64_t rpc_client_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? 0 : util_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

/* Waits for bytes or the end; 0 or -ETIMEDOUT. */
static int rpc_client_poll(const struct rpc_client *c, short events, uint64_t deadline)
{
    for (;;) {
        struct pollfd p = { .fd = c->fd, .events = events };
        uint64_t now = util_monotonic_ns();
        int ms = -1, n;

        if (deadline)
            ms = now < deadline ? (int)min_u64((deadline - now) / NS_PER_MS + 1, INT32_MAX) : 0;
        n = poll(&p, 1, ms);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

void rpc_client_pass(struct rpc_client *c, int fd)
{
    c->pass = fd;
}

/* As send(), with what is to be passed beside the first bytes. */
static ssize_t rpc_client_send_some(struct rpc_client *c, const char *text, size_t len)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS } };
    struct iovec iov = { (void *)(uintptr_t)text, len }; /* is only read */
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t n;

    if (c->pass >= 0) {
        memcpy(CMSG_DATA(&control.head), &c->pass, sizeof(int));
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
    }
    n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        c->pass = -1;
    return n;
}

static int rpc_client_send(struct rpc_client *c, const char *text, uint64_t deadline)
{
    size_t len = strlen(text);

    while (len) {
        int rc = rpc_client_poll(c, POLLOUT, deadline);
        ssize_t n = rc ? 0 : rpc_client_send_some(c, text, len);

        if (rc)
            return rc;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -ECONNRESET;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* A line without its newline, malloc'd; NULL: *rc says why. */
static char *rpc_client_line(struct rpc_client *c, uint64_t deadline, size_t *len, int *rc)
{
    char *text = NULL;
    size_t have = 0, room = 0;

    for (;;) {
        ssize_t n = 0;

        if (have == room) {
            char *more = room < RPC_REPLY_MAX ? realloc(text, room + RPC_REPLY_STEP) : NULL;

            *rc = more ? 0 : -ENOMEM;
            if (!more)
                break;
            text = more;
            room += RPC_REPLY_STEP;
        }
        *rc = rpc_client_poll(c, POLLIN, deadline);
        if (!*rc)
            n = recv(c->fd, text + have, room - have, 0);
        if (!*rc && n <= 0)
            *rc = -ECONNRESET;
        if (*rc)
            break;
        have += (size_t)n;
        if (text[have - 1] == '\n') { /* the server sends nothing unasked: no line follows */
            *len = have - 1;
            return text;
        }
    }
    free(text);
    return NULL;
}

static int rpc_client_failed(int rc, struct err *e)
{
    switch (rc) {
    case -ETIMEDOUT:
        return err_set(e, ETIMEDOUT, "the VM does not answer: its process may be stopped");
    case -ECONNRESET:
        return err_set(e, ECONNRESET, "the VM ended before it answered");
    default:
        return err_set(e, -rc, "cannot talk to the VM: %s", strerror(-rc));
    }
}

int rpc_client_call(struct rpc_client *c, const char *method, json_t *params, int timeout_ms,
                    json_t **result, struct err *e)
{
    uint64_t deadline = rpc_client_deadline(timeout_ms);
    char *line = rpc_request_line(method, params, ++c->id), *reply;
    json_t *value = NULL;
    size_t len = 0;
    int rc;

    if (!line)
        return err_set(e, EINVAL, "the request is not valid UTF-8 text");
    rc = strlen(line) > RPC_LINE_MAX ? -EMSGSIZE : rpc_client_send(c, line, deadline);
    free(line);
    reply = rc ? NULL : rpc_client_line(c, deadline, &len, &rc);
    if (!reply)
        return rpc_client_failed(rc, e);
    rc = rpc_reply_parse(reply, len, c->id, &value, e);
    free(reply);
    if (!rc && result)
        *result = value;
    else
        json_decref(value);
    return rc;
}

int rpc_client_wait_end(struct rpc_client *c, int timeout_ms)
{
    uint64_t deadline = rpc_client_deadline(timeout_ms);
    char byte;

    for (;;) {
        int rc = rpc_client_poll(c, POLLIN, deadline);

        if (rc == -ETIMEDOUT)
            return rc;
        if (rc || recv(c->fd, &byte, 1, 0) <= 0)
            return 0;
    }
}
