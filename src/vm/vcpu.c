/*
 * vcpu.c: a vCPU's thread: runs the accelerator, sleeps in HLT, obeys requests. See vcpu.h.
 *
 * A wake-up must not be lost between "nothing to do" and sleeping: every vcpu_wake() sets `wake` under
 * the lock, and the sleeper looks at it under the lock. A wake-up while guest code runs is a kick; the
 * order (in_run set, then requests looked at; request set, then in_run looked at) makes one of the two
 * sides see the other.
 */
#include "vm/vcpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "hw/lapic.h"
#include "vm/vm.h"

/* Its timeouts are of the clock that the guest's time is made from. */
static void vcpu_init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int vcpu_create(struct vm *vm, unsigned index, struct vcpu **out, struct err *e)
{
    struct vcpu *c = calloc(1, sizeof(*c));
    int rc;

    if (!c)
        return err_set(e, ENOMEM, "out of memory");
    c->vm = vm;
    c->index = index;
    c->apic_id = index;
    c->stopped = true;
    pthread_mutex_init(&c->lock, NULL);
    vcpu_init_cond(&c->cond);
    if (!vm->accel->irqchip) {
        c->lapic = lapic_create(c, e);
        if (!c->lapic) {
            rc = -ENOMEM;
            goto fail;
        }
    }
    rc = vm->accel->vcpu_init(c, e);
    if (rc)
        goto fail;
    *out = c;
    return 0;
fail:
    lapic_destroy(c->lapic);
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return rc;
}

void vcpu_destroy(struct vcpu *c)
{
    if (!c)
        return;
    BUG_ON(c->started);
    c->vm->accel->vcpu_fini(c);
    lapic_destroy(c->lapic);
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int vcpu_get_state(struct vcpu *c, struct x86_state *s)
{
    int rc = c->vm->accel->get_state(c, s);

    if (rc || !c->lapic)
        return rc;
    lapic_save(c->lapic, s);
    s->nmi_pending |= (atomic_load(&c->req) & VCPU_REQ_NMI) != 0;
    s->kvm_system_time = c->pv_system_time;
    s->kvm_wall_clock = c->pv_wall_clock;
    return 0;
}

int vcpu_set_state(struct vcpu *c, const struct x86_state *s)
{
    if (c->lapic) {
        lapic_load(c->lapic, s);
        atomic_fetch_and(&c->req,
                         ~(unsigned)(VCPU_REQ_NMI | VCPU_REQ_NMI2 | VCPU_REQ_INIT | VCPU_REQ_SIPI));
        c->pv_system_time = s->kvm_system_time;
        c->pv_wall_clock = s->kvm_wall_clock;
    }
    return c->vm->accel->set_state(c, s);
}

void vcpu_reset_apic(struct vcpu *c, struct x86_state *s)
{
    if (!c->lapic)
        return;
    lapic_reset(c->lapic);
    lapic_save(c->lapic, s);
}

void vcpu_wake(struct vcpu *c)
{
    pthread_mutex_lock(&c->lock);
    c->wake = true;
    pthread_cond_broadcast(&c->cond);
    pthread_mutex_unlock(&c->lock);
    if (atomic_load(&c->in_run))
        c->vm->accel->kick(c);
}

void vcpu_request(struct vcpu *c, unsigned bits)
{
    unsigned before = atomic_load(&c->req), second;

    do
        second = before & bits & VCPU_REQ_NMI ? VCPU_REQ_NMI2 : 0;
    while (!atomic_compare_exchange_weak(&c->req, &before, before | bits | second));
    vcpu_wake(c);
}

/* INIT and SIPI arrive as requests from the sender's APIC; here they meet the registers. */
static void vcpu_init_sipi(struct vcpu *c, unsigned req)
{
    const struct accel_ops *accel = c->vm->accel;
    struct x86_state *s = calloc(1, sizeof(*s));

    if (!s || accel->get_state(c, s)) {
        vm_end(c->vm, VM_END_FAILED, 0, "vCPU %u: cannot take an INIT: out of memory", c->index);
        free(s);
        return;
    }
    if (req & VCPU_REQ_INIT) {
        x86_state_init(s, c->apic_id, c->index == 0);
        lapic_init(c->lapic);
        lapic_save(c->lapic, s);
    }
    if ((req & VCPU_REQ_SIPI) && s->mp_state == X86_MP_WAIT_SIPI) {
        unsigned vector = atomic_load(&c->sipi_vector) & 0xff;

        s->seg[X86_CS].sel = (uint16_t)(vector << 8);
        s->seg[X86_CS].base = vector << 12;
        s->rip = 0;
        s->mp_state = X86_MP_RUNNING;
    }
    if (accel->set_state(c, s))
        vm_end(c->vm, VM_END_FAILED, 0, "vCPU %u: the accelerator refused its own state", c->index);
    free(s);
}

/* Takes what others asked for; true: leave the run loop and park. */
static bool vcpu_requests(struct vcpu *c)
{
    unsigned req = atomic_load(&c->req);

    if (req & VCPU_REQ_MEMORY) /* to have left was all */
        atomic_fetch_and(&c->req, ~(unsigned)VCPU_REQ_MEMORY);
    if (req & (VCPU_REQ_INIT | VCPU_REQ_SIPI)) {
        req = atomic_fetch_and(&c->req, ~(unsigned)(VCPU_REQ_INIT | VCPU_REQ_SIPI));
        vcpu_init_sipi(c, req);
    }
    return req & VCPU_REQ_STOP;
}

/* Waits until `wake`, or until the moment of CLOCK_MONOTONIC (0: for ever): false. */
static bool vcpu_wait(struct vcpu *c, uint64_t until_ns)
{
    struct timespec t = { (time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u) };
    bool woken;
    int rc = 0;

    pthread_mutex_lock(&c->lock);
    while (!c->wake && rc != ETIMEDOUT)
        rc = until_ns ? pthread_cond_timedwait(&c->cond, &c->lock, &t)
                      : pthread_cond_wait(&c->cond, &c->lock);
    woken = c->wake;
    c->wake = false;
    pthread_mutex_unlock(&c->lock);
    return woken;
}

static void vcpu_sleep(struct vcpu *c)
{
    while (!vcpu_wait(c, c->lapic ? lapic_timer_host_ns(c->lapic) : 0))
        lapic_timer_check(c->lapic);
}

static const char *vcpu_mode(const struct x86_state *s)
{
    if (x86_code64(s))
        return "64-bit";
    if (x86_long_mode(s))
        return "compatibility";
    if (!(s->cr0 & CR0_PE))
        return "real";
    return s->rflags & FLAG_VM ? "virtual-8086" : "protected";
}

/* One line a developer can work with: RIP, mode and the bytes there. */
static void vcpu_describe(struct vcpu *c, char *buf, size_t len)
{
    struct x86_state *s = calloc(1, sizeof(*s));
    char bytes[64] = " (not readable)";
    uint8_t code[8];

    if (!s || c->vm->accel->get_state(c, s)) {
        snprintf(buf, len, "registers not readable");
        free(s);
        return;
    }
    if (vm_read_virtual(c->vm, s, s->seg[X86_CS].base + s->rip, code, sizeof(code)))
        for (unsigned i = 0; i < sizeof(code); i++)
            snprintf(bytes + 3 * i, sizeof(bytes) - 3 * i, " %02x", code[i]);
    snprintf(buf, len, "rip %04x:%#llx, %s mode, CPL %u, cr0 %#llx, cr3 %#llx, bytes%s",
             s->seg[X86_CS].sel, (unsigned long long)s->rip, vcpu_mode(s), x86_cpl(s),
             (unsigned long long)s->cr0, (unsigned long long)s->cr3, bytes);
    free(s);
}

/* Parks itself and tells the debugger; false: there is none. */
static bool vcpu_debug_stop(struct vcpu *c)
{
    struct debugger *d = c->vm->debugger;

    if (!d || !d->attached(d))
        return false;
    atomic_fetch_or(&c->req, VCPU_REQ_STOP);
    d->stopped(d, c);
    return true;
}

static void vcpu_failed(struct vcpu *c, enum run_exit why)
{
    char where[200];

    if (why == RUN_SHUTDOWN) {
        c->debug.stop.why = DEBUG_STOP_SHUTDOWN;
        if (vcpu_debug_stop(c))
            return;
    }
    vcpu_describe(c, where, sizeof(where));
    atomic_fetch_or(&c->req, VCPU_REQ_STOP);
    if (why == RUN_SHUTDOWN)
        vm_end(c->vm, VM_END_FAILED, 0, "vCPU %u: triple fault at %s", c->index, where);
    else
        vm_end(c->vm, VM_END_FAILED, 0, "vCPU %u: %s at %s", c->index,
               c->reason[0] ? c->reason : "the accelerator failed", where);
}

static void vcpu_run_guest(struct vcpu *c)
{
    for (;;) {
        enum run_exit why;

        atomic_store(&c->in_run, true);
        if (vcpu_requests(c)) {
            atomic_store(&c->in_run, false);
            return;
        }
        why = c->vm->accel->run(c);
        atomic_store(&c->in_run, false);
        if (why == RUN_HALT)
            vcpu_sleep(c);
        else if (why == RUN_SHUTDOWN || why == RUN_ERROR)
            vcpu_failed(c, why);
        else if (why == RUN_DEBUG)
            vcpu_debug_stop(c);
    }
}

static void *vcpu_main(void *arg)
{
    struct vcpu *c = arg;
    struct err e = { 0 };
    bool quit = false;

    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* of the sleep in HLT: 50 us otherwise */
    if (c->vm->vcpu_thread_init && c->vm->vcpu_thread_init(&e))
        vm_end(c->vm, VM_END_FAILED, 0, "vCPU %u: %s", c->index, e.msg);
    while (!quit) {
        pthread_mutex_lock(&c->lock);
        c->stopped = true;
        pthread_cond_broadcast(&c->cond);
        while (atomic_load(&c->req) & VCPU_REQ_STOP && !c->quit)
            pthread_cond_wait(&c->cond, &c->lock);
        quit = c->quit;
        c->stopped = quit;
        pthread_mutex_unlock(&c->lock);
        if (!quit)
            vcpu_run_guest(c);
    }
    return NULL;
}

int vcpu_start(struct vcpu *c, struct err *e)
{
    char name[16];
    int rc;

    atomic_fetch_or(&c->req, VCPU_REQ_STOP);
    rc = pthread_create(&c->thread, NULL, vcpu_main, c);
    if (rc)
        return err_set(e, rc, "cannot start the thread of vCPU %u: %s", c->index, strerror(rc));
    snprintf(name, sizeof(name), "vcpu%u", c->index);
    pthread_setname_np(c->thread, name);
    c->started = true;
    return 0;
}

void vcpu_park(struct vcpu *c)
{
    if (!c->started)
        return;
    BUG_ON(pthread_equal(pthread_self(), c->thread));
    vcpu_request(c, VCPU_REQ_STOP);
    pthread_mutex_lock(&c->lock);
    while (!c->stopped)
        pthread_cond_wait(&c->cond, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void vcpu_settle(struct vcpu *c)
{
    vcpu_requests(c);
}

void vcpu_unpark(struct vcpu *c)
{
    pthread_mutex_lock(&c->lock);
    atomic_fetch_and(&c->req, ~(unsigned)VCPU_REQ_STOP);
    c->wake = true;
    pthread_cond_broadcast(&c->cond);
    pthread_mutex_unlock(&c->lock);
}

void vcpu_join(struct vcpu *c)
{
    if (!c->started)
        return;
    vcpu_park(c);
    pthread_mutex_lock(&c->lock);
    c->quit = true;
    pthread_cond_broadcast(&c->cond);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->started = false;
}
