/*
 * kvm_debug.c: breakpoints, watchpoints and single steps of a debugger outside of the guest
 * (accel/debug.h), by KVM_SET_GUEST_DEBUG.
 *
 * Hardware points take the processor's four debug registers, which the guest's own then do not reach.
 * Software breakpoints take those that are left: they are seen in code that is not mapped or loaded yet,
 * and by KVMs that emulate. The rest are INT3s in guest memory, put there by the debugger; with them each
 * #BP comes out here, and those of the guest itself are handed back.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    DEBUG_REGS = 4,
    DR7_FIXED = BIT(10),
    DR7_EXACT = BIT(9), /* GE */
    RW_EXEC = 0,
    RW_WRITE = 1,
    RW_ACCESS = 3, /* there is none for reads alone */
};

/* The debug registers of a VM's points. */
struct kvm_debug_regs {
    uint64_t dr[DEBUG_REGS], dr7;
    const struct debug_point *point[DEBUG_REGS]; /* whose each is */
    unsigned n;
    bool software; /* there are INT3s too */
};

static int kvm_debug_add(struct kvm_debug_regs *r, const struct debug_point *p, uint64_t lin,
                         unsigned len, unsigned rw)
{
    static const uint8_t len_code[9] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };

    if (r->n == DEBUG_REGS)
        return -ENOSPC;
    r->dr[r->n] = lin;
    r->dr7 |= 2ull << (2 * r->n) | (uint64_t)(rw | (unsigned)len_code[len] << 2) << (16 + 4 * r->n);
    r->point[r->n++] = p;
    return 0;
}

/* A range as naturally aligned pieces of 1, 2, 4 or 8 bytes. */
static int kvm_debug_add_watch(struct kvm_debug_regs *r, const struct debug_point *p)
{
    unsigned rw = p->kind == DEBUG_WATCH_WRITE ? RW_WRITE : RW_ACCESS;
    uint64_t lin = p->lin, left = p->len;
    int rc = 0;

    while (!rc && left) {
        unsigned len = 8;

        while (len > left || lin & (len - 1))
            len /= 2;
        rc = kvm_debug_add(r, p, lin, len, rw);
        lin += len;
        left -= len;
    }
    return rc;
}

static int kvm_debug_regs(const struct debug_points *d, struct kvm_debug_regs *r)
{
    int rc = 0;

    *r = (struct kvm_debug_regs){ .dr7 = DR7_FIXED | DR7_EXACT };
    for (unsigned i = 0; d && !rc && i < d->n; i++) {
        const struct debug_point *p = &d->point[i];

        if (p->kind == DEBUG_BREAK_HW)
            rc = kvm_debug_add(r, p, p->lin, 1, RW_EXEC);
        else if (p->kind != DEBUG_BREAK_SW)
            rc = kvm_debug_add_watch(r, p);
    }
    for (unsigned i = 0; d && !rc && i < d->n; i++)
        if (d->point[i].kind == DEBUG_BREAK_SW &&
            kvm_debug_add(r, &d->point[i], d->point[i].lin, 1, RW_EXEC))
            r->software = true;
    return rc;
}

bool kvm_debug_int3(const struct debug_points *d, unsigned point)
{
    struct kvm_debug_regs r;

    if (d->point[point].kind != DEBUG_BREAK_SW || kvm_debug_regs(d, &r))
        return false;
    for (unsigned i = 0; i < r.n; i++)
        if (r.point[i] == &d->point[point])
            return false;
    return true;
}

static uint32_t kvm_debug_control(const struct vcpu *c, const struct kvm_debug_regs *r)
{
    uint32_t control = 0;

    if (r->software)
        control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    if (r->n)
        control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    if (c->debug.step) {
        control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        if (kvm_of(c->vm)->caps.block_irqs && !c->debug.step_irqs)
            control |= KVM_GUESTDBG_BLOCKIRQ;
    }
    return control;
}

static int kvm_debug_apply(struct vcpu *c, uint32_t inject)
{
    struct kvm_guest_debug debug = { 0 };
    struct kvm_debug_regs regs;
    int rc = kvm_debug_regs(c->debug.points, &regs);

    if (rc)
        return rc;
    debug.control = kvm_debug_control(c, &regs);
    if (!kvm_of(c->vm)->caps.guest_debug)
        return debug.control ? -ENOTSUP : 0;
    debug.control |= inject;
    for (unsigned i = 0; i < DEBUG_REGS; i++)
        debug.arch.debugreg[i] = regs.dr[i];
    debug.arch.debugreg[7] = regs.dr7;
    return kvm_ioctl(kvm_vcpu_of(c)->fd, KVM_SET_GUEST_DEBUG, &debug);
}

int kvm_debug_set(struct vcpu *c)
{
    return kvm_debug_apply(c, 0);
}

static bool kvm_debug_is_ours(const struct vcpu *c, uint64_t lin)
{
    const struct debug_points *d = c->debug.points;

    for (unsigned i = 0; d && i < d->n; i++)
        if (d->point[i].kind == DEBUG_BREAK_SW && d->point[i].lin == lin)
            return true;
    return false;
}

static enum run_exit kvm_debug_bp(struct vcpu *c, uint64_t lin)
{
    int rc;

    if (kvm_debug_is_ours(c, lin)) {
        c->debug.stop = (struct debug_stop){ DEBUG_STOP_BREAK, DEBUG_BREAK_SW, lin };
        return RUN_DEBUG;
    }
    rc = kvm_debug_apply(c, KVM_GUESTDBG_INJECT_BP);
    if (!rc)
        return RUN_KICKED;
    snprintf(c->reason, sizeof(c->reason), "KVM does not give the guest its own #BP: %s",
             strerror(-rc));
    return RUN_ERROR;
}

enum run_exit kvm_debug_exit(struct vcpu *c, const struct kvm_run *run)
{
    struct kvm_debug_regs regs;
    uint64_t dr6 = run->debug.arch.dr6;

    if (run->debug.arch.exception == X86_BP)
        return kvm_debug_bp(c, run->debug.arch.pc);
    c->debug.stop = (struct debug_stop){ .why = DEBUG_STOP_STEP };
    if (kvm_debug_regs(c->debug.points, &regs))
        return RUN_DEBUG; /* cannot be: they were set */
    for (unsigned i = 0; i < regs.n; i++) {
        const struct debug_point *p = regs.point[i];

        if (!(dr6 >> i & 1))
            continue;
        c->debug.stop =
            (struct debug_stop){ p->kind <= DEBUG_BREAK_HW ? DEBUG_STOP_BREAK : DEBUG_STOP_WATCH,
                                 p->kind, p->lin };
        break;
    }
    return RUN_DEBUG;
}
