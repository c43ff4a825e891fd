/*
 * device.h: what every device is, and the machine as a device sees it.
 *
 * Locking: each device has one lock. The bus holds it around io_ops; timers, completions and loop
 * callbacks take it themselves. Locks are held downward only: bus -> device -> interrupt chip.
 */
#ifndef BUS_DEVICE_H
#define BUS_DEVICE_H

#include <pthread.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "bus/irq.h"
#include "mem/guest.h"
#include "state/state.h"

struct vm;
struct bus;
struct device;

/* The vCPUs are stopped, and (but for quiesce and destroy) the caller holds the device lock. */
struct device_ops {
    const char *type; /* names the snapshot section */
    unsigned version;
    void (*state)(struct device *d, struct state *s); /* save AND load: the same lines */
    void (*sync)(struct device *d); /* re-derive irqs, timers: after reset, load, resume */
    void (*quiesce)(
        struct device *d); /* drain I/O (lock NOT held), leave guest memory alone; idempotent */
    void (*reset)(struct device *d);   /* NULL: load the power-on state */
    void (*destroy)(struct device *d); /* NULL: free(d) */
};

struct device {
    const struct device_ops *ops;
    struct vm *vm;
    const char *id; /* unique in the VM; outlives the device */

    /* device.c's */
    pthread_mutex_t lock;
    struct device *next;
    void *power_on; /* state saved by device_add(), for the default reset */
    size_t power_on_len;
    struct log_limit log;
};

/*
 * 0: the vm owns d, and its power-on state has been recorded. Else d stays the caller's.
 * d->ops, vm and id are set, the rest zero; its state is as after power-on.
 */
must_check int device_add(struct vm *vm, struct device *d, struct err *e);
/* For the VM. devices: head of its list, in order of addition. */
void device_reset_all(struct device *devices);
void device_sync_all(struct device *devices);
void device_quiesce_all(struct device *devices);
void device_state_all(struct device *devices, struct state *s); /* a section each */
void device_destroy_all(struct device *devices);                /* last added first */
/* One device: a reset without the sync; a save or load of its section. Lock taken inside. */
void device_reset(struct device *d);
void device_state(struct device *d, struct state *s);

/* The machine as a device sees it (implemented by vm/vm.c). Valid while the device lives; any thread. */
struct bus *vm_pio(struct vm *vm);
struct bus *vm_mmio(struct vm *vm);
struct physmap *vm_mem(struct vm *vm);
struct loop *vm_loop(struct vm *vm);
struct clock *vm_clock(struct vm *vm);
struct device **vm_devices(struct vm *vm); /* head of the list, for device_add() */
void vm_msi(struct vm *vm, uint64_t addr,
            uint32_t data);              /* deliver a message-signalled interrupt */
void vm_intr(struct vm *vm, bool level); /* the 8259's INTR pin */
void vm_nmi_all(struct vm *vm);
/* ioeventfd where the accelerator has it: a write of size at gpa signals eventfd. -ENOTSUP otherwise. */
must_check int vm_doorbell(struct vm *vm, uint64_t gpa, unsigned size, int eventfd, bool on);
/*
 * Registers that say what answers at which address of guest memory have changed (shadow RAM, flash): the
 * machine looks at them again, before the calling vCPU executes its next instruction.
 */
void vm_memory_changed(struct vm *vm);
/* The guest asks. Takes effect soon after, on the loop thread. */
void vm_guest_reset(struct vm *vm);
void vm_guest_poweroff(struct vm *vm);
/* Suspend to RAM: the calling vCPU executes nothing more; and the event that ends it. */
void vm_guest_suspend(struct vm *vm);
void vm_guest_wake(struct vm *vm);
void vm_guest_panicked(struct vm *vm);
void vm_debug_exit(struct vm *vm, int status); /* ends the VM with this exit status */

#endif
