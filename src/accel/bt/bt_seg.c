/*
 * bt_seg.c: loads and stores of segment registers, LDTR and TR (SDM 2A MOV, POP, LDS, LLDT, LTR).
 */
#include "accel/bt/bt_sysops.h"

int bt_rm_linear(struct bt_cpu *c, const struct bt_insn *in, unsigned len, bool write,
                 uint64_t *lin)
{
    return bt_linear(c, in->seg, bt_ea(c, in), len, write, lin);
}

int bt_rm_get(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *v)
{
    if (in->rm == BT_REG_NONE)
        return bt_read(c, in->seg, bt_ea(c, in), size, v);
    *v = bt_gpr_get(c, in->rm, size);
    return 0;
}

int bt_rm_set_word(struct bt_cpu *c, const struct bt_insn *in, uint64_t v)
{
    if (in->rm == BT_REG_NONE)
        return bt_write(c, in->seg, bt_ea(c, in), 2, v);
    bt_gpr_set(c, in->rm, in->size, v);
    return 0;
}

/* Real mode changes selector and base only: limits set in protected mode stay ("unreal mode"). */
static void seg_load_real(struct x86_seg *s, uint16_t sel, bool vm86)
{
    if (vm86) {
        *s = bt_seg_real(sel, true);
        return;
    }
    if (s->attr & SEG_UNUSABLE)
        *s = bt_seg_real(sel, false);
    s->sel = sel;
    s->base = (uint64_t)sel << 4;
    s->attr = (uint16_t)((s->attr & (SEG_G | SEG_DB)) | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED);
}

static int seg_load_null(struct bt_cpu *c, unsigned seg, uint16_t sel)
{
    c->s.seg[seg] = bt_seg_null(sel);
    if (seg != X86_SS)
        return 0;
    if (c->code_size != 8 || c->cpl == 3 || (sel & 3) != c->cpl)
        return bt_raise_err(c, X86_GP, 0);
    c->s.seg[seg].attr |= (uint16_t)(c->cpl << SEG_DPL_SHIFT);
    return 0;
}

static int seg_check_ss(struct bt_cpu *c, const struct bt_desc *d)
{
    if ((d->sel & 3) != c->cpl || bt_desc_dpl(d) != c->cpl || !bt_desc_writable(d))
        return bt_raise_err(c, X86_GP, bt_sel_error(d->sel));
    return bt_desc_present(d) ? 0 : bt_raise_err(c, X86_SS_FAULT, bt_sel_error(d->sel));
}

static int seg_check_data(struct bt_cpu *c, const struct bt_desc *d)
{
    unsigned rpl = d->sel & 3;

    if (!bt_desc_readable(d) ||
        (!bt_desc_conforming(d) && (rpl > bt_desc_dpl(d) || c->cpl > bt_desc_dpl(d))))
        return bt_raise_err(c, X86_GP, bt_sel_error(d->sel));
    return bt_desc_present(d) ? 0 : bt_raise_err(c, X86_NP, bt_sel_error(d->sel));
}

int bt_load_sreg(struct bt_cpu *c, unsigned seg, uint16_t sel)
{
    struct x86_seg old = c->s.seg[seg];
    struct bt_desc d;

    if (!bt_protected(c)) {
        seg_load_real(&c->s.seg[seg], sel, bt_vm86(c));
        return 0;
    }
    if (bt_sel_null(sel)) {
        if (!seg_load_null(c, seg, sel))
            return 0;
        c->s.seg[seg] = old;
        return BT_FAULT;
    }
    if (bt_desc_load(c, sel, X86_GP, &d) ||
        (seg == X86_SS ? seg_check_ss(c, &d) : seg_check_data(c, &d)) || bt_desc_accessed(c, &d))
        return BT_FAULT;
    c->s.seg[seg] = bt_desc_seg(&d);
    return 0;
}

/* The stack's width may have changed; interrupts are held off until the stack pointer was loaded. */
static void seg_loaded(struct bt_cpu *c, unsigned seg)
{
    if (seg == X86_SS)
        c->s.shadow_mov_ss = true;
    if (seg == X86_SS || c->code_size != 8)
        bt_mode_changed(c);
}

int bt_op_mov_to_sreg(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t sel;

    if (in->reg == X86_CS || in->reg >= X86_NSREGS)
        return bt_sys_ud(c, in);
    if (bt_rm_get(c, in, 2, &sel) || bt_load_sreg(c, in->reg, (uint16_t)sel))
        return bt_sys_fault(c, in);
    seg_loaded(c, in->reg);
    return BT_NEXT;
}

int bt_op_mov_from_sreg(struct bt_cpu *c, const struct bt_insn *in)
{
    if (in->reg >= X86_NSREGS)
        return bt_sys_ud(c, in);
    return bt_rm_set_word(c, in, c->s.seg[in->reg].sel) ? bt_sys_fault(c, in) : BT_NEXT;
}

int bt_op_push_sreg(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_push(c, in->size, c->s.seg[in->reg].sel) ? bt_sys_fault(c, in) : BT_NEXT;
}

int bt_op_pop_sreg(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned width = c->stack_size;
    uint64_t sel, sp = c->s.gpr[X86_RSP] + in->size;

    if (bt_pop(c, in->size, &sel) || bt_load_sreg(c, in->reg, (uint16_t)sel))
        return bt_sys_fault(c, in);
    bt_gpr_set(c, X86_RSP, width, sp); /* at the old width */
    seg_loaded(c, in->reg);
    return BT_NEXT;
}

/* LDS, LES, LFS, LGS, LSS; the decoder's table puts the segment register into imm2. */
int bt_op_lds(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t off, sel, ea = bt_ea(c, in);

    if (bt_read(c, in->seg, ea, in->size, &off) ||
        bt_read(c, in->seg, (ea + in->size) & bt_mask(in->asize), 2, &sel) ||
        bt_load_sreg(c, (unsigned)in->imm2, (uint16_t)sel))
        return bt_sys_fault(c, in);
    bt_gpr_set(c, in->reg, in->size, off);
    if (in->imm2 == X86_SS || c->code_size != 8)
        bt_mode_changed(c);
    return BT_NEXT;
}

/* --- LDTR and TR --- */

/* The descriptor of a table or task register; type_ok says which types may be loaded. */
static int seg_system_desc(struct bt_cpu *c, uint16_t sel, bool ltr, struct x86_seg *s)
{
    uint64_t high = 0;
    struct bt_desc d;
    unsigned type;

    if (sel & 4)
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    if (bt_desc_load(c, sel, X86_GP, &d))
        return BT_FAULT;
    type = bt_desc_type(&d);
    if (!bt_desc_system(&d) ||
        (ltr ? type != DESC_TSS && (type != DESC_TSS16 || c->long_mode) : type != DESC_LDT))
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    if (!bt_desc_present(&d))
        return bt_raise_err(c, X86_NP, bt_sel_error(sel));
    if (c->long_mode && bt_desc_load_high(c, sel, X86_GP, &high))
        return BT_FAULT;
    *s = bt_desc_seg(&d);
    s->base |= high << 32;
    return bt_canonical(c, s->base) || !c->long_mode ? 0
                                                     : bt_raise_err(c, X86_GP, bt_sel_error(sel));
}

static int seg_system_load(struct bt_cpu *c, const struct bt_insn *in, bool ltr)
{
    struct x86_seg s;
    uint64_t sel;

    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (c->cpl)
        return bt_sys_gp(c, in);
    if (bt_rm_get(c, in, 2, &sel))
        return bt_sys_fault(c, in);
    if (bt_sel_null((uint16_t)sel)) {
        if (ltr)
            return bt_sys_gp(c, in);
        c->s.ldtr = bt_seg_null((uint16_t)sel);
        return BT_NEXT;
    }
    if (seg_system_desc(c, (uint16_t)sel, ltr, &s) || (ltr && bt_desc_busy(c, (uint16_t)sel, true)))
        return bt_sys_fault(c, in);
    if (ltr) {
        c->s.tr = s;
        c->s.tr.attr |= DESC_TSS_BUSY_BIT;
    } else {
        c->s.ldtr = s;
    }
    return BT_NEXT;
}

int bt_op_lldt(struct bt_cpu *c, const struct bt_insn *in)
{
    return seg_system_load(c, in, false);
}

int bt_op_ltr(struct bt_cpu *c, const struct bt_insn *in)
{
    return seg_system_load(c, in, true);
}

static int seg_system_store(struct bt_cpu *c, const struct bt_insn *in, uint16_t sel)
{
    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (c->cpl && (c->s.cr4 & CR4_UMIP))
        return bt_sys_gp(c, in);
    return bt_rm_set_word(c, in, sel) ? bt_sys_fault(c, in) : BT_NEXT;
}

int bt_op_sldt(struct bt_cpu *c, const struct bt_insn *in)
{
    return seg_system_store(c, in, c->s.ldtr.sel);
}

int bt_op_str(struct bt_cpu *c, const struct bt_insn *in)
{
    return seg_system_store(c, in, c->s.tr.sel);
}
