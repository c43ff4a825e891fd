/*
 * i8259.c: 8259A programmable interrupt controller (Intel 231468), two of them, and the PIIX's
 * edge/level control registers. All modes of an x86 PC: rotation, special mask, special fully nested,
 * automatic EOI, poll. Not modelled: MCS-80 mode, buffered mode.
 *
 * Locking: the device lock; wires and i8259_inta() take it themselves. INTR is driven with it held.
 */
#include "hw/i8259.h"

#include "state/state.h"

enum { OCW3_MARK = BIT(3), ICW1_MARK = BIT(4) };
enum { ICW1_IC4 = BIT(0), ICW1_SNGL = BIT(1) };
enum { ICW2 = 2, ICW3 = 3, ICW4 = 4, ICW2_SINGLE = 5 }; /* the last: no ICW3 follows */
enum { ICW4_AEOI = BIT(1), ICW4_SFNM = BIT(4) };
enum { CASCADE = 2, SPURIOUS = 7 };

struct i8259_chip {
    uint8_t irr, isr, imr;
    uint8_t lines;  /* levels of the input pins */
    uint8_t elcr;   /* bit a pin: level-triggered */
    uint8_t vector; /* ICW2: bits 7:3 */
    uint8_t first;  /* pin of the highest priority */
    uint8_t icw;    /* next initialisation word expected: ICW2 to ICW2_SINGLE; 0: none */
    bool want_icw4, aeoi, rotate_aeoi, special_mask, sfnm, poll, read_isr;
};

struct i8259 {
    struct device dev;
    struct i8259_chip chip[2]; /* master, slave */
};

static const uint8_t i8259_elcr_mask[2] = { 0xf8, 0xde }; /* 0, 1, 2, 8 and 13 are always edges */

static struct i8259 *to_i8259(struct device *d)
{
    return container_of(d, struct i8259, dev);
}

/* The pin of highest priority in mask, as distance from `first`; 8: none. */
static unsigned i8259_distance(const struct i8259_chip *c, uint8_t mask)
{
    unsigned n = 0;

    while (n < 8 && !(mask & BIT((n + c->first) & 7)))
        n++;
    return n;
}

/* The request that may interrupt what is in service, or -1. While it is initialised a chip takes none. */
static int i8259_request(const struct i8259_chip *c, bool master)
{
    unsigned want = i8259_distance(c, (uint8_t)(c->irr & ~c->imr)), held;
    uint8_t busy = c->isr;
    int pin = (int)((want + c->first) & 7);

    if (c->special_mask)
        busy &= (uint8_t)~c->imr;
    held = i8259_distance(c, busy);
    if (want == 8 || c->icw || want > held)
        return -1;
    if (want ==
        held) /* special fully nested: a slave in service may interrupt again, the others may not */
        return master && c->sfnm && pin == CASCADE ? pin : -1;
    return pin;
}

static void i8259_set_line(struct i8259_chip *c, unsigned pin, bool level)
{
    uint8_t bit = (uint8_t)BIT(pin);

    if (level && ((c->elcr & bit) || !(c->lines & bit)))
        c->irr |= bit;
    else if (!level && (c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
}

/* Slave to master, master to the processor. */
static void i8259_update(struct i8259 *p)
{
    i8259_set_line(&p->chip[0], CASCADE, i8259_request(&p->chip[1], false) >= 0);
    vm_intr(p->dev.vm, i8259_request(&p->chip[0], true) >= 0);
}

static void i8259_set(void *chip, unsigned pin, bool level)
{
    struct i8259 *p = chip;
    struct i8259_chip *c = &p->chip[pin >> 3 & 1];

    pthread_mutex_lock(&p->dev.lock);
    if (level != !!(c->lines & BIT(pin & 7))) {
        i8259_set_line(c, pin & 7, level);
        i8259_update(p);
    }
    pthread_mutex_unlock(&p->dev.lock);
}

struct irq i8259_irq(struct i8259 *p, unsigned pin)
{
    BUG_ON(pin > 15);
    return (struct irq){ i8259_set, p, pin };
}

static void i8259_acknowledge(struct i8259_chip *c, int pin)
{
    uint8_t bit = (uint8_t)BIT(pin);

    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->aeoi)
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->first = (uint8_t)((pin + 1) & 7);
}

int i8259_inta(struct i8259 *p)
{
    struct i8259_chip *c = &p->chip[0];
    int pin, vector;

    pthread_mutex_lock(&p->dev.lock);
    pin = i8259_request(c, true);
    if (pin >= 0)
        i8259_acknowledge(c, pin);
    if (pin == CASCADE) {
        c = &p->chip[1];
        pin = i8259_request(c, false);
        if (pin >= 0)
            i8259_acknowledge(c, pin);
    }
    vector = c->vector | (pin < 0 ? SPURIOUS : pin);
    i8259_update(p);
    pthread_mutex_unlock(&p->dev.lock);
    return vector;
}

/* --- registers --- */

static void i8259_eoi(struct i8259_chip *c, uint8_t ocw2)
{
    unsigned pin = ocw2 & 7;

    if (!(ocw2 & BIT(6))) { /* non-specific: the highest in service */
        uint8_t busy = c->special_mask ? (uint8_t)(c->isr & ~c->imr) : c->isr;
        unsigned n = i8259_distance(c, busy);

        if (n == 8)
            return;
        pin = (n + c->first) & 7;
    }
    c->isr &= (uint8_t)~BIT(pin);
    if (ocw2 & BIT(7))
        c->first = (uint8_t)((pin + 1) & 7);
}

static void i8259_ocw2(struct i8259_chip *c, uint8_t val)
{
    switch (val >> 5) {
    case 0:
    case 4: /* rotate in automatic EOI mode: clear, set */
        c->rotate_aeoi = val >> 5 == 4;
        break;
    case 2: /* nothing */
        break;
    case 6: /* set priority: the pin becomes the lowest */
        c->first = (uint8_t)((val + 1) & 7);
        break;
    default:
        i8259_eoi(c, val);
        break;
    }
}

static void i8259_ocw3(struct i8259_chip *c, uint8_t val)
{
    if (val & BIT(2))
        c->poll = true;
    if (val & BIT(1))
        c->read_isr = val & BIT(0);
    if (val & BIT(6))
        c->special_mask = val & BIT(5);
}

/* ICW1 starts the initialisation: all but levels and their control is reset. */
static void i8259_icw1(struct i8259_chip *c, uint8_t val)
{
    *c = (struct i8259_chip){
        .irr = c->irr & c->elcr,
        .lines = c->lines & c->elcr, /* an edge has to come again */
        .elcr = c->elcr,
        .icw = val & ICW1_SNGL ? ICW2_SINGLE : ICW2,
        .want_icw4 = val & ICW1_IC4,
    };
}

static void i8259_write_data(struct i8259_chip *c, uint8_t val)
{
    switch (c->icw) {
    case ICW2:
        c->vector = val & 0xf8;
        c->icw = ICW3;
        break;
    case ICW2_SINGLE:
        c->vector = val & 0xf8;
        c->icw = c->want_icw4 ? ICW4 : 0;
        break;
    case ICW3: /* the cascade is wired as in every PC */
        c->icw = c->want_icw4 ? ICW4 : 0;
        break;
    case ICW4:
        c->aeoi = val & ICW4_AEOI;
        c->sfnm = val & ICW4_SFNM;
        c->icw = 0;
        break;
    default:
        c->imr = val;
        break;
    }
}

static void i8259_write(struct i8259 *p, unsigned n, uint64_t off, uint8_t val)
{
    struct i8259_chip *c = &p->chip[n];

    if (off & 1)
        i8259_write_data(c, val);
    else if (val & ICW1_MARK)
        i8259_icw1(c, val);
    else if (val & OCW3_MARK)
        i8259_ocw3(c, val);
    else
        i8259_ocw2(c, val);
    i8259_update(p);
}

static uint8_t i8259_poll(struct i8259 *p, unsigned n)
{
    struct i8259_chip *c = &p->chip[n];
    int pin = i8259_request(c, n == 0);

    c->poll = false;
    if (pin < 0)
        return 0;
    i8259_acknowledge(c, pin);
    i8259_update(p);
    return (uint8_t)(0x80 | pin);
}

static uint8_t i8259_read(struct i8259 *p, unsigned n, uint64_t off)
{
    struct i8259_chip *c = &p->chip[n];

    if (c->poll)
        return i8259_poll(p, n);
    if (off & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static uint64_t i8259_master_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return i8259_read(to_i8259(d), 0, off);
}

static void i8259_master_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    i8259_write(to_i8259(d), 0, off, (uint8_t)val);
}

static uint64_t i8259_slave_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return i8259_read(to_i8259(d), 1, off);
}

static void i8259_slave_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    i8259_write(to_i8259(d), 1, off, (uint8_t)val);
}

static uint64_t i8259_elcr_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return to_i8259(d)->chip[off & 1].elcr;
}

/* A request by level follows the line at once. */
static void i8259_set_elcr(struct i8259 *p, unsigned n, uint8_t val)
{
    struct i8259_chip *c = &p->chip[n];

    c->elcr = val & i8259_elcr_mask[n];
    c->irr = (uint8_t)((c->irr & ~c->elcr) | (c->lines & c->elcr));
    i8259_update(p);
}

static void i8259_elcr_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    i8259_set_elcr(to_i8259(d), off & 1, (uint8_t)val);
}

void i8259_assign(struct i8259 *p, uint16_t level)
{
    pthread_mutex_lock(&p->dev.lock);
    i8259_set_elcr(p, 0, (uint8_t)level);
    i8259_set_elcr(p, 1, (uint8_t)(level >> 8));
    pthread_mutex_unlock(&p->dev.lock);
}

static void i8259_chip_state(struct i8259_chip *c, uint8_t elcr_mask, struct state *s)
{
    state_u8(s, &c->irr);
    state_u8(s, &c->isr);
    state_u8(s, &c->imr);
    state_u8(s, &c->lines);
    state_u8(s, &c->elcr);
    state_u8(s, &c->vector);
    state_u8(s, &c->first);
    state_u8(s, &c->icw);
    state_bool(s, &c->want_icw4);
    state_bool(s, &c->aeoi);
    state_bool(s, &c->rotate_aeoi);
    state_bool(s, &c->special_mask);
    state_bool(s, &c->sfnm);
    state_bool(s, &c->poll);
    state_bool(s, &c->read_isr);
    state_require(
        s, !(c->elcr & ~elcr_mask) && !(c->vector & 7) && c->first < 8 && c->icw <= ICW2_SINGLE,
        "8259 registers out of range");
}

static void i8259_state(struct device *d, struct state *s)
{
    for (unsigned i = 0; i < 2; i++)
        i8259_chip_state(&to_i8259(d)->chip[i], i8259_elcr_mask[i], s);
}

static void i8259_sync(struct device *d)
{
    i8259_update(to_i8259(d));
}

static const struct device_ops i8259_ops = {
    .type = "i8259",
    .version = 1,
    .state = i8259_state,
    .sync = i8259_sync,
};
static const struct io_ops i8259_master_io = { i8259_master_read, i8259_master_write, 1, 1 };
static const struct io_ops i8259_slave_io = { i8259_slave_read, i8259_slave_write, 1, 1 };
static const struct io_ops i8259_elcr_io = { i8259_elcr_read, i8259_elcr_write, 1, 1 };

struct i8259 *i8259_create(struct vm *vm, uint16_t master, uint16_t slave, uint16_t elcr,
                           struct err *e)
{
    struct i8259 *p = calloc(1, sizeof(*p));
    struct bus *pio = vm_pio(vm);

    if (!p)
        return err_oom(e);
    p->dev = (struct device){ .ops = &i8259_ops, .vm = vm, .id = "i8259" };
    if (bus_claim(pio, master, 2, &i8259_master_io, &p->dev, e) ||
        bus_claim(pio, slave, 2, &i8259_slave_io, &p->dev, e) ||
        bus_claim(pio, elcr, 2, &i8259_elcr_io, &p->dev, e) || device_add(vm, &p->dev, e)) {
        bus_release(pio, &p->dev);
        free(p);
        return NULL;
    }
    return p;
}
