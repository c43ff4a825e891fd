/*
 * acpi.c: see acpi.h. The blob is RSDP, then every table aligned to 64 bytes (FACS demands it). Not
 * described: power states but S3 and S5, hot plug.
 */
#include "boot/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "boot/acpi_pci.h"
#include "boot/aml.h"

enum { ACPI_ALIGN = 64, ACPI_RSDP_LEN = 36, ACPI_HEADER_LEN = 36, ACPI_FADT_LEN = 276 };
enum { ACPI_TABLES = 5 }; /* in the XSDT: FADT, MADT, HPET, WAET; DSDT hangs off the FADT */

uint8_t acpi_checksum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

static void acpi_align(struct aml *a)
{
    static const uint8_t zero[ACPI_ALIGN];

    aml_raw(a, zero, (size_t)(align_up(a->len, ACPI_ALIGN) - a->len));
}

/* Opens a table (ACPI 6.5, 5.2.6) and returns its offset. */
static size_t acpi_begin(struct aml *a, const char *signature, uint8_t revision)
{
    size_t at;

    acpi_align(a);
    at = a->len;
    aml_raw(a, signature, 4);
    aml_u32(a, 0); /* length and checksum: acpi_end() */
    aml_u8(a, revision);
    aml_u8(a, 0);
    aml_raw(a, "RUCHE RUCHEPC ", 14);
    aml_u32(a, 1);
    aml_raw(a, "RUCH", 4);
    aml_u32(a, 1);
    return at;
}

static void acpi_end(struct aml *a, size_t at)
{
    if (a->failed)
        return;
    st_le32(a->data + at + 4, (uint32_t)(a->len - at));
    a->data[at + 9] = acpi_checksum(a->data + at, a->len - at);
}

/* Generic address structure (5.2.3.2); space 0 memory, 1 port I/O. */
static void acpi_gas(struct aml *a, uint8_t space, unsigned bits, uint64_t addr)
{
    aml_u8(a, addr ? space : 0);
    aml_u8(a, addr ? (uint8_t)bits : 0);
    aml_u8(a, 0);
    aml_u8(a, addr ? (uint8_t)(bits == 8 ? 1 : bits == 16 ? 2 : 3) : 0);
    aml_u64(a, addr);
}

/* An ISA device with a port range and perhaps an interrupt (irq 0: none). */
static void acpi_isa(struct aml *a, const char *name, const char *hid, uint16_t port, uint8_t len,
                     uint8_t irq)
{
    size_t dev = aml_device_begin(a, name), crs;

    aml_name(a, "_HID");
    aml_eisaid(a, hid);
    crs = aml_crs_begin(a);
    aml_crs_io(a, port, len);
    if (irq)
        aml_crs_irq(a, irq);
    aml_crs_end(a, crs);
    aml_end(a, dev);
}

static void acpi_keyboard(struct aml *a)
{
    size_t dev = aml_device_begin(a, "KBD_"), crs;

    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0303");
    aml_name(a, "_STA");
    aml_int(a, 0xf);
    crs = aml_crs_begin(a);
    aml_crs_io(a, 0x60, 1);
    aml_crs_io(a, 0x64, 1);
    aml_crs_irq(a, 1);
    aml_crs_end(a, crs);
    aml_end(a, dev);
}

/* It has the keyboard's ports. */
static void acpi_mouse(struct aml *a)
{
    size_t dev = aml_device_begin(a, "MOU_"), crs;

    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0F13");
    aml_name(a, "_STA");
    aml_int(a, 0xf);
    crs = aml_crs_begin(a);
    aml_crs_irq(a, 12);
    aml_crs_end(a, crs);
    aml_end(a, dev);
}

/* The devices that have no bus of their own, by _HID string. */
static void acpi_paravirt(struct aml *a, const char *name, const char *hid, uint16_t port,
                          uint8_t len)
{
    size_t dev, crs;

    if (!port)
        return;
    dev = aml_device_begin(a, name);
    aml_name(a, "_HID");
    aml_string(a, hid);
    aml_name(a, "_STA");
    aml_int(a, 0xf);
    crs = aml_crs_begin(a);
    aml_crs_io(a, port, len);
    aml_crs_end(a, crs);
    aml_end(a, dev);
}

static void acpi_hpet_device(struct aml *a, const struct acpi_desc *d)
{
    size_t dev, crs;

    if (!d->hpet_gpa)
        return;
    dev = aml_device_begin(a, "HPET");
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0103");
    aml_name(a, "_UID");
    aml_int(a, 0);
    crs = aml_crs_begin(a);
    aml_crs_memory32(a, (uint32_t)d->hpet_gpa, 0x400);
    aml_crs_end(a, crs);
    aml_end(a, dev);
}

/* 7.4.2: the values of SLP_TYP for PM1a and PM1b. */
static void acpi_sleep_state(struct aml *a, const char *name, uint8_t type)
{
    size_t package;

    aml_name(a, name);
    package = aml_package_begin(a, 4);
    for (int i = 0; i < 4; i++)
        aml_int(a, i < 2 ? type : 0);
    aml_end(a, package);
}

static size_t acpi_dsdt(struct aml *a, const struct acpi_desc *d)
{
    size_t at = acpi_begin(a, "DSDT", 2), sb, pci, isa;

    acpi_pci_model(a);
    sb = aml_scope_begin(a, "\\_SB_");
    pci = aml_device_begin(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0A03");
    aml_name(a, "_UID");
    aml_int(a, 0);
    acpi_pci_windows(a, d);
    acpi_pci_routes(a, d);
    isa = aml_device_begin(a, "ISA_");
    aml_name(a, "_ADR");
    aml_int(a, 0x10000);
    acpi_pci_router(a);
    acpi_isa(a, "RTC_", "PNP0B00", 0x70, 2, 8);
    if (d->keyboard) {
        acpi_keyboard(a);
        acpi_mouse(a);
    }
    if (d->com1)
        acpi_isa(a, "COM1", "PNP0501", 0x3f8, 8, 4);
    aml_end(a, isa);
    aml_end(a, pci);
    acpi_pci_links(a, d);
    acpi_hpet_device(a, d);
    acpi_paravirt(a, "PEVT", "QEMU0001", d->pvpanic_port, 1);
    acpi_paravirt(a, "FWCF", "QEMU0002", d->fw_cfg_port, 12);
    aml_end(a, sb);
    acpi_sleep_state(a, "\\_S3_", d->s3_type);
    acpi_sleep_state(a, "\\_S5_", d->s5_type);
    acpi_end(a, at);
    return at;
}

/* 5.2.10; hardware signature, waking vectors and lock word are zero. */
static size_t acpi_facs(struct aml *a)
{
    uint8_t facs[64] = { 'F', 'A', 'C', 'S', 64 };
    size_t at;

    facs[32] = 2; /* version */
    acpi_align(a);
    at = a->len;
    aml_raw(a, facs, sizeof(facs));
    return at;
}

static void acpi_fadt_ports(struct aml *a, const struct acpi_desc *d)
{
    aml_u32(a, d->pm1_evt);
    aml_u32(a, 0);
    aml_u32(a, d->pm1_cnt);
    aml_u32(a, 0);
    aml_u32(a, 0); /* PM2_CNT */
    aml_u32(a, d->pm_tmr);
    aml_u32(a, d->gpe0);
    aml_u32(a, 0);
    aml_u8(a, 4); /* PM1_EVT_LEN */
    aml_u8(a, 2); /* PM1_CNT_LEN */
    aml_u8(a, 0);
    aml_u8(a, 4); /* PM_TMR_LEN */
    aml_u8(a, d->gpe0_len);
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0);
}

/* 5.2.9, revision 6. */
static size_t acpi_fadt(struct aml *a, const struct acpi_desc *d, uint64_t dsdt, uint64_t facs)
{
    enum { WBINVD = 1, PROC_C1 = 4, SLP_BUTTON = 32, TMR_VAL_EXT = 256, RESET_REG_SUP = 1024 };
    enum { LEGACY_DEVICES = 1, HAS_8042 = 2, NO_VGA = 4 };
    size_t at = acpi_begin(a, "FACP", 6);

    aml_u32(a, (uint32_t)facs);
    aml_u32(a, (uint32_t)dsdt);
    aml_u8(a, 0);
    aml_u8(a, 0); /* profile: unspecified */
    aml_u16(a, d->sci_irq);
    aml_u32(a, 0); /* SMI_CMD 0: always in ACPI mode */
    aml_u32(a, 0); /* ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT */
    acpi_fadt_ports(a, d);
    aml_u16(a, 0xfff); /* P_LVL2_LAT: no C2 */
    aml_u16(a, 0xfff); /* P_LVL3_LAT: no C3 */
    aml_u32(a, 0);     /* FLUSH_SIZE, FLUSH_STRIDE */
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0x32); /* CENTURY */
    /* To look for a keyboard that is not there costs a kernel seconds. */
    aml_u16(a, (uint16_t)(LEGACY_DEVICES | (d->vga ? 0 : NO_VGA) | (d->keyboard ? HAS_8042 : 0)));
    aml_u8(a, 0);
    aml_u32(a, WBINVD | PROC_C1 | SLP_BUTTON | TMR_VAL_EXT | RESET_REG_SUP);
    acpi_gas(a, 1, 8, d->reset_port);
    aml_u8(a, d->reset_value);
    aml_u16(a, 0);
    aml_u8(a, 3); /* minor version */
    aml_u64(a, facs);
    aml_u64(a, dsdt);
    acpi_gas(a, 1, 32, d->pm1_evt);
    acpi_gas(a, 1, 32, 0);
    acpi_gas(a, 1, 16, d->pm1_cnt);
    acpi_gas(a, 1, 16, 0);
    acpi_gas(a, 1, 8, 0);
    acpi_gas(a, 1, 32, d->pm_tmr);
    acpi_gas(a, 1, 8u * d->gpe0_len, d->gpe0);
    for (int i = 0; i < 3; i++) /* GPE1, sleep control, sleep status */
        acpi_gas(a, 1, 8, 0);
    aml_raw(a, "RUCHE\0\0", 8); /* hypervisor vendor identity */
    acpi_end(a, at);
    BUG_ON(!a->failed && a->len - at != ACPI_FADT_LEN);
    return at;
}

/* 5.2.12.5: what is different about an ISA interrupt; flags 0: nothing but the pin. */
static void acpi_madt_override(struct aml *a, uint8_t irq, uint8_t gsi, uint16_t flags)
{
    aml_raw(a, (uint8_t[]){ 2, 10, 0, irq }, 4);
    aml_u32(a, gsi);
    aml_u16(a, flags);
}

/*
 * 5.2.12: processors, IOAPIC, ISA interrupt overrides (0 to pin 2; level are the SCI and, for systems that take
 * PCI interrupts from the line registers, those where they lead), NMI on LINT1.
 */
static size_t acpi_madt(struct aml *a, const struct acpi_desc *d)
{
    enum { ACTIVE_HIGH_LEVEL = 0x000d };
    size_t at = acpi_begin(a, "APIC", 5);

    aml_u32(a, (uint32_t)d->lapic_gpa);
    aml_u32(a, 1); /* PCAT_COMPAT: there are 8259s */
    for (unsigned i = 0; i < d->ncpus; i++) {
        aml_raw(a, (uint8_t[]){ 0, 8, (uint8_t)i, (uint8_t)i }, 4);
        aml_u32(a, 1);
    }
    aml_raw(a, (uint8_t[]){ 1, 12, d->ioapic_id, 0 }, 4);
    aml_u32(a, (uint32_t)d->ioapic_gpa);
    aml_u32(a, 0);
    acpi_madt_override(a, 0, 2, 0);
    for (uint8_t irq = 0; irq < 16; irq++)
        if (irq == d->sci_irq || d->pci_irqs & BIT(irq))
            acpi_madt_override(a, irq, irq, ACTIVE_HIGH_LEVEL);
    aml_raw(a, (uint8_t[]){ 4, 6, 0xff, 0, 0, 1 }, 6);
    acpi_end(a, at);
    return at;
}

static size_t acpi_hpet(struct aml *a, const struct acpi_desc *d)
{
    size_t at = acpi_begin(a, "HPET", 1);

    aml_u32(a, 0x8086a201); /* vendor, 64-bit counter, 3 timers, legacy replacement */
    acpi_gas(a, 0, 64, d->hpet_gpa);
    if (!a->failed)
        a->data[a->len - 9] = 0; /* access size: undefined */
    aml_u8(a, 0);
    aml_u16(a, 0);
    aml_u8(a, 0);
    acpi_end(a, at);
    return at;
}

/* Windows: our RTC and PM timer are exact, no work-arounds needed. */
static size_t acpi_waet(struct aml *a)
{
    size_t at = acpi_begin(a, "WAET", 1);

    aml_u32(a, 3);
    acpi_end(a, at);
    return at;
}

static size_t acpi_sdt(struct aml *a, const char *signature, uint64_t base, const size_t *tables,
                       unsigned n)
{
    size_t at = acpi_begin(a, signature, 1);

    for (unsigned i = 0; i < n; i++) {
        if (signature[0] == 'X')
            aml_u64(a, base + tables[i]);
        else
            aml_u32(a, (uint32_t)(base + tables[i]));
    }
    acpi_end(a, at);
    return at;
}

static void acpi_rsdp(uint8_t *p, uint64_t rsdt, uint64_t xsdt)
{
    static const uint8_t head[16] = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ',
                                      0,   'R', 'U', 'C', 'H', 'E', ' ', 2 };

    memcpy(p, head, sizeof(head));
    st_le32(p + 16, (uint32_t)rsdt);
    p[8] = acpi_checksum(p, 20);
    st_le32(p + 20, ACPI_RSDP_LEN);
    st_le64(p + 24, xsdt);
    p[32] = acpi_checksum(p, ACPI_RSDP_LEN);
}

int acpi_build(const struct acpi_desc *d, uint64_t base, struct acpi_tables *out)
{
    static const uint8_t rsdp[ACPI_RSDP_LEN];
    size_t tables[ACPI_TABLES], dsdt, facs, rsdt, xsdt;
    struct aml a = { 0 };
    unsigned n = 0;

    aml_raw(&a, rsdp, sizeof(rsdp));
    dsdt = acpi_dsdt(&a, d);
    facs = acpi_facs(&a);
    tables[n++] = acpi_fadt(&a, d, base + dsdt, base + facs);
    tables[n++] = acpi_madt(&a, d);
    if (d->hpet_gpa)
        tables[n++] = acpi_hpet(&a, d);
    tables[n++] = acpi_waet(&a);
    rsdt = acpi_sdt(&a, "RSDT", base, tables, n);
    xsdt = acpi_sdt(&a, "XSDT", base, tables, n);
    if (a.failed) {
        free(a.data);
        return -ENOMEM;
    }
    acpi_rsdp(a.data, base + rsdt, base + xsdt);
    *out = (struct acpi_tables){ a.data, a.len, facs };
    return 0;
}
