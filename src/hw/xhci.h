/*
 * xhci.h: an xHCI 1.0 USB host controller as a PCI function: four USB 3 ports, and then four
 * USB 2 ones.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; its devices' events on the loop thread.
 */
#ifndef HW_XHCI_H
#define HW_XHCI_H

#include "bus/pci.h"
#include "hw/usb.h"

enum { XHCI_PORTS_USB2 = 4, XHCI_PORTS_USB3 = 4, XHCI_PORTS = XHCI_PORTS_USB2 + XHCI_PORTS_USB3 };

/*
 * At devfn of the bus, with n devices in its ports in their order: those of super speed in USB 3 ports, of
 * which there must be enough. 0: the vm owns the controller, and the controller the devices; else they stay
 * the caller's.
 */
must_check int xhci_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                           struct usb_dev *const *devs, unsigned n, struct err *e);

#endif
