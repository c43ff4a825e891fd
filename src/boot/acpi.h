/*
 * acpi.h: the ACPI tables of the machine (ACPI 6.5, chapter 5): RSDP, XSDT, RSDT, FADT, FACS, DSDT, MADT,
 * HPET, WAET. Built from a description that only the machine knows; pure function, any thread.
 */
#ifndef BOOT_ACPI_H
#define BOOT_ACPI_H

#include "base/err.h"

struct acpi_window {
    uint64_t base, len; /* len 0: none */
};
struct acpi_desc {
    unsigned ncpus;
    uint64_t lapic_gpa, ioapic_gpa, hpet_gpa; /* hpet_gpa 0: none */
    uint8_t ioapic_id;
    uint16_t pm1_evt, pm1_cnt, pm_tmr, gpe0; /* ports */
    uint8_t gpe0_len;
    uint8_t sci_irq, s3_type, s5_type;
    uint16_t reset_port;
    uint8_t reset_value;
    uint16_t pvpanic_port, fw_cfg_port; /* 0: none */
    bool com1;
    bool keyboard; /* it and a mouse are plugged into the 8042 */
    bool vga;
    struct acpi_window mmio32, mmio64; /* PCI memory windows */
    uint8_t pci_gsi[4];                /* GSI of PIRQ A-D; slot s, pin p uses (s + p + 3) % 4 */
    uint16_t pci_irqs;                 /* bit an ISA irq: where PIRQs may lead without an IOAPIC */
};

struct acpi_tables {
    uint8_t *data; /* malloc'd; to be copied to the base gpa; the RSDP is its first byte */
    size_t len;
    size_t facs; /* its offset: firmware finds the waking vector there */
};

/* The tables with all addresses made for gpa base (below 4 GiB, 64-byte aligned). 0 or -ENOMEM. */
must_check int acpi_build(const struct acpi_desc *d, uint64_t base, struct acpi_tables *out);
/* The byte that makes the sum of all 0, as firmware tables have it, where p[0..len) has 0 in its place. */
uint8_t acpi_checksum(const uint8_t *p, size_t len);

#endif
