/*
 * virtio_pci.h: a virtio device as a PCI function (virtio 1.2, 4.1), modern interface only.
 *
 * BAR 0: MSI-X table. BAR 4: common configuration, ISR, device configuration, notifications;
 * capability list as the specification wants it. INTx where the driver does not enable MSI-X.
 */
#ifndef VIRTIO_VIRTIO_PCI_H
#define VIRTIO_VIRTIO_PCI_H

#include "bus/pci.h"
#include "virtio/virtio.h"

/*
 * Puts v on the bus as function devfn. 0: the vm owns v; else v stays the caller's. id is unique in
 * the VM and outlives it. Set-up time only.
 */
must_check int virtio_pci_add(struct pci_bus *bus, struct virtio *v, unsigned devfn, const char *id,
                              struct err *e);

#endif
