/*
 * kvm_clock.c: guest time under KVM. The TSC runs on while a VM is paused, and so does KVM's kvmclock; the
 * guest clock (base/clock.h) stands. clock_tsc_offset() changes with every resume, which tells each vCPU,
 * before it runs again, that both have to be moved back by the length of the pause.
 *
 * PVM executes the guest's RDTSC natively: there the guest's TSC is the host's, and only kvmclock is moved.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <x86intrin.h>

#include "base/log.h"
#include "x86/msr.h"

static int kvm_clock_write_tsc_offset(struct kvm_vcpu *k, uint64_t offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&offset,
    };

    if (!kvm_ioctl(k->fd, KVM_SET_DEVICE_ATTR, &attr))
        return 0;
    /* Kernels before 5.16: by value. KVM makes nearly equal values of several vCPUs equal. */
    return kvm_msr_write(k, MSR_TSC, __rdtsc() + offset);
}

/* One vCPU does it for all; kvmclock belongs to the VM. */
static void kvm_clock_sync_pvclock(struct vm *vm, uint64_t epoch)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_clock_data data = { 0 };
    int64_t pause;

    pthread_mutex_lock(&k->lock);
    if (!k->clock_valid || k->clock_epoch != epoch) {
        pause = (int64_t)(util_monotonic_ns() - clock_now_ns(vm->clock));
        if (!k->clock_valid || kvm_ioctl(k->fd, KVM_GET_CLOCK, &data))
            data.clock = clock_now_ns(vm->clock);
        else
            data.clock -= (uint64_t)(pause - k->clock_pause);
        data.flags = 0;
        if (kvm_ioctl(k->fd, KVM_SET_CLOCK, &data))
            log_warn("kvm", "kvmclock cannot be set: the guest's clock may jump");
        k->clock_pause = pause;
        k->clock_epoch = epoch;
        k->clock_valid = true;
    }
    pthread_mutex_unlock(&k->lock);
}

void kvm_clock_sync(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    uint64_t epoch = clock_tsc_offset(c->vm->clock);

    if (k->tsc_valid && k->tsc_epoch == epoch)
        return;
    if (!kvm_of(c->vm)->caps.pvm && kvm_clock_write_tsc_offset(k, epoch + k->tsc_delta))
        log_warn("kvm", "the TSC of vCPU %u cannot be set", c->index);
    kvm_clock_sync_pvclock(c->vm, epoch);
    if (k->tsc_valid && kvm_of(c->vm)->caps.kvmclock_ctrl)
        kvm_ioctl_num(k->fd, KVM_KVMCLOCK_CTRL, 0); /* refused if the guest has no kvmclock: fine */
    k->tsc_epoch = epoch;
    k->tsc_valid = true;
}

/* The guest may have moved its TSC (WRMSR, TSC_ADJUST): KVM's offset knows. */
static void kvm_clock_learn_delta(struct kvm_vcpu *k)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&offset,
    };

    if (k->tsc_valid && !kvm_ioctl(k->fd, KVM_GET_DEVICE_ATTR, &attr))
        k->tsc_delta = offset - k->tsc_epoch;
}

uint64_t kvm_clock_get_tsc(struct vcpu *c)
{
    if (kvm_of(c->vm)->caps.pvm)
        return __rdtsc();
    kvm_clock_learn_delta(kvm_vcpu_of(c));
    return clock_tsc(c->vm->clock) + kvm_vcpu_of(c)->tsc_delta;
}

void kvm_clock_set_tsc(struct vcpu *c, uint64_t tsc)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);

    k->tsc_delta = tsc - clock_tsc(c->vm->clock);
    k->tsc_valid = false;
}
