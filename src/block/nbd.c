/*
 * nbd.c: a disk on an NBD server (nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, and nbds, with TLS),
 * through libnbd, which is loaded when the first such disk is opened.
 *
 * A thread of its own has the connection; submitted requests wait in `queue` until it looks. If the server goes
 * away, or is silent for as long as `patience_ns` though something is asked of it, the thread connects again, and what
 * was in flight is sent once more; if nothing has been answered `patience_ns` later, requests fail, while it goes on
 * trying.
 *
 * Locking: `lock` guards what both sides use; the connection and the commands are the thread's alone.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/iov.h"
#include "base/log.h"
#include "block/formats.h"
#include "block/nbd_priv.h"

enum { NBD_CONNECT_MS = 10000, NBD_PATIENCE_MS = 30000, NBD_RETRY_MS = 1000 };

/* A request on its way: one command, or several if it is longer than the server takes. */
struct nbd_op {
    struct nbd_disk *d;
    struct blk_req *r;
    struct nbd_op *next; /* in d->again */
    char *bounce;        /* data in one piece; NULL: the request has it so */
    unsigned commands;   /* in flight, and one while they are being made */
    int err;             /* the first that failed */
    bool flushing;       /* the flush after a write to a server without FUA */
};

/* A question about block status, which waits for its answer. */
struct nbd_question {
    uint64_t off, len;
    struct blk_extent *x;
    bool done, sent;
    int err;
};

struct nbd_disk {
    struct remote remote;
    struct nbd_lib lib;
    struct nbd_server server;
    const char *uri; /* the blk's path */
    bool readonly;
    uint64_t patience_ns;
    int wake_fd, stop_fd; /* the second is readable when the thread has to end */
    pthread_t thread;
    bool started;

    /* the thread's */
    struct nbd_handle *h; /* NULL: not connected */
    struct nbd_op *again; /* to be sent when it is */
    bool sending;         /* inside a call that makes a command */
    unsigned in_flight;   /* what the server has to answer: ops, and a question */
    uint64_t heard_ns;    /* when the server last moved, or got something to do */
    uint64_t lost_ns;     /* when the connection was lost; 0: since then something was answered */

    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct blk_req *queue, **queue_tail;
    struct nbd_question *question;
    bool stop;
};

/* --- requests, on the thread --- */

static void nbd_op_free(struct nbd_op *op)
{
    free(op->bounce);
    free(op);
}

static void nbd_finish(struct nbd_op *op)
{
    struct blk_req *r = op->r;

    if (!op->err && r->op == BLK_READ && op->bounce)
        iov_copy_to(r->iov, (unsigned)r->niov, 0, op->bounce, r->len);
    remote_done(&op->d->remote, r, -op->err);
    nbd_op_free(op);
}

static bool nbd_is_lost(int err)
{
    return err == ENOTCONN || err == ESHUTDOWN || err == EPIPE || err == ECONNRESET;
}

static int nbd_completed(void *opaque, int *error);
static void nbd_settle(struct nbd_op *op);

static void nbd_flush_after(struct nbd_op *op)
{
    nbd_completion_callback cb = { .callback = nbd_completed, .user_data = op };

    op->flushing = true;
    op->commands = 2; /* the flush, and the making of it */
    op->d->sending = true;
    if (op->d->lib.aio_flush(op->d->h, cb, 0) < 0) {
        op->err = ENOTCONN;
        op->commands--;
    }
    op->d->sending = false;
    nbd_settle(op);
}

static bool nbd_wants_flush_after(const struct nbd_op *op)
{
    const struct nbd_server *s = &op->d->server;

    return !op->err && !op->flushing && (op->r->flags & BLK_F_FUA) && !s->fua && s->flush &&
           (op->r->op == BLK_WRITE || op->r->op == BLK_WRITE_ZEROES);
}

/* The server has something to do from now on. */
static void nbd_count(struct nbd_disk *d)
{
    if (!d->in_flight++)
        d->heard_ns = util_monotonic_ns();
}

/* The server has answered: it works. */
static void nbd_found(struct nbd_disk *d)
{
    if (d->lost_ns)
        log_info("block", "disk '%s': the server is back", d->uri);
    d->lost_ns = 0;
}

/* One of its commands is done, or all have been made. */
static void nbd_settle(struct nbd_op *op)
{
    struct nbd_disk *d = op->d;

    if (--op->commands)
        return;
    if (nbd_wants_flush_after(op)) {
        nbd_flush_after(op);
        return;
    }
    d->in_flight--;
    if (nbd_is_lost(op->err)) {
        op->next = d->again;
        d->again = op;
    } else {
        nbd_found(d);
        nbd_finish(op);
    }
}

static int nbd_completed(void *opaque, int *error)
{
    struct nbd_op *op = opaque;
    const struct nbd_disk *d = op->d;

    if (*error && !op->err)
        op->err = *error;
    nbd_settle(op);
    /* 1: libnbd may free the command. Not while it is making one (1.14 would go on using it): nbd_lost() will. */
    return !d->sending;
}

static int64_t nbd_command(struct nbd_op *op, char *data, uint64_t off, uint64_t len)
{
    nbd_completion_callback cb = { .callback = nbd_completed, .user_data = op };
    const struct nbd_lib *lib = &op->d->lib;
    struct nbd_handle *h = op->d->h;
    unsigned fua = (op->r->flags & BLK_F_FUA) && op->d->server.fua ? LIBNBD_CMD_FLAG_FUA : 0;

    switch (op->r->op) {
    case BLK_READ:
        return lib->aio_pread(h, data, len, off, cb, 0);
    case BLK_WRITE:
        return lib->aio_pwrite(h, data, len, off, cb, fua);
    case BLK_DISCARD:
        return lib->aio_trim(h, len, off, cb, 0);
    case BLK_WRITE_ZEROES:
        if (!op->d->server.zero)
            return lib->aio_pwrite(h, op->bounce, len, off, cb, fua);
        fua |= op->r->flags & BLK_F_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
        return lib->aio_zero(h, len, off, cb, fua);
    case BLK_FLUSH:
        return lib->aio_flush(h, cb, 0);
    }
    return -1;
}

/* Sends all of it. */
static void nbd_send(struct nbd_op *op)
{
    struct blk_req *r = op->r;
    char *data = op->bounce ? op->bounce : r->niov ? r->iov[0].iov_base : NULL;
    uint64_t done = 0;

    op->err = 0;
    op->flushing = false;
    op->commands = 1;
    nbd_count(op->d);
    do {
        uint64_t len = min_u64(r->len - done, op->d->server.max_len);

        op->commands++;
        op->d->sending = true;
        if (nbd_command(op, data ? data + done : NULL, r->off + done, len) < 0) {
            op->commands--;
            op->err = nbd_link_alive(&op->d->lib, op->d->h) ? EIO : ENOTCONN;
        }
        op->d->sending = false;
        done += len;
    } while (done < r->len && !op->err);
    nbd_settle(op);
}

/* What the server cannot do at all, and need not. */
static bool nbd_is_nothing(const struct nbd_disk *d, const struct blk_req *r)
{
    return (r->op == BLK_FLUSH && !d->server.flush) || (r->op == BLK_DISCARD && !d->server.trim);
}

/* Data in one piece: the commands take no vectors. */
static bool nbd_gather(struct nbd_op *op)
{
    struct blk_req *r = op->r;

    if (r->op == BLK_WRITE_ZEROES && !op->d->server.zero) {
        op->bounce = calloc(1, min_u64(r->len, op->d->server.max_len));
        return op->bounce;
    }
    if (r->op > BLK_WRITE || r->niov == 1)
        return true;
    op->bounce = malloc(r->len);
    if (op->bounce && r->op == BLK_WRITE)
        iov_copy_from(r->iov, (unsigned)r->niov, 0, op->bounce, r->len);
    return op->bounce;
}

static void nbd_begin(struct nbd_disk *d, struct blk_req *r)
{
    struct nbd_op *op;

    if (nbd_is_nothing(d, r)) {
        remote_done(&d->remote, r, 0);
        return;
    }
    op = calloc(1, sizeof(*op));
    if (!op) {
        remote_done(&d->remote, r, -ENOMEM);
        return;
    }
    op->d = d;
    op->r = r;
    if (!nbd_gather(op)) {
        op->err = ENOMEM;
        nbd_finish(op);
    } else if (d->h) {
        nbd_send(op);
    } else {
        op->next = d->again;
        d->again = op;
    }
}

/* --- block status --- */

static void nbd_answer(struct nbd_disk *d, int err)
{
    pthread_mutex_lock(&d->lock);
    if (d->question) {
        d->question->err = err;
        d->question->done = true;
        d->question = NULL;
        pthread_cond_broadcast(&d->answered);
    }
    pthread_mutex_unlock(&d->lock);
}

/* entries: pairs of length and flags; the first one is at the place that was asked for. */
static int nbd_extent(void *opaque, const char *context, uint64_t off, uint32_t *entries, size_t n,
                      int *error)
{
    struct nbd_question *q = opaque;

    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || n < 2 || off != q->off || !entries[0])
        return 0;
    q->x->len = min_u64(q->len, entries[0]);
    q->x->flags = BLK_X_ALLOCATED | (entries[1] & LIBNBD_STATE_ZERO ? BLK_X_ZERO : BLK_X_DATA);
    return 0;
}

static int nbd_status_done(void *opaque, int *error)
{
    struct nbd_disk *d = opaque;

    d->in_flight--;
    nbd_answer(d, -*error);
    return 1;
}

static void nbd_ask(struct nbd_disk *d, struct nbd_question *q)
{
    nbd_extent_callback extent = { .callback = nbd_extent, .user_data = q };
    nbd_completion_callback cb = { .callback = nbd_status_done, .user_data = d };

    q->sent = true;
    nbd_count(d);
    if (!d->h || d->lib.aio_block_status(d->h, min_u64(q->len, d->server.max_len), q->off, extent,
                                         cb, 0) < 0) {
        d->in_flight--;
        nbd_answer(d, -EIO);
    }
}

static int nbd_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    struct nbd_disk *d = b->priv;
    struct nbd_question q = { .off = off, .len = len, .x = x };

    *x = (struct blk_extent){ .len = len, .flags = BLK_X_ALLOCATED | BLK_X_DATA, .layer = b };
    if (!d->server.status)
        return 0;
    pthread_mutex_lock(&d->lock);
    d->question = &q;
    eventfd_write(d->wake_fd, 1);
    while (!q.done)
        pthread_cond_wait(&d->answered, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return 0; /* where it could not be found out, it is data */
}

/* --- the thread --- */

static void nbd_fail_all(struct nbd_disk *d, int err)
{
    while (d->again) {
        struct nbd_op *op = d->again;

        d->again = op->next;
        op->err = err;
        nbd_finish(op);
    }
}

static void nbd_lost(struct nbd_disk *d, const char *why)
{
    if (!d->lost_ns) {
        log_warn("block", "disk '%s': the server is gone (%s); trying to reach it again", d->uri,
                 why);
        d->lost_ns = util_monotonic_ns();
    }
    nbd_link_break(&d->lib, d->h); /* completes what was in flight, with an error that says so */
    d->h = NULL;
    nbd_answer(d, -EIO);
}

static void nbd_resend(struct nbd_disk *d)
{
    struct nbd_op *op = d->again;

    d->again = NULL;
    if (!op)
        nbd_found(d);
    while (op) {
        struct nbd_op *next = op->next;

        nbd_send(op);
        op = next;
    }
}

static unsigned nbd_connect_ms(const struct nbd_disk *d)
{
    return (unsigned)min_u64(NBD_CONNECT_MS, d->patience_ns / 1000000);
}

static void nbd_reconnect(struct nbd_disk *d)
{
    const struct nbd_patience p = { nbd_connect_ms(d), d->stop_fd };
    struct nbd_server server;
    struct err e = { 0 };

    d->h = nbd_link_open(&d->lib, d->uri, &p, &server, &e);
    if (d->h && (server.size < d->server.size || server.block > d->server.block ||
                 (server.readonly && !d->readonly))) {
        log_error("block", "disk '%s': the server is back, but with another disk", d->uri);
        d->lib.close(d->h);
        d->h = NULL;
    }
    if (!d->h)
        return;
    server.size = d->server.size;
    d->server = server;
    nbd_resend(d);
}

/* What is to be done about the connection, once it has been waited for. */
static void nbd_mend(struct nbd_disk *d)
{
    const char *why = d->lib.get_error();

    /* What could not even be sent shows up in no event. */
    if (d->h && (d->again || !nbd_link_alive(&d->lib, d->h)))
        nbd_lost(d, why ? why : "it hung up");
    else if (d->h && d->in_flight && util_monotonic_ns() - d->heard_ns > d->patience_ns)
        nbd_lost(d, "it does not answer");
    else if (!d->h)
        nbd_reconnect(d);
    if (!d->h && util_monotonic_ns() - d->lost_ns > d->patience_ns)
        nbd_fail_all(d, ETIMEDOUT);
}

/* False: to be stopped. */
static bool nbd_look(struct nbd_disk *d)
{
    struct nbd_question *q;
    struct blk_req *r;
    bool stop;

    pthread_mutex_lock(&d->lock);
    r = d->queue;
    d->queue = NULL;
    d->queue_tail = &d->queue;
    q = d->question && !d->question->sent ? d->question : NULL;
    stop = d->stop;
    pthread_mutex_unlock(&d->lock);
    while (r) {
        struct blk_req *next = r->next;

        nbd_begin(d, r);
        r = next;
    }
    if (q)
        nbd_ask(d, q);
    return !stop;
}

static void *nbd_thread(void *opaque)
{
    struct nbd_disk *d = opaque;
    eventfd_t count;

    while (nbd_look(d)) {
        bool idle = d->h && !d->again && !d->in_flight;

        if (nbd_link_poll(&d->lib, d->h, d->wake_fd, idle ? -1 : NBD_RETRY_MS))
            d->heard_ns = util_monotonic_ns();
        eventfd_read(d->wake_fd, &count);
        nbd_mend(d);
    }
    nbd_fail_all(d, EIO);
    nbd_link_close(&d->lib, d->h);
    return NULL;
}

/* --- the disk --- */

static void nbd_submit(struct blk *b, struct blk_req *r)
{
    struct nbd_disk *d = b->priv;
    bool wake;

    r->next = NULL;
    pthread_mutex_lock(&d->lock);
    wake = !d->queue;
    *d->queue_tail = r;
    d->queue_tail = &r->next;
    pthread_mutex_unlock(&d->lock);
    if (wake)
        eventfd_write(d->wake_fd, 1);
}

static void nbd_wait(struct blk *b)
{
    remote_wait(&((struct nbd_disk *)b->priv)->remote);
}

static int nbd_load(struct nbd_lib *lib, const char *disk, struct err *e)
{
    const struct remote_symbol symbols[] = {
#define NBD_SYMBOL(name) { "nbd_" #name, &lib->name },
        NBD_FUNCTIONS(NBD_SYMBOL)
#undef NBD_SYMBOL
    };

    lib->handle = remote_load("libnbd.so.0", "libnbd0", disk, symbols, ARRAY_SIZE(symbols), e);
    return lib->handle ? 0 : -ENOENT;
}

static void nbd_free(struct nbd_disk *d)
{
    if (d->started) {
        pthread_mutex_lock(&d->lock);
        d->stop = true;
        pthread_mutex_unlock(&d->lock);
        eventfd_write(d->wake_fd, 1);
        eventfd_write(d->stop_fd, 1);
        pthread_join(d->thread, NULL);
    } else if (d->h) {
        d->lib.close(d->h);
    }
    remote_fini(&d->remote);
    util_close(&d->wake_fd);
    util_close(&d->stop_fd);
    pthread_cond_destroy(&d->answered);
    pthread_mutex_destroy(&d->lock);
    if (d->lib.handle)
        dlclose(d->lib.handle);
    free(d);
}

/* A server that lets us connect may still not answer what it is asked. */
static int nbd_connect(struct nbd_disk *d, const struct blk_opts *o, struct err *e)
{
    struct nbd_patience p = { nbd_connect_ms(d), o->cancel_fd ? o->cancel_fd : -1 };
    struct nbd_handle *h = nbd_link_open(&d->lib, d->uri, &p, &d->server, e);
    int rc;

    if (!h)
        return -ECONNREFUSED;
    p.timeout_ms = (unsigned)(d->patience_ns / 1000000);
    rc = nbd_link_try(&d->lib, h, d->uri, &p, &d->server, e);
    d->h = rc ? NULL : h;
    return rc;
}

static int nbd_start(struct nbd_disk *d, const struct blk_opts *o, struct err *e)
{
    int rc = nbd_load(&d->lib, o->path, e);

    if (!rc)
        rc = remote_init(&d->remote, o->loop, e);
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc || d->wake_fd < 0 || d->stop_fd < 0)
        return rc ? rc : err_set(e, errno, "no eventfd: %s", strerror(errno));
    rc = nbd_connect(d, o, e);
    if (rc)
        return rc;
    if (d->server.readonly && !o->readonly)
        return err_set(e, EROFS, "disk '%s' is read-only at its server: add ,readonly", o->path);
    rc = pthread_create(&d->thread, NULL, nbd_thread, d);
    d->started = !rc;
    return rc ? err_set(e, rc, "no thread for disk '%s': %s", o->path, strerror(rc)) : 0;
}

static int nbd_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct nbd_disk *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->answered, NULL);
    d->remote.event_fd = d->wake_fd = d->stop_fd = -1;
    d->patience_ns = (o->timeout_ms ? o->timeout_ms : NBD_PATIENCE_MS) * 1000000ull;
    d->queue_tail = &d->queue;
    d->uri = b->path;
    d->readonly = o->readonly;
    rc = nbd_start(d, o, e);
    if (rc) {
        nbd_free(d);
        return rc;
    }
    b->size = d->server.size;
    b->block = d->server.block;
    b->priv = d;
    return 0;
}

static void nbd_disk_close(struct blk *b)
{
    nbd_free(b->priv);
}

const struct blk_ops blk_nbd_ops = {
    .format = "nbd",
    .open = nbd_open,
    .close = nbd_disk_close,
    .submit = nbd_submit,
    .wait = nbd_wait,
    .status = nbd_status,
};
