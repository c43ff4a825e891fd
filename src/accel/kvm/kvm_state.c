/*
 * kvm_state.c: struct x86_state from and to KVM, a pair of functions for every ioctl. Order matters:
 *
 *   get: activity first, because KVM takes pending INITs and SIPIs with it, which changes registers
 *   set: special registers (modes, APIC base), then what depends on them; the APIC; the TSC deadline last
 *
 * PDPTEs of PAE mode are not part of the state: KVM reads them from memory with the special registers. That
 * may be too early, since RAM is loaded after the registers, and is done again before the first run.
 *
 * Level-triggered interrupts that are pending or in service in a loaded APIC will end with an EOI that our
 * IOAPIC must hear of: their messages are entered into the routing table, as if they had just been sent.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "x86/msr.h"

static void kvm_state_seg_get(struct x86_seg *to, const struct kvm_segment *s)
{
    to->base = s->base;
    to->limit = s->limit;
    to->sel = s->selector;
    to->attr =
        (uint16_t)((s->type & SEG_TYPE) | (s->s ? SEG_S : 0) | (s->dpl & 3) << SEG_DPL_SHIFT |
                   (s->present ? SEG_P : 0) | (s->avl ? SEG_AVL : 0) | (s->l ? SEG_L : 0) |
                   (s->db ? SEG_DB : 0) | (s->g ? SEG_G : 0) | (s->unusable ? SEG_UNUSABLE : 0));
}

static void kvm_state_seg_set(struct kvm_segment *to, const struct x86_seg *s)
{
    *to = (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = s->attr & SEG_TYPE,
        .present = !!(s->attr & SEG_P),
        .dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT,
        .db = !!(s->attr & SEG_DB),
        .s = !!(s->attr & SEG_S),
        .l = !!(s->attr & SEG_L),
        .g = !!(s->attr & SEG_G),
        .avl = !!(s->attr & SEG_AVL),
        .unusable = !!(s->attr & SEG_UNUSABLE),
    };
}

static int kvm_state_get_gprs(struct kvm_vcpu *k, struct x86_state *s)
{
    struct kvm_regs r;
    int ret = kvm_ioctl(k->fd, KVM_GET_REGS, &r);
    const uint64_t gpr[16] = { r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
                               r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15 };

    if (ret)
        return ret;
    memcpy(s->gpr, gpr, sizeof(gpr));
    s->rip = r.rip;
    s->rflags = r.rflags;
    return 0;
}

static int kvm_state_set_gprs(struct kvm_vcpu *k, const struct x86_state *s)
{
    struct kvm_regs r = {
        .rax = s->gpr[X86_RAX],
        .rbx = s->gpr[X86_RBX],
        .rcx = s->gpr[X86_RCX],
        .rdx = s->gpr[X86_RDX],
        .rsi = s->gpr[X86_RSI],
        .rdi = s->gpr[X86_RDI],
        .rsp = s->gpr[X86_RSP],
        .rbp = s->gpr[X86_RBP],
        .r8 = s->gpr[X86_R8],
        .r9 = s->gpr[X86_R9],
        .r10 = s->gpr[X86_R10],
        .r11 = s->gpr[X86_R11],
        .r12 = s->gpr[X86_R12],
        .r13 = s->gpr[X86_R13],
        .r14 = s->gpr[X86_R14],
        .r15 = s->gpr[X86_R15],
        .rip = s->rip,
        .rflags = s->rflags,
    };

    return kvm_ioctl(k->fd, KVM_SET_REGS, &r);
}

static int kvm_state_get_sregs(struct kvm_vcpu *k, struct x86_state *s)
{
    struct kvm_sregs r;
    int ret = kvm_ioctl(k->fd, KVM_GET_SREGS, &r);

    if (ret)
        return ret;
    kvm_state_seg_get(&s->seg[X86_ES], &r.es);
    kvm_state_seg_get(&s->seg[X86_CS], &r.cs);
    kvm_state_seg_get(&s->seg[X86_SS], &r.ss);
    kvm_state_seg_get(&s->seg[X86_DS], &r.ds);
    kvm_state_seg_get(&s->seg[X86_FS], &r.fs);
    kvm_state_seg_get(&s->seg[X86_GS], &r.gs);
    kvm_state_seg_get(&s->tr, &r.tr);
    kvm_state_seg_get(&s->ldtr, &r.ldt);
    s->gdtr = (struct x86_dtable){ r.gdt.base, r.gdt.limit };
    s->idtr = (struct x86_dtable){ r.idt.base, r.idt.limit };
    s->cr0 = r.cr0;
    s->cr2 = r.cr2;
    s->cr3 = r.cr3;
    s->cr4 = r.cr4;
    s->cr8 = r.cr8;
    s->efer = r.efer;
    s->apic_base = r.apic_base;
    return 0;
}

static int kvm_state_set_sregs(struct kvm_vcpu *k, const struct x86_state *s)
{
    struct kvm_sregs r = {
        .gdt = { .base = s->gdtr.base, .limit = s->gdtr.limit },
        .idt = { .base = s->idtr.base, .limit = s->idtr.limit },
        .cr0 = s->cr0,
        .cr2 = s->cr2,
        .cr3 = s->cr3,
        .cr4 = s->cr4,
        .cr8 = s->cr8,
        .efer = s->efer,
        .apic_base = s->apic_base,
    };

    kvm_state_seg_set(&r.es, &s->seg[X86_ES]);
    kvm_state_seg_set(&r.cs, &s->seg[X86_CS]);
    kvm_state_seg_set(&r.ss, &s->seg[X86_SS]);
    kvm_state_seg_set(&r.ds, &s->seg[X86_DS]);
    kvm_state_seg_set(&r.fs, &s->seg[X86_FS]);
    kvm_state_seg_set(&r.gs, &s->seg[X86_GS]);
    kvm_state_seg_set(&r.tr, &s->tr);
    kvm_state_seg_set(&r.ldt, &s->ldtr);
    return kvm_ioctl(k->fd, KVM_SET_SREGS, &r);
}

static int kvm_state_get_fpu(struct kvm_vm *vm, struct kvm_vcpu *k, struct x86_state *s)
{
    _Alignas(64) uint8_t xsave[KVM_XSAVE_SIZE];
    struct kvm_xcrs xcrs = { 0 };
    int ret = kvm_ioctl(k->fd, KVM_GET_XSAVE, xsave);

    if (ret)
        return ret;
    memcpy(s->xsave, xsave, sizeof(s->xsave));
    s->xcr0 = XCR0_X87;
    if (!vm->caps.xcrs)
        return 0;
    ret = kvm_ioctl(k->fd, KVM_GET_XCRS, &xcrs);
    for (uint32_t i = 0; !ret && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (xcrs.xcrs[i].xcr == 0)
            s->xcr0 = xcrs.xcrs[i].value;
    return ret;
}

static int kvm_state_set_fpu(struct kvm_vm *vm, struct kvm_vcpu *k, const struct x86_state *s)
{
    _Alignas(64) uint8_t xsave[KVM_XSAVE_SIZE] = { 0 };
    struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = s->xcr0 };
    int ret;

    memcpy(xsave, s->xsave, sizeof(s->xsave));
    ret = kvm_ioctl(k->fd, KVM_SET_XSAVE, xsave);
    if (!ret && vm->caps.xcrs)
        ret = kvm_ioctl(k->fd, KVM_SET_XCRS, &xcrs);
    return ret;
}

static int kvm_state_get_debug(struct kvm_vcpu *k, struct x86_state *s)
{
    struct kvm_debugregs r;
    int ret = kvm_ioctl(k->fd, KVM_GET_DEBUGREGS, &r);

    if (ret)
        return ret;
    memcpy(s->dr, r.db, sizeof(s->dr));
    s->dr6 = r.dr6;
    s->dr7 = r.dr7;
    return 0;
}

static int kvm_state_set_debug(struct kvm_vcpu *k, const struct x86_state *s)
{
    struct kvm_debugregs r = { .dr6 = s->dr6, .dr7 = s->dr7 };

    memcpy(r.db, s->dr, sizeof(s->dr));
    return kvm_ioctl(k->fd, KVM_SET_DEBUGREGS, &r);
}

/*
 * INT n, INT3 and INTO whose delivery was cut short: RIP is still at the instruction, and the ioctl does
 * not give its length, which delivery would need. It is executed again. (Not PVM: RIP is behind it there.)
 */
static bool kvm_state_runs_again(const struct kvm_vcpu_events *v)
{
    return (v->interrupt.injected && v->interrupt.soft) ||
           (v->exception.injected && (v->exception.nr == X86_BP || v->exception.nr == X86_OF));
}

static int kvm_state_get_events(struct kvm_vm *vm, struct kvm_vcpu *k, struct x86_state *s)
{
    struct kvm_vcpu_events v = { 0 };
    int ret = kvm_ioctl(k->fd, KVM_GET_VCPU_EVENTS, &v);

    if (ret)
        return ret;
    if (!vm->caps.pvm && kvm_state_runs_again(&v))
        v.interrupt.injected = v.exception.injected = 0;
    s->exception_pending = v.exception.injected;
    s->exception_vector = v.exception.nr & 31;
    s->exception_has_error = v.exception.has_error_code;
    s->exception_error = v.exception.error_code;
    s->interrupt_pending = v.interrupt.injected;
    s->interrupt_vector = v.interrupt.nr;
    s->interrupt_soft = v.interrupt.soft;
    if (k->pic_vector >= 0 && !v.interrupt.injected && !v.interrupt.shadow &&
        !v.exception.injected && !v.nmi.injected) {
        s->interrupt_pending = true;
        s->interrupt_vector = (uint8_t)k->pic_vector;
        s->interrupt_soft = false;
    }
    s->shadow_sti = v.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
    s->shadow_mov_ss = v.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
    s->nmi_pending = v.nmi.injected || v.nmi.pending;
    s->nmi_masked =
        v.nmi.masked && !v.nmi.injected; /* it masks the next one once it is delivered */
    s->sipi_vector = (uint8_t)v.sipi_vector;
    return 0;
}

static int kvm_state_set_events(struct kvm_vcpu *k, const struct x86_state *s)
{
    struct kvm_vcpu_events v = {
        .exception = { .injected = s->exception_pending,
                       .nr = s->exception_vector,
                       .has_error_code = s->exception_has_error,
                       .error_code = s->exception_error },
        .interrupt = { .injected = s->interrupt_pending && s->interrupt_vector != k->pic_vector,
                       .nr = s->interrupt_vector,
                       .soft = s->interrupt_soft,
                       .shadow = (uint8_t)((s->shadow_sti ? KVM_X86_SHADOW_INT_STI : 0) |
                                           (s->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : 0)) },
        .nmi = { .pending = s->nmi_pending, .masked = s->nmi_masked },
        .sipi_vector = s->sipi_vector,
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                 KVM_VCPUEVENT_VALID_SHADOW,
    };

    return kvm_ioctl(k->fd, KVM_SET_VCPU_EVENTS, &v);
}

/* What is being delivered has ended the HLT; KVM would not look at it before the next wake-up. */
static bool kvm_state_delivers(const struct x86_state *s)
{
    return s->interrupt_pending || s->exception_pending;
}

static int kvm_state_get_activity(struct kvm_vcpu *k, struct x86_state *s)
{
    struct kvm_mp_state mp;
    int ret = kvm_ioctl(k->fd, KVM_GET_MP_STATE, &mp);

    if (ret)
        return ret;
    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED:
        s->mp_state = X86_MP_HALTED;
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        s->mp_state = X86_MP_WAIT_SIPI;
        break;
    default:
        s->mp_state = X86_MP_RUNNING;
        break;
    }
    return 0;
}

static int kvm_state_set_activity(struct kvm_vcpu *k, const struct x86_state *s)
{
    struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };

    if (s->mp_state == X86_MP_HALTED && !kvm_state_delivers(s))
        mp.mp_state = KVM_MP_STATE_HALTED;
    else if (s->mp_state != X86_MP_RUNNING &&
             s->mp_state != X86_MP_HALTED) /* UNINITIALIZED would ignore a SIPI without an INIT */
        mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
    return kvm_ioctl(k->fd, KVM_SET_MP_STATE, &mp);
}

static int kvm_state_get_lapic(struct kvm_vm *vm, struct kvm_vcpu *k, struct x86_state *s)
{
    int ret = kvm_ioctl(k->fd, KVM_GET_LAPIC, s->lapic);

    s->tsc_deadline = 0;
    if (!ret && vm->caps.tsc_deadline)
        kvm_msr_read(k, MSR_TSC_DEADLINE, &s->tsc_deadline);
    return ret;
}

static void kvm_state_learn_levels(struct vcpu *c, const struct x86_state *s)
{
    enum { ISR = 0x100, TMR = 0x180, IRR = 0x200, STRIDE = 16 };

    for (unsigned vector = 0; vector < 256; vector++) {
        unsigned at = vector / 32 * STRIDE;
        uint32_t open = ld_le32(s->lapic + ISR + at) | ld_le32(s->lapic + IRR + at);

        if (ld_le32(s->lapic + TMR + at) & open & BIT(vector % 32))
            kvm_irq_learn_vector(c, (uint8_t)vector);
    }
}

static int kvm_state_set_lapic(struct vcpu *c, const struct x86_state *s)
{
    struct kvm_vm *vm = kvm_of(c->vm);
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int ret = kvm_ioctl(k->fd, KVM_SET_LAPIC, (void *)(uintptr_t)s->lapic);

    if (!ret && vm->caps.tsc_deadline)
        ret = kvm_msr_write(k, MSR_TSC_DEADLINE, s->tsc_deadline);
    if (!ret)
        kvm_state_learn_levels(c, s);
    return ret;
}

int kvm_state_get_regs(struct vcpu *c, struct x86_state *s)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int ret = kvm_state_get_gprs(k, s);

    if (!ret)
        ret = kvm_state_get_sregs(k, s);
    if (!ret)
        ret = kvm_state_get_fpu(kvm_of(c->vm), k, s);
    if (!ret)
        ret = kvm_state_get_debug(k, s);
    if (!ret)
        ret = kvm_state_get_events(kvm_of(c->vm), k, s);
    if (!ret)
        ret = kvm_msr_get(c, s);
    return ret;
}

int kvm_state_get(struct vcpu *c, struct x86_state *s)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int ret = kvm_state_get_activity(k, s);

    if (!ret)
        ret = kvm_state_get_regs(c, s);
    if (!ret)
        ret = kvm_state_get_lapic(kvm_of(c->vm), k, s);
    if (!ret && s->mp_state == X86_MP_HALTED && kvm_state_delivers(s))
        s->mp_state = X86_MP_RUNNING;
    if (!ret)
        s->tsc = kvm_clock_get_tsc(c);
    return ret;
}

int kvm_state_set(struct vcpu *c, const struct x86_state *s)
{
    struct kvm_vm *vm = kvm_of(c->vm);
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    bool legacy_paging = (s->cr0 & CR0_PG) && !x86_long_mode(s);
    int ret = vm->caps.pvm && legacy_paging ? -ENOTSUP : 0; /* it would clear CR0.PG silently */

    if (!ret)
        ret = kvm_state_set_sregs(k, s);
    if (!ret)
        ret = kvm_state_set_gprs(k, s);
    if (!ret)
        ret = kvm_state_set_fpu(vm, k, s);
    if (!ret)
        ret = kvm_state_set_debug(k, s);
    if (!ret)
        ret = kvm_msr_set(c, s);
    if (!ret)
        ret = kvm_state_set_events(k, s);
    if (!ret)
        ret = kvm_state_set_activity(k, s);
    if (!ret)
        ret = kvm_state_set_lapic(c, s);
    if (!ret)
        kvm_clock_set_tsc(c, s->tsc);
    k->stale_pdptes = legacy_paging && (s->cr4 & CR4_PAE);
    return ret;
}

int kvm_state_refresh_pdptes(struct kvm_vcpu *k)
{
    struct kvm_sregs r;
    int ret = kvm_ioctl(k->fd, KVM_GET_SREGS, &r);

    if (!ret)
        ret = kvm_ioctl(k->fd, KVM_SET_SREGS, &r);
    k->stale_pdptes = ret != 0;
    return ret;
}

static bool kvm_state_sregs_equal(const struct x86_state *a, const struct x86_state *b)
{
    return !memcmp(a->seg, b->seg, sizeof(a->seg)) &&
           !memcmp(&a->ldtr, &b->ldtr, sizeof(a->ldtr)) && !memcmp(&a->tr, &b->tr, sizeof(a->tr)) &&
           a->gdtr.base == b->gdtr.base && a->gdtr.limit == b->gdtr.limit &&
           a->idtr.base == b->idtr.base && a->idtr.limit == b->idtr.limit && a->cr0 == b->cr0 &&
           a->cr2 == b->cr2 && a->cr3 == b->cr3 && a->cr4 == b->cr4 && a->cr8 == b->cr8 &&
           a->efer == b->efer && a->apic_base == b->apic_base;
}

int kvm_state_set_regs(struct vcpu *c, const struct x86_state *s, const struct x86_state *old)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int ret = 0;

    if (!kvm_state_sregs_equal(s, old))
        ret = kvm_state_set_sregs(k, s);
    if (!ret)
        ret = kvm_state_set_gprs(k, s);
    if (!ret && (s->xcr0 != old->xcr0 || memcmp(s->xsave, old->xsave, sizeof(s->xsave)) != 0))
        ret = kvm_state_set_fpu(kvm_of(c->vm), k, s);
    if (!ret &&
        (memcmp(s->dr, old->dr, sizeof(s->dr)) != 0 || s->dr6 != old->dr6 || s->dr7 != old->dr7))
        ret = kvm_state_set_debug(k, s);
    if (!ret && !kvm_msr_equal(s, old))
        ret = kvm_msr_set(c, s);
    if (!ret)
        ret = kvm_state_set_events(k, s);
    return ret;
}
