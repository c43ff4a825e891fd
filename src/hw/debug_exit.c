/*
 * debug_exit.c: see debug_exit.h. It has no state; reads give 0. Locking: the bus holds the device lock.
 */
#include "hw/debug_exit.h"

enum { DEBUG_EXIT_LEN = 4, DEBUG_EXIT_STATUS_MASK = 0xff };

struct debug_exit {
    struct device dev;
};

static uint64_t debug_exit_read(struct device *d, uint64_t off, unsigned size)
{
    (void)d;
    (void)off;
    (void)size;
    return 0;
}

static void debug_exit_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    if (off == 0) /* a process has eight bits of status */
        vm_debug_exit(d->vm, (int)((val << 1 | 1) & DEBUG_EXIT_STATUS_MASK));
}

static void debug_exit_state(struct device *d, struct state *s)
{
    (void)d;
    (void)s;
}

static const struct device_ops debug_exit_ops = {
    .type = "debug-exit",
    .version = 1,
    .state = debug_exit_state,
};
static const struct io_ops debug_exit_io = { debug_exit_read, debug_exit_write, 1, 4 };

struct debug_exit *debug_exit_create(struct vm *vm, uint16_t port, struct err *e)
{
    struct debug_exit *x = calloc(1, sizeof(*x));

    if (!x)
        return err_oom(e);
    x->dev = (struct device){ .ops = &debug_exit_ops, .vm = vm, .id = "debug-exit" };
    if (bus_claim(vm_pio(vm), port, DEBUG_EXIT_LEN, &debug_exit_io, &x->dev, e) ||
        device_add(vm, &x->dev, e)) {
        bus_release(vm_pio(vm), &x->dev);
        free(x);
        return NULL;
    }
    return x;
}
