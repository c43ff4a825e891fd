/*
 * parport.c: parallel port of the first PC: data, status, control (IEEE 1284, compatibility mode). The falling
 * strobe hands the data byte to the printer, which is busy until it has taken it and then acknowledges, with an
 * interrupt if the driver wants that. Not modelled: PS/2's reverse direction (reads see what was written), EPP, ECP.
 *
 * Locking: the device lock guards everything.
 */
#include "hw/parport.h"

enum { PARPORT_DATA, PARPORT_STATUS, PARPORT_CONTROL, PARPORT_PORTS };
enum {
    PARPORT_NOT_BUSY = 0x80,
    PARPORT_NO_ACK = 0x40, /* low for a moment that nobody sees */
    PARPORT_SELECTED = 0x10,
    PARPORT_NO_ERROR = 0x08,
    PARPORT_STROBE = 0x01,
    PARPORT_IRQ_ON = 0x10,
    PARPORT_CONTROL_BITS = 0x3f,
};

struct parport {
    struct device dev;
    struct irq irq;
    struct chardev *out;
    uint8_t data, control;
    uint8_t byte; /* on its way to the printer */
    bool busy;    /* and not there yet */
};

static struct parport *parport_of(struct device *d)
{
    return container_of(d, struct parport, dev);
}

static void parport_push(struct parport *p)
{
    if (!p->busy || !chardev_write(p->out, &p->byte, 1))
        return;
    p->busy = false;
    if (p->control & PARPORT_IRQ_ON) {
        irq_set(&p->irq, true);
        irq_set(&p->irq, false);
    }
}

static void parport_writable(void *opaque)
{
    struct parport *p = opaque;

    pthread_mutex_lock(&p->dev.lock);
    parport_push(p);
    pthread_mutex_unlock(&p->dev.lock);
}

static uint64_t parport_read(struct device *d, uint64_t off, unsigned size)
{
    const struct parport *p = parport_of(d);

    (void)size; /* 1, by parport_io */
    if (off == PARPORT_DATA)
        return p->data;
    if (off == PARPORT_CONTROL)
        return p->control | (uint8_t)~PARPORT_CONTROL_BITS;
    return PARPORT_NO_ACK | PARPORT_SELECTED | PARPORT_NO_ERROR | (p->busy ? 0 : PARPORT_NOT_BUSY);
}

static void parport_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct parport *p = parport_of(d);
    bool strobe = off == PARPORT_CONTROL && val & ~(uint64_t)p->control & PARPORT_STROBE;

    (void)size;
    if (off == PARPORT_DATA)
        p->data = (uint8_t)val;
    else if (off == PARPORT_CONTROL)
        p->control = val & PARPORT_CONTROL_BITS;
    if (strobe && !p->busy) {
        p->byte = p->data;
        p->busy = true;
        parport_push(p);
    }
}

static void parport_state(struct device *d, struct state *s)
{
    struct parport *p = parport_of(d);

    state_u8(s, &p->data);
    state_u8(s, &p->control);
    state_u8(s, &p->byte);
    state_bool(s, &p->busy);
    state_require(s, p->control <= PARPORT_CONTROL_BITS, "no such bits of the parallel port");
}

static void parport_sync(struct device *d)
{
    parport_push(parport_of(d));
}

static void parport_destroy(struct device *d)
{
    static const struct chardev_ops nobody = { 0 };

    chardev_attach(parport_of(d)->out, &nobody, NULL);
    free(parport_of(d));
}

static const struct device_ops parport_ops = {
    .type = "parport",
    .version = 1,
    .state = parport_state,
    .sync = parport_sync,
    .destroy = parport_destroy,
};
static const struct io_ops parport_io = { parport_read, parport_write, 1, 1 };
static const struct chardev_ops parport_chardev = { .writable = parport_writable };

struct parport *parport_create(struct vm *vm, uint16_t base, struct irq irq, struct chardev *out,
                               struct err *e)
{
    struct parport *p = calloc(1, sizeof(*p));

    if (!p)
        return err_oom(e);
    p->dev = (struct device){ .ops = &parport_ops, .vm = vm, .id = "lpt1" };
    p->irq = irq;
    p->out = out;
    p->control = 0x0c; /* selected, not initialising */
    if (bus_claim(vm_pio(vm), base, PARPORT_PORTS, &parport_io, &p->dev, e) ||
        device_add(vm, &p->dev, e)) {
        bus_release(vm_pio(vm), &p->dev);
        free(p);
        return NULL;
    }
    chardev_attach(out, &parport_chardev, p);
    return p;
}
