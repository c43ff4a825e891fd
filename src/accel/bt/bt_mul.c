/*
 * bt_mul.c: MUL IMUL DIV IDIV. Done by the host with the guest's flags loaded, so that undefined flags come
 * out as on the CPU; what would make the host divide fault is found before. vCPU thread.
 */
#include "accel/bt/bt_ops.h"

/* High half (AH for bytes) and low half of the accumulator. */
struct bt_mul_acc {
    uint64_t hi, lo;
};

static struct bt_mul_acc bt_mul_get(struct bt_cpu *c, const struct bt_insn *in)
{
    if (in->size == 1)
        return (struct bt_mul_acc){ (uint8_t)(c->s.gpr[X86_RAX] >> 8), (uint8_t)c->s.gpr[X86_RAX] };
    return (struct bt_mul_acc){ bt_get(c, in, X86_RDX, in->size),
                                bt_get(c, in, X86_RAX, in->size) };
}

static void bt_mul_set(struct bt_cpu *c, const struct bt_insn *in, struct bt_mul_acc a)
{
    if (in->size == 1) {
        bt_set16(c, in, X86_RAX, (uint16_t)((uint8_t)a.hi << 8 | (uint8_t)a.lo));
        return;
    }
    bt_set(c, in, X86_RDX, in->size, a.hi);
    bt_set(c, in, X86_RAX, in->size, a.lo);
}

/*
 * One-operand MUL, IMUL, DIV, IDIV of each size on the accumulator; RAX and RDX are the instruction's
 * own, so the flags wait in another register meanwhile.
 */
#define BT_MUL_HOST(op, bits, sfx, mod)                                                            \
    static struct bt_mul_acc bt_mul_##op##bits(struct bt_mul_acc a, uint64_t v, unsigned *ax)      \
    {                                                                                              \
        uint64_t lo = a.lo, hi = a.hi, fl = *ax;                                                   \
                                                                                                   \
        __asm__("xchgq %%rax, %2\n\t" BT_LOAD_FLAGS "xchgq %%rax, %2\n\t" #op sfx " %" mod "3\n\t" \
                "xchgq %%rax, %2" BT_SAVE_FLAGS "\n\txchgq %%rax, %2"                              \
                : "+&a"(lo), "+&d"(hi), "+&r"(fl)                                                  \
                : "r"(v)                                                                           \
                : "cc");                                                                           \
        *ax = (unsigned)fl;                                                                        \
        return (struct bt_mul_acc){ hi, lo };                                                      \
    }
/* Bytes work on AX as a whole. */
#define BT_MUL_HOST8(op)                                                                           \
    static struct bt_mul_acc bt_mul_##op##8(struct bt_mul_acc a, uint64_t v, unsigned *ax)         \
    {                                                                                              \
        uint64_t lo = a.hi << 8 | a.lo, fl = *ax;                                                  \
                                                                                                   \
        __asm__("xchgq %%rax, %1\n\t" BT_LOAD_FLAGS "xchgq %%rax, %1\n\t" #op "b %b2\n\t"          \
                "xchgq %%rax, %1" BT_SAVE_FLAGS "\n\txchgq %%rax, %1"                              \
                : "+&a"(lo), "+&r"(fl)                                                             \
                : "r"(v)                                                                           \
                : "cc");                                                                           \
        *ax = (unsigned)fl;                                                                        \
        return (struct bt_mul_acc){ lo >> 8 & 0xff, lo & 0xff };                                   \
    }
#define BT_MUL_FAMILY(op)                                                                          \
    BT_MUL_HOST8(op)                                                                               \
    BT_MUL_HOST(op, 16, "w", "w")                                                                  \
    BT_MUL_HOST(op, 32, "l", "k")                                                                  \
    BT_MUL_HOST(op, 64, "q", "q")                                                                  \
    static struct bt_mul_acc bt_mul_##op(struct bt_mul_acc a, uint64_t v, unsigned size,           \
                                         unsigned *ax)                                             \
    {                                                                                              \
        if (size == 1)                                                                             \
            return bt_mul_##op##8(a, v, ax);                                                       \
        if (size == 2)                                                                             \
            return bt_mul_##op##16(a, v, ax);                                                      \
        return size == 4 ? bt_mul_##op##32(a, v, ax) : bt_mul_##op##64(a, v, ax);                  \
    }

BT_MUL_FAMILY(mul)
BT_MUL_FAMILY(imul)
BT_MUL_FAMILY(div)
BT_MUL_FAMILY(idiv)

/* Would the quotient of hi:lo / v not fit? */
static bool bt_mul_udiv_overflows(struct bt_mul_acc a, uint64_t v)
{
    return a.hi >= v;
}

static bool bt_mul_idiv_overflows(struct bt_mul_acc a, uint64_t v, unsigned size)
{
    uint64_t top = 1ull << (8 * size - 1), mask = top | (top - 1);
    bool neg_a = a.hi & top, neg_v = v & top;
    struct bt_mul_acc q;
    unsigned ax = 0;

    if (neg_a) { /* magnitude of hi:lo */
        a.lo = -a.lo & mask;
        a.hi = (~a.hi + !a.lo) & mask;
    }
    v = neg_v ? -v & mask : v;
    if (a.hi >= v)
        return true;
    q = bt_mul_div(a, v, size, &ax);
    return (q.lo & mask) > (neg_a != neg_v ? top : top - 1);
}

/* imm2: 0 MUL, 1 IMUL, 2 DIV, 3 IDIV */
static int bt_mul1(struct bt_cpu *c, const struct bt_insn *in)
{
    struct bt_mul_acc a = bt_mul_get(c, in);
    unsigned ax = bt_get_flags(c);
    uint64_t v;

    if (bt_get_rm(c, in, in->size, &v))
        return bt_fault(c, in);
    if ((in->imm2 == 2 && bt_mul_udiv_overflows(a, v)) ||
        (in->imm2 == 3 && bt_mul_idiv_overflows(a, v, in->size))) {
        bt_raise(c, X86_DE);
        return bt_fault(c, in);
    }
    if (in->imm2 < 2)
        a = in->imm2 ? bt_mul_imul(a, v, in->size, &ax) : bt_mul_mul(a, v, in->size, &ax);
    else
        a = in->imm2 == 2 ? bt_mul_div(a, v, in->size, &ax) : bt_mul_idiv(a, v, in->size, &ax);
    bt_mul_set(c, in, a);
    bt_set_flags(c, ax);
    return bt_next(c, in);
}

/* --- IMUL with two and three operands: reg = rm * (imm or reg), truncated --- */
#define BT_IMUL_DEFINE(bits, sfx)                                                                  \
    static inline uint##bits##_t bt_imul_host##bits(uint##bits##_t a, uint##bits##_t b,            \
                                                    unsigned *ax)                                  \
    {                                                                                              \
        __asm__(BT_LOAD_FLAGS "imul" sfx " %2, %0" BT_SAVE_FLAGS                                   \
                : "+&r"(a), "+&a"(*ax)                                                             \
                : "r"(b)                                                                           \
                : "cc");                                                                           \
        return a;                                                                                  \
    }                                                                                              \
    static int bt_imul##bits(struct bt_cpu *c, const struct bt_insn *in)                           \
    {                                                                                              \
        uint##bits##_t a, b;                                                                       \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        if (in->rm != BT_REG_NONE)                                                                 \
            a = bt_get##bits(c, in, in->rm);                                                       \
        else if (bt_load##bits(c, in, &a))                                                         \
            return bt_fault(c, in);                                                                \
        b = in->imm2 ? (uint##bits##_t)in->imm : bt_get##bits(c, in, in->reg);                     \
        bt_set##bits(c, in, in->reg, bt_imul_host##bits(a, b, &ax));                               \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }

BT_IMUL_DEFINE(16, "w")
BT_IMUL_DEFINE(32, "l")
BT_IMUL_DEFINE(64, "q")

bt_op *bt_mul_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in)
{
    static bt_op *const imul[4] = { NULL, bt_imul16, bt_imul32, bt_imul64 };

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MUL:
        in->imm2 = 0;
        return bt_mul1;
    case ZYDIS_MNEMONIC_IMUL:
        if (z->operand_count_visible == 1) {
            in->imm2 = 1;
            return bt_mul1;
        }
        in->imm2 = z->operand_count_visible == 3;
        return imul[__builtin_ctz(in->size)];
    case ZYDIS_MNEMONIC_DIV:
        in->imm2 = 2;
        return bt_mul1;
    case ZYDIS_MNEMONIC_IDIV:
        in->imm2 = 3;
        return bt_mul1;
    default:
        (void)ops;
        return NULL;
    }
}
