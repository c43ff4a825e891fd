/*
 * ioapic.c: 82093AA I/O APIC (Intel 290566), with the EOI register of version 0x20.
 *
 * Redirection entry:
 *   63..56 destination | 16 mask | 15 level | 14 remote IRR | 13 active low | 12 pending | 11 logical |
 *   10..8 delivery mode | 7..0 vector
 * Polarity is stored only: wires are logical levels. An edge on a masked pin is lost, as in the chip.
 *
 * Locking: the device lock; wires and ioapic_eoi() take it themselves. Messages leave with it held.
 */
#include "hw/ioapic.h"

#include "state/state.h"

enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40, IOAPIC_LEN = 0x1000 };
enum { IOAPICID = 0, IOAPICVER = 1, IOAPICARB = 2, IOREDTBL = 0x10 };
enum { RTE_REMOTE_IRR = BIT(14), RTE_LEVEL = BIT(15), RTE_MASKED = BIT(16) };
enum { IOAPIC_VERSION = 0x20 | (IOAPIC_PINS - 1) << 16 };
#define RTE_WRITABLE 0xff0000000001afffull

struct ioapic {
    struct device dev;
    /* wiring */
    void (*changed)(void *opaque, struct ioapic *io, unsigned pin);
    void *opaque;
    /* guest-visible state */
    uint64_t rte[IOAPIC_PINS];
    uint32_t lines; /* levels of the pins */
    uint32_t id;
    uint8_t select;
};

static struct ioapic *to_ioapic(struct device *d)
{
    return container_of(d, struct ioapic, dev);
}

bool ioapic_route_locked(struct ioapic *io, unsigned pin, uint64_t *addr, uint32_t *data)
{
    uint64_t rte = io->rte[pin];

    *addr = 0xfee00000ull | (rte >> 56) << 12 | (rte >> 11 & 1) << 2;
    *data = (uint32_t)(rte & 0x7ff) | (uint32_t)(rte & RTE_LEVEL ? BIT(14) | RTE_LEVEL : 0);
    return !(rte & RTE_MASKED);
}

bool ioapic_route(struct ioapic *io, unsigned pin, uint64_t *addr, uint32_t *data)
{
    bool unmasked;

    pthread_mutex_lock(&io->dev.lock);
    unmasked = ioapic_route_locked(io, pin, addr, data);
    pthread_mutex_unlock(&io->dev.lock);
    return unmasked;
}

void ioapic_on_change(struct ioapic *io,
                      void (*changed)(void *opaque, struct ioapic *io, unsigned pin), void *opaque)
{
    io->changed = changed;
    io->opaque = opaque;
}

/* The pin asks: sends its message, unless masked or (level) one is still being served. */
static void ioapic_send(struct ioapic *io, unsigned pin)
{
    uint64_t addr;
    uint32_t data;

    if ((io->rte[pin] & RTE_REMOTE_IRR) || !ioapic_route_locked(io, pin, &addr, &data))
        return;
    if (io->rte[pin] & RTE_LEVEL)
        io->rte[pin] |= RTE_REMOTE_IRR;
    vm_msi(io->dev.vm, addr, data);
}

static void ioapic_send_level(struct ioapic *io, unsigned pin)
{
    if ((io->rte[pin] & RTE_LEVEL) && (io->lines & BIT(pin)))
        ioapic_send(io, pin);
}

static void ioapic_set(void *chip, unsigned pin, bool level)
{
    struct ioapic *io = chip;

    pthread_mutex_lock(&io->dev.lock);
    if (level != !!(io->lines & BIT(pin))) {
        io->lines ^= BIT(pin);
        if (level)
            ioapic_send(io, pin);
    }
    pthread_mutex_unlock(&io->dev.lock);
}

struct irq ioapic_irq(struct ioapic *io, unsigned pin)
{
    BUG_ON(pin >= IOAPIC_PINS);
    return (struct irq){ ioapic_set, io, pin };
}

static void ioapic_eoi_locked(struct ioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((io->rte[pin] & 0xff) != vector || !(io->rte[pin] & RTE_REMOTE_IRR))
            continue;
        io->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
        ioapic_send_level(io, pin);
    }
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    pthread_mutex_lock(&io->dev.lock);
    ioapic_eoi_locked(io, vector);
    pthread_mutex_unlock(&io->dev.lock);
}

static void ioapic_write_rte(struct ioapic *io, unsigned pin, bool high, uint32_t val)
{
    uint64_t *rte = &io->rte[pin], old = *rte, mask = RTE_WRITABLE;

    mask &= high ? 0xffffffff00000000ull : 0xffffffffull;
    *rte = (old & ~mask) | ((high ? (uint64_t)val << 32 : val) & mask);
    if (!(*rte & RTE_LEVEL)) /* how software without the EOI register clears it */
        *rte &= ~(uint64_t)RTE_REMOTE_IRR;
    if (*rte != old && io->changed)
        io->changed(io->opaque, io, pin);
    ioapic_send_level(io, pin);
}

static uint32_t ioapic_read_reg(const struct ioapic *io, unsigned reg)
{
    unsigned n = reg - IOREDTBL;

    switch (reg) {
    case IOAPICID:
    case IOAPICARB:
        return io->id;
    case IOAPICVER:
        return IOAPIC_VERSION;
    default:
        if (reg < IOREDTBL || n / 2 >= IOAPIC_PINS)
            return 0;
        return (uint32_t)(io->rte[n / 2] >> (n & 1 ? 32 : 0));
    }
}

static uint64_t ioapic_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    switch (off) {
    case IOREGSEL:
        return to_ioapic(d)->select;
    case IOWIN:
        return ioapic_read_reg(to_ioapic(d), to_ioapic(d)->select);
    default:
        return 0;
    }
}

static void ioapic_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct ioapic *io = to_ioapic(d);
    unsigned n = io->select - IOREDTBL;

    (void)size;
    switch (off) {
    case IOREGSEL:
        io->select = (uint8_t)val;
        break;
    case IOWIN:
        if (io->select == IOAPICID)
            io->id = (uint32_t)val & 0x0f000000;
        else if (io->select >= IOREDTBL && n / 2 < IOAPIC_PINS)
            ioapic_write_rte(io, n / 2, n & 1, (uint32_t)val);
        break;
    case IOEOI:
        ioapic_eoi_locked(io, (uint8_t)val);
        break;
    default:
        break;
    }
}

static void ioapic_state(struct device *d, struct state *s)
{
    struct ioapic *io = to_ioapic(d);
    bool ok = true;

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        state_u64(s, &io->rte[pin]);
        ok = ok && !(io->rte[pin] & ~(RTE_WRITABLE | RTE_REMOTE_IRR));
    }
    state_u32(s, &io->lines);
    state_u32(s, &io->id);
    state_u8(s, &io->select);
    state_require(s, ok && !(io->lines >> IOAPIC_PINS), "I/O APIC registers out of range");
}

static void ioapic_sync(struct device *d)
{
    struct ioapic *io = to_ioapic(d);

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if (io->changed)
            io->changed(io->opaque, io, pin);
        ioapic_send_level(io, pin);
    }
}

static const struct device_ops ioapic_ops = {
    .type = "ioapic",
    .version = 1,
    .state = ioapic_state,
    .sync = ioapic_sync,
};
static const struct io_ops ioapic_io = { ioapic_read, ioapic_write, 4, 4 };

struct ioapic *ioapic_create(struct vm *vm, uint64_t gpa, struct err *e)
{
    struct ioapic *io = calloc(1, sizeof(*io));

    if (!io)
        return err_oom(e);
    io->dev = (struct device){ .ops = &ioapic_ops, .vm = vm, .id = "ioapic" };
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        io->rte[pin] = RTE_MASKED;
    if (bus_claim(vm_mmio(vm), gpa, IOAPIC_LEN, &ioapic_io, &io->dev, e) ||
        device_add(vm, &io->dev, e)) {
        bus_release(vm_mmio(vm), &io->dev);
        free(io);
        return NULL;
    }
    return io;
}
