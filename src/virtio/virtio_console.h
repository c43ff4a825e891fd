/*
 * virtio_console.h: virtio console (virtio 1.2, 5.3): hvc0 of a Linux guest.
 */
#ifndef VIRTIO_VIRTIO_CONSOLE_H
#define VIRTIO_VIRTIO_CONSOLE_H

#include "chardev/chardev.h"
#include "virtio/virtio_pci.h"

/*
 * The chardev stays the caller's and outlives the device. cols and rows: the terminal's size, 0 if
 * there is none. Set-up time only.
 */
must_check int virtio_console_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                                     const char *id, struct chardev *chr, uint16_t cols,
                                     uint16_t rows, struct err *e);

#endif
