/*
 * bt_event.c: exceptions and interrupts through the IVT or IDT (SDM 3A chapter 6), escalation to #DF and
 * triple fault, and the choice of what is delivered between instructions.
 *
 * Delivery checks and pushes everything before it changes c->s, so a nested fault finds the state as it
 * was before the event.
 */
#include "accel/bt/bt_desc.h"

enum { EXT = 1, IDT_ERROR = 2, DR7_GD = BIT(13) };

/* --- faults --- */

static int event_raise(struct bt_cpu *c, unsigned vector, bool has_error, uint32_t error)
{
    c->s.exception_pending = true;
    c->s.exception_vector = (uint8_t)vector;
    c->s.exception_has_error = has_error;
    c->s.exception_error = error;
    return BT_FAULT;
}

int bt_raise(struct bt_cpu *c, unsigned vector)
{
    return event_raise(c, vector, false, 0);
}

int bt_raise_err(struct bt_cpu *c, unsigned vector, uint32_t error)
{
    return event_raise(c, vector, true, error);
}

int bt_raise_pf(struct bt_cpu *c, uint64_t lin, uint32_t error)
{
    c->s.cr2 = lin;
    return event_raise(c, X86_PF, true, error);
}

/* --- one event through its gate --- */

struct event {
    unsigned vector;
    enum bt_event_kind kind;
    bool has_error;
    uint32_t error;
    uint64_t rflags; /* the image that is pushed */
};

static int event_idt_fault(struct bt_cpu *c, unsigned fault, const struct event *ev)
{
    return bt_raise_err(c, fault, ev->vector * 8 + IDT_ERROR);
}

static int event_real(struct bt_cpu *c, const struct event *ev)
{
    struct bt_stack st = bt_stack_current(c);
    uint64_t entry;

    if (ev->vector * 4 + 3 > c->s.idtr.limit)
        return event_idt_fault(c, X86_GP, ev);
    if (bt_lin_read(c, (c->s.idtr.base + ev->vector * 4) & 0xffffffff, 4, &entry, BT_MMU_SUPER))
        return BT_FAULT;
    if (bt_stack_push(c, &st, 2, ev->rflags & 0xffff) ||
        bt_stack_push(c, &st, 2, c->s.seg[X86_CS].sel) ||
        bt_stack_push(c, &st, 2, c->s.rip & 0xffff))
        return BT_FAULT;
    bt_stack_commit_sp(c, &st);
    c->s.rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
    c->s.seg[X86_CS].sel = (uint16_t)(entry >> 16);
    c->s.seg[X86_CS].base = entry >> 16 << 4;
    c->s.rip = entry & 0xffff;
    return 0;
}

/* Gate checks common to protected and long mode; *d's type was checked. */
static int event_gate_ok(struct bt_cpu *c, const struct event *ev, const struct bt_desc *gate)
{
    if (ev->kind == BT_EV_SOFT_INT && bt_desc_dpl(gate) < c->cpl)
        return event_idt_fault(c, X86_GP, ev);
    return bt_desc_present(gate) ? 0 : event_idt_fault(c, X86_NP, ev);
}

/* The gate's code segment: present, code, not less privileged than we are. */
static int event_code(struct bt_cpu *c, uint16_t sel, struct bt_desc *cs)
{
    if (bt_sel_null(sel))
        return bt_raise_err(c, X86_GP, 0);
    if (bt_desc_load(c, sel, X86_GP, cs))
        return BT_FAULT;
    if (!bt_desc_code(cs) || bt_desc_dpl(cs) > c->cpl)
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    if (c->long_mode && (!bt_desc_long(cs) || bt_desc_db(cs)))
        return bt_raise_err(c, X86_GP, bt_sel_error(sel));
    return bt_desc_present(cs) ? 0 : bt_raise_err(c, X86_NP, bt_sel_error(sel));
}

static void event_flags(struct bt_cpu *c, const struct bt_desc *gate)
{
    c->s.rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_VM | FLAG_RF);
    if (!(bt_desc_type(gate) & 1)) /* interrupt gate */
        c->s.rflags &= ~(uint64_t)FLAG_IF;
}

/* SS:SP, flags, CS:IP and error code, in `size` byte slots; VM86: its data segments first. */
static int event_push(struct bt_cpu *c, struct bt_stack *st, const struct event *ev, unsigned size,
                      bool with_stack)
{
    static const uint8_t vm86_segs[] = { X86_GS, X86_FS, X86_DS, X86_ES };
    bool vm86 = c->s.rflags & FLAG_VM;

    for (unsigned i = 0; vm86 && i < ARRAY_SIZE(vm86_segs); i++)
        if (bt_stack_push(c, st, size, c->s.seg[vm86_segs[i]].sel))
            return BT_FAULT;
    if (with_stack && (bt_stack_push(c, st, size, c->s.seg[X86_SS].sel) ||
                       bt_stack_push(c, st, size, c->s.gpr[X86_RSP])))
        return BT_FAULT;
    if (bt_stack_push(c, st, size, ev->rflags) ||
        bt_stack_push(c, st, size, c->s.seg[X86_CS].sel) || bt_stack_push(c, st, size, c->s.rip))
        return BT_FAULT;
    return ev->has_error ? bt_stack_push(c, st, size, ev->error) : 0;
}

static int event_protected_enter(struct bt_cpu *c, const struct event *ev,
                                 const struct bt_desc *gate)
{
    unsigned size = bt_desc_type(gate) & 8 ? 4 : 2, cpl = c->cpl;
    uint32_t offset = bt_gate_offset(gate) & (size == 4 ? ~0u : 0xffffu);
    struct bt_stack st = bt_stack_current(c);
    bool vm86 = c->s.rflags & FLAG_VM, inner;
    struct bt_desc cs;

    if (event_code(c, bt_gate_sel(gate), &cs))
        return BT_FAULT;
    inner = !bt_desc_conforming(&cs) && bt_desc_dpl(&cs) < c->cpl;
    if (vm86 && (!inner || bt_desc_dpl(&cs)))
        return bt_raise_err(c, X86_GP, bt_sel_error(cs.sel));
    if (inner) {
        cpl = bt_desc_dpl(&cs);
        if (bt_stack_from_tss(c, cpl, &st))
            return BT_FAULT;
    }
    if (bt_code_offset_ok(c, &cs, offset) || bt_desc_accessed(c, &cs) ||
        event_push(c, &st, ev, size, inner))
        return BT_FAULT;
    if (inner) {
        c->s.seg[X86_SS] = st.ss;
        c->s.gpr[X86_RSP] = st.width == 2 ? c->s.gpr[X86_RSP] & ~0xffffull : 0;
    }
    bt_stack_commit_sp(c, &st);
    if (vm86)
        for (unsigned i = 0; i < X86_NSREGS; i++)
            if (i != X86_CS && i != X86_SS)
                c->s.seg[i] = bt_seg_null(0);
    bt_set_cs(c, &cs, cpl);
    c->s.rip = offset;
    event_flags(c, gate);
    return 0;
}

static int event_protected(struct bt_cpu *c, const struct event *ev)
{
    struct bt_desc gate = { .sel = 0 };

    if (ev->vector * 8 + 7 > c->s.idtr.limit)
        return event_idt_fault(c, X86_GP, ev);
    if (bt_lin_read(c, (c->s.idtr.base + ev->vector * 8) & 0xffffffff, 8, &gate.raw, BT_MMU_SUPER))
        return BT_FAULT;
    switch (bt_desc_system(&gate) ? bt_desc_type(&gate) : 0) {
    case DESC_TASK:
        if (event_gate_ok(c, ev, &gate))
            return BT_FAULT;
        return bt_task_gate(c, bt_gate_sel(&gate), BT_TASK_INT, ev->has_error, ev->error);
    case DESC_INT16:
    case DESC_TRAP16:
    case DESC_INT:
    case DESC_TRAP:
        if (event_gate_ok(c, ev, &gate))
            return BT_FAULT;
        return event_protected_enter(c, ev, &gate);
    default:
        return event_idt_fault(c, X86_GP, ev);
    }
}

static int event_long_enter(struct bt_cpu *c, const struct event *ev, const struct bt_desc *gate,
                            uint64_t offset)
{
    unsigned ist = gate->raw >> 32 & 7, cpl = c->cpl;
    struct bt_stack st = bt_stack_current(c);
    struct bt_desc cs;
    bool inner;

    if (event_code(c, bt_gate_sel(gate), &cs))
        return BT_FAULT;
    inner = !bt_desc_conforming(&cs) && bt_desc_dpl(&cs) < c->cpl;
    if (inner)
        cpl = bt_desc_dpl(&cs);
    st.width = 8;
    st.mmu = bt_mmu_of_cpl(c, cpl);
    if ((inner || ist) && bt_stack_from_tss64(c, cpl, ist, &st))
        return BT_FAULT;
    st.sp &= ~15ull;
    if (bt_code_offset_ok(c, &cs, offset) || bt_desc_accessed(c, &cs) ||
        event_push(c, &st, ev, 8, true))
        return BT_FAULT;
    if (inner)
        c->s.seg[X86_SS] = st.ss;
    c->s.gpr[X86_RSP] = st.sp;
    bt_set_cs(c, &cs, cpl);
    c->s.rip = offset;
    event_flags(c, gate);
    return 0;
}

static int event_long(struct bt_cpu *c, const struct event *ev)
{
    struct bt_desc gate = { .sel = 0 };
    uint64_t lin = c->s.idtr.base + ev->vector * 16, high;

    if (ev->vector * 16 + 15 > c->s.idtr.limit)
        return event_idt_fault(c, X86_GP, ev);
    if (bt_lin_read(c, lin, 8, &gate.raw, BT_MMU_SUPER) ||
        bt_lin_read(c, lin + 8, 8, &high, BT_MMU_SUPER))
        return BT_FAULT;
    if (!bt_desc_system(&gate) || (bt_desc_type(&gate) & ~1u) != DESC_INT)
        return event_idt_fault(c, X86_GP, ev);
    if (event_gate_ok(c, ev, &gate))
        return BT_FAULT;
    return event_long_enter(c, ev, &gate, high << 32 | bt_gate_offset(&gate));
}

/* Faults push RF set, so that the instruction restarts past its breakpoint (SDM 3B 18.3.1.1). */
static bool event_sets_rf(unsigned vector, enum bt_event_kind kind)
{
    if (kind != BT_EV_EXCEPTION)
        return false;
    return vector != X86_DB && vector != X86_BP && vector != X86_OF && vector != X86_DF &&
           vector != X86_MC;
}

int bt_interrupt(struct bt_cpu *c, unsigned vector, enum bt_event_kind kind, bool has_error,
                 uint32_t error)
{
    struct event ev = { .vector = vector,
                        .kind = kind,
                        .has_error = has_error,
                        .error = error,
                        .rflags = c->s.rflags };
    int ret;

    if (event_sets_rf(vector, kind))
        ev.rflags |= FLAG_RF;
    if (!(c->s.cr0 & CR0_PE))
        ret = event_real(c, &ev);
    else
        ret = c->long_mode ? event_long(c, &ev) : event_protected(c, &ev);
    if (ret) {
        if (kind != BT_EV_SOFT_INT && c->s.exception_has_error && c->s.exception_vector != X86_PF &&
            c->s.exception_vector != X86_AC)
            c->s.exception_error |= EXT;
        return ret;
    }
    c->s.mp_state = X86_MP_RUNNING;
    c->s.shadow_sti = c->s.shadow_mov_ss = false;
    if (kind !=
        BT_EV_SOFT_INT) /* what MOV SS held back comes after INT n, at the handler's start */
        c->db_pending = 0;
    if (vector == X86_DB && kind == BT_EV_EXCEPTION)
        c->s.dr7 &= ~(uint64_t)DR7_GD;
    bt_mode_changed(c);
    return 0;
}

/* --- escalation (SDM 3A table 6-5) --- */

static bool event_contributory(unsigned vector)
{
    return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

static bool event_doubles(unsigned first, unsigned second)
{
    if (event_contributory(first))
        return event_contributory(second);
    return first == X86_PF && (second == X86_PF || event_contributory(second));
}

int bt_deliver_exception(struct bt_cpu *c)
{
    for (;;) {
        unsigned vector = c->s.exception_vector, nested;

        c->s.exception_pending = false;
        if (!bt_interrupt(c, vector, BT_EV_EXCEPTION, c->s.exception_has_error,
                          c->s.exception_error))
            return 0;
        nested = c->s.exception_vector;
        if (vector == X86_DF) {
            c->s.exception_pending = false;
            c->exit = RUN_SHUTDOWN;
            return BT_EXIT;
        }
        if (event_doubles(vector, nested))
            bt_raise_err(c, X86_DF, 0);
    }
}

/* --- between instructions --- */

static int event_deliver_external(struct bt_cpu *c, unsigned vector)
{
    if (!bt_interrupt(c, vector, BT_EV_HW, false, 0))
        return 0;
    return bt_deliver_exception(c);
}

static bool event_take_nmi(struct bt_cpu *c)
{
    bool look = c->nmi_check;

    c->nmi_check =
        false; /* one that comes while they are masked is found when they no longer are */
    if (c->s.nmi_masked || !(c->s.nmi_pending || (look && exit_nmi_take(c->vcpu))))
        return false;
    c->s.nmi_pending = false;
    c->s.nmi_masked = true;
    return true;
}

bool bt_event_wakes(struct bt_cpu *c)
{
    if (c->s.exception_pending || c->s.interrupt_pending)
        return true;
    if (!c->s.nmi_masked && !c->s.nmi_pending)
        c->s.nmi_pending = exit_nmi_take(c->vcpu);
    if (c->s.nmi_pending && !c->s.nmi_masked)
        return true;
    bt_fpu_store(c);
    return (c->s.rflags & FLAG_IF) && exit_intr_pending(c->vcpu);
}

int bt_deliver_events(struct bt_cpu *c)
{
    int vector;

    c->event_window = false;
    if (c->s.exception_pending)
        return bt_deliver_exception(c);
    if (c->s.interrupt_pending) { /* acknowledged before the state was saved */
        c->s.interrupt_pending = false;
        return event_deliver_external(c, c->s.interrupt_vector);
    }
    if (c->s.shadow_sti || c->s.shadow_mov_ss)
        return 0;
    if (event_take_nmi(c))
        return event_deliver_external(c, X86_NMI);
    if (!(c->s.rflags & FLAG_IF) || !c->intr_check)
        return 0;
    bt_fpu_store(c);
    c->intr_check = exit_intr_pending(c->vcpu);
    if (!c->intr_check)
        return 0;
    vector = exit_intr_ack(c->vcpu);
    return vector < 0 ? 0 : event_deliver_external(c, (unsigned)vector);
}
