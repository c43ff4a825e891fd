/*
 * piix3.c: 82371SB ISA bridge, function 0: PCI interrupt routing. Not modelled: its DMA, X-bus chip
 * selects and IDE timing registers.
 */
#include "hw/piix3.h"

#include <string.h>

enum {
    PIIX3_PIRQRC = 0x60, /* 4 registers: 7 = off, 3:0 = ISA irq */
    PIIX3_OFF = 0x80,
    PIIX3_PIRQRC_WRITABLE = 0x8f,
    PIIX3_PIRQS = 4,
    PIIX3_ISA_ROUTABLE = 0xdef8, /* not 0, 1, 2, 8, 13 */
    PIIX3_CLASS_ISA_BRIDGE = 0x060100,
};

struct piix3 {
    struct pci_dev pci;
    struct irq pirq[PIIX3_PIRQS], isa[16];

    /* Levels of wires, set again by every function's sync(), so never saved. */
    uint64_t raised[PIIX3_PIRQS][PCI_FUNCTIONS / 64]; /* bit a function */
    uint16_t isa_driven;                              /* ISA irqs that we hold high */
};

static struct piix3 *piix3_of(struct device *d)
{
    return container_of(d, struct piix3, pci.dev);
}

unsigned piix3_pirq(unsigned slot, unsigned pin)
{
    return (slot + pin - 1) & 3;
}

static bool piix3_level(const struct piix3 *x, unsigned pirq)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < PCI_FUNCTIONS / 64; i++)
        any |= x->raised[pirq][i];
    return any != 0;
}

/* Several PIRQs may lead to one ISA irq: it is high while one of them is. */
static void piix3_drive_isa(struct piix3 *x)
{
    uint16_t high = 0, touched;

    for (unsigned i = 0; i < PIIX3_PIRQS; i++) {
        uint8_t route = x->pci.cfg[PIIX3_PIRQRC + i];

        if (!(route & PIIX3_OFF) && piix3_level(x, i))
            high |= (uint16_t)(BIT(route & 15) & PIIX3_ISA_ROUTABLE);
    }
    touched = high | x->isa_driven;
    x->isa_driven = high;
    for (unsigned i = 0; i < 16; i++)
        if (touched & BIT(i))
            irq_set(&x->isa[i], high & BIT(i));
}

static void piix3_route(void *opaque, unsigned devfn, unsigned pin, bool level)
{
    struct piix3 *x = opaque;
    unsigned i = piix3_pirq(devfn >> 3, pin);

    pthread_mutex_lock(&x->pci.dev.lock);
    if (level)
        x->raised[i][devfn / 64] |= BIT64(devfn % 64);
    else
        x->raised[i][devfn / 64] &= ~BIT64(devfn % 64);
    irq_set(&x->pirq[i], piix3_level(x, i));
    piix3_drive_isa(x);
    pthread_mutex_unlock(&x->pci.dev.lock);
}

static void piix3_cfg_written(struct pci_dev *p, unsigned off, unsigned size)
{
    if (off < PIIX3_PIRQRC + PIIX3_PIRQS && PIIX3_PIRQRC < off + size)
        piix3_drive_isa(container_of(p, struct piix3, pci));
}

static void piix3_state(struct device *d, struct state *s)
{
    pci_state(&piix3_of(d)->pci, s);
}

static void piix3_sync(struct device *d)
{
    struct piix3 *x = piix3_of(d);

    pci_sync(&x->pci);
    for (unsigned i = 0; i < PIIX3_PIRQS; i++)
        irq_set(&x->pirq[i], piix3_level(x, i));
    piix3_drive_isa(x);
}

static const struct device_ops piix3_ops = {
    .type = "piix3",
    .version = 1,
    .state = piix3_state,
    .sync = piix3_sync,
};

struct piix3 *piix3_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                           const struct irq pirq[4], const struct irq isa[16], struct err *e)
{
    struct piix3 *x = calloc(1, sizeof(*x));

    if (!x)
        return err_oom(e);
    memcpy(x->pirq, pirq, sizeof(x->pirq));
    if (isa)
        memcpy(x->isa, isa, sizeof(x->isa));
    pci_init(&x->pci, &piix3_ops, vm, "piix3", 0x8086, 0x7000, PIIX3_CLASS_ISA_BRIDGE, 0);
    memset(x->pci.cfg + PIIX3_PIRQRC, PIIX3_OFF, PIIX3_PIRQS);
    memset(x->pci.wmask + PIIX3_PIRQRC, PIIX3_PIRQRC_WRITABLE, PIIX3_PIRQS);
    x->pci.cfg_written = piix3_cfg_written;
    if (pci_add(bus, &x->pci, devfn, e)) {
        free(x);
        return NULL;
    }
    pci_bus_route(bus, piix3_route, x);
    return x;
}

uint16_t piix3_assign(struct piix3 *x)
{
    static const uint8_t irq[PIIX3_PIRQS] = { 10, 10, 11, 11 };
    uint16_t used = 0;

    memcpy(x->pci.cfg + PIIX3_PIRQRC, irq, sizeof(irq));
    for (unsigned i = 0; i < PIIX3_PIRQS; i++)
        used |= (uint16_t)BIT(irq[i]);
    for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++) {
        struct pci_dev *p = pci_bus_at(x->pci.bus, devfn);

        if (p && p->cfg[PCI_INT_PIN])
            p->cfg[PCI_INT_LINE] = irq[piix3_pirq(devfn >> 3, p->cfg[PCI_INT_PIN] - 1u)];
    }
    return used;
}
