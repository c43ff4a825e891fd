/*
 * bt_sys.h: what the system half of the interpreter offers beyond bt.h: life cycle of the soft TLB, its
 * mailbox, debug registers, segment loads, far transfers.
 *
 * vCPU thread, except bt_tlb_request().
 */
#ifndef ACCEL_BT_BT_SYS_H
#define ACCEL_BT_BT_SYS_H

#include "accel/bt/bt.h"

/* Of the bits of `size` bytes: c->stack_size of RSP, an instruction's asize of its addresses. */
static inline uint64_t bt_mask(unsigned size)
{
    return size >= 8 ? ~0ull : BIT64(8 * size) - 1;
}

/* --- soft TLB (bt_tlb.c) --- */
must_check int bt_mem_create(struct bt_cpu *c); /* c->mem_priv and c->tlb; 0 or -ENOMEM */
void bt_mem_destroy(struct bt_cpu *c);

enum { /* what another thread asks of a vCPU's TLB */
       BT_TLB_REQ_FLUSH =
           BIT(0), /* drop everything: RAM was remapped, dirty logging started or was fetched */
       BT_TLB_REQ_STALE = BIT(2), /* translated code was overwritten somewhere */
       BT_TLB_REQ_LATE = BIT(3),  /* by itself: bt_mem_settle() */
       BT_TLB_REQ_CODE =
           BIT(1), /* drop tag_w of pages that now hold code, bt_code_recheck() each */
};
/*
 * Any thread, async-signal-safe: queues `what` and sets c->kick. Done by the time
 * bt_tlb_request_pending() says no; a vCPU that is not in its run loop does it when it enters.
 */
void bt_tlb_request(struct bt_cpu *c, unsigned what);
bool bt_tlb_request_pending(const struct bt_cpu *c);
/* Run loop, on entry and after it saw c->kick: does what was requested. */
void bt_tlb_serve(struct bt_cpu *c);

/* --- entry points of the run loop --- */
/* Each time accel->run() is entered: serves the mailbox, renews the TSC offset (the clock may have stood). */
void bt_sys_enter(struct bt_cpu *c);
/* After c->s was replaced as a whole: nothing cached may survive. Calls bt_mode_changed(). */
void bt_sys_state_loaded(struct bt_cpu *c);
/* Before c->s is handed out: fills in what is kept elsewhere (s.tsc). */
void bt_sys_state_store(struct bt_cpu *c);
/* Would bt_deliver_events() end a HLT? */
bool bt_event_wakes(struct bt_cpu *c);

/*
 * Debug registers, and the debugger's single steps. While bt_debug_armed(), the run loop executes one instruction at a time, between
 * bt_debug_before() (instruction breakpoints; consumes RF; 0, BT_FAULT or BT_EXIT) and bt_debug_after() (data
 * breakpoints that were hit, and single step if tf: RFLAGS.TF as it was before the instruction; 0 or
 * BT_TRAP). After an instruction that did not complete: bt_debug_after() must not be called, what it
 * would have reported is dropped at delivery.
 */
enum {
    BT_DB_NO_STEP = BIT(7)
}; /* in db_pending: this instruction took TF away, no single-step trap */
static inline bool bt_debug_armed(const struct bt_cpu *c)
{
    return (c->s.dr7 & 0xff) || c->db_pending || c->debug_step;
}
int bt_debug_before(struct bt_cpu *c);
int bt_debug_after(struct bt_cpu *c, bool tf);

/* --- a debugger outside of the guest (bt_debugger.c; accel/debug.h) --- */
/*
 * The one predicate: while it holds, only blocks of bt_block.c may run, from the run loop or chained to each
 * other; it changes only while the vCPU is stopped.
 */
static inline bool bt_debugged(const struct bt_cpu *c)
{
    return unlikely(c->debugged);
}
int bt_debugger_set(struct vcpu *v); /* accel_ops.set_debug */
/* Must no block have the instruction at gpa but as its first? */
bool bt_debugger_splits(const struct bt_cpu *c, uint64_t gpa);
/* Is there a breakpoint at rip? Then c->exit and the debugger's `stop` are set. */
bool bt_debugger_breaks(struct bt_cpu *c, uint64_t rip);
/* Does it watch any of lin's page? Such pages have no tag_r and tag_w. */
bool bt_debugger_watches(const struct bt_cpu *c, uint64_t lin);
/* An access was made: if it hits a watchpoint, the run loop comes next. */
void bt_debugger_access(struct bt_cpu *c, uint64_t lin, unsigned len, bool write);
/* After a turn of the run loop: is it one for RUN_DEBUG? `stop` says why. */
bool bt_debugger_stops(struct bt_cpu *c);

/* --- stack (bt_tlb.c) --- */
/* RSP += n at the width of the stack pointer: what bt_pop() leaves to its caller. */
void bt_stack_add(struct bt_cpu *c, int64_t n);

/* --- protection keys: PKRU lives in s.xsave only, never in the host's register --- */
uint32_t bt_pkru(const struct bt_cpu *c);
void bt_pkru_set(struct bt_cpu *c, uint32_t pkru);
void bt_pkru_changed(struct bt_cpu *c); /* after XRSTOR changed it in s.xsave */

#endif
