/*
 * machine_pc_firmware.c: the `pc` machine under firmware: its image in guest memory, and what SeaBIOS and
 * OVMF read through fw_cfg: memory map, ACPI and SMBIOS tables, boot order, settings.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/endian.h"
#include "boot/acpi_loader.h"
#include "boot/firmware.h"
#include "hw/acpi_pm.h"
#include "hw/fw_cfg.h"
#include "hw/pflash.h"
#include "hw/piix4_pm.h"

/* Where both SeaBIOS and OVMF put the PCI memory windows of this host bridge. */
#define PC_FW_MMIO32    (2 * GIB)
#define PC_FW_MMIO64    (32 * GIB)
#define PC_BOOT_FOREVER UINT32_MAX

enum { PC_E820_ENTRY = 20, PC_SMBIOS_ENTRY = 24, PC_BOOT_ORDER_MAX = 1024 };

static int pc_put_e820(struct machine *m, struct err *e)
{
    uint8_t map[2 * PC_E820_ENTRY] = { 0 };

    st_le64(map + 8, m->low.len);
    st_le32(map + 16, E820_RAM);
    st_le64(map + PC_E820_ENTRY, PC_HIGH);
    st_le64(map + PC_E820_ENTRY + 8, m->high.len);
    st_le32(map + PC_E820_ENTRY + 16, E820_RAM);
    return fw_cfg_add_file(m->fw_cfg, "etc/e820", map,
                           m->high.len ? sizeof(map) : (size_t)PC_E820_ENTRY, e);
}

/*
 * --- ACPI ---
 * The tables tell where firmware has put the power management registers, so they are made when it fetches
 * them; until then they are placeholders of the same length.
 */

static void pc_fw_acpi_desc(const struct machine *m, struct acpi_desc *d)
{
    uint16_t pm = piix4_pm_base(m->piix4);
    uint64_t mmio32 = max_u64(m->low.len, PC_FW_MMIO32), mmio64 = align_up(pc_ram_end(m), GIB);

    pc_acpi_desc(m, d);
    d->pm1_evt = pm + ACPI_PM_EVT;
    d->pm1_cnt = pm + ACPI_PM_CNT;
    d->pm_tmr = pm + ACPI_PM_TMR;
    d->mmio32 = (struct acpi_window){ mmio32, PC_IOAPIC - mmio32 };
    d->mmio64.base = mmio64;
    d->mmio64.len = align_up(mmio64, PC_FW_MMIO64) + PC_FW_MMIO64 - mmio64;
}

static int pc_put_acpi_files(struct machine *m, struct err *e)
{
    struct acpi_desc desc;
    struct acpi_loader l;
    int rc;

    pc_fw_acpi_desc(m, &desc);
    if (acpi_loader_build(&desc, &l))
        return err_set(e, ENOMEM, "out of memory");
    rc = fw_cfg_add_file(m->fw_cfg, ACPI_LOADER_SCRIPT, l.script.data, l.script.len, e);
    if (!rc)
        rc = fw_cfg_add_file(m->fw_cfg, ACPI_LOADER_TABLES, l.tables.data, l.tables.len, e);
    if (!rc)
        rc = fw_cfg_add_file(m->fw_cfg, ACPI_LOADER_RSDP, l.rsdp.data, l.rsdp.len, e);
    acpi_loader_free(&l);
    return rc;
}

static void pc_refresh_acpi(void *opaque)
{
    struct machine *m = opaque;
    struct err e = { 0 };

    if (pc_put_acpi_files(m, &e))
        log_error("firmware", "the ACPI tables are out of date: %s", e.msg);
}

static int pc_put_fw_acpi(struct machine *m, struct err *e)
{
    int rc = pc_put_acpi_files(m, e);

    if (!rc)
        fw_cfg_refresh_file(m->fw_cfg, ACPI_LOADER_TABLES, pc_refresh_acpi, m);
    return rc;
}

/* The entry point is a file of its own; firmware puts the address in. */
static int pc_put_fw_smbios(struct machine *m, struct err *e)
{
    struct smbios_tables t;
    int rc = pc_smbios(m, 0, &t, e);

    if (rc)
        return rc;
    rc = fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-anchor", t.data, PC_SMBIOS_ENTRY, e);
    if (!rc)
        rc = fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-tables", t.data + PC_SMBIOS_ENTRY,
                             t.len - PC_SMBIOS_ENTRY, e);
    free(t.data);
    return rc;
}

/* --- boot order and settings --- */

static int pc_put_int(struct machine *m, const char *name, uint64_t val, size_t len, struct err *e)
{
    uint8_t bytes[8];

    st_le64(bytes, val);
    return fw_cfg_add_file(m->fw_cfg, name, bytes, len, e);
}

/* Open Firmware paths of the devices that a letter of --boot order stands for, a line each. */
static size_t pc_boot_paths(const struct machine *m, char letter, char *to, size_t room)
{
    size_t len = 0;

    if (letter == 'n' && m->net_slot)
        len = (size_t)snprintf(to, room, "/pci@i0cf8/ethernet@%x/ethernet-phy@0\n", m->net_slot);
    for (unsigned i = 0; i < m->vm->cfg->n_disks && len < room; i++) {
        const struct config_disk *d = &m->vm->cfg->disk[i];

        if (letter == (d->cdrom ? 'd' : config_disk_is_hard(d) ? 'c' : 'a'))
            len += (size_t)snprintf(to + len, room - len, "%s\n", m->disk_path[i]);
    }
    return min_u64(len, room);
}

static int pc_put_boot_order(struct machine *m, struct err *e)
{
    const char *letters = m->vm->cfg->boot_order ? m->vm->cfg->boot_order : "cadn";
    char paths[PC_BOOT_ORDER_MAX] = "";
    size_t len = 0;

    for (; *letters; letters++)
        len += pc_boot_paths(m, *letters, paths + len, sizeof(paths) - 1 - len);
    return len ? fw_cfg_add_file(m->fw_cfg, "bootorder", paths, len + 1, e) : 0;
}

/*
 * Sleep states: a byte each for S0 to S5: bit 7 says that there is one, the rest is its SLP_TYP. A boot that
 * fails says so and stays there.
 */
static int pc_put_settings(struct machine *m, struct err *e)
{
    static const uint8_t sleep[6] = { 0x80, 0, 0, 0x80 | PC_S3_TYPE, 0, 0x80 | PC_S5_TYPE };
    const struct vm_config *cfg = m->vm->cfg;
    uint16_t menu = cfg->boot_menu;
    uint8_t uuid[16];
    int rc;

    pc_uuid(cfg, uuid);
    rc = fw_cfg_add_key(m->fw_cfg, FW_CFG_UUID, uuid, sizeof(uuid), e);
    if (!rc)
        rc = fw_cfg_add_key(m->fw_cfg, FW_CFG_BOOT_MENU, &menu, sizeof(menu), e);
    if (!rc)
        rc = fw_cfg_add_file(m->fw_cfg, "etc/system-states", sleep, sizeof(sleep), e);
    if (!rc)
        rc = pc_put_int(m, "etc/boot-fail-wait", PC_BOOT_FOREVER, 4, e);
    if (!rc && strcmp(cfg->serial, "none")) /* SeaBIOS shows its text screen there, too */
        rc = pc_put_int(m, "etc/sercon-port", PC_COM1, 2, e);
    return rc;
}

/* --- the image and its variables --- */

/* Without a file the variables start empty and are forgotten. */
static int pc_put_vars(struct machine *m, struct firmware *f, struct err *e)
{
    const char *path = m->vm->cfg->uefi_vars;
    int fd = -1, rc;

    if (!f->vars)
        return 0;
    pc_listen_to_uefi(m);
    if (path) {
        fd = pflash_file_open(path, f->vars, f->vars_len, e);
        if (fd < 0)
            return fd;
        log_info("firmware", "UEFI variables are kept in %s", path);
    } else {
        log_info("firmware",
                 "UEFI variables are forgotten at the end: --name or --uefi-vars keeps them");
    }
    rc = pc_create_vars(m, f->vars, f->vars_len, fd, e);
    if (rc)
        util_close(&fd);
    return rc;
}

static int pc_put_image(struct machine *m, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct firmware f;
    struct stat st;
    uint64_t vars_len = cfg->uefi_vars && !stat(cfg->uefi_vars, &st) ? (uint64_t)st.st_size : 0;
    const char *which = strcmp(cfg->firmware, "auto") ? cfg->firmware
                        : m->uefi_disk                ? "uefi"
                                                      : "bios";
    int rc = firmware_load(&f, which, vars_len, e);

    if (rc)
        return rc;
    rc = pc_create_rom(m, f.code, f.code_len, e);
    if (!rc)
        rc = pc_put_vars(m, &f, e);
    firmware_free(&f);
    return rc;
}

int pc_create_firmware(struct machine *m, struct err *e)
{
    int rc = pc_put_image(m, e);

    if (!rc)
        rc = pc_put_e820(m, e);
    if (!rc)
        rc = pc_put_fw_acpi(m, e);
    if (!rc)
        rc = pc_put_fw_smbios(m, e);
    if (!rc)
        rc = pc_put_boot_order(m, e);
    return rc ? rc : pc_put_settings(m, e);
}
