/*
 * bt_jit_sys.c: system instructions that kernels execute so often that C would be felt. What they do that is
 * not plain (an interrupt is waiting, the stack's page is not in the TLB) is the interpreter's.
 *
 * RFLAGS: while translated code runs, c->s.rflags has no arithmetic flags. vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1, OP_OR_LOAD = 0x0b };
enum { CC_Z = 4, CC_NZ = 5 };

#define SYS_OFF(field) ((int)offsetof(struct bt_cpu, field))

/* and (n 4) or or (n 1) dword [rflags], imm; EFLAGS are lost */
static void sys_rflags(struct bt_jit_gen *g, unsigned n, uint32_t imm)
{
    bt_emit_rm(&g->e, 0x81, false, n, X86_RSP, SYS_OFF(s.rflags));
    bt_emit32(&g->e, imm);
}

static bool sys_may_follow_sti(const struct bt_jit_insn *next)
{
    return next && (next->kind != BT_JIT_SYS || next->cc != BT_JIT_STI);
}

static void sys_sti(struct bt_jit_gen *g, const struct bt_jit_insn *in,
                    const struct bt_jit_insn *next)
{
    struct bt_emit *e = &g->e;
    uint32_t point;

    if (!sys_may_follow_sti(next)) {
        bt_jit_interp(g, in, true);
        return;
    }
    /* Interrupts are held off for the next instruction: if it looks for a kick, that is done here instead. */
    if (next->kind >= BT_JIT_JCC) {
        bt_jit_safepoint(g, in);
        g->sheltered = next;
    }
    point = bt_jit_new_point(g, in, 1);
    bt_jit_flags_clobber(g);
    bt_emit_rm(e, 0x80, false, 7, X86_RSP, SYS_OFF(intr_check)); /* cmp byte, 0 */
    bt_emit8(e, 0);
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_NZ);
    sys_rflags(g, 1, FLAG_IF);
}

/* AC chooses the TLB of supervisor accesses. */
static void sys_ac(struct bt_jit_gen *g, bool on)
{
    unsigned mmu = on ? BT_MMU_SUPER_AC : BT_MMU_SUPER;
    struct bt_emit *e = &g->e;

    bt_jit_flags_clobber(g);
    if (on)
        sys_rflags(g, 1, FLAG_AC);
    else
        sys_rflags(g, 4, ~(uint32_t)FLAG_AC);
    bt_emit_rm(e, 0xc6, false, 0, X86_RSP, SYS_OFF(mmu)); /* mov byte */
    bt_emit8(e, mmu);
    bt_emit_load(e, BT_JIT_TLB, SYS_OFF(tlb));
    bt_emit_rm(e, OP_LEA, true, BT_JIT_TLB, BT_JIT_TLB,
               (int32_t)(mmu * BT_TLB_SIZE * sizeof(struct bt_tlb_entry)));
    bt_emit_store(e, BT_JIT_TLB, BT_JIT_FRAME(tlb));
    for (unsigned i = 0; i < 2; i++) { /* the stack's page is that TLB's */
        bt_emit_rm(e, 0xc7, true, 0, X86_RSP, BT_JIT_FRAME(stack_span[0]) + 8 * (int)i);
        bt_emit32(e, 0);
    }
}

static void sys_swapgs(struct bt_jit_gen *g)
{
    struct bt_emit *e = &g->e;

    bt_emit_load(e, T0, SYS_OFF(s.seg[X86_GS].base));
    bt_emit_load(e, T1, SYS_OFF(s.kernel_gs_base));
    bt_emit_store(e, T1, SYS_OFF(s.seg[X86_GS].base));
    bt_emit_store(e, T0, SYS_OFF(s.kernel_gs_base));
}

static void sys_pushf(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    const uint8_t *retry;
    struct bt_emit *e = &g->e;
    uint32_t point;

    bt_jit_flags_save(g);
    retry = e->p;
    bt_emit_rm(e, OP_LEA, bt_jit_wide(g), T0, BT_JIT_RSP, -in->word);
    point = bt_jit_lookup(g, in, 1, in->word, true, retry);
    bt_emit_rm(e, OP_LOAD, false, T1, X86_RSP, BT_JIT_FRAME(flags));
    bt_emit_rr(e, 0x81, false, 4, T1); /* and */
    bt_emit32(e, FLAG_ARITH);
    bt_emit_rm(e, OP_OR_LOAD, true, T1, X86_RSP, SYS_OFF(s.rflags));
    bt_emit_rr(e, 0x81, true, 4, T1);
    bt_emit32(e, ~(uint32_t)(FLAG_RF | FLAG_VM));
    bt_emit_rm(e, OP_STORE, bt_jit_wide(g), T1, T0, 0);
    bt_jit_flags_before(g, in); /* RSP changes */
    bt_emit_rm(e, OP_LEA, bt_jit_wide(g), BT_JIT_RSP, BT_JIT_RSP, -in->word);
    bt_jit_resume(g, point);
}

static void sys_rdtsc(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct bt_emit *e = &g->e;

    bt_jit_flags_before(g, in);
    bt_jit_flags_clobber(g);
    if (in->cc == BT_JIT_RDTSCP) {
        bt_emit16(e, 0xae0f); /* lfence: what is before it has been done */
        bt_emit8(e, 0xe8);
        bt_emit_rm(e, OP_LOAD, false, X86_RCX, X86_RSP, SYS_OFF(s.tsc_aux));
    }
    bt_emit16(e, 0x310f);
    bt_emit_rr(e, 0xc1, true, 4, X86_RDX); /* shl */
    bt_emit8(e, 32);
    bt_emit_rr(e, OP_OR, true, X86_RDX, X86_RAX);
    bt_emit_rm(e, OP_ADD_LOAD, true, X86_RAX, X86_RSP, SYS_OFF(tsc_offset));
    bt_emit_mov(e, X86_RDX, X86_RAX);
    bt_emit_rr(e, 0xc1, true, 5, X86_RDX); /* shr */
    bt_emit8(e, 32);
    bt_emit_rr(e, OP_STORE, false, X86_RAX, X86_RAX);
}

void bt_jit_sys(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct bt_jit_insn *next)
{
    switch (in->cc) {
    case BT_JIT_CLD:
        bt_jit_flags_clobber(g);
        sys_rflags(g, 4, ~(uint32_t)FLAG_DF);
        break;
    case BT_JIT_STD:
        bt_jit_flags_clobber(g);
        sys_rflags(g, 1, FLAG_DF);
        break;
    case BT_JIT_CLI:
        bt_jit_flags_clobber(g);
        sys_rflags(g, 4, ~(uint32_t)FLAG_IF);
        break;
    case BT_JIT_STI:
        sys_sti(g, in, next);
        break;
    case BT_JIT_PUSHF:
        sys_pushf(g, in);
        break;
    case BT_JIT_SWAPGS:
        sys_swapgs(g);
        break;
    case BT_JIT_CLAC:
        sys_ac(g, false);
        break;
    case BT_JIT_STAC:
        sys_ac(g, true);
        break;
    case BT_JIT_RDTSC:
    case BT_JIT_RDTSCP:
        sys_rdtsc(g, in);
        break;
    default:
        bt_jit_interp(g, in, true);
    }
}
