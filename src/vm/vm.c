/*
 * vm.c: see vm.h. Also the machine as devices see it (bus/device.h).
 *
 * Life cycle: create, machine_pc_create, create_vcpus, machine_pc_boot, run (resume ... pause), destroy.
 * The guest's wishes (reset, power-off) only set `end` and stop the loop: whoever called vm_run() decides.
 */
#include "vm/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hw/lapic.h"
#include "vm/pvclock.h"

enum { VM_PHYS_BITS_MIN = 40, VM_PHYS_BITS_MAX = 52 };
#define VM_PCI_WINDOW (64 * GIB)

static void vm_stop_loop(struct loop_work *w)
{
    loop_stop(container_of(w, struct vm, end_work)->loop);
}

static void vm_layout(struct vm *vm)
{
    if (vm->layout)
        vm->layout(vm);
}

/* Lets those run again that neither a debugger nor the guest's sleep holds. */
static void vm_unpark(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (!atomic_load(&vm->suspended) && !vm->stalls && !vm->vcpu[i]->debug.held)
            vcpu_unpark(vm->vcpu[i]);
}

static void vm_layout_work(struct loop_work *w)
{
    struct vm *vm = container_of(w, struct vm, layout_work);

    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_park(vm->vcpu[i]);
    vm_layout(vm);
    vm_unpark(vm);
}

int vm_create(struct vm **out, const struct vm_config *cfg, const struct accel_ops *accel,
              struct err *e)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    int rc;

    if (!vm)
        return err_set(e, ENOMEM, "out of memory");
    vm->cfg = cfg;
    vm->end_work.call = vm_stop_loop;
    vm->layout_work.call = vm_layout_work;
    vm->paused = true;
    pthread_mutex_init(&vm->lock, NULL);
    bus_init(&vm->pio);
    bus_init(&vm->mmio);
    vm->loop = loop_create(e);
    vm->clock = vm->loop ? clock_create(accel ? vm->loop : NULL, e) : NULL;
    if (!vm->clock) {
        rc = -ENOMEM;
        goto fail;
    }
    rc = accel ? accel->vm_init(vm, e) : 0;
    if (rc)
        goto fail;
    vm->accel = accel;
    vm->irqchip = accel && accel->irqchip ? accel->irqchip : &lapic_irqchip;
    *out = vm;
    return 0;
fail:
    vm_destroy(vm);
    return rc;
}

/*
 * As few bits of physical address as hold RAM and the PCI windows above it: firmware maps all that there
 * could be, at a cost that shows (OVMF 2022.11 maps 46 bits with 256 MiB of page tables).
 */
static unsigned vm_phys_bits(const struct vm *vm)
{
    unsigned bits = VM_PHYS_BITS_MIN;

    while (BIT64(bits) < vm->cfg->memory + VM_PCI_WINDOW && bits < VM_PHYS_BITS_MAX)
        bits++;
    return bits;
}

static int vm_build_cpuid(struct vm *vm, struct err *e)
{
    struct cpuid_limits limits = { .tsc_khz = clock_tsc_khz(vm->clock) };

    vm->accel->limits(vm, &limits);
    limits.phys_bits = vm_phys_bits(vm);
    return cpuid_build(&vm->cpuid, vm->cfg->cpu, &limits, vm->cfg->cpus, e);
}

static int vm_map_ram(struct vm *vm, struct err *e)
{
    for (unsigned i = 0; i < vm->mem.n; i++) {
        if (vm->mem.region[i]->hidden)
            continue;
        int rc = vm->accel->ram_map(vm, vm->mem.region[i]);

        if (rc)
            return err_set(e, -rc, "%s cannot map guest memory '%s': %s", vm->accel->name,
                           vm->mem.region[i]->name, strerror(-rc));
    }
    return 0;
}

int vm_create_vcpus(struct vm *vm, struct err *e)
{
    int rc = vm_build_cpuid(vm, e);

    if (!rc)
        rc = vm_map_ram(vm, e);
    while (!rc && vm->nvcpus < vm->cfg->cpus) {
        rc = vcpu_create(vm, vm->nvcpus, &vm->vcpu[vm->nvcpus], e);
        if (!rc)
            vm->nvcpus++;
    }
    return rc ? rc : vm_reset_vcpus(vm, e);
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_join(vm->vcpu[i]);
    device_quiesce_all(vm->devices);
    device_destroy_all(vm->devices);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_destroy(vm->vcpu[i]);
    vm->nvcpus = 0; /* ram_unmap() below tells the vCPUs that are left */
    if (vm->accel) {
        for (unsigned i = 0; i < vm->mem.n; i++)
            vm->accel->ram_unmap(vm, vm->mem.region[i]);
        vm->accel->vm_fini(vm);
    }
    if (vm->machine_destroy)
        vm->machine_destroy(vm);
    clock_destroy(vm->clock);
    loop_destroy(vm->loop);
    bus_fini(&vm->pio);
    bus_fini(&vm->mmio);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

/* Not before the first run: threads confine themselves, and set-up is over only then. */
static void vm_start_threads(struct vm *vm)
{
    struct err e = { 0 };

    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (!vm->vcpu[i]->started && vcpu_start(vm->vcpu[i], &e))
            vm_end(vm, VM_END_FAILED, 0, "%s", e.msg);
}

enum vm_end vm_run(struct vm *vm)
{
    loop_unpost(vm->loop, &vm->end_work); /* a late wish of the run before */
    pthread_mutex_lock(&vm->lock);
    vm->end = VM_RUNNING;
    vm->end_status = 0;
    vm->end_reason[0] = '\0';
    pthread_mutex_unlock(&vm->lock);
    if (vm->half_loaded) {
        vm_end(vm, VM_END_FAILED, 0,
               "the VM's state was not loaded whole: reset it or load another");
        return vm->end;
    }
    vm_start_threads(vm);
    if (!vm->held)
        vm_resume(vm);
    loop_run(vm->loop);
    vm_pause(vm);
    return vm->end;
}

static void vm_park(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_park(vm->vcpu[i]);
    for (unsigned i = 0; i < vm->nvcpus; i++) /* after all senders stopped */
        vcpu_settle(vm->vcpu[i]);
}

void vm_pause(struct vm *vm)
{
    if (vm->paused)
        return;
    vm_park(vm);
    loop_unpost(vm->loop, &vm->layout_work);
    vm_layout(vm);
    clock_stop(vm->clock);
    vm->paused = true; /* already: draining may end a stall, which must not start it */
    device_quiesce_all(vm->devices);
}

void vm_resume(struct vm *vm)
{
    if (!vm->paused)
        return;
    vm->paused = false;
    pvclock_resume(vm);                  /* while both of its clocks stand */
    atomic_store(&vm->suspended, false); /* the PM chip says whether it is */
    device_sync_all(vm->devices);
    clock_start(vm->clock); /* fires what is due: devices are in order by now */
    vm_unpark(vm);
}

void vm_stall(struct vm *vm, const char *why)
{
    if (vm->stalls++)
        return;
    snprintf(vm->stall_reason, sizeof(vm->stall_reason), "%s", why);
    if (vm->paused)
        return;
    vm_park(vm);
    clock_stop(vm->clock);
}

void vm_unstall(struct vm *vm)
{
    BUG_ON(!vm->stalls);
    if (--vm->stalls || vm->paused)
        return;
    pvclock_resume(vm); /* while both of its clocks stand */
    clock_start(vm->clock);
    vm_unpark(vm);
}

int vm_reset_vcpus(struct vm *vm, struct err *e)
{
    struct x86_state *s = calloc(1, sizeof(*s));
    int rc = 0;

    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; !rc && i < vm->nvcpus; i++) {
        struct vcpu *c = vm->vcpu[i];

        x86_state_reset(s, c->apic_id, i == 0);
        vcpu_reset_apic(c, s);
        rc = vcpu_set_state(c, s);
        if (rc)
            err_set(e, -rc, "%s refused the power-on state of vCPU %u: %s", vm->accel->name, i,
                    strerror(-rc));
    }
    free(s);
    return rc;
}

int vm_reset(struct vm *vm, struct err *e)
{
    BUG_ON(!vm->paused);
    vm->half_loaded = false;
    device_reset_all(vm->devices);
    vm_layout(vm);
    return vm_reset_vcpus(vm, e);
}

void vm_show_ram(struct vm *vm, struct ram_region *r, bool visible, bool readonly)
{
    int rc;

    readonly &= visible;
    if (r->hidden == !visible && r->readonly == readonly)
        return;
    if (vm->accel && !r->hidden)
        vm->accel->ram_unmap(vm, r);
    rc = physmap_show(&vm->mem, r, visible, readonly);
    if (!rc && visible && vm->accel)
        rc = vm->accel->ram_map(vm, r);
    if (rc)
        vm_end(vm, VM_END_FAILED, 0, "guest memory '%s' cannot be mapped: %s", r->name,
               strerror(-rc));
}

/* On the thread of the only vCPU, in the middle of an access: nobody else runs guest code. */
static bool vm_on_only_vcpu(const struct vm *vm)
{
    return vm->nvcpus == 1 && vm->vcpu[0]->started &&
           pthread_equal(pthread_self(), vm->vcpu[0]->thread);
}

/* The vCPU that changed it stops like the others: it may stand in code that is about to go. */
void vm_memory_changed(struct vm *vm)
{
    if (vm->paused) {
        vm_layout(vm);
        return;
    }
    if (vm_on_only_vcpu(vm)) {
        vm_layout(vm);
        vcpu_request(vm->vcpu[0], VCPU_REQ_MEMORY);
        return;
    }
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_request(vm->vcpu[i], VCPU_REQ_STOP);
    loop_post(vm->loop, &vm->layout_work);
}

void vm_end(struct vm *vm, enum vm_end end, int status, const char *fmt, ...)
{
    va_list ap;

    pthread_mutex_lock(&vm->lock);
    if (vm->end == VM_RUNNING) {
        vm->end = end;
        vm->end_status = status;
        va_start(ap, fmt);
        vsnprintf(vm->end_reason, sizeof(vm->end_reason), fmt, ap);
        va_end(ap);
    }
    pthread_mutex_unlock(&vm->lock);
    loop_post(vm->loop, &vm->end_work);
}

/* --- the machine as a device sees it --- */

struct bus *vm_pio(struct vm *vm)
{
    return &vm->pio;
}

struct bus *vm_mmio(struct vm *vm)
{
    return &vm->mmio;
}

struct physmap *vm_mem(struct vm *vm)
{
    return &vm->mem;
}

struct loop *vm_loop(struct vm *vm)
{
    return vm->loop;
}

struct clock *vm_clock(struct vm *vm)
{
    return vm->clock;
}

struct device **vm_devices(struct vm *vm)
{
    return &vm->devices;
}

void vm_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    vm->irqchip->msi(vm, addr, data);
}

void vm_intr(struct vm *vm, bool level)
{
    vm->irqchip->intr(vm, level);
}

void vm_nmi_all(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vm->irqchip->nmi(vm, vm->vcpu[i]);
}

int vm_doorbell(struct vm *vm, uint64_t gpa, unsigned size, int eventfd, bool on)
{
    if (!vm->accel || !vm->accel->doorbell)
        return -ENOTSUP;
    return vm->accel->doorbell(vm, gpa, size, eventfd, on);
}

void vm_guest_reset(struct vm *vm)
{
    vm_end(vm, VM_END_RESET, 0, "the guest reset the machine");
}

void vm_guest_poweroff(struct vm *vm)
{
    vm_end(vm, VM_END_POWEROFF, 0, "the guest powered off");
}

/* The vCPUs park themselves; only a reset, such as the one of waking up, starts them again. */
void vm_guest_suspend(struct vm *vm)
{
    atomic_store(&vm->suspended, true);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_request(vm->vcpu[i], VCPU_REQ_STOP);
}

void vm_guest_wake(struct vm *vm)
{
    vm_end(vm, VM_END_WAKE, 0, "the guest wakes up");
}

void vm_guest_panicked(struct vm *vm)
{
    vm_end(vm, VM_END_PANIC, 0, "the guest's kernel panicked");
}

void vm_debug_exit(struct vm *vm, int status)
{
    vm_end(vm, VM_END_DEBUG_EXIT, status, "the guest wrote to the debug-exit port");
}
