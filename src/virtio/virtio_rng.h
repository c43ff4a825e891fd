/*
 * virtio_rng.h: entropy from the host's kernel (virtio 1.2, 5.4).
 */
#ifndef VIRTIO_VIRTIO_RNG_H
#define VIRTIO_VIRTIO_RNG_H

#include "virtio/virtio_pci.h"

/* At devfn of the bus; the vm owns it once this returns 0. */
must_check int virtio_rng_create(struct pci_bus *bus, unsigned devfn, const char *id,
                                 struct err *e);

#endif
