/*
 * bt_access.h: the soft TLB's fast path: an access of 64-bit code that hits is one compare and one host
 * access, so that aligned guest accesses are as atomic as the host's own. Everything else (other modes,
 * misses, MMIO, page crossings, pages with code) takes the slow path.
 *
 * An operation ends in a sibling call, which the compiler makes only if no pointer to its locals is about:
 * out-parameters are for inline functions, which have locals of their own for what they call.
 *
 * vCPU thread. Those that return int return 0 or BT_FAULT.
 */
#ifndef ACCEL_BT_BT_ACCESS_H
#define ACCEL_BT_BT_ACCESS_H

#include "accel/bt/bt.h"

enum { BT_LINE = 64 }; /* bytes of a cache line */

/* Guest data: any alignment, one host access each, never merged or torn by the compiler. */
typedef volatile uint8_t bt_mem_u8;
typedef volatile uint16_t bt_mem_u16 __attribute__((aligned(1)));
typedef volatile uint32_t bt_mem_u32 __attribute__((aligned(1)));
typedef volatile uint64_t bt_mem_u64 __attribute__((aligned(1)));

/*
 * What vCPUs do to each other's memory is the guest's affair: ThreadSanitizer does not look here, so that
 * what it reports are races of ours.
 */
#define BT_RAM_DEFINE(bits)                                                                        \
    static inline __attribute__((no_sanitize("thread")))                                           \
    uint##bits##_t bt_ram_load##bits(const void *p)                                                \
    {                                                                                              \
        return *(const bt_mem_u##bits *)p;                                                         \
    }                                                                                              \
    static inline __attribute__((no_sanitize("thread"))) void bt_ram_store##bits(                  \
        void *p, uint##bits##_t val)                                                               \
    {                                                                                              \
        *(bt_mem_u##bits *)p = val;                                                                \
    }

BT_RAM_DEFINE(8)
BT_RAM_DEFINE(16)
BT_RAM_DEFINE(32)
BT_RAM_DEFINE(64)
#undef BT_RAM_DEFINE

/* The same for many bytes, copied from or to guest RAM, and compared with it. */
static inline void bt_ram_copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline bool bt_ram_equal(const uint8_t *bytes, const uint8_t *ram, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (bytes[i] != bt_ram_load8(ram + i))
            return false;
    return true;
}

/* Slow paths of bt_access.c, any mode and size 1, 2, 4, 8. */
int bt_load_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *val);
int bt_store_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t val);
/*
 * Read-modify-write of in's memory operand: a pointer to guest RAM, or to c->bounce with the value read
 * (MMIO or a page crossing) that bt_rmw_end_slow() writes back. NULL: a fault.
 */
void *bt_rmw_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size);
int bt_rmw_end_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size);
/*
 * As bt_rmw_slow(), for LOCKed operations (bt_split.c): bounced too where they cross a cache line, and a
 * bounced one holds the VM-wide lock until its end. The end may ask for the instruction to run again, so
 * nothing of it is committed before.
 */
void *bt_lock_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size);
int bt_lock_end_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size);

/* Does an access cross a cache line? Host and guest addresses agree in this. */
static inline bool bt_splits(uint64_t addr, unsigned size)
{
    return addr % BT_LINE + size > BT_LINE;
}

static inline struct bt_tlb_entry *bt_tlb_slot(const struct bt_cpu *c, uint64_t lin)
{
    return &c->tlb[(size_t)c->mmu * BT_TLB_SIZE + ((lin >> PAGE_SHIFT) & (BT_TLB_SIZE - 1))];
}

/*
 * The page of the access's last byte is compared with the slot of its first byte: equal only if both lie in
 * the page that the slot holds.
 */
static inline bool bt_tlb_hit(uint64_t tag, uint64_t lin, unsigned size)
{
    return likely(((lin + size - 1) & PAGE_MASK) == tag);
}

/* Linear address of the memory operand of an instruction with 64-bit addressing (asize 8: 64-bit code). */
static inline uint64_t bt_lin64(const struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t a = (uint64_t)(int64_t)in->disp;

    if (likely(in->base < BT_REG_NONE))
        a += c->s.gpr[in->base];
    else if (in->base == BT_REG_RIP)
        a += bt_rip(c, in) + in->len;
    if (in->index < BT_REG_NONE)
        a += c->s.gpr[in->index] * in->scale;
    if (in->seg >= X86_FS)
        a += c->s.seg[in->seg].base;
    return a;
}

#define BT_ACCESS_DEFINE(bits)                                                                     \
    /* At a linear address of 64-bit code; seg names the fault (#SS or #GP) */                     \
    static inline int bt_load_lin##bits(struct bt_cpu *c, unsigned seg, uint64_t lin,              \
                                        uint##bits##_t *val)                                       \
    {                                                                                              \
        struct bt_tlb_entry *e = bt_tlb_slot(c, lin);                                              \
        uint64_t v;                                                                                \
        int r;                                                                                     \
                                                                                                   \
        if (bt_tlb_hit(e->tag_r, lin, bits / 8)) {                                                 \
            *val = bt_ram_load##bits((const void *)(uintptr_t)bt_tlb_hva(e, lin));                 \
            return 0;                                                                              \
        }                                                                                          \
        r = bt_read(c, seg, lin, bits / 8, &v);                                                    \
        if (!r)                                                                                    \
            *val = (uint##bits##_t)v;                                                              \
        return r;                                                                                  \
    }                                                                                              \
    static inline int bt_store_lin##bits(struct bt_cpu *c, unsigned seg, uint64_t lin,             \
                                         uint##bits##_t val)                                       \
    {                                                                                              \
        struct bt_tlb_entry *e = bt_tlb_slot(c, lin);                                              \
                                                                                                   \
        if (bt_tlb_hit(e->tag_w, lin, bits / 8)) {                                                 \
            bt_ram_store##bits((void *)(uintptr_t)bt_tlb_hva(e, lin), val);                        \
            return 0;                                                                              \
        }                                                                                          \
        return bt_write(c, seg, lin, bits / 8, val);                                               \
    }                                                                                              \
    /* The instruction's memory operand */                                                         \
    static inline int bt_load##bits(struct bt_cpu *c, const struct bt_insn *in,                    \
                                    uint##bits##_t *val)                                           \
    {                                                                                              \
        uint64_t v;                                                                                \
        int r;                                                                                     \
                                                                                                   \
        if (likely(in->asize == 8)) {                                                              \
            uint64_t lin = bt_lin64(c, in);                                                        \
            struct bt_tlb_entry *e = bt_tlb_slot(c, lin);                                          \
                                                                                                   \
            if (bt_tlb_hit(e->tag_r, lin, bits / 8)) {                                             \
                *val = bt_ram_load##bits((const void *)(uintptr_t)bt_tlb_hva(e, lin));             \
                return 0;                                                                          \
            }                                                                                      \
        }                                                                                          \
        r = bt_load_slow(c, in, bits / 8, &v);                                                     \
        *val = (uint##bits##_t)v;                                                                  \
        return r;                                                                                  \
    }                                                                                              \
    static inline int bt_store##bits(struct bt_cpu *c, const struct bt_insn *in,                   \
                                     uint##bits##_t val)                                           \
    {                                                                                              \
        if (likely(in->asize == 8)) {                                                              \
            uint64_t lin = bt_lin64(c, in);                                                        \
            struct bt_tlb_entry *e = bt_tlb_slot(c, lin);                                          \
                                                                                                   \
            if (bt_tlb_hit(e->tag_w, lin, bits / 8)) {                                             \
                bt_ram_store##bits((void *)(uintptr_t)bt_tlb_hva(e, lin), val);                    \
                return 0;                                                                          \
            }                                                                                      \
        }                                                                                          \
        return bt_store_slow(c, in, bits / 8, val);                                                \
    }

BT_ACCESS_DEFINE(8)
BT_ACCESS_DEFINE(16)
BT_ACCESS_DEFINE(32)
BT_ACCESS_DEFINE(64)
#undef BT_ACCESS_DEFINE

static inline void *bt_rmw(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    if (likely(in->asize == 8)) {
        uint64_t lin = bt_lin64(c, in);
        struct bt_tlb_entry *e = bt_tlb_slot(c, lin);

        if (bt_tlb_hit(e->tag_w, lin, size))
            return (void *)(uintptr_t)bt_tlb_hva(e, lin);
    }
    return bt_rmw_slow(c, in, size);
}

static inline int bt_rmw_end(struct bt_cpu *c, const struct bt_insn *in, unsigned size, void *p)
{
    return likely(p != c->bounce) ? 0 : bt_rmw_end_slow(c, in, size);
}

static inline void *bt_lock(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    if (likely(in->asize == 8)) {
        uint64_t lin = bt_lin64(c, in);
        struct bt_tlb_entry *e = bt_tlb_slot(c, lin);

        if (bt_tlb_hit(e->tag_w, lin, size) && likely(!bt_splits(lin, size)))
            return (void *)(uintptr_t)bt_tlb_hva(e, lin);
    }
    return bt_lock_slow(c, in, size);
}

static inline int bt_lock_end(struct bt_cpu *c, const struct bt_insn *in, unsigned size, void *p)
{
    return likely(p != c->bounce) ? 0 : bt_lock_end_slow(c, in, size);
}

/* LOCK CMPXCHG on guest memory, any alignment: true, or *old is what is there. */
#define BT_CAS_DEFINE(bits, sfx)                                                                   \
    static inline bool bt_cas##bits(void *p, uint##bits##_t *old, uint##bits##_t new)              \
    {                                                                                              \
        bool equal;                                                                                \
                                                                                                   \
        __asm__ volatile("lock cmpxchg" sfx " %3, %1"                                              \
                         : "=@ccz"(equal), "+m"(*(bt_mem_u##bits *)p), "+a"(*old)                  \
                         : "r"(new)                                                                \
                         : "memory");                                                              \
        return equal;                                                                              \
    }

BT_CAS_DEFINE(16, "w")
BT_CAS_DEFINE(32, "l")
BT_CAS_DEFINE(64, "q")
#undef BT_CAS_DEFINE

#endif
