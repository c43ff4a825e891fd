/*
 * clock.h: guest time. Runs with the host's monotonic clock while the VM runs, stands while it is
 * paused, and is moved by hand in tests. Timers are in guest nanoseconds and fire on the loop thread
 * (manual clock: inside clock_advance()). Any thread unless said otherwise.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/loop.h"

struct clock;

struct clock_timer {
    struct clock *clock;
    struct clock_timer *next; /* sorted list of the armed ones, under the clock's lock */
    uint64_t deadline_ns;
    bool armed;
    void (*fire)(struct clock_timer *t); /* no lock held */
};

struct clock *clock_create(struct loop *l, struct err *e); /* stopped at 0; l may be NULL: manual */
void clock_destroy(struct clock *c);

uint64_t clock_now_ns(struct clock *c);
/* Guest nanoseconds since 1970 (RTC, kvmclock wall clock): the host's, so that it is right after a pause. */
uint64_t clock_wall_ns(struct clock *c);
/* Guest TSC: the host's plus an offset; stands while paused. */
uint64_t clock_tsc(struct clock *c);
uint64_t clock_tsc_offset(struct clock *c); /* guest = host rdtsc + offset, while running */
uint32_t clock_tsc_khz(const struct clock *c);
/* Guest TSC value to guest ns and back, at clock_tsc_khz. */
uint64_t clock_tsc_to_ns(struct clock *c, uint64_t tsc);
/* The host's CLOCK_MONOTONIC of a guest moment, never 0; 0: the clock is stopped or manual. */
uint64_t clock_host_ns(struct clock *c, uint64_t guest_ns);

/* Life cycle, by the VM only. While stopped, no timer fires. */
void clock_start(struct clock *c);
void clock_stop(struct clock *c);
void clock_set(struct clock *c, uint64_t now_ns, uint64_t tsc); /* load; stopped */
/* Load, stopped: the guest calibrated itself by this frequency. -ERANGE: not this host's, within 0.1 %. */
must_check int clock_set_tsc_khz(struct clock *c, uint32_t khz);
void clock_advance(struct clock *c, uint64_t ns); /* manual: moves time, fires what is due */

void clock_timer_init(struct clock *c, struct clock_timer *t, void (*fire)(struct clock_timer *t));
void clock_timer_set(struct clock_timer *t,
                     uint64_t deadline_ns); /* guest ns; past: fires at once */
void clock_timer_cancel(struct clock_timer *t);

#endif
