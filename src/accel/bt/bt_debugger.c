/*
 * bt_debugger.c: breakpoints, watchpoints and single steps of a debugger outside of the guest
 * (accel/debug.h). vCPU thread, or the vCPU is stopped. Nothing here costs a vCPU that is not debugged.
 *
 * A block never has a breakpoint in its middle, and one that begins at a breakpoint begins with the record
 * bt_op_break; both are decided by the address within the page, because blocks are kept by physical
 * address, and the record compares the whole linear address. So chained blocks need no other check.
 *
 * Pages with a watchpoint have no fast TLB tags, so each access to them comes by bt_debugger_access(). A hit
 * is reported after its instruction: the rest of the block is poisoned, and a kick keeps it from chaining
 * to the next. The flush at the stop then drops what was poisoned.
 */
#include "accel/bt/bt_mem.h"
#include "accel/bt/bt_ops.h"

static bool debugger_is_break(const struct debug_point *p)
{
    return p->kind == DEBUG_BREAK_SW || p->kind == DEBUG_BREAK_HW;
}

/* NULL if the vCPU is not debugged: bounds the loops below. */
static const struct debug_points *debugger_points(const struct bt_cpu *c)
{
    return c->debugged ? c->vcpu->debug.points : NULL;
}

bool bt_debugger_splits(const struct bt_cpu *c, uint64_t gpa)
{
    const struct debug_points *d = debugger_points(c);

    for (unsigned i = 0; d && i < d->n; i++)
        if (debugger_is_break(&d->point[i]) && !((d->point[i].lin ^ gpa) & ~PAGE_MASK))
            return true;
    return false;
}

bool bt_debugger_breaks(struct bt_cpu *c, uint64_t rip)
{
    uint64_t lin = c->code_size == 8 ? rip : (uint32_t)(c->s.seg[X86_CS].base + rip);
    const struct debug_points *d = debugger_points(c);

    if (c->debug_step) /* always gets past the instruction */
        return false;
    for (unsigned i = 0; d && i < d->n; i++) {
        const struct debug_point *p = &d->point[i];

        if (!debugger_is_break(p) || p->lin != lin)
            continue;
        c->vcpu->debug.stop = (struct debug_stop){ DEBUG_STOP_BREAK, p->kind, p->lin };
        c->exit = RUN_DEBUG;
        return true;
    }
    return false;
}

int bt_op_break(struct bt_cpu *c, const struct bt_insn *in)
{
    if (!bt_debugger_breaks(c, bt_rip(c, in)))
        return bt_next(c, in);
    bt_op_leave(c, in);
    return BT_EXIT;
}

bool bt_debugger_watches(const struct bt_cpu *c, uint64_t lin)
{
    const struct debug_points *d = debugger_points(c);
    uint64_t page = lin & PAGE_MASK;

    for (unsigned i = 0; d && i < d->n; i++) {
        const struct debug_point *p = &d->point[i];

        if (!debugger_is_break(p) && p->lin <= page + PAGE_SIZE - 1 && page < p->lin + p->len)
            return true;
    }
    return false;
}

static bool debugger_hits(const struct debug_point *p, uint64_t lin, unsigned len, bool write)
{
    if (debugger_is_break(p) || p->kind == (write ? DEBUG_WATCH_READ : DEBUG_WATCH_WRITE))
        return false;
    return lin < p->lin + p->len && p->lin < lin + len;
}

void bt_debugger_access(struct bt_cpu *c, uint64_t lin, unsigned len, bool write)
{
    const struct debug_points *d = debugger_points(c);

    for (unsigned i = 0; d && i < d->n && !c->debug_hit; i++) {
        const struct debug_point *p = &d->point[i];

        if (!debugger_hits(p, lin, len, write))
            continue;
        c->debug_hit = true;
        c->vcpu->debug.stop =
            (struct debug_stop){ DEBUG_STOP_WATCH, p->kind, max_u64(lin, p->lin) };
        bt_block_leave(c);
        atomic_store_explicit(&c->kick, true, memory_order_relaxed);
    }
}

bool bt_debugger_stops(struct bt_cpu *c)
{
    if (c->debug_hit)
        bt_cache_flush(c);
    else if (c->debug_step)
        c->vcpu->debug.stop = (struct debug_stop){ .why = DEBUG_STOP_STEP };
    else
        return false;
    c->debug_hit = false;
    return true;
}

int bt_debugger_set(struct vcpu *v)
{
    struct bt_cpu *c = v->accel;
    const struct debug_points *d = v->debug.points;
    unsigned n = d ? d->n : 0, version = d ? d->version : 0;

    if (c->debug_version != version) {
        bt_cache_flush(c);
        bt_tlb_flush_all(c);
    }
    c->debug_version = version;
    c->debug_step = v->debug.step;
    c->debug_hit = false;
    c->debugged = n || c->debug_step;
    return 0;
}
