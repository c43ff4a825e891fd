/*
 * ahci.h: a SATA controller of the kind of ICH9 (8086:2922, AHCI 1.3.1): a port for each drive, hard disks with
 * queued commands (NCQ) and CD-ROM drives with packets; MSI or INTx.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; completions on the loop thread.
 */
#ifndef HW_AHCI_H
#define HW_AHCI_H

#include "block/block.h"
#include "bus/pci.h"

enum { AHCI_PORTS = 16 };

struct ahci_media {
    struct blk *disk;
    bool cdrom;
    const char *serial; /* NULL: one by its place */
};

/*
 * At devfn of the bus, with n drives at ports 0 to n - 1. 0: the vm owns the controller, and the controller
 * the disks; else they stay the caller's.
 */
must_check int ahci_create(struct pci_bus *bus, unsigned devfn, const struct ahci_media *media,
                           unsigned n, struct err *e);

#endif
