/*
 * user.c: user-mode network on libslirp: 10.0.2.0/24 and fec0::/64, the host at .2, DNS at .3, the
 * guest from .15, as users know it from other VMMs.
 *
 * Threads: libslirp is not thread-safe, so it runs on the loop thread only. tx and rx, which any thread
 * may call, end at two bounded queues. That also keeps sockets out of the vCPU threads, whose system
 * call filter can then do without them.
 *
 * libslirp's sockets live in an epoll set of their own, of which the loop sees one descriptor: events of
 * one turn are handed to libslirp together, and a number that it closes and another part of the process
 * gets at once cannot be confused.
 */
#include "net/user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <slirp/libslirp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/frameq.h"
#include "net/port_holder.h"
#include "vm/config.h"

enum {
    USER_TX_BYTES = 1 * MIB,
    USER_RX_BYTES = 4 * MIB, /* beyond: dropped, TCP sends again */
    USER_RX_HIGH = 1 * MIB,  /* beyond: libslirp reads no more from the host's sockets */
    USER_EVENTS = 64,
    USER_IDLE_MS = 1000, /* what libslirp answers when it has no timer of its own */
};

struct user_fd {         /* by descriptor number */
    uint32_t want, have; /* epoll events asked for by libslirp, in the epoll set; 0: not there */
    uint32_t ready;      /* of this turn */
};

struct user_timer {
    struct loop_timer timer;
    struct user *u;
    SlirpTimerId id;
    void *opaque;
};

struct user {
    struct net_opts opts;
    Slirp *slirp;
    int epoll_fd;
    struct loop_fd watch;
    struct loop_timer timer;
    struct loop_work work;
    struct frameq tx, rx;
    struct user_fd *fds;
    int n_fds;
    bool rx_fresh; /* libslirp has sent something */
    bool rx_enabled;
    atomic_bool rx_high; /* reading from the host is suspended */
    struct log_limit log;
};

static void user_turn(struct user *u, bool poll);

/* --- what libslirp calls -------------------------------------------------------------------- */

static ssize_t user_cb_send(const void *buf, size_t len, void *opaque)
{
    struct user *u = opaque;
    struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };

    if (!frameq_push(&u->rx, &iov, 1))
        u->rx_fresh = true;
    return (ssize_t)len; /* a lost frame is no error */
}

static void user_cb_guest_error(const char *msg, void *opaque)
{
    struct user *u = opaque;

    log_limited(&u->log, LOG_WARN, "net", "the guest sent nonsense: %s", msg);
}

static int64_t user_cb_clock(void *opaque)
{
    (void)opaque;
    return (int64_t)util_monotonic_ns();
}

static void user_timer_fire(struct loop_timer *t)
{
    struct user_timer *ut = container_of(t, struct user_timer, timer);

    slirp_handle_timer(ut->u->slirp, ut->id, ut->opaque);
    user_turn(ut->u, false);
}

static void *user_cb_timer_new(SlirpTimerId id, void *timer_opaque, void *opaque)
{
    struct user *u = opaque;
    struct user_timer *ut = calloc(1, sizeof(*ut));

    if (!ut)
        return NULL;
    *ut = (struct user_timer){ .u = u, .id = id, .opaque = timer_opaque };
    loop_timer_init(u->opts.loop, &ut->timer, user_timer_fire);
    return ut;
}

static void user_cb_timer_free(void *timer, void *opaque)
{
    struct user_timer *ut = timer;

    (void)opaque;
    if (ut)
        loop_timer_cancel(&ut->timer);
    free(ut);
}

static void user_cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct user_timer *ut = timer;

    (void)opaque;
    if (ut)
        loop_timer_set(&ut->timer, (uint64_t)max_u64((uint64_t)expire_ms, 1) * 1000000u);
}

static void user_cb_register(int fd, void *opaque)
{
    (void)fd;
    (void)opaque; /* every turn asks for the whole list */
}

static void user_cb_unregister(int fd, void *opaque)
{
    struct user *u = opaque;

    if (fd < 0 || fd >= u->n_fds)
        return;
    if (u->fds[fd].have)
        epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    u->fds[fd] = (struct user_fd){ 0 };
}

static void user_cb_notify(void *opaque)
{
    struct user *u = opaque;

    loop_post(u->opts.loop, &u->work);
}

static void user_cb_init_completed(Slirp *slirp, void *opaque)
{
    ((struct user *)opaque)->slirp = slirp; /* its timers may fire before slirp_new() returns */
}

static const SlirpCb user_cbs = {
    .send_packet = user_cb_send,
    .guest_error = user_cb_guest_error,
    .clock_get_ns = user_cb_clock,
    .timer_free = user_cb_timer_free,
    .timer_mod = user_cb_timer_mod,
    .register_poll_fd = user_cb_register,
    .unregister_poll_fd = user_cb_unregister,
    .notify = user_cb_notify,
    .init_completed = user_cb_init_completed,
    .timer_new_opaque = user_cb_timer_new,
};

/* --- descriptors and time ------------------------------------------------------------------- */

static const struct {
    int slirp;
    uint32_t epoll;
} user_events[] = {
    { SLIRP_POLL_IN, EPOLLIN },   { SLIRP_POLL_OUT, EPOLLOUT }, { SLIRP_POLL_PRI, EPOLLPRI },
    { SLIRP_POLL_ERR, EPOLLERR }, { SLIRP_POLL_HUP, EPOLLHUP },
};

static bool user_fds_grow(struct user *u, int fd)
{
    struct user_fd *fds;
    int n = fd + 64;

    if (fd < u->n_fds)
        return true;
    fds = realloc(u->fds, (size_t)n * sizeof(*fds));
    if (!fds)
        return false;
    memset(fds + u->n_fds, 0, (size_t)(n - u->n_fds) * sizeof(*fds));
    u->fds = fds;
    u->n_fds = n;
    return true;
}

static int user_add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;
    uint32_t want = 0;

    for (size_t i = 0; i < ARRAY_SIZE(user_events); i++)
        if (events & user_events[i].slirp)
            want |= user_events[i].epoll;
    if (atomic_load(&u->rx_high))
        want &= ~(uint32_t)EPOLLIN;
    if (fd < 0 || !user_fds_grow(u, fd))
        return -1;
    u->fds[fd].want = want;
    return fd;
}

static int user_get_revents(int idx, void *opaque)
{
    struct user *u = opaque;
    int revents = 0;

    if (idx < 0 || idx >= u->n_fds)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(user_events); i++)
        if (u->fds[idx].ready & user_events[i].epoll)
            revents |= user_events[i].slirp;
    return revents;
}

/* Brings the epoll set's entry for fd to what is wanted. */
static void user_fd_apply(struct user *u, int fd)
{
    struct user_fd *f = &u->fds[fd];
    struct epoll_event ev = { .events = f->want, .data.fd = fd };
    int rc;

    if (f->want == f->have)
        return;
    if (!f->want) {
        rc = epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    } else {
        rc = epoll_ctl(u->epoll_fd, f->have ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
        if (rc && errno == ENOENT)
            rc = epoll_ctl(u->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    }
    f->have = rc ? 0 : f->want;
}

/* Asks libslirp what it waits for, and waits for that. */
static void user_rearm(struct user *u)
{
    uint32_t timeout_ms = UINT32_MAX;

    for (int fd = 0; fd < u->n_fds; fd++)
        u->fds[fd].want = 0;
    slirp_pollfds_fill(u->slirp, &timeout_ms, user_add_poll, u);
    for (int fd = 0; fd < u->n_fds; fd++)
        user_fd_apply(u, fd);
    if (timeout_ms < USER_IDLE_MS)
        loop_timer_set(&u->timer, util_monotonic_ns() + timeout_ms * 1000000ull);
    else
        loop_timer_cancel(&u->timer);
}

static void user_poll(struct user *u)
{
    struct epoll_event ev[USER_EVENTS];
    int n = epoll_wait(u->epoll_fd, ev, USER_EVENTS, 0);

    for (int fd = 0; fd < u->n_fds; fd++)
        u->fds[fd].ready = 0;
    for (int i = 0; i < n; i++)
        if (ev[i].data.fd < u->n_fds)
            u->fds[ev[i].data.fd].ready = ev[i].events;
    slirp_pollfds_poll(u->slirp, 0, user_get_revents, u);
}

static void user_send_queued(struct user *u)
{
    struct frame *f;

    while ((f = frameq_pop(&u->tx))) {
        slirp_input(u->slirp, f->data, (int)f->len);
        free(f);
    }
}

/* One round of everything: frames from the guest, events from the host, and the news to the card. */
static void user_turn(struct user *u, bool poll)
{
    user_send_queued(u);
    if (poll)
        user_poll(u);
    atomic_store(&u->rx_high, frameq_bytes(&u->rx) > USER_RX_HIGH);
    user_rearm(u);
    if (u->rx_fresh && u->rx_enabled) {
        u->rx_fresh = false;
        u->opts.rx_ready(u->opts.opaque);
    }
    if (frameq_was_refused(&u->tx) && u->opts.tx_ready)
        u->opts.tx_ready(u->opts.opaque);
}

static void user_fd_ready(struct loop_fd *w, uint32_t events)
{
    (void)events;
    user_turn(container_of(w, struct user, watch), true);
}

static void user_time_over(struct loop_timer *t)
{
    user_turn(container_of(t, struct user, timer), true);
}

static void user_posted(struct loop_work *w)
{
    user_turn(container_of(w, struct user, work), false);
}

/* --- set-up --------------------------------------------------------------------------------- */

/* Why libslirp could not listen: it does not tell, so the same is tried again. */
static int user_bind_error(bool udp, const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    int one = 1, error = 0;

    if (fd < 0)
        return errno;
    if (!udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) || (!udp && listen(fd, 1)))
        error = errno;
    close(fd);
    return error ? error : EIO;
}

static int user_forward_failed(const struct config_forward *f, const struct sockaddr_in *addr,
                               struct err *e)
{
    const char *proto = f->udp ? "UDP" : "TCP";
    int error = user_bind_error(f->udp, addr);
    char holder[96];

    switch (error) {
    case EADDRINUSE:
        port_holder_find(f->udp, f->host_port, holder, sizeof(holder));
        return err_set(e, error,
                       "%s port %u of %s is taken by %s: choose another host port for the "
                       "guest's port %u, or end that program",
                       proto, f->host_port, f->host_addr, holder, f->guest_port);
    case EACCES:
        return err_set(e, error,
                       "this user may not listen on %s port %u: use a host port above 1023", proto,
                       f->host_port);
    case EADDRNOTAVAIL:
        return err_set(e, error, "%s is not an address of this host: 'ip address' lists them",
                       f->host_addr);
    default:
        return err_set(e, error, "cannot listen on %s port %u of %s: %s", proto, f->host_port,
                       f->host_addr, strerror(error));
    }
}

static int user_forward(struct user *u, const struct config_forward *f, struct err *e)
{
    struct sockaddr_in host = { .sin_family = AF_INET, .sin_port = htons(f->host_port) };
    struct sockaddr_in guest = { .sin_family = AF_INET, .sin_port = htons(f->guest_port) };
    const char *addr = f->host_addr[0] ? f->host_addr : "127.0.0.1";

    if (strchr(addr, ':'))
        return err_set(e, EAFNOSUPPORT,
                       "cannot forward from %s: ports are forwarded from IPv4 "
                       "addresses only",
                       addr);
    if (inet_pton(AF_INET, addr, &host.sin_addr) != 1)
        return err_set(e, EINVAL, "'%s' is not an IPv4 address to listen on", addr);
    /* the guest's address 0 stands for the one that DHCP gives out first */
    if (slirp_add_hostxfwd(u->slirp, (struct sockaddr *)&host, sizeof(host),
                           (struct sockaddr *)&guest, sizeof(guest),
                           f->udp ? SLIRP_HOSTFWD_UDP : 0))
        return user_forward_failed(f, &host, e);
    return 0;
}

/* Has the host a name server that libslirp can pass questions on to? */
static bool user_host_has_dns(void)
{
    FILE *f = fopen("/etc/resolv.conf", "re");
    struct in_addr addr;
    char line[256], text[64];
    bool found = false;

    if (!f)
        return false;
    while (!found && fgets(line, sizeof(line), f))
        found = sscanf(line, "nameserver %63s", text) == 1 && inet_pton(AF_INET, text, &addr) == 1;
    fclose(f);
    return found;
}

static struct in_addr user_addr(const char *text)
{
    struct in_addr a = { 0 };

    inet_pton(AF_INET, text, &a);
    return a;
}

static struct in6_addr user_addr6(const char *text)
{
    struct in6_addr a = { 0 };

    inet_pton(AF_INET6, text, &a);
    return a;
}

static Slirp *user_start_slirp(struct user *u)
{
    static const char fallback[] = "9.9.9.9";
    SlirpConfig cfg = {
        .version = 4,
        .in_enabled = true,
        .vnetwork = user_addr("10.0.2.0"),
        .vnetmask = user_addr("255.255.255.0"),
        .vhost = user_addr("10.0.2.2"),
        .vdhcp_start = user_addr("10.0.2.15"),
        .vnameserver = user_addr("10.0.2.3"),
        .in6_enabled = true,
        .vprefix_addr6 = user_addr6("fec0::"),
        .vprefix_len = 64,
        .vhost6 = user_addr6("fec0::2"),
        .vnameserver6 = user_addr6("fec0::3"),
    };

    if (u->opts.cfg) {
        cfg.tftp_path = u->opts.cfg->net_tftp;
        cfg.bootfile = u->opts.cfg->net_bootfile;
    }
    if (!user_host_has_dns()) {
        cfg.vnameserver = user_addr(fallback);
        log_warn("net", "/etc/resolv.conf names no IPv4 name server: the guest is told to use %s",
                 fallback);
    }
    return slirp_new(&cfg, &user_cbs, u);
}

static void user_free(struct user *u)
{
    if (u->slirp)
        slirp_cleanup(u->slirp);
    loop_fd_del(&u->watch);
    loop_timer_cancel(&u->timer);
    loop_unpost(u->opts.loop, &u->work);
    util_close(&u->epoll_fd);
    frameq_fini(&u->tx);
    frameq_fini(&u->rx);
    free(u->fds);
    free(u);
}

static int user_set_up(struct user *u, struct err *e)
{
    const struct vm_config *cfg = u->opts.cfg;
    int rc;

    u->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (u->epoll_fd < 0)
        return err_set(e, errno, "cannot start the network: %s", strerror(errno));
    rc = loop_fd_add(u->opts.loop, &u->watch, u->epoll_fd, EPOLLIN, user_fd_ready);
    if (rc)
        return err_set(e, -rc, "cannot start the network: %s", strerror(-rc));
    if (!user_start_slirp(u))
        return err_set(e, EIO, "cannot start the user-mode network");
    for (unsigned i = 0; cfg && i < cfg->n_forwards; i++) {
        rc = user_forward(u, &cfg->forward[i], e);
        if (rc)
            return rc;
    }
    return 0;
}

static int user_open(struct net *n, const struct net_opts *o, struct err *e)
{
    struct user *u = calloc(1, sizeof(*u));
    int rc;

    if (!u) {
        err_oom(e);
        return -ENOMEM;
    }
    *u = (struct user){ .opts = *o, .epoll_fd = -1, .rx_enabled = true };
    u->work.call = user_posted;
    loop_timer_init(o->loop, &u->timer, user_time_over);
    frameq_init(&u->tx, USER_TX_BYTES);
    frameq_init(&u->rx, USER_RX_BYTES);
    rc = user_set_up(u, e);
    if (rc) {
        user_free(u);
        return rc;
    }
    loop_post(o->loop, &u->work); /* arms it */
    n->priv = u;
    return 0;
}

static void user_close(struct net *n)
{
    user_free(n->priv);
}

static int user_tx(struct net *n, const struct iovec *iov, int niov)
{
    struct user *u = n->priv;
    int rc = frameq_push(&u->tx, iov, niov);

    loop_post(u->opts.loop, &u->work);
    return rc;
}

static ssize_t user_rx_len(struct net *n)
{
    struct user *u = n->priv;

    return frameq_next_len(&u->rx);
}

static ssize_t user_rx(struct net *n, const struct iovec *iov, int niov)
{
    struct user *u = n->priv;
    struct frame *f = frameq_pop(&u->rx);
    size_t at = 0;

    if (!f)
        return 0;
    for (int i = 0; i < niov && at < f->len; i++) {
        size_t len = min_u64(iov[i].iov_len, f->len - at);

        memcpy(iov[i].iov_base, f->data + at, len);
        at += len;
    }
    free(f);
    if (atomic_load(&u->rx_high) && frameq_bytes(&u->rx) < USER_RX_HIGH / 2)
        loop_post(u->opts.loop, &u->work); /* reading goes on */
    return (ssize_t)at;
}

static void user_rx_enable(struct net *n, bool on)
{
    struct user *u = n->priv;

    u->rx_enabled = on;
    if (on && frameq_next_len(&u->rx)) {
        u->rx_fresh = true;
        loop_post(u->opts.loop, &u->work);
    }
}

const struct net_ops user_ops = {
    .type = "user",
    .big_frames = true,
    .open = user_open,
    .close = user_close,
    .tx = user_tx,
    .rx_len = user_rx_len,
    .rx = user_rx,
    .rx_enable = user_rx_enable,
};
