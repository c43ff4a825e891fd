/*
 * machine_pc.c: the `pc` machine (i440FX/PIIX3): the only file with addresses and irq numbers.
 *
 *  gpa                      what
 *  0 .. min(memory, 3 GiB)  RAM "low"; direct boot puts ACPI tables at e0000, SMBIOS at f0000
 *  c0000000 .. febfffff     PCI memory window
 *  fec00000                 IOAPIC            fed00000  HPET        fee00000  local APICs
 *  ff000000                 the test device, with --test-device
 *  4 GiB ..                 RAM "high"; above it the 64-bit PCI window
 *
 * An ISA irq line goes to the 8259s and to the IOAPIC's pin of the same number (irq 0: pin 2). PCI
 * interrupts go to IOAPIC pins 16 to 19 and, as PIIX3's registers say, to ISA lines.
 */
#include "vm/machine_pc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/smbios.h"
#include "bus/pci.h"
#include "chardev/chardev.h"
#include "hw/acpi_pm.h"
#include "hw/debug_exit.h"
#include "hw/fw_cfg.h"
#include "hw/hpet.h"
#include "hw/i440fx.h"
#include "hw/i8254.h"
#include "hw/i8042.h"
#include "hw/i8259.h"
#include "hw/ioapic.h"
#include "hw/isa_misc.h"
#include "hw/mc146818.h"
#include "hw/ns16550.h"
#include "hw/piix3.h"
#include "hw/pvpanic.h"
#include "hw/testdev.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "x86/msr.h"

#define PC_LOW_MAX    (3 * GIB)
#define PC_HIGH       (4 * GIB)
#define PC_MMIO32     0xc0000000ull
#define PC_MMIO32_LEN 0x3ec00000ull
#define PC_IOAPIC     0xfec00000ull
#define PC_HPET       0xfed00000ull
#define PC_TESTDEV    0xff000000ull
#define PC_ACPI       0xe0000ull
#define PC_ACPI_LEN   0x10000ull
#define PC_SMBIOS     0xf0000ull
#define PC_SMBIOS_LEN 0x10000ull
#define PC_EBDA       0x9fc00ull
#define PC_VGA_HOLE   0xa0000ull
#define PC_BIOS       0xe0000ull
#define PC_1M         0x100000ull

enum {
    PC_COM1 = 0x3f8,
    PC_PIC_MASTER = 0x20,
    PC_PIC_SLAVE = 0xa0,
    PC_ELCR = 0x4d0,
    PC_PM = 0x600,
    PC_GPE0 = 0xafe0,
    PC_RESET = 0xcf9,
    PC_PVPANIC = 0x505,
    PC_FW_CFG = 0x510,
    PC_PCI_IO = 0xc000,
    PC_KBD_DATA = 0x60,
    PC_KBD_COMMAND = 0x64,
    PC_POST = 0x80,
    PC_PORT92 = 0x92,
    PC_FERR = 0xf0,
    PC_S3_TYPE = 1,
    PC_S5_TYPE = 0,
    PC_TESTDEV_LINES = 0x2000,
    PC_TESTDEV_ECHO = 0xe0,
    PC_TESTDEV_FLUSH = 0xe4,
    PC_PIT = 0x40,
    PC_SPEAKER = 0x61,
    PC_RTC = 0x70,
};
enum { PC_IRQ_KBD = 1, PC_IRQ_COM1 = 4, PC_IRQ_RTC = 8, PC_IRQ_SCI = 9, PC_IRQ_MOUSE = 12 };
enum { PC_PIRQ_PIN = 16, PC_PIT_PIN = 2, PC_FIRST_SLOT = 2 };

struct machine {
    struct vm *vm;
    struct ram_region low, high;
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct pci_bus *pci;
    struct piix3 *piix3;
    struct mc146818 *rtc;
    struct acpi_pm *pm;
    uint64_t facs; /* gpa */
    struct fw_cfg *fw_cfg;
    unsigned next_slot;
    char disk_id[CONFIG_MAX_DISKS][16];
    struct chardev *serial, *console;
};

/* --- interrupt wiring --- */

static void pc_isa_set(void *chip, unsigned line, bool level)
{
    struct machine *m = chip;
    struct irq pic = i8259_irq(m->pic, line);
    struct irq ioapic = ioapic_irq(m->ioapic, line == 0 ? PC_PIT_PIN : line);

    irq_set(&pic, level);
    irq_set(&ioapic, level);
}

static struct irq pc_isa_irq(struct machine *m, unsigned line)
{
    return (struct irq){ .set = pc_isa_set, .chip = m, .pin = line };
}

static void pc_eoi(struct vm *vm, uint8_t vector)
{
    ioapic_eoi(vm->machine->ioapic, vector);
}

static int pc_inta(struct vm *vm)
{
    return i8259_inta(vm->machine->pic);
}

/* --- construction --- */

static int pc_create_ram(struct machine *m, struct err *e)
{
    struct vm *vm = m->vm;
    uint64_t low = min_u64(vm->cfg->memory, PC_LOW_MAX);
    int rc = ram_alloc(&m->low, "low", 0, low, e);

    if (!rc)
        rc = physmap_add(&vm->mem, &m->low);
    if (!rc && vm->cfg->memory > low) {
        rc = ram_alloc(&m->high, "high", PC_HIGH, vm->cfg->memory - low, e);
        if (!rc)
            rc = physmap_add(&vm->mem, &m->high);
    }
    return rc;
}

static int pc_create_irqs(struct machine *m, struct err *e)
{
    m->pic = i8259_create(m->vm, PC_PIC_MASTER, PC_PIC_SLAVE, PC_ELCR, e);
    if (!m->pic)
        return -e->code;
    m->ioapic = ioapic_create(m->vm, PC_IOAPIC, e);
    if (!m->ioapic)
        return -e->code;
    m->vm->eoi = pc_eoi;
    m->vm->inta = pc_inta;
    return 0;
}

static int pc_create_timers(struct machine *m, struct err *e)
{
    struct irq legacy[2] = { pc_isa_irq(m, 0), pc_isa_irq(m, PC_IRQ_RTC) }, gsi[HPET_GSIS];
    struct hpet *hpet;

    for (unsigned i = 0; i < HPET_GSIS; i++)
        gsi[i] = i < 16 && i != PC_PIT_PIN ? pc_isa_irq(m, i) : ioapic_irq(m->ioapic, i);
    hpet = hpet_create(m->vm, PC_HPET, gsi, legacy, e);
    if (!hpet)
        return -e->code;
    if (!i8254_create(m->vm, PC_PIT, PC_SPEAKER, hpet_legacy_irq(hpet, HPET_LEGACY_PIT), e))
        return -e->code;
    m->rtc = mc146818_create(m->vm, PC_RTC, hpet_legacy_irq(hpet, HPET_LEGACY_RTC), e);
    if (!m->rtc)
        return -e->code;
    mc146818_set_memory(m->rtc, m->low.len, m->high.len);
    return 0;
}

/* fw_cfg keys that firmware and test kernels read (QEMU's numbers). */
enum { PC_CFG_RAM_SIZE = 0x03, PC_CFG_NB_CPUS = 0x05, PC_CFG_MAX_CPUS = 0x0f };

static int pc_create_fw_cfg(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    uint16_t ncpus = (uint16_t)cfg->cpus;
    uint64_t ram = cfg->memory;
    int rc;

    m->fw_cfg = fw_cfg_create(m->vm, PC_FW_CFG, e);
    if (!m->fw_cfg)
        return -e->code;
    rc = fw_cfg_add_key(m->fw_cfg, PC_CFG_RAM_SIZE, &ram, sizeof(ram), e);
    if (!rc)
        rc = fw_cfg_add_key(m->fw_cfg, PC_CFG_NB_CPUS, &ncpus, sizeof(ncpus), e);
    if (!rc)
        rc = fw_cfg_add_key(m->fw_cfg, PC_CFG_MAX_CPUS, &ncpus, sizeof(ncpus), e);
    return rc;
}

/* Lines 0 to 15 are ISA's, the others the IOAPIC's pins. */
static int pc_create_testdev(struct machine *m, struct err *e)
{
    static const struct testdev_at at = { PC_TESTDEV_LINES, PC_TESTDEV_ECHO, PC_TESTDEV_FLUSH,
                                          PC_TESTDEV };
    struct irq line[TESTDEV_LINES];

    if (!m->vm->cfg->test_device)
        return 0;
    for (unsigned i = 0; i < TESTDEV_LINES; i++)
        line[i] = i < 16 ? pc_isa_irq(m, i) : ioapic_irq(m->ioapic, i);
    return testdev_create(m->vm, &at, line, e) ? 0 : -e->code;
}

static int pc_create_isa(struct machine *m, struct err *e)
{
    static const struct acpi_pm_sleep sleep = { PC_S3_TYPE, PC_S5_TYPE };
    struct vm *vm = m->vm;

    m->pm = acpi_pm_create(vm, PC_PM, PC_GPE0, &sleep, pc_isa_irq(m, PC_IRQ_SCI), e);
    if (!m->pm)
        return -e->code;
    mc146818_set_alarm(m->rtc, acpi_pm_rtc_alarm(m->pm));
    if (!i8042_create(vm, PC_KBD_DATA, PC_KBD_COMMAND, pc_isa_irq(m, PC_IRQ_KBD), e) ||
        !isa_misc_create(vm, PC_POST, PC_PORT92, PC_FERR, e) || !pvpanic_create(vm, PC_PVPANIC, e))
        return -e->code;
    if (vm->cfg->debug_exit_port >= 0 &&
        !debug_exit_create(vm, (uint16_t)vm->cfg->debug_exit_port, e))
        return -e->code;
    return pc_create_fw_cfg(m, e);
}

static void pc_leave(void *opaque)
{
    vm_end(opaque, VM_END_POWEROFF, 0, "the user left the console");
}

/* A pty's name is only known now: it is told to whoever started the VM. */
static struct chardev *pc_open_stream(struct machine *m, const char *what, const char *where,
                                      struct err *e)
{
    struct chardev *c = chardev_open(where, m->vm->loop, pc_leave, m->vm, e);

    if (c && !strcmp(where, "pty") && chardev_where(c))
        fprintf(stderr, "ruche: the %s is at %s\n", what, chardev_where(c));
    return c;
}

static int pc_create_serial(struct machine *m, struct err *e)
{
    m->serial = pc_open_stream(m, "serial port", m->vm->cfg->serial, e);
    if (!m->serial)
        return -e->code;
    if (!ns16550_create(m->vm, "com1", PC_COM1, pc_isa_irq(m, PC_IRQ_COM1), m->serial, e))
        return -e->code;
    return 0;
}

static int pc_create_pci(struct machine *m, struct err *e)
{
    struct irq pirq[4], isa[16];

    for (unsigned i = 0; i < ARRAY_SIZE(pirq); i++)
        pirq[i] = ioapic_irq(m->ioapic, PC_PIRQ_PIN + i);
    for (unsigned i = 0; i < ARRAY_SIZE(isa); i++)
        isa[i] = pc_isa_irq(m, i);
    m->pci = pci_bus_create(m->vm, e);
    if (!m->pci || !i440fx_create(m->vm, m->pci, PCI_DEVFN(0, 0), e))
        return -e->code;
    m->piix3 = piix3_create(m->vm, m->pci, PCI_DEVFN(1, 0), pirq, isa, e);
    return m->piix3 ? 0 : -e->code;
}

static unsigned pc_next_devfn(struct machine *m)
{
    return PCI_DEVFN(m->next_slot++, 0);
}

static int pc_create_net(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct virtio_net_opts o = { .backend = cfg->net, .cfg = cfg };

    if (!strcmp(cfg->net, "none"))
        return 0;
    memcpy(o.mac, cfg->mac, sizeof(o.mac));
    return virtio_net_create(m->vm, m->pci, pc_next_devfn(m), "net0", &o, e);
}

static int pc_create_console(struct machine *m, struct err *e)
{
    const char *where = m->vm->cfg->console;

    if (!strcmp(where, "none"))
        return 0;
    m->console = pc_open_stream(m, "console", where, e);
    if (!m->console)
        return -e->code;
    return virtio_console_create(m->vm, m->pci, pc_next_devfn(m), "console0", m->console, 0, 0, e);
}

static int pc_create_disk(struct machine *m, unsigned index, struct err *e)
{
    const struct config_disk *d = &m->vm->cfg->disk[index];
    const struct blk_opts o = {
        .path = d->path,
        .format = d->format,
        .readonly = d->readonly,
        .loop = m->vm->loop,
    };
    struct blk *disk;
    int rc;

    disk = blk_open(&o, e);
    if (!disk)
        return -e->code;
    snprintf(m->disk_id[index], sizeof(m->disk_id[index]), "disk%u", index);
    rc = virtio_blk_create(m->pci, pc_next_devfn(m), m->disk_id[index], disk, d->serial,
                           m->vm->cfg->cpus, e);
    if (rc)
        blk_close(disk);
    return rc;
}

static int pc_create_virtio(struct machine *m, struct err *e)
{
    int rc = pc_create_net(m, e);

    if (!rc)
        rc = virtio_rng_create(m->pci, pc_next_devfn(m), "rng0", e);
    for (unsigned i = 0; !rc && i < m->vm->cfg->n_disks; i++)
        rc = pc_create_disk(m, i, e);
    return rc ? rc : pc_create_console(m, e);
}

static void pc_destroy(struct vm *vm)
{
    struct machine *m = vm->machine;

    if (!m)
        return;
    chardev_close(m->serial);
    chardev_close(m->console);
    ram_free(&m->low);
    if (m->high.hva)
        ram_free(&m->high);
    free(m);
    vm->machine = NULL;
}

int machine_pc_create(struct vm *vm, struct err *e)
{
    struct machine *m = calloc(1, sizeof(*m));
    int rc;

    if (!m)
        return err_set(e, ENOMEM, "out of memory");
    m->vm = vm;
    m->next_slot = PC_FIRST_SLOT;
    vm->machine = m;
    vm->machine_destroy = pc_destroy;
    rc = pc_create_ram(m, e);
    if (!rc)
        rc = pc_create_irqs(m, e);
    if (!rc)
        rc = pc_create_timers(m, e);
    if (!rc)
        rc = pc_create_isa(m, e);
    if (!rc)
        rc = pc_create_testdev(m, e);
    if (!rc)
        rc = pc_create_pci(m, e);
    if (!rc)
        rc = pc_create_serial(m, e);
    if (!rc)
        rc = pc_create_virtio(m, e);
    return rc;
}

/* --- boot --- */

static int pc_put_acpi(struct machine *m, struct err *e)
{
    uint64_t top = m->high.len ? m->high.gpa + m->high.len : PC_HIGH;
    const struct acpi_desc desc = {
        .ncpus = m->vm->nvcpus,
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
        .mmio32 = { PC_MMIO32, PC_MMIO32_LEN },
        .mmio64 = { align_up(top, GIB), 32 * GIB },
        .pci_gsi = { PC_PIRQ_PIN, PC_PIRQ_PIN + 1, PC_PIRQ_PIN + 2, PC_PIRQ_PIN + 3 },
    };
    struct acpi_tables tables;
    bool ok;

    if (acpi_build(&desc, PC_ACPI, &tables))
        return err_set(e, ENOMEM, "out of memory");
    ok = tables.len <= PC_ACPI_LEN && guest_write(&m->vm->mem, PC_ACPI, tables.data, tables.len);
    m->facs = PC_ACPI + tables.facs;
    free(tables.data);
    return ok ? 0 : err_set(e, ENOSPC, "no room for the ACPI tables: give a larger --memory");
}

/* The same VM has the same UUID at every start: from its name and MAC (FNV-1a, RFC 4122 version 8). */
static void pc_uuid(const struct vm_config *cfg, uint8_t uuid[16])
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

static int pc_put_smbios(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct smbios_tables tables;
    uint8_t uuid[16];
    const struct smbios_desc desc = {
        .ncpus = m->vm->nvcpus,
        .memory = cfg->memory,
        .low_end = m->low.len,
        .name = cfg->name && *cfg->name ? cfg->name : "vm",
        .uuid = uuid,
    };
    bool ok;

    pc_uuid(cfg, uuid);
    if (smbios_build(&desc, PC_SMBIOS, &tables))
        return err_set(e, ENOMEM, "out of memory");
    ok =
        tables.len <= PC_SMBIOS_LEN && guest_write(&m->vm->mem, PC_SMBIOS, tables.data, tables.len);
    free(tables.data);
    return ok ? 0 : err_set(e, ENOSPC, "no room for the SMBIOS tables: give a larger --memory");
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
    uint64_t top = m->high.len ? m->high.gpa + m->high.len : PC_HIGH;

    piix3_assign(m->piix3);
    return pci_assign(m->pci, PC_MMIO32, PC_MMIO32_LEN, PC_PCI_IO, align_up(top, GIB), e);
}

int machine_pc_boot(struct vm *vm, struct err *e)
{
    struct machine *m = vm->machine;
    int rc;

    rc = pc_assign(m, e);
    if (!rc)
        rc = pc_put_acpi(m, e);
    if (!rc)
        rc = pc_put_smbios(m, e);
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

int machine_pc_wake(struct vm *vm, struct err *e)
{
    uint16_t cause = acpi_pm_wake_cause(vm->machine->pm);
    int rc = vm_reset(vm, e);

    if (!rc)
        rc = pc_assign(vm->machine, e);
    if (!rc)
        rc = pc_start_at_waking_vector(vm->machine, e);
    acpi_pm_woken(vm->machine->pm, cause);
    return rc;
}

void machine_pc_power_button(struct vm *vm)
{
    acpi_pm_press_power(vm->machine->pm);
}
