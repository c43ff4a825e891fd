/*
 * mc146818.c: Motorola MC146818A real-time clock with 128 bytes of battery-backed memory.
 *
 * The clock is the host's plus an offset that the guest changes by setting the time. Flags in register C
 * are found out when somebody looks (or when an enabled interrupt is due): mc146818_catch_up().
 * Not modelled: daylight saving, square-wave output.
 *
 * Battery-backed: time and memory survive a reset; interrupt enables and flags do not.
 * Locking: the device lock; the timer takes it itself.
 */
#include "hw/mc146818.h"

#include <string.h>
#include <time.h>

#include "state/state.h"

enum {
    REG_SEC = 0,
    REG_SEC_ALARM = 1,
    REG_MIN = 2,
    REG_MIN_ALARM = 3,
    REG_HOUR = 4,
    REG_HOUR_ALARM = 5,
    REG_WDAY = 6,
    REG_MDAY = 7,
    REG_MONTH = 8,
    REG_YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,
    REG_CENTURY = 0x32,
    CMOS_LEN = 128,
};
enum {
    A_UIP = BIT(7),
    A_DIVIDER = 0x70,
    A_RATE = 0x0f,
    A_DIVIDER_32K = 0x20,
    A_DIVIDER_RESET = 0x60
};
enum {
    B_24H = BIT(1),
    B_BINARY = BIT(2),
    B_SQWE = BIT(3),
    B_UIE = BIT(4),
    B_AIE = BIT(5),
    B_PIE = BIT(6),
    B_SET = BIT(7),
};
enum { C_UF = BIT(4), C_AF = BIT(5), C_PF = BIT(6), C_IRQF = BIT(7) };
enum { D_VALID = BIT(7), HOUR_PM = BIT(7), ALARM_ANY = 0xc0 };
enum { UIP_NS = 244000, DAY_SECONDS = 86400 };
#define NS 1000000000ll

struct mc146818 {
    struct device dev;
    /* wiring */
    struct irq irq8, alarm;
    struct clock_timer timer;
    /* guest-visible state */
    uint8_t index;
    uint8_t cmos
        [CMOS_LEN];    /* time registers only count while the clock is stopped; C holds the flags */
    int64_t offset_ns; /* RTC = host wall clock + offset */
    int64_t seen_ns;   /* RTC time up to which UF and AF are known */
    uint64_t tick_ns;  /* guest time of the next periodic tick; 0: none */
};

static struct mc146818 *to_rtc(struct device *d)
{
    return container_of(d, struct mc146818, dev);
}

static int64_t mc146818_now(struct mc146818 *r)
{
    return (int64_t)clock_wall_ns(vm_clock(r->dev.vm)) + r->offset_ns;
}

static bool mc146818_stopped(const struct mc146818 *r)
{
    return (r->cmos[REG_B] & B_SET) || (r->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

/* --- time registers --- */

static uint8_t mc146818_encode(const struct mc146818 *r, int v)
{
    return (uint8_t)(r->cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int mc146818_decode(const struct mc146818 *r, uint8_t v)
{
    return r->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 0xf);
}

static uint8_t mc146818_encode_hour(const struct mc146818 *r, int hour)
{
    if (r->cmos[REG_B] & B_24H)
        return mc146818_encode(r, hour);
    return (uint8_t)(mc146818_encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

static int mc146818_decode_hour(const struct mc146818 *r, uint8_t v)
{
    if (r->cmos[REG_B] & B_24H)
        return mc146818_decode(r, v);
    return mc146818_decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* Clock to registers. */
static void mc146818_show(struct mc146818 *r)
{
    time_t t = (time_t)(mc146818_now(r) / NS);
    struct tm tm;
    int year;

    if (mc146818_stopped(r) || !gmtime_r(&t, &tm))
        return;
    year = tm.tm_year + 1900; /* positive: offsets reach 146 years back, see mc146818_set() */
    r->cmos[REG_SEC] = mc146818_encode(r, tm.tm_sec);
    r->cmos[REG_MIN] = mc146818_encode(r, tm.tm_min);
    r->cmos[REG_HOUR] = mc146818_encode_hour(r, tm.tm_hour);
    r->cmos[REG_WDAY] = mc146818_encode(r, tm.tm_wday + 1);
    r->cmos[REG_MDAY] = mc146818_encode(r, tm.tm_mday);
    r->cmos[REG_MONTH] = mc146818_encode(r, tm.tm_mon + 1);
    r->cmos[REG_YEAR] = mc146818_encode(r, year % 100);
    r->cmos[REG_CENTURY] = mc146818_encode(r, year / 100 % 100);
}

/* Registers to clock; the fraction of the second goes on from `fraction_ns`. Any rubbish is some time. */
static void mc146818_set(struct mc146818 *r, int64_t fraction_ns)
{
    struct tm tm = {
        .tm_sec = mc146818_decode(r, r->cmos[REG_SEC]),
        .tm_min = mc146818_decode(r, r->cmos[REG_MIN]),
        .tm_hour = mc146818_decode_hour(r, r->cmos[REG_HOUR]),
        .tm_mday = mc146818_decode(r, r->cmos[REG_MDAY]),
        .tm_mon = mc146818_decode(r, r->cmos[REG_MONTH]) - 1,
        .tm_year = mc146818_decode(r, r->cmos[REG_YEAR]) +
                   mc146818_decode(r, r->cmos[REG_CENTURY]) * 100 - 1900,
    };
    /* A 12-bit decimal year at most: far from overflow in ns only within these bounds. */
    int64_t s = (int64_t)timegm(&tm), max = INT64_MAX / NS / 2;

    if (s > max || s < -max)
        s = 0;
    r->offset_ns += s * NS + fraction_ns - mc146818_now(r);
    r->seen_ns = mc146818_now(r);
}

/* --- interrupts --- */

static bool mc146818_alarm_byte(uint8_t alarm, uint8_t now)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == now;
}

/*
 * Second s if the alarm matches there; else a later one with none that matches in between: the next hour,
 * minute or second. The guest can make us search a whole day at each access.
 */
static int64_t mc146818_alarm_step(const struct mc146818 *r, int64_t s)
{
    int of_day = (int)(s % DAY_SECONDS);

    if (of_day < 0)
        of_day += DAY_SECONDS;
    if (!mc146818_alarm_byte(r->cmos[REG_HOUR_ALARM], mc146818_encode_hour(r, of_day / 3600)))
        return s + 3600 - of_day % 3600;
    if (!mc146818_alarm_byte(r->cmos[REG_MIN_ALARM], mc146818_encode(r, of_day / 60 % 60)))
        return s + 60 - of_day % 60;
    return s + !mc146818_alarm_byte(r->cmos[REG_SEC_ALARM], mc146818_encode(r, of_day % 60));
}

/* The first second after `after`, up to `until` (a day at most), at which the alarm matches; or -1. */
static int64_t mc146818_next_alarm(const struct mc146818 *r, int64_t after, int64_t until)
{
    int64_t s = after + 1, last = after + DAY_SECONDS;

    if (last > until)
        last = until;
    while (s <= last) {
        int64_t next = mc146818_alarm_step(r, s);

        if (next == s)
            return s;
        s = next;
    }
    return -1;
}

static uint64_t mc146818_period_ns(const struct mc146818 *r)
{
    unsigned rate = r->cmos[REG_A] & A_RATE;

    if (!rate || (r->cmos[REG_A] & A_DIVIDER) > A_DIVIDER_32K)
        return 0;
    if (rate <= 2) /* data sheet, table 5: with a 32 kHz crystal these are 256 and 128 Hz */
        rate += 7;
    return (1000000000ull << (rate - 1)) / 32768;
}

static void mc146818_catch_up_periodic(struct mc146818 *r)
{
    uint64_t now = clock_now_ns(vm_clock(r->dev.vm)), period = mc146818_period_ns(r);

    if (!period || !r->tick_ns || now < r->tick_ns)
        return;
    r->cmos[REG_C] |= C_PF;
    r->tick_ns += ((now - r->tick_ns) / period + 1) * period;
}

static void mc146818_alarm(struct mc146818 *r)
{
    r->cmos[REG_C] |= C_AF;
    if (!(r->cmos[REG_B] & B_AIE))
        return;
    irq_set(&r->alarm, true);
    irq_set(&r->alarm, false);
}

/* Sets the flags of everything that happened up to now, and drives the interrupt. */
static void mc146818_catch_up(struct mc146818 *r)
{
    int64_t now = mc146818_now(r), from = r->seen_ns / NS, to = now / NS;
    uint8_t enabled;

    mc146818_catch_up_periodic(r);
    if (!mc146818_stopped(r) && to > from) {
        r->cmos[REG_C] |= C_UF;
        if (mc146818_next_alarm(r, from, to) >= 0)
            mc146818_alarm(r);
    }
    r->seen_ns = now;
    enabled = r->cmos[REG_B] & (C_UF | C_AF | C_PF); /* the enables are at the flags' places */
    r->cmos[REG_C] &= (uint8_t)~C_IRQF;
    if (r->cmos[REG_C] & enabled)
        r->cmos[REG_C] |= C_IRQF;
    irq_set(&r->irq8, r->cmos[REG_C] & C_IRQF);
}

/* The timer runs only for interrupts that are enabled and not yet flagged. */
static void mc146818_arm(struct mc146818 *r)
{
    uint8_t want = r->cmos[REG_B] & (uint8_t)~r->cmos[REG_C];
    int64_t now = mc146818_now(r), second = now / NS, next = -1;
    uint64_t guest_now = clock_now_ns(vm_clock(r->dev.vm)), deadline = UINT64_MAX;

    if (!mc146818_stopped(r) && (want & B_UIE))
        next = second + 1;
    else if (!mc146818_stopped(r) && (want & B_AIE))
        next = mc146818_next_alarm(r, second, second + DAY_SECONDS);
    if (next >= 0)
        deadline = guest_now + (uint64_t)(next * NS - now);
    if ((want & B_PIE) && r->tick_ns)
        deadline = min_u64(deadline, r->tick_ns);
    if (deadline != UINT64_MAX)
        clock_timer_set(&r->timer, deadline);
    else
        clock_timer_cancel(&r->timer);
}

static void mc146818_fire(struct clock_timer *t)
{
    struct mc146818 *r = container_of(t, struct mc146818, timer);

    pthread_mutex_lock(&r->dev.lock);
    mc146818_catch_up(r);
    mc146818_arm(r);
    pthread_mutex_unlock(&r->dev.lock);
}

/* --- registers --- */

static void mc146818_write_a(struct mc146818 *r, uint8_t val)
{
    uint8_t old = r->cmos[REG_A];
    bool was = mc146818_stopped(r);
    uint64_t period;

    r->cmos[REG_A] = val & (A_DIVIDER | A_RATE);
    if (was && !mc146818_stopped(r))
        mc146818_set(r, NS / 2); /* the first update comes half a second after the divider starts */
    if ((old ^ val) & (A_DIVIDER | A_RATE)) {
        period = mc146818_period_ns(r);
        r->tick_ns = period ? clock_now_ns(vm_clock(r->dev.vm)) + period : 0;
    }
}

static void mc146818_write_b(struct mc146818 *r, uint8_t val)
{
    bool was = mc146818_stopped(r);
    int64_t fraction = mc146818_now(r) % NS;

    r->cmos[REG_B] = val & B_SET ? val & (uint8_t)~B_UIE : val; /* SET clears UIE */
    if (was && !mc146818_stopped(r))
        mc146818_set(r, fraction < 0 ? 0 : fraction);
}

static bool mc146818_is_time(unsigned reg)
{
    return reg <= REG_YEAR ? !(reg & 1) || reg >= REG_MDAY : reg == REG_CENTURY;
}

static void mc146818_write_time(struct mc146818 *r, unsigned reg, uint8_t val)
{
    r->cmos[reg] = val;
    if (!mc146818_stopped(r))
        mc146818_set(r, mc146818_now(r) % NS);
}

static void mc146818_write_reg(struct mc146818 *r, unsigned reg, uint8_t val)
{
    mc146818_catch_up(r);
    mc146818_show(r); /* what a stop freezes, or a single register's change builds on */
    if (reg == REG_A)
        mc146818_write_a(r, val);
    else if (reg == REG_B)
        mc146818_write_b(r, val);
    else if (mc146818_is_time(reg))
        mc146818_write_time(r, reg, val);
    else if (reg != REG_C && reg != REG_D)
        r->cmos[reg] = val;
    mc146818_catch_up(r);
    mc146818_arm(r);
}

static uint8_t mc146818_read_a(struct mc146818 *r)
{
    bool uip = !mc146818_stopped(r) && mc146818_now(r) % NS >= NS - UIP_NS;

    return (uint8_t)(r->cmos[REG_A] | (uip ? A_UIP : 0));
}

static uint8_t mc146818_read_c(struct mc146818 *r)
{
    uint8_t val;

    mc146818_catch_up(r);
    val = r->cmos[REG_C];
    r->cmos[REG_C] = 0;
    /* Low in any case: were what has become due meanwhile to keep it high, no edge would follow. */
    irq_set(&r->irq8, false);
    mc146818_arm(r);
    return val;
}

static uint64_t mc146818_read(struct device *d, uint64_t off, unsigned size)
{
    struct mc146818 *r = to_rtc(d);

    (void)size;
    if (off == 0)
        return 0xff; /* the index is write-only */
    switch (r->index) {
    case REG_A:
        return mc146818_read_a(r);
    case REG_C:
        return mc146818_read_c(r);
    case REG_D:
        return D_VALID;
    default:
        if (mc146818_is_time(r->index))
            mc146818_show(r);
        return r->cmos[r->index];
    }
}

static void mc146818_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    if (off == 0)
        to_rtc(d)->index = val & 0x7f; /* bit 7 is the NMI mask, which nobody needs */
    else
        mc146818_write_reg(to_rtc(d), to_rtc(d)->index, (uint8_t)val);
}

static void mc146818_put16(struct mc146818 *r, unsigned reg, uint64_t val)
{
    r->cmos[reg] = (uint8_t)val;
    r->cmos[reg + 1] = (uint8_t)(val >> 8);
}

void mc146818_set_alarm(struct mc146818 *r, struct irq alarm)
{
    r->alarm = alarm;
}

void mc146818_set_memory(struct mc146818 *r, uint64_t below_4g, uint64_t above_4g)
{
    uint64_t above_1m = below_4g > MIB ? below_4g - MIB : 0;
    uint64_t above_16m = below_4g > 16 * MIB ? below_4g - 16 * MIB : 0;

    pthread_mutex_lock(&r->dev.lock);
    mc146818_put16(r, 0x15, 640);
    mc146818_put16(r, 0x17, min_u64(above_1m / KIB, 0xffff));
    mc146818_put16(r, 0x30, min_u64(above_1m / KIB, 0xffff));
    mc146818_put16(r, 0x34, min_u64(above_16m / (64 * KIB), 0xffff));
    mc146818_put16(r, 0x5b, above_4g / (64 * KIB));
    r->cmos[0x5d] = (uint8_t)(above_4g / (64 * KIB) >> 16);
    pthread_mutex_unlock(&r->dev.lock);
}

void mc146818_set_cmos(struct mc146818 *r, uint8_t index, uint8_t val)
{
    BUG_ON(index <= REG_D || index >= CMOS_LEN);
    pthread_mutex_lock(&r->dev.lock);
    r->cmos[index] = val;
    pthread_mutex_unlock(&r->dev.lock);
}

/* Flags that came due since seen_ns are made up for by the sync, here or after a load. */
static void mc146818_state(struct device *d, struct state *s)
{
    struct mc146818 *r = to_rtc(d);

    state_u8(s, &r->index);
    state_bytes(s, r->cmos, sizeof(r->cmos));
    state_i64(s, &r->offset_ns);
    state_i64(s, &r->seen_ns);
    state_u64(s, &r->tick_ns);
    state_require(s, r->index < CMOS_LEN, "CMOS index out of range");
    state_require(s, r->offset_ns / 4 < INT64_MAX / 8 && r->offset_ns / 4 > -(INT64_MAX / 8),
                  "RTC offset out of range");
    /* A tick without a rate would never move on, and its timer never end. */
    state_require(s, !r->tick_ns == !mc146818_period_ns(r), "RTC tick without a rate");
    r->index &= CMOS_LEN - 1;
}

static void mc146818_sync(struct device *d)
{
    mc146818_catch_up(to_rtc(d));
    mc146818_arm(to_rtc(d));
}

/* The RESET pin: the battery keeps time and memory. */
static void mc146818_reset(struct device *d)
{
    to_rtc(d)->cmos[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    to_rtc(d)->cmos[REG_C] = 0;
    to_rtc(d)->index = 0;
}

static void mc146818_destroy(struct device *d)
{
    clock_timer_cancel(&to_rtc(d)->timer);
    free(to_rtc(d));
}

static const struct device_ops mc146818_ops = {
    .type = "mc146818",
    .version = 1,
    .state = mc146818_state,
    .sync = mc146818_sync,
    .reset = mc146818_reset,
    .destroy = mc146818_destroy,
};
static const struct io_ops mc146818_io = { mc146818_read, mc146818_write, 1, 1 };

struct mc146818 *mc146818_create(struct vm *vm, uint16_t base, struct irq irq8, struct err *e)
{
    struct mc146818 *r = calloc(1, sizeof(*r));

    if (!r)
        return err_oom(e);
    r->dev = (struct device){ .ops = &mc146818_ops, .vm = vm, .id = "mc146818" };
    r->irq8 = irq8;
    r->cmos[REG_A] = A_DIVIDER_32K | 6; /* 1024 Hz, as firmware leaves it */
    r->cmos[REG_B] = B_24H;
    r->cmos[REG_D] = D_VALID;
    clock_timer_init(vm_clock(vm), &r->timer, mc146818_fire);
    r->seen_ns = mc146818_now(r);
    r->tick_ns = clock_now_ns(vm_clock(vm)) + mc146818_period_ns(r);
    if (bus_claim(vm_pio(vm), base, 2, &mc146818_io, &r->dev, e) || device_add(vm, &r->dev, e)) {
        bus_release(vm_pio(vm), &r->dev);
        free(r);
        return NULL;
    }
    return r;
}
