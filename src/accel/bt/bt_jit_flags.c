/*
 * bt_jit_flags.c: where the guest's arithmetic flags are. They stay in EFLAGS as long as they can; the soft
 * TLB's check destroys those, and before that they are either pushed to frame.flags or, cheaper, known to
 * be what some compare of registers that still hold their values would give again (a recipe).
 *
 * vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

enum { EAX = X86_RAX };

static void flags_push(struct bt_emit *e)
{
    bt_emit8(e, 0x9c); /* pushfq */
    bt_emit_rsp(e, 8);
}

/* --- recipes --- */
/* op, an opcode of operands larger than a byte, in the form for r's size; byte registers are all reached by REX */
static void flags_op(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned op, unsigned reg,
                     unsigned rm)
{
    if (r->size == 2)
        bt_emit8(e, 0x66);
    if (r->size != 1) {
        bt_emit_rr(e, op, r->size == 8, reg, rm);
        return;
    }
    bt_emit8(e, 0x40 | (reg >> 3) << 2 | rm >> 3);
    bt_emit8(e, op & ~1u);
    bt_emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* The same with guest register b, which lives in memory, as its memory operand */
static void flags_op_slot(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned op,
                          unsigned reg)
{
    if (r->size == 2)
        bt_emit8(e, 0x66);
    if (r->size != 1) {
        bt_emit_rm(e, op, r->size == 8, reg, X86_RSP, r->b * 8);
        return;
    }
    bt_emit8(e, 0x40 | (reg >> 3) << 2);
    bt_emit8(e, op & ~1u);
    bt_emit_modrm(e, reg, X86_RSP, r->b * 8);
}

static void flags_imm(struct bt_emit *e, const struct bt_jit_recipe *r)
{
    if (r->size == 1)
        bt_emit8(e, (unsigned)r->value & 0xff);
    else if (r->size == 2)
        bt_emit16(e, (unsigned)r->value);
    else
        bt_emit32(e, (uint32_t)r->value);
}

/* op on T1 or a's own register, with b or the immediate: n is group 1's number of the operation */
static void flags_alu(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned n, unsigned reg)
{
    if (r->b == BT_JIT_NO_REG) {
        flags_op(e, r, 0x81, n, reg);
        flags_imm(e, r);
    } else if (bt_jit_in_memory(r->b)) {
        flags_op_slot(e, r, n << 3 | 3, reg);
    } else {
        flags_op(e, r, n << 3 | 1, bt_jit_host(r->b), reg);
    }
}

static void flags_test(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned reg)
{
    if (r->b == BT_JIT_NO_REG) {
        flags_op(e, r, 0xf7, 0, reg);
        flags_imm(e, r);
    } else if (r->a == r->b) {
        flags_op(e, r, OP_TEST, reg, reg);
    } else if (bt_jit_in_memory(r->b)) {
        flags_op_slot(e, r, OP_TEST, reg);
    } else {
        flags_op(e, r, OP_TEST, bt_jit_host(r->b), reg);
    }
}

void bt_jit_flags_cook(struct bt_emit *e, const struct bt_jit_recipe *r)
{
    enum { N_ADD = 0, N_SUB = 5, N_CMP = 7 };
    bool changes = r->op == BT_JIT_ADD || r->op == BT_JIT_SUB;
    unsigned reg = BT_JIT_T1;

    if (bt_jit_in_memory(r->a))
        bt_emit_load(e, BT_JIT_T1, r->a * 8);
    else if (changes)
        bt_emit_mov(e, BT_JIT_T1, bt_jit_host(r->a));
    else
        reg = bt_jit_host(r->a);
    switch (r->op) {
    case BT_JIT_CMP:
        flags_alu(e, r, N_CMP, reg);
        break;
    case BT_JIT_TEST:
        flags_test(e, r, reg);
        break;
    case BT_JIT_ADD: /* a is the sum: go back and add again */
        flags_alu(e, r, N_SUB, reg);
        flags_alu(e, r, N_ADD, reg);
        break;
    case BT_JIT_SUB:
        flags_alu(e, r, N_ADD, reg);
        flags_alu(e, r, N_SUB, reg);
        break;
    }
}

/* The operands of in, and n, group 1's number of what it does, or FLAGS_TEST; false: there is no recipe. */
enum { FLAGS_TEST = 8 };
static bool flags_operands(const struct bt_jit_insn *in, struct bt_jit_recipe *r, unsigned *n)
{
    const struct bt_jit_slot *reg = &in->slot[BT_JIT_SLOT_REG], *rm = &in->slot[BT_JIT_SLOT_RM];
    const uint8_t op = in->bytes[in->opcode];

    *n = op >> 3;
    r->value = (int32_t)in->value;
    if (in->modrm != in->opcode + 1) { /* the short forms with an immediate for AL, AX, EAX, RAX */
        if (in->modrm || in->imm != in->opcode + 1 ||
            ((op | 1) != 0xa9 && (op > 0x3d || (op & 6) != 4)))
            return false;
        r->a = X86_RAX;
        if ((op | 1) == 0xa9)
            *n = FLAGS_TEST;
        return true;
    }
    if (rm->reg == BT_JIT_NO_REG || rm->high || (reg->reg != BT_JIT_NO_REG && reg->high))
        return false;
    r->a = rm->reg;
    if (op >= 0x80 && op <= 0x83) {
        *n = in->bytes[in->modrm] >> 3 & 7;
    } else if ((op | 1) == 0x85) {
        *n = FLAGS_TEST;
        r->b = reg->reg;
    } else if ((op | 1) == 0xf7 && (in->bytes[in->modrm] >> 3 & 7) < 2) {
        *n = FLAGS_TEST;
    } else if (op < 0x40 && (op & 6) == 0) {
        r->b = reg->reg;
    } else if (op < 0x40 && (op & 6) == 2) {
        r->a = reg->reg;
        r->b = rm->reg;
    } else {
        return false;
    }
    return true;
}

/* The recipe for in, which has just set all flags; false: there is none. */
static bool flags_recipe(const struct bt_jit_insn *in, struct bt_jit_recipe *r)
{
    unsigned n;

    *r = (struct bt_jit_recipe){ .size = in->size, .b = BT_JIT_NO_REG };
    if (in->kind != BT_JIT_RAW || in->encoding != BT_JIT_LEGACY || in->mem ||
        !flags_operands(in, r, &n))
        return false;
    switch (n) {
    case 0:
        r->op = BT_JIT_ADD;
        return r->a != r->b;
    case 1: /* OR, AND, XOR: as TEST of the result */
    case 4:
    case 6:
        r->op = BT_JIT_TEST;
        r->b = r->a;
        return true;
    case 5:
        r->op = BT_JIT_SUB;
        return r->a != r->b;
    case 7:
        r->op = BT_JIT_CMP;
        return true;
    case FLAGS_TEST:
        r->op = BT_JIT_TEST;
        return true;
    default:
        return false;
    }
}

/* --- state --- */
void bt_jit_flags_host(struct bt_jit_gen *g)
{
    struct bt_emit *e = &g->e;

    if ((g->flags & BT_JIT_FL_HOST) || !g->flags)
        return;
    if (g->flags & BT_JIT_FL_RECIPE) {
        bt_jit_flags_cook(e, &g->recipe);
    } else {
        /*
         * As PUSHF left them, bits 8 to 15 are 02, or 0a with OF: adding 76 overflows if it is set. The
         * others are what SAHF takes from AH.
         */
        bt_emit_mov(e, BT_JIT_T1, EAX);
        bt_emit_rm(e, OP_LOAD, false, EAX, X86_RSP, BT_JIT_FRAME(flags));
        bt_emit8(e, 0x66); /* rol ax, 8 */
        bt_emit_rr(e, 0xc1, false, 0, EAX);
        bt_emit8(e, 8);
        bt_emit8(e, 0x04); /* add al, 76 */
        bt_emit8(e, 0x76);
        bt_emit8(e, 0x9e); /* sahf */
        bt_emit_mov(e, EAX, BT_JIT_T1);
    }
    g->flags |= BT_JIT_FL_HOST;
}

void bt_jit_flags_save(struct bt_jit_gen *g)
{
    if (g->flags & BT_JIT_FL_SAVED)
        return;
    bt_jit_flags_host(g);
    flags_push(&g->e);
    g->flags |= BT_JIT_FL_SAVED;
}

void bt_jit_flags_clobber(struct bt_jit_gen *g)
{
    if (!(g->flags & (BT_JIT_FL_SAVED | BT_JIT_FL_RECIPE)) && g->flags)
        bt_jit_flags_save(g);
    g->flags &= ~(unsigned)BT_JIT_FL_HOST;
}

void bt_jit_flags_before(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    unsigned passes = in->flags_change ? FLAG_ARITH & ~(unsigned)in->flags_def : 0;

    if (in->flags_use || (passes & in->need_after))
        bt_jit_flags_host(g);
    if (!(g->flags & BT_JIT_FL_RECIPE) || in->flags_def == FLAG_ARITH ||
        !((in->writes >> g->recipe.a & 1) ||
          (g->recipe.b != BT_JIT_NO_REG && (in->writes >> g->recipe.b & 1))))
        return;
    if (!in->flags_change && in->need_after && g->flags == BT_JIT_FL_RECIPE)
        bt_jit_flags_host(g);
    g->flags &= ~(unsigned)BT_JIT_FL_RECIPE;
}

void bt_jit_flags_after(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    if (!in->flags_change)
        return;
    g->flags = BT_JIT_FL_HOST;
    if (in->flags_def == FLAG_ARITH && flags_recipe(in, &g->recipe))
        g->flags |= BT_JIT_FL_RECIPE;
}
