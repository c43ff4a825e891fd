/*
 * pvh.h: ELF kernels with a PVH entry note (Xen's docs/misc/pvh.pandoc): Linux, FreeBSD, NetBSD and most
 * unikernels. Single thread.
 */
#ifndef BOOT_PVH_H
#define BOOT_PVH_H

#include "boot/elf.h"

/* Has it XEN_ELFNOTE_PHYS32_ENTRY? *entry: the physical address. */
bool pvh_is(const struct elf_image *elf, uint64_t *entry);
/* Loads everything and sets *s to start at entry. 0, or -errno with a sentence. */
must_check int pvh_boot(const struct boot_params *p, const struct elf_image *elf, uint64_t entry,
                        struct x86_state *s, struct err *e);

#endif
