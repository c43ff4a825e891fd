/*
 * boot.h: puts a kernel into guest RAM and says with which registers to start it: bzImage (64-bit boot
 * protocol, payload decompressed here where its format is known), ELF with PVH note, multiboot 1.
 * Kernel and initrd files are hostile bytes. Single thread, before the vCPUs run.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include "base/err.h"
#include "mem/physmap.h"
#include "x86/regs.h"

enum { BOOT_E820_MAX = 16 };
enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct boot_e820 {
    uint64_t addr, len;
    uint32_t type;
};
struct boot_params {
    const char *kernel, *initrd, *append; /* paths; initrd and append may be NULL */
    struct physmap *mem;
    struct boot_e820 e820[BOOT_E820_MAX];
    unsigned n_e820;
    uint64_t rsdp_gpa;        /* 0: none */
    bool vga_text;            /* there is a VGA, in text mode 3 */
    uint64_t initrd_max;      /* first gpa an initrd must stay below (end of low RAM) */
    struct boot_place *place; /* boot_kernel()'s own */
};

/* Loads it and sets up *s (in power-on state before) for the BSP. 0, or -errno with a sentence. */
must_check int boot_kernel(const struct boot_params *params, struct x86_state *s, struct err *e);

#endif
