/*
 * mptable.c: see mptable.h. Floating pointer, then the configuration table with its entries by type: processors,
 * buses (0 PCI, 1 ISA), the IOAPIC, where interrupts go: ISA's and PCI's to its inputs, ExtINT and NMI to LINT0
 * and LINT1. There is no IMCR: the machine starts in virtual wire mode.
 */
#include "boot/mptable.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "boot/aml.h" /* for its buffer */

enum { MP_POINTER_LEN = 16, MP_HEADER_LEN = 44, MP_SPEC_1_4 = 4 };
enum { MP_PROCESSOR = 0, MP_BUS = 1, MP_IOAPIC = 2, MP_IO_INT = 3, MP_LOCAL_INT = 4 };
enum { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };
enum { MP_CONFORMS = 0, MP_HIGH_LEVEL = 0x0d }; /* active high, level */
enum { MP_BUS_PCI = 0, MP_BUS_ISA = 1, MP_ALL_APICS = 0xff };
enum { MP_ISA_TIMER = 0, MP_TIMER_PIN = 2 };
enum { MP_LAPIC_VERSION = 0x14, MP_IOAPIC_VERSION = 0x11 };
enum { MP_ENABLED = 1, MP_BOOT = 2, MP_MAX_CPUS = 255 };
enum { MP_TABLE_SIGNATURE = 0x504d4350, MP_POINTER_SIGNATURE = 0x5f504d5f }; /* PCMP, _MP_ */
enum { MP_SIGNATURE = 0x600, MP_FEATURES = 0x201 }; /* family 6; FPU, APIC */

static void mptable_cpu(struct aml *a, unsigned id)
{
    aml_raw(a, (uint8_t[]){ MP_PROCESSOR, (uint8_t)id, MP_LAPIC_VERSION }, 3);
    aml_u8(a, id == 0 ? MP_ENABLED | MP_BOOT : MP_ENABLED);
    aml_u32(a, MP_SIGNATURE);
    aml_u32(a, MP_FEATURES);
    aml_u64(a, 0);
}

static void mptable_bus(struct aml *a, uint8_t id, const char *name)
{
    aml_raw(a, (uint8_t[]){ MP_BUS, id }, 2);
    aml_raw(a, name, 6);
}

static void mptable_int(struct aml *a, uint8_t entry, uint8_t type, uint16_t flags,
                        const uint8_t from[2], const uint8_t to[2])
{
    aml_raw(a, (uint8_t[]){ entry, type }, 2);
    aml_u16(a, flags);
    aml_raw(a, from, 2);
    aml_raw(a, to, 2);
}

static unsigned mptable_isa_ints(struct aml *a, const struct acpi_desc *d)
{
    unsigned n = 0;

    for (uint8_t irq = 0; irq < 16; irq++) {
        bool level = irq == d->sci_irq || d->pci_irqs & BIT(irq);
        uint8_t pin = irq == MP_ISA_TIMER ? MP_TIMER_PIN : irq;

        if (irq == MP_TIMER_PIN)
            continue; /* the 8259s' cascade */
        mptable_int(a, MP_IO_INT, MP_INT, level ? MP_HIGH_LEVEL : MP_CONFORMS,
                    (uint8_t[]){ MP_BUS_ISA, irq }, (uint8_t[]){ d->ioapic_id, pin });
        n++;
    }
    return n;
}

static unsigned mptable_pci_ints(struct aml *a, const struct acpi_desc *d)
{
    enum { SLOTS = 32, PINS = 4 };

    for (unsigned slot = 1; slot < SLOTS; slot++)
        for (unsigned pin = 0; pin < PINS; pin++)
            mptable_int(a, MP_IO_INT, MP_INT, MP_CONFORMS,
                        (uint8_t[]){ MP_BUS_PCI, (uint8_t)(slot << 2 | pin) },
                        (uint8_t[]){ d->ioapic_id, d->pci_gsi[(slot + pin + 3) % 4] });
    return (SLOTS - 1) * PINS;
}

/* Number of entries. */
static unsigned mptable_entries(struct aml *a, const struct acpi_desc *d)
{
    unsigned n = 0;

    for (; n < d->ncpus && n < MP_MAX_CPUS; n++)
        mptable_cpu(a, n);
    mptable_bus(a, MP_BUS_PCI, "PCI   ");
    mptable_bus(a, MP_BUS_ISA, "ISA   ");
    aml_raw(a, (uint8_t[]){ MP_IOAPIC, d->ioapic_id, MP_IOAPIC_VERSION, MP_ENABLED }, 4);
    aml_u32(a, (uint32_t)d->ioapic_gpa);
    n += 3;
    n += mptable_isa_ints(a, d);
    n += mptable_pci_ints(a, d);
    mptable_int(a, MP_LOCAL_INT, MP_EXTINT, MP_CONFORMS, (uint8_t[]){ MP_BUS_ISA, 0 },
                (uint8_t[]){ 0, 0 });
    mptable_int(a, MP_LOCAL_INT, MP_NMI, MP_CONFORMS, (uint8_t[]){ MP_BUS_ISA, 0 },
                (uint8_t[]){ MP_ALL_APICS, 1 });
    return n + 2;
}

static const uint8_t mptable_product[20] = "RUCHE   PC          "; /* OEM ID, product ID */

static void mptable_header(uint8_t *p, size_t len, unsigned entries, const struct acpi_desc *d)
{
    st_le32(p, MP_TABLE_SIGNATURE);
    st_le16(p + 4, (uint16_t)len);
    p[6] = MP_SPEC_1_4;
    memcpy(p + 8, mptable_product, sizeof(mptable_product));
    st_le16(p + 34, (uint16_t)entries);
    st_le32(p + 36, (uint32_t)d->lapic_gpa);
    p[7] = acpi_checksum(p, len);
}

static void mptable_pointer(uint8_t *p, uint64_t table)
{
    st_le32(p, MP_POINTER_SIGNATURE);
    st_le32(p + 4, (uint32_t)table);
    p[8] = MP_POINTER_LEN / 16;
    p[9] = MP_SPEC_1_4;
    p[10] = acpi_checksum(p, MP_POINTER_LEN);
}

int mptable_build(const struct acpi_desc *d, uint64_t base, struct mptable *out)
{
    static const uint8_t head[MP_POINTER_LEN + MP_HEADER_LEN];
    struct aml a = { 0 };
    unsigned entries;

    aml_raw(&a, head, sizeof(head));
    entries = mptable_entries(&a, d);
    if (a.failed) {
        free(a.data);
        return -ENOMEM;
    }
    mptable_header(a.data + MP_POINTER_LEN, a.len - MP_POINTER_LEN, entries, d);
    mptable_pointer(a.data, base + MP_POINTER_LEN);
    *out = (struct mptable){ a.data, a.len };
    return 0;
}
