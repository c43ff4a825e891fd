/*
 * elf.h: ELF executables as kernels: 32- and 64-bit x86, little-endian, loaded by physical address.
 * Every number of the file is checked before it is used. Single thread.
 */
#ifndef BOOT_ELF_H
#define BOOT_ELF_H

#include "boot/boot_place.h"

enum { ELF_MAX_PHDR = 64 };

struct elf_segment {
    uint32_t type; /* PT_* */
    uint64_t off, file_len, mem_len, vaddr, paddr;
    uint64_t align;
};
struct elf_image {
    const uint8_t *data; /* the caller's */
    uint64_t len;
    bool is64;
    uint64_t entry; /* as in the header */
    unsigned n;
    struct elf_segment seg[ELF_MAX_PHDR]; /* PT_LOAD and PT_NOTE with contents inside the file */
};

bool elf_is(const void *data, uint64_t len);
/* p->kernel names the file in sentences. 0, or -errno with a sentence. */
must_check int elf_parse(struct elf_image *elf, const void *data, uint64_t len,
                         const struct boot_params *p, struct err *e);
/* Copies the PT_LOAD segments. *end: first address after them. */
must_check int elf_load(const struct elf_image *elf, const struct boot_params *p, uint64_t *end,
                        struct err *e);
/* The entry as a physical address: taken for one if it lies in a segment, else translated. */
must_check int elf_entry(const struct elf_image *elf, const struct boot_params *p, uint64_t *entry,
                         struct err *e);
/* The descriptor (4 or 8 bytes as a number) of note `type` of `owner`; false: there is none. */
bool elf_note(const struct elf_image *elf, const char *owner, uint32_t type, uint64_t *value);

#endif
