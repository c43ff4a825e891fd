/*
 * bt_ops.h: what the files with integer operations share: dispatch, registers, flags, and their tables.
 *
 * Dispatch: an operation ends in `return bt_next(c, in)`, a sibling call of the next record's operation;
 * the last record of a block finds the next block. A fault returns bt_fault(c, in) through all of it to
 * the run loop. Operations of other files (bt_sys, bt_native) return BT_NEXT instead; bt_op_call, the
 * record before theirs, goes on for them.
 */
#ifndef ACCEL_BT_BT_OPS_H
#define ACCEL_BT_BT_OPS_H

#include <Zydis/Zydis.h>

#include "accel/bt/bt_block.h"
#include "accel/bt/bt_access.h"

static inline int bt_next(struct bt_cpu *c, const struct bt_insn *in)
{
    return in[1].op(c, in + 1);
}

/* The fault that was recorded is the instruction's. */
static inline int bt_fault(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rip = bt_rip(c, in);
    return BT_FAULT;
}

static inline int bt_ud(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_raise(c, X86_UD);
    return bt_fault(c, in);
}

/* --- registers --- */
static inline uint8_t *bt_reg8(struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    if (r < 4 || (in->prefix & BT_REX))
        return (uint8_t *)&c->s.gpr[r];
    return (uint8_t *)&c->s.gpr[r - 4] + 1;
}

/* Names end in the size in bits so that macros can paste them. A 32-bit write clears the upper half. */
static inline uint8_t bt_get8(struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    return *bt_reg8(c, in, r);
}
static inline uint16_t bt_get16(struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    (void)in;
    return (uint16_t)c->s.gpr[r];
}
static inline uint32_t bt_get32(struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    (void)in;
    return (uint32_t)c->s.gpr[r];
}
static inline uint64_t bt_get64(struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    (void)in;
    return c->s.gpr[r];
}
static inline void bt_set8(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint8_t v)
{
    *bt_reg8(c, in, r) = v;
}
static inline void bt_set16(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint16_t v)
{
    (void)in;
    *(uint16_t *)&c->s.gpr[r] = v;
}
static inline void bt_set32(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint32_t v)
{
    (void)in;
    c->s.gpr[r] = v;
}
static inline void bt_set64(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint64_t v)
{
    (void)in;
    c->s.gpr[r] = v;
}

/* By size at run time, for forms that are not hot. */
uint64_t bt_get(struct bt_cpu *c, const struct bt_insn *in, unsigned r, unsigned size);
void bt_set(struct bt_cpu *c, const struct bt_insn *in, unsigned r, unsigned size, uint64_t v);
/* ModRM.rm, register or memory. Memory: 0 or BT_FAULT (then bt_fault() is still to be called). */
static inline int bt_get_rm(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *v)
{
    uint64_t m = 0;
    int r = 0;

    if (in->rm == BT_REG_NONE)
        r = bt_load_slow(c, in, size, &m);
    *v = in->rm == BT_REG_NONE ? m : bt_get(c, in, in->rm, size);
    return r;
}
static inline int bt_set_rm(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t v)
{
    if (in->rm == BT_REG_NONE)
        return bt_store_slow(c, in, size, v);
    bt_set(c, in, in->rm, size, v);
    return 0;
}
/* bt_read() and bt_pop() for operations, which must not hand out pointers to their locals. */
static inline int bt_op_read(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned size,
                             uint64_t *v)
{
    uint64_t m = 0;
    int r = bt_read(c, seg, off, size, &m);

    *v = m;
    return r;
}
static inline int bt_op_pop(struct bt_cpu *c, unsigned size, uint64_t *v)
{
    uint64_t m = 0;
    int r = bt_pop(c, size, &m);

    *v = m;
    return r;
}

/*
 * --- flags ---
 * The arithmetic flags travel between host and guest as `ax`: AH as LAHF gives it, AL as SETO gives it.
 *
 *   15 14 13 12 11 10  9  8   7..1  0
 *   SF ZF  0 AF  0 PF  1 CF    0   OF
 */
#define BT_LOAD_FLAGS "addb $0x7f, %%al\n\tsahf\n\t"
#define BT_SAVE_FLAGS "\n\tlahf\n\tseto %%al"
enum { BT_AH_FLAGS = FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF };

static inline void bt_set_flags(struct bt_cpu *c, unsigned ax)
{
    c->s.rflags =
        (c->s.rflags & ~(uint64_t)FLAG_ARITH) | (ax >> 8 & BT_AH_FLAGS) | (uint64_t)(ax & 1) << 11;
}

static inline unsigned bt_get_flags(const struct bt_cpu *c)
{
    return (unsigned)((c->s.rflags & BT_AH_FLAGS) << 8 | (c->s.rflags >> 11 & 1));
}

/* Condition code 0 to 15 of Jcc, SETcc, CMOVcc (SDM 1 appendix B). */
static inline bool bt_cc(uint64_t f, unsigned cc)
{
    bool r;

    switch (cc >> 1) {
    case 0:
        r = f & FLAG_OF;
        break;
    case 1:
        r = f & FLAG_CF;
        break;
    case 2:
        r = f & FLAG_ZF;
        break;
    case 3:
        r = f & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        r = f & FLAG_SF;
        break;
    case 5:
        r = f & FLAG_PF;
        break;
    case 6:
        r = (f >> 7 ^ f >> 11) & 1;
        break;
    default:
        r = (f & FLAG_ZF) || ((f >> 7 ^ f >> 11) & 1);
        break;
    }
    return r != (cc & 1);
}
/* 0 to 15, or -1 if the mnemonic is not of the family. */
int bt_cc_of(ZydisMnemonic m);

/* --- operations outside the tables --- */
bt_op bt_op_call;     /* runs the next record's operation of bt_sys or bt_native */
bt_op bt_op_end;      /* end of a block: goes on at the next address */
bt_op bt_op_end_loop; /* the same, but through the run loop: an event may be waiting */
bt_op bt_op_leave;    /* the block was overwritten: leaves it before this instruction */
bt_op bt_op_break;    /* a debugger's breakpoint, before the record of its instruction */
bt_op bt_op_ud;
bt_op bt_op_gp; /* longer than 15 bytes */
bt_op bt_op_nop;

/* --- tables: NULL if the instruction is not theirs --- */
bt_op *bt_alu_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in);
bt_op *bt_mov_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in);
bt_op *bt_shift_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                       struct bt_insn *in);
bt_op *bt_mul_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in);
bt_op *bt_bit_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in);
bt_op *bt_atomic_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                        struct bt_insn *in);
bt_op *bt_stack_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                       struct bt_insn *in);
/* Near branches; they end their block. */
bt_op *bt_branch_lookup(const struct bt_cpu *c, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *ops, struct bt_insn *in);
bt_op *bt_string_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                        struct bt_insn *in);
bt_op *bt_misc_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_insn *in);

#endif
