/*
 * piix4_pm.h: the power management function of a PIIX4 (8086:7113): where the ACPI registers are in I/O
 * space. The registers themselves are hw/acpi_pm.
 */
#ifndef HW_PIIX4_PM_H
#define HW_PIIX4_PM_H

#include "bus/pci.h"
#include "hw/acpi_pm.h"

struct piix4_pm;

/* At devfn of the bus (function 3 of the ISA bridge's slot by tradition), owned by the vm. pm outlives it. */
struct piix4_pm *piix4_pm_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                                 struct acpi_pm *pm, struct err *e);
/* The base that firmware has given the registers, or 0. Any thread. */
uint16_t piix4_pm_base(const struct piix4_pm *p);
/* What firmware would do, vCPUs stopped. */
void piix4_pm_assign(struct piix4_pm *p, uint16_t base);

#endif
