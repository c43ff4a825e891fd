/*
 * gdb.c: the sockets of the debugger's server: one that listens, one client. Bytes go through gdb_feed(), so
 * that tests need no sockets. See gdb.h, gdb_priv.h.
 *
 * Input waits while an answer has not left: what is kept of either is bounded. While the guest runs, only
 * the interrupt is heard; a client does not send more (all-stop).
 */
#include "control/gdb_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"
#include "control/gdb_regs.h"

/* --- the protocol's outer layer --- */

static void gdb_put_tx(struct gdb *g, const char *bytes, size_t n)
{
    if (n > sizeof(g->tx) - g->tx_len) {
        g->tx_failed = true;
        return;
    }
    memcpy(g->tx + g->tx_len, bytes, n);
    g->tx_len += n;
}

void gdb_send(struct gdb *g)
{
    char frame[GDB_FRAME_MAX];
    size_t n = gdb_frame(&g->reply, frame);

    gdb_put_tx(g, frame, n);
}

/* The last answer is still in g->reply. */
static void gdb_resend(struct gdb *g)
{
    if (!g->no_ack && g->reply.len)
        gdb_send(g);
}

static void gdb_event(struct gdb *g, enum gdb_event event)
{
    switch (event) {
    case GDB_EV_PACKET:
        if (g->running)
            return;
        if (!g->no_ack)
            gdb_put_tx(g, "+", 1);
        gdb_packet(g);
        return;
    case GDB_EV_BAD:
        if (!g->no_ack)
            gdb_put_tx(g, "-", 1);
        return;
    case GDB_EV_NAK:
        gdb_resend(g);
        return;
    case GDB_EV_INTERRUPT:
        gdb_interrupt(g);
        return;
    default:
        return;
    }
}

size_t gdb_feed(struct gdb *g, const uint8_t *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && !g->tx_len)
        gdb_event(g, gdb_parser_push(&g->parser, bytes[i++]));
    return i;
}

void gdb_attach(struct gdb *g)
{
    gdb_parser_init(&g->parser);
    g->reply.len = 0;
    g->rx_len = g->rx_at = g->tx_len = g->tx_at = 0;
    g->no_ack = g->swbreak = g->hwbreak = g->physical = g->step_irqs = g->tx_failed = false;
    g->cpu = g->stop_cpu = 0;
    atomic_store(&g->connected, true);
    gdb_halt(g);
}

void gdb_leave(struct gdb *g)
{
    atomic_store(&g->connected, false);
    gdb_release(g);
}

/* --- the client's socket --- */

static void gdb_disconnect(struct gdb *g)
{
    log_info("gdb", "the debugger went away");
    loop_fd_del(&g->watch);
    util_close(&g->fd);
    gdb_leave(g);
}

/* Writes what it takes; false: the client is gone. */
static bool gdb_flush(struct gdb *g)
{
    while (g->tx_at < g->tx_len) {
        ssize_t n =
            send(g->fd, g->tx + g->tx_at, g->tx_len - g->tx_at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN && !g->tx_failed;
        g->tx_at += (size_t)n;
    }
    g->tx_at = g->tx_len = 0;
    return !g->tx_failed;
}

/* All that is there, as far as answers leave at once; false: the client is gone. */
static bool gdb_pump(struct gdb *g)
{
    for (;;) {
        ssize_t n;

        if (!gdb_flush(g))
            return false;
        if (g->tx_len)
            return true; /* goes on when the socket takes more */
        if (g->rx_at < g->rx_len) {
            g->rx_at += gdb_feed(g, g->rx + g->rx_at, g->rx_len - g->rx_at);
            continue;
        }
        n = recv(g->fd, g->rx, sizeof(g->rx), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        g->rx_at = 0;
        g->rx_len = (size_t)n;
    }
}

void gdb_turn(struct gdb *g)
{
    bool alive = g->fd >= 0 && gdb_pump(g);

    if (alive)
        alive = !loop_fd_events(&g->watch, g->tx_len ? EPOLLOUT : EPOLLIN);
    if (g->fd >= 0 && !alive)
        gdb_disconnect(g);
}

static void gdb_client_ready(struct loop_fd *w, uint32_t events)
{
    (void)events;
    gdb_turn(container_of(w, struct gdb, watch));
}

static void gdb_accept(struct loop_fd *w, uint32_t events)
{
    struct gdb *g = container_of(w, struct gdb, listen_watch);
    int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;

    (void)events;
    if (fd < 0)
        return; /* it went away again */
    if (g->fd >= 0) {
        log_warn("gdb", "a second debugger was turned away");
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof(one)); /* a unix socket refuses, rightly */
    if (loop_fd_add(g->vm->loop, &g->watch, fd, EPOLLIN, gdb_client_ready)) {
        close(fd);
        return;
    }
    g->fd = fd;
    log_info("gdb", "a debugger came");
    gdb_attach(g);
}

/* --- life --- */

static bool gdb_is_attached(struct debugger *d)
{
    return atomic_load(&container_of(d, struct gdb, debugger)->connected);
}

static void gdb_stopped(struct debugger *d, struct vcpu *c)
{
    struct gdb *g = container_of(d, struct gdb, debugger);

    (void)c;
    loop_post(g->vm->loop, &g->stop_work);
}

struct gdb *gdb_new(struct vm *vm, bool wait, struct err *e)
{
    struct gdb *g = calloc(1, sizeof(*g));

    if (!g)
        return err_oom(e);
    g->debugger = (struct debugger){ gdb_is_attached, gdb_stopped };
    g->vm = vm;
    g->fd = g->listen_fd = -1;
    g->avx = cpuid_has(&vm->cpuid, 1, 0, 2, 28);
    g->state = calloc(1, sizeof(*g->state));
    g->xml = gdb_regs_xml(g->avx);
    if (!g->state || !g->xml) {
        gdb_destroy(g);
        return err_oom(e);
    }
    gdb_run_init(g);
    g->running = !wait;
    vm->held = wait;
    vm->debugger = &g->debugger;
    return g;
}

struct gdb *gdb_create(struct vm *vm, const char *addr, bool wait, struct err *e)
{
    struct sock_addr a;
    struct gdb *g;

    if (sock_parse("--gdb", addr, &a, e))
        return NULL;
    g = gdb_new(vm, wait, e);
    if (!g)
        return NULL;
    g->listen_fd = sock_listen("--gdb", &a, e);
    if (g->listen_fd >= 0) {
        int rc = loop_fd_add(vm->loop, &g->listen_watch, g->listen_fd, EPOLLIN, gdb_accept);

        if (!rc)
            return g;
        util_close(&g->listen_fd);
        err_set(e, -rc, "cannot wait for debuggers: %s", strerror(-rc));
    }
    gdb_destroy(g);
    return NULL;
}

void gdb_where(const struct gdb *g, char *buf, size_t len)
{
    sock_name(g->listen_fd, buf, len);
}

void gdb_destroy(struct gdb *g)
{
    if (!g)
        return;
    if (g->fd >= 0) {
        g->reply.len = 0;
        gdb_put(&g->reply, "W00");
        gdb_send(g);
        gdb_flush(g);
        loop_fd_del(&g->watch);
        util_close(&g->fd);
    }
    if (g->listen_fd >= 0) {
        loop_fd_del(&g->listen_watch);
        util_close(&g->listen_fd);
    }
    loop_unpost(g->vm->loop, &g->stop_work);
    gdb_points_clear(g);
    for (unsigned i = 0; i < g->vm->nvcpus; i++)
        g->vm->vcpu[i]->debug = (struct debug_vcpu){ .points = NULL };
    g->vm->debugger = NULL;
    g->vm->held = false;
    free(g->state);
    free(g->xml);
    free(g);
}
