/*
 * uhci.h: the USB 1.1 controller of a PIIX3 (8086:7020), with two ports: for systems that know no newer one.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; frames and devices' events on the loop
 * thread.
 */
#ifndef HW_UHCI_H
#define HW_UHCI_H

#include "bus/pci.h"
#include "hw/usb.h"

enum { UHCI_PORTS = 2 };

/*
 * At devfn of the bus, with n devices of full speed in its ports. 0: the vm owns the controller, and the
 * controller the devices; else they stay the caller's.
 */
must_check int uhci_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                           struct usb_dev *const *devs, unsigned n, struct err *e);

#endif
