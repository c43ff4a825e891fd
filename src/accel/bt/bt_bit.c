/*
 * bt_bit.c: BT BTS BTR BTC BSF BSR TZCNT LZCNT POPCNT. Done by the host with the guest's flags loaded.
 * vCPU thread.
 */
#include "accel/bt/bt_ops.h"

enum { BT_BIT_TEST, BT_BIT_SET, BT_BIT_RESET, BT_BIT_FLIP };

#define BT_BIT_SIZES(X, op) X(op, 16, "w") X(op, 32, "l") X(op, 64, "q")
#define BT_BIT_HOST(op, bits, sfx)                                                                 \
    static inline uint##bits##_t bt_bit_##op##bits(uint##bits##_t a, uint##bits##_t n,             \
                                                   unsigned *ax)                                   \
    {                                                                                              \
        __asm__(BT_LOAD_FLAGS #op sfx " %2, %0" BT_SAVE_FLAGS                                      \
                : "+&r"(a), "+&a"(*ax)                                                             \
                : "r"(n)                                                                           \
                : "cc");                                                                           \
        return a;                                                                                  \
    }

BT_BIT_SIZES(BT_BIT_HOST, bt)
BT_BIT_SIZES(BT_BIT_HOST, bts)
BT_BIT_SIZES(BT_BIT_HOST, btr)
BT_BIT_SIZES(BT_BIT_HOST, btc)

/* By kind (BT_BIT_TEST ...) and size; a register or plain memory already read. */
#define BT_BIT_BY_KIND(bits)                                                                       \
    static uint##bits##_t bt_bit_do##bits(unsigned kind, uint##bits##_t a, uint64_t n,             \
                                          unsigned *ax)                                            \
    {                                                                                              \
        switch (kind) {                                                                            \
        case BT_BIT_TEST:                                                                          \
            bt_bit_bt##bits(a, (uint##bits##_t)n, ax);                                             \
            return a;                                                                              \
        case BT_BIT_SET:                                                                           \
            return bt_bit_bts##bits(a, (uint##bits##_t)n, ax);                                     \
        case BT_BIT_RESET:                                                                         \
            return bt_bit_btr##bits(a, (uint##bits##_t)n, ax);                                     \
        default:                                                                                   \
            return bt_bit_btc##bits(a, (uint##bits##_t)n, ax);                                     \
        }                                                                                          \
    }                                                                                              \
    static void bt_bit_mem##bits(unsigned kind, void *p, uint64_t n, unsigned *ax)                 \
    {                                                                                              \
        bt_ram_store##bits(p, bt_bit_do##bits(kind, bt_ram_load##bits(p), n, ax));                 \
    }                                                                                              \
    /* LOCKed: the new value only goes in if nobody came between. */                               \
    static void bt_bit_lock##bits(unsigned kind, void *p, uint64_t n, unsigned *ax)                \
    {                                                                                              \
        unsigned flags = *ax;                                                                      \
        uint##bits##_t old = bt_ram_load##bits(p), new;                                            \
                                                                                                   \
        do {                                                                                       \
            *ax = flags;                                                                           \
            new = bt_bit_do##bits(kind, old, n, ax);                                               \
        } while (!bt_cas##bits(p, &old, new));                                                     \
    }

BT_BIT_BY_KIND(16)
BT_BIT_BY_KIND(32)
BT_BIT_BY_KIND(64)

static uint64_t bt_bit_do(unsigned kind, uint64_t a, uint64_t n, unsigned size, unsigned *ax)
{
    if (size == 2)
        return bt_bit_do16(kind, (uint16_t)a, n, ax);
    return size == 4 ? bt_bit_do32(kind, (uint32_t)a, n, ax) : bt_bit_do64(kind, a, n, ax);
}

static void bt_bit_mem(unsigned kind, void *p, uint64_t n, unsigned size, bool lock, unsigned *ax)
{
    if (size == 2)
        (lock ? bt_bit_lock16 : bt_bit_mem16)(kind, p, n, ax);
    else if (size == 4)
        (lock ? bt_bit_lock32 : bt_bit_mem32)(kind, p, n, ax);
    else
        (lock ? bt_bit_lock64 : bt_bit_mem64)(kind, p, n, ax);
}

/* The kind is in imm2 bits 0 and 1; bit 2: the bit's number is the immediate. */
static uint64_t bt_bit_number(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned shift = 64 - 8u * in->size;

    if (in->imm2 & 4)
        return (uint64_t)in->imm & (8u * in->size - 1);
    return (uint64_t)((int64_t)(c->s.gpr[in->reg] << shift) >> shift);
}

static void bt_bit_r_work(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned ax = bt_get_flags(c);
    uint64_t a = bt_bit_do(in->imm2 & 3, bt_get(c, in, in->rm, in->size), bt_bit_number(c, in),
                           in->size, &ax);

    if ((in->imm2 & 3) != BT_BIT_TEST)
        bt_set(c, in, in->rm, in->size, a);
    bt_set_flags(c, ax);
}

static int bt_bit_r(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_bit_r_work(c, in);
    return bt_next(c, in);
}

/*
 * A bit string in memory: a register's bit number may lie outside the operand and then moves its address.
 * The moved operand is the same instruction with another displacement or, where that is too far, with RAX
 * as its base. Returns the RAX that is to be put back.
 */
static uint64_t bt_bit_move(struct bt_cpu *c, const struct bt_insn *in, uint64_t number,
                            struct bt_insn *moved)
{
    int64_t by = ((int64_t)number >> __builtin_ctz(8u * in->size)) * in->size;
    uint64_t rax = c->s.gpr[X86_RAX];

    *moved = *in;
    moved->disp = (int32_t)(in->disp + by);
    if (unlikely(moved->disp != in->disp + by)) {
        c->s.gpr[X86_RAX] = bt_ea(c, in) + (uint64_t)by;
        moved->base = X86_RAX;
        moved->index = BT_REG_NONE;
        moved->disp = 0;
    }
    return rax;
}

static int bt_bit_m_work(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t number = bt_bit_number(c, in), v;
    unsigned ax = bt_get_flags(c);
    struct bt_insn moved;
    uint64_t rax = bt_bit_move(c, in, number, &moved);
    int r = bt_load_slow(c, &moved, in->size, &v);

    c->s.gpr[X86_RAX] = rax;
    if (r)
        return BT_FAULT;
    bt_bit_do(BT_BIT_TEST, v, number, in->size, &ax);
    bt_set_flags(c, ax);
    return 0;
}

static int bt_bit_m(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_bit_m_work(c, in) ? bt_fault(c, in) : bt_next(c, in);
}

static int bt_bit_m64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t number = bt_bit_number(c, in), v;
    unsigned ax = bt_get_flags(c);

    if (bt_load_lin64(c, in->seg, bt_lin64(c, in) + (uint64_t)((int64_t)number >> 6) * 8, &v))
        return bt_fault(c, in);
    bt_bit_do64(BT_BIT_TEST, v, number, &ax);
    bt_set_flags(c, ax);
    return bt_next(c, in);
}

static int bt_bit_rmw_work(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t number = bt_bit_number(c, in);
    bool lock = in->prefix & BT_LOCK;
    unsigned ax = bt_get_flags(c);
    struct bt_insn moved;
    uint64_t rax = bt_bit_move(c, in, number, &moved);
    void *p = lock ? bt_lock(c, &moved, in->size) : bt_rmw(c, &moved, in->size);
    int r = p ? 0 : BT_FAULT;

    if (p) {
        bt_bit_mem(in->imm2 & 3, p, number, in->size, lock, &ax);
        r = lock ? bt_lock_end(c, &moved, in->size, p) : bt_rmw_end(c, &moved, in->size, p);
    }
    c->s.gpr[X86_RAX] = rax;
    if (r)
        return BT_FAULT;
    bt_set_flags(c, ax);
    return 0;
}

static int bt_bit_rmw(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_bit_rmw_work(c, in) ? bt_fault(c, in) : bt_next(c, in);
}

static bt_op *bt_bit_string(const ZydisDecodedOperand *ops, struct bt_insn *in, unsigned kind)
{
    bool number_is_imm = ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

    in->imm2 = kind | (number_is_imm ? 4u : 0u);
    if (in->rm != BT_REG_NONE)
        return bt_bit_r;
    if (kind != BT_BIT_TEST)
        return bt_bit_rmw;
    return in->asize == 8 && in->size == 8 && in->seg < X86_FS ? bt_bit_m64 : bt_bit_m;
}

/* --- scans and counts: reg = op(rm); BSF and BSR of 0 leave the destination alone --- */
#define BT_SCAN_DEFINE(op, bits, sfx)                                                              \
    static int bt_##op##bits(struct bt_cpu *c, const struct bt_insn *in)                           \
    {                                                                                              \
        uint64_t d = c->s.gpr[in->reg], s;                                                         \
        unsigned ax = bt_get_flags(c);                                                             \
                                                                                                   \
        if (bt_get_rm(c, in, bits / 8, &s))                                                        \
            return bt_fault(c, in);                                                                \
        __asm__(BT_LOAD_FLAGS #op " %" sfx "2, %" sfx "0" BT_SAVE_FLAGS                            \
                : "+&r"(d), "+&a"(ax)                                                              \
                : "r"(s)                                                                           \
                : "cc");                                                                           \
        c->s.gpr[in->reg] = d;                                                                     \
        bt_set_flags(c, ax);                                                                       \
        return bt_next(c, in);                                                                     \
    }
#define BT_SCAN_SIZES(op)                                                                          \
    BT_SCAN_DEFINE(op, 16, "w") BT_SCAN_DEFINE(op, 32, "k") BT_SCAN_DEFINE(op, 64, "q")

BT_SCAN_SIZES(bsf)
BT_SCAN_SIZES(bsr)
BT_SCAN_SIZES(tzcnt)
BT_SCAN_SIZES(lzcnt)
BT_SCAN_SIZES(popcnt)

#define BT_SCAN_ROW(op)                                                                            \
    {                                                                                              \
        NULL, bt_##op##16, bt_##op##32, bt_##op##64                                                \
    }

bt_op *bt_bit_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in)
{
    static bt_op *const bsf[4] = BT_SCAN_ROW(bsf), *const bsr[4] = BT_SCAN_ROW(bsr);
    static bt_op *const tzcnt[4] = BT_SCAN_ROW(tzcnt), *const lzcnt[4] = BT_SCAN_ROW(lzcnt);
    static bt_op *const popcnt[4] = BT_SCAN_ROW(popcnt);
    unsigned size = (unsigned)__builtin_ctz(in->size);

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_BT:
        return bt_bit_string(ops, in, BT_BIT_TEST);
    case ZYDIS_MNEMONIC_BTS:
        return bt_bit_string(ops, in, BT_BIT_SET);
    case ZYDIS_MNEMONIC_BTR:
        return bt_bit_string(ops, in, BT_BIT_RESET);
    case ZYDIS_MNEMONIC_BTC:
        return bt_bit_string(ops, in, BT_BIT_FLIP);
    case ZYDIS_MNEMONIC_BSF:
        return bsf[size];
    case ZYDIS_MNEMONIC_BSR:
        return bsr[size];
    case ZYDIS_MNEMONIC_TZCNT:
        return tzcnt[size];
    case ZYDIS_MNEMONIC_LZCNT:
        return lzcnt[size];
    case ZYDIS_MNEMONIC_POPCNT:
        return popcnt[size];
    default:
        return NULL;
    }
}
