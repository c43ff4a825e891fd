/*
 * regs.c: power-on and INIT values of the register file (SDM 3A 10.1.1, table 10-1), and its saved form
 * with the checks that keep a hostile stream from building a state no processor can be in.
 */
#include "x86/regs.h"

#include <string.h>

#include "state/state.h"
#include "x86/msr.h"

enum {
    XSAVE_FCW = 0,
    XSAVE_FTW = 4,
    XSAVE_MXCSR = 24,
    XSAVE_HEADER = 512,
    XSAVE_HEADER_LEN = 64,
    LAPIC_ID = 0x20,
    LAPIC_VERSION = 0x30,
    LAPIC_DFR = 0xe0,
    LAPIC_SVR = 0xf0,
    LAPIC_CMCI = 0x2f0,
    LAPIC_LVT_FIRST = 0x320,
    LAPIC_LVT_LAST = 0x370,
    LAPIC_LVT_MASKED = BIT(16),
    LAPIC_VERSION_VALUE = 0x50014, /* six LVT entries, integrated APIC */
    LAPIC_SVR_RESET = 0xff,
    RESET_SIGNATURE = 0x600, /* EDX after reset: family 6 */
    SEG_RESERVED = 0x0e00,
    PAT_WT = 4,
    PAT_WP = 5,
    PAT_WB = 6,
    PAT_UC_MINUS = 7,
};
#define PAT_RESET 0x0007040600070406ull
#define DR6_RESET 0xffff0ff0ull
#define DR7_RESET 0x400ull
#define CR0_KNOWN                                                                                  \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
#define CR4_KNOWN                                                                                  \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |      \
     CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_LA57 | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |  \
     CR4_SMEP | CR4_SMAP | CR4_PKE)
#define EFER_KNOWN  (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define XCR0_AVX512 (XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)
#define XCR0_KNOWN  (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU)
#define RFLAGS_KNOWN                                                                               \
    (FLAG_ARITH | FLAG_1 | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM | \
     FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID)

static void regs_put32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof(v));
}

static void regs_lapic_reset(struct x86_state *s, unsigned apic_id)
{
    s->lapic_esr_pending = 0;
    s->lapic_extint = false;
    memset(s->lapic, 0, sizeof(s->lapic));
    regs_put32(s->lapic + LAPIC_ID, s->apic_base & APIC_BASE_X2APIC ? apic_id : apic_id << 24);
    regs_put32(s->lapic + LAPIC_VERSION, LAPIC_VERSION_VALUE);
    regs_put32(s->lapic + LAPIC_DFR, ~0u);
    regs_put32(s->lapic + LAPIC_SVR, LAPIC_SVR_RESET);
    regs_put32(s->lapic + LAPIC_CMCI, LAPIC_LVT_MASKED);
    for (unsigned at = LAPIC_LVT_FIRST; at <= LAPIC_LVT_LAST; at += 0x10)
        regs_put32(s->lapic + at, LAPIC_LVT_MASKED);
}

/* What reset and INIT have in common; the caller has kept what survives. */
static void regs_common(struct x86_state *s, unsigned apic_id, bool bsp)
{
    const struct x86_seg data = { 0, 0xffff, 0, SEG_P | SEG_S | SEG_RW | SEG_ACCESSED };

    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[X86_RDX] = RESET_SIGNATURE;
    s->rip = 0xfff0;
    s->rflags = FLAG_1;
    for (unsigned i = 0; i < X86_NSREGS; i++)
        s->seg[i] = data;
    s->seg[X86_CS] = (struct x86_seg){ 0xffff0000, 0xffff, 0xf000, data.attr | SEG_CODE };
    s->ldtr = (struct x86_seg){ 0, 0xffff, 0, SEG_P | 2 };
    s->tr = (struct x86_seg){ 0, 0xffff, 0, SEG_P | 11 }; /* busy 32-bit TSS, as a VMCS wants it */
    s->gdtr = s->idtr = (struct x86_dtable){ 0, 0xffff };
    s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
    s->efer = 0;
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = DR6_RESET;
    s->dr7 = DR7_RESET;
    s->tsc_deadline = 0;
    s->exception_pending = s->exception_has_error = false;
    s->interrupt_pending = s->interrupt_soft = false;
    s->nmi_pending = s->nmi_masked = s->shadow_sti = s->shadow_mov_ss = false;
    s->exception_vector = s->interrupt_vector = s->sipi_vector = 0;
    s->exception_error = 0;
    s->mp_state = bsp ? X86_MP_RUNNING : X86_MP_WAIT_SIPI;
    regs_lapic_reset(s, apic_id);
}

void x86_state_reset(struct x86_state *s, unsigned apic_id, bool bsp)
{
    memset(s, 0, sizeof(*s));
    s->apic_base = APIC_DEFAULT_GPA | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0);
    regs_common(s, apic_id, bsp);
    s->cr0 = CR0_CD | CR0_NW | CR0_ET;
    s->xcr0 = XCR0_X87;
    s->pat = PAT_RESET;
    s->misc_enable = 1; /* fast strings */
    s->kvm_poll_control = 1;
    s->xsave[XSAVE_FCW] = 0x40;
    s->xsave[XSAVE_FTW] = 0xff; /* abridged: all eight registers valid, holding +0.0 */
    regs_put32(s->xsave + XSAVE_MXCSR, 0x1f80);
    s->xsave[XSAVE_HEADER] = (uint8_t)(XCR0_X87 | XCR0_SSE);
}

void x86_state_init(struct x86_state *s, unsigned apic_id, bool bsp)
{
    regs_common(s, apic_id, bsp);
    s->cr0 = (s->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
}

static bool regs_canonical(const struct x86_state *s, uint64_t v)
{
    unsigned unused = s->cr4 & CR4_LA57 ? 7 : 16;

    return (uint64_t)((int64_t)(v << unused) >> unused) == v;
}

static bool regs_pat_ok(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = pat >> (8 * i) & 0xff;

        if (type == 2 || type == 3 || type > PAT_UC_MINUS)
            return false;
    }
    return true;
}

static bool regs_xcr0_ok(uint64_t v)
{
    uint64_t wide = v & XCR0_AVX512;

    return (v & XCR0_X87) && !(v & ~XCR0_KNOWN) && (!(v & XCR0_AVX) || (v & XCR0_SSE)) &&
           (!wide || (wide == XCR0_AVX512 && (v & XCR0_AVX)));
}

static bool regs_xsave_ok(const struct x86_state *s)
{
    uint64_t bv;
    uint32_t mxcsr;

    memcpy(&bv, s->xsave + XSAVE_HEADER, sizeof(bv));
    memcpy(&mxcsr, s->xsave + XSAVE_MXCSR, sizeof(mxcsr));
    for (unsigned i = 8; i < XSAVE_HEADER_LEN; i++)
        if (s->xsave[XSAVE_HEADER + i])
            return false; /* the compacted format, or reserved bytes */
    return !(bv & ~XCR0_KNOWN) && !(mxcsr & ~0xffffu);
}

static bool regs_mode_ok(const struct x86_state *s)
{
    bool pg = s->cr0 & CR0_PG, lme = s->efer & EFER_LME, lma = s->efer & EFER_LMA;

    if ((pg && !(s->cr0 & CR0_PE)) || ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
        return false;
    if (lma != (pg && lme) || (lma && !(s->cr4 & CR4_PAE)))
        return false;
    if (!lma && (s->cr4 & CR4_PCIDE))
        return false;
    return !(lma && (s->rflags & FLAG_VM)) && (!(s->rflags & FLAG_VM) || (s->cr0 & CR0_PE));
}

static bool regs_segs_ok(const struct x86_state *s)
{
    for (unsigned i = 0; i < X86_NSREGS; i++)
        if (s->seg[i].attr & SEG_RESERVED)
            return false;
    return !((s->ldtr.attr | s->tr.attr) & SEG_RESERVED);
}

static bool regs_bases_ok(const struct x86_state *s)
{
    const uint64_t bases[] = {
        s->kernel_gs_base,   s->lstar,     s->cstar,        s->gdtr.base,    s->idtr.base,
        s->tr.base,          s->ldtr.base, s->sysenter_esp, s->sysenter_eip, s->seg[X86_FS].base,
        s->seg[X86_GS].base,
    };

    for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
        if (!regs_canonical(s, bases[i]))
            return false;
    return true;
}

const char *x86_state_invalid(const struct x86_state *s)
{
    const struct {
        bool ok;
        const char *what;
    } checks[] = {
        { regs_segs_ok(s), "segment attributes have reserved bits" },
        { !(s->cr0 & ~CR0_KNOWN), "CR0 has unknown bits" },
        { !(s->cr4 & ~CR4_KNOWN), "CR4 has unknown bits" },
        { !(s->efer & ~EFER_KNOWN), "EFER has unknown bits" },
        { regs_mode_ok(s), "CR0, CR4, EFER and RFLAGS contradict each other" },
        { !(s->rflags & ~(uint64_t)RFLAGS_KNOWN) && (s->rflags & FLAG_1),
          "RFLAGS has reserved bits" },
        { s->cr8 <= 15, "CR8 is out of range" },
        { !(s->cr3 >> 63), "CR3 has reserved bits" },
        { !(s->dr6 >> 32) && !(s->dr7 >> 32), "DR6 or DR7 has reserved bits" },
        { regs_xcr0_ok(s->xcr0), "XCR0 is not a valid combination" },
        { regs_xsave_ok(s), "the FPU image is not in standard format" },
        { regs_pat_ok(s->pat), "PAT has an unknown memory type" },
        { regs_bases_ok(s), "a base register is not canonical" },
        { s->exception_vector < 32, "the pending exception does not exist" },
        { s->mp_state <= X86_MP_INIT, "the processor's activity is unknown" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
        if (!checks[i].ok)
            return checks[i].what;
    return NULL;
}

/* Refuses what no sequence of instructions can produce. */
static void regs_validate(const struct x86_state *s, struct state *st)
{
    const char *why = x86_state_invalid(s);

    state_require(st, !why, why ? why : "");
}

static void regs_seg_io(struct x86_seg *seg, struct state *st)
{
    state_u64(st, &seg->base);
    state_u32(st, &seg->limit);
    state_u16(st, &seg->sel);
    state_u16(st, &seg->attr);
}

static void regs_u64_io(struct state *st, uint64_t *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        state_u64(st, list[i]);
}

static void regs_general_io(struct x86_state *s, struct state *st)
{
    uint64_t *const list[] = {
        &s->rip, &s->rflags, &s->cr0,  &s->cr2, &s->cr3,
        &s->cr4, &s->cr8,    &s->xcr0, &s->dr6, &s->dr7,
    };

    for (size_t i = 0; i < ARRAY_SIZE(s->gpr); i++)
        state_u64(st, &s->gpr[i]);
    regs_u64_io(st, list, ARRAY_SIZE(list));
    for (size_t i = 0; i < ARRAY_SIZE(s->dr); i++)
        state_u64(st, &s->dr[i]);
    for (size_t i = 0; i < X86_NSREGS; i++)
        regs_seg_io(&s->seg[i], st);
    regs_seg_io(&s->ldtr, st);
    regs_seg_io(&s->tr, st);
    state_u64(st, &s->gdtr.base);
    state_u16(st, &s->gdtr.limit);
    state_u64(st, &s->idtr.base);
    state_u16(st, &s->idtr.limit);
}

static void regs_msr_io(struct x86_state *s, struct state *st)
{
    uint64_t *const list[] = {
        &s->efer,
        &s->star,
        &s->lstar,
        &s->cstar,
        &s->sfmask,
        &s->kernel_gs_base,
        &s->sysenter_cs,
        &s->sysenter_esp,
        &s->sysenter_eip,
        &s->pat,
        &s->tsc_aux,
        &s->misc_enable,
        &s->apic_base,
        &s->xss,
        &s->spec_ctrl,
        &s->tsc,
        &s->tsc_adjust,
        &s->tsc_deadline,
        &s->mtrr_def_type,
        &s->kvm_system_time,
        &s->kvm_wall_clock,
        &s->kvm_steal_time,
        &s->kvm_async_pf,
        &s->kvm_pv_eoi,
        &s->kvm_poll_control,
    };

    regs_u64_io(st, list, ARRAY_SIZE(list));
    for (size_t i = 0; i < X86_N_MTRR_FIX; i++)
        state_u64(st, &s->mtrr_fix[i]);
    for (size_t i = 0; i < X86_N_MTRR_VAR; i++) {
        state_u64(st, &s->mtrr_var[i][0]);
        state_u64(st, &s->mtrr_var[i][1]);
    }
}

static void regs_event_io(struct x86_state *s, struct state *st)
{
    state_bool(st, &s->exception_pending);
    state_bool(st, &s->exception_has_error);
    state_u8(st, &s->exception_vector);
    state_u32(st, &s->exception_error);
    state_bool(st, &s->interrupt_pending);
    state_bool(st, &s->interrupt_soft);
    state_u8(st, &s->interrupt_vector);
    state_bool(st, &s->nmi_pending);
    state_bool(st, &s->nmi_masked);
    state_bool(st, &s->shadow_sti);
    state_bool(st, &s->shadow_mov_ss);
    state_u8(st, &s->mp_state);
    state_u8(st, &s->sipi_vector);
}

void x86_state_io(struct x86_state *s, struct state *st, const char *id)
{
    state_begin(st, X86_STATE_TYPE, id, X86_STATE_VERSION);
    regs_general_io(s, st);
    regs_msr_io(s, st);
    regs_event_io(s, st);
    state_u32(st, &s->lapic_esr_pending);
    state_bool(st, &s->lapic_extint);
    state_bool(st, &s->lapic_intr);
    state_bytes(st, s->lapic, sizeof(s->lapic));
    state_bytes(st, s->xsave, sizeof(s->xsave));
    if (!state_error(st))
        regs_validate(s, st);
    state_end(st);
}
