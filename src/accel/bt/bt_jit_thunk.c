/*
 * bt_jit_thunk.c: the way into translated code and out of it.
 *
 * enter(c, code): saves what C expects kept, makes RSP struct bt_cpu, loads the guest's registers and jumps.
 * call: from translated code: frame.id says why; stores the guest's registers and calls bt_jit_called(),
 * which says where to go on, or to leave with frame.ret.
 */
#include "accel/bt/bt_jit_insn.h"

enum { RAX = X86_RAX, RBX = X86_RBX, RSP = X86_RSP, RSI = X86_RSI, RDI = X86_RDI };

static const uint8_t thunk_saved[] = { X86_RBX, X86_RBP, X86_R12, X86_R13, X86_R14, X86_R15 };

/* The guest's registers and flags from struct bt_cpu; then to T0. */
static void thunk_resume(struct bt_emit *e)
{
    bt_emit_rsp(e, BT_JIT_FRAME(flags));
    bt_emit8(e, 0x9d); /* popfq */
    for (unsigned r = 0; r < 16; r++)
        if (!bt_jit_in_memory(r))
            bt_jit_load_gpr(e, bt_jit_host(r), r);
    bt_emit_load(e, BT_JIT_TLB, BT_JIT_FRAME(tlb));
    bt_emit_rr(e, 0xff, false, 4, BT_JIT_T0); /* jmp */
}

static void thunk_enter(struct bt_emit *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(thunk_saved); i++)
        bt_emit_push(e, thunk_saved[i]);
    bt_emit_rsp(e, -8);
    bt_emit_rm(e, OP_STORE, true, RSP, RDI, BT_JIT_FRAME(host_rsp));
    bt_emit_mov(e, BT_JIT_T0, RSI);
    bt_emit_mov(e, RSP, RDI);
    thunk_resume(e);
}

static void thunk_leave(struct bt_emit *e)
{
    bt_emit_rm(e, OP_LOAD, false, RAX, RSP, BT_JIT_FRAME(ret));
    bt_emit_load(e, RSP, BT_JIT_FRAME(host_rsp));
    bt_emit_rsp(e, 8);
    for (unsigned i = ARRAY_SIZE(thunk_saved); i-- > 0;)
        bt_emit_pop(e, thunk_saved[i]);
    bt_emit8(e, 0xc3);
}

static void thunk_call(struct bt_emit *e)
{
    uint8_t *leave;

    bt_emit_store(e, BT_JIT_T0, BT_JIT_FRAME(t0));
    for (unsigned r = 0; r < 16; r++)
        if (!bt_jit_in_memory(r))
            bt_jit_store_gpr(e, r, bt_jit_host(r));
    bt_emit_mov(e, RDI, RSP);
    bt_emit_mov(e, RBX, RSP);
    bt_emit_load(e, RSP, BT_JIT_FRAME(host_rsp));
    bt_emit_imm(e, RAX, (uintptr_t)bt_jit_called);
    bt_emit_rr(e, 0xff, false, 2, RAX); /* call */
    bt_emit_mov(e, RSP, RBX);
    bt_emit_rr(e, OP_TEST, true, RAX, RAX);
    bt_emit8(e, 0x74); /* jz */
    bt_emit8(e, 0);
    leave = e->p;
    bt_emit_mov(e, BT_JIT_T0, RAX);
    thunk_resume(e);
    leave[-1] = (uint8_t)(e->p - leave);
    thunk_leave(e);
}

void bt_jit_thunks(struct bt_jit *j)
{
    struct bt_emit e = { j->w };

    j->enter = 0;
    thunk_enter(&e);
    j->call = (uint32_t)(e.p - j->w);
    thunk_call(&e);
    j->thunks_end = j->used = (uint32_t)align_up((uint64_t)(e.p - j->w), 64);
}
