/*
 * bt_sysmisc.c: time stamps, CPUID, HLT and waiting, XCR0, PKRU; and the system half's part in
 * entering and leaving the run loop.
 */

#include "accel/bt/bt_sysops.h"
#include "x86/msr.h"

enum {
    XSAVE_HEADER = 512,
    XSAVE_PKRU = 2688,
};
#define XCR0_AVX512 (XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)

/* --- time --- */

uint64_t bt_tsc(const struct bt_cpu *c)
{
    return __builtin_ia32_rdtsc() + c->tsc_offset;
}

static bool sys_tsc_denied(const struct bt_cpu *c)
{
    return (c->s.cr4 & CR4_TSD) && c->cpl;
}

static void sys_edx_eax(struct bt_cpu *c, uint64_t v)
{
    c->s.gpr[X86_RAX] = (uint32_t)v;
    c->s.gpr[X86_RDX] = v >> 32;
}

int bt_op_rdtsc(struct bt_cpu *c, const struct bt_insn *in)
{
    if (sys_tsc_denied(c))
        return bt_sys_gp(c, in);
    sys_edx_eax(c, bt_tsc(c));
    return BT_NEXT;
}

int bt_op_rdtscp(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!bt_has(c, BT_HAS_RDTSCP))
        return bt_sys_ud(c, in);
    if (sys_tsc_denied(c))
        return bt_sys_gp(c, in);
    sys_edx_eax(c, bt_tsc(c));
    c->s.gpr[X86_RCX] = (uint32_t)c->s.tsc_aux;
    return BT_NEXT;
}

int bt_op_rdpid(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!bt_has(c, BT_HAS_RDPID))
        return bt_sys_ud(c, in);
    c->s.gpr[in->rm] = (uint32_t)c->s.tsc_aux;
    return BT_NEXT;
}

/* There are no counters: every index is out of range. */
int bt_op_rdpmc(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_sys_gp(c, in);
}

int bt_op_cpuid(struct bt_cpu *c, const struct bt_insn *in)
{
    enum { LEAF_FEATURES = 1, EDX_APIC = BIT(9) };
    uint32_t out[4];

    (void)in;
    bt_fpu_store(c);
    cpuid_query(&c->vm->cpuid, (uint32_t)c->s.gpr[X86_RAX], (uint32_t)c->s.gpr[X86_RCX],
                c->vcpu->apic_id, c->s.cr4, c->s.xcr0, out);
    if ((uint32_t)c->s.gpr[X86_RAX] == LEAF_FEATURES && !(c->s.apic_base & APIC_BASE_ENABLE))
        out[3] &= ~(uint32_t)EDX_APIC;
    c->s.gpr[X86_RAX] = out[0];
    c->s.gpr[X86_RBX] = out[1];
    c->s.gpr[X86_RCX] = out[2];
    c->s.gpr[X86_RDX] = out[3];
    return BT_NEXT;
}

/* --- waiting --- */

int bt_op_hlt(struct bt_cpu *c, const struct bt_insn *in)
{
    if (c->cpl)
        return bt_sys_gp(c, in);
    bt_skip(c, in);
    c->s.mp_state = X86_MP_HALTED;
    return BT_HALT;
}

/* Armed addresses are forgotten at once, which MWAIT may do at any time. */
int bt_op_monitor(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t lin, gpa, off = bt_gpr_get(c, X86_RAX, in->asize);

    if (!bt_has(c, BT_HAS_MONITOR) || c->cpl)
        return bt_sys_ud(c, in);
    if ((uint32_t)c->s.gpr[X86_RCX])
        return bt_sys_gp(c, in);
    if (bt_linear(c, in->seg, off, 1, false, &lin) || bt_translate(c, lin, 0, c->mmu, &gpa))
        return bt_sys_fault(c, in);
    return BT_NEXT;
}

int bt_op_mwait(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!bt_has(c, BT_HAS_MONITOR) || c->cpl)
        return bt_sys_ud(c, in);
    if ((uint32_t)c->s.gpr[X86_RCX] & ~1u)
        return bt_sys_gp(c, in);
    sched_yield();
    c->event_window = true;
    return BT_NEXT;
}

/* --- extended state --- */

static uint64_t sys_xinuse(const struct bt_cpu *c)
{
    uint64_t bv;

    __builtin_memcpy(&bv, c->s.xsave + XSAVE_HEADER, sizeof(bv));
    return bv;
}

int bt_op_xgetbv(struct bt_cpu *c, const struct bt_insn *in)
{
    uint32_t index = (uint32_t)c->s.gpr[X86_RCX];

    if (!(c->s.cr4 & CR4_OSXSAVE))
        return bt_sys_ud(c, in);
    if (index > 1 || (index == 1 && !bt_has(c, BT_HAS_XGETBV1)))
        return bt_sys_gp(c, in);
    if (index == 1)
        bt_fpu_store(c);
    sys_edx_eax(c, index ? sys_xinuse(c) & c->s.xcr0 : c->s.xcr0);
    return BT_NEXT;
}

static bool sys_xcr0_ok(const struct bt_cpu *c, uint64_t v)
{
    uint64_t wide = v & XCR0_AVX512;

    if (!(v & XCR0_X87) || (v & ~c->vm->cpuid.xcr0) || ((v & XCR0_AVX) && !(v & XCR0_SSE)))
        return false;
    return !wide || (wide == XCR0_AVX512 && (v & XCR0_AVX));
}

int bt_op_xsetbv(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v = (c->s.gpr[X86_RAX] & 0xffffffff) | c->s.gpr[X86_RDX] << 32;

    if (!(c->s.cr4 & CR4_OSXSAVE))
        return bt_sys_ud(c, in);
    if (c->cpl || (uint32_t)c->s.gpr[X86_RCX] || !sys_xcr0_ok(c, v))
        return bt_sys_gp(c, in);
    bt_fpu_store(c); /* which components are live depends on XCR0 */
    c->s.xcr0 = v;
    bt_mode_changed(c);
    return BT_NEXT;
}

/* --- protection keys --- */

uint32_t bt_pkru(const struct bt_cpu *c)
{
    uint32_t v;

    if (!(sys_xinuse(c) & XCR0_PKRU)) /* in its initial state */
        return 0;
    __builtin_memcpy(&v, c->s.xsave + XSAVE_PKRU, sizeof(v));
    return v;
}

void bt_pkru_set(struct bt_cpu *c, uint32_t pkru)
{
    uint64_t bv = sys_xinuse(c) | XCR0_PKRU;

    if (pkru == bt_pkru(c))
        return;
    __builtin_memcpy(c->s.xsave + XSAVE_PKRU, &pkru, sizeof(pkru));
    __builtin_memcpy(c->s.xsave + XSAVE_HEADER, &bv, sizeof(bv));
    bt_pkru_changed(c);
}

int bt_op_rdpkru(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!(c->s.cr4 & CR4_PKE))
        return bt_sys_ud(c, in);
    if ((uint32_t)c->s.gpr[X86_RCX])
        return bt_sys_gp(c, in);
    sys_edx_eax(c, bt_pkru(c));
    return BT_NEXT;
}

int bt_op_wrpkru(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!(c->s.cr4 & CR4_PKE))
        return bt_sys_ud(c, in);
    if ((uint32_t)c->s.gpr[X86_RCX] || (uint32_t)c->s.gpr[X86_RDX])
        return bt_sys_gp(c, in);
    bt_pkru_set(c, (uint32_t)c->s.gpr[X86_RAX]);
    return BT_NEXT;
}

/* --- the run loop's doors --- */

void bt_sys_enter(struct bt_cpu *c)
{
    bt_tlb_serve(c);
    if (c->vm->clock)
        c->tsc_offset = clock_tsc_offset(c->vm->clock) + c->s.tsc_adjust;
}

void bt_sys_state_loaded(struct bt_cpu *c)
{
    c->db_pending = 0;
    bt_tlb_flush_all(c);
    bt_tlb_set_cr3(c, c->s.cr3);
    bt_mode_changed(c);
}

void bt_sys_state_store(struct bt_cpu *c)
{
    if (c->vm->clock)
        c->s.tsc = clock_tsc(c->vm->clock) + c->s.tsc_adjust;
    if (c->vcpu->lapic)
        c->s.cr8 = exit_tpr_get(c->vcpu);
}
