/*
 * acpi_pci.c: see acpi_pci.h (ACPI 6.5, 6.2.13 _PRT, 5.8.1 _PIC; 82371SB, 4.1.10 PIRQRC).
 */
#include "boot/acpi_pci.h"

enum { PCI_SLOTS = 31, PCI_PINS = 4 };                       /* slot 0 is the host bridge */
enum { PIRQRC = 0x60, PIRQRC_OFF = 0x80, PIRQRC_IRQ = 0xf }; /* four registers of a byte */
enum { PM_SLOT = 1, PM_PIN = 0 };       /* power management: its interrupt is the SCI */
enum { LINK_OFF = 0x9, LINK_ON = 0xb }; /* _STA: present, working; enabled */

static const char acpi_link[4][5] = { "LNKA", "LNKB", "LNKC", "LNKD" };
static const char acpi_route[4][5] = { "PRQA", "PRQB", "PRQC", "PRQD" };

void acpi_pci_windows(struct aml *a, const struct acpi_desc *d)
{
    size_t crs = aml_crs_begin(a);

    aml_crs_word(a, AML_BUS, 0, 256);
    aml_crs_io(a, 0xcf8, 8);
    aml_crs_word(a, AML_IO, 0, 0xcf8);
    aml_crs_word(a, AML_IO, 0xd00, 0xf300);
    aml_crs_dword(a, 0xa0000, 0x20000);
    aml_crs_dword(a, (uint32_t)d->mmio32.base, (uint32_t)d->mmio32.len);
    if (d->mmio64.len)
        aml_crs_qword(a, d->mmio64.base, d->mmio64.len);
    aml_crs_end(a, crs);
}

/* --- the routing table, once for each interrupt model --- */

static unsigned acpi_pirq(unsigned slot, unsigned pin)
{
    return (slot + pin + 3) % 4; /* piix3_pirq() */
}

static void acpi_route_apic(struct aml *a, const struct acpi_desc *d, unsigned slot, unsigned pin)
{
    aml_int(a, 0);
    aml_int(a, d->pci_gsi[acpi_pirq(slot, pin)]);
}

static void acpi_route_pic(struct aml *a, const struct acpi_desc *d, unsigned slot, unsigned pin)
{
    (void)d;
    aml_path(a, slot == PM_SLOT && pin == PM_PIN ? "LNKS" : acpi_link[acpi_pirq(slot, pin)]);
    aml_int(a, 0);
}

static void acpi_route_table(struct aml *a, const struct acpi_desc *d, const char *name,
                             void (*entry)(struct aml *, const struct acpi_desc *, unsigned,
                                           unsigned))
{
    size_t all, one;

    aml_name(a, name);
    all = aml_package_begin(a, PCI_SLOTS * PCI_PINS);
    for (unsigned slot = 1; slot <= PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < PCI_PINS; pin++) {
            one = aml_package_begin(a, 4);
            aml_int(a, slot << 16 | 0xffff);
            aml_int(a, pin);
            entry(a, d, slot, pin);
            aml_end(a, one);
        }
    }
    aml_end(a, all);
}

/* PICF: what the system chose: 0 the 8259s, which is also so if it never says; 1 the IOAPIC. */
void acpi_pci_model(struct aml *a)
{
    size_t method;

    aml_name(a, "PICF");
    aml_int(a, 0);
    method = aml_method_begin(a, "_PIC", 1);
    aml_op(a, AML_STORE);
    aml_op(a, AML_ARG0);
    aml_path(a, "PICF");
    aml_end(a, method);
}

void acpi_pci_routes(struct aml *a, const struct acpi_desc *d)
{
    size_t method, apic;

    acpi_route_table(a, d, "PRTA", acpi_route_apic);
    acpi_route_table(a, d, "PRTP", acpi_route_pic);
    method = aml_method_begin(a, "_PRT", 0);
    apic = aml_if_begin(a);
    aml_path(a, "PICF");
    aml_op(a, AML_RETURN);
    aml_path(a, "PRTA");
    aml_end(a, apic);
    aml_op(a, AML_RETURN);
    aml_path(a, "PRTP");
    aml_end(a, method);
}

/* --- the links --- */

void acpi_pci_router(struct aml *a)
{
    aml_pci_region(a, "PIRC", PIRQRC, PCI_PINS);
}

static void acpi_return_int(struct aml *a, uint64_t v)
{
    aml_op(a, AML_RETURN);
    aml_int(a, v);
}

static void acpi_irqs(struct aml *a, uint16_t mask)
{
    size_t resources = aml_resources_begin(a);

    aml_crs_pci_irqs(a, mask);
    aml_crs_end(a, resources);
}

/* IQST(register): _STA. */
static void acpi_link_status(struct aml *a)
{
    size_t method = aml_method_begin(a, "IQST", 1), off = aml_if_begin(a);

    aml_op(a, AML_AND);
    aml_op(a, AML_ARG0);
    aml_int(a, PIRQRC_OFF);
    aml_no_target(a);
    acpi_return_int(a, LINK_OFF);
    aml_end(a, off);
    acpi_return_int(a, LINK_ON);
    aml_end(a, method);
}

/* IQCR(register): _CRS, without an irq while it is off: Local0 is the mask, 1 << (register & 15). */
static void acpi_link_current(struct aml *a)
{
    size_t method = aml_method_begin(a, "IQCR", 1), off;

    aml_name(a, "IRQB");
    acpi_irqs(a, 0);
    aml_op(a, AML_WORD_FIELD);
    aml_path(a, "IRQB");
    aml_int(a, 1);
    aml_path(a, "IRQM");
    off = aml_if_begin(a);
    aml_op(a, AML_AND);
    aml_op(a, AML_ARG0);
    aml_int(a, PIRQRC_OFF);
    aml_no_target(a);
    aml_op(a, AML_RETURN);
    aml_path(a, "IRQB");
    aml_end(a, off);
    aml_op(a, AML_SHIFT_LEFT);
    aml_int(a, 1);
    aml_op(a, AML_AND);
    aml_op(a, AML_ARG0);
    aml_int(a, PIRQRC_IRQ);
    aml_no_target(a);
    aml_path(a, "IRQM");
    aml_op(a, AML_RETURN);
    aml_path(a, "IRQB");
    aml_end(a, method);
}

static void acpi_link_identify(struct aml *a, uint8_t uid, uint16_t possible)
{
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0C0F");
    aml_name(a, "_UID");
    aml_int(a, uid);
    aml_name(a, "_PRS");
    acpi_irqs(a, possible);
}

/* A method that hands the register to one of the helpers and returns what that says. */
static void acpi_link_ask(struct aml *a, const char *name, const char *helper, const char *route)
{
    size_t method = aml_method_begin(a, name, 0);

    aml_op(a, AML_RETURN);
    aml_path(a, helper);
    aml_path(a, route);
    aml_end(a, method);
}

/* The register becomes the number of the lowest irq in the list that the system hands back. */
static void acpi_link_set(struct aml *a, const char *route)
{
    size_t method = aml_method_begin(a, "_SRS", 1);

    aml_op(a, AML_WORD_FIELD);
    aml_op(a, AML_ARG0);
    aml_int(a, 1);
    aml_path(a, "IRQM");
    aml_op(a, AML_FIND_LOWEST_BIT);
    aml_path(a, "IRQM");
    aml_op(a, AML_LOCAL0);
    aml_op(a, AML_SUBTRACT);
    aml_op(a, AML_LOCAL0);
    aml_int(a, 1);
    aml_path(a, route);
    aml_end(a, method);
}

static void acpi_link_disable(struct aml *a, const char *route)
{
    size_t method = aml_method_begin(a, "_DIS", 0);

    aml_op(a, AML_OR);
    aml_path(a, route);
    aml_int(a, PIRQRC_OFF);
    aml_path(a, route);
    aml_end(a, method);
}

static void acpi_link_device(struct aml *a, unsigned pirq, uint16_t possible)
{
    size_t dev = aml_device_begin(a, acpi_link[pirq]);

    acpi_link_identify(a, (uint8_t)(pirq + 1), possible);
    acpi_link_ask(a, "_STA", "IQST", acpi_route[pirq]);
    acpi_link_ask(a, "_CRS", "IQCR", acpi_route[pirq]);
    acpi_link_set(a, acpi_route[pirq]);
    acpi_link_disable(a, acpi_route[pirq]);
    aml_end(a, dev);
}

/* The SCI's: it always leads there. */
static void acpi_sci_link(struct aml *a, const struct acpi_desc *d)
{
    size_t dev = aml_device_begin(a, "LNKS");

    acpi_link_identify(a, 5, (uint16_t)BIT(d->sci_irq));
    aml_name(a, "_STA");
    aml_int(a, LINK_ON);
    aml_name(a, "_CRS");
    acpi_irqs(a, (uint16_t)BIT(d->sci_irq));
    aml_end(a, aml_method_begin(a, "_SRS", 1));
    aml_end(a, aml_method_begin(a, "_DIS", 0));
    aml_end(a, dev);
}

void acpi_pci_links(struct aml *a, const struct acpi_desc *d)
{
    size_t field = aml_field_begin(a, "\\\x2f\x04_SB_PCI0ISA_PIRC");

    for (unsigned i = 0; i < PCI_PINS; i++)
        aml_field_byte(a, acpi_route[i]);
    aml_end(a, field);
    acpi_link_status(a);
    acpi_link_current(a);
    for (unsigned i = 0; i < PCI_PINS; i++)
        acpi_link_device(a, i, d->pci_irqs);
    acpi_sci_link(a, d);
}
