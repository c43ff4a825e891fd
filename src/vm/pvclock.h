/*
 * pvclock.h: kvmclock for accelerators whose APICs and MSRs are ours (bt): the time page that Linux reads
 * instead of a timer chip (Documentation/virt/kvm/x86/msr.rst). Under kvm the kernel does this itself.
 */
#ifndef VM_PVCLOCK_H
#define VM_PVCLOCK_H

#include "base/util.h"

struct vm;
struct vcpu;

/* MSR_KVM_SYSTEM_TIME[_OLD], MSR_KVM_WALL_CLOCK[_OLD]; false: #GP. vCPU thread. */
bool pvclock_msr(struct vcpu *c, uint32_t index, bool write, uint64_t *val);
/* Before the guest clock starts again: new reference point, all pages written anew. vCPUs stopped. */
void pvclock_resume(struct vm *vm);

#endif
