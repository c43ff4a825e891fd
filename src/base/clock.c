/*
 * clock.c: see clock.h. Locking: `lock` guards everything but the constants. A timer's fire() runs
 * without it.
 */
#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <x86intrin.h>

enum {
    CLOCK_SAMPLES = 20,
    CLOCK_CLOSE_CYCLES = 1000, /* undisturbed, reading CLOCK_MONOTONIC takes a tenth of it */
    CLOCK_MEASURE_NS = 5000000,
    CLOCK_KHZ_TOLERANCE = 1000, /* two measurements of one host agree to better than this part */
};

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

/*
 * Both host clocks at one moment. The thread may lose its CPU between the two readings, and every
 * millisecond of that would be one by which the guest's clocks disagree: the closest of a few pairs.
 */
static void clock_sample(uint64_t *ns, uint64_t *tsc)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < CLOCK_SAMPLES && best > CLOCK_CLOSE_CYCLES; i++) {
        uint64_t before = __rdtsc(), now = util_monotonic_ns(), cycles = __rdtsc() - before;

        if (cycles >= best)
            continue;
        best = cycles;
        *ns = now;
        *tsc = before + cycles / 2;
    }
}

/* The kernel's own calibration is not exported everywhere: measure against CLOCK_MONOTONIC. */
static uint32_t clock_measure_tsc_khz(void)
{
    uint64_t ns0 = 0, tsc0 = 0, ns1 = 0, tsc1 = 0;

    clock_sample(&ns0, &tsc0);
    do {
        clock_sample(&ns1, &tsc1);
    } while (ns1 - ns0 < CLOCK_MEASURE_NS);
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

/* Guest TSC and guest time of one moment. */
static void clock_now_both(struct clock *c, uint64_t *tsc, uint64_t *ns)
{
    pthread_mutex_lock(&c->lock);
    *ns = c->now_ns;
    *tsc = c->loop ? c->tsc : c->tsc + c->now_ns * c->tsc_khz / 1000000;
    if (c->running && c->loop) {
        clock_sample(ns, tsc);
        *ns += (uint64_t)c->ns_offset;
        *tsc += c->tsc_offset;
    }
    pthread_mutex_unlock(&c->lock);
}

uint64_t clock_tsc_to_ns(struct clock *c, uint64_t tsc)
{
    uint64_t now_tsc, now_ns;
    int64_t delta;
    int128 ns;

    clock_now_both(c, &now_tsc, &now_ns);
    delta = (int64_t)(tsc - now_tsc);
    ns = (int128)delta * 1000000 / (int64_t)c->tsc_khz + (int128)now_ns;

    if (ns < 0)
        return 0;
    return ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

uint64_t clock_host_ns(struct clock *c, uint64_t guest_ns)
{
    uint64_t host = 0;

    pthread_mutex_lock(&c->lock);
    if (c->running && c->loop)
        host = max_u64(clock_host_deadline(c, guest_ns), 1);
    pthread_mutex_unlock(&c->lock);
    return host;
}

void clock_start(struct clock *c)
{
    uint64_t ns = 0, tsc = 0;

    pthread_mutex_lock(&c->lock);
    if (!c->running) {
        clock_sample(&ns, &tsc);
        c->ns_offset = (int64_t)(c->now_ns - ns);
        c->tsc_offset = c->tsc - tsc;
        c->running = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (c->loop)
        clock_run_timers(c);
}

void clock_stop(struct clock *c)
{
    uint64_t ns = 0, tsc = 0;

    pthread_mutex_lock(&c->lock);
    if (c->running && c->loop) {
        clock_sample(&ns, &tsc);
        c->now_ns = ns + (uint64_t)c->ns_offset;
        c->tsc = tsc + c->tsc_offset;
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

int clock_set_tsc_khz(struct clock *c, uint32_t khz)
{
    uint32_t off = khz > c->tsc_khz ? khz - c->tsc_khz : c->tsc_khz - khz;

    if (off > c->tsc_khz / CLOCK_KHZ_TOLERANCE)
        return -ERANGE;
    c->tsc_khz = khz;
    return 0;
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
