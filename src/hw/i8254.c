/*
 * i8254.c: 8254 programmable interval timer (Intel 231164), 1.193182 MHz, and NMI status and control
 * port 61h of an ISA board. What the chip does at the next clock happens at once. No sound is made.
 *
 * Channel 0's wire goes high when OUT would rise; in the periodic modes that is once a period, right
 * after a pulse low. Ticks that the host was too late for are lost.
 *
 * Locking: the device lock; the timer takes it itself.
 */
#include "hw/i8254.h"

#include "state/state.h"

enum { PIT_CONTROL = 3, PIT_CHANNELS = 3, PIT_LEN = 4 };
enum { RW_LATCH = 0, RW_LOW = 1, RW_HIGH = 2, RW_BOTH = 3 };
enum {
    SPEAKER_GATE2 = BIT(0),
    SPEAKER_WRITABLE = 0xf,
    SPEAKER_REFRESH = BIT(4),
    SPEAKER_OUT2 = BIT(5)
};
enum { PIT_HZ = 1193182, PIT_REFRESH_NS = 15085, PIT_MIN_IRQ_NS = 50000 };

struct i8254_channel {
    uint32_t count;   /* 1 to 65536: 0 was written as 65536 (BCD: 10000) */
    uint8_t mode, rw; /* 0..5, RW_LOW..RW_BOTH */
    bool bcd, gate;
    uint32_t
        next_count;    /* written, waits for the trigger or the end of the (half) period; 0: none */
    bool loaded;       /* a count was written since the control word */
    bool triggered;    /* modes 1 and 5: the gate rose */
    uint64_t start_ns; /* while counting: since when */
    uint64_t held_ticks; /* counted before that */
    uint16_t latch;
    uint8_t latch_left; /* bytes of it still to be read */
    uint8_t status;
    bool status_latched;
    bool read_high, write_high; /* RW_BOTH: the next byte is the high one */
    uint8_t low;                /* written, waits for its high byte */
};

struct i8254 {
    struct device dev;
    /* wiring */
    struct irq irq0;
    struct clock_timer timer;
    /* guest-visible state */
    struct i8254_channel ch[PIT_CHANNELS];
    uint64_t next_ns; /* when channel 0's OUT rises; 0: never */
    bool irq_level;
    uint8_t speaker;
};

static struct i8254 *to_pit(struct device *d)
{
    return container_of(d, struct i8254, dev);
}

static uint64_t i8254_to_ticks(uint64_t ns)
{
    return (uint64_t)((uint128)ns * PIT_HZ / 1000000000);
}

/* Rounded up: at that time the tick has come. */
static uint64_t i8254_to_ns(uint64_t ticks)
{
    return (uint64_t)(((uint128)ticks * 1000000000 + PIT_HZ - 1) / PIT_HZ);
}

static bool i8254_counting(const struct i8254_channel *c)
{
    if (!c->loaded)
        return false;
    return c->mode == 1 || c->mode == 5 ? c->triggered : c->gate;
}

static uint64_t i8254_ticks(const struct i8254_channel *c, uint64_t now)
{
    if (!i8254_counting(c) || now < c->start_ns)
        return c->held_ticks;
    return c->held_ticks + i8254_to_ticks(now - c->start_ns);
}

/* Modes 2 and 3: the ticks at which a count that waits is taken. */
static uint64_t i8254_period_end(const struct i8254_channel *c, uint64_t ticks)
{
    uint64_t period = ticks - ticks % c->count, half = period + (c->count + 1) / 2;

    return c->mode == 3 && ticks < half ? half : period + c->count;
}

static uint64_t i8254_time_of(const struct i8254_channel *c, uint64_t ticks)
{
    return c->start_ns + i8254_to_ns(ticks - c->held_ticks);
}

/* Lets a count that waits for the end of the (half) period be taken, if that has come. */
static void i8254_settle(struct i8254_channel *c, uint64_t now)
{
    uint64_t end;

    if (!c->next_count || !i8254_counting(c) || (c->mode != 2 && c->mode != 3))
        return;
    end = i8254_period_end(c, c->held_ticks);
    if (i8254_ticks(c, now) < end)
        return;
    c->start_ns = i8254_time_of(c, end);
    /* in mode 3 the first half's end is the second half's begin */
    c->held_ticks = c->mode == 3 && end % c->count ? (c->next_count + 1) / 2 : 0;
    c->count = c->next_count;
    c->next_count = 0;
}

static bool i8254_out(const struct i8254_channel *c, uint64_t now)
{
    uint64_t t = i8254_ticks(c, now);

    switch (c->mode) {
    case 0:
        return c->loaded && t >= c->count;
    case 1:
        return !c->triggered || t >= c->count;
    case 2:
        return !c->loaded || !c->gate || t % c->count != c->count - 1;
    case 3:
        return !c->loaded || !c->gate || t % c->count < (c->count + 1) / 2;
    default:
        return !i8254_counting(c) || t != c->count;
    }
}

static uint16_t i8254_to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static uint32_t i8254_from_bcd(uint32_t v)
{
    return (v & 0xf) + (v >> 4 & 0xf) * 10 + (v >> 8 & 0xf) * 100 + (v >> 12 & 0xf) * 1000;
}

/* What the counting element holds. */
static uint16_t i8254_value(const struct i8254_channel *c, uint64_t now)
{
    uint64_t t = i8254_ticks(c, now), modulus = c->bcd ? 10000 : 65536;
    uint64_t half = (c->count + 1) / 2, at = t % c->count;
    uint32_t v;

    if (c->mode == 2)
        v = (uint32_t)(c->count - at);
    else if (c->mode == 3) /* counts down by two, twice a period; from an odd count less one */
        v = (uint32_t)((c->count & ~1u) - 2 * (at < half ? at : at - half));
    else
        v = (uint32_t)((c->count + modulus - t % modulus) % modulus);
    return c->bcd ? i8254_to_bcd(v % 10000) : (uint16_t)v;
}

/* --- channel 0's interrupt --- */

static void i8254_wire(struct i8254 *p, bool level)
{
    p->irq_level = level;
    irq_set(&p->irq0, level);
}

/* Time of the next rise of OUT after `after`, or 0. */
static uint64_t i8254_next_rise(const struct i8254_channel *c, uint64_t after)
{
    uint64_t t = i8254_ticks(c, after), target;

    if (!i8254_counting(c) || c->mode == 1 || c->mode == 5)
        return 0;
    if (c->mode == 0 || c->mode == 4) {
        target = c->count;
        if (t >= target)
            return 0;
    } else {
        target = (t / c->count + 1) * c->count;
        if (c->next_count &&
            i8254_period_end(c, t) < target) /* mode 3: the low half is the new one's */
            target = i8254_period_end(c, t) + c->next_count / 2;
    }
    return i8254_time_of(c, target);
}

static void i8254_arm(struct i8254 *p)
{
    if (p->next_ns)
        clock_timer_set(&p->timer, p->next_ns);
    else
        clock_timer_cancel(&p->timer);
}

static void i8254_rearm(struct i8254 *p)
{
    p->next_ns = i8254_next_rise(&p->ch[0], clock_now_ns(vm_clock(p->dev.vm)));
    i8254_arm(p);
}

static void i8254_fire(struct clock_timer *t)
{
    struct i8254 *p = container_of(t, struct i8254, timer);
    uint64_t now = clock_now_ns(t->clock);

    pthread_mutex_lock(&p->dev.lock);
    if (p->next_ns && p->next_ns <= now) { /* else the guest was faster and re-armed it */
        uint64_t due = p->next_ns;

        if (p->ch[0].mode != 0)
            i8254_wire(p, false);
        i8254_wire(p, true);
        i8254_settle(&p->ch[0], now);
        p->next_ns = i8254_next_rise(&p->ch[0], now);
        if (p->next_ns && p->next_ns < due + PIT_MIN_IRQ_NS)
            p->next_ns = i8254_next_rise(&p->ch[0], max_u64(now, due + PIT_MIN_IRQ_NS));
        if (p->next_ns && p->next_ns <= now) /* only a hostile snapshot's times get here */
            p->next_ns = now + PIT_MIN_IRQ_NS;
        i8254_arm(p);
    }
    pthread_mutex_unlock(&p->dev.lock);
}

/* --- registers --- */

static void i8254_restart(struct i8254_channel *c, uint64_t now)
{
    c->start_ns = now;
    c->held_ticks = 0;
}

/* start_ns becomes the last tick's time. */
static void i8254_rebase(struct i8254_channel *c, uint64_t now)
{
    uint64_t t = i8254_ticks(c, now);

    if (t == c->held_ticks)
        return;
    c->start_ns = i8254_time_of(c, t);
    c->held_ticks = t;
}

/* Does a new count wait? Modes 1 and 5 take it at the next trigger, 2 and 3 at the end of the (half) period. */
static bool i8254_waits(const struct i8254_channel *c)
{
    bool periodic = c->mode == 2 || c->mode == 3;

    return c->mode == 1 || c->mode == 5 || (periodic && c->loaded);
}

static void i8254_load(struct i8254 *p, struct i8254_channel *c, uint16_t val, uint64_t now)
{
    uint32_t count = c->bcd ? i8254_from_bcd(val) : val;

    count = count ? count : c->bcd ? 10000 : 65536;
    if (i8254_waits(c)) {
        i8254_rebase(c, now); /* what is to end is the period of now */
        c->next_count = count;
    } else {
        c->count = count;
        i8254_restart(c, now);
    }
    c->loaded = true;
    if (c == &p->ch[0]) {
        if (c->mode == 0)
            i8254_wire(p, false);
        i8254_rearm(p);
    }
}

static void i8254_set_gate(struct i8254_channel *c, bool gate, uint64_t now)
{
    if (gate == c->gate)
        return;
    i8254_settle(c, now);
    i8254_rebase(c, now);
    c->gate = gate;
    if (!gate)
        return;
    c->start_ns = now;
    if (c->mode != 0 && c->mode != 4) {
        c->triggered = c->mode == 1 || c->mode == 5;
        c->held_ticks = 0;
        c->count = c->next_count ? c->next_count : c->count;
        c->next_count = 0;
    }
}

static void i8254_latch_count(struct i8254_channel *c, uint64_t now)
{
    if (c->latch_left)
        return;
    c->latch = i8254_value(c, now);
    c->latch_left = c->rw == RW_BOTH ? 2 : 1;
}

static void i8254_latch_status(struct i8254_channel *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)(i8254_out(c, now) << 7 | (!c->loaded || c->next_count) << 6 | c->rw << 4 |
                          c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void i8254_read_back(struct i8254 *p, uint8_t val, uint64_t now)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (!(val & BIT(i + 1)))
            continue;
        if (!(val & BIT(5)))
            i8254_latch_count(&p->ch[i], now);
        if (!(val & BIT(4)))
            i8254_latch_status(&p->ch[i], now);
    }
}

static void i8254_set_mode(struct i8254 *p, struct i8254_channel *c, uint8_t val)
{
    uint8_t mode = val >> 1 & 7;

    *c = (struct i8254_channel){
        .count = c->count,
        .gate = c->gate,
        .rw = val >> 4 & 3,
        .mode = mode > 5 ? mode & 3 : mode,
        .bcd = val & 1,
    };
    if (c == &p->ch[0]) {
        i8254_wire(p, c->mode != 0);
        i8254_rearm(p);
    }
}

static void i8254_control(struct i8254 *p, uint8_t val)
{
    uint64_t now = clock_now_ns(vm_clock(p->dev.vm));
    unsigned select = val >> 6;

    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        i8254_settle(&p->ch[i], now);
    if (select == PIT_CHANNELS)
        i8254_read_back(p, val, now);
    else if ((val >> 4 & 3) == RW_LATCH)
        i8254_latch_count(&p->ch[select], now);
    else
        i8254_set_mode(p, &p->ch[select], val);
}

/* Mode 0: the first byte of a count stops the old one, and OUT goes low. */
static void i8254_stop(struct i8254 *p, struct i8254_channel *c, uint64_t now)
{
    c->held_ticks = i8254_ticks(c, now);
    c->loaded = false;
    if (c == &p->ch[0]) {
        i8254_wire(p, false);
        i8254_rearm(p);
    }
}

static void i8254_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    uint64_t now = clock_now_ns(vm_clock(d->vm));
    struct i8254 *p = to_pit(d);
    struct i8254_channel *c;
    uint8_t byte = (uint8_t)val;

    (void)size;
    if (off == PIT_CONTROL) {
        i8254_control(p, byte);
        return;
    }
    c = &p->ch[off];
    i8254_settle(c, now);
    if (c->rw == RW_LOW) {
        i8254_load(p, c, byte, now);
    } else if (c->rw == RW_HIGH) {
        i8254_load(p, c, (uint16_t)(byte << 8), now);
    } else if (!c->write_high) {
        c->low = byte;
        c->write_high = true;
        if (c->mode == 0)
            i8254_stop(p, c, now);
    } else {
        c->write_high = false;
        i8254_load(p, c, (uint16_t)(byte << 8 | c->low), now);
    }
}

static uint8_t i8254_read_latch(struct i8254_channel *c)
{
    bool high = c->rw == RW_HIGH || (c->rw == RW_BOTH && c->latch_left == 1);

    c->latch_left--;
    return (uint8_t)(high ? c->latch >> 8 : c->latch);
}

static uint64_t i8254_read(struct device *d, uint64_t off, unsigned size)
{
    struct i8254_channel *c = &to_pit(d)->ch[off % PIT_CHANNELS];
    uint64_t now = clock_now_ns(vm_clock(d->vm));
    uint16_t val;
    bool high;

    (void)size;
    if (off == PIT_CONTROL)
        return 0xff; /* write-only */
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->latch_left)
        return i8254_read_latch(c);
    i8254_settle(c, now);
    val = i8254_value(c, now);
    high = c->rw == RW_HIGH || (c->rw == RW_BOTH && c->read_high);
    if (c->rw == RW_BOTH)
        c->read_high = !c->read_high;
    return high ? val >> 8 : val & 0xff;
}

static uint64_t i8254_speaker_read(struct device *d, uint64_t off, unsigned size)
{
    struct i8254 *p = to_pit(d);
    uint64_t now = clock_now_ns(vm_clock(d->vm));

    (void)off;
    (void)size;
    i8254_settle(&p->ch[2], now);
    return (uint64_t)p->speaker | (now / PIT_REFRESH_NS & 1 ? SPEAKER_REFRESH : 0) |
           (i8254_out(&p->ch[2], now) ? SPEAKER_OUT2 : 0);
}

static void i8254_speaker_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct i8254 *p = to_pit(d);

    (void)off;
    (void)size;
    p->speaker = val & SPEAKER_WRITABLE;
    i8254_set_gate(&p->ch[2], val & SPEAKER_GATE2, clock_now_ns(vm_clock(d->vm)));
}

static void i8254_channel_state(struct i8254_channel *c, struct state *s)
{
    state_u32(s, &c->count);
    state_u8(s, &c->mode);
    state_u8(s, &c->rw);
    state_bool(s, &c->bcd);
    state_bool(s, &c->gate);
    state_bool(s, &c->loaded);
    state_bool(s, &c->triggered);
    state_u64(s, &c->start_ns);
    state_u64(s, &c->held_ticks);
    state_u16(s, &c->latch);
    state_u8(s, &c->latch_left);
    state_u8(s, &c->status);
    state_bool(s, &c->status_latched);
    state_bool(s, &c->read_high);
    state_bool(s, &c->write_high);
    state_u8(s, &c->low);
    if (state_version(s) >= 2)
        state_u32(s, &c->next_count);
    else if (state_loading(s))
        c->next_count = 0;
    state_require(s, c->next_count <= 65536, "PIT count out of range");
    state_require(s, c->count >= 1 && c->count <= 65536, "PIT count out of range");
    state_require(s, c->mode <= 5 && c->rw >= RW_LOW && c->rw <= RW_BOTH && c->latch_left <= 2,
                  "PIT control word out of range");
    if (state_error(s))
        c->count = 1; /* zeros from a broken stream: nobody may divide by them */
}

static void i8254_state(struct device *d, struct state *s)
{
    struct i8254 *p = to_pit(d);

    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        i8254_channel_state(&p->ch[i], s);
    state_u64(s, &p->next_ns);
    state_bool(s, &p->irq_level);
    state_u8(s, &p->speaker);
    state_require(s, !(p->speaker & ~SPEAKER_WRITABLE), "speaker port out of range");
}

static void i8254_sync(struct device *d)
{
    irq_set(&to_pit(d)->irq0, to_pit(d)->irq_level);
    i8254_arm(to_pit(d));
}

static void i8254_destroy(struct device *d)
{
    clock_timer_cancel(&to_pit(d)->timer);
    free(to_pit(d));
}

static const struct device_ops i8254_ops = {
    .type = "i8254",
    .version = 2, /* 2: a count that waits */
    .state = i8254_state,
    .sync = i8254_sync,
    .destroy = i8254_destroy,
};
static const struct io_ops i8254_io = { i8254_read, i8254_write, 1, 1 };
static const struct io_ops i8254_speaker_io = { i8254_speaker_read, i8254_speaker_write, 1, 1 };

struct i8254 *i8254_create(struct vm *vm, uint16_t base, uint16_t speaker, struct irq irq0,
                           struct err *e)
{
    struct i8254 *p = calloc(1, sizeof(*p));

    if (!p)
        return err_oom(e);
    p->dev = (struct device){ .ops = &i8254_ops, .vm = vm, .id = "i8254" };
    p->irq0 = irq0;
    clock_timer_init(vm_clock(vm), &p->timer, i8254_fire);
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        p->ch[i] =
            (struct i8254_channel){ .count = 65536, .mode = 3, .rw = RW_BOTH, .gate = i != 2 };
    if (bus_claim(vm_pio(vm), base, PIT_LEN, &i8254_io, &p->dev, e) ||
        bus_claim(vm_pio(vm), speaker, 1, &i8254_speaker_io, &p->dev, e) ||
        device_add(vm, &p->dev, e)) {
        bus_release(vm_pio(vm), &p->dev);
        free(p);
        return NULL;
    }
    return p;
}
