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
static void flags_size(struct bt_emit *e, const struct bt_jit_recipe *r)
{
    if (r->size == 2)
        bt_emit8(e, 0x66);
}

/* op on T1 or a's own register, with b or the immediate: n is group 1's number of the operation */
static void flags_alu(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned n, unsigned reg)
{
    bool w = r->size == 8;

    flags_size(e, r);
    if (r->b == BT_JIT_NO_REG) {
        bt_emit_rr(e, 0x81, w, n, reg);
        if (r->size == 2)
            bt_emit16(e, (unsigned)r->value);
        else
            bt_emit32(e, (uint32_t)r->value);
    } else if (bt_jit_in_memory(r->b)) {
        bt_emit_rm(e, n << 3 | 3, w, reg, X86_RSP, r->b * 8);
    } else {
        bt_emit_rr(e, n << 3 | 1, w, bt_jit_host(r->b), reg);
    }
}

static void flags_test(struct bt_emit *e, const struct bt_jit_recipe *r, unsigned reg)
{
    bool w = r->size == 8;

    flags_size(e, r);
    if (r->b == BT_JIT_NO_REG) {
        bt_emit_rr(e, 0xf7, w, 0, reg);
        if (r->size == 2)
            bt_emit16(e, (unsigned)r->value);
        else
            bt_emit32(e, (uint32_t)r->value);
    } else if (r->a == r->b) {
        bt_emit_rr(e, OP_TEST, w, reg, reg);
    } else if (bt_jit_in_memory(r->b)) {
        bt_emit_rm(e, OP_TEST, w, reg, X86_RSP, r->b * 8);
    } else {
        bt_emit_rr(e, OP_TEST, w, bt_jit_host(r->b), reg);
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

/* The recipe for in, which has just set all flags; false: there is none. */
static bool flags_recipe(const struct bt_jit_insn *in, struct bt_jit_recipe *r)
{
    const struct bt_jit_slot *reg = &in->slot[BT_JIT_SLOT_REG], *rm = &in->slot[BT_JIT_SLOT_RM];
    const uint8_t op = in->bytes[in->opcode];
    unsigned n = in->modrm ? in->bytes[in->modrm] >> 3 & 7 : 0;

    *r = (struct bt_jit_recipe){ .size = in->size, .a = rm->reg, .b = BT_JIT_NO_REG };
    if (in->kind != BT_JIT_RAW || in->encoding != BT_JIT_LEGACY || in->mem || in->size < 2 ||
        in->modrm != in->opcode + 1 || rm->reg == BT_JIT_NO_REG)
        return false;
    if (op == 0x81 || op == 0x83) {
        r->value = (int32_t)in->value;
    } else if (op == 0x85) {
        r->op = BT_JIT_TEST;
        r->b = reg->reg;
        return true;
    } else if (op == 0xf7 && n < 2) {
        r->op = BT_JIT_TEST;
        r->value = (int32_t)in->value;
        return true;
    } else if (op < 0x40 && (op & 7) == 1) {
        r->b = reg->reg;
        n = op >> 3;
    } else if (op < 0x40 && (op & 7) == 3) {
        r->a = reg->reg;
        r->b = rm->reg;
        n = op >> 3;
    } else {
        return false;
    }
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
