/*
 * firmware.c: see firmware.h. Where distributions put the images; the first that exists is taken.
 */
#include "boot/firmware.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/log.h"
#include "boot/boot_file.h"

struct firmware_place {
    const char *code, *vars;
};
static const struct firmware_place firmware_bios[] = {
    { "/usr/share/seabios/bios-256k.bin", NULL },
    { "/usr/share/qemu/bios-256k.bin", NULL },
    { "/usr/share/seabios/bios.bin", NULL },
};
static const struct firmware_place firmware_uefi[] = {
    { "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },
    { "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd" },
    { "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" },
};

static int firmware_read(const char *path, uint8_t **data, uint64_t *len, unsigned unit,
                         struct err *e)
{
    struct boot_file f;
    int rc = boot_file_open(&f, path, "firmware", e);

    if (rc)
        return rc;
    *data = NULL;
    *len = f.len;
    if (f.len % unit || f.len > FIRMWARE_MAX)
        rc = err_set(
            e, EINVAL,
            "the firmware '%s' has %llu bytes: an image has a multiple of %u, and at most %d MiB",
            path, (unsigned long long)f.len, unit, FIRMWARE_MAX / MIB);
    else if (!(*data = malloc(f.len)))
        rc = err_set(e, ENOMEM, "out of memory");
    else
        rc = boot_file_read(&f, 0, *data, f.len, e);
    boot_file_close(&f);
    if (rc) {
        free(*data);
        *data = NULL;
    }
    return rc;
}

static bool firmware_fits(const struct firmware_place *p, uint64_t vars_len)
{
    struct stat st;

    if (access(p->code, F_OK))
        return false;
    if (!p->vars)
        return true;
    return !stat(p->vars, &st) && (!vars_len || vars_len == (uint64_t)st.st_size);
}

static const struct firmware_place *firmware_find(const struct firmware_place *list, size_t n,
                                                  uint64_t vars_len)
{
    for (size_t i = 0; i < n; i++)
        if (firmware_fits(&list[i], vars_len))
            return &list[i];
    return NULL;
}

static int firmware_missing(bool uefi, bool installed, struct err *e)
{
    if (installed)
        return err_set(
            e, EINVAL,
            "the UEFI variable store has a size for which there is no firmware here: was "
            "it made for another one? A file that does not exist yet is made anew");
    return err_set(e, ENOENT, "the %s firmware is not installed: install the package %s",
                   uefi ? "UEFI" : "BIOS", uefi ? "ovmf" : "seabios");
}

/*
 * Builds of OVMF whose variables are guarded by System Management Mode stop in an endless loop without a word on a
 * machine that has none. All distributions tell them by their names; links are often not called so.
 */
static int firmware_check_smm(const char *path, struct err *e)
{
    static const char *const marks[] = { ".secboot.", "-smm-" };
    char *real = realpath(path, NULL);
    const char *name = real ? strrchr(real, '/') : NULL;
    bool smm = false;

    for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
        smm |= name && strstr(name, marks[i]);
    free(real);
    return smm ? err_set(e, ENOTSUP,
                         "the firmware '%s' is built for Secure Boot with System Management Mode, "
                         "which this "
                         "machine does not have, and would not start: use --firmware uefi (without "
                         "Secure Boot)",
                         path)
               : 0;
}

int firmware_load(struct firmware *f, const char *which, uint64_t vars_len, struct err *e)
{
    bool uefi = !strcmp(which, "uefi");
    const struct firmware_place file = { which, NULL }, *p = &file;
    int rc;

    *f = (struct firmware){ 0 };
    if (uefi)
        p = firmware_find(firmware_uefi, ARRAY_SIZE(firmware_uefi), vars_len);
    else if (!strcmp(which, "bios"))
        p = firmware_find(firmware_bios, ARRAY_SIZE(firmware_bios), 0);
    if (!p)
        return firmware_missing(
            uefi, uefi && firmware_find(firmware_uefi, ARRAY_SIZE(firmware_uefi), 0), e);
    rc = firmware_check_smm(p->code, e);
    if (!rc)
        rc = firmware_read(p->code, &f->code, &f->code_len, PAGE_SIZE, e);
    if (!rc && f->code_len < FIRMWARE_MIN)
        rc = err_set(e, EINVAL, "the firmware '%s' is shorter than 64 KiB", p->code);
    if (!rc && p->vars)
        rc = firmware_read(p->vars, &f->vars, &f->vars_len, PAGE_SIZE, e);
    if (rc)
        firmware_free(f);
    return rc;
}

enum { ROM_UNIT = 512 };

int firmware_load_rom(const char *name, uint8_t **data, uint32_t *len, struct err *e)
{
    char path[128];
    uint64_t bytes;
    int rc;

    snprintf(path, sizeof(path), "/usr/share/seabios/%s", name);
    if (access(path, F_OK))
        return firmware_missing(false, false, e);
    rc = firmware_read(path, data, &bytes, ROM_UNIT, e);
    *len = rc ? 0 : (uint32_t)bytes;
    return rc;
}

/* Known by its second character, the smiling face; the first is blank. */
const uint8_t *firmware_find_font(const uint8_t *rom, uint32_t len)
{
    static const uint8_t first[32] = { [18] = 0x7e, 0x81, 0xa5, 0x81, 0x81,
                                       0xbd,        0x99, 0x81, 0x81, 0x7e };

    for (uint32_t at = 0; at + FIRMWARE_FONT_LEN <= len; at++)
        if (!memcmp(rom + at, first, sizeof(first)))
            return rom + at;
    return NULL;
}

void firmware_load_net_rom(const char *name, uint8_t **data, uint32_t *len)
{
    struct err e = { 0 };
    char path[128];
    uint64_t bytes = 0;

    *data = NULL;
    snprintf(path, sizeof(path), "/usr/lib/ipxe/qemu/%s", name);
    if (firmware_read(path, data, &bytes, ROM_UNIT, &e)) {
        *data = NULL;
        log_warn("firmware", "no booting from the network, which needs the package ipxe-qemu: %s",
                 e.msg);
    }
    *len = (uint32_t)bytes;
}

/* --- what a disk wants: UEFI 2.10, 5.2.1 and 5.3 --- */

enum {
    MBR_CODE_LEN = 440,
    MBR_ENTRY = 446,
    MBR_ENTRY_LEN = 16,
    MBR_ENTRIES = 4,
    MBR_TYPE = 4, /* in an entry */
    MBR_SIGNATURE = 510,
    MBR_TYPE_GPT = 0xee,
    MBR_TYPE_ESP = 0xef,
    GPT_HEADER = 512,
    GPT_ENTRIES_LBA = 72,
    GPT_N_ENTRIES = 80,
    GPT_ENTRY_LEN = 84,
    GPT_ATTRIBUTES = 48, /* in an entry */
    GPT_LEGACY_BOOT = BIT(2),
};
static const uint8_t gpt_esp[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                     0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };
static const uint8_t gpt_bios_boot[] = "Hah!IdontNeedEFI";

static bool disk_has_mbr_type(const uint8_t *head, uint8_t type)
{
    for (unsigned i = 0; i < MBR_ENTRIES; i++)
        if (head[MBR_ENTRY + i * MBR_ENTRY_LEN + MBR_TYPE] == type)
            return true;
    return false;
}

static bool disk_has_boot_code(const uint8_t *head)
{
    for (unsigned i = 0; i < MBR_CODE_LEN; i++)
        if (head[i])
            return true;
    return false;
}

/* A boot sector's code on such a disk may be no more than a message: what counts is what it could start. */
static bool disk_gpt_is_uefi(const uint8_t *head)
{
    uint64_t at = ld_le64(head + GPT_HEADER + GPT_ENTRIES_LBA);
    uint32_t n = ld_le32(head + GPT_HEADER + GPT_N_ENTRIES);
    uint32_t len = ld_le32(head + GPT_HEADER + GPT_ENTRY_LEN);
    bool esp = false, bios = false;

    if (at > FIRMWARE_DISK_HEAD / 512 || len < GPT_ATTRIBUTES + 8 || len > 4096)
        return false;
    for (at *= 512; n-- && at + len <= FIRMWARE_DISK_HEAD; at += len) {
        esp |= !memcmp(head + at, gpt_esp, sizeof(gpt_esp));
        bios |= !memcmp(head + at, gpt_bios_boot, sizeof(gpt_esp)) ||
                (head[at + GPT_ATTRIBUTES] & GPT_LEGACY_BOOT);
    }
    return esp && !bios;
}

bool firmware_disk_is_uefi(const uint8_t head[FIRMWARE_DISK_HEAD])
{
    if (head[MBR_SIGNATURE] != 0x55 || head[MBR_SIGNATURE + 1] != 0xaa)
        return false;
    if (disk_has_mbr_type(head, MBR_TYPE_GPT) && !memcmp(head + GPT_HEADER, "EFI PART", 8))
        return disk_gpt_is_uefi(head);
    return disk_has_mbr_type(head, MBR_TYPE_ESP) && !disk_has_boot_code(head);
}

void firmware_free(struct firmware *f)
{
    free(f->code);
    free(f->vars);
    *f = (struct firmware){ 0 };
}
