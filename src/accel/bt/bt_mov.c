/*
 * bt_mov.c: MOV MOVZX MOVSX MOVSXD LEA SETcc CMOVcc BSWAP MOVBE MOVNTI and the conversions of RAX.
 * vCPU thread.
 */
#include "accel/bt/bt_ops.h"

enum { BT_MOV_RR, BT_MOV_RI, BT_MOV_RM, BT_MOV_MR, BT_MOV_MI, BT_MOV_FORMS };

#define BT_MOV_DEFINE(bits)                                                                        \
    static int bt_mov##bits##_rr(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        bt_set##bits(c, in, in->rm, bt_get##bits(c, in, in->reg));                                 \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_mov##bits##_ri(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        bt_set##bits(c, in, in->rm, (uint##bits##_t)in->imm);                                      \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_mov##bits##_rm(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
                                                                                                   \
        if (bt_load##bits(c, in, &v))                                                              \
            return bt_fault(c, in);                                                                \
        bt_set##bits(c, in, in->reg, v);                                                           \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_mov##bits##_mr(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        if (bt_store##bits(c, in, bt_get##bits(c, in, in->reg)))                                   \
            return bt_fault(c, in);                                                                \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_mov##bits##_mi(struct bt_cpu *c, const struct bt_insn *in)                       \
    {                                                                                              \
        if (bt_store##bits(c, in, (uint##bits##_t)in->imm))                                        \
            return bt_fault(c, in);                                                                \
        return bt_next(c, in);                                                                     \
    }

/* Memory is read (and may fault) also if the condition is false. */
#define BT_CMOV_DEFINE(bits)                                                                       \
    static int bt_cmov##bits##_rr(struct bt_cpu *c, const struct bt_insn *in)                      \
    {                                                                                              \
        uint##bits##_t old = bt_get##bits(c, in, in->reg), v = bt_get##bits(c, in, in->rm);        \
                                                                                                   \
        bt_set##bits(c, in, in->reg, bt_cc(c->s.rflags, (unsigned)in->imm2) ? v : old);            \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_cmov##bits##_rm(struct bt_cpu *c, const struct bt_insn *in)                      \
    {                                                                                              \
        uint##bits##_t old = bt_get##bits(c, in, in->reg), v;                                      \
                                                                                                   \
        if (bt_load##bits(c, in, &v))                                                              \
            return bt_fault(c, in);                                                                \
        bt_set##bits(c, in, in->reg, bt_cc(c->s.rflags, (unsigned)in->imm2) ? v : old);            \
        return bt_next(c, in);                                                                     \
    }

BT_MOV_DEFINE(8)
BT_MOV_DEFINE(16)
BT_MOV_DEFINE(32)
BT_MOV_DEFINE(64)
BT_CMOV_DEFINE(16)
BT_CMOV_DEFINE(32)
BT_CMOV_DEFINE(64)

/* From `from` bits to `to` bits; signs: int or uint. */
#define BT_MOVX_DEFINE(name, sign, to, from)                                                       \
    static int bt_##name##to##_##from##_rr(struct bt_cpu *c, const struct bt_insn *in)             \
    {                                                                                              \
        bt_set##to(c, in, in->reg,                                                                 \
                   (uint##to##_t)(sign##to##_t)(sign##from##_t)bt_get##from(c, in, in->rm));       \
        return bt_next(c, in);                                                                     \
    }                                                                                              \
    static int bt_##name##to##_##from##_rm(struct bt_cpu *c, const struct bt_insn *in)             \
    {                                                                                              \
        uint##from##_t v;                                                                          \
                                                                                                   \
        if (bt_load##from(c, in, &v))                                                              \
            return bt_fault(c, in);                                                                \
        bt_set##to(c, in, in->reg, (uint##to##_t)(sign##to##_t)(sign##from##_t)v);                 \
        return bt_next(c, in);                                                                     \
    }

BT_MOVX_DEFINE(movzx, uint, 16, 8)
BT_MOVX_DEFINE(movzx, uint, 32, 8)
BT_MOVX_DEFINE(movzx, uint, 64, 8)
BT_MOVX_DEFINE(movzx, uint, 16, 16)
BT_MOVX_DEFINE(movzx, uint, 32, 16)
BT_MOVX_DEFINE(movzx, uint, 64, 16)
BT_MOVX_DEFINE(movsx, int, 16, 8)
BT_MOVX_DEFINE(movsx, int, 32, 8)
BT_MOVX_DEFINE(movsx, int, 64, 8)
BT_MOVX_DEFINE(movsx, int, 16, 16)
BT_MOVX_DEFINE(movsx, int, 32, 16)
BT_MOVX_DEFINE(movsx, int, 64, 16)
BT_MOVX_DEFINE(movsx, int, 32, 32)
BT_MOVX_DEFINE(movsx, int, 64, 32)

static bt_op *const bt_mov_table[BT_MOV_FORMS][4] = {
    [BT_MOV_RR] = { bt_mov8_rr, bt_mov16_rr, bt_mov32_rr, bt_mov64_rr },
    [BT_MOV_RI] = { bt_mov8_ri, bt_mov16_ri, bt_mov32_ri, bt_mov64_ri },
    [BT_MOV_RM] = { bt_mov8_rm, bt_mov16_rm, bt_mov32_rm, bt_mov64_rm },
    [BT_MOV_MR] = { bt_mov8_mr, bt_mov16_mr, bt_mov32_mr, bt_mov64_mr },
    [BT_MOV_MI] = { bt_mov8_mi, bt_mov16_mi, bt_mov32_mi, bt_mov64_mi },
};
static bt_op *const bt_cmov_table[2][4] = {
    { NULL, bt_cmov16_rr, bt_cmov32_rr, bt_cmov64_rr },
    { NULL, bt_cmov16_rm, bt_cmov32_rm, bt_cmov64_rm },
};
/* [source 8, 16, 32 bits][memory][destination] */
static bt_op *const bt_movzx_table[2][2][4] = {
    { { NULL, bt_movzx16_8_rr, bt_movzx32_8_rr, bt_movzx64_8_rr },
      { NULL, bt_movzx16_8_rm, bt_movzx32_8_rm, bt_movzx64_8_rm } },
    { { NULL, bt_movzx16_16_rr, bt_movzx32_16_rr, bt_movzx64_16_rr },
      { NULL, bt_movzx16_16_rm, bt_movzx32_16_rm, bt_movzx64_16_rm } },
};
static bt_op *const bt_movsx_table[3][2][4] = {
    { { NULL, bt_movsx16_8_rr, bt_movsx32_8_rr, bt_movsx64_8_rr },
      { NULL, bt_movsx16_8_rm, bt_movsx32_8_rm, bt_movsx64_8_rm } },
    { { NULL, bt_movsx16_16_rr, bt_movsx32_16_rr, bt_movsx64_16_rr },
      { NULL, bt_movsx16_16_rm, bt_movsx32_16_rm, bt_movsx64_16_rm } },
    { { NULL, NULL, bt_movsx32_32_rr, bt_movsx64_32_rr },
      { NULL, NULL, bt_movsx32_32_rm, bt_movsx64_32_rm } },
};

/* MOV of AL or [E/R]AX with an absolute address in imm. */
static int bt_mov_moffs_load(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_op_read(c, in->seg, (uint64_t)in->imm, in->size, &v))
        return bt_fault(c, in);
    bt_set(c, in, X86_RAX, in->size, v);
    return bt_next(c, in);
}

static int bt_mov_moffs_store(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_write(c, in->seg, (uint64_t)in->imm, in->size, c->s.gpr[X86_RAX]))
        return bt_fault(c, in);
    return bt_next(c, in);
}

static bt_op *bt_mov_moffs(const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    if (in->asize == 2)
        in->imm = (uint16_t)in->imm;
    else if (in->asize == 4)
        in->imm = (uint32_t)in->imm;
    return ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? bt_mov_moffs_store : bt_mov_moffs_load;
}

/* --- LEA --- */
static int bt_lea64(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.gpr[in->reg] = bt_lin64(c, in);
    return bt_next(c, in);
}

static int bt_lea32(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.gpr[in->reg] = (uint32_t)bt_lin64(c, in);
    return bt_next(c, in);
}

static int bt_lea(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_set(c, in, in->reg, in->size, bt_ea(c, in));
    return bt_next(c, in);
}

static bt_op *bt_lea_lookup(struct bt_insn *in)
{
    in->seg = X86_DS; /* a prefix has no effect */
    if (in->asize == 8 && in->size == 8)
        return bt_lea64;
    return in->asize == 8 && in->size == 4 ? bt_lea32 : bt_lea;
}

/* --- SETcc --- */
static int bt_setcc_r(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_set8(c, in, in->rm, bt_cc(c->s.rflags, (unsigned)in->imm2));
    return bt_next(c, in);
}

static int bt_setcc_m(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_store8(c, in, bt_cc(c->s.rflags, (unsigned)in->imm2)))
        return bt_fault(c, in);
    return bt_next(c, in);
}

/* --- byte order --- */
static uint64_t bt_swap(uint64_t v, unsigned size)
{
    return __builtin_bswap64(v) >> (64 - 8 * size);
}

static int bt_bswap(struct bt_cpu *c, const struct bt_insn *in)
{
    /* 16 bits: undefined; the CPU clears them. */
    uint64_t v = in->size == 2 ? 0 : bt_swap(bt_get(c, in, in->reg, in->size), in->size);

    bt_set(c, in, in->reg, in->size, v);
    return bt_next(c, in);
}

static int bt_movbe_load(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_get_rm(c, in, in->size, &v))
        return bt_fault(c, in);
    bt_set(c, in, in->reg, in->size, bt_swap(v, in->size));
    return bt_next(c, in);
}

static int bt_movbe_store(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_store_slow(c, in, in->size, bt_swap(bt_get(c, in, in->reg, in->size), in->size)))
        return bt_fault(c, in);
    return bt_next(c, in);
}

/* --- CBW CWDE CDQE, CWD CDQ CQO: by operand size --- */
static int bt_cbw(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t a = c->s.gpr[X86_RAX];

    if (in->size == 2)
        bt_set16(c, in, X86_RAX, (uint16_t)(int8_t)a);
    else if (in->size == 4)
        bt_set32(c, in, X86_RAX, (uint32_t)(int16_t)a);
    else
        bt_set64(c, in, X86_RAX, (uint64_t)(int32_t)a);
    return bt_next(c, in);
}

static int bt_cwd(struct bt_cpu *c, const struct bt_insn *in)
{
    bool sign = bt_get(c, in, X86_RAX, in->size) >> (8 * in->size - 1) & 1;

    bt_set(c, in, X86_RDX, in->size, sign ? ~0ull : 0);
    return bt_next(c, in);
}

static bt_op *bt_mov_form(const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    unsigned size = (unsigned)__builtin_ctz(in->size), form = BT_MOV_RR;

    if (ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
        form = ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? BT_MOV_MI : BT_MOV_MR;
    else if (ops[1].type == ZYDIS_OPERAND_TYPE_MEMORY)
        form = BT_MOV_RM;
    else if (ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        form = BT_MOV_RI;
    if (form == BT_MOV_RI && ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE) {
        in->rm = in->reg;
    } else if (form == BT_MOV_RR && ops[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
        uint8_t r = in->reg;

        in->reg = in->rm;
        in->rm = r;
    }
    return bt_mov_table[form][size];
}

static bool bt_mov_is_gpr(const ZydisDecodedOperand *op)
{
    if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return true;
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return true;
    default:
        return false;
    }
}

static bt_op *bt_mov_plain(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                           struct bt_insn *in)
{
    if (!bt_mov_is_gpr(&ops[0]) || !bt_mov_is_gpr(&ops[1]))
        return NULL; /* control, debug, segment registers */
    if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM) && z->opcode >= 0xa0 && z->opcode <= 0xa3)
        return bt_mov_moffs(ops, in);
    return bt_mov_form(ops, in);
}

bt_op *bt_mov_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in)
{
    unsigned size = (unsigned)__builtin_ctz(in->size);
    bool mem = in->rm == BT_REG_NONE;
    unsigned from = z->operand_count > 1 ? (unsigned)__builtin_ctz(ops[1].size / 8u | 8u) : 0;

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return bt_mov_plain(z, ops, in);
    case ZYDIS_MNEMONIC_MOVNTI:
        return bt_mov_table[BT_MOV_MR][size];
    case ZYDIS_MNEMONIC_MOVZX:
        return bt_movzx_table[from][mem][size];
    case ZYDIS_MNEMONIC_MOVSX:
        return bt_movsx_table[from][mem][size];
    case ZYDIS_MNEMONIC_MOVSXD:
        return in->size == 2 ? bt_movsx_table[1][mem][1] : bt_movsx_table[2][mem][size];
    case ZYDIS_MNEMONIC_LEA:
        return bt_lea_lookup(in);
    case ZYDIS_MNEMONIC_BSWAP:
        return bt_bswap;
    case ZYDIS_MNEMONIC_MOVBE:
        return ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? bt_movbe_store : bt_movbe_load;
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
        return bt_cbw;
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
        return bt_cwd;
    default:
        break;
    }
    if (z->meta.category == ZYDIS_CATEGORY_CMOV && bt_cc_of(z->mnemonic) >= 0) {
        in->imm2 = (uint64_t)bt_cc_of(z->mnemonic);
        return bt_cmov_table[mem][size];
    }
    if (z->meta.category == ZYDIS_CATEGORY_SETCC) {
        in->imm2 = (uint64_t)bt_cc_of(z->mnemonic);
        return mem ? bt_setcc_m : bt_setcc_r;
    }
    return NULL;
}
