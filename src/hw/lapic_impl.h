/*
 * lapic_impl.h: what the three files of the local APIC share: lapic.c (registers, priorities),
 * lapic_timer.c and lapic_route.c (messages between APICs). Nobody else includes it.
 */
#ifndef HW_LAPIC_IMPL_H
#define HW_LAPIC_IMPL_H

#include <stdatomic.h>

#include "base/clock.h"
#include "hw/lapic.h"
#include "vm/vm.h"

enum { /* register offsets in the xAPIC page, SDM 3A table 11-1 */
       APIC_ID = 0x20,
       APIC_VERSION = 0x30,
       APIC_TPR = 0x80,
       APIC_APR = 0x90,
       APIC_PPR = 0xa0,
       APIC_EOI = 0xb0,
       APIC_RRD = 0xc0,
       APIC_LDR = 0xd0,
       APIC_DFR = 0xe0,
       APIC_SVR = 0xf0,
       APIC_ISR = 0x100,
       APIC_TMR = 0x180,
       APIC_IRR = 0x200,
       APIC_ESR = 0x280,
       APIC_CMCI = 0x2f0,
       APIC_ICR = 0x300,
       APIC_ICR2 = 0x310,
       APIC_LVTT = 0x320,
       APIC_LVT_THERMAL = 0x330,
       APIC_LVT_PERF = 0x340,
       APIC_LVT_LINT0 = 0x350,
       APIC_LVT_LINT1 = 0x360,
       APIC_LVT_ERROR = 0x370,
       APIC_TMICT = 0x380,
       APIC_TMCCT = 0x390,
       APIC_TDCR = 0x3e0,
       APIC_SELF_IPI = 0x3f0,
};
enum { /* delivery modes */
       APIC_FIXED = 0,
       APIC_LOWEST = 1,
       APIC_SMI = 2,
       APIC_NMI = 4,
       APIC_INIT = 5,
       APIC_SIPI = 6,
       APIC_EXTINT = 7,
};
enum { APIC_LVT_MASKED = BIT(16), APIC_SVR_ENABLE = BIT(8) };
enum { /* ESR bits */
       APIC_ESR_SEND_VECTOR = BIT(5),
       APIC_ESR_RECV_VECTOR = BIT(6),
       APIC_ESR_REGISTER = BIT(7),
};

struct lapic {
    /* wiring */
    struct vcpu *vcpu;
    struct clock_timer timer;

    atomic_bool pending; /* written under lock; read without: would lapic_ack() yield a vector? */

    /* guest-visible state, under lock */
    pthread_mutex_t lock;
    uint32_t reg[X86_LAPIC_SIZE / 16]; /* by offset / 16 */
    uint64_t base;                     /* IA32_APIC_BASE */
    uint64_t tsc_deadline;             /* 0: not armed */
    uint64_t deadline_ns;              /* of the timer, in guest time; 0: not armed */
    uint32_t esr_pending;              /* errors since ESR was last written */
    bool intr;                         /* level of LINT0: the 8259's INTR pin */
    bool extint;                       /* an ExtINT message arrived and was not yet acknowledged */
};

static inline uint32_t *lapic_reg(struct lapic *l, unsigned off)
{
    return &l->reg[off / 16];
}

static inline bool lapic_hw_enabled(const struct lapic *l)
{
    return l->base & (1u << 11);
}

static inline bool lapic_x2apic(const struct lapic *l)
{
    return (l->base & (3u << 10)) == (3u << 10);
}

static inline bool lapic_sw_enabled(struct lapic *l)
{
    return lapic_hw_enabled(l) && (*lapic_reg(l, APIC_SVR) & APIC_SVR_ENABLE);
}

/* --- lapic.c --- */
void lapic_lock(struct lapic *l);
/* Recomputes priorities and `pending`, unlocks, and wakes the vCPU if it has something new to take. */
void lapic_unlock(struct lapic *l);
/* Lock held. Accepts a fixed interrupt into IRR. */
void lapic_set_irr(struct lapic *l, uint8_t vector, bool level);
/* Lock held. Records an error for ESR and raises the error interrupt. */
void lapic_error(struct lapic *l, uint32_t esr_bit);
/* Lock held. A local interrupt source fires: does what its LVT entry says. */
void lapic_lvt_fire(struct lapic *l, unsigned lvt_off);

/* --- lapic_timer.c; lock held --- */
void lapic_timer_fire(struct clock_timer *t); /* takes the lock itself */
void lapic_timer_start(struct lapic *l,
                       uint32_t count); /* one-shot and periodic: after TMICT was written */
void lapic_timer_stop(struct lapic *l);
uint32_t lapic_timer_count(struct lapic *l); /* current count */
void lapic_timer_write_lvt(struct lapic *l, uint32_t val);
void lapic_timer_write_divide(struct lapic *l, uint32_t val);
uint64_t lapic_timer_deadline(struct lapic *l); /* IA32_TSC_DEADLINE */
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);
void lapic_timer_resume(struct lapic *l); /* re-arms from TMCCT or tsc_deadline after a load */

/* --- lapic_route.c; no lock held --- */
void lapic_send_ipi(struct lapic *l,
                    uint64_t icr); /* ICR with a 32-bit destination in bits 63:32 */

#endif
