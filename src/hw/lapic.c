/*
 * lapic.c: local APIC, SDM 3A chapter 11: register file (xAPIC page, x2APIC MSRs), priorities, EOI.
 *
 * Not modelled: CMCI, thermal and performance sources (their LVT entries are plain storage), focus
 * processor, EOI broadcast suppression, changes of the APIC ID.
 *
 * Locking: one lock an APIC, see lapic_impl.h. Every locked section ends in lapic_unlock(), which derives
 * PPR and `pending` again, so that no path can forget it. vm->eoi and vm->inta (the 8259's acknowledge cycle) are
 * called without the lock: both chips call back into lapic_irqchip with their own lock held.
 */
#include "hw/lapic_impl.h"

#include <string.h>

#include "base/endian.h"
#include "x86/msr.h"

enum {
    LAPIC_LVT_READ_ONLY = 0x5000,   /* delivery status, remote IRR */
    LAPIC_VERSION = 0x14 | 5 << 16, /* integrated APIC, six LVT entries */
    LAPIC_SPURIOUS_MASK = 0x1ff,
    LAPIC_PHYS_BITS_MAX = 52,
};

/* --- priorities --- */

/* Highest vector set in the 256-bit register at off, or -1. */
static int lapic_highest(struct lapic *l, unsigned off)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t word = *lapic_reg(l, off + 16 * (unsigned)i);

        if (word)
            return 32 * i + 31 - __builtin_clz(word);
    }
    return -1;
}

static uint32_t *lapic_vector_word(struct lapic *l, unsigned off, unsigned vector)
{
    return lapic_reg(l, off + 16 * (vector / 32));
}

/* SDM 3A 11.8.3.1. */
static uint32_t lapic_ppr(struct lapic *l)
{
    uint32_t tpr = *lapic_reg(l, APIC_TPR);
    int isr = lapic_highest(l, APIC_ISR);
    uint32_t isrv = isr < 0 ? 0 : (uint32_t)isr;

    return (tpr & 0xf0) >= (isrv & 0xf0) ? tpr : isrv & 0xf0;
}

/* The 8259 reaches the processor through LINT0, or directly while the APIC is switched off. */
static bool lapic_extint(struct lapic *l)
{
    uint32_t lint0 = *lapic_reg(l, APIC_LVT_LINT0);

    if (l->extint)
        return true;
    if (!l->intr)
        return false;
    return !lapic_hw_enabled(l) || (!(lint0 & APIC_LVT_MASKED) && (lint0 >> 8 & 7) == APIC_EXTINT);
}

/* The fixed interrupt that may be delivered now, or -1. */
static int lapic_deliverable(struct lapic *l)
{
    int irr = lapic_highest(l, APIC_IRR);

    if (irr < 0 || !lapic_sw_enabled(l))
        return -1;
    return (irr & 0xf0) > (int)(lapic_ppr(l) & 0xf0) ? irr : -1;
}

void lapic_lock(struct lapic *l)
{
    pthread_mutex_lock(&l->lock);
}

void lapic_unlock(struct lapic *l)
{
    bool was = atomic_load_explicit(&l->pending, memory_order_relaxed);
    bool now = lapic_extint(l) || lapic_deliverable(l) >= 0;

    *lapic_reg(l, APIC_PPR) = lapic_ppr(l);
    if (now != was)
        atomic_store(&l->pending, now);
    pthread_mutex_unlock(&l->lock);
    if (now && !was) /* otherwise it has been told already and looks once it can take it */
        vcpu_wake(l->vcpu);
}

void lapic_set_irr(struct lapic *l, uint8_t vector, bool level)
{
    uint32_t *tmr = lapic_vector_word(l, APIC_TMR, vector);
    uint32_t bit = BIT(vector % 32);

    if (!lapic_sw_enabled(l))
        return;
    if (vector < 16) {
        lapic_error(l, APIC_ESR_RECV_VECTOR);
        return;
    }
    *lapic_vector_word(l, APIC_IRR, vector) |= bit;
    *tmr = level ? *tmr | bit : *tmr & ~bit;
}

void lapic_error(struct lapic *l, uint32_t esr_bit)
{
    uint32_t lvt = *lapic_reg(l, APIC_LVT_ERROR);

    if (l->esr_pending & esr_bit)
        return;
    l->esr_pending |= esr_bit;
    /* An error vector below 16 is an error itself: do not chase it. */
    if (!(lvt & APIC_LVT_MASKED) && (lvt & 0xff) >= 16)
        lapic_set_irr(l, lvt & 0xff, false);
}

void lapic_lvt_fire(struct lapic *l, unsigned lvt_off)
{
    uint32_t lvt = *lapic_reg(l, lvt_off);

    if (lvt & APIC_LVT_MASKED)
        return;
    switch (lvt_off == APIC_LVTT ? APIC_FIXED : lvt >> 8 & 7) {
    case APIC_FIXED:
        lapic_set_irr(l, lvt & 0xff, false);
        break;
    case APIC_NMI:
        vcpu_request(l->vcpu, VCPU_REQ_NMI);
        break;
    default: /* ExtINT is a function of the pin's level; SMI and INIT have nobody to take them */
        break;
    }
}

bool lapic_pending(struct lapic *l)
{
    return atomic_load_explicit(&l->pending, memory_order_acquire);
}

/* The acknowledge cycle goes to the 8259 without our lock: it lowers INTR from within. */
static int lapic_ack_extint(struct lapic *l)
{
    struct vm *vm = l->vcpu->vm;
    bool extint;

    lapic_lock(l);
    extint = lapic_extint(l) && vm->inta;
    l->extint = false;
    lapic_unlock(l);
    return extint ? vm->inta(vm) : -1;
}

int lapic_ack(struct lapic *l)
{
    int vector = lapic_ack_extint(l);

    if (vector >= 0)
        return vector;
    lapic_lock(l);
    vector = lapic_deliverable(l);
    if (vector >= 0) {
        *lapic_vector_word(l, APIC_IRR, (unsigned)vector) &= ~BIT(vector % 32);
        *lapic_vector_word(l, APIC_ISR, (unsigned)vector) |= BIT(vector % 32);
    }
    lapic_unlock(l);
    return vector;
}

uint8_t lapic_tpr_get(struct lapic *l)
{
    return (uint8_t)(*lapic_reg(l, APIC_TPR) >> 4 & 0xf);
}

void lapic_tpr_set(struct lapic *l, uint8_t cr8)
{
    lapic_lock(l);
    *lapic_reg(l, APIC_TPR) = (uint32_t)(cr8 & 0xf) << 4;
    lapic_unlock(l);
}

static void lapic_eoi(struct lapic *l)
{
    struct vm *vm = l->vcpu->vm;
    bool level = false;
    int isr;

    lapic_lock(l);
    isr = lapic_highest(l, APIC_ISR);
    if (isr >= 0) {
        *lapic_vector_word(l, APIC_ISR, (unsigned)isr) &= ~BIT(isr % 32);
        level = *lapic_vector_word(l, APIC_TMR, (unsigned)isr) & BIT(isr % 32);
    }
    lapic_unlock(l);
    if (level && vm->eoi)
        vm->eoi(vm, (uint8_t)isr);
}

/* --- registers --- */

static uint32_t lapic_x2apic_ldr(const struct lapic *l)
{
    return l->vcpu->apic_id >> 4 << 16 | BIT(l->vcpu->apic_id & 0xf);
}

/* Bits of a register that software may set; 0: read-only or not there. */
static uint32_t lapic_writable(unsigned off)
{
    switch (off) {
    case APIC_TPR:
        return 0xff;
    case APIC_LDR:
        return 0xff000000;
    case APIC_DFR:
        return 0xf0000000;
    case APIC_SVR:
        return LAPIC_SPURIOUS_MASK;
    case APIC_ICR:
        return 0x000ccfff;
    case APIC_ICR2:
        return 0xff000000;
    case APIC_LVTT:
        return 0x000600ff | APIC_LVT_MASKED;
    case APIC_LVT_THERMAL:
    case APIC_LVT_PERF:
        return 0x7ff | APIC_LVT_MASKED;
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
        return 0xa7ff | APIC_LVT_MASKED;
    case APIC_LVT_ERROR:
        return 0xff | APIC_LVT_MASKED;
    case APIC_TMICT:
        return 0xffffffff;
    case APIC_TDCR:
        return 0xb;
    default:
        return 0;
    }
}

static void lapic_write_svr(struct lapic *l, uint32_t val)
{
    *lapic_reg(l, APIC_SVR) = val;
    if (!(val & APIC_SVR_ENABLE)) /* SDM 3A 11.4.7.2: all LVT entries become masked */
        for (unsigned off = APIC_LVTT; off <= APIC_LVT_ERROR; off += 16)
            *lapic_reg(l, off) |= APIC_LVT_MASKED;
}

static void lapic_write_lvt(struct lapic *l, unsigned off, uint32_t val)
{
    if (!lapic_sw_enabled(l))
        val |= APIC_LVT_MASKED;
    if (off == APIC_LVTT)
        lapic_timer_write_lvt(l, val);
    else
        *lapic_reg(l, off) = val;
}

/* Lock held; the side effects that need it dropped (EOI, ICR) are lapic_write()'s. */
static void lapic_write_locked(struct lapic *l, unsigned off, uint32_t val)
{
    val &= lapic_writable(off);
    switch (off) {
    case APIC_SVR:
        lapic_write_svr(l, val);
        break;
    case APIC_DFR:
        *lapic_reg(l, off) = val | 0x0fffffff;
        break;
    case APIC_ESR: /* a write moves what happened since the last one into the register */
        *lapic_reg(l, off) = l->esr_pending;
        l->esr_pending = 0;
        break;
    case APIC_TMICT:
        lapic_timer_start(l, val);
        break;
    case APIC_TDCR:
        lapic_timer_write_divide(l, val);
        break;
    case APIC_LVTT:
    case APIC_LVT_THERMAL:
    case APIC_LVT_PERF:
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
    case APIC_LVT_ERROR:
        lapic_write_lvt(l, off, val);
        break;
    default:
        if (lapic_writable(off))
            *lapic_reg(l, off) = val;
        else if (off != APIC_ID) /* writable on old parts only: ignored */
            lapic_error(l, APIC_ESR_REGISTER);
        break;
    }
}

static void lapic_write(struct lapic *l, unsigned off, uint32_t val)
{
    uint64_t icr;

    if (off == APIC_EOI) {
        lapic_eoi(l);
        return;
    }
    lapic_lock(l);
    lapic_write_locked(l, off, val);
    icr = *lapic_reg(l, APIC_ICR) | (uint64_t)(*lapic_reg(l, APIC_ICR2) >> 24) << 32;
    lapic_unlock(l);
    if (off == APIC_ICR)
        lapic_send_ipi(l, icr);
}

/* Lock held. */
static uint32_t lapic_read_locked(struct lapic *l, unsigned off)
{
    switch (off) {
    case APIC_ID:
        return lapic_x2apic(l) ? l->vcpu->apic_id : l->vcpu->apic_id << 24;
    case APIC_VERSION:
        return LAPIC_VERSION;
    case APIC_APR: /* arbitration is long gone; PPR is what KVM shows too */
        return *lapic_reg(l, APIC_PPR);
    case APIC_LDR:
        return lapic_x2apic(l) ? lapic_x2apic_ldr(l) : *lapic_reg(l, APIC_LDR);
    case APIC_TMCCT:
        return lapic_timer_count(l);
    default:
        return *lapic_reg(l, off);
    }
}

static bool lapic_readable(unsigned off)
{
    if (off >= APIC_ISR && off < APIC_ESR)
        return true;
    switch (off) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_APR:
    case APIC_PPR:
    case APIC_RRD:
    case APIC_ESR:
    case APIC_TMCCT:
        return true;
    default:
        return lapic_writable(off) != 0;
    }
}

bool lapic_mmio_base(struct lapic *l, uint64_t *gpa)
{
    *gpa = l->base & APIC_BASE_ADDR;
    return lapic_hw_enabled(l) && !lapic_x2apic(l);
}

uint32_t lapic_mmio_read(struct lapic *l, unsigned off)
{
    uint32_t val = 0;

    if (off % 16)
        return 0;
    lapic_lock(l);
    if (off < X86_LAPIC_SIZE && lapic_readable(off))
        val = lapic_read_locked(l, off);
    else
        lapic_error(l, APIC_ESR_REGISTER);
    lapic_unlock(l);
    return val;
}

void lapic_mmio_write(struct lapic *l, unsigned off, uint32_t val)
{
    if (off % 16)
        return;
    lapic_write(l, off, off < X86_LAPIC_SIZE ? val : 0);
}

/* --- MSRs --- */

/* In x2APIC mode the page's holes are #GP, and so are the registers that it does away with. */
static bool lapic_x2apic_has(unsigned off)
{
    return off != APIC_APR && off != APIC_RRD && off != APIC_DFR && off != APIC_ICR2;
}

static bool lapic_x2apic_read(struct lapic *l, unsigned off, uint64_t *val)
{
    if (!lapic_readable(off) || !lapic_x2apic_has(off))
        return false;
    lapic_lock(l);
    *val = lapic_read_locked(l, off);
    if (off == APIC_ICR)
        *val |= (uint64_t)*lapic_reg(l, APIC_ICR2) << 32;
    lapic_unlock(l);
    return true;
}

static bool lapic_x2apic_write_icr(struct lapic *l, uint64_t val)
{
    if ((uint32_t)val & ~lapic_writable(APIC_ICR))
        return false;
    lapic_lock(l);
    *lapic_reg(l, APIC_ICR) = (uint32_t)val;
    *lapic_reg(l, APIC_ICR2) = (uint32_t)(val >> 32);
    lapic_unlock(l);
    lapic_send_ipi(l, val);
    return true;
}

/* Bits that WRMSR accepts; delivery status and remote IRR of an LVT entry are read-only, not reserved. */
static uint64_t lapic_x2apic_accepts(unsigned off)
{
    bool lvt = off >= APIC_LVTT && off <= APIC_LVT_ERROR;

    return lapic_writable(off) | (lvt ? LAPIC_LVT_READ_ONLY : 0);
}

static bool lapic_x2apic_write(struct lapic *l, unsigned off, uint64_t val)
{
    switch (off) {
    case APIC_ICR:
        return lapic_x2apic_write_icr(l, val);
    case APIC_SELF_IPI:
        if (val > 0xff)
            return false;
        lapic_lock(l);
        lapic_set_irr(l, (uint8_t)val, false);
        lapic_unlock(l);
        return true;
    case APIC_EOI:
    case APIC_ESR:
        if (val)
            return false;
        break;
    case APIC_LDR:
        return false;
    default:
        if (!lapic_x2apic_has(off) || !lapic_writable(off) || val & ~lapic_x2apic_accepts(off))
            return false;
        break;
    }
    lapic_write(l, off, (uint32_t)val);
    return true;
}

/* Registers as after INIT; base stays. Lock held. */
static void lapic_reset_regs(struct lapic *l)
{
    lapic_timer_stop(l);
    memset(l->reg, 0, sizeof(l->reg));
    *lapic_reg(l, APIC_DFR) = 0xffffffff;
    *lapic_reg(l, APIC_SVR) = 0xff;
    for (unsigned off = APIC_LVTT; off <= APIC_LVT_ERROR; off += 16)
        *lapic_reg(l, off) = APIC_LVT_MASKED;
    /* Virtual wire mode, as firmware leaves it: a kernel that is booted directly relies on it. */
    if (l->vcpu->index == 0)
        *lapic_reg(l, APIC_LVT_LINT0) = APIC_EXTINT << 8;
    l->esr_pending = 0;
    l->extint = false;
}

/* SDM 3A figure 11-27: which changes of mode are allowed. */
static bool lapic_write_base(struct lapic *l, uint64_t val)
{
    unsigned bits =
        l->vcpu->vm->cpuid.phys_bits ? l->vcpu->vm->cpuid.phys_bits : LAPIC_PHYS_BITS_MAX;
    uint64_t mode = val & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    uint64_t old = l->base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);

    if (val >> bits || val & (BIT64(9) | 0xff) || mode == APIC_BASE_X2APIC)
        return false;
    if (mode != old && ((old == 0 && mode != APIC_BASE_ENABLE) ||
                        (old & APIC_BASE_X2APIC && mode == APIC_BASE_ENABLE)))
        return false;
    lapic_lock(l);
    l->base = val;
    if (mode != old && mode == 0)
        lapic_reset_regs(l);
    lapic_unlock(l);
    return true;
}

bool lapic_msr_read(struct lapic *l, uint32_t index, uint64_t *val)
{
    if (index == MSR_APIC_BASE) {
        *val = l->base;
        return true;
    }
    if (index == MSR_TSC_DEADLINE) {
        lapic_lock(l);
        *val = lapic_timer_deadline(l);
        lapic_unlock(l);
        return true;
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC + 0x3f || !lapic_x2apic(l))
        return false;
    return lapic_x2apic_read(l, (index - MSR_X2APIC) * 16, val);
}

bool lapic_msr_write(struct lapic *l, uint32_t index, uint64_t val)
{
    if (index == MSR_APIC_BASE)
        return lapic_write_base(l, val);
    if (index == MSR_TSC_DEADLINE) {
        lapic_lock(l);
        lapic_timer_set_deadline(l, val);
        lapic_unlock(l);
        return true;
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC + 0x3f || !lapic_x2apic(l))
        return false;
    return lapic_x2apic_write(l, (index - MSR_X2APIC) * 16, val);
}

/* --- life cycle and state --- */

void lapic_reset(struct lapic *l)
{
    lapic_lock(l);
    l->base = APIC_DEFAULT_GPA | APIC_BASE_ENABLE | (l->vcpu->index == 0 ? APIC_BASE_BSP : 0);
    lapic_reset_regs(l);
    lapic_unlock(l);
}

void lapic_init(struct lapic *l)
{
    lapic_lock(l);
    lapic_reset_regs(l);
    lapic_unlock(l);
}

void lapic_save(struct lapic *l, struct x86_state *s)
{
    memset(s->lapic, 0, sizeof(s->lapic));
    lapic_lock(l);
    for (unsigned off = 0; off < X86_LAPIC_SIZE; off += 16)
        st_le32(s->lapic + off, *lapic_reg(l, off));
    st_le32(s->lapic + APIC_ID, l->vcpu->apic_id << 24); /* KVM's format in both modes */
    st_le32(s->lapic + APIC_VERSION, LAPIC_VERSION);
    st_le32(s->lapic + APIC_PPR, lapic_ppr(l));
    st_le32(s->lapic + APIC_TMCCT, lapic_timer_count(l));
    if (lapic_x2apic(l))
        st_le32(s->lapic + APIC_LDR, lapic_x2apic_ldr(l));
    s->lapic_esr_pending = l->esr_pending;
    s->lapic_extint = l->extint;
    s->lapic_intr = l->intr;
    s->apic_base = l->base;
    s->tsc_deadline = lapic_timer_deadline(l);
    s->cr8 = *lapic_reg(l, APIC_TPR) >> 4 & 0xf;
    lapic_unlock(l);
}

void lapic_load(struct lapic *l, const struct x86_state *s)
{
    lapic_lock(l);
    lapic_timer_stop(l);
    for (unsigned off = 0; off < X86_LAPIC_SIZE; off += 16)
        *lapic_reg(l, off) = ld_le32(s->lapic + off);
    l->base = s->apic_base;
    l->tsc_deadline = s->tsc_deadline;
    l->esr_pending = s->lapic_esr_pending;
    l->extint = s->lapic_extint;
    l->intr = s->lapic_intr; /* so that the 8259's sync is no edge for LINT0 */
    /* CR8 and TPR are one register: whoever changed cr8 in the state meant it. */
    if ((*lapic_reg(l, APIC_TPR) >> 4 & 0xf) != s->cr8)
        *lapic_reg(l, APIC_TPR) = (uint32_t)(s->cr8 & 0xf) << 4;
    lapic_timer_resume(l);
    lapic_unlock(l);
}

struct lapic *lapic_create(struct vcpu *c, struct err *e)
{
    struct lapic *l = calloc(1, sizeof(*l));

    if (!l)
        return err_oom(e);
    l->vcpu = c;
    pthread_mutex_init(&l->lock, NULL);
    clock_timer_init(c->vm->clock, &l->timer, lapic_timer_fire);
    lapic_reset(l);
    return l;
}

void lapic_destroy(struct lapic *l)
{
    if (!l)
        return;
    clock_timer_cancel(&l->timer);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
