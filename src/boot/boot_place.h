/*
 * boot_place.h: where things go in guest RAM, and the processor states that the boot protocols want.
 *
 *   0x00000  GDT: null, null, 0x10 code, 0x18 data
 *   0x01000  boot_params (zero page), hvm_start_info or multiboot information
 *   0x02000  its memory map and module list
 *   0x03000  PML4, PDPT, four page directories: 4 GiB identity-mapped by 2 MiB pages
 *   0x1f000  command line, 64 KiB
 *
 * These are offsets in the boot area, which lies below 1 MiB where the kernel leaves room: at 0x1000,
 * or else as low as possible. initrds stay above 1 MiB. Single thread.
 */
#ifndef BOOT_BOOT_PLACE_H
#define BOOT_BOOT_PLACE_H

#include "boot/boot.h"
#include "boot/boot_file.h"

enum {
    PLACE_GDT = 0,
    PLACE_INFO = 0x1000,
    PLACE_INFO_SIZE = 0x1000,
    PLACE_TABLES = 0x2000,
    PLACE_TABLES_SIZE = 0x1000,
    PLACE_PML4 = 0x3000,
    PLACE_PDPT = 0x4000,
    PLACE_PD = 0x5000,
    PLACE_CMDLINE = 0x1f000,
    PLACE_CMDLINE_SIZE = 0x10000,
    PLACE_AREA_SIZE = 0x2f000,
    PLACE_LOW_END = 0x100000, /* of the memory that the boot area may lie in */
};

/* The boot area, and the pages below PLACE_LOW_END that the kernel has. */
struct boot_place {
    uint64_t base;
    uint64_t taken[PLACE_LOW_END / PAGE_SIZE / 64];
};

/* Is there RAM for the boot area? Starts *p->place. 0, or -errno with a sentence. */
must_check int boot_place_init(const struct boot_params *p, struct err *e);
/* Where the structure at this offset of the boot area is; after the last boot_place_check(). */
uint64_t boot_place_at(const struct boot_params *p, uint64_t off);
/*
 * [gpa, gpa+len) is for the kernel's `what`: it must be in one range of RAM; the boot area makes way.
 * 0, or -errno with a sentence.
 */
must_check int boot_place_check(const struct boot_params *p, uint64_t gpa, uint64_t len,
                                const char *what, struct err *e);
/* Copies into RAM that boot_place_check() has found good, or into the boot area. */
void boot_place_copy(const struct boot_params *p, uint64_t gpa, const void *data, uint64_t len);
void boot_place_zero(const struct boot_params *p, uint64_t gpa, uint64_t len);

/* A file in guest RAM. */
struct boot_blob {
    uint64_t gpa, len; /* len 0: none */
};
/*
 * The initrd, if there is one, page aligned in [floor, ceiling): as high as possible, or (low) as low
 * as possible. 0, or -errno with a sentence.
 */
must_check int boot_place_initrd(const struct boot_params *p, uint64_t floor, uint64_t ceiling,
                                 bool low, struct boot_blob *blob, struct err *e);
/* "prefix append" with its NUL to PLACE_CMDLINE; max: the longest the kernel takes. */
must_check int boot_place_cmdline(const struct boot_params *p, const char *prefix, uint64_t max,
                                  struct err *e);
/* Conventional memory below 1 MiB and RAM from 1 MiB up, in KiB, as old protocols want them. */
uint32_t boot_place_lower_kib(const struct boot_params *p);
uint32_t boot_place_upper_kib(const struct boot_params *p);

/* Writes GDT (and page tables) and sets *s to start at rip: flat segments, interrupts off. */
void boot_place_enter64(const struct boot_params *p, struct x86_state *s, uint64_t rip);
void boot_place_enter32(const struct boot_params *p, struct x86_state *s, uint32_t rip);
/* The same with the selectors 8 and 0x10: not promised, but kernels take interrupts before they load their own. */
void boot_place_multiboot(const struct boot_params *p, struct x86_state *s, uint32_t rip);

#endif
