/*
 * vm.h: a virtual machine: its parts and its life cycle.
 *
 * Threads: created, controlled and destroyed by one thread (the main one); the loop runs on that thread
 * or another; each vCPU has its own. The struct's members are set up before the vCPUs start and constant
 * afterwards unless marked.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "accel/accel.h"
#include "bus/bus.h"
#include "vm/config.h"
#include "vm/vcpu.h"

struct machine; /* machine_pc.c's */

enum vm_end {
    VM_RUNNING,
    VM_END_POWEROFF,
    VM_END_RESET,
    VM_END_WAKE, /* from suspend to RAM: machine_pc_wake(), then run it again */
    VM_END_DEBUG_EXIT,
    VM_END_PANIC,
    VM_END_FAILED
};

/* Who is told of RUN_DEBUG (control/gdb.h is one). On the vCPU's thread, which parks itself afterwards. */
struct debugger {
    bool (*attached)(struct debugger *d); /* is somebody listening? any thread */
    void (*stopped)(struct debugger *d, struct vcpu *c);
};

struct vm {
    const struct vm_config *cfg;
    struct loop *loop;
    struct clock *clock;
    struct physmap mem;
    struct bus pio, mmio;
    struct device *devices;
    const struct accel_ops *accel;
    void *accel_data; /* the accelerator's own part */
    const struct irqchip_ops *irqchip;
    struct cpuid cpuid;
    struct vcpu *vcpu[CONFIG_MAX_CPUS];
    unsigned nvcpus;
    struct machine *machine;
    uint64_t pv_tsc, pv_ns; /* kvmclock's reference point; changed while the vCPUs are stopped */
    int (*vcpu_thread_init)(struct err *e); /* NULL, or first thing on each vCPU thread */
    void (*machine_destroy)(struct vm *vm); /* what is not a device: RAM, backends */
    void (*layout)(struct vm *vm);          /* NULL, or: shows and hides regions; vCPUs stopped */
    int (*inta)(struct vm *vm);             /* the 8259's vector or -1, set by the machine */
    void (*eoi)(struct vm *vm, uint8_t vector); /* the IOAPIC's, set by the machine */
    struct debugger *debugger;                  /* NULL: none; set before the vCPUs start */
    int cancel_fd; /* readable: who sets the machine up need not go on waiting; 0: none */
    bool held;     /* by the debugger: vm_run() leaves it paused. Controlling thread */

    pthread_mutex_t lock; /* guards what follows */
    enum vm_end end;      /* what the guest asked for, or why it ended */
    int end_status;
    char end_reason[256];
    bool paused;
    atomic_bool suspended; /* the guest suspended to RAM: no vCPU runs, devices do */
    struct loop_work end_work, layout_work;

    unsigned stalls; /* vm_stall() minus vm_unstall(); loop thread */
    char stall_reason[256];
    bool half_loaded; /* a load failed in its middle: nothing of this may run. Controlling thread */
};

/* A bare VM: loop, clock, empty buses, no RAM, no vCPUs. accel may be NULL (device tests: manual clock). */
must_check int vm_create(struct vm **out, const struct vm_config *cfg,
                         const struct accel_ops *accel, struct err *e);
/* Creates the vCPUs, parked, in power-on state. After RAM is in vm->mem and the machine is built. */
must_check int vm_create_vcpus(struct vm *vm, struct err *e);
void vm_destroy(struct vm *vm);

/* Runs the guest: unparks the vCPUs (unless vm->held) and runs the loop on this thread until the VM ends. */
enum vm_end vm_run(struct vm *vm);
/*
 * Stops the vCPUs and the clock, drains devices; and back, all but the vCPUs that the debugger holds. On
 * the loop thread. Idempotent.
 */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
/*
 * Stops the vCPUs and the clock while something in the host cannot go on (a disk without space), and back when
 * all have been taken back; requests in flight go on. On the loop thread. `why` stays readable in stall_reason.
 */
void vm_stall(struct vm *vm, const char *why);
void vm_unstall(struct vm *vm);
/*
 * Whole machine state (not RAM contents) through one cursor; paused. 0 or -errno, state_what() says why.
 * A stream of another machine, cut short or too new leaves the VM as it was; after any other failed load
 * vm_run() refuses, until vm_reset() or a load that succeeds.
 */
must_check int vm_state(struct vm *vm, struct state *s);
/* RAM contents as sections, skipping zero pages; a load comes after vm_state() and fails like it. */
void vm_ram_state(struct vm *vm, struct state *s);
/* Back to power-on: devices, vCPUs, then the machine loads the boot payload again. Paused. */
must_check int vm_reset(struct vm *vm, struct err *e);
/*
 * For the machine's layout(): r answers at its addresses (readonly: as ROM) or does not. Tells the
 * accelerator; nothing happens if that is so already. One that makes way comes before one that takes its
 * place. A host that cannot do it ends the VM.
 */
void vm_show_ram(struct vm *vm, struct ram_region *r, bool visible, bool readonly);
/* The vCPUs' part of vm_reset(). */
must_check int vm_reset_vcpus(struct vm *vm, struct err *e);
/* Debug read through the page tables of *s; false if any of it is not mapped RAM. vCPU stopped. */
bool vm_read_virtual(struct vm *vm, const struct x86_state *s, uint64_t lin, void *buf, size_t len);
/* The same for a write, which page protection does not stop; false: what lies before the hole was written. */
bool vm_write_virtual(struct vm *vm, const struct x86_state *s, uint64_t lin, const void *buf,
                      size_t len);
/* The physical address behind a linear one; false: not mapped. */
bool vm_translate(struct vm *vm, const struct x86_state *s, uint64_t lin, uint64_t *gpa);
/* Ends the VM from any thread; the first end wins. */
void vm_end(struct vm *vm, enum vm_end end, int status, const char *fmt, ...) printf_like(4, 5);

#endif
