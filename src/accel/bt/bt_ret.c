/*
 * bt_ret.c: far RET and IRET (SDM 2A RET, IRET): to the same and to outer privilege, to virtual 8086 mode,
 * 64-bit, and from a nested task.
 */
#include "accel/bt/bt_sysops.h"

enum {
    RET_FLAGS16 = FLAG_ARITH | FLAG_TF | FLAG_DF | FLAG_NT,
    RET_FLAGS_WIDE = FLAG_RF | FLAG_AC | FLAG_ID,
    RET_FLAGS_ALL16 = RET_FLAGS16 | FLAG_IF | FLAG_IOPL,
};

struct ret_frame {
    uint64_t rip, cs, rflags;
    struct bt_stack st; /* after what was popped */
    unsigned size;
    unsigned release; /* bytes of parameters (RET imm16) */
    bool iret;
};

static void ret_flags(struct bt_cpu *c, uint64_t v, uint64_t mask)
{
    c->s.rflags = (c->s.rflags & ~mask) | (v & mask) | FLAG_1;
    if (!bt_debug_armed(c)) /* nothing it could suppress */
        c->s.rflags &= ~(uint64_t)FLAG_RF;
    c->event_window = true;
}

/* What IRET may change at privilege cpl. */
static uint64_t ret_flags_mask(const struct bt_cpu *c, unsigned size, unsigned cpl)
{
    uint64_t mask = RET_FLAGS16;

    if (size != 2)
        mask |= RET_FLAGS_WIDE;
    if (cpl <= bt_iopl(c))
        mask |= FLAG_IF;
    if (cpl == 0)
        mask |= FLAG_IOPL | (size != 2 ? FLAG_VIF | FLAG_VIP : 0);
    return mask;
}

/* --- checks of the target --- */

static int ret_code(struct bt_cpu *c, const struct ret_frame *f, struct bt_desc *cs)
{
    uint16_t sel = (uint16_t)f->cs;
    unsigned rpl = sel & 3;

    if (bt_sel_null(sel))
        return bt_raise_err(c, X86_GP, 0);
    if (bt_desc_load(c, sel, X86_GP, cs))
        return BT_FAULT;
    if (!bt_desc_code(cs) || rpl < c->cpl ||
        (bt_desc_conforming(cs) ? bt_desc_dpl(cs) > rpl : bt_desc_dpl(cs) != rpl) ||
        (c->long_mode && bt_desc_long(cs) && bt_desc_db(cs)))
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    if (!bt_desc_present(cs))
        return bt_raise_err(c, X86_NP, bt_sel_error(sel));
    return bt_desc_accessed(c, cs);
}

/* SS of the outer stack. A null selector is good for 64-bit code outside of ring 3. */
static int ret_stack_segment(struct bt_cpu *c, uint16_t sel, unsigned rpl, bool to64,
                             struct x86_seg *ss)
{
    struct bt_desc d;

    if (bt_sel_null(sel)) {
        if (!to64 || rpl == 3 || (sel & 3u) != rpl)
            return bt_raise_err(c, X86_GP, 0);
        *ss = bt_seg_null(sel);
        ss->attr |= (uint16_t)(rpl << SEG_DPL_SHIFT);
        return 0;
    }
    if (bt_desc_load(c, sel, X86_GP, &d))
        return BT_FAULT;
    if ((sel & 3u) != rpl || bt_desc_dpl(&d) != rpl || !bt_desc_writable(&d))
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    if (!bt_desc_present(&d))
        return bt_raise_err(c, X86_SS_FAULT, bt_sel_error(sel));
    if (bt_desc_accessed(c, &d))
        return BT_FAULT;
    *ss = bt_desc_seg(&d);
    return 0;
}

/* Data segments that the outer level may not use become null; their bases stay (FS and GS in long mode). */
static void ret_drop_segments(struct bt_cpu *c, unsigned cpl)
{
    static const uint8_t segs[] = { X86_ES, X86_DS, X86_FS, X86_GS };

    for (unsigned i = 0; i < ARRAY_SIZE(segs); i++) {
        struct x86_seg *s = &c->s.seg[segs[i]];
        bool conforming = (s->attr & (SEG_CODE | SEG_DC)) == (SEG_CODE | SEG_DC);

        if (!(s->attr & SEG_UNUSABLE) && !conforming &&
            (unsigned)(s->attr & SEG_DPL) >> SEG_DPL_SHIFT < cpl) {
            s->sel = 0;
            s->attr = SEG_UNUSABLE;
        }
    }
}

static int ret_protected(struct bt_cpu *c, struct ret_frame *f)
{
    unsigned old_cpl = c->cpl, rpl = f->cs & 3;
    bool outer, pops_stack, to64;
    uint64_t rsp = 0, sel = 0, mask;
    struct x86_seg ss;
    struct bt_desc cs;

    if (ret_code(c, f, &cs) || bt_code_offset_ok(c, &cs, f->rip))
        return BT_FAULT;
    to64 = c->long_mode && bt_desc_long(&cs);
    outer = rpl > c->cpl;
    pops_stack = outer || (f->iret && c->code_size == 8);
    f->st.sp = (f->st.sp + f->release) & bt_mask(f->st.width);
    if (pops_stack &&
        (bt_stack_pop(c, &f->st, f->size, &rsp) || bt_stack_pop(c, &f->st, f->size, &sel) ||
         ret_stack_segment(c, (uint16_t)sel, rpl, to64, &ss)))
        return BT_FAULT;
    mask = ret_flags_mask(c, f->size, old_cpl);
    bt_set_cs(c, &cs, rpl);
    c->s.rip = f->rip;
    if (pops_stack) {
        unsigned width = to64 ? 8 : ss.attr & SEG_DB ? 4 : 2;

        c->s.seg[X86_SS] = ss;
        if (outer)
            rsp += f->release;
        bt_gpr_set(c, X86_RSP, width, rsp);
    } else {
        bt_stack_commit_sp(c, &f->st);
    }
    if (f->iret)
        ret_flags(c, f->rflags, mask);
    if (outer)
        ret_drop_segments(c, rpl);
    return 0;
}

/* --- real and virtual 8086 mode --- */

static int ret_real(struct bt_cpu *c, struct ret_frame *f)
{
    if (f->rip > c->s.seg[X86_CS].limit)
        return bt_raise_err(c, X86_GP, 0);
    f->st.sp += f->release;
    bt_stack_commit_sp(c, &f->st);
    if (bt_vm86(c))
        c->s.seg[X86_CS] = bt_seg_real((uint16_t)f->cs, true);
    c->s.seg[X86_CS].sel = (uint16_t)f->cs;
    c->s.seg[X86_CS].base = (f->cs & 0xffff) << 4;
    c->s.rip = f->rip;
    return 0;
}

/* IRET in virtual 8086 mode with IOPL < 3: only with VME and 16 bits, on the virtual IF. */
static int ret_vme(struct bt_cpu *c, struct ret_frame *f)
{
    uint64_t flags = f->rflags;

    if (!(c->s.cr4 & CR4_VME) || f->size != 2 || (flags & FLAG_TF) ||
        ((flags & FLAG_IF) && (c->s.rflags & FLAG_VIP)))
        return bt_raise_err(c, X86_GP, 0);
    if (ret_real(c, f))
        return BT_FAULT;
    flags = flags & FLAG_IF ? flags | FLAG_VIF : flags & ~(uint64_t)FLAG_VIF;
    ret_flags(c, flags, RET_FLAGS16 | FLAG_VIF);
    return 0;
}

static int ret_iret_real(struct bt_cpu *c, struct ret_frame *f)
{
    uint64_t mask = RET_FLAGS_ALL16 | (f->size != 2 ? RET_FLAGS_WIDE : 0);

    if (bt_vm86(c) && bt_iopl(c) < 3)
        return ret_vme(c, f);
    if (bt_vm86(c))
        mask &= ~(uint64_t)FLAG_IOPL;
    if (ret_real(c, f))
        return BT_FAULT;
    ret_flags(c, f->rflags, mask);
    return 0;
}

static int ret_to_vm86(struct bt_cpu *c, struct ret_frame *f)
{
    static const uint8_t segs[] = { X86_SS, X86_ES, X86_DS, X86_FS, X86_GS };
    uint64_t esp, sel[ARRAY_SIZE(segs)];

    if (bt_stack_pop(c, &f->st, 4, &esp))
        return BT_FAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(segs); i++)
        if (bt_stack_pop(c, &f->st, 4, &sel[i]))
            return BT_FAULT;
    ret_flags(c, f->rflags, ret_flags_mask(c, 4, 0) | FLAG_VM);
    for (unsigned i = 0; i < ARRAY_SIZE(segs); i++)
        c->s.seg[segs[i]] = bt_seg_real((uint16_t)sel[i], true);
    c->s.seg[X86_CS] = bt_seg_real((uint16_t)f->cs, true);
    c->s.gpr[X86_RSP] = esp;
    c->s.rip = f->rip & 0xffff;
    return 0;
}

/* --- the instructions --- */

static int ret_pop(struct bt_cpu *c, const struct bt_insn *in, bool iret, struct ret_frame *f)
{
    *f = (struct ret_frame){ .st = bt_stack_current(c), .size = in->size, .iret = iret };
    if (bt_stack_pop(c, &f->st, in->size, &f->rip) || bt_stack_pop(c, &f->st, in->size, &f->cs))
        return BT_FAULT;
    return iret ? bt_stack_pop(c, &f->st, in->size, &f->rflags) : 0;
}

int bt_op_ret_far(struct bt_cpu *c, const struct bt_insn *in)
{
    struct ret_frame f;

    if (ret_pop(c, in, false, &f))
        return bt_sys_fault(c, in);
    f.release = (uint16_t)in->imm;
    if (bt_protected(c) ? ret_protected(c, &f) : ret_real(c, &f))
        return bt_sys_fault(c, in);
    bt_mode_changed(c);
    return BT_JUMP;
}

/* Back to the task that called or was interrupted: its selector is the first word of our TSS. */
static int ret_nested_task(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t link;
    int ret;

    if (bt_lin_read(c, c->s.tr.base, 2, &link, BT_MMU_SUPER))
        return bt_sys_fault(c, in);
    bt_skip(c, in);
    ret = bt_task_gate(c, (uint16_t)link, BT_TASK_IRET, false, 0);
    if (ret == BT_FAULT)
        return bt_sys_fault(c, in);
    bt_mode_changed(c);
    return ret ? ret : BT_JUMP;
}

/* While one NMI is handled, a processor keeps one more, however many come. */
static void ret_unmask_nmi(struct bt_cpu *c)
{
    while (c->s.nmi_masked && exit_nmi_take(c->vcpu))
        c->s.nmi_pending = true;
    c->s.nmi_masked = false;
}

int bt_op_iret(struct bt_cpu *c, const struct bt_insn *in)
{
    struct ret_frame f;
    int ret;

    ret_unmask_nmi(c);
    c->event_window = true;
    if (bt_protected(c) && (c->s.rflags & FLAG_NT))
        return c->long_mode ? bt_sys_gp(c, in) : ret_nested_task(c, in);
    if (bt_vm86(c) && bt_iopl(c) < 3 && !(c->s.cr4 & CR4_VME))
        return bt_sys_gp(c, in);
    if (ret_pop(c, in, true, &f))
        return bt_sys_fault(c, in);
    if (!bt_protected(c))
        ret = ret_iret_real(c, &f);
    else if ((f.rflags & FLAG_VM) && !c->long_mode && c->cpl == 0 && f.size == 4)
        ret = ret_to_vm86(c, &f);
    else
        ret = ret_protected(c, &f);
    if (ret)
        return bt_sys_fault(c, in);
    bt_mode_changed(c);
    return BT_JUMP;
}
