/*
 * bt_branch.c: near branches: Jcc JMP CALL RET LOOPcc JrCXZ, and the operations at a block's end.
 *
 * Each has two forms: the one of 64-bit code goes on in the next block at once; the other one serves all
 * modes, and single steps, through the run loop. vCPU thread.
 */
#include "accel/bt/bt_ops.h"
#include "accel/bt/bt_sys.h"

static uint64_t bt_branch_next(const struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_rip(c, in) + in->len;
}

static bool bt_canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* --- ends of blocks --- */
int bt_op_end(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_link64(c, 1, bt_rip(c, in));
}

/*
 * RIP of a successor: 32 bits outside 64-bit code, also in 16-bit code, where only branches with 16-bit operands
 * cut it to 16. Behind ffff a segment of 64 KiB ends, which its limit tells.
 */
static uint64_t bt_branch_wrap(const struct bt_cpu *c, uint64_t rip)
{
    return c->code_size == 8 ? rip : (uint32_t)rip;
}

int bt_op_end_loop(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rip = bt_branch_wrap(c, bt_rip(c, in));
    return BT_JUMP;
}

int bt_op_leave(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_op_end_loop(c, in);
}

int bt_op_call(struct bt_cpu *c, const struct bt_insn *in)
{
    int r;

    c->s.rip = bt_rip(c, in);
    r = in[1].op(c, in + 1);
    return likely(!r) ? in[2].op(c, in + 2) : r;
}

/* --- 64-bit code --- */
#define BT_JCC64(name, cond)                                                                       \
    static int bt_##name##_64(struct bt_cpu *c, const struct bt_insn *in)                          \
    {                                                                                              \
        uint64_t f = c->s.rflags;                                                                  \
                                                                                                   \
        if (cond)                                                                                  \
            return bt_link64(c, 0, bt_branch_next(c, in) + (uint64_t)in->imm);                     \
        return bt_link64(c, 1, bt_branch_next(c, in));                                             \
    }
BT_JCC64(jo, f &FLAG_OF)
BT_JCC64(jno, !(f & FLAG_OF))
BT_JCC64(jb, f &FLAG_CF)
BT_JCC64(jnb, !(f & FLAG_CF))
BT_JCC64(jz, f &FLAG_ZF)
BT_JCC64(jnz, !(f & FLAG_ZF))
BT_JCC64(jbe, f &(FLAG_CF | FLAG_ZF))
BT_JCC64(jnbe, !(f & (FLAG_CF | FLAG_ZF)))
BT_JCC64(js, f &FLAG_SF)
BT_JCC64(jns, !(f & FLAG_SF))
BT_JCC64(jp, f &FLAG_PF)
BT_JCC64(jnp, !(f & FLAG_PF))
BT_JCC64(jl, (f >> 7 ^ f >> 11) & 1)
BT_JCC64(jnl, !((f >> 7 ^ f >> 11) & 1))
BT_JCC64(jle, ((f >> 7 ^ f >> 11) & 1) || (f & FLAG_ZF))
BT_JCC64(jnle, !((f >> 7 ^ f >> 11) & 1) && !(f & FLAG_ZF))

static bt_op *const bt_jcc64[16] = {
    bt_jo_64, bt_jno_64, bt_jb_64, bt_jnb_64, bt_jz_64, bt_jnz_64, bt_jbe_64, bt_jnbe_64,
    bt_js_64, bt_jns_64, bt_jp_64, bt_jnp_64, bt_jl_64, bt_jnl_64, bt_jle_64, bt_jnle_64,
};

static int bt_jmp_64(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_link64(c, 0, bt_branch_next(c, in) + (uint64_t)in->imm);
}

static int bt_branch_not_canonical(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_raise_err(c, X86_GP, 0);
    return bt_fault(c, in);
}

static int bt_jmp_rm_64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (in->rm != BT_REG_NONE)
        to = c->s.gpr[in->rm];
    else if (bt_load64(c, in, &to))
        return bt_fault(c, in);
    if (unlikely(!bt_canonical(to)))
        return bt_branch_not_canonical(c, in);
    return bt_jump64(c, to);
}

static int bt_call_64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t next = bt_branch_next(c, in);

    if (bt_store_lin64(c, X86_SS, c->s.gpr[X86_RSP] - 8, next))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] -= 8;
    return bt_link64(c, 0, next + (uint64_t)in->imm);
}

static int bt_call_rm_64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (in->rm != BT_REG_NONE)
        to = c->s.gpr[in->rm];
    else if (bt_load64(c, in, &to))
        return bt_fault(c, in);
    if (unlikely(!bt_canonical(to)))
        return bt_branch_not_canonical(c, in);
    if (bt_store_lin64(c, X86_SS, c->s.gpr[X86_RSP] - 8, bt_branch_next(c, in)))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] -= 8;
    return bt_jump64(c, to);
}

static int bt_ret_64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (bt_load_lin64(c, X86_SS, c->s.gpr[X86_RSP], &to))
        return bt_fault(c, in);
    if (unlikely(!bt_canonical(to)))
        return bt_branch_not_canonical(c, in);
    c->s.gpr[X86_RSP] += 8 + (uint64_t)(uint16_t)in->imm;
    return bt_jump64(c, to);
}

/* --- any mode --- */
static uint64_t bt_branch_mask(const struct bt_insn *in, uint64_t rip)
{
    if (in->size == 2)
        return (uint16_t)rip;
    return in->size == 4 ? (uint32_t)rip : rip;
}

/* Checks a target as the CPU does before the branch has any effect. */
static int bt_branch_check(struct bt_cpu *c, const struct bt_insn *in, uint64_t rip)
{
    if (c->code_size == 8 ? bt_canonical(rip) : rip <= c->s.seg[X86_CS].limit)
        return 0;
    bt_raise_err(c, X86_GP, 0);
    return bt_fault(c, in);
}

static int bt_branch_to(struct bt_cpu *c, const struct bt_insn *in, uint64_t rip)
{
    int r;

    rip = bt_branch_mask(in, rip);
    r = bt_branch_check(c, in, rip);
    if (!r)
        c->s.rip = rip;
    return r ? r : BT_JUMP;
}

static int bt_branch_rel(struct bt_cpu *c, const struct bt_insn *in, bool taken)
{
    if (taken)
        return bt_branch_to(c, in, bt_branch_next(c, in) + (uint64_t)in->imm);
    c->s.rip = bt_branch_wrap(c, bt_branch_next(c, in));
    return BT_JUMP;
}

static int bt_jcc_any(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_branch_rel(c, in, bt_cc(c->s.rflags, (unsigned)in->imm2));
}

static int bt_jmp_any(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_branch_rel(c, in, true);
}

static int bt_jmp_rm_any(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (bt_get_rm(c, in, in->size, &to))
        return bt_fault(c, in);
    return bt_branch_to(c, in, to);
}

static int bt_call_to(struct bt_cpu *c, const struct bt_insn *in, uint64_t to)
{
    to = bt_branch_mask(in, to);
    if (bt_branch_check(c, in, to))
        return BT_FAULT;
    if (bt_push(c, in->size, bt_branch_wrap(c, bt_branch_next(c, in))))
        return bt_fault(c, in);
    c->s.rip = to;
    return BT_JUMP;
}

static int bt_call_any(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_call_to(c, in, bt_branch_next(c, in) + (uint64_t)in->imm);
}

static int bt_call_rm_any(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (bt_get_rm(c, in, in->size, &to))
        return bt_fault(c, in);
    return bt_call_to(c, in, to);
}

static int bt_ret_any(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t to;

    if (bt_op_pop(c, in->size, &to))
        return bt_fault(c, in);
    to = bt_branch_mask(in, to);
    if (bt_branch_check(c, in, to))
        return BT_FAULT;
    bt_stack_add(c, in->size + (uint16_t)in->imm);
    c->s.rip = to;
    return BT_JUMP;
}

/* The count register has the address size. */
static uint64_t bt_count(const struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t n = c->s.gpr[X86_RCX];

    if (in->asize == 2)
        return (uint16_t)n;
    return in->asize == 4 ? (uint32_t)n : n;
}

static int bt_jrcxz(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_branch_rel(c, in, bt_count(c, in) == 0);
}

/* imm2: 0 LOOP, 1 LOOPE, 2 LOOPNE */
static int bt_loop(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t n = bt_count(c, in) - 1;
    bool zf = c->s.rflags & FLAG_ZF, taken;
    int r;

    if (in->asize < 8)
        n &= in->asize == 2 ? 0xffff : 0xffffffff;
    taken = n && (in->imm2 == 0 || zf == (in->imm2 == 1));
    r = bt_branch_rel(c, in, taken);
    if (r == BT_JUMP)
        bt_set(c, in, X86_RCX, in->asize, n);
    return r;
}

int bt_cc_of(ZydisMnemonic m)
{
#define BT_CC_CASE(cc, n)                                                                          \
    case ZYDIS_MNEMONIC_J##cc:                                                                     \
    case ZYDIS_MNEMONIC_SET##cc:                                                                   \
    case ZYDIS_MNEMONIC_CMOV##cc:                                                                  \
        return n;
    switch (m) {
        BT_CC_CASE(O, 0)
        BT_CC_CASE(NO, 1)
        BT_CC_CASE(B, 2)
        BT_CC_CASE(NB, 3)
        BT_CC_CASE(Z, 4)
        BT_CC_CASE(NZ, 5)
        BT_CC_CASE(BE, 6)
        BT_CC_CASE(NBE, 7)
        BT_CC_CASE(S, 8)
        BT_CC_CASE(NS, 9)
        BT_CC_CASE(P, 10)
        BT_CC_CASE(NP, 11)
        BT_CC_CASE(L, 12)
        BT_CC_CASE(NL, 13)
        BT_CC_CASE(LE, 14)
        BT_CC_CASE(NLE, 15)
    default:
        return -1;
    }
#undef BT_CC_CASE
}

static bt_op *bt_branch_loop(ZydisMnemonic m, struct bt_insn *in)
{
    in->imm2 = m == ZYDIS_MNEMONIC_LOOP ? 0 : m == ZYDIS_MNEMONIC_LOOPE ? 1 : 2;
    return bt_loop;
}

bt_op *bt_branch_lookup(const struct bt_cpu *c, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    bool chain = c->code_size == 8 && !c->decode_one;
    bool rel = ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    int cc = z->meta.category == ZYDIS_CATEGORY_COND_BR ? bt_cc_of(z->mnemonic) : -1;

    if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_SHORT &&
        z->meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR)
        return NULL;
    if (c->code_size == 8)
        in->size = 8; /* a 66 prefix does not narrow RIP */
    if (cc >= 0) {
        in->imm2 = (unsigned)cc;
        return chain ? bt_jcc64[cc] : bt_jcc_any;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        if (rel)
            return chain ? bt_jmp_64 : bt_jmp_any;
        return chain ? bt_jmp_rm_64 : bt_jmp_rm_any;
    case ZYDIS_MNEMONIC_CALL:
        if (rel)
            return chain ? bt_call_64 : bt_call_any;
        return chain ? bt_call_rm_64 : bt_call_rm_any;
    case ZYDIS_MNEMONIC_RET:
        return chain ? bt_ret_64 : bt_ret_any;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return bt_jrcxz;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
        return bt_branch_loop(z->mnemonic, in);
    default:
        return NULL;
    }
}
