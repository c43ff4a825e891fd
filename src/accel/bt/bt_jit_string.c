/*
 * bt_jit_string.c: instructions that access memory in their own way: strings (one element, or REP MOVS and
 * REP STOS within a page), bit strings, pushes of memory. vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1, RCX = X86_RCX, RSI = X86_RSI, RDI = X86_RDI };
enum { CC_A = 7, CC_NZ = 5 };

static void string_late(struct bt_jit_gen *g, uint32_t point, unsigned cc)
{
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, cc);
}

/* T0: the host address of RCX elements at reg, which lie in one page; else the point. */
static void string_operand(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned reg,
                           bool write, uint32_t point)
{
    struct bt_emit *e = &g->e;
    const uint8_t *retry = e->p;

    bt_emit_rr(e, OP_STORE, bt_jit_wide(g), reg, T0);
    bt_jit_lookup(g, in, 1, in->size, write, retry);
    bt_emit_rmx(e, OP_LEA, true, T1, T0, RCX, in->size, -1);
    bt_emit_rr(e, OP_XOR, true, T0, T1);
    bt_emit_rr(e, 0xc1, true, 5, T1); /* shr */
    bt_emit8(e, PAGE_SHIFT);
    string_late(g, point, CC_NZ);
}

/* The register moves on by RCX elements: its value then, into keep. */
static void string_after(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned reg, int keep)
{
    bt_emit_rmx(&g->e, OP_LEA, bt_jit_wide(g), T1, reg, RCX, in->size, 0);
    bt_emit_store(&g->e, T1, keep);
}

/* mov or cmp of T1 or RAX with [base], or mov back, of in's size */
static void string_mov(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned op,
                       unsigned reg, unsigned base)
{
    if (in->size == 2)
        bt_emit8(&g->e, 0x66);
    bt_emit_rm(&g->e, in->size == 1 ? op & ~1u : op, in->size == 8, reg, base, 0);
}

static void string_step(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned reg)
{
    bt_emit_rm(&g->e, OP_LEA, bt_jit_wide(g), reg, reg, in->size);
}

/* Without REP: the element at RSI, or RAX, and the one at RDI. EFLAGS are the instruction's afterwards. */
static void string_one(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    bool rsi = in->cc != BT_JIT_STOS && in->cc != BT_JIT_SCAS, rdi = in->cc != BT_JIT_LODS;
    unsigned op = in->cc == BT_JIT_STOS || in->cc == BT_JIT_MOVS ? OP_STORE : OP_CMP_LOAD;
    struct bt_emit *e = &g->e;
    const uint8_t *retry = e->p;

    if (rsi) {
        bt_emit_rr(e, OP_STORE, bt_jit_wide(g), RSI, T0);
        bt_jit_lookup(g, in, 1, in->size, false, retry);
    }
    if (rsi && rdi) {
        bt_emit_store(e, T0, BT_JIT_FRAME(keep[0]));
        retry = e->p;
    }
    if (rdi) {
        bt_emit_rr(e, OP_STORE, bt_jit_wide(g), RDI, T0);
        bt_jit_lookup(g, in, 1, in->size, op == OP_STORE, retry);
    }
    bt_jit_flags_before(g, in);
    if (rsi && rdi) {
        bt_emit_load(e, T1, BT_JIT_FRAME(keep[0]));
        string_mov(g, in, OP_LOAD, T1, T1);
    }
    if (rdi)
        string_mov(g, in, op, rsi ? T1 : (unsigned)X86_RAX, T0);
    else
        string_mov(g, in, OP_LOAD, X86_RAX, T0);
    if (rsi)
        string_step(g, in, RSI);
    if (rdi)
        string_step(g, in, RDI);
    bt_jit_flags_after(g, in);
}

static void string_rep(struct bt_jit_gen *g, const struct bt_jit_insn *in, uint32_t point)
{
    struct bt_emit *e = &g->e;

    if (!bt_jit_wide(g)) /* nobody sees the upper half */
        bt_emit_rr(e, OP_STORE, false, RCX, RCX);
    bt_emit_alu_imm(e, 7, true, RCX, PAGE_SIZE / in->size);
    string_late(g, point, CC_A);
    if (in->cc == BT_JIT_MOVS) {
        string_operand(g, in, RSI, false, point);
        bt_emit_store(e, T0, BT_JIT_FRAME(keep[0]));
    }
    string_operand(g, in, RDI, true, point);
    bt_jit_flags_before(g, in);
    string_after(g, in, RDI, BT_JIT_FRAME(keep[1]));
    if (in->cc == BT_JIT_MOVS) {
        string_after(g, in, RSI, BT_JIT_FRAME(keep[2]));
        bt_emit_load(e, RSI, BT_JIT_FRAME(keep[0]));
    }
    bt_emit_mov(e, RDI, T0);
    if (in->size == 2)
        bt_emit8(e, 0x66);
    bt_emit8(e, 0xf3);
    bt_emit_rex(e, in->size == 8, 0, 0, 0);
    bt_emit8(e, (in->cc == BT_JIT_MOVS ? 0xa4u : 0xaau) | (in->size > 1));
    bt_emit_load(e, RDI, BT_JIT_FRAME(keep[1]));
    if (in->cc == BT_JIT_MOVS)
        bt_emit_load(e, RSI, BT_JIT_FRAME(keep[2]));
}

void bt_jit_string(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    enum { DF_BYTE = 1, DF = FLAG_DF >> 8 };
    uint32_t point = bt_jit_new_point(g, in, 1);
    struct bt_emit *e = &g->e;

    bt_jit_flags_clobber(g);
    bt_emit_rm(e, 0xf6, false, 0, X86_RSP, (int)offsetof(struct bt_cpu, s.rflags) + DF_BYTE);
    bt_emit8(e, DF); /* test: descending */
    string_late(g, point, CC_NZ);
    if (in->rep)
        string_rep(g, in, point);
    else
        string_one(g, in);
    for (uint32_t n = point; n < g->j->n_points; n++)
        bt_jit_resume(g, n);
}

/*
 * The operand is the one that holds the bit, and the register its number there. A register that lives in memory
 * leaves no other for the operand: then the host accesses it, too.
 */
void bt_jit_bits(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    unsigned reg, op = in->bytes[in->modrm - 1];
    bool w = in->size == 8, write = op != 0xa3;
    bool direct = in->lock || bt_jit_in_memory(in->slot[BT_JIT_SLOT_REG].reg);
    struct bt_emit *e = &g->e;
    const uint8_t *retry = e->p;
    uint32_t point;

    bt_jit_flags_clobber(g);
    bt_jit_ea(g, in, 0);
    reg = bt_jit_reg(g, in->slot[BT_JIT_SLOT_REG].reg, T1);
    if (w)
        bt_emit_mov(e, T1, reg);
    else
        bt_emit_rr(e, 0x63, true, T1, reg); /* movsxd */
    bt_emit_rr(e, 0xc1, true, 7, T1);       /* sar: to operands */
    bt_emit8(e, w ? 6 : 5);
    bt_emit_rmx(e, OP_LEA, bt_jit_wide(g), T0, T0, T1, in->size, 0);
    point = bt_jit_lookup(g, in, 1, in->size, write, retry);
    if (direct) {
        reg = bt_jit_reg(g, in->slot[BT_JIT_SLOT_REG].reg, T1);
        bt_emit_rr(e, OP_STORE, false, reg, T1);
        bt_emit_alu_imm(e, 4, false, T1, w ? 63 : 31);
        bt_emit_store(e, T1, BT_JIT_FRAME(keep[0]));
    }
    bt_jit_flags_before(g, in);
    if (direct) {
        bt_emit_load(e, T1, BT_JIT_FRAME(keep[0]));
        if (in->lock)
            bt_emit8(e, 0xf0);
        bt_emit_rex(e, w, T1, 0, T0);
        bt_emit8(e, 0x0f);
        bt_emit8(e, op);
        bt_emit_modrm(e, T1, T0, 0);
    } else {
        bt_emit_rm(e, OP_LOAD, w, T1, T0, 0);
        bt_emit_rex(e, w, reg, 0, T1);
        bt_emit8(e, 0x0f);
        bt_emit8(e, op);
        bt_emit8(e, 0xc0 | (reg & 7) << 3 | (T1 & 7));
        if (write)
            bt_emit_rm(e, OP_STORE, w, T1, T0, 0);
    }
    bt_jit_flags_after(g, in);
    bt_jit_resume(g, point);
}

void bt_jit_push_mem(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;
    bool wide = bt_jit_wide(g);
    const uint8_t *retry = e->p;
    uint32_t first, second;

    bt_jit_ea(g, in, 0);
    first = bt_jit_lookup(g, in, 1, in->word, false, retry);
    bt_emit_rm(e, OP_LOAD, wide, T0, T0, 0);
    bt_emit_store(e, T0, BT_JIT_FRAME(keep[0]));
    retry = e->p;
    bt_emit_rm(e, OP_LEA, wide, T0, BT_JIT_RSP, -in->word);
    second = bt_jit_lookup(g, in, 1, in->word, true, retry);
    bt_emit_load(e, T1, BT_JIT_FRAME(keep[0]));
    bt_emit_rm(e, OP_STORE, wide, T1, T0, 0);
    bt_jit_flags_before(g, in);
    bt_emit_rm(e, OP_LEA, wide, BT_JIT_RSP, BT_JIT_RSP, -in->word);
    bt_jit_resume(g, first);
    bt_jit_resume(g, second);
}
