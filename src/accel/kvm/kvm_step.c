/*
 * kvm_step.c: where KVM must emulate (real mode on old CPUs, MMIO, or a KVM without hardware underneath) and
 * does not know the instruction, bt's interpreter executes it and KVM goes on behind it.
 */
#include "accel/kvm/kvm.h"

#include <stdio.h>
#include <string.h>

#include "accel/bt/bt.h"
#include "base/log.h"

static bool kvm_step_first(struct vcpu *c, struct kvm_vcpu *k)
{
    struct err e = { 0 };

    if (k->bt)
        return true;
    k->bt = bt_cpu_create(c, &e);
    if (!k->bt) {
        snprintf(c->reason, sizeof(c->reason),
                 "KVM cannot emulate an instruction, and the interpreter does not start: %.100s",
                 e.msg);
        return false;
    }
    log_info("kvm",
             "vCPU %u: KVM cannot emulate the instruction at %#llx; such ones are interpreted "
             "(slower)",
             c->index, (unsigned long long)k->before.rip);
    return true;
}

/* The APIC is in the kernel, so it is there that a halted vCPU waits. */
static enum run_exit kvm_step_halt(struct kvm_vcpu *k)
{
    struct kvm_mp_state mp = { KVM_MP_STATE_HALTED };

    return kvm_ioctl(k->fd, KVM_SET_MP_STATE, &mp) ? RUN_ERROR : RUN_KICKED;
}

enum run_exit kvm_step(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    enum run_exit why;
    int ret = kvm_state_get_regs(c, &k->before);

    if (ret) {
        snprintf(c->reason, sizeof(c->reason), "KVM does not give its registers: %s",
                 strerror(-ret));
        return RUN_ERROR;
    }
    if (!kvm_step_first(c, k))
        return RUN_ERROR;
    /* Older KVMs have queued the #UD already that they meant to answer with. */
    if (!kvm_of(c->vm)->caps.emulation_exit && k->before.exception_vector == X86_UD)
        k->before.exception_pending = false;
    k->before.mp_state = X86_MP_RUNNING;
    memcpy(&k->after, &k->before, sizeof(k->after));
    why = bt_step_one(k->bt, &k->after);
    k->steps++;
    if (why == RUN_SHUTDOWN || why == RUN_ERROR)
        return why;
    ret = kvm_state_set_regs(c, &k->after, &k->before);
    if (ret) {
        snprintf(c->reason, sizeof(c->reason),
                 "KVM refuses the registers behind an instruction: %s", strerror(-ret));
        return RUN_ERROR;
    }
    if (c->debug.step) {
        c->debug.stop = (struct debug_stop){ .why = DEBUG_STOP_STEP };
        return RUN_DEBUG;
    }
    return why == RUN_HALT ? kvm_step_halt(k) : why;
}

void kvm_step_fini(struct kvm_vcpu *k)
{
    if (!k->bt)
        return;
    log_info("kvm", "%llu instructions were interpreted", (unsigned long long)k->steps);
    bt_cpu_destroy(k->bt);
    k->bt = NULL;
}
