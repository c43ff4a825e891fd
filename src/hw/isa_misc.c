/*
 * isa_misc.c: POST code port (also every kernel's I/O delay), system control port A (fast A20, fast
 * reset), and the latch that clears a coprocessor error.
 *
 * The A20 gate: while it is closed, address line 20 of the processors reads as 0. The machine then hides the
 * RAM of the second MiB, and accesses to it come here and go to the first. (Real mode reaches no other odd MiB;
 * code is not fetched there.) Whoever set the gate last, this port or the keyboard controller, has it.
 *
 * Locking: the bus holds the device lock; the wire from the keyboard controller takes it.
 */
#include "hw/isa_misc.h"

#include "state/state.h"

enum { PORT92_RESET = BIT(0), PORT92_A20 = BIT(1) };
#define A20_MIB 0x100000ull

struct isa_misc {
    struct device dev;
    uint8_t post, port92;
};

static struct isa_misc *to_misc(struct device *d)
{
    return container_of(d, struct isa_misc, dev);
}

static uint64_t isa_misc_post_read(struct device *d, uint64_t off, unsigned size)
{
    (void)off;
    (void)size;
    return to_misc(d)->post;
}

static void isa_misc_post_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    to_misc(d)->post = (uint8_t)val;
}

static uint64_t isa_misc_port92_read(struct device *d, uint64_t off, unsigned size)
{
    (void)off;
    (void)size;
    return to_misc(d)->port92;
}

static void isa_misc_set_port92(struct isa_misc *m, uint8_t val)
{
    bool changed = (m->port92 ^ val) & PORT92_A20;

    m->port92 = val;
    if (changed)
        vm_memory_changed(m->dev.vm);
}

/* The reset is a pulse on the rising edge of bit 0. */
static void isa_misc_port92_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct isa_misc *m = to_misc(d);

    (void)off;
    (void)size;
    if (val & ~(uint64_t)m->port92 & PORT92_RESET)
        vm_guest_reset(d->vm);
    isa_misc_set_port92(m, (uint8_t)val);
}

static void isa_misc_a20_set(void *chip, unsigned pin, bool level)
{
    struct isa_misc *m = chip;

    (void)pin;
    pthread_mutex_lock(&m->dev.lock);
    isa_misc_set_port92(m, (uint8_t)((m->port92 & ~PORT92_A20) | (level ? PORT92_A20 : 0)));
    pthread_mutex_unlock(&m->dev.lock);
}

struct irq isa_misc_a20_wire(struct isa_misc *m)
{
    return (struct irq){ .set = isa_misc_a20_set, .chip = m };
}

bool isa_misc_a20(const struct isa_misc *m)
{
    return m->port92 & PORT92_A20;
}

static uint64_t isa_misc_wrap_read(struct device *d, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    if (!guest_read(vm_mem(d->vm), off, &val, size))
        bus_read(vm_mmio(d->vm), off, size, &val);
    return val;
}

static void isa_misc_wrap_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    if (!guest_write(vm_mem(d->vm), off, &val, size))
        bus_write(vm_mmio(d->vm), off, size, &val);
}

static void isa_misc_state(struct device *d, struct state *s)
{
    state_u8(s, &to_misc(d)->post);
    state_u8(s, &to_misc(d)->port92);
}

static const struct device_ops isa_misc_ops = {
    .type = "isa-misc",
    .version = 1,
    .state = isa_misc_state,
};
static const struct io_ops isa_misc_post_io = { isa_misc_post_read, isa_misc_post_write, 1, 1 };
static const struct io_ops isa_misc_port92_io = { isa_misc_port92_read, isa_misc_port92_write, 1,
                                                  1 };
static const struct io_ops isa_misc_wrap_io = { isa_misc_wrap_read, isa_misc_wrap_write, 1, 8 };
static const struct io_ops isa_misc_ferr_io = { NULL, NULL, 1, 1 };

struct isa_misc *isa_misc_create(struct vm *vm, uint16_t post, uint16_t port92, uint16_t ferr,
                                 struct err *e)
{
    struct isa_misc *m = calloc(1, sizeof(*m));
    struct bus *pio = vm_pio(vm);

    if (!m)
        return err_oom(e);
    m->dev = (struct device){ .ops = &isa_misc_ops, .vm = vm, .id = "isa-misc" };
    m->port92 = PORT92_A20;
    if (bus_claim(pio, post, 1, &isa_misc_post_io, &m->dev, e) ||
        bus_claim(pio, port92, 1, &isa_misc_port92_io, &m->dev, e) ||
        bus_claim(pio, ferr, 1, &isa_misc_ferr_io, &m->dev, e) ||
        bus_claim(vm_mmio(vm), A20_MIB, A20_MIB, &isa_misc_wrap_io, &m->dev, e) ||
        device_add(vm, &m->dev, e)) {
        bus_release(pio, &m->dev);
        bus_release(vm_mmio(vm), &m->dev);
        free(m);
        return NULL;
    }
    return m;
}
