/*
 * bt_jit_x87.c: what the FPU has to be like for instructions that are emitted as themselves, and the guest's
 * x87 instruction pointer. x87 and MMX instructions are translated while all x87 exceptions are masked
 * (BT_KEY_X87): then there is none to report, and FDP and FOP do not move.
 *
 * vCPU thread; the FPU state is stored.
 */
#include "accel/bt/bt_jit_insn.h"
#include "accel/bt/bt_native.h"

/* Is the FPU state that the instruction needs switched on in this mode? */
static bool x87_on(const struct bt_cpu *c, unsigned class)
{
    switch (class) {
    case BT_CLASS_NONE:
        return true;
    case BT_FPU_SSE:
        return BT_FPU_LAZY && (c->code_key & BT_KEY_SSE);
    case BT_FPU_AVX:
        return BT_FPU_LAZY && (c->code_key & BT_KEY_AVX);
    case BT_FPU_AVX512:
        return BT_FPU_LAZY && (c->code_key & BT_KEY_AVX512);
    default:
        return c->code_key & BT_KEY_X87;
    }
}

bool bt_jit_x87_decode(const struct bt_cpu *c, const struct bt_plan *p, struct bt_jit_insn *in)
{
    bool fldcw = p->control && p->waits && p->access == BT_ACCESS_READ && p->mem_size == 2;

    if ((p->control && !fldcw) || !x87_on(c, p->class) || (p->waits && !(c->code_key & BT_KEY_X87)))
        return false;
    in->fpu = p->class != BT_CLASS_NONE;
    in->x87 = p->x87 == BT_X87_OP;
    return true;
}

uint32_t bt_jit_x87_masked(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t disp)
{
    enum { MASKS = 0x3f, CC_NZ = 5 };
    uint32_t point = bt_jit_new_point(g, in, 1);
    struct bt_emit *e = &g->e;

    bt_emit_rm(e, 0x8a, false, BT_JIT_T1, BT_JIT_T0, disp); /* mov t1b */
    bt_emit_rr(e, 0xf7, false, 2, BT_JIT_T1);               /* not */
    bt_emit_rr(e, 0xf6, false, 0, BT_JIT_T1);               /* test t1b */
    bt_emit8(e, MASKS);
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_NZ);
    return point;
}

void bt_jit_x87_record(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    bt_jit_rip(g, BT_JIT_T1, in->off);
    bt_emit_store(&g->e, BT_JIT_T1, (int)offsetof(struct bt_cpu, fip));
}
