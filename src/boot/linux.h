/*
 * linux.h: Linux's boot protocol: bzImage files, and vmlinux files without a PVH note. Single thread.
 */
#ifndef BOOT_LINUX_H
#define BOOT_LINUX_H

#include "boot/elf.h"

/* "HdrS" at 0x202 of a real-mode setup. */
bool linux_is_bzimage(const void *data, uint64_t len);
/* Loads kernel (data: the file), command line and initrd; sets *s. 0, or -errno with a sentence. */
must_check int linux_boot_bzimage(const struct boot_params *p, const uint8_t *data, uint64_t len,
                                  struct x86_state *s, struct err *e);
must_check int linux_boot_vmlinux(const struct boot_params *p, const struct elf_image *elf,
                                  struct x86_state *s, struct err *e);

#endif
