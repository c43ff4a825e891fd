/*
 * lapic_timer.c: the local APIC's timer, SDM 3A 11.5.4: one-shot, periodic and TSC-deadline mode on a
 * 1 GHz bus (as KVM has it). Locking: the APIC's lock, except where lapic_impl.h says otherwise.
 *
 * A timer that fires on the loop thread may race with the guest that re-arms it: deadline_ns, under the
 * lock, says which deadline is meant, and a fire() before it is dropped. A vCPU that sleeps in HLT waits
 * for its own timer too: the way over the loop thread takes one more thread switch.
 */
#include "hw/lapic_impl.h"

enum { LAPIC_ONE_SHOT, LAPIC_PERIODIC, LAPIC_DEADLINE };
enum { LAPIC_MIN_PERIOD_NS = 50000 }; /* a guest cannot make the loop thread spin */

static unsigned lapic_timer_mode(struct lapic *l)
{
    return *lapic_reg(l, APIC_LVTT) >> 17 & 3;
}

/* Bits 3, 1, 0 of the divide register: 000 is 2, ..., 110 is 128, 111 is 1. */
static uint64_t lapic_timer_divide(struct lapic *l)
{
    uint32_t dcr = *lapic_reg(l, APIC_TDCR);
    unsigned n = (dcr & 3) | (dcr >> 1 & 4);

    return 1ull << ((n + 1) & 7);
}

static uint64_t lapic_timer_period(struct lapic *l)
{
    uint64_t ns = *lapic_reg(l, APIC_TMICT) * lapic_timer_divide(l);

    return max_u64(ns, LAPIC_MIN_PERIOD_NS);
}

static void lapic_timer_arm(struct lapic *l, uint64_t deadline_ns)
{
    l->deadline_ns = max_u64(deadline_ns, 1); /* 0 means not armed */
    clock_timer_set(&l->timer, l->deadline_ns);
}

void lapic_timer_stop(struct lapic *l)
{
    l->deadline_ns = 0;
    l->tsc_deadline = 0;
    clock_timer_cancel(&l->timer);
}

/* The timer went off: interrupt, and the next period. */
static void lapic_timer_expire(struct lapic *l, uint64_t now)
{
    uint64_t next = l->deadline_ns;

    l->deadline_ns = 0;
    l->tsc_deadline = 0;
    lapic_lvt_fire(l, APIC_LVTT);
    if (lapic_timer_mode(l) != LAPIC_PERIODIC || !*lapic_reg(l, APIC_TMICT))
        return;
    next += lapic_timer_period(l);
    if (next <= now) /* we were held up: lost ticks stay lost, as on a busy machine */
        next = now + lapic_timer_period(l);
    lapic_timer_arm(l, next);
}

void lapic_timer_fire(struct clock_timer *t)
{
    struct lapic *l = container_of(t, struct lapic, timer);
    uint64_t now = clock_now_ns(t->clock);

    lapic_lock(l);
    if (l->deadline_ns && l->deadline_ns <= now)
        lapic_timer_expire(l, now);
    lapic_unlock(l);
}

uint64_t lapic_timer_host_ns(struct lapic *l)
{
    uint64_t deadline_ns;

    lapic_lock(l);
    deadline_ns = l->deadline_ns;
    lapic_unlock(l);
    return deadline_ns ? clock_host_ns(l->timer.clock, deadline_ns) : 0;
}

void lapic_timer_check(struct lapic *l)
{
    uint64_t now = clock_now_ns(l->timer.clock);

    lapic_lock(l);
    if (l->deadline_ns && l->deadline_ns <= now) {
        clock_timer_cancel(&l->timer);
        lapic_timer_expire(l, now);
    }
    lapic_unlock(l);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
    if (lapic_timer_mode(l) == LAPIC_DEADLINE)
        return;
    lapic_timer_stop(l);
    *lapic_reg(l, APIC_TMICT) = count;
    if (count)
        lapic_timer_arm(l, clock_now_ns(l->timer.clock) + (lapic_timer_mode(l) == LAPIC_PERIODIC
                                                               ? lapic_timer_period(l)
                                                               : count * lapic_timer_divide(l)));
}

/* Rounded up, so that an armed timer never reads (and is never saved as) expired. */
uint32_t lapic_timer_count(struct lapic *l)
{
    uint64_t now = clock_now_ns(l->timer.clock), div = lapic_timer_divide(l);

    if (!l->deadline_ns || lapic_timer_mode(l) == LAPIC_DEADLINE)
        return 0;
    if (l->deadline_ns <= now)
        return 1;
    return (uint32_t)min_u64((l->deadline_ns - now + div - 1) / div, UINT32_MAX);
}

void lapic_timer_write_lvt(struct lapic *l, uint32_t val)
{
    bool was = lapic_timer_mode(l) == LAPIC_DEADLINE;

    *lapic_reg(l, APIC_LVTT) = val;
    if (was != (lapic_timer_mode(l) == LAPIC_DEADLINE)) { /* SDM: this disarms the timer */
        lapic_timer_stop(l);
        *lapic_reg(l, APIC_TMICT) = 0;
    }
}

/* The count goes on from where it is, at the new pace. */
void lapic_timer_write_divide(struct lapic *l, uint32_t val)
{
    uint64_t count = lapic_timer_count(l);

    *lapic_reg(l, APIC_TDCR) = val;
    if (count)
        lapic_timer_arm(l, clock_now_ns(l->timer.clock) + count * lapic_timer_divide(l));
}

uint64_t lapic_timer_deadline(struct lapic *l)
{
    return lapic_timer_mode(l) == LAPIC_DEADLINE ? l->tsc_deadline : 0;
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc)
{
    uint64_t now = clock_now_ns(l->timer.clock);

    if (lapic_timer_mode(l) != LAPIC_DEADLINE)
        return;
    lapic_timer_stop(l);
    if (!tsc)
        return;
    l->tsc_deadline = tsc;
    l->deadline_ns = max_u64(clock_tsc_to_ns(l->timer.clock, tsc), 1);
    if (l->deadline_ns <= now) /* in the past: no need to go round by the loop thread */
        lapic_timer_expire(l, now);
    else
        lapic_timer_arm(l, l->deadline_ns);
}

void lapic_timer_resume(struct lapic *l)
{
    uint64_t now = clock_now_ns(l->timer.clock);
    uint32_t left = *lapic_reg(l, APIC_TMCCT);

    if (lapic_timer_mode(l) == LAPIC_DEADLINE && l->tsc_deadline)
        lapic_timer_arm(l, clock_tsc_to_ns(l->timer.clock, l->tsc_deadline));
    else if (lapic_timer_mode(l) != LAPIC_DEADLINE && left)
        lapic_timer_arm(l, now + left * lapic_timer_divide(l));
}
