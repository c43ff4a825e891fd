/*
 * machine_pc_boot.c: what the `pc` machine's guest finds when it starts: a kernel booted directly gets what
 * firmware would have left; with firmware the processor starts there.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <string.h>

#include "boot/mptable.h"
#include "hw/acpi_pm.h"
#include "hw/i8259.h"
#include "hw/mc146818.h"
#include "hw/piix3.h"
#include "hw/piix4_pm.h"
#include "mem/guest.h"
#include "x86/msr.h"

void pc_acpi_desc(const struct machine *m, struct acpi_desc *d)
{
    *d = (struct acpi_desc){
        .ncpus = m->vm->cfg->cpus,
        .lapic_gpa = APIC_DEFAULT_GPA,
        .ioapic_gpa = PC_IOAPIC,
        .hpet_gpa = PC_HPET,
        .pm1_evt = PC_PM,
        .pm1_cnt = PC_PM + 4,
        .pm_tmr = PC_PM + 8,
        .gpe0 = PC_GPE0,
        .gpe0_len = 4,
        .sci_irq = PC_IRQ_SCI,
        .reset_port = PC_RESET,
        .reset_value = 6,
        .s3_type = PC_S3_TYPE,
        .s5_type = PC_S5_TYPE,
        .pvpanic_port = PC_PVPANIC,
        .fw_cfg_port = PC_FW_CFG,
        .com1 = true,
        .keyboard = m->vga != NULL, /* they come together */
        .vga = m->vga != NULL,
        .mmio32 = { PC_MMIO32, PC_MMIO32_LEN },
        .mmio64 = { align_up(pc_ram_end(m), GIB), 32 * GIB },
        .pci_gsi = { PC_PIRQ_PIN, PC_PIRQ_PIN + 1, PC_PIRQ_PIN + 2, PC_PIRQ_PIN + 3 },
        .pci_irqs = PC_PCI_IRQS,
    };
}

static int pc_put_acpi(struct machine *m, struct err *e)
{
    struct acpi_tables tables;
    struct acpi_desc desc;
    bool ok;

    pc_acpi_desc(m, &desc);
    if (acpi_build(&desc, PC_ACPI, &tables))
        return err_set(e, ENOMEM, "out of memory");
    ok = tables.len <= PC_ACPI_LEN && guest_write(&m->vm->mem, PC_ACPI, tables.data, tables.len);
    m->facs = PC_ACPI + tables.facs;
    free(tables.data);
    return ok ? 0 : err_set(e, ENOSPC, "no room for the ACPI tables: give a larger --memory");
}

/* The same VM has the same UUID at every start: from its name and MAC (FNV-1a, RFC 4122 version 8). */
void pc_uuid(const struct vm_config *cfg, uint8_t uuid[16])
{
    uint64_t h = 0xcbf29ce484222325ull;

    for (unsigned half = 0; half < 2; half++) {
        for (const char *p = cfg->name; p && *p; p++)
            h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
        for (unsigned i = 0; i < sizeof(cfg->mac); i++)
            h = (h ^ cfg->mac[i]) * 0x100000001b3ull;
        memcpy(uuid + 8 * half, &h, sizeof(h));
    }
    uuid[7] = (uint8_t)(0x80 | (uuid[7] & 0x0f)); /* little-endian time_hi_and_version */
    uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
}

int pc_smbios(const struct machine *m, uint64_t base, struct smbios_tables *out, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    uint8_t uuid[16];
    const struct smbios_desc desc = {
        .ncpus = cfg->cpus,
        .memory = cfg->memory,
        .low_end = m->low.len,
        .name = cfg->name && *cfg->name ? cfg->name : "vm",
        .uuid = uuid,
    };

    pc_uuid(cfg, uuid);
    return smbios_build(&desc, base, out) ? err_set(e, ENOMEM, "out of memory") : 0;
}

static int pc_put_smbios(struct machine *m, struct err *e)
{
    struct smbios_tables tables;
    bool ok;

    if (pc_smbios(m, PC_SMBIOS, &tables, e))
        return -ENOMEM;
    ok =
        tables.len <= PC_SMBIOS_LEN && guest_write(&m->vm->mem, PC_SMBIOS, tables.data, tables.len);
    free(tables.data);
    return ok ? 0 : err_set(e, ENOSPC, "no room for the SMBIOS tables: give a larger --memory");
}

static int pc_put_mptable(struct machine *m, struct err *e)
{
    struct mptable table;
    struct acpi_desc desc;
    bool ok;

    pc_acpi_desc(m, &desc);
    if (mptable_build(&desc, PC_MP, &table))
        return err_set(e, ENOMEM, "out of memory");
    ok = table.len <= PC_MP_LEN && guest_write(&m->vm->mem, PC_MP, table.data, table.len);
    free(table.data);
    return ok ? 0 : err_set(e, ENOSPC, "no room for the MP table: give a larger --memory");
}

static void pc_e820(struct boot_params *p, uint64_t addr, uint64_t end, uint32_t type)
{
    if (end > addr)
        p->e820[p->n_e820++] = (struct boot_e820){ addr, end - addr, type };
}

static int pc_boot_kernel(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct boot_params p = {
        .kernel = cfg->kernel,
        .initrd = cfg->initrd,
        .append = cfg->append,
        .mem = &m->vm->mem,
        .rsdp_gpa = PC_ACPI,
        .initrd_max = m->low.len,
        .vga_text = m->vga != NULL,
    };
    struct x86_state *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    pc_e820(&p, 0, PC_EBDA, E820_RAM);
    pc_e820(&p, PC_EBDA, PC_VGA_HOLE, E820_RESERVED);
    pc_e820(&p, PC_BIOS, PC_1M, E820_RESERVED);
    pc_e820(&p, PC_1M, m->low.len, E820_RAM);
    pc_e820(&p, m->high.gpa, m->high.gpa + m->high.len, E820_RAM);
    rc = vcpu_get_state(m->vm->vcpu[0], s);
    if (rc)
        err_set(e, -rc, "cannot read the registers of vCPU 0: %s", strerror(-rc));
    else
        rc = boot_kernel(&p, s, e);
    if (!rc) {
        rc = vcpu_set_state(m->vm->vcpu[0], s);
        if (rc)
            err_set(e, -rc, "%s refuses the kernel's start state: %s", m->vm->accel->name,
                    strerror(-rc));
    }
    free(s);
    return rc;
}

/* What firmware would do at every start. */
static int pc_assign(struct machine *m, struct err *e)
{
    i440fx_assign(m->host);
    i8259_assign(m->pic, piix3_assign(m->piix3));
    piix4_pm_assign(m->piix4, PC_PM);
    return pci_assign(m->pci, PC_MMIO32, PC_MMIO32_LEN, PC_PCI_IO, align_up(pc_ram_end(m), GIB), e);
}

int machine_pc_boot(struct vm *vm, struct err *e)
{
    struct machine *m = vm->machine;
    int rc;

    if (vm->cfg->firmware)
        return 0; /* the processor starts in it */
    rc = pc_assign(m, e);
    if (!rc)
        rc = pc_put_acpi(m, e);
    if (!rc)
        rc = pc_put_smbios(m, e);
    if (!rc)
        rc = pc_put_mptable(m, e);
    if (!rc)
        rc = pc_show_text(m, e);
    return rc ? rc : pc_boot_kernel(m, e);
}

/* ACPI 6.5, 16.3.1.1: firmware jumps to the FACS's waking vector in real mode. */
static int pc_start_at_waking_vector(struct machine *m, struct err *e)
{
    enum { FACS_WAKING_VECTOR = 12 };
    struct x86_state *s = calloc(1, sizeof(*s));
    uint32_t vector = 0;
    int rc;

    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    if (!guest_read(&m->vm->mem, m->facs + FACS_WAKING_VECTOR, &vector, sizeof(vector)) ||
        vector >= PC_1M)
        vector = 0; /* rubbish: what a guest finds there is its own affair */
    rc = vcpu_get_state(m->vm->vcpu[0], s);
    s->seg[X86_CS].sel = (uint16_t)(vector >> 4);
    s->seg[X86_CS].base = (uint64_t)s->seg[X86_CS].sel << 4;
    s->rip = vector & 0xf;
    if (!rc)
        rc = vcpu_set_state(m->vm->vcpu[0], s);
    free(s);
    return rc ? err_set(e, -rc, "cannot set vCPU 0 to wake up: %s", strerror(-rc)) : 0;
}

/*
 * Firmware learns from the CMOS that it has to wake the guest instead of starting it. SeaBIOS looks there only
 * where it still is in shadow RAM.
 */
static int pc_wake(struct machine *m, struct err *e)
{
    int rc;

    if (m->vm->cfg->firmware) {
        i440fx_assign(m->host);
        mc146818_set_cmos(m->rtc, PC_CMOS_SHUTDOWN, PC_SHUTDOWN_S3);
        return 0;
    }
    rc = pc_assign(m, e);
    return rc ? rc : pc_start_at_waking_vector(m, e);
}

int machine_pc_wake(struct vm *vm, struct err *e)
{
    uint16_t cause = acpi_pm_wake_cause(vm->machine->pm);
    int rc = vm_reset(vm, e);

    if (!rc)
        rc = pc_wake(vm->machine, e);
    acpi_pm_woken(vm->machine->pm, cause);
    return rc;
}
