/*
 * kvm_lend.c: a KVM without hardware (PVM) emulates a kernel's instructions at 360 ns each, and SYSCALL of
 * a guest that does not know of it leaves the guest in its kernel's entry with the user's privileges. So
 * bt's interpreter runs the guest in stretches (bt_lend.h), ten times as fast, and KVM does what is its own:
 *
 *   stretch | KVM_RUN: one instruction, single-stepped | stretch | KVM_RUN: interrupts alone | stretch ...
 *
 * One instruction: what the kernel wants of its APIC, MSRs, control registers and devices, and HLT.
 * Interrupts alone: when a stretch's time is up. A KVM_RUN with a signal pending delivers interrupts and
 * returns before the next instruction.
 *
 * User code is never KVM's here. It alone would run on KVM's shadow page tables, which follow the guest's
 * only if KVM makes the writes; emulated instructions walk the guest's own. With several vCPUs one
 * would have to hear of another's decoded code and TLB: those are left to KVM alone.
 */
#include "accel/kvm/kvm.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "accel/bt/bt_lend.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    LEND_STRETCH_US = 500, /* at most: until KVM is asked for interrupts */
};

static bool lend_possible(const struct vcpu *c)
{
    const struct debug_points *d = c->debug.points;

    return kvm_of(c->vm)->caps.pvm && kvm_of(c->vm)->caps.guest_debug && c->vm->nvcpus == 1 &&
           !c->debug.step && !(d && d->n);
}

void kvm_lend_start(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    struct err e = { 0 };

    if (k->lend.on || !lend_possible(c) || !kvm_step_prepare(c))
        return;
    if (!c->vm->lent_code && bt_lend_start(c->vm, &e)) {
        log_warn("kvm", "the interpreter cannot help with the kernel's code: %s", e.msg);
        return;
    }
    k->lend.on = true;
    log_info("kvm", "the guest is interpreted from here on, but for what is KVM's own");
}

static int lend_debug(struct kvm_vcpu *k, enum kvm_lend_mode mode)
{
    struct kvm_guest_debug d = { 0 };
    int ret;

    if (k->lend.mode == mode)
        return 0;
    if (mode == KVM_LEND_STEP)
        d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    ret = kvm_ioctl(k->fd, KVM_SET_GUEST_DEBUG, &d);
    if (!ret)
        k->lend.mode = mode;
    return ret;
}

static enum run_exit lend_error(struct vcpu *c, const char *what, int ret)
{
    snprintf(c->reason, sizeof(c->reason), "KVM refuses %s: %s", what, strerror(-ret));
    return RUN_ERROR;
}

/* The next KVM_RUN: poll: for interrupts alone. */
static enum run_exit lend_to_kvm(struct vcpu *c, enum kvm_lend_mode mode, bool poll)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int ret = lend_debug(k, mode);

    k->lend.poll = poll;
    return ret ? lend_error(c, "a single step", ret) : RUN_KICKED;
}

/* From k->before to k->after, which KVM gets. */
static enum run_exit lend_stretch(struct vcpu *c, enum bt_lend_end *end)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    uint64_t us = clock_tsc_khz(c->vm->clock) / 1000;
    enum run_exit why;
    int ret;

    memcpy(&k->after, &k->before, sizeof(k->after));
    why = bt_lend_run(k->bt, &k->after, 0, __rdtsc() + us * LEND_STRETCH_US, end);
    k->lend.stretches++;
    if (why == RUN_SHUTDOWN || why == RUN_ERROR)
        return why;
    ret = kvm_state_set_core(c, &k->after, &k->before);
    if (ret)
        return lend_error(c, "the registers behind a stretch of interpreted code", ret);
    return RUN_KICKED;
}

enum run_exit kvm_lend_enter(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);

    for (;;) {
        enum bt_lend_end end;
        enum run_exit why;
        int ret = kvm_state_get_core(c, &k->before);

        if (ret)
            return lend_error(c, "to give its registers", ret);
        if (k->before.mp_state != X86_MP_RUNNING)
            return lend_to_kvm(c, KVM_LEND_STEP, false);
        if (!x86_long_mode(&k->before))
            return lend_to_kvm(c, KVM_LEND_OFF, false);
        why = lend_stretch(c, &end);
        if (why != RUN_KICKED)
            return why;
        if (end == BT_LEND_TIME || (end == BT_LEND_OWNER && x86_cpl(&k->after) != 3))
            return lend_to_kvm(c, KVM_LEND_STEP, end == BT_LEND_TIME);
        why = kvm_step(c); /* user code's, or a change between user and kernel */
        if (why != RUN_KICKED)
            return why;
    }
}

/* KVM has an access of the current instruction to complete and stops behind it. */
static bool lend_half_done(const struct kvm_run *run)
{
    return run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO ||
           run->exit_reason == KVM_EXIT_X86_RDMSR || run->exit_reason == KVM_EXIT_X86_WRMSR;
}

enum run_exit kvm_lend(struct vcpu *c)
{
    return lend_half_done(kvm_vcpu_of(c)->run) ? lend_to_kvm(c, KVM_LEND_STEP, false)
                                               : kvm_lend_enter(c);
}

/* The kick signal is blocked, but not in KVM_RUN: pending there, it ends it before the guest runs. */
static int lend_signal_setup(struct kvm_vcpu *k)
{
    struct {
        struct kvm_signal_mask head;
        uint64_t set;
    } mask = { .head.len = sizeof(mask.set) };
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now); /* the kick's is open */
    memcpy(mask.head.sigset, &now, sizeof(mask.set));
    return kvm_ioctl(k->fd, KVM_SET_SIGNAL_MASK, &mask);
}

int kvm_lend_poll(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    sigset_t kick;
    int ret = 0;

    sigemptyset(&kick);
    sigaddset(&kick, kvm_cpu_signal());
    if (!k->lend.signal_ready)
        ret = lend_signal_setup(k);
    if (ret)
        return ret;
    k->lend.signal_ready = true;
    pthread_sigmask(SIG_BLOCK, &kick, NULL);
    syscall(SYS_tgkill, getpid(), atomic_load(&k->tid), kvm_cpu_signal());
    ret = kvm_ioctl_num(k->fd, KVM_RUN, 0);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL); /* and its handler runs */
    return ret;
}
