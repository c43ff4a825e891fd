/*
 * pvpanic.c: QEMU's pvpanic ISA device (docs/specs/pvpanic): a read tells which events are understood,
 * a write reports them. It has no state. Locking: the bus holds the device lock.
 */
#include "hw/pvpanic.h"

enum { PVPANIC_PANICKED = BIT(0) };

struct pvpanic {
    struct device dev;
};

static uint64_t pvpanic_read(struct device *d, uint64_t off, unsigned size)
{
    (void)d;
    (void)off;
    (void)size;
    return PVPANIC_PANICKED;
}

static void pvpanic_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    if (val & PVPANIC_PANICKED)
        vm_guest_panicked(d->vm);
}

static void pvpanic_state(struct device *d, struct state *s)
{
    (void)d;
    (void)s;
}

static const struct device_ops pvpanic_ops = {
    .type = "pvpanic",
    .version = 1,
    .state = pvpanic_state,
};
static const struct io_ops pvpanic_io = { pvpanic_read, pvpanic_write, 1, 1 };

struct pvpanic *pvpanic_create(struct vm *vm, uint16_t port, struct err *e)
{
    struct pvpanic *p = calloc(1, sizeof(*p));

    if (!p)
        return err_oom(e);
    p->dev = (struct device){ .ops = &pvpanic_ops, .vm = vm, .id = "pvpanic" };
    if (bus_claim(vm_pio(vm), port, 1, &pvpanic_io, &p->dev, e) || device_add(vm, &p->dev, e)) {
        bus_release(vm_pio(vm), &p->dev);
        free(p);
        return NULL;
    }
    return p;
}
