/*
 * i440fx.c: 82441FX PCI and memory controller (PMC). The PAM and SMRAM registers keep what is written,
 * so that software which probes them is content; they do not switch memory: RAM lies where the machine
 * put it.
 */
#include "hw/i440fx.h"

#include <string.h>

enum {
    I440FX_PAM = 0x59, /* 7 registers */
    I440FX_PAM_COUNT = 7,
    I440FX_SMRAM = 0x72,
    I440FX_CLASS_HOST_BRIDGE = 0x060000,
};

static void i440fx_state(struct device *d, struct state *s)
{
    pci_state(container_of(d, struct pci_dev, dev), s);
}

static void i440fx_sync(struct device *d)
{
    pci_sync(container_of(d, struct pci_dev, dev));
}

static const struct device_ops i440fx_ops = {
    .type = "i440fx",
    .version = 1,
    .state = i440fx_state,
    .sync = i440fx_sync,
};

struct pci_dev *i440fx_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, struct err *e)
{
    struct pci_dev *p = calloc(1, sizeof(*p));

    if (!p)
        return err_oom(e);
    pci_init(p, &i440fx_ops, vm, "i440fx", 0x8086, 0x1237, I440FX_CLASS_HOST_BRIDGE, 2);
    memset(p->wmask + I440FX_PAM, 0xff, I440FX_PAM_COUNT);
    p->wmask[I440FX_SMRAM] = 0x7f;
    p->cfg[I440FX_SMRAM] = 0x02;
    if (pci_add(bus, p, devfn, e)) {
        free(p);
        return NULL;
    }
    return p;
}
