/*
 * vcpu.h: one virtual processor: its thread and what other threads may ask of it.
 */
#ifndef VM_VCPU_H
#define VM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "accel/debug.h"
#include "base/err.h"

struct vm;
struct lapic;

enum {
    VCPU_REQ_NMI = BIT(0),  /* software APIC: taken by exit_nmi_take() */
    VCPU_REQ_NMI2 = BIT(4), /* and another one came before the first was taken */
    VCPU_REQ_INIT = BIT(1), /* software APIC: INIT IPI */
    VCPU_REQ_SIPI = BIT(2), /* software APIC: start-up IPI, vector in sipi_vector */
    VCPU_REQ_STOP = BIT(3), /* leave the run loop and wait (pause, reset, end) */
    VCPU_REQ_MEMORY =
        BIT(5), /* other memory answers: nothing more of what was fetched is executed */
};

struct vcpu {
    struct vm *vm;
    unsigned index;
    uint32_t apic_id;
    void *accel;         /* the accelerator's own part */
    struct lapic *lapic; /* NULL with an in-kernel APIC */
    atomic_uint req;     /* VCPU_REQ_* */
    atomic_uint sipi_vector;
    char reason[192];        /* set by the accelerator with RUN_ERROR */
    struct debug_vcpu debug; /* changed while it is stopped; `stop` by its own thread in run() */

    uint64_t pv_system_time, pv_wall_clock; /* kvmclock MSRs, software APIC only */

    /* vcpu.c's */
    pthread_t thread;
    bool started;
    atomic_bool in_run; /* inside accel->run: a wake must kick */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool wake;    /* under lock: something happened since the last sleep */
    bool stopped; /* under lock: parked */
    bool quit;    /* under lock: end the thread */
};

/* Any thread: something changed (an interrupt, a request): leave accel->run or the HLT sleep and look. */
void vcpu_wake(struct vcpu *c);
/* Any thread: sets VCPU_REQ_* bits and wakes it. */
void vcpu_request(struct vcpu *c, unsigned bits);

struct x86_state;
/* The accelerator's registers together with the software APIC, NMI and kvmclock. vCPU stopped. 0 or -errno. */
must_check int vcpu_get_state(struct vcpu *c, struct x86_state *s);
must_check int vcpu_set_state(struct vcpu *c, const struct x86_state *s);
/* Fills in the APIC part of a power-on state. */
void vcpu_reset_apic(struct vcpu *c, struct x86_state *s);

must_check int vcpu_create(struct vm *vm, unsigned index, struct vcpu **out, struct err *e);
void vcpu_destroy(struct vcpu *c);                        /* after its thread ended */
must_check int vcpu_start(struct vcpu *c, struct err *e); /* starts the thread, parked */
void vcpu_park(
    struct vcpu *c); /* returns once it is out of accel->run and waits; not on its own thread */
void vcpu_settle(
    struct vcpu *c); /* parked: an INIT or SIPI that came late becomes part of its state */
void vcpu_unpark(struct vcpu *c);
void vcpu_join(struct vcpu *c); /* ends the thread */

#endif
