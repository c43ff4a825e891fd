/*
 * rtl8139.h: a Realtek fast Ethernet card (10ec:8139), for systems without virtio: the 8139C+, and the 8139C, which
 * older drivers insist on.
 *
 * Threads: created before the vCPUs start; registers from any vCPU, news from the backend on the loop thread.
 */
#ifndef HW_RTL8139_H
#define HW_RTL8139_H

#include "hw/nic.h"

/* Opens the backend, which the card then owns, and puts the card on the bus. 0: o->rom is the card's, too. */
must_check int rtl8139_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                              const struct nic_opts *o, struct err *e);
/* The 8139C: without the rings of descriptors. */
must_check int rtl8139c_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                               const struct nic_opts *o, struct err *e);

#endif
