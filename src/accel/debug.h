/*
 * debug.h: what a debugger outside of the guest asks of a vCPU, and what it hears back.
 *
 * The debugger's server (control/gdb.h) writes these while the vCPU is stopped and calls
 * accel_ops.set_debug(); the accelerator reads them in run() and answers with RUN_DEBUG and `stop`.
 */
#ifndef ACCEL_DEBUG_H
#define ACCEL_DEBUG_H

#include "base/util.h"

enum debug_kind {
    DEBUG_BREAK_SW, /* before the instruction at lin; accel_ops.debug_int3() may want an INT3 there */
    DEBUG_BREAK_HW,    /* the same, seen by address alone */
    DEBUG_WATCH_WRITE, /* after an instruction that accessed any of [lin, lin + len) */
    DEBUG_WATCH_READ,
    DEBUG_WATCH_ACCESS,
};
struct debug_point {
    enum debug_kind kind;
    uint64_t lin;
    uint32_t len;
};
enum { DEBUG_POINTS_MAX = 256 };
/* One list for all vCPUs of a VM; changes while they are stopped, and then so does the version. */
struct debug_points {
    unsigned n, version;
    struct debug_point point[DEBUG_POINTS_MAX];
};

enum debug_why {
    DEBUG_STOP_NONE,
    DEBUG_STOP_STEP,
    DEBUG_STOP_BREAK,
    DEBUG_STOP_WATCH,
    DEBUG_STOP_SHUTDOWN, /* a triple fault */
};
struct debug_stop {
    enum debug_why why;
    enum debug_kind kind; /* of the point */
    uint64_t lin;         /* of the point */
};

struct debug_vcpu {
    const struct debug_points *points; /* NULL: none */
    bool step;                         /* RUN_DEBUG after one instruction, */
    bool step_irqs;                    /* taking interrupts before it */
    bool held;                         /* vm_resume() leaves it parked */
    struct debug_stop stop;            /* with RUN_DEBUG; cleared by the debugger */
};

#endif
