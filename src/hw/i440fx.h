/*
 * i440fx.h: the 82441FX host bridge (8086:1237) as a PCI function. Set-up time only.
 */
#ifndef HW_I440FX_H
#define HW_I440FX_H

#include "bus/pci.h"

/* On the bus at devfn (0 by tradition), owned by the vm. NULL with a sentence. */
struct pci_dev *i440fx_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, struct err *e);

#endif
