/*
 * ide.h: the IDE function of a PIIX3 (8086:7010): two channels at the traditional ports, with two drives
 * each: hard disks, and CD-ROM drives by packet commands; transfers through the data port or by bus
 * mastering.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; completions on the loop thread.
 */
#ifndef HW_IDE_H
#define HW_IDE_H

#include "block/block.h"
#include "bus/pci.h"
#include "hw/ata_chs.h"

enum { IDE_CHANNELS = 2, IDE_UNITS = 2, IDE_DRIVES = IDE_CHANNELS * IDE_UNITS };

struct ide;
struct ide_at { /* of a channel: its ports, and its interrupt */
    uint16_t command, control;
    struct irq irq;
};
struct ide_media {
    struct blk *disk; /* NULL: there is no such drive */
    bool cdrom;
    const char *serial; /* NULL: one by its place */
    struct ata_chs chs; /* of a hard disk; 0 heads: the usual */
};

/*
 * At devfn of the bus. 0: the vm owns the controller, and the controller the disks; else they stay the
 * caller's. media: primary master and slave, secondary master and slave.
 */
must_check int ide_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                          const struct ide_at at[IDE_CHANNELS],
                          const struct ide_media media[IDE_DRIVES], struct err *e);

#endif
