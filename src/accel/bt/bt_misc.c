/*
 * bt_misc.c: flag instructions, decimal arithmetic, XLAT, BOUND, hints and fences, invalid opcodes.
 * vCPU thread.
 */
#include <sched.h>

#include "accel/bt/bt_mem.h"
#include "accel/bt/bt_ops.h"

enum { PAUSE_YIELDS = 64 }; /* PAUSEs between two offers of the host CPU to others */

int bt_op_ud(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_ud(c, in);
}

int bt_op_gp(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_raise_err(c, X86_GP, 0);
    return bt_fault(c, in);
}

int bt_op_nop(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_next(c, in);
}

/* --- flags --- */
static int bt_clc(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rflags &= ~(uint64_t)FLAG_CF;
    return bt_next(c, in);
}

static int bt_stc(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rflags |= FLAG_CF;
    return bt_next(c, in);
}

static int bt_cmc(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rflags ^= FLAG_CF;
    return bt_next(c, in);
}

static int bt_cld(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rflags &= ~(uint64_t)FLAG_DF;
    return bt_next(c, in);
}

static int bt_std(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rflags |= FLAG_DF;
    return bt_next(c, in);
}

static int bt_lahf(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t ah = (c->s.rflags & BT_AH_FLAGS) | FLAG_1;

    c->s.gpr[X86_RAX] = (c->s.gpr[X86_RAX] & ~0xff00ull) | ah << 8;
    return bt_next(c, in);
}

static int bt_sahf(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t ah = c->s.gpr[X86_RAX] >> 8 & BT_AH_FLAGS;

    c->s.rflags = (c->s.rflags & ~(uint64_t)BT_AH_FLAGS) | ah;
    return bt_next(c, in);
}

static int bt_salc(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_set8(c, in, X86_RAX, c->s.rflags & FLAG_CF ? 0xff : 0);
    return bt_next(c, in);
}

/* --- decimal arithmetic (SDM 2A; OF is undefined: 0) --- */
static void bt_decimal_flags(struct bt_cpu *c, uint8_t al, bool cf, bool af)
{
    uint64_t f = (cf ? FLAG_CF : 0u) | (af ? FLAG_AF : 0u) | (al ? 0u : FLAG_ZF) |
                 (al & 0x80 ? FLAG_SF : 0u) | (__builtin_parity(al) ? 0u : FLAG_PF);

    c->s.rflags = (c->s.rflags & ~(uint64_t)FLAG_ARITH) | f;
}

/* DAA (imm2: 0) and DAS (1) */
static int bt_daa(struct bt_cpu *c, const struct bt_insn *in)
{
    uint8_t old = (uint8_t)c->s.gpr[X86_RAX], al = old;
    bool old_cf = c->s.rflags & FLAG_CF, cf = false, af = false, sub = in->imm2;

    if ((old & 15) > 9 || (c->s.rflags & FLAG_AF)) {
        cf = old_cf || (sub ? old < 6 : old > 0xf9);
        al = (uint8_t)(sub ? al - 6 : al + 6);
        af = true;
    }
    if (old > 0x99 || old_cf) {
        al = (uint8_t)(sub ? al - 0x60 : al + 0x60);
        cf = true;
    } else if (!sub) {
        cf = false;
    }
    *(uint8_t *)&c->s.gpr[X86_RAX] = al;
    bt_decimal_flags(c, al, cf, af);
    return bt_next(c, in);
}

/* AAA (imm2: 0) and AAS (1) */
static int bt_aaa(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t ax = (uint16_t)c->s.gpr[X86_RAX];
    bool adjust = (ax & 15) > 9 || (c->s.rflags & FLAG_AF);

    if (adjust)
        ax = (uint16_t)(in->imm2 ? ax - 0x106 : ax + 0x106);
    ax &= 0xff0f;
    *(uint16_t *)&c->s.gpr[X86_RAX] = ax;
    bt_decimal_flags(c, (uint8_t)ax, adjust, adjust);
    return bt_next(c, in);
}

static int bt_aam(struct bt_cpu *c, const struct bt_insn *in)
{
    uint8_t base = (uint8_t)in->imm, al = (uint8_t)c->s.gpr[X86_RAX];

    if (!base) {
        bt_raise(c, X86_DE);
        return bt_fault(c, in);
    }
    *(uint16_t *)&c->s.gpr[X86_RAX] = (uint16_t)((al / base) << 8 | al % base);
    bt_decimal_flags(c, al % base, false, false);
    return bt_next(c, in);
}

/* CF, AF and OF are undefined on paper; processors leave those of the addition. */
static int bt_aad(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t rax = (uint16_t)c->s.gpr[X86_RAX];
    uint8_t al = (uint8_t)rax, tens = (uint8_t)((rax >> 8) * (uint8_t)in->imm);
    unsigned ax;

    __asm__("addb %2, %0" BT_SAVE_FLAGS : "+&q"(al), "=&a"(ax) : "q"(tens) : "cc");
    *(uint16_t *)&c->s.gpr[X86_RAX] = al;
    bt_set_flags(c, ax);
    return bt_next(c, in);
}

/* --- memory --- */
static int bt_xlat(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t off = c->s.gpr[X86_RBX] + (uint8_t)c->s.gpr[X86_RAX], v;

    if (in->asize < 8)
        off &= in->asize == 2 ? 0xffff : 0xffffffff;
    if (bt_op_read(c, in->seg, off, 1, &v))
        return bt_fault(c, in);
    *(uint8_t *)&c->s.gpr[X86_RAX] = (uint8_t)v;
    return bt_next(c, in);
}

static int bt_bound(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned shift = 64 - 8u * in->size;
    uint64_t low, high, ea = bt_ea(c, in);
    int64_t i = (int64_t)(c->s.gpr[in->reg] << shift);

    if (bt_op_read(c, in->seg, ea, in->size, &low) ||
        bt_op_read(c, in->seg, ea + in->size, in->size, &high))
        return bt_fault(c, in);
    if (i < (int64_t)(low << shift) || i > (int64_t)(high << shift)) {
        bt_raise(c, X86_BR);
        return bt_fault(c, in);
    }
    return bt_next(c, in);
}

/* CLFLUSH and its kin: caches are the host's business, faults are the guest's. */
static int bt_flush_line(struct bt_cpu *c, const struct bt_insn *in)
{
    uint8_t v;

    if (bt_load8(c, in, &v))
        return bt_fault(c, in);
    return bt_next(c, in);
}

/* Loads and stores are the host's own, so its own fence orders them. */
static int bt_mfence(struct bt_cpu *c, const struct bt_insn *in)
{
    __asm__ volatile("mfence" : : : "memory");
    return bt_next(c, in);
}

static int bt_lfence(struct bt_cpu *c, const struct bt_insn *in)
{
    __asm__ volatile("lfence" : : : "memory");
    return bt_next(c, in);
}

static int bt_sfence(struct bt_cpu *c, const struct bt_insn *in)
{
    __asm__ volatile("sfence" : : : "memory");
    return bt_next(c, in);
}

/* Whoever a spinning processor waits for may need our host CPU. */
static int bt_pause(struct bt_cpu *c, const struct bt_insn *in)
{
    if (++c->mem_priv->pauses % PAUSE_YIELDS)
        __builtin_ia32_pause();
    else if (c->vm->nvcpus > 1)
        sched_yield();
    return bt_next(c, in);
}

static const struct {
    ZydisMnemonic mnemonic;
    bt_op *op;
    unsigned imm2;
} bt_misc_table[] = {
    { ZYDIS_MNEMONIC_NOP, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_ENDBR32, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_ENDBR64, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCH, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHW, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHWT1, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHT0, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHT1, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHT2, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PREFETCHNTA, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_CLDEMOTE, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_RDSSPD, bt_op_nop, 0 }, /* without CET these are NOPs */
    { ZYDIS_MNEMONIC_RDSSPQ, bt_op_nop, 0 },
    { ZYDIS_MNEMONIC_PAUSE, bt_pause, 0 },
    { ZYDIS_MNEMONIC_MFENCE, bt_mfence, 0 },
    { ZYDIS_MNEMONIC_LFENCE, bt_lfence, 0 },
    { ZYDIS_MNEMONIC_SFENCE, bt_sfence, 0 },
    { ZYDIS_MNEMONIC_CLFLUSH, bt_flush_line, 0 },
    { ZYDIS_MNEMONIC_CLFLUSHOPT, bt_flush_line, 0 },
    { ZYDIS_MNEMONIC_CLWB, bt_flush_line, 0 },
    { ZYDIS_MNEMONIC_CLC, bt_clc, 0 },
    { ZYDIS_MNEMONIC_STC, bt_stc, 0 },
    { ZYDIS_MNEMONIC_CMC, bt_cmc, 0 },
    { ZYDIS_MNEMONIC_CLD, bt_cld, 0 },
    { ZYDIS_MNEMONIC_STD, bt_std, 0 },
    { ZYDIS_MNEMONIC_LAHF, bt_lahf, 0 },
    { ZYDIS_MNEMONIC_SAHF, bt_sahf, 0 },
    { ZYDIS_MNEMONIC_SALC, bt_salc, 0 },
    { ZYDIS_MNEMONIC_DAA, bt_daa, 0 },
    { ZYDIS_MNEMONIC_DAS, bt_daa, 1 },
    { ZYDIS_MNEMONIC_AAA, bt_aaa, 0 },
    { ZYDIS_MNEMONIC_AAS, bt_aaa, 1 },
    { ZYDIS_MNEMONIC_AAM, bt_aam, 0 },
    { ZYDIS_MNEMONIC_AAD, bt_aad, 0 },
    { ZYDIS_MNEMONIC_XLAT, bt_xlat, 0 },
    { ZYDIS_MNEMONIC_BOUND, bt_bound, 0 },
    { ZYDIS_MNEMONIC_UD0, bt_op_ud, 0 },
    { ZYDIS_MNEMONIC_UD1, bt_op_ud, 0 },
    { ZYDIS_MNEMONIC_UD2, bt_op_ud, 0 },
};

bt_op *bt_misc_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_insn *in)
{
    (void)ops;
    for (unsigned i = 0; i < ARRAY_SIZE(bt_misc_table); i++) {
        if (bt_misc_table[i].mnemonic != z->mnemonic)
            continue;
        in->imm2 = bt_misc_table[i].imm2;
        return bt_misc_table[i].op;
    }
    return NULL;
}
