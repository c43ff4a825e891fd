/*
 * e1000.h: an Intel 82540EM gigabit network card (8086:100e), for systems without virtio.
 *
 * Threads: created before the vCPUs start; registers from any vCPU, news from the backend on the loop thread.
 */
#ifndef HW_E1000_H
#define HW_E1000_H

#include "hw/nic.h"

/* Opens the backend, which the card then owns, and puts the card on the bus. 0: o->rom is the card's, too. */
must_check int e1000_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                            const struct nic_opts *o, struct err *e);

#endif
