/*
 * firmware.h: firmware images as files: the distribution's SeaBIOS and OVMF by name, or any file. Single
 * thread, at set-up.
 */
#ifndef BOOT_FIRMWARE_H
#define BOOT_FIRMWARE_H

#include "base/err.h"

/* What lies between the top of 4 GiB and the chips below: no known image comes near it. */
enum { FIRMWARE_MIN = 64 * KIB, FIRMWARE_MAX = 8 * MIB };

struct firmware {
    uint8_t *code; /* malloc'd; ends at 4 GiB */
    uint64_t code_len;
    uint8_t
        *vars; /* malloc'd; the empty variable store that belongs to it, right below; NULL: none */
    uint64_t vars_len;
};

/*
 * which: "bios", "uefi" or a file. vars_len: size of a variable store that exists already, so that the code
 * that fits is taken; 0: any. 0, or -errno with a sentence that names the missing package.
 */
must_check int firmware_load(struct firmware *f, const char *which, uint64_t vars_len,
                             struct err *e);
/*
 * An option ROM of the package seabios by its file name ("vgabios-stdvga.bin"), malloc'd: for the expansion
 * ROM of a PCI function, or as a file genroms/NAME or vgaroms/NAME of fw_cfg.
 */
must_check int firmware_load_rom(const char *name, uint8_t **data, uint32_t *len, struct err *e);
enum { FIRMWARE_FONT_LEN = 256 * 16 };
/* The characters of 8 by 16 pixels in a VGA BIOS; NULL: they are not found. They belong to the ROM. */
const uint8_t *firmware_find_font(const uint8_t *rom, uint32_t len);
/*
 * An option ROM of the package ipxe-qemu, for booting from the network by BIOS and UEFI, malloc'd. If it is not there
 * a line in the log says so, and *data is NULL.
 */
void firmware_load_net_rom(const char *name, uint8_t **data, uint32_t *len);
/*
 * Does a disk that begins with these FIRMWARE_DISK_HEAD bytes boot by UEFI alone: an EFI system partition,
 * and neither a boot sector's code (MBR) nor a partition for a BIOS boot loader (GPT)?
 */
enum { FIRMWARE_DISK_HEAD = 34 * 512 };
bool firmware_disk_is_uefi(const uint8_t head[FIRMWARE_DISK_HEAD]);
void firmware_free(struct firmware *f);

#endif
