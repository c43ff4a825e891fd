/*
 * bt_jit_branch.c: control flow: exits to other units, the jump cache, safepoints, and the late
 * code that all of it leads to when it is not on the hot path.
 *
 * An exit within the page, or of kernel code, is a jump that is linked to its target's unit once there is
 * one. Any other goes through the jump cache, which is right for the linear addresses of one address space.
 *
 * vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1 };
enum { CC_NZ = 5 };

/* --- exits --- */
static bool branch_linkable(const struct bt_jit_gen *g, int32_t off)
{
    return g->u->fixed || (off >= 0 && off < PAGE_SIZE);
}

static uint32_t branch_new_exit(struct bt_jit_gen *g, int32_t off)
{
    struct bt_jit *j = g->j;
    uint32_t n = j->n_exits;

    if (n + 1 < BT_JIT_EXITS)
        j->n_exits++;
    else
        g->full = true;
    j->exit[n] = (struct bt_jit_exit){ .unit = (uint32_t)(g->u - j->unit),
                                       .target = off,
                                       .saved = g->flags & BT_JIT_FL_SAVED };
    return n;
}

/* Its jump, of condition cc; the flags are where they are needed. */
static void branch_link(struct bt_jit_gen *g, unsigned cc, int32_t off)
{
    uint32_t n = branch_new_exit(g, off);
    struct bt_jit_late *l = bt_jit_new_late(g, BT_JIT_LATE_EXIT, n);

    while (bt_jit_here(g) < g->entered + BT_JIT_JUMP) /* links are not where an entry is closed */
        bt_emit8(&g->e, 0x90);
    l->jump = bt_jit_jump(g, cc);
    g->j->exit[n].site = (uint32_t)(l->jump - g->j->w);
}

/* T0: linear address. Goes to its unit, or to the late code that `jump` is set to. The flags are saved. */
static void branch_cached(struct bt_jit_gen *g, struct bt_jit_late *miss)
{
    struct bt_emit *e = &g->e;

    bt_emit_rm(e, OP_XOR_LOAD, true, T0, X86_RSP, BT_JIT_FRAME(context));
    bt_emit_rr(e, 0x69, false, T1, T0); /* imul t1d, t0d, hash */
    bt_emit32(e, BT_JIT_JC_HASH);
    bt_emit_alu_imm(e, 4, false, T1, BT_JIT_JC_MASK); /* and */
    bt_emit_rmx(e, OP_CMP_LOAD, true, T0, X86_RSP, T1, 1, BT_JIT_JC_KEY);
    miss->jump = bt_jit_jump(g, CC_NZ);
}

/* And on, after a hit. */
static void branch_page(struct bt_jit_gen *g)
{
    struct bt_emit *e = &g->e;

    if (g->u->fixed)
        return;
    bt_emit_rm(e, OP_XOR_LOAD, true, T0, X86_RSP, BT_JIT_FRAME(context));
    bt_emit_rr(e, 0x81, true, 4, T0); /* and */
    bt_emit32(e, (uint32_t)PAGE_MASK);
}

static void branch_go(struct bt_jit_gen *g)
{
    branch_page(g);
    if (!g->u->fixed)
        bt_emit_store(&g->e, T0, BT_JIT_FRAME(page_lin));
    bt_emit_rmx(&g->e, 0xff, false, 4, X86_RSP, T1, 1, BT_JIT_JC_CODE); /* jmp */
}

static void branch_cross(struct bt_jit_gen *g, int32_t off)
{
    uint32_t n;

    bt_jit_flags_save(g);
    bt_jit_rip(g, T0, off);
    n = branch_new_exit(g, off);
    branch_cached(g, bt_jit_new_late(g, BT_JIT_LATE_EXIT, n));
    branch_go(g);
}

void bt_jit_exit_to(struct bt_jit_gen *g, int32_t off)
{
    if (!branch_linkable(g, off)) {
        branch_cross(g, off);
        return;
    }
    if (!(g->flags & BT_JIT_FL_SAVED))
        bt_jit_flags_host(g);
    branch_link(g, BT_JIT_ALWAYS, off);
}

void bt_jit_safepoint(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;

    if (in == g->sheltered)
        return;
    bt_emit_load(e, T1, BT_JIT_FRAME(safe));
    bt_jit_new_late(g, BT_JIT_LATE_POINT, bt_jit_new_point(g, in, 0))->fault = e->p;
    bt_emit_rm(e, OP_LOAD, true, T1, T1, 0);
}

static int32_t branch_target(const struct bt_jit_insn *in)
{
    return (int32_t)(in->off + in->len + in->value);
}

static bool branch_backward(const struct bt_jit_insn *in)
{
    return branch_target(in) <= in->off;
}

/* --- instructions --- */
static void branch_jcc(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    int32_t off = branch_target(in);
    unsigned flags;
    uint8_t *skip;

    if (branch_backward(in))
        bt_jit_safepoint(g, in);
    bt_jit_flags_host(g);
    if (branch_linkable(g, off)) {
        branch_link(g, in->cc, off);
        return;
    }
    skip = bt_jit_jump(g, in->cc ^ 1u);
    flags = g->flags;
    branch_cross(g, off);
    g->flags = flags;
    bt_jit_set_rel(skip, g->e.p);
}

/*
 *          lea   rcx, [rcx - 1]      LOOP; no flag is changed
 *          jnz   next                LOOPE; jz: LOOPNE
 *          jrcxz 1f                  JRCXZ: and taken from here on
 *          jmp   taken
 *      1:  jmp   next
 *   taken: ...
 */
static void branch_loop(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    enum { JMP_SHORT = 0xeb, JRCXZ = 0xe3, CC_Z = 4 };
    struct bt_emit *e = &g->e;
    uint8_t *next, *other = NULL;
    unsigned flags;

    if (branch_backward(in))
        bt_jit_safepoint(g, in);
    bt_jit_flags_host(g);
    bt_jit_flags_before(g, in);
    if (in->cc != BT_JIT_RCXZ)
        bt_emit_rm(e, OP_LEA, in->asize == 8, X86_RCX, X86_RCX, -1);
    if (in->cc == BT_JIT_LOOP_E || in->cc == BT_JIT_LOOP_NE)
        other = bt_jit_jump(g, in->cc == BT_JIT_LOOP_E ? CC_NZ : CC_Z);
    if (in->asize == 4)
        bt_emit8(e, 0x67);
    bt_emit8(e, JRCXZ);
    bt_emit8(e, in->cc == BT_JIT_RCXZ ? BT_JIT_JUMP : 2);
    if (in->cc != BT_JIT_RCXZ)
        bt_emit16(e, BT_JIT_JUMP << 8 | JMP_SHORT);
    next = bt_jit_jump(g, BT_JIT_ALWAYS);
    flags = g->flags;
    bt_jit_exit_to(g, branch_target(in));
    g->flags = flags;
    bt_jit_set_rel(next, e->p);
    if (other)
        bt_jit_set_rel(other, e->p);
}

static void branch_push_next(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t disp)
{
    struct bt_emit *e = &g->e;

    bt_jit_rip(g, T1, in->off + in->len);
    bt_emit_rm(e, OP_STORE, bt_jit_wide(g), T1, T0, disp);
    bt_emit_rm(e, OP_LEA, bt_jit_wide(g), BT_JIT_RSP, BT_JIT_RSP, -in->word);
}

static void branch_call(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    int32_t disp;

    if (branch_backward(in))
        bt_jit_safepoint(g, in);
    bt_jit_operand(g, in, &disp);
    bt_jit_flags_before(g, in);
    branch_push_next(g, in, disp);
    bt_jit_exit_to(g, branch_target(in));
}

/* The target of an indirect jump or call into T0. */
static void branch_load_target(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;
    const uint8_t *retry;

    if (!in->mem) {
        bt_emit_rr(e, OP_STORE, bt_jit_wide(g), bt_jit_reg(g, in->slot[BT_JIT_SLOT_RM].reg, T0),
                   T0);
        return;
    }
    retry = e->p;
    bt_jit_ea(g, in, 0);
    bt_jit_lookup(g, in, 1, in->word, false, retry);
    bt_emit_rm(e, OP_LOAD, bt_jit_wide(g), T0, T0, 0);
}

/* The late code of in, a jump whose target, in T0, the jump cache does not know; RSP is yet to move by pop. */
static struct bt_jit_late *branch_missed(struct bt_jit_gen *g, const struct bt_jit_insn *in,
                                         unsigned pop)
{
    uint32_t n = bt_jit_new_point(g, in, 1);

    if (pop <= UINT16_MAX)
        g->j->point[n].access = BT_JIT_MISS_JUMP;
    g->j->point[n].size = (uint16_t)pop;
    return bt_jit_new_late(g, BT_JIT_LATE_POINT, n);
}

static void branch_jmp_ind(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    bt_jit_safepoint(g, in);
    bt_jit_flags_save(g);
    branch_load_target(g, in);
    branch_cached(g, branch_missed(g, in, 0));
    branch_go(g);
}

/* The return address is pushed only once the target is known to be good. */
static void branch_call_ind(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;
    const uint8_t *retry;

    bt_jit_safepoint(g, in);
    bt_jit_flags_save(g);
    branch_load_target(g, in);
    branch_cached(g, bt_jit_new_late(g, BT_JIT_LATE_POINT, bt_jit_new_point(g, in, 1)));
    bt_emit_rmx(e, OP_LOAD, true, T1, X86_RSP, T1, 1, BT_JIT_JC_CODE);
    bt_emit_store(e, T1, BT_JIT_FRAME(keep[0]));
    branch_page(g);
    if (!g->u->fixed)
        bt_emit_store(e, T0, BT_JIT_FRAME(keep[1]));
    retry = e->p;
    bt_emit_rm(e, OP_LEA, bt_jit_wide(g), T0, BT_JIT_RSP, -in->word);
    bt_jit_lookup_stack(g, in, 1, in->word, true, retry);
    branch_push_next(g, in, 0);
    if (!g->u->fixed) {
        bt_emit_load(e, T1, BT_JIT_FRAME(keep[1]));
        bt_emit_store(e, T1, BT_JIT_FRAME(page_lin));
    }
    bt_emit_rm(e, 0xff, false, 4, X86_RSP, BT_JIT_FRAME(keep[0])); /* jmp */
}

static void branch_ret(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;
    int32_t disp;

    bt_jit_safepoint(g, in);
    bt_jit_operand(g, in, &disp);
    bt_jit_flags_save(g);
    bt_emit_rm(e, OP_LOAD, bt_jit_wide(g), T0, T0, disp);
    branch_cached(g, branch_missed(g, in, (unsigned)in->value + in->word));
    bt_emit_rm(e, OP_LEA, bt_jit_wide(g), BT_JIT_RSP, BT_JIT_RSP, (int32_t)in->value + in->word);
    branch_go(g);
}

void bt_jit_branch(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    switch (in->kind) {
    case BT_JIT_JCC:
        branch_jcc(g, in);
        break;
    case BT_JIT_LOOP:
        branch_loop(g, in);
        break;
    case BT_JIT_JMP:
        if (branch_backward(in))
            bt_jit_safepoint(g, in);
        bt_jit_exit_to(g, branch_target(in));
        break;
    case BT_JIT_CALL:
        branch_call(g, in);
        break;
    case BT_JIT_JMP_IND:
        branch_jmp_ind(g, in);
        break;
    case BT_JIT_CALL_IND:
        branch_call_ind(g, in);
        break;
    default:
        branch_ret(g, in);
    }
}

/* --- late code --- */
static void late_flags(struct bt_jit_gen *g, const struct bt_jit_late *l)
{
    if ((l->flags & BT_JIT_FL_SAVED) || !l->flags)
        return;
    if (!(l->flags & BT_JIT_FL_HOST))
        bt_jit_flags_cook(&g->e, &l->recipe);
    bt_emit8(&g->e, 0x9c); /* pushfq */
    bt_emit_rsp(&g->e, 8);
}

/* The thunk comes back to `back` with the host's address, or behind the jump there with the guest's. */
static void late_stack(struct bt_jit_gen *g, const struct bt_jit_late *l)
{
    const struct bt_jit *j = g->j;
    struct bt_emit *e = &g->e;
    uint8_t *rel;

    bt_emit_rm(e, OP_XOR_LOAD, true, T0, X86_RSP, BT_JIT_FRAME(stack_lin));
    bt_emit_rm(e, 0xc7, true, 0, X86_RSP, BT_JIT_FRAME(t0));
    bt_emit32(e, PAGE_SIZE - l->size);
    bt_emit8(e, 0x4c); /* lea t1, [rip + ...] */
    bt_emit16(e, 0x1d8d);
    bt_emit32(e, 5);
    bt_jit_set_rel(bt_jit_jump(g, BT_JIT_ALWAYS), j->w + j->stack[l->write]);
    rel = bt_jit_jump(g, BT_JIT_ALWAYS);
    bt_jit_set_rel(rel, l->back);
}

void bt_jit_late_emit(struct bt_jit_gen *g)
{
    struct bt_jit *j = g->j;

    for (unsigned i = 0; i < g->n_late && !g->full; i++) {
        const struct bt_jit_late *l = &j->scratch->late[i];
        uint32_t stub = bt_jit_here(g);

        if (l->fault)
            j->fault[j->n_faults++] = (struct bt_jit_fault){ (uint32_t)(l->fault - j->w), stub };
        if (l->jump)
            bt_jit_set_rel(l->jump, g->e.p);
        if (l->kind == BT_JIT_LATE_EXIT)
            j->exit[l->number].stub = stub;
        if (l->kind == BT_JIT_LATE_STACK)
            late_stack(g, l);
        if (l->missed)
            bt_emit_rmx(&g->e, OP_XOR_LOAD, true, T0, BT_JIT_TLB, T1, 1, l->tag);
        late_flags(g, l);
        bt_jit_call(g, l->kind == BT_JIT_LATE_EXIT ? l->number | BT_JIT_ID_EXIT : l->number);
    }
}
