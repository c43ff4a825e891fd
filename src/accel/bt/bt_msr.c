/*
 * bt_msr.c: RDMSR and WRMSR. Registers of struct x86_state are handled here, with the checks of their
 * reserved bits (SDM volume 4); all others are the machine's (exit_msr).
 */
#include "accel/bt/bt_sysops.h"
#include "x86/msr.h"

enum {
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_VAR_END = MSR_MTRR_VAR + 2 * X86_N_MTRR_VAR,
    MTRRCAP = X86_N_MTRR_VAR | BIT(8) | BIT(10), /* count, fixed ranges, write combining */
    MTRR_DEF_MASK = 0xcff,
    MTRR_VALID = BIT(11),
    SPEC_CTRL_MASK = 7, /* IBRS, STIBP, SSBD */
    SPEC_CTRL_BHI_DIS_S = BIT(10),
    DEBUGCTL_MASK = 3,
    FEATURE_CONTROL_LOCKED = 1,
    PAT_RESERVED_2 = 2,
    PAT_RESERVED_3 = 3,
    MEM_UC_MINUS = 7,
    MEM_WB = 6,
};
#define UCODE_REVISION (1ull << 32)
/* The fixed MTRR's place in s.mtrr_fix, or -1. */
static int msr_mtrr_fix(uint32_t index)
{
    if (index == MSR_MTRR_FIX64K)
        return 0;
    if (index - MSR_MTRR_FIX16K < 2)
        return (int)(index - MSR_MTRR_FIX16K) + 1;
    return index - MSR_MTRR_FIX4K < 8 ? (int)(index - MSR_MTRR_FIX4K) + 3 : -1;
}

static bool msr_mem_type_ok(uint64_t type)
{
    return type <= MEM_WB && type != PAT_RESERVED_2 && type != PAT_RESERVED_3;
}

static bool msr_types_ok(uint64_t v, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t type = v >> (8 * i) & 0xff;

        if (!msr_mem_type_ok(type) && !(pat && type == MEM_UC_MINUS))
            return false;
    }
    return true;
}

/* The plain 64-bit register behind an index, or NULL. */
static uint64_t *msr_plain(struct bt_cpu *c, uint32_t index)
{
    int fix = msr_mtrr_fix(index);

    if (fix >= 0)
        return &c->s.mtrr_fix[fix];
    if (index - MSR_MTRR_VAR < 2 * X86_N_MTRR_VAR)
        return &c->s.mtrr_var[(index - MSR_MTRR_VAR) / 2][(index - MSR_MTRR_VAR) % 2];
    switch (index) {
    case MSR_EFER:
        return &c->s.efer;
    case MSR_STAR:
        return &c->s.star;
    case MSR_LSTAR:
        return &c->s.lstar;
    case MSR_CSTAR:
        return &c->s.cstar;
    case MSR_SFMASK:
        return &c->s.sfmask;
    case MSR_FS_BASE:
        return &c->s.seg[X86_FS].base;
    case MSR_GS_BASE:
        return &c->s.seg[X86_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &c->s.kernel_gs_base;
    case MSR_SYSENTER_CS:
        return &c->s.sysenter_cs;
    case MSR_SYSENTER_ESP:
        return &c->s.sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &c->s.sysenter_eip;
    case MSR_PAT:
        return &c->s.pat;
    case MSR_MTRR_DEF_TYPE:
        return &c->s.mtrr_def_type;
    case MSR_MISC_ENABLE:
        return &c->s.misc_enable;
    case MSR_TSC_ADJUST:
        return &c->s.tsc_adjust;
    case MSR_TSC_AUX:
        return bt_has(c, BT_HAS_RDTSCP) || bt_has(c, BT_HAS_RDPID) ? &c->s.tsc_aux : NULL;
    case MSR_SPEC_CTRL:
        return bt_has(c, BT_HAS_SPEC_CTRL) ? &c->s.spec_ctrl : NULL;
    case MSR_XSS:
        return bt_has(c, BT_HAS_XSAVES) ? &c->s.xss : NULL;
    default:
        return NULL;
    }
}

/* Registers that are constants here, or need work to read. */
static bool msr_read_special(struct bt_cpu *c, uint32_t index, uint64_t *v)
{
    switch (index) {
    case MSR_TSC:
        *v = bt_tsc(c);
        return true;
    case MSR_MTRRCAP:
        *v = MTRRCAP;
        return true;
    case MSR_FEATURE_CONTROL:
        *v = FEATURE_CONTROL_LOCKED;
        return true;
    case MSR_UCODE_REV:
        *v = UCODE_REVISION;
        return true;
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP: /* no banks */
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
        *v = 0;
        return true;
    case MSR_ARCH_CAPABILITIES:
        *v = cpuid_arch_capabilities(&c->vm->cpuid);
        return bt_has(c, BT_HAS_ARCH_CAP);
    default:
        return false;
    }
}

int bt_op_rdmsr(struct bt_cpu *c, const struct bt_insn *in)
{
    uint32_t index = (uint32_t)c->s.gpr[X86_RCX];
    const uint64_t *plain = msr_plain(c, index);
    uint64_t v = 0;

    if (c->cpl)
        return bt_sys_gp(c, in);
    if (plain) {
        v = *plain;
    } else if (!msr_read_special(c, index, &v)) {
        bt_fpu_store(c);
        if (!exit_msr(c->vcpu, index, false, &v))
            return bt_sys_gp(c, in);
    }
    c->s.gpr[X86_RAX] = (uint32_t)v;
    c->s.gpr[X86_RDX] = v >> 32;
    return BT_NEXT;
}

/* --- writes --- */

static bool msr_efer_ok(const struct bt_cpu *c, uint64_t v)
{
    uint64_t allowed = EFER_SCE | EFER_LMA;

    if (bt_has(c, BT_HAS_NX))
        allowed |= EFER_NXE;
    if (bt_has(c, BT_HAS_LM))
        allowed |= EFER_LME;
    if (v & ~allowed)
        return false;
    return !((v ^ c->s.efer) & EFER_LME) || !(c->s.cr0 & CR0_PG);
}

static bool msr_mtrr_var_ok(const struct bt_cpu *c, uint32_t index, uint64_t v)
{
    uint64_t frame = v >> c->mem_priv->phys_bits;

    if ((index - MSR_MTRR_VAR) % 2)
        return !frame && !(v & 0x7ff);
    return !frame && !(v & 0xf00) && msr_mem_type_ok(v & 0xff);
}

/* May v be written to the plain register of index? */
static bool msr_value_ok(const struct bt_cpu *c, uint32_t index, uint64_t v)
{
    if (msr_mtrr_fix(index) >= 0)
        return msr_types_ok(v, false);
    if (index - MSR_MTRR_VAR < 2 * X86_N_MTRR_VAR)
        return msr_mtrr_var_ok(c, index, v);
    switch (index) {
    case MSR_EFER:
        return msr_efer_ok(c, v);
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
        return bt_canonical(c, v);
    case MSR_SFMASK:
    case MSR_SYSENTER_CS:
    case MSR_TSC_AUX:
        return !(v >> 32);
    case MSR_PAT:
        return msr_types_ok(v, true);
    case MSR_MTRR_DEF_TYPE:
        return !(v & ~(uint64_t)MTRR_DEF_MASK) && msr_mem_type_ok(v & 0xff);
    case MSR_SPEC_CTRL:
        return !(v & ~(uint64_t)(SPEC_CTRL_MASK |
                                 (bt_has(c, BT_HAS_BHI_CTRL) ? SPEC_CTRL_BHI_DIS_S : 0)));
    case MSR_XSS:
        return v == 0;
    default:
        return true;
    }
}

static void msr_write_plain(struct bt_cpu *c, uint32_t index, uint64_t *reg, uint64_t v)
{
    uint64_t old = *reg;

    *reg = v;
    if (index == MSR_EFER) {
        *reg = (v & ~EFER_LMA) | (old & EFER_LMA);
        if ((old ^ v) & EFER_NXE)
            bt_tlb_flush_all(c);
        bt_mode_changed(c);
    } else if (index == MSR_TSC_ADJUST) {
        c->tsc_offset += v - old;
    }
}

static bool msr_write_special(struct bt_cpu *c, uint32_t index, uint64_t v, bool *ok)
{
    uint64_t delta;

    *ok = true;
    switch (index) {
    case MSR_TSC:
        delta = v - bt_tsc(c);
        c->tsc_offset += delta;
        c->s.tsc_adjust += delta;
        return true;
    case MSR_PRED_CMD:
        *ok = bt_has(c, BT_HAS_PRED_CMD) && v <= 1;
        return true;
    case MSR_FLUSH_CMD:
        *ok = bt_has(c, BT_HAS_FLUSH_CMD) && v <= 1;
        return true;
    case MSR_UCODE_REV:
    case MSR_MCG_STATUS:
        return true;
    case MSR_DEBUGCTL:
        *ok = !(v & ~(uint64_t)DEBUGCTL_MASK);
        return true;
    case MSR_MTRRCAP:
    case MSR_FEATURE_CONTROL:
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP:
    case MSR_ARCH_CAPABILITIES:
        *ok = false;
        return true;
    default:
        return false;
    }
}

/* The machine's registers; what of them we keep a copy of. */
static bool msr_write_machine(struct bt_cpu *c, uint32_t index, uint64_t v)
{
    bt_fpu_store(c);
    c->intr_check = true;
    if (!exit_msr(c->vcpu, index, true, &v))
        return false;
    if (index == MSR_APIC_BASE) {
        c->s.apic_base = v;
        bt_tlb_flush_all(c); /* another page is the APIC's now */
    }
    c->event_window = true;
    return true;
}

int bt_op_wrmsr(struct bt_cpu *c, const struct bt_insn *in)
{
    uint32_t index = (uint32_t)c->s.gpr[X86_RCX];
    uint64_t v = (c->s.gpr[X86_RAX] & 0xffffffff) | c->s.gpr[X86_RDX] << 32;
    uint64_t *plain = msr_plain(c, index);
    bool ok;

    if (c->cpl)
        return bt_sys_gp(c, in);
    if (plain) {
        ok = msr_value_ok(c, index, v);
        if (ok)
            msr_write_plain(c, index, plain, v);
    } else if (!msr_write_special(c, index, v, &ok)) {
        ok = msr_write_machine(c, index, v);
    }
    return ok ? BT_NEXT : bt_sys_gp(c, in);
}
