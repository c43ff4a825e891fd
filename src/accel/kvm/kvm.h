/*
 * kvm.h: what the files of the KVM accelerator share. Linux Documentation/virt/kvm/api.rst.
 *
 * Threads: a struct kvm_vcpu belongs to its vCPU thread (or to whoever stopped it), except kick() and
 * what is marked. vCPU ioctls take the vCPU's own mutex in the kernel, which KVM_RUN holds: other threads
 * reach a running vCPU by messages and kicks alone.
 *
 * XSAVE areas: the sizes and offsets are the host CPU's, which is what CPUID shows the guest. They fit into
 * the 4096 bytes of KVM_GET_XSAVE as long as the process does not ask the kernel for AMX.
 */
#ifndef ACCEL_KVM_KVM_H
#define ACCEL_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "accel/accel.h"
#include "vm/vcpu.h"
#include "vm/vm.h"

struct bt_cpu;

enum {
    KVM_MAX_SLOTS = 2 * PHYSMAP_MAX,
    KVM_EOI_ROUTES = 64, /* GSIs 0 to 63: messages whose EOI we must hear of */
    KVM_IRQFDS = 512,    /* GSIs from there on */
    KVM_XSAVE_SIZE = 4096,
    KVM_MAX_MSRS = 80,
};

/* What this host's KVM can do beyond what vm_init requires; constant after vm_init. */
struct kvm_caps {
    bool guest_debug, block_irqs; /* KVM_SET_GUEST_DEBUG, KVM_GUESTDBG_BLOCKIRQ */
    bool readonly_mem, user_msr, emulation_exit, xcrs, tsc_deadline, kvmclock_ctrl;
    bool pvm; /* no hardware: guests run at user level, RDTSC is the host's */
    int max_vcpus, nr_slots;
};

struct kvm_slot {
    const struct ram_region *region; /* NULL: free */
    uint64_t gpa, len;
    uint8_t *hva;
    bool readonly, logged; /* KVM_MEM_READONLY, KVM_MEM_LOG_DIRTY_PAGES */
};

/* A message that is sent through the routing table: GSI = its index. */
struct kvm_route {
    uint64_t addr;
    uint32_t data;
    bool used;
    int eventfd;        /* irqfds: the one bound to it, -1: none */
    uint64_t last_used; /* EOI routes: for replacement */
};

struct kvm_vm {
    int dev_fd, fd;
    size_t run_size;
    struct kvm_caps caps;
    struct kvm_cpuid2 *supported;       /* KVM_GET_SUPPORTED_CPUID */
    struct cpuid_words offered, forced; /* struct cpuid_limits */

    struct kvm_slot slot[KVM_MAX_SLOTS]; /* vCPUs stopped */
    atomic_bool intr;                    /* level of the 8259's INTR */

    pthread_mutex_t lock; /* guards what follows */
    struct kvm_route eoi_route[KVM_EOI_ROUTES];
    struct kvm_route irqfd_route[KVM_IRQFDS];
    uint64_t route_clock;
    bool clock_valid; /* kvmclock has been set once */
    uint64_t
        clock_epoch; /* clock_tsc_offset() for which kvmclock was set: tells one resume from the next */
    int64_t clock_pause; /* host monotonic ns - guest ns at that time */
};

struct kvm_vcpu {
    int fd;
    struct kvm_run *run;
    atomic_int tid;     /* of the vCPU thread; 0: has not run yet */
    uint64_t tsc_delta; /* guest TSC - clock_tsc(), kept over pauses */
    bool stale_pdptes;  /* PAE: state was set, perhaps before RAM was */
    uint64_t tsc_epoch; /* clock_tsc_offset() for which KVM's offset was set */
    bool tsc_valid;
    struct bt_cpu *bt;              /* created when KVM first fails to emulate */
    uint64_t steps;                 /* instructions bt has stepped over */
    struct x86_state before, after; /* of such a step */
    int pic_vector; /* of the 8259, given to KVM, which has not shown yet that it took it; -1: none */
};

static inline struct kvm_vm *kvm_of(const struct vm *vm)
{
    return vm->accel_data;
}

static inline struct kvm_vcpu *kvm_vcpu_of(const struct vcpu *c)
{
    return c->accel;
}

/* ioctl() with an argument by pointer; 0 or more, or -errno. Interrupted calls are not repeated. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
/* The same with a number as argument. */
int kvm_ioctl_num(int fd, unsigned long request, unsigned long arg);
/* KVM_ENABLE_CAP on a VM or vCPU; 0, or -errno where this KVM does not know it. */
int kvm_enable(int fd, uint32_t cap, uint64_t arg);

/* --- kvm_cpu.c --- */
int kvm_cpu_init(struct vcpu *c, struct err *e);
void kvm_cpu_fini(struct vcpu *c);
enum run_exit kvm_cpu_run(struct vcpu *c);
void kvm_cpu_kick(struct vcpu *c);
/* Installs the empty handler of the kick signal. */
int kvm_cpu_signal_init(struct err *e);

/* --- kvm_clock.c: TSC offset and kvmclock follow the guest clock over pauses; before each KVM_RUN --- */
void kvm_clock_sync(struct vcpu *c);
uint64_t kvm_clock_get_tsc(struct vcpu *c);
void kvm_clock_set_tsc(struct vcpu *c, uint64_t tsc);

/* --- kvm_cpuid.c --- */
/* Asks KVM what it supports; after the capabilities. */
int kvm_cpuid_learn(struct kvm_vm *k, struct err *e);
void kvm_cpuid_limits(struct vm *vm, struct cpuid_limits *l);
int kvm_cpuid_set(struct vcpu *c, struct err *e);

/* --- kvm_state.c --- */
int kvm_state_get(struct vcpu *c, struct x86_state *s);
int kvm_state_set(struct vcpu *c, const struct x86_state *s);
/* Makes KVM read them from memory again; before a run if k->stale_pdptes. */
int kvm_state_refresh_pdptes(struct kvm_vcpu *k);
/* Without APIC, activity and TSC; set writes only what differs from `old`. On the vCPU's own thread. */
int kvm_state_get_regs(struct vcpu *c, struct x86_state *s);
int kvm_state_set_regs(struct vcpu *c, const struct x86_state *s, const struct x86_state *old);

/* --- kvm_msr.c --- */
int kvm_msr_get(struct vcpu *c, struct x86_state *s);
int kvm_msr_set(struct vcpu *c, const struct x86_state *s);
int kvm_msr_write(struct kvm_vcpu *k, uint32_t index, uint64_t val);
int kvm_msr_read(struct kvm_vcpu *k, uint32_t index, uint64_t *val);
bool kvm_msr_equal(const struct x86_state *a, const struct x86_state *b);

/* --- kvm_irq.c --- */
extern const struct irqchip_ops kvm_irqchip;
void kvm_irq_init(struct kvm_vm *k);
/* Before KVM_RUN, BSP only: the 8259's interrupt into the vCPU, or a request to be told when it can be. */
void kvm_irq_inject_pic(struct vcpu *c);
/* The vCPU holds a level-triggered interrupt that was sent elsewhere: its EOI will be told. */
void kvm_irq_learn_vector(struct vcpu *c, uint8_t vector);
void kvm_irq_pic_ran(struct kvm_vcpu *k, int ret); /* after each KVM_RUN, with what it returned */

/* --- kvm_debug.c --- */
int kvm_debug_set(struct vcpu *c);                                 /* accel_ops.set_debug */
bool kvm_debug_int3(const struct debug_points *d, unsigned point); /* accel_ops.debug_int3 */
/* KVM_EXIT_DEBUG: RUN_DEBUG with c->debug.stop, or RUN_KICKED: it was the guest's own INT3. */
enum run_exit kvm_debug_exit(struct vcpu *c, const struct kvm_run *run);

/* --- kvm_step.c: one instruction that KVM cannot emulate. RUN_KICKED: go on; else as accel->run --- */
enum run_exit kvm_step(struct vcpu *c);
void kvm_step_fini(struct kvm_vcpu *k);

#endif
