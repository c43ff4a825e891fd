/*
 * bt_syscall.c: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS and the FS/GS base instructions (SDM 2B;
 * AMD APM 2 6.1 for SYSCALL outside of 64-bit code, which Intel does not have).
 */
#include "accel/bt/bt_sysops.h"

enum {
    FLAT_CODE = SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED,
    FLAT_DATA = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED,
    DR6_BS = BIT(14),
    SYSRET_FLAGS = 0x3c7fd7, /* all but RF, VM and reserved bits */
};

/* Fixed flat segments, whatever the descriptor tables say. */
static void syscall_segments(struct bt_cpu *c, uint16_t cs, uint16_t ss, unsigned cpl, bool code64)
{
    uint16_t dpl = (uint16_t)(cpl << SEG_DPL_SHIFT);

    c->s.seg[X86_CS] = (struct x86_seg){
        .limit = ~0u,
        .sel = cs,
        .attr = (uint16_t)(FLAT_CODE | dpl | (code64 ? SEG_L : SEG_DB)),
    };
    c->s.seg[X86_SS] =
        (struct x86_seg){ .limit = ~0u, .sel = ss, .attr = (uint16_t)(FLAT_DATA | dpl) };
    bt_mode_changed(c);
}

/*
 * Outside of 64-bit code these are AMD's alone; a guest that has given CSTAR a value means to have them,
 * whatever vendor CPUID names (KVM's and QEMU's emulation are as generous).
 */
static bool syscall_there(const struct bt_cpu *c)
{
    return (c->s.efer & EFER_SCE) && bt_protected(c) &&
           (c->code_size == 8 || bt_has(c, BT_IS_AMD) || c->s.cstar);
}

int bt_op_syscall(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t cs = (uint16_t)(c->s.star >> 32 & 0xfffc);
    bool long_mode = c->long_mode, code64 = c->code_size == 8, tf = c->s.rflags & FLAG_TF;

    if (!syscall_there(c))
        return bt_sys_ud(c, in);
    bt_skip(c, in);
    c->s.gpr[X86_RCX] = c->s.rip;
    if (long_mode) {
        c->s.gpr[X86_R11] = c->s.rflags & ~(uint64_t)FLAG_RF;
        c->s.rip = code64 ? c->s.lstar : c->s.cstar;
        c->s.rflags = (c->s.rflags & ~(c->s.sfmask | FLAG_RF | FLAG_VM)) | FLAG_1;
    } else {
        c->s.rip = c->s.star & 0xffffffff;
        c->s.rflags &= ~(uint64_t)(FLAG_IF | FLAG_RF | FLAG_VM);
    }
    if (tf && !(c->s.rflags & FLAG_TF)) /* SYSCALL and SYSRET trap by TF at their end */
        c->db_pending |= BT_DB_NO_STEP;
    syscall_segments(c, cs, (uint16_t)(cs + 8), 0, long_mode);
    return BT_JUMP;
}

/* The single-step trap that SYSCALL left out comes now, as if it had been taken in user mode. */
static int syscall_trap(struct bt_cpu *c)
{
    c->s.dr6 |= DR6_BS;
    bt_raise(c, X86_DB);
    return BT_TRAP;
}

/* imm2: REX.W, back to 64-bit code. */
int bt_op_sysret(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t base = (uint16_t)(c->s.star >> 48);
    bool to64 = in->imm2 && c->code_size == 8;

    if (!syscall_there(c))
        return bt_sys_ud(c, in);
    if (c->cpl || (to64 && !bt_canonical(c, c->s.gpr[X86_RCX])))
        return bt_sys_gp(c, in);
    c->s.rip = to64 ? c->s.gpr[X86_RCX] : c->s.gpr[X86_RCX] & 0xffffffff;
    if (c->long_mode)
        c->s.rflags = (c->s.gpr[X86_R11] & SYSRET_FLAGS) | FLAG_1;
    else
        c->s.rflags |= FLAG_IF;
    syscall_segments(c, (uint16_t)((to64 ? base + 16 : base) | 3), (uint16_t)((base + 8) | 3), 3,
                     to64);
    c->event_window = true;
    return c->s.rflags & FLAG_TF ? syscall_trap(c) : BT_JUMP;
}

int bt_op_sysenter(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t cs = (uint16_t)(c->s.sysenter_cs & 0xfffc);
    uint64_t mask = c->long_mode ? ~0ull : 0xffffffff;

    if (!(c->s.cr0 & CR0_PE) || !cs)
        return bt_sys_gp(c, in);
    c->s.rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    c->s.gpr[X86_RSP] = c->s.sysenter_esp & mask;
    c->s.rip = c->s.sysenter_eip & mask;
    syscall_segments(c, cs, (uint16_t)(cs + 8), 0, c->long_mode);
    return BT_JUMP;
}

int bt_op_sysexit(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t cs = (uint16_t)(c->s.sysenter_cs & 0xfffc);
    bool to64 = in->imm2 && c->code_size == 8;
    uint64_t rip = c->s.gpr[X86_RDX], rsp = c->s.gpr[X86_RCX];

    if (!bt_protected(c) || !cs || c->cpl)
        return bt_sys_gp(c, in);
    if (to64 && (!bt_canonical(c, rip) || !bt_canonical(c, rsp)))
        return bt_sys_gp(c, in);
    c->s.rip = to64 ? rip : rip & 0xffffffff;
    c->s.gpr[X86_RSP] = to64 ? rsp : rsp & 0xffffffff;
    syscall_segments(c, (uint16_t)((cs + (to64 ? 32 : 16)) | 3),
                     (uint16_t)((cs + (to64 ? 40 : 24)) | 3), 3, to64);
    return BT_JUMP;
}

int bt_op_swapgs(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t base = c->s.seg[X86_GS].base;

    if (c->code_size != 8)
        return bt_sys_ud(c, in);
    if (c->cpl)
        return bt_sys_gp(c, in);
    c->s.seg[X86_GS].base = c->s.kernel_gs_base;
    c->s.kernel_gs_base = base;
    return BT_NEXT;
}

/* imm2: the segment register. */
int bt_op_rdfsbase(struct bt_cpu *c, const struct bt_insn *in)
{
    if (c->code_size != 8 || !(c->s.cr4 & CR4_FSGSBASE))
        return bt_sys_ud(c, in);
    bt_gpr_set(c, in->rm, in->size, c->s.seg[in->imm2].base);
    return BT_NEXT;
}

int bt_op_wrfsbase(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v = bt_gpr_get(c, in->rm, in->size);

    if (c->code_size != 8 || !(c->s.cr4 & CR4_FSGSBASE))
        return bt_sys_ud(c, in);
    if (!bt_canonical(c, v))
        return bt_sys_gp(c, in);
    c->s.seg[in->imm2].base = v;
    return BT_NEXT;
}
