/*
 * vnc.c: sockets and the refresh: while somebody looks, the screen is drawn some times a second and compared
 * with what was there. See vnc.h, vnc_priv.h.
 *
 * A viewer's input waits while something has not left for it, and it is sent a new update only once it has
 * taken the last one: what is kept of it is bounded by the screen's size.
 */
#include "display/vnc_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"

enum {
    REFRESH_NS = 33000000,
    VIEWERS_MAX = 16,
    READ_LEN = 4096,
    BLANK_WIDTH = 640,
    BLANK_HEIGHT = 480
};

struct vnc_viewer {
    struct vnc *vnc;
    struct vnc_viewer *next;
    struct loop_fd watch;
    int fd;
    uint8_t in[READ_LEN];
    size_t in_len, in_at;
    struct vnc_client client;
};
struct vnc {
    struct loop *loop;
    struct vnc_source source;
    char password[VNC_PASSWORD + 1];
    bool has_password;
    int fd;
    struct loop_fd watch;
    struct loop_timer refresh;
    struct surface screen, next;
    struct vnc_viewer *viewers;
    unsigned n_viewers;
};

/* --- the screen --- */

static bool vnc_tile_differs(const struct surface *a, const struct surface *b, unsigned x,
                             unsigned y)
{
    size_t len = min_u64(VNC_TILE, a->width - x) * sizeof(uint32_t);

    for (unsigned i = 0; i < VNC_TILE && y + i < a->height; i++) {
        size_t at = (size_t)(y + i) * a->width + x;

        if (memcmp(a->pixels + at, b->pixels + at, len))
            return true;
    }
    return false;
}

static void vnc_mark_changes(struct vnc *v, bool all)
{
    for (unsigned y = 0; y < v->screen.height; y += VNC_TILE)
        for (unsigned x = 0; x < v->screen.width; x += VNC_TILE) {
            if (!all && !vnc_tile_differs(&v->screen, &v->next, x, y))
                continue;
            for (struct vnc_viewer *i = v->viewers; i; i = i->next)
                vnc_client_mark(&i->client, x / VNC_TILE, y / VNC_TILE);
        }
}

static void vnc_draw(struct vnc *v)
{
    struct surface was = v->screen;
    bool resized;

    if (v->source.draw(v->source.opaque, &v->next) || !v->next.width)
        return; /* the guest is between two modes: what was there stays */
    resized = was.width != v->next.width || was.height != v->next.height;
    v->screen = v->next;
    v->next = was;
    vnc_mark_changes(v, resized);
}

/* --- a viewer's socket --- */

static void vnc_viewer_close(struct vnc_viewer *w)
{
    struct vnc *v = w->vnc;
    struct vnc_viewer **at = &v->viewers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    v->n_viewers--;
    loop_fd_del(&w->watch);
    util_close(&w->fd);
    vnc_client_fini(&w->client);
    free(w);
    log_info("vnc", "a viewer left");
}

/* Sends what the socket takes; false: the viewer is gone. */
static bool vnc_viewer_flush(struct vnc_viewer *w)
{
    struct vnc_buf *b = &w->client.tx;

    while (b->sent < b->len) {
        ssize_t n = send(w->fd, b->data + b->sent, b->len - b->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN && !b->failed;
        b->sent += (size_t)n;
    }
    b->sent = b->len = 0;
    return !b->failed && w->client.phase != VNC_ENDED;
}

/* All that is there, as far as answers leave at once; false: the viewer is gone. */
static bool vnc_viewer_pump(struct vnc_viewer *w)
{
    for (;;) {
        ssize_t n;

        vnc_client_update(&w->client);
        if (!vnc_viewer_flush(w))
            return false;
        if (w->client.tx.len)
            return true; /* goes on when the socket takes more */
        if (w->in_at < w->in_len) {
            w->in_at += vnc_client_feed(&w->client, w->in + w->in_at, w->in_len - w->in_at);
            continue;
        }
        if (w->client.phase == VNC_ENDED)
            return false;
        n = recv(w->fd, w->in, sizeof(w->in), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        w->in_at = 0;
        w->in_len = (size_t)n;
    }
}

static void vnc_viewer_turn(struct vnc_viewer *w)
{
    if (!vnc_viewer_pump(w) || loop_fd_events(&w->watch, w->client.tx.len ? EPOLLOUT : EPOLLIN))
        vnc_viewer_close(w);
}

static void vnc_viewer_ready(struct loop_fd *f, uint32_t events)
{
    (void)events;
    vnc_viewer_turn(container_of(f, struct vnc_viewer, watch));
}

static void vnc_refresh(struct loop_timer *t)
{
    struct vnc *v = container_of(t, struct vnc, refresh);
    struct vnc_viewer *next;

    if (!v->viewers)
        return;
    vnc_draw(v);
    for (struct vnc_viewer *w = v->viewers; w; w = next) {
        next = w->next;
        vnc_viewer_turn(w);
    }
    loop_timer_set(t, util_monotonic_ns() + REFRESH_NS);
}

static bool vnc_viewer_add(struct vnc *v, int fd)
{
    struct vnc_viewer *w = v->n_viewers < VIEWERS_MAX ? calloc(1, sizeof(*w)) : NULL;
    uint8_t random[VNC_CHALLENGE];

    if (!w || getrandom(random, sizeof(random), 0) != sizeof(random) ||
        loop_fd_add(v->loop, &w->watch, fd, EPOLLIN, vnc_viewer_ready)) {
        free(w);
        return false;
    }
    w->vnc = v;
    w->fd = fd;
    w->client.source = &v->source;
    w->client.screen = &v->screen;
    w->client.password = v->has_password ? v->password : NULL;
    w->next = v->viewers;
    v->viewers = w;
    v->n_viewers++;
    vnc_draw(v);
    vnc_client_start(&w->client, random);
    vnc_viewer_turn(w);
    return true;
}

static void vnc_accept(struct loop_fd *f, uint32_t events)
{
    struct vnc *v = container_of(f, struct vnc, watch);
    int fd = accept4(v->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;

    (void)events;
    if (fd < 0)
        return; /* it went away again */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof(one)); /* a unix socket refuses, rightly */
    if (!vnc_viewer_add(v, fd)) {
        log_warn("vnc", "a viewer was turned away");
        close(fd);
        return;
    }
    log_info("vnc", "a viewer came");
    loop_timer_set(&v->refresh, util_monotonic_ns() + REFRESH_NS);
}

/* --- life --- */

static int vnc_listen(struct vnc *v, const char *where, struct err *e)
{
    struct sock_addr a;
    int rc = sock_parse("--display vnc", where, &a, e);

    if (rc)
        return rc;
    v->fd = sock_listen("--display vnc", &a, e);
    if (v->fd < 0)
        return v->fd;
    rc = loop_fd_add(v->loop, &v->watch, v->fd, EPOLLIN, vnc_accept);
    return rc ? err_set(e, -rc, "cannot listen for viewers: %s", strerror(-rc)) : 0;
}

struct vnc *vnc_create(struct loop *l, const char *where, const char *password,
                       const struct vnc_source *source, struct err *e)
{
    struct vnc *v = calloc(1, sizeof(*v));

    if (!v)
        return err_oom(e);
    v->loop = l;
    v->source = *source;
    v->fd = -1;
    loop_timer_init(l, &v->refresh, vnc_refresh);
    if (password) {
        v->has_password = true;
        memcpy(v->password, password, strnlen(password, VNC_PASSWORD));
    }
    if (surface_resize(&v->screen, BLANK_WIDTH, BLANK_HEIGHT) || vnc_listen(v, where, e)) {
        err_set(e, ENOMEM, "out of memory");
        vnc_destroy(v);
        return NULL;
    }
    return v;
}

void vnc_destroy(struct vnc *v)
{
    if (!v)
        return;
    for (struct vnc_viewer *w = v->viewers, *next; w; w = next) {
        next = w->next;
        vnc_viewer_close(w);
    }
    loop_timer_cancel(&v->refresh);
    if (v->watch.loop)
        loop_fd_del(&v->watch);
    util_close(&v->fd);
    surface_fini(&v->screen);
    surface_fini(&v->next);
    free(v);
}

void vnc_where(const struct vnc *v, char *buf, size_t len)
{
    sock_name(v->fd, buf, len);
}
