/*
 * bt_far.c: far JMP and CALL: direct, through call gates of 16, 32 and 64 bits, task gates and TSSs
 * (SDM 2A CALL, JMP; 3A 5.8).
 */
#include "accel/bt/bt_sysops.h"

struct far_target {
    uint16_t sel;
    uint64_t off;
    uint64_t next; /* return address */
    unsigned size; /* operand size */
    bool call;
};

static int far_gp(struct bt_cpu *c, uint16_t sel)
{
    return bt_raise_err(c, X86_GP, bt_sel_error(sel));
}

static int far_push_return(struct bt_cpu *c, struct bt_stack *st, const struct far_target *t,
                           unsigned size)
{
    return bt_stack_push(c, st, size, c->s.seg[X86_CS].sel) || bt_stack_push(c, st, size, t->next)
               ? BT_FAULT
               : 0;
}

static int far_real(struct bt_cpu *c, const struct far_target *t)
{
    struct bt_stack st = bt_stack_current(c);

    if (t->off > c->s.seg[X86_CS].limit)
        return bt_raise_err(c, X86_GP, 0);
    if (t->call) {
        if (far_push_return(c, &st, t, t->size))
            return BT_FAULT;
        bt_stack_commit_sp(c, &st);
    }
    if (bt_vm86(c))
        c->s.seg[X86_CS] = bt_seg_real(t->sel, true);
    c->s.seg[X86_CS].sel = t->sel;
    c->s.seg[X86_CS].base = (uint64_t)t->sel << 4;
    c->s.rip = t->off;
    return 0;
}

/* L and D both set is reserved in long mode. */
static bool far_code_mode_ok(const struct bt_cpu *c, const struct bt_desc *cs)
{
    return !c->long_mode || !(bt_desc_long(cs) && bt_desc_db(cs));
}

static int far_direct(struct bt_cpu *c, const struct far_target *t, struct bt_desc *cs)
{
    struct bt_stack st = bt_stack_current(c);
    unsigned dpl = bt_desc_dpl(cs);

    if (bt_desc_conforming(cs) ? dpl > c->cpl : (t->sel & 3u) > c->cpl || dpl != c->cpl)
        return far_gp(c, t->sel);
    if (!far_code_mode_ok(c, cs))
        return far_gp(c, t->sel);
    if (!bt_desc_present(cs))
        return bt_raise_err(c, X86_NP, bt_sel_error(t->sel));
    if (bt_desc_accessed(c, cs) || (t->call && far_push_return(c, &st, t, t->size)) ||
        bt_code_offset_ok(c, cs, t->off))
        return BT_FAULT;
    if (t->call)
        bt_stack_commit_sp(c, &st);
    bt_set_cs(c, cs, c->cpl);
    c->s.rip = t->off;
    return 0;
}

/* --- call gates --- */

static int far_gate_code(struct bt_cpu *c, const struct bt_desc *gate, struct bt_desc *cs)
{
    uint16_t sel = bt_gate_sel(gate);

    if (bt_sel_null(sel))
        return bt_raise_err(c, X86_GP, 0);
    if (bt_desc_load(c, sel, X86_GP, cs))
        return BT_FAULT;
    if (!bt_desc_code(cs) || bt_desc_dpl(cs) > c->cpl)
        return far_gp(c, sel);
    if (c->long_mode && (!bt_desc_long(cs) || bt_desc_db(cs)))
        return far_gp(c, sel);
    return bt_desc_present(cs) ? 0 : bt_raise_err(c, X86_NP, bt_sel_error(sel));
}

/* Parameters of a legacy call gate, from the old stack to the new, first pushed first. */
static int far_copy_params(struct bt_cpu *c, struct bt_stack *to, unsigned size, unsigned count)
{
    struct bt_stack from = bt_stack_current(c);

    from.sp += (uint64_t)size * count;
    while (count--) {
        struct bt_stack at = from;
        uint64_t val;

        from.sp = at.sp = (from.sp - size) & bt_mask(from.width);
        if (bt_stack_pop(c, &at, size, &val) || bt_stack_push(c, to, size, val))
            return BT_FAULT;
    }
    return 0;
}

static int far_gate_inner(struct bt_cpu *c, const struct far_target *t, const struct bt_desc *gate,
                          unsigned size, unsigned cpl, struct bt_stack *st)
{
    if (size == 8 ? bt_stack_from_tss64(c, cpl, 0, st) : bt_stack_from_tss(c, cpl, st))
        return BT_FAULT;
    if (bt_stack_push(c, st, size, c->s.seg[X86_SS].sel) ||
        bt_stack_push(c, st, size, c->s.gpr[X86_RSP]))
        return BT_FAULT;
    if (size != 8 && far_copy_params(c, st, size, gate->raw >> 32 & 31))
        return BT_FAULT;
    return far_push_return(c, st, t, size);
}

static int far_call_gate(struct bt_cpu *c, const struct far_target *t, const struct bt_desc *gate)
{
    unsigned size = c->long_mode ? 8 : bt_desc_type(gate) == DESC_CALL16 ? 2 : 4, cpl = c->cpl;
    struct bt_stack st = bt_stack_current(c);
    uint64_t off = bt_gate_offset(gate), high = 0;
    struct bt_desc cs;
    bool inner;

    if (!bt_desc_present(gate))
        return bt_raise_err(c, X86_NP, bt_sel_error(t->sel));
    if (c->long_mode && bt_desc_load_high(c, t->sel, X86_GP, &high))
        return BT_FAULT;
    off = size == 2 ? off & 0xffff : off | high << 32;
    if (far_gate_code(c, gate, &cs))
        return BT_FAULT;
    inner = !bt_desc_conforming(&cs) && bt_desc_dpl(&cs) < c->cpl;
    if (inner && !t->call)
        return far_gp(c, cs.sel);
    if (inner)
        cpl = bt_desc_dpl(&cs);
    if (inner ? far_gate_inner(c, t, gate, size, cpl, &st)
              : t->call && far_push_return(c, &st, t, size))
        return BT_FAULT;
    if (bt_code_offset_ok(c, &cs, off) || bt_desc_accessed(c, &cs))
        return BT_FAULT;
    if (inner) {
        c->s.seg[X86_SS] = st.ss;
        c->s.gpr[X86_RSP] = 0;
    }
    bt_stack_commit_sp(c, &st);
    bt_set_cs(c, &cs, cpl);
    c->s.rip = off;
    return 0;
}

/* --- system descriptors --- */

static int far_tss(struct bt_cpu *c, const struct far_target *t, const struct bt_desc *d)
{
    if (!bt_desc_present(d))
        return bt_raise_err(c, X86_NP, bt_sel_error(t->sel));
    c->s.rip = t->next;
    return bt_task_switch(c, t->sel, t->call ? BT_TASK_CALL : BT_TASK_JMP, false, 0);
}

static int far_task_gate(struct bt_cpu *c, const struct far_target *t, const struct bt_desc *d)
{
    if (!bt_desc_present(d))
        return bt_raise_err(c, X86_NP, bt_sel_error(t->sel));
    c->s.rip = t->next;
    return bt_task_gate(c, bt_gate_sel(d), t->call ? BT_TASK_CALL : BT_TASK_JMP, false, 0);
}

static int far_system(struct bt_cpu *c, const struct far_target *t, const struct bt_desc *d)
{
    unsigned type = bt_desc_type(d);

    if (bt_desc_dpl(d) < c->cpl || bt_desc_dpl(d) < (t->sel & 3u))
        return far_gp(c, t->sel);
    if (c->long_mode)
        return type == DESC_CALL ? far_call_gate(c, t, d) : far_gp(c, t->sel);
    switch (type) {
    case DESC_CALL16:
    case DESC_CALL:
        return far_call_gate(c, t, d);
    case DESC_TASK:
        return far_task_gate(c, t, d);
    case DESC_TSS16:
    case DESC_TSS:
        return far_tss(c, t, d);
    default:
        return far_gp(c, t->sel);
    }
}

static int far_protected(struct bt_cpu *c, const struct far_target *t)
{
    struct bt_desc d;

    if (bt_sel_null(t->sel))
        return bt_raise_err(c, X86_GP, 0);
    if (bt_desc_load(c, t->sel, X86_GP, &d))
        return BT_FAULT;
    if (bt_desc_system(&d))
        return far_system(c, t, &d);
    return bt_desc_code(&d) ? far_direct(c, t, &d) : far_gp(c, t->sel);
}

static int far_go(struct bt_cpu *c, const struct bt_insn *in, uint16_t sel, uint64_t off, bool call)
{
    struct far_target t = {
        .sel = sel, .off = off & bt_mask(in->size), .size = in->size, .call = call
    };
    int ret;

    bt_skip(c, in);
    t.next = c->s.rip;
    ret = bt_protected(c) ? far_protected(c, &t) : far_real(c, &t);
    if (ret == BT_FAULT)
        return bt_sys_fault(c, in);
    bt_mode_changed(c);
    return ret ? ret : BT_JUMP;
}

int bt_op_jmp_far(struct bt_cpu *c, const struct bt_insn *in)
{
    return far_go(c, in, (uint16_t)in->imm2, (uint64_t)in->imm, false);
}

int bt_op_call_far(struct bt_cpu *c, const struct bt_insn *in)
{
    return far_go(c, in, (uint16_t)in->imm2, (uint64_t)in->imm, true);
}

static int far_mem(struct bt_cpu *c, const struct bt_insn *in, bool call)
{
    uint64_t off, sel, ea = bt_ea(c, in);

    if (bt_read(c, in->seg, ea, in->size, &off) ||
        bt_read(c, in->seg, (ea + in->size) & bt_mask(in->asize), 2, &sel))
        return bt_sys_fault(c, in);
    return far_go(c, in, (uint16_t)sel, off, call);
}

int bt_op_jmp_far_mem(struct bt_cpu *c, const struct bt_insn *in)
{
    return far_mem(c, in, false);
}

int bt_op_call_far_mem(struct bt_cpu *c, const struct bt_insn *in)
{
    return far_mem(c, in, true);
}
