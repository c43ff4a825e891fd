/*
 * virtio_blk.h: a disk (virtio 1.2, 5.2) on a block stack: several queues, flush, discard, write zeroes.
 */
#ifndef VIRTIO_VIRTIO_BLK_H
#define VIRTIO_VIRTIO_BLK_H

#include "block/block.h"
#include "virtio/virtio_pci.h"

enum { VIRTIO_BLK_SERIAL_MAX = 20 };

/*
 * At devfn of the bus. 0: the vm owns the device, and the device owns disk; else disk stays the
 * caller's. serial (NULL: none) is cut to VIRTIO_BLK_SERIAL_MAX bytes. queues: at least 1, best one a
 * vCPU; 16 at most are made.
 */
must_check int virtio_blk_create(struct pci_bus *bus, unsigned devfn, const char *id,
                                 struct blk *disk, const char *serial, unsigned queues,
                                 struct err *e);

#endif
