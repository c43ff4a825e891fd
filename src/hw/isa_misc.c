/*
 * isa_misc.c: POST code port (also every kernel's I/O delay), system control port A (fast A20, fast
 * reset), and the latch that clears a coprocessor error. The A20 gate is stored only: the line is always
 * on, as on every PC that has no use for wrapping at 1 MiB. Locking: the bus holds the device lock.
 */
#include "hw/isa_misc.h"

#include "state/state.h"

enum { PORT92_RESET = BIT(0), PORT92_A20 = BIT(1) };

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

/* The reset is a pulse on the rising edge of bit 0. */
static void isa_misc_port92_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct isa_misc *m = to_misc(d);

    (void)off;
    (void)size;
    if (val & ~(uint64_t)m->port92 & PORT92_RESET)
        vm_guest_reset(d->vm);
    m->port92 = (uint8_t)val;
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
        bus_claim(pio, ferr, 1, &isa_misc_ferr_io, &m->dev, e) || device_add(vm, &m->dev, e)) {
        bus_release(pio, &m->dev);
        free(m);
        return NULL;
    }
    return m;
}
