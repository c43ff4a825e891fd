/*
 * lapic.h: the local APIC of one vCPU (SDM 3A chapter 11), for accelerators without one of their own.
 *
 * Threads: register accesses on the vCPU's own thread; deliveries (lapic_irqchip) from any thread. The
 * IOAPIC's lock is taken before ours, so EOI broadcasts are made after ours is dropped.
 */
#ifndef HW_LAPIC_H
#define HW_LAPIC_H

#include "vm/vm.h"

struct vcpu;
struct lapic;

struct lapic *lapic_create(struct vcpu *c, struct err *e);
void lapic_destroy(struct lapic *l);
void lapic_reset(struct lapic *l); /* power-on */
void lapic_init(struct lapic *l);  /* INIT: all but the APIC id and base */
/* The APIC part of *s: lapic page, apic_base, tsc_deadline, cr8. vCPU stopped. */
void lapic_save(struct lapic *l, struct x86_state *s);
void lapic_load(struct lapic *l, const struct x86_state *s);

/* xAPIC page: false if it is disabled or in x2APIC mode. */
bool lapic_mmio_base(struct lapic *l, uint64_t *gpa);
uint32_t lapic_mmio_read(struct lapic *l, unsigned off);
void lapic_mmio_write(struct lapic *l, unsigned off, uint32_t val);
/* APIC base, TSC deadline, x2APIC registers; false: #GP (also for every other MSR). */
bool lapic_msr_read(struct lapic *l, uint32_t index, uint64_t *val);
bool lapic_msr_write(struct lapic *l, uint32_t index, uint64_t val);

bool lapic_pending(struct lapic *l);    /* cheap, no lock: would lapic_ack() yield a vector? */
int lapic_ack(struct lapic *l);         /* vector, from the 8259 if ExtINT, or -1 */
uint8_t lapic_tpr_get(struct lapic *l); /* CR8 */
void lapic_tpr_set(struct lapic *l, uint8_t cr8);

/* vCPU thread, without c->lock: the host's CLOCK_MONOTONIC at which the timer goes off, or 0. */
uint64_t lapic_timer_host_ns(struct lapic *l);
/* vCPU thread: the same as what the loop thread does at that time, whoever comes first. */
void lapic_timer_check(struct lapic *l);

extern const struct irqchip_ops lapic_irqchip;

#endif
