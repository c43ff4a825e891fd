/*
 * exit.h: the one door from an accelerator to the machine. All on the vCPU's own thread, no lock held;
 * results are written to *data and *val, and the accelerator puts them into its registers itself.
 */
#ifndef VM_EXIT_H
#define VM_EXIT_H

#include "base/util.h"

struct vm;
struct vcpu;

/* size is 1, 2 or 4 (pio), 1 to 8 (mmio, any alignment); data has size bytes. */
void exit_pio(struct vcpu *c, uint16_t port, unsigned size, bool write, void *data);
void exit_mmio(struct vcpu *c, uint64_t gpa, unsigned size, bool write, void *data);
/*
 * MSRs that belong to the machine and not to struct x86_state alone: APIC base, x2APIC, TSC deadline,
 * kvmclock, and all that the accelerator does not know. false: #GP.
 */
must_check bool exit_msr(struct vcpu *c, uint32_t index, bool write, uint64_t *val);

/* The 8259 alone under an in-kernel APIC; the rest is for the software APIC only. */
bool exit_intr_pending(
    struct vcpu *c); /* software APIC: would exit_intr_ack() yield a vector? cheap, no lock */
int exit_intr_ack(struct vcpu *c);    /* interrupt acknowledge: the vector, or -1 (it went away) */
bool exit_nmi_take(struct vcpu *c);   /* an NMI was latched; taking it clears it */
uint8_t exit_tpr_get(struct vcpu *c); /* CR8: bits 7:4 of the TPR */
void exit_tpr_set(struct vcpu *c, uint8_t cr8);

/* In-kernel APIC only: a level-triggered vector was EOIed. Any thread. */
void exit_eoi(struct vm *vm, uint8_t vector);

#endif
