/*
 * acpi_pci.h: the parts of the DSDT that describe the PCI bus: its windows, and where its interrupts go. Each
 * emits what belongs into one scope; acpi.c puts them together.
 *
 * With an IOAPIC (a system says so by \_PIC) the PIRQ wires are its inputs. Without one they lead to the 8259s by
 * PIIX3's routing registers, which the system sets through link devices.
 */
#ifndef BOOT_ACPI_PCI_H
#define BOOT_ACPI_PCI_H

#include "boot/acpi.h"
#include "boot/aml.h"

void acpi_pci_model(struct aml *a);                              /* in the root: \_PIC */
void acpi_pci_windows(struct aml *a, const struct acpi_desc *d); /* in \_SB.PCI0: _CRS */
void acpi_pci_routes(struct aml *a, const struct acpi_desc *d);  /* in \_SB.PCI0: _PRT */
void acpi_pci_router(struct aml *a);                           /* in \_SB.PCI0.ISA: its registers */
void acpi_pci_links(struct aml *a, const struct acpi_desc *d); /* in \_SB: LNKA to LNKD, LNKS */

#endif
