/*
 * bt_fpu.c: the guest's FPU state and the host's registers.
 *
 * The state is loaded on the first instruction that needs it and stays in the registers; struct
 * x86_state.xsave is stale meanwhile (bt_cpu.fpu_live). All C of this folder is compiled without FPU
 * registers. Everything else (devices, libraries) may use them, so bt_fpu_store() comes first.
 *
 * x87 pointers (SDM 1 8.1.8): after running natively, FIP and FDP hold addresses of this process. They are
 * kept for the guest in struct bt_fpu and put in place wherever the state becomes visible to the guest.
 * As new processors do (CPUID.7.EBX bit 6), FDP and FOP move only with an unmasked exception.
 *
 * Not modelled: FERR# and IRQ 13. With CR0.NE clear a pending x87 exception is dropped, as if the handler
 * of IRQ 13 had run FNCLEX.
 */
#include "accel/bt/bt_native.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "accel/bt/bt_block.h"
#include "accel/bt/bt_jit.h"
#include "base/endian.h"

enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    XSAVE_HEADER = 512,
    XSAVE_HEADER_LEN = 64,
};
enum { FSW_ES = 0x80, FOP_MASK = 0x7ff, FCW_MASKS = 0x3f };
enum { TRAP_DE = 0, TRAP_GP = 13, TRAP_PF = 14, TRAP_MF = 16, TRAP_XM = 19 };
/* Between a stub and the host's registers no sanitizer may run code of its own. */
#define BT_FPU_NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined")))

#define BT_FPU_COMPONENTS                                                                          \
    (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)

/*
 * A signal handler has no argument: whose instruction runs on this thread. Written by the thread itself
 * before it enters a stub.
 */
static _Thread_local struct bt_cpu *volatile bt_fpu_current
    __attribute__((tls_model("initial-exec")));

BT_FPU_NO_SANITIZE static inline void bt_fpu_xsave(uint8_t *area, uint64_t mask)
{
    __asm__ volatile("xsave64 %0"
                     : "+m"(*(uint8_t(*)[X86_XSAVE_SIZE])area)
                     : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)));
}

BT_FPU_NO_SANITIZE static inline void bt_fpu_xrstor(const uint8_t *area, uint64_t mask)
{
    __asm__ volatile("xrstor64 %0"
                     :
                     : "m"(*(const uint8_t(*)[X86_XSAVE_SIZE])area), "a"((uint32_t)mask),
                       "d"((uint32_t)(mask >> 32))
                     : "memory");
}

/*
 * An exception inside a stub: goes on behind the stub's stores and leaves the rest to bt_native_run().
 * Anything else is not ours: the default action, by running into it again.
 */
static void bt_fpu_signal(int sig, siginfo_t *si, void *context)
{
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct bt_cpu *c = bt_fpu_current;
    struct bt_fpu *f = c ? c->fpu : NULL;
    const uint8_t *on = c ? bt_jit_fault(c, (const uint8_t *)(uintptr_t)g[REG_RIP]) : NULL;

    if (on && si->si_code > 0) {
        g[REG_RIP] = (greg_t)(uintptr_t)on;
        return;
    }
    if (f && si->si_code > 0 && f->run_at && g[REG_RIP] == (greg_t)(uintptr_t)f->run_at &&
        g[REG_TRAPNO] != TRAP_PF) {
        f->trap = (int)g[REG_TRAPNO];
        g[REG_RIP] = (greg_t)(uintptr_t)f->run_abort;
        return;
    }
    signal(sig, SIG_DFL);
}

void bt_fpu_catch_for(struct bt_cpu *c)
{
    bt_fpu_current = c;
}

static int bt_fpu_catch(struct err *e)
{
    static const int signals[] = { SIGFPE, SIGILL, SIGSEGV };
    struct sigaction sa = { .sa_sigaction = bt_fpu_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], &sa, NULL))
            return err_set(e, errno, "cannot catch processor exceptions: %s", strerror(errno));
    return 0;
}

/* Bits of MXCSR that exist; and MXCSR as the host's code wants it back. */
static void bt_fpu_init_host(struct bt_fpu *f)
{
    enum { MASK_DEFAULT = 0xffbf };

    __asm__ volatile("fxsave64 %0" : "=m"(*(uint8_t(*)[512])f->host));
    f->mxcsr_mask = ld_le32(f->host + FX_MXCSR_MASK);
    if (!f->mxcsr_mask)
        f->mxcsr_mask = MASK_DEFAULT;
    memset(f->host + XSAVE_HEADER, 0, XSAVE_HEADER_LEN); /* every component: initial state */
}

/* What the host keeps of an x87 instruction pointer: as many bits as its linear addresses have. */
static unsigned bt_fpu_fip_bits(const struct bt_fpu *f)
{
    static const unsigned widths[] = { 48, 57 };
    _Alignas(16) uint8_t image[512];

    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        memcpy(image, f->host, sizeof(image));
        st_le64(image + FX_FIP, BIT64(widths[i] - 1));
        __asm__ volatile("fxrstor64 %0\n\tfxsave64 %0\n\tfxrstor64 %1"
                         : "+m"(image)
                         : "m"(*(const uint8_t(*)[512])f->host));
        if (ld_le64(image + FX_FIP) >> 63)
            return widths[i];
    }
    return 64;
}

int bt_fpu_init(struct bt_cpu *c, struct err *e)
{
    enum { OSXSAVE = BIT(27), FDP_EXCPTN_ONLY = BIT(6) };
    struct bt_fpu *f = c->fpu;
    uint32_t eax, ebx, ecx, edx;

    __cpuid_count(1, 0, eax, ebx, ecx, edx);
    if (!(ecx & OSXSAVE))
        return err_set(e, ENOTSUP,
                       "this processor (or its kernel) does not offer XSAVE, which the "
                       "accelerator bt needs");
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    c->host_xcr0 = eax | (uint64_t)edx << 32;
    f->mask = c->host_xcr0 & BT_FPU_COMPONENTS;
    for (unsigned i = 2; i < ARRAY_SIZE(f->offset); i++) {
        if (!((f->mask | XCR0_PKRU) >> i & 1))
            continue;
        __cpuid_count(0xd, i, eax, ebx, ecx, edx);
        BUG_ON(eax + ebx > X86_XSAVE_SIZE);
        f->offset[i] = (uint16_t)ebx;
        f->size[i] = (uint16_t)eax;
        f->align64 |= (uint16_t)((ecx >> 1 & 1) << i);
    }
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    f->fdp_always = !(ebx & FDP_EXCPTN_ONLY);
    bt_fpu_init_host(f);
    f->fip_bits = bt_fpu_fip_bits(f);
    return bt_fpu_catch(e);
}

/* The header and MXCSR come from a snapshot or another accelerator: XRSTOR must not fault on them. */
static void bt_fpu_sanitize(const struct bt_cpu *c, uint8_t *x)
{
    uint64_t bv = ld_le64(x + XSAVE_HEADER);

    st_le64(x + XSAVE_HEADER, bv & c->host_xcr0 & (BT_FPU_COMPONENTS | XCR0_PKRU));
    for (unsigned i = 8; i < XSAVE_HEADER_LEN; i += 8)
        st_le64(x + XSAVE_HEADER + i, 0);
    st_le32(x + FX_MXCSR, ld_le32(x + FX_MXCSR) & c->fpu->mxcsr_mask);
}

/*
 * With all exceptions masked x87 instructions fault for their operands only, and leave FDP and FOP alone. A
 * host whose FDP always moves is for the interpreter.
 */
uint32_t bt_fpu_key(const struct bt_cpu *c)
{
    bool on = (c->s.cr0 & (CR0_EM | CR0_TS | CR0_NE)) == CR0_NE;

    return on && c->fpu_masked && BT_FPU_LAZY && !c->fpu->fdp_always ? BT_KEY_X87 : 0;
}

static void bt_fpu_control(struct bt_cpu *c, unsigned fcw)
{
    bool masked = (fcw & FCW_MASKS) == FCW_MASKS;

    if (likely(masked == c->fpu_masked))
        return;
    c->fpu_masked = masked;
    c->code_key = (c->code_key & ~(uint32_t)BT_KEY_X87) | bt_fpu_key(c);
}

void bt_fpu_control_changed(struct bt_cpu *c)
{
    uint16_t fcw;

    if (!c->fpu_live)
        return;
    __asm__ volatile("fnstcw %0" : "=m"(fcw));
    bt_fpu_control(c, fcw);
}

void bt_fpu_load(struct bt_cpu *c)
{
    struct bt_fpu *f = c->fpu;
    uint8_t *x = c->s.xsave;

    if (c->fpu_live)
        return;
    bt_fpu_sanitize(c, x);
    if (ld_le64(x + XSAVE_HEADER) & XCR0_X87) {
        c->fip = ld_le64(x + FX_FIP);
        f->fdp = ld_le64(x + FX_FDP);
        f->fop = ld_le16(x + FX_FOP) & FOP_MASK;
    } else {
        c->fip = f->fdp = f->fop = 0;
    }
    bt_fpu_control(c, ld_le64(x + XSAVE_HEADER) & XCR0_X87 ? ld_le16(x + FX_FCW) : FCW_MASKS);
    if (!BT_FPU_LAZY)
        return;
    bt_fpu_xrstor(x, f->mask);
    c->fpu_live = true;
}

static void bt_fpu_put_pointers(struct bt_cpu *c)
{
    st_le64(c->s.xsave + FX_FIP, c->fip);
    st_le64(c->s.xsave + FX_FDP, c->fpu->fdp);
    st_le16(c->s.xsave + FX_FOP, c->fpu->fop);
}

void bt_fpu_set_pointers(struct bt_cpu *c, uint64_t fip, uint64_t fdp, uint16_t fop)
{
    struct bt_fpu *f = c->fpu;

    c->fip = fip;
    f->fdp = fdp;
    f->fop = fop;
    if (!BT_FPU_LAZY)
        bt_fpu_put_pointers(c);
}

void bt_fpu_sync(struct bt_cpu *c)
{
    if (!c->fpu_live)
        return;
    bt_fpu_xsave(c->s.xsave, c->fpu->mask);
    bt_fpu_put_pointers(c);
}

void bt_fpu_store(struct bt_cpu *c)
{
    if (!c->fpu_live)
        return;
    bt_fpu_sync(c);
    bt_fpu_xrstor(c->fpu->host, c->fpu->mask);
    c->fpu_live = false;
}

void bt_fpu_normalize(struct bt_cpu *c)
{
    enum { X87_AREA = 24, ST_AT = 32, ST_LEN = 128, XMM_AT = 160, XMM_LEN = 256, FCW_INIT = 0x37f };
    const struct bt_fpu *f = c->fpu;
    uint8_t *x = c->s.xsave;
    uint64_t bv;

    bt_fpu_store(c);
    bv = ld_le64(x + XSAVE_HEADER);
    if (!(bv & XCR0_X87)) {
        memset(x, 0, X87_AREA);
        memset(x + ST_AT, 0, ST_LEN);
        st_le16(x + FX_FCW, FCW_INIT);
    }
    if (!(bv & XCR0_SSE))
        memset(x + XMM_AT, 0, XMM_LEN);
    for (unsigned i = 2; i < ARRAY_SIZE(f->offset); i++)
        if (f->size[i] && !(bv >> i & 1))
            memset(x + f->offset[i], 0, f->size[i]);
}

/* Real and virtual-8086 mode record linear addresses (their formats have 20 or 32 bits of them). */
void bt_fpu_record(struct bt_cpu *c, const struct bt_insn *in, uint64_t fsw)
{
    const struct bt_plan *p = &in->native->plan;
    bool real = !(c->s.cr0 & CR0_PE) || (c->s.rflags & FLAG_VM);
    uint64_t fip, fdp = c->fpu->fdp;

    if (p->x87 == BT_X87_INIT) {
        bt_fpu_set_pointers(c, 0, 0, 0);
        return;
    }
    fip = bt_rip(c, in) + (real ? c->s.seg[X86_CS].base : 0);
    if (p->mem_size && ((fsw & FSW_ES) || c->fpu->fdp_always))
        fdp = bt_ea(c, in) + (real ? c->s.seg[in->seg].base : 0);
    bt_fpu_set_pointers(c, fip, fdp, fsw & FSW_ES ? p->fop : c->fpu->fop);
}

unsigned bt_fpu_excepted(struct bt_cpu *c)
{
    enum { EXCEPTIONS = 0x3f };
    uint16_t fsw, fcw;

    bt_fpu_load(c);
    if (BT_FPU_LAZY) {
        __asm__ volatile("fnstsw %0" : "=a"(fsw));
        __asm__ volatile("fnstcw %0" : "=m"(fcw));
    } else {
        fsw = ld_le16(c->s.xsave + FX_FSW);
        fcw = ld_le16(c->s.xsave + FX_FCW);
        if (!(ld_le64(c->s.xsave + XSAVE_HEADER) & XCR0_X87))
            fsw = 0;
    }
    return fsw & ~(unsigned)fcw & EXCEPTIONS;
}

void bt_fpu_backup(struct bt_cpu *c)
{
    bt_fpu_sync(c);
    memcpy(c->fpu->page, c->s.xsave, X86_XSAVE_SIZE);
}

void bt_fpu_restore(struct bt_cpu *c)
{
    memcpy(c->s.xsave, c->fpu->page, X86_XSAVE_SIZE);
    c->fpu_live = false; /* and what is in the registers is forgotten */
    bt_fpu_load(c);
}

int bt_fpu_pending_first(struct bt_cpu *c, uint64_t cr2)
{
    if (!bt_fpu_excepted(c) || !(c->s.cr0 & CR0_NE))
        return BT_FAULT;
    c->s.cr2 = cr2;
    return bt_raise(c, X86_MF);
}

static int bt_fpu_check_vector(struct bt_cpu *c, uint64_t needed)
{
    if (!(c->s.cr4 & CR4_OSXSAVE) || (c->s.xcr0 & needed) != needed)
        return bt_raise(c, X86_UD);
    return c->s.cr0 & CR0_TS ? bt_raise(c, X86_NM) : 0;
}

int bt_native_check(struct bt_cpu *c, unsigned class)
{
    uint64_t cr0 = c->s.cr0;

    switch (class) {
    case BT_FPU_X87:
        return cr0 & (CR0_EM | CR0_TS) ? bt_raise(c, X86_NM) : 0;
    case BT_CLASS_WAIT:
        return (~cr0 & (CR0_MP | CR0_TS)) ? 0 : bt_raise(c, X86_NM);
    case BT_FPU_SSE:
        if (!(c->s.cr4 & CR4_OSFXSR))
            return bt_raise(c, X86_UD);
        fallthrough;
    case BT_FPU_MMX:
        if (unlikely(cr0 & (CR0_EM | CR0_TS)))
            return bt_raise(c, cr0 & CR0_EM ? X86_UD : X86_NM);
        return 0;
    case BT_FPU_AVX:
        return bt_fpu_check_vector(c, XCR0_SSE | XCR0_AVX);
    case BT_FPU_AVX512:
        return bt_fpu_check_vector(c, XCR0_SSE | XCR0_AVX | XCR0_OPMASK | XCR0_ZMM_HI256 |
                                          XCR0_HI16_ZMM);
    default:
        return 0;
    }
}

int bt_fpu_check(struct bt_cpu *c, enum bt_fpu_class class)
{
    return bt_native_check(c, class);
}

/* A pending x87 exception is dropped. */
static void bt_fpu_clear_exceptions(struct bt_cpu *c)
{
    enum { KEEP = 0x7f00 };

    if (BT_FPU_LAZY)
        __asm__ volatile("fnclex");
    else
        st_le16(c->s.xsave + FX_FSW, ld_le16(c->s.xsave + FX_FSW) & KEEP);
}

/* One attempt: -1, or the trap number of the host's exception. */
BT_FPU_NO_SANITIZE static int bt_fpu_try(struct bt_cpu *c, const struct bt_native *n, void *mem,
                                         struct bt_native_result *r)
{
    bt_native_entry *entry = (bt_native_entry *)(uintptr_t)n->code;
    bool move = !BT_FPU_LAZY && n->plan.class != BT_CLASS_NONE;
    struct bt_fpu *f = c->fpu;

    f->trap = -1;
    f->run_abort = n->code + n->abort_off;
    f->run_at = n->code + n->insn_off;
    bt_fpu_current = c;
    if (move)
        bt_fpu_xrstor(c->s.xsave, f->mask);
    *r = entry(c, mem, (c->s.rflags & FLAG_ARITH) | FLAG_1);
    if (move) {
        bt_fpu_xsave(c->s.xsave, f->mask);
        bt_fpu_xrstor(f->host, f->mask);
    }
    f->run_at = NULL;
    return f->trap;
}

int bt_fpu_call(struct bt_cpu *c, const struct bt_native *n, void *mem, struct bt_native_result *r)
{
    int trap;

    if (n->plan.class != BT_CLASS_NONE)
        bt_fpu_load(c);
    trap = bt_fpu_try(c, n, mem, r);

    if (unlikely(trap == TRAP_MF) && !(c->s.cr0 & CR0_NE)) {
        bt_fpu_clear_exceptions(c);
        trap = bt_fpu_try(c, n, mem, r);
    }
    if (!BT_FPU_LAZY && n->plan.class != BT_CLASS_NONE)
        bt_fpu_put_pointers(c);
    if (likely(trap < 0))
        return 0;
    switch (trap) {
    case TRAP_DE:
        return bt_raise(c, X86_DE);
    case TRAP_GP:
        return bt_raise_err(c, X86_GP, 0);
    case TRAP_MF:
        return bt_raise(c, X86_MF);
    case TRAP_XM:
        return bt_raise(c, c->s.cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
    default:
        return bt_raise(c, X86_UD);
    }
}
