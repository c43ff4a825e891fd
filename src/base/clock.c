/*
 * clock.c: see clock.h. Locking: `lock` guards everything but the constants. A timer's fire() runs
 * without it.
 */
#include "base/clock.h"

#include <pthread.h>
#include <x86intrin.h>

struct clock {
    struct loop *loop; /* NULL: manual */
    uint32_t tsc_khz;
    struct loop_timer host_timer;
    pthread_mutex_t lock;
    bool running;
    uint64_t now_ns;            /* guest time while stopped or manual */
    int64_t ns_offset;          /* guest = host monotonic + offset, while running */
    uint64_t tsc;               /* guest TSC while stopped or manual */
    uint64_t tsc_offset;        /* guest = host TSC + offset, while running */
    struct clock_timer *timers; /* earliest first */
};

/* The kernel's own calibration is not exported everywhere: measure against CLOCK_MONOTONIC. */
static uint32_t clock_measure_tsc_khz(void)
{
    uint64_t ns0 = util_monotonic_ns(), tsc0 = __rdtsc(), ns1, tsc1;

    do {
        ns1 = util_monotonic_ns();
        tsc1 = __rdtsc();
    } while (ns1 - ns0 < 5000000);
    return (uint32_t)((tsc1 - tsc0) * 1000000 / (ns1 - ns0));
}

static uint64_t clock_now_locked(const struct clock *c)
{
    if (!c->running || !c->loop)
        return c->now_ns;
    return util_monotonic_ns() + (uint64_t)c->ns_offset;
}

static uint64_t clock_host_deadline(const struct clock *c, uint64_t guest_ns)
{
    int128 host = (int128)guest_ns - c->ns_offset;

    return host < 0 ? 0 : (uint64_t)host;
}

/* Runs what is due; called without the lock. */
static void clock_run_timers(struct clock *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->running && c->timers && c->timers->deadline_ns <= clock_now_locked(c)) {
        struct clock_timer *t = c->timers;

        c->timers = t->next;
        t->armed = false;
        pthread_mutex_unlock(&c->lock);
        t->fire(t);
        pthread_mutex_lock(&c->lock);
    }
    if (c->running && c->loop && c->timers)
        loop_timer_set(&c->host_timer, clock_host_deadline(c, c->timers->deadline_ns));
    pthread_mutex_unlock(&c->lock);
}

static void clock_host_fire(struct loop_timer *t)
{
    clock_run_timers(container_of(t, struct clock, host_timer));
}

struct clock *clock_create(struct loop *l, struct err *e)
{
    struct clock *c = calloc(1, sizeof(*c));

    if (!c)
        return err_oom(e);
    c->loop = l;
    c->tsc_khz = clock_measure_tsc_khz();
    pthread_mutex_init(&c->lock, NULL);
    if (l)
        loop_timer_init(l, &c->host_timer, clock_host_fire);
    return c;
}

void clock_destroy(struct clock *c)
{
    if (!c)
        return;
    if (c->loop)
        loop_timer_cancel(&c->host_timer);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

uint64_t clock_now_ns(struct clock *c)
{
    uint64_t now;

    pthread_mutex_lock(&c->lock);
    now = clock_now_locked(c);
    pthread_mutex_unlock(&c->lock);
    return now;
}

uint64_t clock_wall_ns(struct clock *c)
{
    return c->loop ? util_realtime_ns() : clock_now_ns(c);
}

uint64_t clock_tsc_offset(struct clock *c)
{
    uint64_t offset;

    pthread_mutex_lock(&c->lock);
    offset = c->tsc_offset;
    pthread_mutex_unlock(&c->lock);
    return offset;
}

uint64_t clock_tsc(struct clock *c)
{
    uint64_t tsc;

    pthread_mutex_lock(&c->lock);
    if (!c->loop)
        tsc = c->tsc + c->now_ns * c->tsc_khz / 1000000;
    else
        tsc = c->running ? __rdtsc() + c->tsc_offset : c->tsc;
    pthread_mutex_unlock(&c->lock);
    return tsc;
}

uint32_t clock_tsc_khz(const struct clock *c)
{
    return c->tsc_khz;
}

uint64_t clock_tsc_to_ns(struct clock *c, uint64_t tsc)
{
    uint64_t now_tsc = clock_tsc(c), now_ns = clock_now_ns(c);
    int64_t delta = (int64_t)(tsc - now_tsc);
    int128 ns = (int128)delta * 1000000 / (int64_t)c->tsc_khz + (int128)now_ns;

    if (ns < 0)
        return 0;
    return ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

void clock_start(struct clock *c)
{
    pthread_mutex_lock(&c->lock);
    if (!c->running) {
        c->ns_offset = (int64_t)(c->now_ns - util_monotonic_ns());
        c->tsc_offset = c->tsc - __rdtsc();
        c->running = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (c->loop)
        clock_run_timers(c);
}

void clock_stop(struct clock *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->running && c->loop) {
        c->now_ns = clock_now_locked(c);
        c->tsc = __rdtsc() + c->tsc_offset;
    }
    c->running = false;
    pthread_mutex_unlock(&c->lock);
    if (c->loop)
        loop_timer_cancel(&c->host_timer);
}

void clock_set(struct clock *c, uint64_t now_ns, uint64_t tsc)
{
    pthread_mutex_lock(&c->lock);
    BUG_ON(c->running);
    c->now_ns = now_ns;
    c->tsc = tsc;
    pthread_mutex_unlock(&c->lock);
}

void clock_advance(struct clock *c, uint64_t ns)
{
    uint64_t end;

    BUG_ON(c->loop != NULL);
    pthread_mutex_lock(&c->lock);
    end = c->now_ns + ns;
    c->running = true;
    /* Step from deadline to deadline, so that a timer that re-arms itself sees its own time. */
    while (c->timers && c->timers->deadline_ns <= end) {
        c->now_ns = max_u64(c->now_ns, c->timers->deadline_ns);
        pthread_mutex_unlock(&c->lock);
        clock_run_timers(c);
        pthread_mutex_lock(&c->lock);
    }
    c->now_ns = end;
    c->running = false;
    pthread_mutex_unlock(&c->lock);
}

void clock_timer_init(struct clock *c, struct clock_timer *t, void (*fire)(struct clock_timer *t))
{
    *t = (struct clock_timer){ .clock = c, .fire = fire };
}

static void clock_timer_unlink(struct clock *c, struct clock_timer *t)
{
    struct clock_timer **p = &c->timers;

    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    t->armed = false;
}

void clock_timer_set(struct clock_timer *t, uint64_t deadline_ns)
{
    struct clock *c = t->clock;
    struct clock_timer **p;

    pthread_mutex_lock(&c->lock);
    if (t->armed)
        clock_timer_unlink(c, t);
    t->deadline_ns = deadline_ns;
    for (p = &c->timers; *p && (*p)->deadline_ns <= deadline_ns; p = &(*p)->next)
        ;
    t->next = *p;
    *p = t;
    t->armed = true;
    if (c->timers == t && c->running && c->loop)
        loop_timer_set(&c->host_timer, clock_host_deadline(c, deadline_ns));
    pthread_mutex_unlock(&c->lock);
}

void clock_timer_cancel(struct clock_timer *t)
{
    struct clock *c = t->clock;

    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    if (t->armed)
        clock_timer_unlink(c, t);
    pthread_mutex_unlock(&c->lock);
}
