/*
 * bt_shift.c: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD. The host shifts, with the guest's flags loaded before,
 * so that a count of 0 and the undefined flags come out as on the CPU. vCPU thread.
 */
#include "accel/bt/bt_ops.h"

enum { BT_SHIFT_RI, BT_SHIFT_RC, BT_SHIFT_MI, BT_SHIFT_MC, BT_SHIFT_FORMS };
#define BT_SHIFT_SIZES(X, op) X(op, 8, "b") X(op, 16, "w") X(op, 32, "l") X(op, 64, "q")

#define BT_SHIFT_FORM_REG(op, bits, form, count)                                                   \
    static int bt_##op##bits##_##form(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        bt_set##bits(c, in, in->rm,                                                                \
                     bt_shift_##op##bits(bt_get##bits(c, in, in->rm), (uint8_t)(count), &ax));     \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }
#define BT_SHIFT_FORM_MEM(op, bits, form, count)                                                   \
    static int bt_##op##bits##_##form(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        void *p;                                                                                   \
                                                                                                   \
        p = bt_rmw(c, in, bits / 8);                                                               \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        bt_ram_store##bits(p, bt_shift_##op##bits(bt_ram_load##bits(p), (uint8_t)(count), &ax));   \
        if (bt_rmw_end(c, in, bits / 8, p))                                                        \
            return bt_fault(c, in);                                                                \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }
#define BT_SHIFT_DEFINE(op, bits, sfx)                                                             \
    static inline uint##bits##_t bt_shift_##op##bits(uint##bits##_t a, uint8_t count,              \
                                                     unsigned *ax)                                 \
    {                                                                                              \
        __asm__(BT_LOAD_FLAGS #op sfx " %%cl, %0" BT_SAVE_FLAGS                                    \
                : "+q"(a), "+&a"(*ax)                                                              \
                : "c"(count)                                                                       \
                : "cc");                                                                           \
        return a;                                                                                  \
    }                                                                                              \
    BT_SHIFT_FORM_REG(op, bits, ri, in->imm)                                                       \
    BT_SHIFT_FORM_REG(op, bits, rc, c->s.gpr[X86_RCX])                                             \
    BT_SHIFT_FORM_MEM(op, bits, mi, in->imm)                                                       \
    BT_SHIFT_FORM_MEM(op, bits, mc, c->s.gpr[X86_RCX])

BT_SHIFT_SIZES(BT_SHIFT_DEFINE, shl)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, shr)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, sar)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, rol)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, ror)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, rcl)
BT_SHIFT_SIZES(BT_SHIFT_DEFINE, rcr)

/* Double shifts: rm by reg, count in imm or CL (imm2: 1). */
static inline uint8_t bt_shift2_count(const struct bt_cpu *c, const struct bt_insn *in)
{
    return (uint8_t)(in->imm2 ? c->s.gpr[X86_RCX] : (uint64_t)in->imm);
}

#define BT_SHIFT2_DEFINE(op, bits, sfx)                                                            \
    static inline uint##bits##_t bt_shift_##op##bits(uint##bits##_t a, uint##bits##_t b,           \
                                                     uint8_t count, unsigned *ax)                  \
    {                                                                                              \
        __asm__(BT_LOAD_FLAGS #op sfx " %%cl, %3, %0" BT_SAVE_FLAGS                                \
                : "+&q"(a), "+&a"(*ax)                                                             \
                : "c"(count), "q"(b)                                                               \
                : "cc");                                                                           \
        return a;                                                                                  \
    }                                                                                              \
    static int bt_##op##bits##_r(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        bt_set##bits(c, in, in->rm,                                                                \
                     bt_shift_##op##bits(bt_get##bits(c, in, in->rm),                              \
                                         bt_get##bits(c, in, in->reg), bt_shift2_count(c, in),     \
                                         &ax));                                                    \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_##op##bits##_m(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        void *p = bt_rmw(c, in, bits / 8);                                                         \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        bt_ram_store##bits(p,                                                                      \
                           bt_shift_##op##bits(bt_ram_load##bits(p), bt_get##bits(c, in, in->reg), \
                                               bt_shift2_count(c, in), &ax));                      \
        if (bt_rmw_end(c, in, bits / 8, p))                                                        \
            return bt_fault(c, in);                                                                \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

BT_SHIFT2_DEFINE(shld, 16, "w")
BT_SHIFT2_DEFINE(shld, 32, "l")
BT_SHIFT2_DEFINE(shld, 64, "q")
BT_SHIFT2_DEFINE(shrd, 16, "w")
BT_SHIFT2_DEFINE(shrd, 32, "l")
BT_SHIFT2_DEFINE(shrd, 64, "q")

#define BT_SHIFT_ROW(op, form)                                                                     \
    {                                                                                              \
        bt_##op##8_##form, bt_##op##16_##form, bt_##op##32_##form, bt_##op##64_##form              \
    }
#define BT_SHIFT_TABLE(op)                                                                         \
    {                                                                                              \
        BT_SHIFT_ROW(op, ri), BT_SHIFT_ROW(op, rc), BT_SHIFT_ROW(op, mi), BT_SHIFT_ROW(op, mc)     \
    }
static const struct {
    ZydisMnemonic mnemonic;
    bt_op *op[BT_SHIFT_FORMS][4];
} bt_shift_table[] = {
    { ZYDIS_MNEMONIC_SHL, BT_SHIFT_TABLE(shl) }, { ZYDIS_MNEMONIC_SHR, BT_SHIFT_TABLE(shr) },
    { ZYDIS_MNEMONIC_SAR, BT_SHIFT_TABLE(sar) }, { ZYDIS_MNEMONIC_ROL, BT_SHIFT_TABLE(rol) },
    { ZYDIS_MNEMONIC_ROR, BT_SHIFT_TABLE(ror) }, { ZYDIS_MNEMONIC_RCL, BT_SHIFT_TABLE(rcl) },
    { ZYDIS_MNEMONIC_RCR, BT_SHIFT_TABLE(rcr) },
};

static bt_op *bt_shift2_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                               struct bt_insn *in)
{
    static bt_op *const shld[2][4] = { { NULL, bt_shld16_r, bt_shld32_r, bt_shld64_r },
                                       { NULL, bt_shld16_m, bt_shld32_m, bt_shld64_m } };
    static bt_op *const shrd[2][4] = { { NULL, bt_shrd16_r, bt_shrd32_r, bt_shrd64_r },
                                       { NULL, bt_shrd16_m, bt_shrd32_m, bt_shrd64_m } };
    unsigned size = (unsigned)__builtin_ctz(in->size);
    bool mem = in->rm == BT_REG_NONE;

    in->imm2 = ops[2].type == ZYDIS_OPERAND_TYPE_REGISTER;
    return z->mnemonic == ZYDIS_MNEMONIC_SHLD ? shld[mem][size] : shrd[mem][size];
}

bt_op *bt_shift_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                       struct bt_insn *in)
{
    unsigned form, size = (unsigned)__builtin_ctz(in->size);

    if (z->mnemonic == ZYDIS_MNEMONIC_SHLD || z->mnemonic == ZYDIS_MNEMONIC_SHRD)
        return bt_shift2_lookup(z, ops, in);
    for (unsigned i = 0; i < ARRAY_SIZE(bt_shift_table); i++) {
        if (bt_shift_table[i].mnemonic != z->mnemonic)
            continue;
        form = ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? BT_SHIFT_MI : BT_SHIFT_RI;
        if (ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
            form++;
        else if (z->opcode == 0xd0 || z->opcode == 0xd1)
            in->imm = 1;
        return bt_shift_table[i].op[form][size];
    }
    return NULL;
}
