/*
 * nvme.h: an NVM Express controller (NVMe 1.4) with one namespace: a queue pair for each vCPU, MSI-X or INTx.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; completions on the loop thread.
 */
#ifndef HW_NVME_H
#define HW_NVME_H

#include "block/block.h"
#include "bus/pci.h"

enum { NVME_SERIAL_MAX = 20, NVME_MAX_IO_QUEUES = 16 };

/*
 * At devfn of the bus; id is unique in the VM and outlives it. serial: NULL: the id. 0: the vm owns the controller,
 * and the controller the disk; else it stays the caller's.
 */
must_check int nvme_create(struct pci_bus *bus, unsigned devfn, const char *id, struct blk *disk,
                           const char *serial, unsigned queues, struct err *e);

#endif
