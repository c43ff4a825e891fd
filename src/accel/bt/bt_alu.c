/*
 * bt_alu.c: ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT (SDM 2), every operand form and size.
 *
 * The host does the arithmetic and its flags are taken as they are, so that also the undefined ones are
 * the CPU's own. Forms of two operands, destination first; a lookup has put the register that is written
 * into in->rm for RR and RI, into in->reg for RM:
 *
 *   RR rm, reg    RI rm, imm    RM reg, memory    MR memory, reg    MI memory, imm    LMR, LMI: LOCKed
 */
#include "accel/bt/bt_ops.h"

enum {
    BT_ALU_RR,
    BT_ALU_RI,
    BT_ALU_RM,
    BT_ALU_MR,
    BT_ALU_MI,
    BT_ALU_LMR,
    BT_ALU_LMI,
    BT_ALU_FORMS
};
enum { BT_ALU_R, BT_ALU_M, BT_ALU_LM, BT_ALU_FORMS1 };

/* Sizes: bits and the assembler's suffix. */
#define BT_ALU_SIZES(X, op) X(op, 8, "b") X(op, 16, "w") X(op, 32, "l") X(op, 64, "q")

/*
 * Plain operations set all flags; the others begin with the guest's CF (bit 8 of ax). Two macro arguments:
 * the instruction that goes first, and the constraint of ax.
 */
#define BT_ALU_CF "btl $8, %%eax\n\t", "+&a"
#define BT_ALU_NO "", "=&a"

/* a op= b in a register, and LOCKed on guest memory; ax takes the flags along. */
#define BT_ALU_HOST(op, bits, sfx, cf, con)                                                        \
    static inline uint##bits##_t bt_alu_##op##bits(uint##bits##_t a, uint##bits##_t b,             \
                                                   unsigned *ax)                                   \
    {                                                                                              \
        __asm__(cf #op sfx " %2, %0" BT_SAVE_FLAGS : "+q"(a), con(*ax) : "q"(b) : "cc");           \
        return a;                                                                                  \
    }
#define BT_ALU_HOST_LOCK(op, bits, sfx, cf, con)                                                   \
    static inline void bt_alu_lock_##op##bits(void *p, uint##bits##_t b, unsigned *ax)             \
    {                                                                                              \
        __asm__ volatile(cf "lock " #op sfx " %2, %0" BT_SAVE_FLAGS                                \
                         : "+m"(*(bt_mem_u##bits *)p), con(*ax)                                    \
                         : "q"(b)                                                                  \
                         : "cc", "memory");                                                        \
    }

#define BT_ALU_HOST_X(op, bits, sfx, ...)      BT_ALU_HOST(op, bits, sfx, __VA_ARGS__)
#define BT_ALU_HOST_LOCK_X(op, bits, sfx, ...) BT_ALU_HOST_LOCK(op, bits, sfx, __VA_ARGS__)

/* Operations that only set flags leave the destination alone. */
#define BT_ALU_FORMS_READ(op, bits, back)                                                          \
    static int bt_alu_##op##bits##_rr(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        uint##bits##_t v =                                                                         \
            bt_alu_##op##bits(bt_get##bits(c, in, in->rm), bt_get##bits(c, in, in->reg), &ax);     \
                                                                                                   \
        if (back)                                                                                  \
            bt_set##bits(c, in, in->rm, v);                                                        \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_alu_##op##bits##_ri(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        uint##bits##_t v =                                                                         \
            bt_alu_##op##bits(bt_get##bits(c, in, in->rm), (uint##bits##_t)in->imm, &ax);          \
                                                                                                   \
        if (back)                                                                                  \
            bt_set##bits(c, in, in->rm, v);                                                        \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_alu_##op##bits##_rm(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        uint##bits##_t m, v;                                                                       \
                                                                                                   \
        if (bt_load##bits(c, in, &m))                                                              \
            return bt_fault(c, in);                                                                \
        v = bt_alu_##op##bits(bt_get##bits(c, in, in->reg), m, &ax);                               \
        if (back)                                                                                  \
            bt_set##bits(c, in, in->reg, v);                                                       \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

/* CMP and TEST: memory is read only. */
#define BT_ALU_FORM_TEST_MEM(op, bits, form, src)                                                  \
    static int bt_alu_##op##bits##_##form(struct bt_cpu *c, const struct bt_insn *in)              \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        uint##bits##_t m;                                                                          \
                                                                                                   \
        if (bt_load##bits(c, in, &m))                                                              \
            return bt_fault(c, in);                                                                \
        bt_alu_##op##bits(m, src, &ax);                                                            \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

#define BT_ALU_FORM_MEM(op, bits, form, src)                                                       \
    static int bt_alu_##op##bits##_##form(struct bt_cpu *c, const struct bt_insn *in)              \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        void *p;                                                                                   \
                                                                                                   \
        p = bt_rmw(c, in, bits / 8);                                                               \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        bt_ram_store##bits(p, bt_alu_##op##bits(bt_ram_load##bits(p), src, &ax));                  \
        if (bt_rmw_end(c, in, bits / 8, p))                                                        \
            return bt_fault(c, in);                                                                \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

#define BT_ALU_FORM_LOCK(op, bits, form, src)                                                      \
    static int bt_alu_##op##bits##_##form(struct bt_cpu *c, const struct bt_insn *in)              \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        void *p;                                                                                   \
                                                                                                   \
        p = bt_lock(c, in, bits / 8);                                                              \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        bt_alu_lock_##op##bits(p, src, &ax);                                                       \
        if (bt_lock_end(c, in, bits / 8, p))                                                       \
            return bt_fault(c, in);                                                                \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

#define BT_ALU_DEFINE_WRITE(op, bits, sfx, ...)                                                    \
    BT_ALU_HOST_X(op, bits, sfx, __VA_ARGS__)                                                      \
    BT_ALU_HOST_LOCK_X(op, bits, sfx, __VA_ARGS__)                                                 \
    BT_ALU_FORMS_READ(op, bits, true)                                                              \
    BT_ALU_FORM_MEM(op, bits, mr, bt_get##bits(c, in, in->reg))                                    \
    BT_ALU_FORM_MEM(op, bits, mi, (uint##bits##_t)in->imm)                                         \
    BT_ALU_FORM_LOCK(op, bits, lmr, bt_get##bits(c, in, in->reg))                                  \
    BT_ALU_FORM_LOCK(op, bits, lmi, (uint##bits##_t)in->imm)
#define BT_ALU_DEFINE_TEST(op, bits, sfx)                                                          \
    BT_ALU_HOST_X(op, bits, sfx, BT_ALU_NO)                                                        \
    BT_ALU_FORMS_READ(op, bits, false)                                                             \
    BT_ALU_FORM_TEST_MEM(op, bits, mr, bt_get##bits(c, in, in->reg))                               \
    BT_ALU_FORM_TEST_MEM(op, bits, mi, (uint##bits##_t)in->imm)
#define BT_ALU_PLAIN(op, bits, sfx) BT_ALU_DEFINE_WRITE(op, bits, sfx, BT_ALU_NO)
#define BT_ALU_CARRY(op, bits, sfx) BT_ALU_DEFINE_WRITE(op, bits, sfx, BT_ALU_CF)

BT_ALU_SIZES(BT_ALU_PLAIN, add)
BT_ALU_SIZES(BT_ALU_PLAIN, or)
BT_ALU_SIZES(BT_ALU_CARRY, adc)
BT_ALU_SIZES(BT_ALU_CARRY, sbb)
BT_ALU_SIZES(BT_ALU_PLAIN, and)
BT_ALU_SIZES(BT_ALU_PLAIN, sub)
BT_ALU_SIZES(BT_ALU_PLAIN, xor)
BT_ALU_SIZES(BT_ALU_DEFINE_TEST, cmp)
BT_ALU_SIZES(BT_ALU_DEFINE_TEST, test)

/* --- one operand --- */
#define BT_ALU_DEFINE1(op, bits, sfx, set, cf, con)                                                \
    static inline uint##bits##_t bt_alu_##op##bits(uint##bits##_t a, unsigned *ax)                 \
    {                                                                                              \
        __asm__(cf #op sfx " %0" BT_SAVE_FLAGS : "+q"(a), con(*ax) : : "cc");                      \
        return a;                                                                                  \
    }                                                                                              \
    static int bt_alu_##op##bits##_r(struct bt_cpu *c, const struct bt_insn *in)                   \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        bt_set##bits(c, in, in->rm, bt_alu_##op##bits(bt_get##bits(c, in, in->rm), &ax));          \
        if (set)                                                                                   \
            bt_set_flags(c, ax);                                                                   \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_alu_##op##bits##_m(struct bt_cpu *c, const struct bt_insn *in)                   \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        void *p;                                                                                   \
                                                                                                   \
        p = bt_rmw(c, in, bits / 8);                                                               \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        bt_ram_store##bits(p, bt_alu_##op##bits(bt_ram_load##bits(p), &ax));                       \
        if (bt_rmw_end(c, in, bits / 8, p))                                                        \
            return bt_fault(c, in);                                                                \
        if (set)                                                                                   \
            bt_set_flags(c, ax);                                                                   \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_alu_##op##bits##_lm(struct bt_cpu *c, const struct bt_insn *in)                  \
    {                                                                                              \
        unsigned ax = bt_get_flags(c);                                                             \
        void *p;                                                                                   \
                                                                                                   \
        p = bt_lock(c, in, bits / 8);                                                              \
        if (!p)                                                                                    \
            return bt_fault(c, in);                                                                \
        __asm__ volatile(cf "lock " #op sfx " %0" BT_SAVE_FLAGS                                    \
                         : "+m"(*(bt_mem_u##bits *)p), con(ax)                                     \
                         :                                                                         \
                         : "cc", "memory");                                                        \
        if (bt_lock_end(c, in, bits / 8, p))                                                       \
            return bt_fault(c, in);                                                                \
        if (set)                                                                                   \
            bt_set_flags(c, ax);                                                                   \
        return bt_next(c, in);                                                                     \
    }
#define BT_ALU_DEFINE1_X(op, bits, sfx, set, ...) BT_ALU_DEFINE1(op, bits, sfx, set, __VA_ARGS__)
#define BT_ALU_INC(op, bits, sfx)                 BT_ALU_DEFINE1_X(op, bits, sfx, true, BT_ALU_CF)
#define BT_ALU_NEG(op, bits, sfx)                 BT_ALU_DEFINE1_X(op, bits, sfx, true, BT_ALU_NO)
#define BT_ALU_NOT(op, bits, sfx)                 BT_ALU_DEFINE1_X(op, bits, sfx, false, BT_ALU_NO)

BT_ALU_SIZES(BT_ALU_INC, inc)
BT_ALU_SIZES(BT_ALU_INC, dec)
BT_ALU_SIZES(BT_ALU_NEG, neg)
BT_ALU_SIZES(BT_ALU_NOT, not )

/* --- tables: [form][log2 of the size] --- */
#define BT_ALU_ROW(op, form)                                                                       \
    {                                                                                              \
        bt_alu_##op##8_##form, bt_alu_##op##16_##form, bt_alu_##op##32_##form,                     \
            bt_alu_##op##64_##form                                                                 \
    }
#define BT_ALU_TABLE_TEST(op)                                                                      \
    {                                                                                              \
        [BT_ALU_RR] = BT_ALU_ROW(op, rr), [BT_ALU_RI] = BT_ALU_ROW(op, ri),                        \
        [BT_ALU_RM] = BT_ALU_ROW(op, rm), [BT_ALU_MR] = BT_ALU_ROW(op, mr),                        \
        [BT_ALU_MI] = BT_ALU_ROW(op, mi)                                                           \
    }
#define BT_ALU_TABLE(op)                                                                           \
    {                                                                                              \
        [BT_ALU_RR] = BT_ALU_ROW(op, rr), [BT_ALU_RI] = BT_ALU_ROW(op, ri),                        \
        [BT_ALU_RM] = BT_ALU_ROW(op, rm), [BT_ALU_MR] = BT_ALU_ROW(op, mr),                        \
        [BT_ALU_MI] = BT_ALU_ROW(op, mi), [BT_ALU_LMR] = BT_ALU_ROW(op, lmr),                      \
        [BT_ALU_LMI] = BT_ALU_ROW(op, lmi)                                                         \
    }
#define BT_ALU_TABLE1(op)                                                                          \
    {                                                                                              \
        BT_ALU_ROW(op, r), BT_ALU_ROW(op, m), BT_ALU_ROW(op, lm)                                   \
    }

struct bt_alu_entry {
    ZydisMnemonic mnemonic;
    bt_op *op[BT_ALU_FORMS][4];
};
static const struct bt_alu_entry bt_alu_table[] = {
    { ZYDIS_MNEMONIC_ADD, BT_ALU_TABLE(add) },
    { ZYDIS_MNEMONIC_OR, BT_ALU_TABLE(or) },
    { ZYDIS_MNEMONIC_ADC, BT_ALU_TABLE(adc) },
    { ZYDIS_MNEMONIC_SBB, BT_ALU_TABLE(sbb) },
    { ZYDIS_MNEMONIC_AND, BT_ALU_TABLE(and) },
    { ZYDIS_MNEMONIC_SUB, BT_ALU_TABLE(sub) },
    { ZYDIS_MNEMONIC_XOR, BT_ALU_TABLE(xor) },
    { ZYDIS_MNEMONIC_CMP, BT_ALU_TABLE_TEST(cmp) },
    { ZYDIS_MNEMONIC_TEST, BT_ALU_TABLE_TEST(test) },
};
struct bt_alu_entry1 {
    ZydisMnemonic mnemonic;
    bt_op *op[BT_ALU_FORMS1][4];
};
static const struct bt_alu_entry1 bt_alu_table1[] = {
    { ZYDIS_MNEMONIC_INC, BT_ALU_TABLE1(inc) },
    { ZYDIS_MNEMONIC_DEC, BT_ALU_TABLE1(dec) },
    { ZYDIS_MNEMONIC_NEG, BT_ALU_TABLE1(neg) },
    { ZYDIS_MNEMONIC_NOT, BT_ALU_TABLE1(not ) },
};

static unsigned bt_alu_form(const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    bool lock = in->prefix & BT_LOCK;

    if (ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
            return lock ? BT_ALU_LMI : BT_ALU_MI;
        return lock ? BT_ALU_LMR : BT_ALU_MR;
    }
    if (ops[1].type == ZYDIS_OPERAND_TYPE_MEMORY)
        return BT_ALU_RM;
    if (ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (ops[0].encoding == ZYDIS_OPERAND_ENCODING_NONE) /* AL, AX, EAX, RAX */
            in->rm = X86_RAX;
        return BT_ALU_RI;
    }
    if (ops[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) { /* reg op= rm */
        uint8_t r = in->reg;

        in->reg = in->rm;
        in->rm = r;
    }
    return BT_ALU_RR;
}

static unsigned bt_alu_form1(const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    if (ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
        return in->prefix & BT_LOCK ? BT_ALU_LM : BT_ALU_M;
    if (ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE) /* 40 to 4f outside 64-bit code */
        in->rm = in->reg;
    return BT_ALU_R;
}

bt_op *bt_alu_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in)
{
    unsigned size = (unsigned)__builtin_ctz(in->size);

    for (unsigned i = 0; i < ARRAY_SIZE(bt_alu_table); i++)
        if (bt_alu_table[i].mnemonic == z->mnemonic)
            return bt_alu_table[i].op[bt_alu_form(ops, in)][size];
    for (unsigned i = 0; i < ARRAY_SIZE(bt_alu_table1); i++)
        if (bt_alu_table1[i].mnemonic == z->mnemonic)
            return bt_alu_table1[i].op[bt_alu_form1(ops, in)][size];
    return NULL;
}
