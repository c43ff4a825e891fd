/*
 * bt_flags.c: CLI, STI, PUSHF, POPF, CLAC, STAC (SDM 2A, 2B; virtual interrupt flag: 3B 20.3).
 */
#include "accel/bt/bt_sysops.h"

enum {
    POPF_BASE = FLAG_ARITH | FLAG_TF | FLAG_DF | FLAG_NT,
    POPF_WIDE = FLAG_AC | FLAG_ID,
};

/* Do CLI and STI act on IF (direct), on VIF (virtual), or fault? */
enum flags_access { FLAGS_DIRECT, FLAGS_VIRTUAL, FLAGS_FAULT };

static enum flags_access flags_if_access(const struct bt_cpu *c)
{
    if (!(c->s.cr0 & CR0_PE) || c->cpl <= bt_iopl(c))
        return FLAGS_DIRECT;
    if (bt_vm86(c))
        return c->s.cr4 & CR4_VME ? FLAGS_VIRTUAL : FLAGS_FAULT;
    return (c->s.cr4 & CR4_PVI) && c->cpl == 3 && !c->long_mode ? FLAGS_VIRTUAL : FLAGS_FAULT;
}

int bt_op_cli(struct bt_cpu *c, const struct bt_insn *in)
{
    switch (flags_if_access(c)) {
    case FLAGS_DIRECT:
        c->s.rflags &= ~(uint64_t)FLAG_IF;
        return BT_NEXT;
    case FLAGS_VIRTUAL:
        c->s.rflags &= ~(uint64_t)FLAG_VIF;
        return BT_NEXT;
    case FLAGS_FAULT:
    default:
        return bt_sys_gp(c, in);
    }
}

int bt_op_sti(struct bt_cpu *c, const struct bt_insn *in)
{
    switch (flags_if_access(c)) {
    case FLAGS_DIRECT:
        if (!(c->s.rflags & FLAG_IF))
            c->s.shadow_sti = true;
        c->s.rflags |= FLAG_IF;
        c->event_window = true;
        return BT_NEXT;
    case FLAGS_VIRTUAL:
        if (c->s.rflags & FLAG_VIP)
            return bt_sys_gp(c, in);
        c->s.rflags |= FLAG_VIF;
        return BT_NEXT;
    case FLAGS_FAULT:
    default:
        return bt_sys_gp(c, in);
    }
}

int bt_op_pushf(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t image = c->s.rflags & ~(uint64_t)(FLAG_VM | FLAG_RF);

    if (bt_vm86(c) && bt_iopl(c) < 3) {
        if (!(c->s.cr4 & CR4_VME) || in->size != 2)
            return bt_sys_gp(c, in);
        image |= FLAG_IOPL;
        image = image & FLAG_VIF ? image | FLAG_IF : image & ~(uint64_t)FLAG_IF;
    }
    return bt_push(c, in->size, image) ? bt_sys_fault(c, in) : BT_NEXT;
}

/* POPF in virtual 8086 mode with IOPL < 3 (VME): IF goes to VIF. */
static int flags_popf_vme(struct bt_cpu *c, const struct bt_insn *in, uint64_t v)
{
    uint64_t vif = v & FLAG_IF ? FLAG_VIF : 0;

    if ((v & FLAG_TF) || (vif && (c->s.rflags & FLAG_VIP)))
        return bt_sys_gp(c, in);
    c->s.rflags = (c->s.rflags & ~(uint64_t)(POPF_BASE | FLAG_VIF)) | (v & POPF_BASE) | vif;
    bt_stack_add(c, in->size);
    return BT_NEXT;
}

int bt_op_popf(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v, mask = POPF_BASE | (in->size != 2 ? POPF_WIDE : 0);
    bool virtual = bt_vm86(c) && bt_iopl(c) < 3, had_ac = c->s.rflags & FLAG_AC;

    if (virtual && (!(c->s.cr4 & CR4_VME) || in->size != 2))
        return bt_sys_gp(c, in);
    if (bt_pop(c, in->size, &v))
        return bt_sys_fault(c, in);
    if (virtual)
        return flags_popf_vme(c, in, v);
    if (c->cpl <= bt_iopl(c))
        mask |= FLAG_IF;
    if (c->cpl == 0)
        mask |= FLAG_IOPL;
    bt_stack_add(c, in->size);
    c->s.rflags = (c->s.rflags & ~(mask | FLAG_RF)) | (v & mask);
    c->event_window = true;
    if (had_ac != !!(c->s.rflags & FLAG_AC))
        bt_mode_changed(c);
    return BT_NEXT;
}

static int flags_set_ac(struct bt_cpu *c, const struct bt_insn *in, bool on)
{
    if (c->cpl || !bt_has(c, BT_HAS_SMAP))
        return bt_sys_ud(c, in);
    c->s.rflags = on ? c->s.rflags | FLAG_AC : c->s.rflags & ~(uint64_t)FLAG_AC;
    bt_mode_changed(c);
    return BT_NEXT;
}

int bt_op_clac(struct bt_cpu *c, const struct bt_insn *in)
{
    return flags_set_ac(c, in, false);
}

int bt_op_stac(struct bt_cpu *c, const struct bt_insn *in)
{
    return flags_set_ac(c, in, true);
}
