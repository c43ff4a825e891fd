/*
 * bt_verify.c: LAR, LSL, VERR, VERW, ARPL: questions about selectors, answered in ZF.
 */
#include "accel/bt/bt_sysops.h"

/* Types that LAR and LSL know, a bit a type (SDM 2A, tables 3-52, 3-55). */
enum {
    LAR_TYPES = BIT(DESC_TSS16) | BIT(DESC_LDT) | BIT(DESC_TSS16_BUSY) | BIT(DESC_CALL16) |
                BIT(DESC_TASK) | BIT(DESC_TSS) | BIT(DESC_TSS_BUSY) | BIT(DESC_CALL),
    LSL_TYPES =
        BIT(DESC_TSS16) | BIT(DESC_LDT) | BIT(DESC_TSS16_BUSY) | BIT(DESC_TSS) | BIT(DESC_TSS_BUSY),
    LONG_TYPES = BIT(DESC_LDT) | BIT(DESC_TSS) | BIT(DESC_TSS_BUSY) | BIT(DESC_CALL),
};

static void verify_zf(struct bt_cpu *c, bool set)
{
    c->s.rflags = set ? c->s.rflags | FLAG_ZF : c->s.rflags & ~(uint64_t)FLAG_ZF;
}

/* The descriptor a selector names. *valid: there is one. 0, or BT_FAULT (a page fault). */
static int verify_load(struct bt_cpu *c, const struct bt_insn *in, struct bt_desc *d, bool *valid)
{
    uint64_t sel;

    *valid = false;
    if (bt_rm_get(c, in, 2, &sel))
        return BT_FAULT;
    if (bt_sel_null((uint16_t)sel))
        return 0;
    if (!bt_desc_load(c, (uint16_t)sel, X86_GP, d)) {
        *valid = true;
        return 0;
    }
    if (c->s.exception_vector != X86_GP)
        return BT_FAULT;
    c->s.exception_pending = false; /* outside of the table: an answer, not a fault */
    return 0;
}

static bool verify_visible(const struct bt_cpu *c, const struct bt_desc *d)
{
    unsigned rpl = d->sel & 3, dpl = bt_desc_dpl(d);

    return bt_desc_conforming(d) || (rpl <= dpl && c->cpl <= dpl);
}

static bool verify_known(const struct bt_cpu *c, const struct bt_desc *d, unsigned types)
{
    if (!bt_desc_system(d))
        return true;
    if (c->long_mode)
        types &= LONG_TYPES;
    return types >> bt_desc_type(d) & 1;
}

static int verify_query(struct bt_cpu *c, const struct bt_insn *in, unsigned types,
                        struct bt_desc *d)
{
    bool valid;

    if (verify_load(c, in, d, &valid))
        return BT_FAULT;
    verify_zf(c, valid && verify_known(c, d, types) && verify_visible(c, d));
    return 0;
}

int bt_op_lar(struct bt_cpu *c, const struct bt_insn *in)
{
    struct bt_desc d;

    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (verify_query(c, in, LAR_TYPES, &d))
        return bt_sys_fault(c, in);
    if (c->s.rflags & FLAG_ZF)
        bt_gpr_set(c, in->reg, in->size, d.raw >> 32 & 0x00ffff00);
    return BT_NEXT;
}

int bt_op_lsl(struct bt_cpu *c, const struct bt_insn *in)
{
    struct bt_desc d;

    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (verify_query(c, in, LSL_TYPES, &d))
        return bt_sys_fault(c, in);
    if (c->s.rflags & FLAG_ZF)
        bt_gpr_set(c, in->reg, in->size, bt_desc_limit(&d));
    return BT_NEXT;
}

static int verify_access(struct bt_cpu *c, const struct bt_insn *in, bool write)
{
    struct bt_desc d;
    bool valid;

    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (verify_load(c, in, &d, &valid))
        return bt_sys_fault(c, in);
    verify_zf(c, valid && (write ? bt_desc_writable(&d) : bt_desc_readable(&d)) &&
                     verify_visible(c, &d));
    return BT_NEXT;
}

int bt_op_verr(struct bt_cpu *c, const struct bt_insn *in)
{
    return verify_access(c, in, false);
}

int bt_op_verw(struct bt_cpu *c, const struct bt_insn *in)
{
    return verify_access(c, in, true);
}

int bt_op_arpl(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t dst, rpl = c->s.gpr[in->reg] & 3;
    bool raise;

    if (!bt_protected(c))
        return bt_sys_ud(c, in);
    if (bt_rm_get(c, in, 2, &dst))
        return bt_sys_fault(c, in);
    raise = (dst & 3) < rpl;
    if (raise) {
        dst = (dst & ~3ull) | rpl;
        if (in->rm != BT_REG_NONE)
            bt_gpr_set(c, in->rm, 2, dst);
        else if (bt_write(c, in->seg, bt_ea(c, in), 2, dst))
            return bt_sys_fault(c, in);
    }
    verify_zf(c, raise);
    return BT_NEXT;
}
