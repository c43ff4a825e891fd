/*
 * bt_int.c: INT n, INT3, INTO, INT1, UD (SDM 2A; virtual 8086 redirection: 3B 20.3).
 */
#include "accel/bt/bt_sysops.h"

enum { TSS_IOMAP = 102, TSS_MIN_LIMIT = 0x67, REDIRECTION_BYTES = 32 };

static int int_enter(struct bt_cpu *c, const struct bt_insn *in, unsigned vector,
                     enum bt_event_kind kind)
{
    bool tf = c->s.rflags & FLAG_TF;
    int ret;

    bt_skip(c, in);
    ret = bt_interrupt(c, vector, kind, false, 0);
    if (ret == BT_FAULT)
        return bt_sys_fault(c, in);
    if (tf) /* cleared on the way into the handler, and with it the trap of this instruction */
        c->db_pending |= BT_DB_NO_STEP;
    return ret ? ret : BT_JUMP;
}

/* Is the vector's bit in the TSS's redirection map clear: to the task's own IVT? 0 or BT_FAULT. */
static int int_redirected(struct bt_cpu *c, unsigned vector, bool *own)
{
    uint64_t base, byte;

    if ((c->s.tr.attr & SEG_TYPE) < DESC_TSS || c->s.tr.limit < TSS_MIN_LIMIT)
        return bt_raise_err(c, X86_GP, 0);
    if (bt_lin_read(c, c->s.tr.base + TSS_IOMAP, 2, &base, BT_MMU_SUPER))
        return BT_FAULT;
    base += vector / 8;
    if (base < REDIRECTION_BYTES || base - REDIRECTION_BYTES > c->s.tr.limit)
        return bt_raise_err(c, X86_GP, 0);
    if (bt_lin_read(c, c->s.tr.base + base - REDIRECTION_BYTES, 1, &byte, BT_MMU_SUPER))
        return BT_FAULT;
    *own = !(byte >> (vector % 8) & 1);
    return 0;
}

/* Through the IVT at linear 0 of the virtual 8086 task itself. */
static int int_own_ivt(struct bt_cpu *c, const struct bt_insn *in, unsigned vector)
{
    uint64_t entry, flags = c->s.rflags & 0xffff;
    struct bt_stack st = bt_stack_current(c);

    if (bt_iopl(c) < 3) {
        flags |= FLAG_IOPL;
        flags = c->s.rflags & FLAG_VIF ? flags | FLAG_IF : flags & ~(uint64_t)FLAG_IF;
    }
    bt_skip(c, in);
    if (bt_lin_read(c, vector * 4, 4, &entry, BT_MMU_USER) || bt_stack_push(c, &st, 2, flags) ||
        bt_stack_push(c, &st, 2, c->s.seg[X86_CS].sel) || bt_stack_push(c, &st, 2, c->s.rip))
        return bt_sys_fault(c, in);
    bt_stack_commit_sp(c, &st);
    c->s.rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | (bt_iopl(c) < 3 ? FLAG_VIF : FLAG_IF));
    c->s.seg[X86_CS] = bt_seg_real((uint16_t)(entry >> 16), true);
    c->s.rip = entry & 0xffff;
    return BT_JUMP;
}

int bt_op_int(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned vector = in->imm & 0xff;
    bool own = false;

    if (bt_vm86(c)) {
        if ((c->s.cr4 & CR4_VME) && int_redirected(c, vector, &own))
            return bt_sys_fault(c, in);
        if (own)
            return int_own_ivt(c, in, vector);
        if (bt_iopl(c) < 3)
            return bt_sys_gp(c, in);
    }
    return int_enter(c, in, vector, BT_EV_SOFT_INT);
}

int bt_op_int3(struct bt_cpu *c, const struct bt_insn *in)
{
    return int_enter(c, in, X86_BP, BT_EV_SOFT_INT);
}

int bt_op_into(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!(c->s.rflags & FLAG_OF))
        return BT_NEXT;
    return int_enter(c, in, X86_OF, BT_EV_SOFT_INT);
}

int bt_op_int1(struct bt_cpu *c, const struct bt_insn *in)
{
    return int_enter(c, in, X86_DB, BT_EV_ICEBP);
}

int bt_op_undefined(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_sys_ud(c, in);
}
