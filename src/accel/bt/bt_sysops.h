/*
 * bt_sysops.h: operations of the system instructions, for the table in bt_sys.c, and what they share.
 * vCPU thread. Each returns BT_NEXT, or BT_JUMP with c->s.rip set; on BT_FAULT c->s.rip is the instruction's.
 */
#ifndef ACCEL_BT_BT_SYSOPS_H
#define ACCEL_BT_BT_SYSOPS_H

#include "accel/bt/bt_desc.h"

/* What the VM's CPUID offers, found once: struct bt_mem.feature. */
enum bt_feature {
    BT_HAS_SMAP = BIT(0),
    BT_HAS_INVPCID = BIT(1),
    BT_HAS_RDTSCP = BIT(2),
    BT_HAS_RDPID = BIT(3),
    BT_HAS_MONITOR = BIT(4),
    BT_HAS_NX = BIT(5),
    BT_HAS_LM = BIT(6),
    BT_HAS_SPEC_CTRL = BIT(7),
    BT_HAS_PRED_CMD = BIT(8),
    BT_HAS_ARCH_CAP = BIT(9),
    BT_HAS_KVM = BIT(10),
    BT_HAS_XSAVES = BIT(11),
    BT_HAS_XGETBV1 = BIT(12),
    BT_IS_AMD = BIT(13),
    BT_HAS_FLUSH_CMD = BIT(14),
    BT_HAS_BHI_CTRL = BIT(15),
};
static inline bool bt_has(const struct bt_cpu *c, enum bt_feature f)
{
    return c->mem_priv->feature & f;
}
uint32_t bt_sys_features(const struct cpuid *id);    /* BT_HAS_* */
uint64_t bt_sys_cr4_allowed(const struct cpuid *id); /* bits of CR4 */

/* --- faults of an instruction --- */
static inline int bt_sys_fault(struct bt_cpu *c, const struct bt_insn *in)
{
    c->s.rip = bt_rip(c, in);
    return BT_FAULT;
}
static inline int bt_sys_gp(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_raise_err(c, X86_GP, 0);
    return bt_sys_fault(c, in);
}
static inline int bt_sys_ud(struct bt_cpu *c, const struct bt_insn *in)
{
    bt_raise(c, X86_UD);
    return bt_sys_fault(c, in);
}

static inline bool bt_protected(const struct bt_cpu *c) /* neither real nor virtual 8086 mode */
{
    return (c->s.cr0 & CR0_PE) && !(c->s.rflags & FLAG_VM);
}
static inline bool bt_vm86(const struct bt_cpu *c)
{
    return c->s.rflags & FLAG_VM;
}
static inline unsigned bt_iopl(const struct bt_cpu *c)
{
    return (c->s.rflags & FLAG_IOPL) >> 12;
}

/* --- operands --- */
/* A general register by number at size 2, 4, 8; a write of 4 clears the upper half. */
static inline uint64_t bt_gpr_get(const struct bt_cpu *c, unsigned r, unsigned size)
{
    return c->s.gpr[r] & bt_mask(size);
}
static inline void bt_gpr_set(struct bt_cpu *c, unsigned r, unsigned size, uint64_t v)
{
    uint64_t keep = size >= 4 ? 0 : c->s.gpr[r] & ~bt_mask(size);

    c->s.gpr[r] = keep | (v & bt_mask(size));
}
/* ModRM.rm: register at `size`, or memory at `size`. 0 or BT_FAULT. */
int bt_rm_get(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *v);
/* Stores of selectors and machine words: 16 bits to memory, reg_size bits to a register. */
int bt_rm_set_word(struct bt_cpu *c, const struct bt_insn *in, uint64_t v);
/* Linear address of the memory operand, checked for len bytes. */
int bt_rm_linear(struct bt_cpu *c, const struct bt_insn *in, unsigned len, bool write,
                 uint64_t *lin);

/* --- bt_seg.c --- */
/* Loads a data segment register with all checks. 0 or BT_FAULT. */
int bt_load_sreg(struct bt_cpu *c, unsigned seg, uint16_t sel);
bt_op bt_op_mov_to_sreg, bt_op_mov_from_sreg, bt_op_push_sreg, bt_op_pop_sreg, bt_op_lds;
bt_op bt_op_lldt, bt_op_ltr, bt_op_sldt, bt_op_str;
/* bt_verify.c */
bt_op bt_op_lar, bt_op_lsl, bt_op_verr, bt_op_verw, bt_op_arpl;
/* bt_far.c */
bt_op bt_op_jmp_far, bt_op_call_far, bt_op_jmp_far_mem, bt_op_call_far_mem;
/* bt_ret.c */
bt_op bt_op_ret_far, bt_op_iret;
/* bt_flags.c */
bt_op bt_op_cli, bt_op_sti, bt_op_pushf, bt_op_popf, bt_op_clac, bt_op_stac;
/* bt_int.c */
bt_op bt_op_int, bt_op_int3, bt_op_into, bt_op_int1, bt_op_undefined;
/* bt_io.c */
bt_op bt_op_in, bt_op_out, bt_op_ins, bt_op_outs;
/* bt_cr.c */
bt_op bt_op_mov_from_cr, bt_op_mov_to_cr, bt_op_mov_from_dr, bt_op_mov_to_dr;
bt_op bt_op_lmsw, bt_op_smsw, bt_op_clts, bt_op_lgdt, bt_op_lidt, bt_op_sgdt, bt_op_sidt;
bt_op bt_op_invlpg, bt_op_invpcid, bt_op_wbinvd;
/* bt_msr.c */
bt_op bt_op_rdmsr, bt_op_wrmsr;
/* bt_syscall.c */
bt_op bt_op_syscall, bt_op_sysret, bt_op_sysenter, bt_op_sysexit, bt_op_swapgs;
bt_op bt_op_rdfsbase, bt_op_wrfsbase;
/* bt_sysmisc.c */
bt_op bt_op_rdtsc, bt_op_rdtscp, bt_op_rdpid, bt_op_rdpmc, bt_op_cpuid, bt_op_hlt, bt_op_monitor;
bt_op bt_op_mwait, bt_op_xgetbv, bt_op_xsetbv, bt_op_rdpkru, bt_op_wrpkru;
/* bt_hypercall.c */
bt_op bt_op_vmcall;

/* Guest TSC now. */
uint64_t bt_tsc(const struct bt_cpu *c);

#endif
