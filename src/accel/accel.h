/*
 * accel.h: "run guest code". Two implementations: accel/kvm and accel/bt.
 *
 * Both load and store struct x86_state, end in the same exit_*() calls (vm/exit.h) and write results
 * back themselves, so the machine does not know which one runs it.
 */
#ifndef ACCEL_ACCEL_H
#define ACCEL_ACCEL_H

#include "accel/debug.h"
#include "base/err.h"
#include "mem/physmap.h"
#include "x86/cpuid.h"
#include "x86/regs.h"

struct vm;
struct vcpu;

enum run_exit {
    RUN_KICKED,   /* somebody wants the vCPU thread: look at its requests, then run again */
    RUN_HALT,     /* HLT (or MWAIT) with nothing to deliver: wait for vcpu_wake() */
    RUN_SHUTDOWN, /* triple fault */
    RUN_DEBUG,    /* breakpoint or single step on behalf of a debugger: c->debug.stop says which */
    RUN_ERROR,    /* the accelerator is at its end; c->reason says why */
};

/* Where interrupts enter the processors. Any thread; callers may hold device locks. */
struct irqchip_ops {
    void (*msi)(struct vm *vm, uint64_t addr, uint32_t data); /* SDM 3A 11.11 message format */
    void (*intr)(struct vm *vm, bool level); /* the 8259's INTR pin, to the BSP's LINT0 */
    void (*nmi)(struct vm *vm, struct vcpu *c);
    /* Optional: eventfd -> MSI without us in between. on=false takes it back. */
    int (*irqfd)(struct vm *vm, int eventfd, uint64_t addr, uint32_t data, bool on);
};

struct accel_ops {
    const char *name;                                      /* "kvm", "bt" */
    const struct irqchip_ops *irqchip;                     /* NULL: local APICs of hw/lapic.c */
    void (*limits)(struct vm *vm, struct cpuid_limits *l); /* after vm_init: what CPUID may offer */
    int (*vm_init)(struct vm *vm, struct err *e);          /* -errno, *e set, if unusable here */
    void (*vm_fini)(struct vm *vm);
    int (*vcpu_init)(struct vcpu *c, struct err *e); /* on any thread, vm->cpuid is ready */
    void (*vcpu_fini)(struct vcpu *c);
    enum run_exit (*run)(struct vcpu *c);                        /* vCPU thread only */
    void (*kick)(struct vcpu *c);                                /* any thread, async-signal-safe */
    int (*get_state)(struct vcpu *c, struct x86_state *s);       /* vCPU stopped */
    int (*set_state)(struct vcpu *c, const struct x86_state *s); /* vCPU stopped */
    int (*ram_map)(struct vm *vm, struct ram_region *r);         /* also remap; vCPUs stopped */
    void (*ram_unmap)(struct vm *vm, struct ram_region *r);
    int (*dirty_fetch)(struct vm *vm, struct ram_region *r,
                       uint64_t *bits); /* moves out and clears */
    int (*doorbell)(struct vm *vm, uint64_t gpa, unsigned size, int eventfd,
                    bool on); /* optional */
    /*
     * c->debug changed; vCPU stopped. 0; -ENOSPC: more points than the processor has registers for;
     * -ENOTSUP: this host cannot.
     */
    int (*set_debug)(struct vcpu *c);
    /* Optional: is this software breakpoint to be an INT3 that the debugger puts into memory? */
    bool (*debug_int3)(const struct debug_points *d, unsigned point);
};

extern const struct accel_ops accel_kvm, accel_bt;

enum accel_kvm_kind { ACCEL_KVM_ABSENT, ACCEL_KVM_EMULATED, ACCEL_KVM_REAL };
struct accel_probe {
    enum accel_kvm_kind kvm;
    double loop_ns; /* of one iteration of the probe's guest loop under KVM; 0 if it did not run */
    char reason[160]; /* one sentence: what was found and how */
};
/* What lets the user at a /dev/kvm that is there but not for them: the end of a sentence. Any thread. */
const char *accel_kvm_permission(void);
/* Measures in a few milliseconds (a ring-0 guest loop, timed). Any thread. */
void accel_probe(struct accel_probe *p);
/*
 * "auto": KVM on hardware, else bt. "kvm": the same, but an error where there is no KVM, and a warning where
 * it is emulated and bt is chosen. "kvm-only": KVM, however slow. "bt". reason (may be NULL) gets the
 * sentence that is logged.
 */
must_check int accel_choose(const char *name, const struct accel_ops **accel, char *reason,
                            size_t reason_len, struct err *e);

#endif
