/*
 * machine_pc.c: the `pc` machine (i440FX/PIIX3): its chips and how they are wired. Addresses and irq
 * numbers are in machine_pc_priv.h, and nowhere else.
 *
 * An ISA irq line goes to the 8259s and to the IOAPIC's pin of the same number (irq 0: pin 2). PCI
 * interrupts go to IOAPIC pins 16 to 19 and, as PIIX3's registers say, to ISA lines.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "boot/firmware.h"
#include "bus/pci.h"
#include "chardev/chardev.h"
#include "chardev/term.h"
#include "display/input.h"
#include "hw/acpi_pm.h"
#include "hw/debugcon.h"
#include "hw/debug_exit.h"
#include "hw/fw_cfg.h"
#include "hw/hpet.h"
#include "hw/i8254.h"
#include "hw/i8042.h"
#include "hw/i8259.h"
#include "hw/ioapic.h"
#include "hw/isa_misc.h"
#include "hw/mc146818.h"
#include "hw/ns16550.h"
#include "hw/piix3.h"
#include "hw/piix4_pm.h"
#include "hw/pvpanic.h"
#include "hw/testdev.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_rng.h"

/* --- interrupt wiring --- */

static void pc_isa_set(void *chip, unsigned line, bool level)
{
    struct machine *m = chip;
    struct irq pic = i8259_irq(m->pic, line);
    struct irq ioapic = ioapic_irq(m->ioapic, line == 0 ? PC_PIT_PIN : line);

    irq_set(&pic, level);
    irq_set(&ioapic, level);
}

struct irq pc_isa_irq(struct machine *m, unsigned line)
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
    mc146818_set_cmos(m->rtc, PC_CMOS_APS, (uint8_t)(m->vm->cfg->cpus - 1));
    return 0;
}

static int pc_create_fw_cfg(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    uint16_t ncpus = (uint16_t)cfg->cpus;
    uint64_t ram = cfg->memory;
    int rc;

    m->fw_cfg = fw_cfg_create(m->vm, PC_FW_CFG, e);
    if (!m->fw_cfg)
        return -e->code;
    rc = fw_cfg_add_key(m->fw_cfg, FW_CFG_RAM_SIZE, &ram, sizeof(ram), e);
    if (!rc)
        rc = fw_cfg_add_key(m->fw_cfg, FW_CFG_NB_CPUS, &ncpus, sizeof(ncpus), e);
    if (!rc)
        rc = fw_cfg_add_key(m->fw_cfg, FW_CFG_MAX_CPUS, &ncpus, sizeof(ncpus), e);
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

    m->pm = acpi_pm_create(vm, 0, PC_GPE0, &sleep, pc_isa_irq(m, PC_IRQ_SCI), e);
    if (!m->pm)
        return -e->code;
    mc146818_set_alarm(m->rtc, acpi_pm_rtc_alarm(m->pm));
    m->kbc = i8042_create(vm, PC_KBD_DATA, PC_KBD_COMMAND, pc_isa_irq(m, PC_IRQ_KBD), e);
    m->misc = isa_misc_create(vm, PC_POST, PC_PORT92, PC_FERR, e);
    if (!m->kbc || !m->misc || !pvpanic_create(vm, PC_PVPANIC, e))
        return -e->code;
    i8042_set_a20(m->kbc, isa_misc_a20_wire(m->misc));
    return pc_create_fw_cfg(m, e);
}

/* After all that has a port of its own, so that it is the user's that is told to be taken. */
static int pc_create_debug_exit(struct machine *m, struct err *e)
{
    int port = m->vm->cfg->debug_exit_port;

    if (port < 0 || debug_exit_create(m->vm, (uint16_t)port, e))
        return 0;
    return err_prefix(e, "--debug-exit %#x: choose another port, like 0xf4 or 0x501",
                      (unsigned)port);
}

/* The terminal is given back at once: a disk that does not answer may hold the rest up, and Ctrl-C has to work. */
static void pc_leave(void *opaque)
{
    term_restore();
    vm_end(opaque, VM_END_POWEROFF, 0, "the user left the console");
}

/* A pty's name is only known now: it is told to whoever started the VM. */
struct chardev *pc_open_stream(struct machine *m, const char *what, const char *where,
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

/* Without --firmware-log the messages only go to the log. */
static int pc_create_debugcon(struct machine *m, struct err *e)
{
    const char *where = m->vm->cfg->firmware_log;

    if (where) {
        m->firmware_log = pc_open_stream(m, "firmware's log", where, e);
        if (!m->firmware_log)
            return -e->code;
    }
    return debugcon_create(m->vm, PC_DEBUGCON, m->firmware_log, e) ? 0 : -e->code;
}

static int pc_create_pci(struct machine *m, struct err *e)
{
    struct irq pirq[4], isa[16];

    for (unsigned i = 0; i < ARRAY_SIZE(pirq); i++)
        pirq[i] = ioapic_irq(m->ioapic, PC_PIRQ_PIN + i);
    for (unsigned i = 0; i < ARRAY_SIZE(isa); i++)
        isa[i] = pc_isa_irq(m, i);
    m->pci = pci_bus_create(m->vm, e);
    if (!m->pci)
        return -e->code;
    m->host = i440fx_create(m->vm, m->pci, PCI_DEVFN(0, 0), m->shadow, e);
    if (!m->host)
        return -e->code;
    m->piix3 = piix3_create(m->vm, m->pci, PCI_DEVFN(1, 0), pirq, isa, e);
    if (!m->piix3)
        return -e->code;
    m->piix4 = piix4_pm_create(m->vm, m->pci, PCI_DEVFN(1, 3), m->pm, e);
    return m->piix4 ? 0 : -e->code;
}

unsigned pc_next_devfn(struct machine *m)
{
    return PCI_DEVFN(m->next_slot++, 0);
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

static int pc_create_virtio(struct machine *m, struct err *e)
{
    int rc = 0;

    if (strcmp(m->vm->cfg->net, "none") != 0)
        rc = pc_create_net(m, pc_next_devfn(m), e);
    if (!rc)
        rc = virtio_rng_create(m->pci, pc_next_devfn(m), "rng0", e);
    if (!rc)
        rc = pc_create_virtio_disks(m, e);
    return rc ? rc : pc_create_console(m, e);
}

static void pc_destroy(struct vm *vm)
{
    struct machine *m = vm->machine;

    if (!m)
        return;
    pc_destroy_display(m);
    input_destroy(m->input);
    chardev_close(m->serial);
    chardev_close(m->console);
    chardev_close(m->parallel);
    chardev_close(m->firmware_log);
    pc_free_memory(m);
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
    m->screenshot_fd = -1;
    vm->machine = m;
    vm->machine_destroy = pc_destroy;
    m->input = input_create(e);
    rc = m->input ? pc_create_ram(m, e) : -e->code;
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
        rc = pc_create_dma(m, e);
    if (!rc)
        rc = pc_create_serial(m, e);
    if (!rc)
        rc = pc_create_parallel(m, e);
    if (!rc)
        rc = pc_create_debugcon(m, e);
    if (!rc)
        rc = pc_create_virtio(m, e);
    if (!rc)
        rc = pc_create_disk_controllers(m, e);
    if (!rc)
        rc = pc_create_floppies(m, e);
    if (!rc)
        rc = pc_create_vga(m, e);
    if (!rc)
        rc = pc_create_usb(m, e);
    if (!rc)
        rc = pc_create_media(m, e);
    if (!rc)
        rc = pc_create_display(m, e);
    if (!rc && vm->cfg->firmware)
        rc = pc_create_firmware(m, e);
    if (!rc)
        rc = pc_create_debug_exit(m, e);
    return rc;
}
