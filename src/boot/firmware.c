/*
 * firmware.c: see firmware.h. Where distributions put the images; the first that exists is taken.
 */
#include "boot/firmware.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    rc = firmware_read(p->code, &f->code, &f->code_len, PAGE_SIZE, e);
    if (!rc && f->code_len < FIRMWARE_MIN)
        rc = err_set(e, EINVAL, "the firmware '%s' is shorter than 64 KiB", p->code);
    if (!rc && p->vars)
        rc = firmware_read(p->vars, &f->vars, &f->vars_len, PAGE_SIZE, e);
    if (rc)
        firmware_free(f);
    return rc;
}

int firmware_load_rom(const char *name, uint8_t **data, uint32_t *len, struct err *e)
{
    enum { ROM_UNIT = 512 };
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

void firmware_free(struct firmware *f)
{
    free(f->code);
    free(f->vars);
    *f = (struct firmware){ 0 };
}
