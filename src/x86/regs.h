/*
 * regs.h: struct x86_state, the one register file that both accelerators load and store, and the bits
 * of the architectural registers (Intel SDM volumes 1 and 3A). Plain data; any thread.
 */
#ifndef X86_REGS_H
#define X86_REGS_H

#include "base/util.h"

struct state;

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
};
enum x86_sreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_NSREGS };

enum {
    FLAG_CF = BIT(0),
    FLAG_1 = BIT(1),
    FLAG_PF = BIT(2),
    FLAG_AF = BIT(4),
    FLAG_ZF = BIT(6),
    FLAG_SF = BIT(7),
    FLAG_TF = BIT(8),
    FLAG_IF = BIT(9),
    FLAG_DF = BIT(10),
    FLAG_OF = BIT(11),
    FLAG_IOPL = 3u << 12,
    FLAG_NT = BIT(14),
    FLAG_RF = BIT(16),
    FLAG_VM = BIT(17),
    FLAG_AC = BIT(18),
    FLAG_VIF = BIT(19),
    FLAG_VIP = BIT(20),
    FLAG_ID = BIT(21),
    FLAG_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};
#define CR0_PE         BIT64(0)
#define CR0_MP         BIT64(1)
#define CR0_EM         BIT64(2)
#define CR0_TS         BIT64(3)
#define CR0_ET         BIT64(4)
#define CR0_NE         BIT64(5)
#define CR0_WP         BIT64(16)
#define CR0_AM         BIT64(18)
#define CR0_NW         BIT64(29)
#define CR0_CD         BIT64(30)
#define CR0_PG         BIT64(31)
#define CR4_VME        BIT64(0)
#define CR4_PVI        BIT64(1)
#define CR4_TSD        BIT64(2)
#define CR4_DE         BIT64(3)
#define CR4_PSE        BIT64(4)
#define CR4_PAE        BIT64(5)
#define CR4_MCE        BIT64(6)
#define CR4_PGE        BIT64(7)
#define CR4_PCE        BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)
#define CR4_PKE        BIT64(22)
#define EFER_SCE       BIT64(0)
#define EFER_LME       BIT64(8)
#define EFER_LMA       BIT64(10)
#define EFER_NXE       BIT64(11)
#define XCR0_X87       BIT64(0)
#define XCR0_SSE       BIT64(1)
#define XCR0_AVX       BIT64(2)
#define XCR0_OPMASK    BIT64(5)
#define XCR0_ZMM_HI256 BIT64(6)
#define XCR0_HI16_ZMM  BIT64(7)
#define XCR0_PKRU      BIT64(9)

/* Segment attributes: the descriptor's bytes 5 and 6 as in a VMCS (SDM 3C 25.4.1), limit in bytes. */
enum {
    SEG_TYPE = 0xf,
    SEG_ACCESSED = BIT(0),
    SEG_RW = BIT(1),
    SEG_DC = BIT(2),
    SEG_CODE = BIT(3),
    SEG_S = BIT(4),
    SEG_DPL_SHIFT = 5,
    SEG_DPL = 3u << 5,
    SEG_P = BIT(7),
    SEG_AVL = BIT(12),
    SEG_L = BIT(13),
    SEG_DB = BIT(14),
    SEG_G = BIT(15),
    SEG_UNUSABLE = BIT(8), /* ours: loaded with a null selector (VMCS bit 16) */
};
struct x86_seg {
    uint64_t base;
    uint32_t limit; /* in bytes, granularity applied */
    uint16_t sel;
    uint16_t attr;
};
struct x86_dtable {
    uint64_t base;
    uint16_t limit;
};

enum x86_exception {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19,
};
enum {
    PF_P = BIT(0),
    PF_W = BIT(1),
    PF_U = BIT(2),
    PF_RSVD = BIT(3),
    PF_I = BIT(4),
    PF_PK = BIT(5)
};

/* What a processor is doing (KVM_MP_STATE_* without its numbers). */
enum x86_mp_state { X86_MP_RUNNING, X86_MP_HALTED, X86_MP_WAIT_SIPI, X86_MP_INIT };

enum {
    X86_XSAVE_SIZE = 2752, /* standard format up to PKRU at 2688; AMX is never offered to a guest */
    X86_LAPIC_SIZE = 1024, /* registers 0x000 to 0x3f0, 16 bytes apart, as KVM_GET_LAPIC has them */
    X86_N_MTRR_VAR = 8,
    X86_N_MTRR_FIX = 11,
};

struct x86_state {
    uint64_t gpr[16]; /* by enum x86_gpr */
    uint64_t rip;
    uint64_t rflags;
    struct x86_seg seg[X86_NSREGS]; /* by enum x86_sreg; FS and GS bases live here */
    struct x86_seg ldtr, tr;
    struct x86_dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t xcr0;
    uint64_t dr[4], dr6, dr7;

    /* MSRs */
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, misc_enable, apic_base, xss, spec_ctrl;
    uint64_t tsc; /* value at the moment of get_state; set_state continues from it */
    uint64_t tsc_adjust;
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE; 0: not armed */
    uint64_t mtrr_def_type;
    uint64_t mtrr_fix[X86_N_MTRR_FIX];
    uint64_t mtrr_var[X86_N_MTRR_VAR][2];
    uint64_t kvm_system_time, kvm_wall_clock, kvm_steal_time, kvm_async_pf, kvm_pv_eoi;
    uint64_t kvm_poll_control;

    /* Events in flight */
    bool exception_pending; /* raised, not yet delivered */
    bool exception_has_error;
    uint8_t exception_vector;
    uint32_t exception_error;
    bool interrupt_pending; /* acknowledged from the APIC or PIC, not yet delivered */
    bool interrupt_soft;
    uint8_t interrupt_vector;
    bool nmi_pending, nmi_masked;
    bool shadow_sti, shadow_mov_ss; /* interrupts are held off for one instruction */
    uint8_t mp_state;               /* enum x86_mp_state */
    uint8_t sipi_vector; /* received while X86_MP_INIT (KVM's KVM_MP_STATE_INIT_RECEIVED) */

    /* Of the local APIC, what its registers do not show; KVM keeps it to itself: 0 and false there. */
    uint32_t lapic_esr_pending; /* errors since ESR was last written */
    bool lapic_extint;          /* an ExtINT message was not yet acknowledged */
    bool lapic_intr;            /* level of the 8259's INTR pin */
    uint8_t lapic[X86_LAPIC_SIZE];
    _Alignas(64) uint8_t xsave[X86_XSAVE_SIZE]; /* SDM 1 13.4, standard format, header included */
};

/* Power-on (SDM 3A 10.1.1): real mode at f000:fff0, BSP running; others wait for SIPI. */
void x86_state_reset(struct x86_state *s, unsigned apic_id, bool bsp);
/* INIT (SDM 3A 10.1.1, table 10-1): like reset, but x87/SSE state, most MSRs, MTRRs and TSC survive. */
void x86_state_init(struct x86_state *s, unsigned apic_id, bool bsp);
/* Why no processor can be in this state (a sentence's middle), or NULL: the accelerators rely on it. */
const char *x86_state_invalid(const struct x86_state *s);
#define X86_STATE_TYPE "x86-cpu"
enum { X86_STATE_VERSION = 1 };
/* Saves or loads all of it in one section; refuses values that no processor could hold. */
void x86_state_io(struct x86_state *s, struct state *st, const char *id);

static inline bool x86_long_mode(const struct x86_state *s)
{
    return s->efer & EFER_LMA;
}

static inline bool x86_code64(const struct x86_state *s)
{
    return x86_long_mode(s) && (s->seg[X86_CS].attr & SEG_L);
}

static inline unsigned x86_cpl(const struct x86_state *s)
{
    if (!(s->cr0 & CR0_PE))
        return 0;
    if (s->rflags & FLAG_VM)
        return 3;
    return (s->seg[X86_SS].attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

#endif
