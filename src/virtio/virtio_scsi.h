/*
 * virtio_scsi.h: virtio SCSI host (virtio 1.2, 5.6): a target for each disk or CD, each with logical unit 0.
 */
#ifndef VIRTIO_VIRTIO_SCSI_H
#define VIRTIO_VIRTIO_SCSI_H

#include "block/block.h"
#include "virtio/virtio_pci.h"

enum { VIRTIO_SCSI_TARGETS = 16 };

struct virtio_scsi_media {
    struct blk *disk;
    bool cdrom;
    const char *serial; /* NULL: none */
};

/*
 * Targets 0 to n - 1, and `queues` request queues. 0: the vm owns the device, and the device the disks; else
 * they stay the caller's.
 */
must_check int virtio_scsi_create(struct pci_bus *bus, unsigned devfn, const char *id,
                                  const struct virtio_scsi_media *media, unsigned n,
                                  unsigned queues, struct err *e);

#endif
