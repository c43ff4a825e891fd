/*
 * acpi_pm.c: ACPI fixed hardware (ACPI 6.5, 4.8.3): PM1 event and control registers, 32-bit power
 * management timer at 3.579545 MHz, and a GPE0 block in which nothing ever happens. ACPI mode is always
 * on (there is no SMI_CMD). Sleep states other than S3 and S5 are ignored.
 *
 * Locking: the device lock; the timer and acpi_pm_press_power() take it themselves.
 */
#include "hw/acpi_pm.h"

#include "state/state.h"

enum { PM1_STS = 0, PM1_EN = 2, PM1_CNT = ACPI_PM_CNT, PM1_LEN = 6, TMR_LEN = 4 };
enum {
    PM1_TMR = BIT(0),
    PM1_GBL = BIT(5),
    PM1_PWRBTN = BIT(8),
    PM1_SLPBTN = BIT(9),
    PM1_RTC = BIT(10),
    PM1_WAK = BIT(15),
    PM1_WAKERS = PM1_PWRBTN | PM1_SLPBTN | PM1_RTC,
    PM1_ENABLES = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC,
};
enum {
    CNT_SCI_EN = BIT(0),
    CNT_SLP_TYP = 7 << 10,
    CNT_SLP_EN = BIT(13),
    CNT_STORED = BIT(1) | CNT_SLP_TYP,
};
enum { PM_TIMER_HZ = 3579545, PM_TIMER_CARRY = 31 };

struct acpi_pm {
    struct device dev;
    /* wiring */
    struct irq sci;
    struct acpi_pm_sleep sleep;
    struct clock_timer timer;
    uint16_t base; /* acpi_pm_move()'s */
    /* guest-visible state */
    uint16_t sts, en, cnt;
    uint16_t gpe_en;
    bool asleep;      /* in S3 */
    uint64_t carries; /* times that the timer's top bit has toggled, as far as TMR_STS knows */
};

static struct acpi_pm *to_pm(struct device *d)
{
    return container_of(d, struct acpi_pm, dev);
}

static uint64_t acpi_pm_ticks(const struct acpi_pm *pm)
{
    return (uint64_t)((uint128)clock_now_ns(vm_clock(pm->dev.vm)) * PM_TIMER_HZ / 1000000000);
}

/* TMR_STS is set whenever the timer's top bit changes: found out when it matters. */
static void acpi_pm_catch_up(struct acpi_pm *pm)
{
    uint64_t carries = acpi_pm_ticks(pm) >> PM_TIMER_CARRY;

    if (carries != pm->carries)
        pm->sts |= PM1_TMR;
    pm->carries = carries;
}

/* SCI is level-triggered, a pure function of the registers. */
static void acpi_pm_update(struct acpi_pm *pm)
{
    uint64_t next;

    acpi_pm_catch_up(pm);
    next = (pm->carries + 1) << PM_TIMER_CARRY;
    irq_set(&pm->sci, (pm->sts & pm->en) != 0);
    if ((pm->en & PM1_TMR) && !(pm->sts & PM1_TMR))
        clock_timer_set(&pm->timer, (uint64_t)((uint128)next * 1000000000 / PM_TIMER_HZ) + 1);
    else
        clock_timer_cancel(&pm->timer);
    if (pm->asleep && (pm->sts & (pm->en | PM1_PWRBTN) & PM1_WAKERS))
        vm_guest_wake(pm->dev.vm);
}

static void acpi_pm_fire(struct clock_timer *t)
{
    struct acpi_pm *pm = container_of(t, struct acpi_pm, timer);

    pthread_mutex_lock(&pm->dev.lock);
    acpi_pm_update(pm);
    pthread_mutex_unlock(&pm->dev.lock);
}

static void acpi_pm_event(struct acpi_pm *pm, uint16_t status)
{
    pthread_mutex_lock(&pm->dev.lock);
    pm->sts |= status;
    acpi_pm_update(pm);
    pthread_mutex_unlock(&pm->dev.lock);
}

void acpi_pm_press_power(struct acpi_pm *pm)
{
    acpi_pm_event(pm, PM1_PWRBTN);
}

static void acpi_pm_rtc_set(void *chip, unsigned pin, bool level)
{
    (void)pin;
    if (level)
        acpi_pm_event(chip, PM1_RTC);
}

struct irq acpi_pm_rtc_alarm(struct acpi_pm *pm)
{
    return (struct irq){ .set = acpi_pm_rtc_set, .chip = pm };
}

uint16_t acpi_pm_wake_cause(struct acpi_pm *pm)
{
    return pm->sts & PM1_WAKERS;
}

void acpi_pm_woken(struct acpi_pm *pm, uint16_t cause)
{
    acpi_pm_event(pm, cause | PM1_WAK);
}

static void acpi_pm_write_cnt(struct acpi_pm *pm, uint16_t val)
{
    unsigned type = (val & CNT_SLP_TYP) >> 10;

    pm->cnt = val & CNT_STORED;
    if (!(val & CNT_SLP_EN))
        return;
    if (type == pm->sleep.s5_type) {
        vm_guest_poweroff(pm->dev.vm);
    } else if (type == pm->sleep.s3_type) {
        pm->asleep = true;
        vm_guest_suspend(pm->dev.vm);
    }
}

static uint16_t acpi_pm_read_reg(struct acpi_pm *pm, unsigned reg)
{
    acpi_pm_catch_up(pm);
    switch (reg) {
    case PM1_STS:
        return pm->sts;
    case PM1_EN:
        return pm->en;
    default:
        return pm->cnt | CNT_SCI_EN;
    }
}

static uint64_t acpi_pm_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return acpi_pm_read_reg(to_pm(d), (unsigned)off & ~1u) >> (8 * (off & 1));
}

/* Registers are 16 bits wide; a byte leaves the other one alone. */
static void acpi_pm_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct acpi_pm *pm = to_pm(d);
    unsigned shift = 8 * (off & 1), reg = (unsigned)off & ~1u;
    uint16_t mask = (uint16_t)((size == 1 ? 0xff : 0xffff) << shift);
    uint16_t bits = (uint16_t)(val << shift) & mask;

    acpi_pm_catch_up(pm);
    if (reg == PM1_STS)
        pm->sts &= (uint16_t)~bits; /* write 1 to clear */
    else if (reg == PM1_EN)
        pm->en = (uint16_t)((pm->en & ~mask) | bits) & PM1_ENABLES;
    else
        acpi_pm_write_cnt(pm, (uint16_t)((pm->cnt & ~mask) | bits));
    acpi_pm_update(pm);
}

static uint64_t acpi_pm_timer_read(struct device *d, uint64_t off, unsigned size)
{
    (void)off;
    (void)size;
    return (uint32_t)acpi_pm_ticks(to_pm(d));
}

/* Status bytes first, then the enables; no event ever sets a status. */
static uint64_t acpi_pm_gpe_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return off < ACPI_PM_GPE_LEN / 2 ? 0 : to_pm(d)->gpe_en >> (8 * (off & 1)) & 0xff;
}

static void acpi_pm_gpe_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    unsigned shift = 8 * (off & 1);

    (void)size;
    if (off >= ACPI_PM_GPE_LEN / 2)
        to_pm(d)->gpe_en =
            (uint16_t)((to_pm(d)->gpe_en & ~(0xff << shift)) | (val & 0xff) << shift);
}

static void acpi_pm_state(struct device *d, struct state *s)
{
    struct acpi_pm *pm = to_pm(d);

    state_u16(s, &pm->sts);
    state_u16(s, &pm->en);
    state_u16(s, &pm->cnt);
    state_u16(s, &pm->gpe_en);
    state_bool(s, &pm->asleep);
    state_u64(s, &pm->carries);
    state_require(s,
                  !(pm->sts & ~(PM1_ENABLES | PM1_WAK)) && !(pm->en & ~PM1_ENABLES) &&
                      !(pm->cnt & ~CNT_STORED),
                  "unknown power management bits");
}

static void acpi_pm_sync(struct device *d)
{
    if (to_pm(d)->asleep)
        vm_guest_suspend(d->vm);
    acpi_pm_update(to_pm(d));
}

/* The timer runs on: what it carried before the reset is not news. */
static void acpi_pm_reset(struct device *d)
{
    struct acpi_pm *pm = to_pm(d);

    pm->sts = pm->en = pm->cnt = pm->gpe_en = 0;
    pm->asleep = false;
    pm->carries = acpi_pm_ticks(pm) >> PM_TIMER_CARRY;
}

static const struct io_ops acpi_pm_io = { acpi_pm_read, acpi_pm_write, 1, 2 };
static const struct io_ops acpi_pm_timer_io = { acpi_pm_timer_read, NULL, 4, 4 };

/* Where something else is already they are not to be seen, as with any two devices at one address. */
void acpi_pm_move(struct acpi_pm *pm, uint16_t base)
{
    struct bus *pio = vm_pio(pm->dev.vm);
    struct err e = { 0 };

    if (pm->base) {
        bus_release_at(pio, &pm->dev, pm->base);
        bus_release_at(pio, &pm->dev, pm->base + ACPI_PM_TMR);
    }
    pm->base = base;
    if (base && (bus_claim(pio, base, PM1_LEN, &acpi_pm_io, &pm->dev, &e) ||
                 bus_claim(pio, base + ACPI_PM_TMR, TMR_LEN, &acpi_pm_timer_io, &pm->dev, &e)))
        log_limited(&pm->dev.log, LOG_WARN, "acpi_pm", "not all registers are mapped: %s", e.msg);
}

static void acpi_pm_destroy(struct device *d)
{
    clock_timer_cancel(&to_pm(d)->timer);
    free(to_pm(d));
}

static const struct device_ops acpi_pm_ops = {
    .type = "acpi-pm",
    .version = 1,
    .state = acpi_pm_state,
    .sync = acpi_pm_sync,
    .reset = acpi_pm_reset,
    .destroy = acpi_pm_destroy,
};
static const struct io_ops acpi_pm_gpe_io = { acpi_pm_gpe_read, acpi_pm_gpe_write, 1, 1 };

struct acpi_pm *acpi_pm_create(struct vm *vm, uint16_t base, uint16_t gpe0,
                               const struct acpi_pm_sleep *sleep, struct irq sci, struct err *e)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    struct bus *pio = vm_pio(vm);

    if (!pm)
        return err_oom(e);
    pm->dev = (struct device){ .ops = &acpi_pm_ops, .vm = vm, .id = "acpi-pm" };
    pm->sci = sci;
    pm->sleep = *sleep;
    clock_timer_init(vm_clock(vm), &pm->timer, acpi_pm_fire);
    acpi_pm_move(pm, base);
    if (bus_claim(pio, gpe0, ACPI_PM_GPE_LEN, &acpi_pm_gpe_io, &pm->dev, e) ||
        device_add(vm, &pm->dev, e)) {
        bus_release(pio, &pm->dev);
        free(pm);
        return NULL;
    }
    return pm;
}
