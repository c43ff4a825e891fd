/*
 * piix3.h: the PIIX3 ISA bridge (8086:7000): where PCI interrupt pins lead.
 *
 * A pin of a slot leads to one of four PIRQ wires (piix3_pirq()). Each PIRQ drives two things: its own
 * wire, given by the machine (IOAPIC inputs 16 to 19), and the ISA irq that its routing register names
 * (0x60-0x63; 0x80: none), for systems that use the 8259s.
 *
 * Locking: route calls come with another function's lock held and take ours.
 */
#ifndef HW_PIIX3_H
#define HW_PIIX3_H

#include "bus/pci.h"

struct piix3;

/*
 * At devfn of the bus, owned by the vm; becomes the bus's interrupt router. isa: wires by ISA irq number,
 * NULL if there are no 8259s. NULL with a sentence.
 */
struct piix3 *piix3_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                           const struct irq pirq[4], const struct irq isa[16], struct err *e);
/* 0 to 3 (PIRQA to PIRQD), for pin 0 (INTA) to 3; what the ACPI _PRT has to say as well. */
unsigned piix3_pirq(unsigned slot, unsigned pin);
/*
 * What firmware would do, vCPUs stopped: PIRQs to ISA irqs 10, 10, 11, 11 and the line registers. Returns the irqs,
 * a bit each: i8259_assign() wants to know.
 */
uint16_t piix3_assign(struct piix3 *x);

#endif
