/*
 * testdev.c: see testdev.h. The ports are QEMU's (hw/misc/pc-testdev.c documents them).
 * A flush has nothing to do here: no translation outlives what the guest itself must flush.
 * Locking: the bus holds the device lock.
 */
#include "hw/testdev.h"

#include <string.h>

enum { TESTDEV_ECHO_LEN = 4, TESTDEV_FLUSH_LEN = 4, TESTDEV_MMIO_LEN = 64 * KIB };

struct testdev {
    struct device dev;
    /* wiring */
    struct irq line[TESTDEV_LINES];
    /* guest-visible state */
    uint32_t levels; /* bit a line */
    uint8_t echo[TESTDEV_ECHO_LEN];
    uint8_t mmio[TESTDEV_MMIO_LEN];
};

static struct testdev *to_testdev(struct device *d)
{
    return container_of(d, struct testdev, dev);
}

static uint64_t testdev_lines_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return to_testdev(d)->levels >> off & 1;
}

static void testdev_lines_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct testdev *t = to_testdev(d);
    uint32_t bit = BIT(off);

    (void)size;
    t->levels = val ? t->levels | bit : t->levels & ~bit;
    irq_set(&t->line[off], val != 0);
}

static uint64_t testdev_bytes_read(const uint8_t *bytes, unsigned size)
{
    uint64_t val = 0;

    memcpy(&val, bytes, size);
    return val;
}

static uint64_t testdev_echo_read(struct device *d, uint64_t off, unsigned size)
{
    return testdev_bytes_read(to_testdev(d)->echo + off, size);
}

static void testdev_echo_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    memcpy(to_testdev(d)->echo + off, &val, size);
}

static uint64_t testdev_mmio_read(struct device *d, uint64_t off, unsigned size)
{
    return testdev_bytes_read(to_testdev(d)->mmio + off, size);
}

static void testdev_mmio_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    memcpy(to_testdev(d)->mmio + off, &val, size);
}

static void testdev_sync(struct device *d)
{
    struct testdev *t = to_testdev(d);

    for (unsigned i = 0; i < TESTDEV_LINES; i++)
        irq_set(&t->line[i], t->levels >> i & 1);
}

static void testdev_state(struct device *d, struct state *s)
{
    struct testdev *t = to_testdev(d);

    state_u32(s, &t->levels);
    state_bytes(s, t->echo, sizeof(t->echo));
    state_bytes(s, t->mmio, sizeof(t->mmio));
    state_require(s, !(t->levels >> TESTDEV_LINES), "an interrupt line that does not exist");
}

static const struct device_ops testdev_ops = {
    .type = "testdev",
    .version = 1,
    .state = testdev_state,
    .sync = testdev_sync,
};
static const struct io_ops testdev_lines_io = { testdev_lines_read, testdev_lines_write, 1, 1 };
static const struct io_ops testdev_echo_io = { testdev_echo_read, testdev_echo_write, 1, 4 };
static const struct io_ops testdev_flush_io = { NULL, NULL, 1, 4 };
static const struct io_ops testdev_mmio_io = { testdev_mmio_read, testdev_mmio_write, 1, 8 };

static int testdev_claim(struct testdev *t, const struct testdev_at *at, struct err *e)
{
    struct bus *pio = vm_pio(t->dev.vm), *mmio = vm_mmio(t->dev.vm);

    if (bus_claim(pio, at->lines, TESTDEV_LINES, &testdev_lines_io, &t->dev, e) ||
        bus_claim(pio, at->echo, TESTDEV_ECHO_LEN, &testdev_echo_io, &t->dev, e) ||
        bus_claim(pio, at->flush, TESTDEV_FLUSH_LEN, &testdev_flush_io, &t->dev, e) ||
        bus_claim(mmio, at->mmio, TESTDEV_MMIO_LEN, &testdev_mmio_io, &t->dev, e))
        return -e->code;
    return 0;
}

struct testdev *testdev_create(struct vm *vm, const struct testdev_at *at,
                               const struct irq lines[TESTDEV_LINES], struct err *e)
{
    struct testdev *t = calloc(1, sizeof(*t));

    if (!t)
        return err_oom(e);
    t->dev = (struct device){ .ops = &testdev_ops, .vm = vm, .id = "testdev" };
    memcpy(t->line, lines, sizeof(t->line));
    if (testdev_claim(t, at, e) || device_add(vm, &t->dev, e)) {
        bus_release(vm_pio(vm), &t->dev);
        bus_release(vm_mmio(vm), &t->dev);
        free(t);
        return NULL;
    }
    return t;
}
