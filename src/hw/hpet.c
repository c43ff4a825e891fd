/*
 * hpet.c: IA-PC HPET 1.0a: 64-bit main counter at 100 MHz, three comparators, all periodic-capable, with
 * legacy replacement, FSB (MSI) delivery, edge and level interrupts.
 *
 * Locking: the device lock; timers and legacy wires take it themselves. PIT and RTC hold theirs when they
 * drive the legacy wires; we never call them.
 */
#include "hw/hpet.h"

#include "state/state.h"

enum { HPET_LEN = 0x400, HPET_TIMERS = 3, HPET_TICK_NS = 10, HPET_MIN_PERIOD_NS = 50000 };
enum {
    REG_CAP = 0x00,
    REG_CONFIG = 0x10,
    REG_STATUS = 0x20,
    REG_COUNTER = 0xf0,
    REG_TIMER = 0x100
};
enum { CONFIG_ENABLE = BIT(0), CONFIG_LEGACY = BIT(1) };
enum {
    TN_LEVEL = BIT(1),
    TN_ENABLE = BIT(2),
    TN_PERIODIC = BIT(3),
    TN_PERIODIC_CAP = BIT(4),
    TN_SIZE_CAP = BIT(5),
    TN_VAL_SET = BIT(6),
    TN_32BIT = BIT(8),
    TN_ROUTE_SHIFT = 9,
    TN_ROUTE = 31 << 9,
    TN_FSB = BIT(14),
    TN_FSB_CAP = BIT(15),
    TN_WRITABLE = TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_VAL_SET | TN_32BIT | TN_ROUTE | TN_FSB,
};
#define HPET_ROUTE_CAP (BIT(2) | BIT(8) | 0xfu << 20)
#define HPET_TN_CAP    ((uint64_t)HPET_ROUTE_CAP << 32 | TN_PERIODIC_CAP | TN_SIZE_CAP | TN_FSB_CAP)
#define HPET_CAP       ((uint64_t)HPET_TICK_NS * 1000000 << 32 | HPET_ID)

struct hpet_timer {
    struct hpet *hpet;
    struct clock_timer timer;
    uint64_t config; /* TN_WRITABLE bits */
    uint64_t cmp, period, fsb;
    uint64_t deadline_ns; /* 0: not armed */
};

struct hpet {
    struct device dev;
    /* wiring */
    struct irq gsi[HPET_GSIS];
    struct irq legacy[2];
    /* guest-visible state */
    struct hpet_timer t[HPET_TIMERS];
    uint64_t config, status;
    uint64_t counter; /* while stopped, or at start_ns */
    uint64_t start_ns;
    bool in[2]; /* levels of PIT and RTC */
};

static struct hpet *to_hpet(struct device *d)
{
    return container_of(d, struct hpet, dev);
}

static uint64_t hpet_counter(const struct hpet *h, uint64_t now)
{
    if (!(h->config & CONFIG_ENABLE) || now < h->start_ns)
        return h->counter;
    return h->counter + (now - h->start_ns) / HPET_TICK_NS;
}

/* --- interrupts --- */

static unsigned hpet_index(const struct hpet_timer *t)
{
    return (unsigned)(t - t->hpet->t);
}

static const struct irq *hpet_wire(const struct hpet_timer *t)
{
    unsigned n = hpet_index(t), route = (unsigned)(t->config & TN_ROUTE) >> TN_ROUTE_SHIFT;

    if ((t->hpet->config & CONFIG_LEGACY) && n < 2)
        return &t->hpet->legacy[n];
    return route < HPET_GSIS ? &t->hpet->gsi[route] : NULL;
}

/* Level-triggered: the wire follows the status bit. */
static void hpet_update_level(struct hpet_timer *t)
{
    const struct irq *wire = hpet_wire(t);

    if (wire && (t->config & TN_LEVEL) && !(t->config & TN_FSB))
        irq_set(wire, (t->config & TN_ENABLE) && (t->hpet->status & BIT(hpet_index(t))));
}

static void hpet_interrupt(struct hpet_timer *t)
{
    const struct irq *wire = hpet_wire(t);

    if (t->config & TN_LEVEL) {
        t->hpet->status |= BIT(hpet_index(t));
        hpet_update_level(t);
    } else if (!(t->config & TN_ENABLE)) {
        return;
    } else if (t->config & TN_FSB) {
        vm_msi(t->hpet->dev.vm, t->fsb >> 32, (uint32_t)t->fsb);
    } else if (wire) {
        irq_set(wire, true);
        irq_set(wire, false);
    }
}

static void hpet_update_legacy(struct hpet *h)
{
    for (unsigned i = 0; i < 2; i++)
        if (!(h->config & CONFIG_LEGACY))
            irq_set(&h->legacy[i], h->in[i]);
        else if (!(h->t[i].config & TN_LEVEL))
            irq_set(&h->legacy[i], false);
}

static void hpet_legacy_set(void *chip, unsigned pin, bool level)
{
    struct hpet *h = chip;

    pthread_mutex_lock(&h->dev.lock);
    h->in[pin] = level;
    if (!(h->config & CONFIG_LEGACY))
        irq_set(&h->legacy[pin], level);
    pthread_mutex_unlock(&h->dev.lock);
}

struct irq hpet_legacy_irq(struct hpet *h, unsigned which)
{
    BUG_ON(which > 1);
    return (struct irq){ hpet_legacy_set, h, which };
}

/* --- comparators --- */

/*
 * A timer whose interrupt is off goes on counting, and nobody sees it until he looks: hpet_catch_up(). Linux leaves
 * its periodic timer so.
 */
static void hpet_arm(struct hpet_timer *t)
{
    if (t->deadline_ns && t->config & TN_ENABLE)
        clock_timer_set(&t->timer, t->deadline_ns);
    else
        clock_timer_cancel(&t->timer);
}

/* Ticks until the counter reaches the comparator; it wraps at its size. */
static uint64_t hpet_distance(const struct hpet_timer *t, uint64_t now)
{
    uint64_t delta = t->cmp - hpet_counter(t->hpet, now);

    return t->config & TN_32BIT ? (uint32_t)delta : delta;
}

static void hpet_schedule(struct hpet_timer *t)
{
    uint64_t now = clock_now_ns(t->timer.clock), delta = hpet_distance(t, now);

    t->deadline_ns = 0;
    /* A 64-bit comparator that the counter has passed comes again in centuries. */
    if ((t->hpet->config & CONFIG_ENABLE) && delta < BIT64(56))
        t->deadline_ns = max_u64(now + delta * HPET_TICK_NS, 1);
    hpet_arm(t);
}

static uint64_t hpet_truncate(const struct hpet_timer *t, uint64_t val)
{
    return t->config & TN_32BIT ? (uint32_t)val : val;
}

/* After a match: the next one, skipping what the host was too late for. */
static void hpet_advance(struct hpet_timer *t, uint64_t now)
{
    uint64_t step_ns = t->period * HPET_TICK_NS, steps = 1;

    if (!(t->config & TN_PERIODIC) || !t->period || t->period >= BIT64(56)) {
        t->deadline_ns = t->config & TN_32BIT ? now + BIT64(32) * HPET_TICK_NS : 0;
        return;
    }
    if (now > t->deadline_ns)
        steps += (now - t->deadline_ns) / step_ns;
    if (step_ns * steps < HPET_MIN_PERIOD_NS)
        steps = HPET_MIN_PERIOD_NS / step_ns;
    t->cmp = hpet_truncate(t, t->cmp + t->period * steps);
    t->deadline_ns += step_ns * steps;
}

static void hpet_match(struct hpet_timer *t, uint64_t now)
{
    if (!t->deadline_ns || t->deadline_ns > now)
        return;
    hpet_interrupt(t);
    hpet_advance(t, now);
    hpet_arm(t);
}

static void hpet_fire(struct clock_timer *ct)
{
    struct hpet_timer *t = container_of(ct, struct hpet_timer, timer);

    pthread_mutex_lock(&t->hpet->dev.lock);
    hpet_match(t, clock_now_ns(ct->clock));
    pthread_mutex_unlock(&t->hpet->dev.lock);
}

/* What has come due since: before an access sees it, or changes when it would. */
static void hpet_catch_up(struct hpet *h)
{
    uint64_t now = clock_now_ns(vm_clock(h->dev.vm));

    for (unsigned i = 0; i < HPET_TIMERS; i++)
        hpet_match(&h->t[i], now);
}

/* --- registers --- */

static uint64_t hpet_read_timer(const struct hpet_timer *t, unsigned off)
{
    switch (off) {
    case 0x00:
        return t->config | HPET_TN_CAP;
    case 0x08:
        return t->cmp;
    case 0x10:
        return t->fsb;
    default:
        return 0;
    }
}

static uint64_t hpet_read_reg(const struct hpet *h, unsigned off)
{
    switch (off) {
    case REG_CAP:
        return HPET_CAP;
    case REG_CONFIG:
        return h->config;
    case REG_STATUS:
        return h->status;
    case REG_COUNTER:
        return hpet_counter(h, clock_now_ns(vm_clock(h->dev.vm)));
    default:
        if (off < REG_TIMER || off >= REG_TIMER + 0x20 * HPET_TIMERS)
            return 0;
        return hpet_read_timer(&h->t[(off - REG_TIMER) / 0x20], off & 0x1f);
    }
}

static void hpet_write_config(struct hpet *h, uint64_t val)
{
    uint64_t now = clock_now_ns(vm_clock(h->dev.vm)), changed;

    val &= CONFIG_ENABLE | CONFIG_LEGACY;
    changed = val ^ h->config;
    h->counter = hpet_counter(h, now);
    h->start_ns = now;
    h->config = val;
    if (changed & CONFIG_LEGACY)
        hpet_update_legacy(h);
    for (unsigned i = 0; i < HPET_TIMERS && (changed & CONFIG_ENABLE); i++)
        hpet_schedule(&h->t[i]);
}

static void hpet_write_status(struct hpet *h, uint64_t val)
{
    h->status &= ~val;
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        hpet_update_level(&h->t[i]);
}

static void hpet_write_counter(struct hpet *h, uint64_t val)
{
    if (h->config & CONFIG_ENABLE)
        return; /* the specification: halt it first */
    h->counter = val;
}

static void hpet_write_timer_config(struct hpet_timer *t, uint64_t val)
{
    const struct irq *wire = hpet_wire(t);
    unsigned route = (unsigned)(val & TN_ROUTE) >> TN_ROUTE_SHIFT;

    if ((t->config & TN_LEVEL) && wire) /* the line may move or change its kind: let go of it */
        irq_set(wire, false);
    if (route && !(HPET_ROUTE_CAP & BIT(route)))
        val = (val & ~(uint64_t)TN_ROUTE) | (t->config & TN_ROUTE);
    t->config = val & TN_WRITABLE;
    t->cmp = hpet_truncate(t, t->cmp);
    t->period = hpet_truncate(t, t->period);
    hpet_update_level(t);
    hpet_schedule(t);
}

/* In periodic mode a write sets the period; with VAL_SET, once, the comparator too (2.3.9.2.2). */
static void hpet_write_cmp(struct hpet_timer *t, uint64_t val)
{
    val = hpet_truncate(t, val);
    if (t->config & TN_PERIODIC)
        t->period = val;
    if (!(t->config & TN_PERIODIC) || (t->config & TN_VAL_SET))
        t->cmp = val;
    t->config &= ~(uint64_t)TN_VAL_SET;
    hpet_schedule(t);
}

static void hpet_write_timer(struct hpet_timer *t, unsigned off, uint64_t val)
{
    if (off == 0x00)
        hpet_write_timer_config(t, val);
    else if (off == 0x08)
        hpet_write_cmp(t, val);
    else if (off == 0x10)
        t->fsb = val;
}

static void hpet_write_reg(struct hpet *h, unsigned off, uint64_t val)
{
    switch (off) {
    case REG_CONFIG:
        hpet_write_config(h, val);
        break;
    case REG_STATUS:
        hpet_write_status(h, val);
        break;
    case REG_COUNTER:
        hpet_write_counter(h, val);
        break;
    default:
        if (off >= REG_TIMER && off < REG_TIMER + 0x20 * HPET_TIMERS)
            hpet_write_timer(&h->t[(off - REG_TIMER) / 0x20], off & 0x1f, val);
        break;
    }
}

static uint64_t hpet_read(struct device *d, uint64_t off, unsigned size)
{
    unsigned reg = (unsigned)off & ~7u;
    uint64_t val;

    (void)size;
    if (reg != REG_COUNTER) /* which is read often */
        hpet_catch_up(to_hpet(d));
    val = hpet_read_reg(to_hpet(d), reg);
    return val >> (8 * (off & 7));
}

/* Half a register: the other half keeps what it has, except in the write-1-to-clear one. */
static void hpet_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    unsigned reg = (unsigned)off & ~7u, shift = 8 * (off & 7);

    hpet_catch_up(to_hpet(d));
    if (size == 4) {
        uint64_t other = reg == REG_STATUS ? 0 : hpet_read_reg(to_hpet(d), reg);

        val = (other & ~(0xffffffffull << shift)) | val << shift;
    }
    hpet_write_reg(to_hpet(d), reg, val);
}

static void hpet_state(struct device *d, struct state *s)
{
    struct hpet *h = to_hpet(d);

    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->t[i];

        state_u64(s, &t->config);
        state_u64(s, &t->cmp);
        state_u64(s, &t->period);
        state_u64(s, &t->fsb);
        state_u64(s, &t->deadline_ns);
        state_require(s, !(t->config & ~(uint64_t)TN_WRITABLE), "HPET timer out of range");
    }
    state_u64(s, &h->config);
    state_u64(s, &h->status);
    state_u64(s, &h->counter);
    state_u64(s, &h->start_ns);
    state_bool(s, &h->in[0]);
    state_bool(s, &h->in[1]);
    state_require(s, !(h->config >> 2) && !(h->status >> HPET_TIMERS),
                  "HPET registers out of range");
}

static void hpet_sync(struct device *d)
{
    struct hpet *h = to_hpet(d);

    hpet_update_legacy(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        hpet_update_level(&h->t[i]);
        hpet_arm(&h->t[i]);
    }
}

static void hpet_destroy(struct device *d)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        clock_timer_cancel(&to_hpet(d)->t[i].timer);
    free(to_hpet(d));
}

static const struct device_ops hpet_ops = {
    .type = "hpet",
    .version = 1,
    .state = hpet_state,
    .sync = hpet_sync,
    .destroy = hpet_destroy,
};
static const struct io_ops hpet_io = { hpet_read, hpet_write, 4, 8 };

struct hpet *hpet_create(struct vm *vm, uint64_t gpa, const struct irq gsi[HPET_GSIS],
                         const struct irq legacy[2], struct err *e)
{
    struct hpet *h = calloc(1, sizeof(*h));

    if (!h)
        return err_oom(e);
    h->dev = (struct device){ .ops = &hpet_ops, .vm = vm, .id = "hpet" };
    for (unsigned i = 0; i < HPET_GSIS; i++)
        h->gsi[i] = gsi[i];
    for (unsigned i = 0; i < 2; i++)
        h->legacy[i] = legacy[i];
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        h->t[i].hpet = h;
        h->t[i].cmp = ~0ull;
        clock_timer_init(vm_clock(vm), &h->t[i].timer, hpet_fire);
    }
    if (bus_claim(vm_mmio(vm), gpa, HPET_LEN, &hpet_io, &h->dev, e) || device_add(vm, &h->dev, e)) {
        bus_release(vm_mmio(vm), &h->dev);
        free(h);
        return NULL;
    }
    return h;
}
