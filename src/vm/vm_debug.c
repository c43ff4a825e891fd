/*
 * vm_debug.c: guest memory by virtual address, without side effects (no A/D bits, no faults): for error
 * messages and debuggers. SDM 3A chapter 4.
 */
#include "vm/vm.h"

#include <string.h>

#include "base/endian.h"

enum { PTE_P = BIT(0), PTE_PS = BIT(7) };
#define PTE_ADDR 0x000ffffffffff000ull

/* 4-level and PAE: entries of 8 bytes, 9 bits a level. */
static bool debug_walk_64(struct physmap *m, uint64_t table, int level, uint64_t lin, uint64_t *gpa)
{
    for (;; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        uint64_t mask = BIT64(shift) - 1;
        uint8_t raw[8];
        uint64_t pte;

        if (!guest_read(m, table + 8 * ((lin >> shift) & 511), raw, 8))
            return false;
        pte = ld_le64(raw);
        if (!(pte & PTE_P))
            return false;
        if (level == 0 || (level <= 2 && (pte & PTE_PS))) {
            *gpa = (pte & PTE_ADDR & ~mask) | (lin & mask);
            return true;
        }
        table = pte & PTE_ADDR;
    }
}

/* 32-bit paging: entries of 4 bytes, 10 bits a level. */
static bool debug_walk_32(struct physmap *m, const struct x86_state *s, uint64_t lin, uint64_t *gpa)
{
    uint8_t raw[4];
    uint32_t pte;

    if (!guest_read(m, (s->cr3 & ~0xfffull) + 4 * ((lin >> 22) & 1023), raw, 4))
        return false;
    pte = ld_le32(raw);
    if (!(pte & PTE_P))
        return false;
    if ((pte & PTE_PS) && (s->cr4 & CR4_PSE)) {
        *gpa = (pte & 0xffc00000u) | (uint64_t)(pte >> 13 & 0xff) << 32 | (lin & 0x3fffff);
        return true;
    }
    if (!guest_read(m, (pte & ~0xfffu) + 4 * ((lin >> 12) & 1023), raw, 4))
        return false;
    pte = ld_le32(raw);
    *gpa = (pte & ~0xfffu) | (lin & 0xfff);
    return pte & PTE_P;
}

bool vm_translate(struct vm *vm, const struct x86_state *s, uint64_t lin, uint64_t *gpa)
{
    struct physmap *m = &vm->mem;
    uint8_t raw[8];

    if (!(s->cr0 & CR0_PG)) {
        *gpa = (uint32_t)lin;
        return true;
    }
    if (x86_long_mode(s))
        return debug_walk_64(m, s->cr3 & PTE_ADDR, s->cr4 & CR4_LA57 ? 4 : 3, lin, gpa);
    if (!(s->cr4 & CR4_PAE))
        return debug_walk_32(m, s, (uint32_t)lin, gpa);
    if (!guest_read(m, (s->cr3 & ~31ull) + 8 * ((uint32_t)lin >> 30), raw, 8))
        return false;
    return (raw[0] & PTE_P) && debug_walk_64(m, ld_le64(raw) & PTE_ADDR, 1, (uint32_t)lin, gpa);
}

bool vm_read_virtual(struct vm *vm, const struct x86_state *s, uint64_t lin, void *buf, size_t len)
{
    uint8_t *to = buf;

    while (len) {
        size_t n = (size_t)min_u64(len, PAGE_SIZE - (lin & ~PAGE_MASK));
        uint64_t gpa;

        if (!vm_translate(vm, s, lin, &gpa) || !guest_read(&vm->mem, gpa, to, n))
            return false;
        to += n;
        lin += n;
        len -= n;
    }
    return true;
}

bool vm_write_virtual(struct vm *vm, const struct x86_state *s, uint64_t lin, const void *buf,
                      size_t len)
{
    const uint8_t *from = buf;

    while (len) {
        size_t n = (size_t)min_u64(len, PAGE_SIZE - (lin & ~PAGE_MASK));
        uint64_t gpa;

        if (!vm_translate(vm, s, lin, &gpa) || !guest_write(&vm->mem, gpa, from, n))
            return false;
        from += n;
        lin += n;
        len -= n;
    }
    return true;
}
