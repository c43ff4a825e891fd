/*
 * multiboot.h: Multiboot 0.6.96 ("multiboot 1") kernels, as ELF or with the address fields of the header.
 * Single thread.
 */
#ifndef BOOT_MULTIBOOT_H
#define BOOT_MULTIBOOT_H

#include "boot/boot_place.h"

/* Is there a valid header in the first 8 KiB? *at: its offset. */
bool multiboot_find(const void *data, uint64_t len, uint64_t *at);
/* Loads kernel, module (the initrd) and command line; sets *s. 0, or -errno with a sentence. */
must_check int multiboot_boot(const struct boot_params *p, const uint8_t *data, uint64_t len,
                              uint64_t at, struct x86_state *s, struct err *e);

#endif
