/*
 * bt_jit_thunk.c: the way into translated code and out of it.
 *
 * enter(c, code): saves what C expects kept, makes RSP struct bt_cpu, loads the guest's registers and jumps.
 * call: from translated code: frame.id says why; stores the guest's registers and calls bt_jit_called(),
 * which says where to go on, or to leave with frame.ret.
 */
#include "accel/bt/bt_jit_insn.h"

enum { RAX = X86_RAX, RCX = X86_RCX, RBX = X86_RBX, RSP = X86_RSP, RSI = X86_RSI, RDI = X86_RDI };

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

/* C found the page: to frame.found with the host's address. */
static void thunk_found(struct bt_emit *e)
{
    bt_emit_load(e, BT_JIT_T0, BT_JIT_FRAME(t0));
    bt_emit_rm(e, 0xff, false, 4, RSP, BT_JIT_FRAME(found)); /* jmp */
}

/*
 * An access near RSP at T0, of PAGE_SIZE - frame.t0 bytes, that is not in the page of the stack, or where
 * that is not known: looks it up in the soft TLB, and if the page can be written it is the stack's from now
 * on. Goes on at T1 with the host's address in T0, or if the TLB does not have it behind the jump there.
 * EFLAGS are lost.
 */
static void thunk_stack(struct bt_emit *e, bool write)
{
    enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1, TLB = BT_JIT_TLB };
    enum { INDEX = (BT_TLB_SIZE - 1) * (int)sizeof(struct bt_tlb_entry) };
    enum {
        TAG_R = offsetof(struct bt_tlb_entry, tag_r),
        TAG_W = offsetof(struct bt_tlb_entry, tag_w)
    };
    enum { HVA = offsetof(struct bt_tlb_entry, page), BACK = RCX * 8, CC_A = 0x77, CC_NE = 0x75 };
    uint8_t *fail, *keep;

    /* RAX and RCX are in registers: their places in struct bt_cpu are free */
    bt_emit_store(e, T1, BACK);
    bt_emit_store(e, RAX, RAX * 8);
    bt_emit_rr(e, OP_STORE, false, T0, RAX);
    bt_emit_rr(e, 0xc1, false, 5, RAX); /* shr */
    bt_emit8(e, PAGE_SHIFT - 5);
    bt_emit_alu_imm(e, 4, false, RAX, INDEX);
    bt_emit_mov(e, T1, T0);
    bt_emit_rmx(e, OP_XOR_LOAD, true, T1, TLB, RAX, 1, write ? TAG_W : TAG_R);
    bt_emit_rm(e, OP_CMP_LOAD, true, T1, RSP, BT_JIT_FRAME(t0));
    bt_emit16(e, CC_A);
    fail = e->p;
    bt_emit_rr(e, OP_XOR, true, T1, T0); /* the page's address */
    bt_emit_rmx(e, OP_CMP_LOAD, true, T0, TLB, RAX, 1, TAG_W);
    bt_emit16(e, CC_NE);
    keep = e->p;
    bt_emit_store(e, T0, BT_JIT_FRAME(stack_lin));
    bt_emit_rm(e, 0xc7, true, 0, RSP, BT_JIT_FRAME(stack_span[0]));
    bt_emit32(e, PAGE_SIZE - BT_JIT_STACK_NEAR + 1);
    bt_emit_rm(e, 0xc7, true, 0, RSP, BT_JIT_FRAME(stack_span[1]));
    bt_emit32(e, PAGE_SIZE - BT_JIT_STACK_WIDE + 1);
    bt_emit_rmx(e, OP_LOAD, true, T0, TLB, RAX, 1, HVA);
    bt_emit_store(e, T0, BT_JIT_FRAME(stack_hva));
    keep[-1] = (uint8_t)(e->p - keep);
    bt_emit_rmx(e, OP_LOAD, true, T0, TLB, RAX, 1, HVA);
    bt_emit_rr(e, OP_ADD, true, T1, T0);
    bt_emit_load(e, RAX, RAX * 8);
    bt_emit_rm(e, 0xff, false, 4, RSP, BACK); /* jmp */
    fail[-1] = (uint8_t)(e->p - fail);
    bt_emit_load(e, RAX, RAX * 8);
    bt_emit_load(e, T1, BACK);
    bt_emit_rm(e, OP_LEA, true, T1, T1, BT_JIT_JUMP);
    bt_emit_rr(e, 0xff, false, 4, T1); /* jmp */
}

void bt_jit_thunks(struct bt_jit *j)
{
    struct bt_emit e = { j->w };

    j->enter = 0;
    thunk_enter(&e);
    j->call = (uint32_t)(e.p - j->w);
    thunk_call(&e);
    j->found = (uint32_t)(e.p - j->w);
    thunk_found(&e);
    for (unsigned write = 0; write < 2; write++) {
        j->stack[write] = (uint32_t)(e.p - j->w);
        thunk_stack(&e, write);
    }
    j->thunks_end = j->used = (uint32_t)align_up((uint64_t)(e.p - j->w), 64);
}
