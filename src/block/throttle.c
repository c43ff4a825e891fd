/*
 * throttle.c: a disk that does no more than so many requests and bytes a second. Each limit is a leaky bucket
 * kept as a moment (the generic cell rate algorithm): `full_ns` is when all that was let through will have
 * been earned, and a request waits while that lies further ahead than the burst. So an idle disk has no
 * timer, nothing is counted between requests, and the long run is exact.
 *
 * Reads and writes wait in queues of their own, so that a limit on one does not hold up the other. Locking:
 * `lock` guards everything; requests are passed on without it.
 */
#include "block/formats.h"

#include <errno.h>

enum { THROTTLE_BURST_MS = 100, THROTTLE_MS_NS = 1000000 };
#define THROTTLE_SECOND_NS 1000000000ull
#define THROTTLE_COST_MAX  (3600 * THROTTLE_SECOND_NS) /* of one request: no overflow, no hang */

struct throttle_queue {
    struct blk_req *first, **tail;
};
struct throttle {
    struct blk *b;
    struct blk_limits limits;
    uint64_t burst_ns;
    struct loop_timer timer; /* unused without a loop: then nothing waits */

    pthread_mutex_t lock;
    uint64_t full_ns[2][BLK_LIMITS]; /* of requests, of bytes */
    struct throttle_queue queue[2];  /* reads, writes */
};

bool blk_throttle_wanted(const struct blk_limits *l)
{
    for (unsigned i = 0; i < BLK_LIMITS; i++)
        if (l->iops[i] || l->bps[i])
            return true;
    return false;
}

static uint64_t throttle_cost_ns(uint64_t units, uint64_t rate)
{
    return (uint64_t)((uint128)units * THROTTLE_SECOND_NS / rate);
}

/* When all of the buckets that such a request fills have room again. Lock held. */
static uint64_t throttle_due_ns(const struct throttle *t, bool write)
{
    unsigned own = write ? BLK_LIMIT_WRITE : BLK_LIMIT_READ;
    uint64_t full = 0;

    for (unsigned i = 0; i < 2; i++)
        full = max_u64(full, max_u64(t->full_ns[i][BLK_LIMIT_ALL], t->full_ns[i][own]));
    return full > t->burst_ns ? full - t->burst_ns : 0;
}

static void throttle_fill(uint64_t *full_ns, uint64_t now_ns, uint64_t units, uint64_t rate)
{
    if (rate)
        *full_ns =
            max_u64(*full_ns, now_ns) + min_u64(throttle_cost_ns(units, rate), THROTTLE_COST_MAX);
}

static void throttle_account(struct throttle *t, const struct blk_req *r, bool write,
                             uint64_t now_ns)
{
    const unsigned which[] = { BLK_LIMIT_ALL, write ? BLK_LIMIT_WRITE : BLK_LIMIT_READ };

    for (unsigned i = 0; i < ARRAY_SIZE(which); i++) {
        throttle_fill(&t->full_ns[0][which[i]], now_ns, 1, t->limits.iops[which[i]]);
        throttle_fill(&t->full_ns[1][which[i]], now_ns, r->len, t->limits.bps[which[i]]);
    }
}

/* Takes from the queues what may go now, as a list. Lock held. */
static struct blk_req *throttle_take(struct throttle *t, uint64_t now_ns)
{
    struct blk_req *head = NULL, **tail = &head;

    for (unsigned write = 0; write < 2; write++) {
        struct throttle_queue *q = &t->queue[write];

        while (q->first && throttle_due_ns(t, write) <= now_ns) {
            struct blk_req *r = q->first;

            throttle_account(t, r, write, now_ns);
            q->first = r->next;
            r->next = NULL;
            *tail = r;
            tail = &r->next;
        }
        if (!q->first)
            q->tail = &q->first;
    }
    return head;
}

/* For the first that waits, if any does. Lock held. */
static void throttle_arm(struct throttle *t)
{
    uint64_t due = UINT64_MAX;

    for (unsigned write = 0; write < 2; write++)
        if (t->queue[write].first)
            due = min_u64(due, throttle_due_ns(t, write));
    if (due != UINT64_MAX)
        loop_timer_set(&t->timer, due);
}

static void throttle_pass(struct throttle *t, struct blk_req *r)
{
    struct blk *child = t->b->child;

    while (r) {
        struct blk_req *next = r->next;

        r->next = NULL;
        r->flags &= ~(unsigned)BLK_F_MORE; /* its batch is over */
        child->ops->submit(child, r);
        r = next;
    }
}

static void throttle_fire(struct loop_timer *timer)
{
    struct throttle *t = container_of(timer, struct throttle, timer);
    struct blk_req *ready;

    pthread_mutex_lock(&t->lock);
    ready = throttle_take(t, util_monotonic_ns());
    throttle_arm(t);
    pthread_mutex_unlock(&t->lock);
    throttle_pass(t, ready);
}

/* False: it waits. */
static bool throttle_admit(struct throttle *t, struct blk_req *r, bool write)
{
    struct throttle_queue *q = &t->queue[write];
    uint64_t now = util_monotonic_ns();
    bool go;

    pthread_mutex_lock(&t->lock);
    go = !q->first && throttle_due_ns(t, write) <= now;
    if (go) {
        throttle_account(t, r, write, now);
    } else {
        bool first = !q->first;

        r->next = NULL;
        *q->tail = r;
        q->tail = &r->next;
        if (first)
            throttle_arm(t);
    }
    pthread_mutex_unlock(&t->lock);
    return go;
}

/* Flushes and discards move no data: they are free. */
static void throttle_submit(struct blk *b, struct blk_req *r)
{
    struct throttle *t = b->priv;
    bool write = r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES;

    if (!t->timer.loop || (!write && r->op != BLK_READ) || throttle_admit(t, r, write))
        b->child->ops->submit(b->child, r);
}

/* Who drains does not wait for the limits. False: nothing did. */
static bool throttle_release(struct throttle *t)
{
    bool any = false;

    for (unsigned i = 0; i < 2; i++) {
        struct blk_req *r;

        pthread_mutex_lock(&t->lock);
        r = t->queue[i].first;
        t->queue[i].first = NULL;
        t->queue[i].tail = &t->queue[i].first;
        pthread_mutex_unlock(&t->lock);
        any = any || r;
        throttle_pass(t, r);
    }
    return any;
}

static void throttle_wait(struct blk *b)
{
    if (!throttle_release(b->priv)) /* else some may be finished already */
        blk_wait(b->child);
}

static int throttle_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct throttle *t = calloc(1, sizeof(*t));

    if (!t)
        return err_set(e, ENOMEM, "out of memory");
    t->b = b;
    t->limits = o->limits;
    t->burst_ns = (o->limits.burst_ms ? o->limits.burst_ms : THROTTLE_BURST_MS) * THROTTLE_MS_NS;
    for (unsigned i = 0; i < 2; i++)
        t->queue[i].tail = &t->queue[i].first;
    if (o->loop)
        loop_timer_init(o->loop, &t->timer, throttle_fire);
    pthread_mutex_init(&t->lock, NULL);
    b->size = atomic_load(&b->child->size);
    b->write_through = b->child->write_through;
    b->priv = t;
    return 0;
}

static void throttle_close(struct blk *b)
{
    struct throttle *t = b->priv;

    loop_timer_cancel(&t->timer);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

const struct blk_ops blk_throttle_ops = {
    .format = "throttle",
    .layer = true,
    .open = throttle_open,
    .close = throttle_close,
    .submit = throttle_submit,
    .wait = throttle_wait,
};
