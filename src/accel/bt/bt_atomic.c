/*
 * bt_atomic.c: XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. On guest RAM they are the host's own atomic
 * instructions; MMIO and what crosses a cache line go through the VM-wide lock (bt_lock()). vCPU thread.
 */
#include "accel/bt/bt_ops.h"

/* --- XCHG --- */
static int bt_xchg_r(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t a = bt_get(c, in, in->rm, in->size), b = bt_get(c, in, in->reg, in->size);

    bt_set(c, in, in->rm, in->size, b);
    bt_set(c, in, in->reg, in->size, a);
    return bt_next(c, in);
}

#define BT_ATOMIC_DEFINE(bits, sfx)                                                                  \
    /* with memory always LOCKed */                                                                  \
    static int bt_xchg##bits(struct bt_cpu *c, const struct bt_insn *in)                             \
    {                                                                                                \
        uint##bits##_t v = bt_get##bits(c, in, in->reg);                                             \
        void *p;                                                                                     \
                                                                                                     \
        p = bt_lock(c, in, bits / 8);                                                                \
        if (!p)                                                                                      \
            return bt_fault(c, in);                                                                  \
        __asm__ volatile("xchg" sfx " %0, %1" : "+q"(v), "+m"(*(bt_mem_u##bits *)p) : : "memory");   \
        if (bt_lock_end(c, in, bits / 8, p))                                                         \
            return bt_fault(c, in);                                                                  \
        bt_set##bits(c, in, in->reg, v);                                                             \
        return bt_next(c, in);                                                                       \
    }                                                                                                \
    static int bt_xadd##bits##_m(struct bt_cpu *c, const struct bt_insn *in)                         \
    {                                                                                                \
        uint##bits##_t v = bt_get##bits(c, in, in->reg);                                             \
        void *p = bt_lock(c, in, bits / 8);                                                          \
        unsigned ax;                                                                                 \
                                                                                                     \
        if (!p)                                                                                      \
            return bt_fault(c, in);                                                                  \
        __asm__ volatile("lock xadd" sfx " %0, %1" BT_SAVE_FLAGS                                     \
                         : "+q"(v), "+m"(*(bt_mem_u##bits *)p), "=&a"(ax)                            \
                         :                                                                           \
                         : "cc", "memory");                                                          \
        if (bt_lock_end(c, in, bits / 8, p))                                                         \
            return bt_fault(c, in);                                                                  \
        bt_set##bits(c, in, in->reg, v);                                                             \
        bt_set_flags(c, ax);                                                                         \
        return bt_next(c, in);                                                                       \
    }                                                                                                \
    static int bt_xadd##bits##_r(struct bt_cpu *c, const struct bt_insn *in)                         \
    {                                                                                                \
        uint##bits##_t v = bt_get##bits(c, in, in->reg), d = bt_get##bits(c, in, in->rm);            \
        unsigned ax;                                                                                 \
                                                                                                     \
        __asm__("xadd" sfx " %0, %1" BT_SAVE_FLAGS : "+q"(v), "+q"(d), "=&a"(ax) : : "cc");          \
        bt_set##bits(c, in, in->reg, v);                                                             \
        bt_set##bits(c, in, in->rm, d);                                                              \
        bt_set_flags(c, ax);                                                                         \
        return bt_next(c, in);                                                                       \
    }                                                                                                \
    /* After the comparison AX is wanted twice: its value goes to `old`, then it takes the flags. */ \
    static int bt_cmpxchg##bits##_m(struct bt_cpu *c, const struct bt_insn *in)                      \
    {                                                                                                \
        uint64_t ax = c->s.gpr[X86_RAX], new = bt_get##bits(c, in, in->reg), old;                    \
        void *p = bt_lock(c, in, bits / 8);                                                          \
                                                                                                     \
        if (!p)                                                                                      \
            return bt_fault(c, in);                                                                  \
        __asm__ volatile("lock cmpxchg" sfx " %" BT_ATOMIC_MOD##bits                                 \
                         "3, %1\n\t"                                                                 \
                         "movq %%rax, %2" BT_SAVE_FLAGS                                              \
                         : "+&a"(ax), "+m"(*(bt_mem_u##bits *)p), "=&r"(old)                         \
                         : "q"(new)                                                                  \
                         : "cc", "memory");                                                          \
        if (bt_lock_end(c, in, bits / 8, p))                                                         \
            return bt_fault(c, in);                                                                  \
        if (!(ax >> 8 & FLAG_ZF))                                                                    \
            bt_set##bits(c, in, X86_RAX, (uint##bits##_t)old);                                       \
        bt_set_flags(c, (unsigned)ax);                                                               \
        return bt_next(c, in);                                                                       \
    }                                                                                                \
    static int bt_cmpxchg##bits##_r(struct bt_cpu *c, const struct bt_insn *in)                      \
    {                                                                                                \
        uint64_t ax = c->s.gpr[X86_RAX], new = bt_get##bits(c, in, in->reg), old;                    \
        uint##bits##_t d = bt_get##bits(c, in, in->rm);                                              \
                                                                                                     \
        __asm__("cmpxchg" sfx " %" BT_ATOMIC_MOD##bits "3, %1\n\t"                                   \
                                                       "movq %%rax, %2" BT_SAVE_FLAGS                \
                : "+&a"(ax), "+q"(d), "=&r"(old)                                                     \
                : "q"(new)                                                                           \
                : "cc");                                                                             \
        if (ax >> 8 & FLAG_ZF)                                                                       \
            bt_set##bits(c, in, in->rm, d);                                                          \
        else                                                                                         \
            bt_set##bits(c, in, X86_RAX, (uint##bits##_t)old);                                       \
        bt_set_flags(c, (unsigned)ax);                                                               \
        return bt_next(c, in);                                                                       \
    }

#define BT_ATOMIC_MOD8  "b"
#define BT_ATOMIC_MOD16 "w"
#define BT_ATOMIC_MOD32 "k"
#define BT_ATOMIC_MOD64 "q"
BT_ATOMIC_DEFINE(8, "b")
BT_ATOMIC_DEFINE(16, "w")
BT_ATOMIC_DEFINE(32, "l")
BT_ATOMIC_DEFINE(64, "q")

/* --- CMPXCHG8B, CMPXCHG16B: only ZF changes --- */
static void bt_cmpxchg_pair_done(struct bt_cpu *c, bool equal, unsigned half, const uint64_t old[2])
{
    if (equal) {
        c->s.rflags |= FLAG_ZF;
        return;
    }
    c->s.rflags &= ~(uint64_t)FLAG_ZF;
    c->s.gpr[X86_RAX] = half == 4 ? (uint32_t)old[0] : old[0];
    c->s.gpr[X86_RDX] = half == 4 ? (uint32_t)old[1] : old[1];
}

static int bt_cmpxchg8b(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t old = c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];
    uint64_t new = c->s.gpr[X86_RCX] << 32 | (uint32_t)c->s.gpr[X86_RBX];
    bool equal;
    void *p;

    p = bt_lock(c, in, 8);
    if (!p)
        return bt_fault(c, in);
    equal = bt_cas64(p, &old, new);
    if (bt_lock_end(c, in, 8, p))
        return bt_fault(c, in);
    bt_cmpxchg_pair_done(c, equal, 4, (const uint64_t[2]){ (uint32_t)old, old >> 32 });
    return bt_next(c, in);
}

struct bt_pair {
    uint64_t half[2];
};

static int bt_cmpxchg16b(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t old[2] = { c->s.gpr[X86_RAX], c->s.gpr[X86_RDX] };
    uint64_t lin = bt_lin64(c, in);
    bool equal;
    void *p;

    if (lin & 15) {
        bt_raise_err(c, X86_GP, 0);
        return bt_fault(c, in);
    }
    p = bt_lock(c, in, 16);
    if (!p)
        return bt_fault(c, in);
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(equal), "+m"(*(struct bt_pair *)p), "+a"(old[0]), "+d"(old[1])
                     : "b"(c->s.gpr[X86_RBX]), "c"(c->s.gpr[X86_RCX])
                     : "memory");
    if (bt_lock_end(c, in, 16, p))
        return bt_fault(c, in);
    bt_cmpxchg_pair_done(c, equal, 8, old);
    return bt_next(c, in);
}

static bt_op *bt_xchg_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                             struct bt_insn *in)
{
    static bt_op *const xchg[4] = { bt_xchg8, bt_xchg16, bt_xchg32, bt_xchg64 };

    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
        return in->rm == BT_REG_NONE ? xchg[__builtin_ctz(in->size)] : bt_xchg_r;
    (void)ops;
    in->rm = X86_RAX; /* 90 to 97 */
    return bt_xchg_r;
}

bt_op *bt_atomic_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                        struct bt_insn *in)
{
    static bt_op *const xadd[2][4] = { { bt_xadd8_r, bt_xadd16_r, bt_xadd32_r, bt_xadd64_r },
                                       { bt_xadd8_m, bt_xadd16_m, bt_xadd32_m, bt_xadd64_m } };
    static bt_op *const cmpxchg[2][4] = {
        { bt_cmpxchg8_r, bt_cmpxchg16_r, bt_cmpxchg32_r, bt_cmpxchg64_r },
        { bt_cmpxchg8_m, bt_cmpxchg16_m, bt_cmpxchg32_m, bt_cmpxchg64_m },
    };
    bool mem = in->rm == BT_REG_NONE;
    unsigned size = (unsigned)__builtin_ctz(in->size);

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_XCHG:
        return bt_xchg_lookup(z, ops, in);
    case ZYDIS_MNEMONIC_XADD:
        return xadd[mem][size];
    case ZYDIS_MNEMONIC_CMPXCHG:
        return cmpxchg[mem][size];
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        return bt_cmpxchg8b;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        return bt_cmpxchg16b;
    default:
        return NULL;
    }
}
