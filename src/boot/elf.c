/*
 * elf.c: System V ABI, chapters 4 and 5, as far as a boot loader needs it. Relocatable files, dynamic
 * linking and sections are not.
 */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/endian.h"

bool elf_is(const void *data, uint64_t len)
{
    return len >= EI_NIDENT && !memcmp(data, ELFMAG, SELFMAG);
}

static int elf_bad(const struct boot_params *p, const char *why, struct err *e)
{
    return err_set(e, EINVAL, "the kernel '%s' is a damaged or unsuitable ELF file: %s", p->kernel,
                   why);
}

static void elf_segment_read(const struct elf_image *elf, uint64_t at, struct elf_segment *s)
{
    if (elf->is64) {
        Elf64_Phdr ph;

        memcpy(&ph, elf->data + at, sizeof(ph));
        *s = (struct elf_segment){ ph.p_type,  ph.p_offset, ph.p_filesz, ph.p_memsz,
                                   ph.p_vaddr, ph.p_paddr,  ph.p_align };
    } else {
        Elf32_Phdr ph;

        memcpy(&ph, elf->data + at, sizeof(ph));
        *s = (struct elf_segment){ ph.p_type,  ph.p_offset, ph.p_filesz, ph.p_memsz,
                                   ph.p_vaddr, ph.p_paddr,  ph.p_align };
    }
}

static int elf_segments(struct elf_image *elf, uint64_t phoff, unsigned phnum, unsigned phentsize,
                        const struct boot_params *p, struct err *e)
{
    uint64_t min = elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

    if (phentsize < min || phoff > elf->len || (elf->len - phoff) / phentsize < phnum)
        return elf_bad(p, "its program headers lie outside the file (is it cut short?)", e);
    for (unsigned i = 0; i < phnum; i++) {
        struct elf_segment s;

        elf_segment_read(elf, phoff + (uint64_t)i * phentsize, &s);
        if (s.type == PT_INTERP)
            return elf_bad(p, "it is a program for an operating system, not a kernel", e);
        if (s.type != PT_LOAD && s.type != PT_NOTE)
            continue;
        if (s.off > elf->len || s.file_len > elf->len - s.off)
            return elf_bad(p, "a segment lies outside the file (is it cut short?)", e);
        if (s.type == PT_LOAD && s.file_len > s.mem_len)
            return elf_bad(p, "a segment is larger in the file than in memory", e);
        if (elf->n == ELF_MAX_PHDR)
            return elf_bad(p, "it has too many segments", e);
        elf->seg[elf->n++] = s;
    }
    return 0;
}

int elf_parse(struct elf_image *elf, const void *data, uint64_t len, const struct boot_params *p,
              struct err *e)
{
    Elf64_Ehdr h64;
    Elf32_Ehdr h32;

    *elf = (struct elf_image){ .data = data, .len = len };
    if (len < sizeof(h64))
        return elf_bad(p, "it is cut short", e);
    memcpy(&h64, data, sizeof(h64));
    memcpy(&h32, data, sizeof(h32));
    elf->is64 = h64.e_ident[EI_CLASS] == ELFCLASS64;
    if (!elf->is64 && h64.e_ident[EI_CLASS] != ELFCLASS32)
        return elf_bad(p, "it is neither of 32 nor of 64 bits", e);
    /* The machine and type fields have the same place in both classes. */
    if (h64.e_ident[EI_DATA] != ELFDATA2LSB ||
        (h64.e_machine != EM_X86_64 && h64.e_machine != EM_386))
        return elf_bad(p, "it is for another processor than x86", e);
    if (h64.e_type != ET_EXEC)
        return elf_bad(p, "it is not an executable with fixed addresses", e);
    elf->entry = elf->is64 ? h64.e_entry : h32.e_entry;
    if (elf->is64)
        return elf_segments(elf, h64.e_phoff, h64.e_phnum, h64.e_phentsize, p, e);
    return elf_segments(elf, h32.e_phoff, h32.e_phnum, h32.e_phentsize, p, e);
}

int elf_load(const struct elf_image *elf, const struct boot_params *p, uint64_t *end, struct err *e)
{
    *end = 0;
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *s = &elf->seg[i];
        int ret;

        if (s->type != PT_LOAD || !s->mem_len)
            continue;
        ret = boot_place_check(p, s->paddr, s->mem_len, "segment", e);
        if (ret)
            return ret;
        *end = max_u64(*end, s->paddr + s->mem_len);
    }
    if (!*end)
        return elf_bad(p, "it has nothing to load", e);
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *s = &elf->seg[i];

        if (s->type != PT_LOAD || !s->mem_len)
            continue;
        boot_place_copy(p, s->paddr, elf->data + s->off, s->file_len);
        boot_place_zero(p, s->paddr + s->file_len, s->mem_len - s->file_len);
    }
    return 0;
}

int elf_entry(const struct elf_image *elf, const struct boot_params *p, uint64_t *entry,
              struct err *e)
{
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *s = &elf->seg[i];

        if (s->type == PT_LOAD && elf->entry - s->paddr < s->mem_len) {
            *entry = elf->entry;
            return 0;
        }
    }
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *s = &elf->seg[i];

        if (s->type == PT_LOAD && elf->entry - s->vaddr < s->mem_len) {
            *entry = elf->entry - s->vaddr + s->paddr;
            return 0;
        }
    }
    return elf_bad(p, "its entry point lies outside its segments", e);
}

/* Searches one PT_NOTE segment; name and descriptor are padded to `align`. */
static bool elf_note_in(const uint8_t *data, uint64_t len, uint64_t align, const char *owner,
                        uint32_t type, uint64_t *value)
{
    uint64_t owner_len = strlen(owner) + 1, at = 0;

    while (len - at >= 12) {
        uint64_t name_len = ld_le32(data + at), desc_len = ld_le32(data + at + 4);
        uint64_t name = at + 12, desc = align_up(name + name_len, align);
        uint64_t next = align_up(desc + desc_len, align);

        if (desc > len || desc_len > len - desc)
            return false;
        if (ld_le32(data + at + 8) == type && name_len == owner_len &&
            !memcmp(data + name, owner, owner_len) && (desc_len == 4 || desc_len == 8)) {
            *value = desc_len == 4 ? ld_le32(data + desc) : ld_le64(data + desc);
            return true;
        }
        if (next > len)
            return false;
        at = next;
    }
    return false;
}

bool elf_note(const struct elf_image *elf, const char *owner, uint32_t type, uint64_t *value)
{
    for (unsigned i = 0; i < elf->n; i++) {
        const struct elf_segment *s = &elf->seg[i];

        if (s->type == PT_NOTE &&
            elf_note_in(elf->data + s->off, s->file_len, s->align == 8 ? 8 : 4, owner, type, value))
            return true;
    }
    return false;
}
