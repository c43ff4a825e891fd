/*
 * bt_jit_mem.c: registers that live in memory, effective addresses, and the soft TLB's check:
 *
 *   mov  t1d, t0d              t0: linear address
 *   shr  t1d, 7
 *   and  t1d, entries * 32
 *   xor  t0, [tlb + t1 + tag]  the offset in the page, or more
 *   cmp  t0, 4096 - size
 *   ja   late
 *   add  t0, [tlb + t1 + page]
 *
 * vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1, TLB = BT_JIT_TLB };
enum { CC_AE = 3, CC_A = 7, CC_NZ = 5 };

/* --- registers --- */
void bt_jit_load_gpr(struct bt_emit *e, unsigned scratch, unsigned r)
{
    bt_emit_load(e, scratch, (int)offsetof(struct bt_cpu, s.gpr[0]) + (int)r * 8);
}

void bt_jit_store_gpr(struct bt_emit *e, unsigned r, unsigned scratch)
{
    bt_emit_store(e, scratch, (int)offsetof(struct bt_cpu, s.gpr[0]) + (int)r * 8);
}

unsigned bt_jit_reg(struct bt_jit_gen *g, unsigned r, unsigned scratch)
{
    if (!bt_jit_in_memory(r))
        return bt_jit_host(r);
    bt_jit_load_gpr(&g->e, scratch, r);
    return scratch;
}

/* Does any slot of register r load it (store it)? */
static bool mem_slot_uses(const struct bt_jit_insn *in, unsigned r, bool store)
{
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        if (in->slot[i].reg == r && (store ? in->slot[i].store : in->slot[i].load))
            return true;
    return false;
}

/*
 * What is only written may be where a register is that is only read, or the operand's address: an instruction
 * writes last.
 */
static unsigned mem_scratch(const struct bt_jit_insn *in, unsigned r, uint32_t *read,
                            uint32_t *written)
{
    bool t1 = mem_slot_uses(in, r, false) ? !(*read >> T1 & 1) : !(*written >> T1 & 1);
    unsigned scratch = t1 ? T1 : T0;

    if (mem_slot_uses(in, r, false))
        *read |= BIT(scratch);
    if (mem_slot_uses(in, r, true))
        *written |= BIT(scratch);
    return scratch;
}

void bt_jit_slot_hosts(const struct bt_jit_insn *in, unsigned skip, unsigned host[BT_JIT_SLOTS])
{
    uint32_t read = 0, written = 0;

    for (unsigned i = 0; i < BT_JIT_SLOTS; i++) {
        unsigned r = in->slot[i].reg;

        host[i] = r == BT_JIT_NO_REG || bt_jit_in_memory(r) ? BT_JIT_NO_REG : bt_jit_host(r);
    }
    for (unsigned pass = 0; pass < 2; pass++) /* those that are read go first */
        for (unsigned i = 0; i < BT_JIT_SLOTS; i++) {
            unsigned r = in->slot[i].reg;

            if (i == skip || r == BT_JIT_NO_REG || host[i] != BT_JIT_NO_REG ||
                mem_slot_uses(in, r, false) != (pass == 0))
                continue;
            host[i] = mem_scratch(in, r, &read, &written);
            for (unsigned k = i + 1; k < BT_JIT_SLOTS; k++)
                if (in->slot[k].reg == r && k != skip)
                    host[k] = host[i];
        }
}

void bt_jit_rip(struct bt_jit_gen *g, unsigned reg, int32_t off)
{
    if (g->u->fixed) {
        uint64_t lin = (g->u->lin & PAGE_MASK) + (uint64_t)(int64_t)off;

        bt_emit_imm(&g->e, reg, bt_jit_wide(g) ? lin : (uint32_t)lin);
        return;
    }
    bt_emit_load(&g->e, reg, BT_JIT_FRAME(page_lin));
    bt_emit_rm(&g->e, OP_LEA, bt_jit_wide(g), reg, reg, off);
}

/* --- effective addresses --- */
static void mem_base_index(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t disp,
                           unsigned to)
{
    struct bt_emit *e = &g->e;
    bool w = in->asize == 8;
    unsigned base, index;

    if (in->base == BT_REG_NONE && in->index == BT_REG_NONE) {
        bt_emit_imm(e, to, w ? (uint64_t)(int64_t)disp : (uint32_t)disp);
        return;
    }
    base = in->base == BT_REG_NONE ? BT_EMIT_NO_BASE : bt_jit_reg(g, in->base, T0);
    if (in->index == BT_REG_NONE) {
        if (disp)
            bt_emit_rm(e, OP_LEA, w, to, base, disp);
        else if (!w || base != to)
            bt_emit_rr(e, OP_STORE, w, base, to);
        return;
    }
    index = bt_jit_reg(g, in->index, T1);
    bt_emit_rmx(e, OP_LEA, w, to, base, index, in->scale, disp);
}

void bt_jit_ea_to(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t extra, unsigned to)
{
    struct bt_emit *e = &g->e;

    if (in->base == BT_REG_RIP) {
        bt_jit_rip(g, to, in->off + in->len + in->disp + extra);
        if (in->asize == 4)
            bt_emit_rr(e, OP_STORE, false, to, to);
    } else {
        mem_base_index(g, in, in->disp + extra, to);
    }
}

void bt_jit_ea(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t extra)
{
    struct bt_emit *e = &g->e;

    bt_jit_ea_to(g, in, extra, T0);
    if (in->seg >= X86_FS) { /* 32-bit code: addresses wrap */
        bt_emit_load(e, T1,
                     (int)offsetof(struct bt_cpu, s.seg[0].base) +
                         (int)sizeof(struct x86_seg) * in->seg);
        bt_emit_rmx(e, OP_LEA, bt_jit_wide(g), T0, T0, T1, 1, 0);
    }
}

/* --- the check --- */
uint32_t bt_jit_lookup(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count,
                       unsigned size, bool write, const uint8_t *retry)
{
    enum { INDEX = (BT_TLB_SIZE - 1) * (int)sizeof(struct bt_tlb_entry) };
    int tag =
        (int)(write ? offsetof(struct bt_tlb_entry, tag_w) : offsetof(struct bt_tlb_entry, tag_r));
    uint32_t number = bt_jit_new_point(g, in, count);
    struct bt_jit_point *p = &g->j->point[number];
    struct bt_jit_late *late;
    struct bt_emit *e = &g->e;

    _Static_assert(sizeof(struct bt_tlb_entry) == 32, "PAGE_SHIFT - 7");
    p->retry = (uint32_t)(retry - g->j->w);
    if (!in->lock)
        p->access = write ? BT_JIT_MISS_WRITE : BT_JIT_MISS_READ;
    p->size = (uint16_t)size;
    bt_jit_flags_clobber(g);
    bt_emit_rr(e, OP_STORE, false, T0, T1);
    bt_emit_rr(e, 0xc1, false, 5, T1); /* shr */
    bt_emit8(e, PAGE_SHIFT - 5);
    bt_emit_alu_imm(e, 4, false, T1, INDEX);
    bt_emit_rmx(e, OP_XOR_LOAD, true, T0, TLB, T1, 1, tag);
    bt_emit_alu_imm(e, 7, true, T0, (int32_t)(PAGE_SIZE - size));
    late = bt_jit_new_late(g, BT_JIT_LATE_POINT, number);
    late->missed = true;
    late->tag = (int8_t)tag;
    late->jump = bt_jit_jump(g, CC_A);
    bt_emit_rmx(e, OP_ADD_LOAD, true, T0, TLB, T1, 1, (int)offsetof(struct bt_tlb_entry, page));
    if (in->kind != BT_JIT_STRING) /* which may have two of them */
        p->found = bt_jit_here(g);
    if (!in->lock || size == 1)
        return number;
    bt_emit_rr(e, 0xf6, false, 0, T0); /* test t0b, size - 1: split locks are for the interpreter */
    bt_emit8(e, size - 1);
    late = bt_jit_new_late(g, BT_JIT_LATE_POINT, number);
    late->jump = bt_jit_jump(g, CC_NZ);
    return number;
}

/*
 *   xor  t0, [stack_lin]
 *   cmp  t0, [stack_span]
 *   jae  late                  T0 is restored there and looked up as above
 *   add  t0, [stack_hva]
 */
uint32_t bt_jit_lookup_stack(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count,
                             unsigned size, bool write, const uint8_t *retry)
{
    uint32_t number = bt_jit_new_point(g, in, count);
    struct bt_jit_point *p = &g->j->point[number];
    struct bt_emit *e = &g->e;
    struct bt_jit_late *late;

    p->retry = (uint32_t)(retry - g->j->w);
    p->access = write ? BT_JIT_MISS_WRITE : BT_JIT_MISS_READ;
    p->size = (uint16_t)size;
    bt_jit_flags_clobber(g);
    bt_emit_rm(e, OP_XOR_LOAD, true, T0, X86_RSP, BT_JIT_FRAME(stack_lin));
    bt_emit_rm(e, OP_CMP_LOAD, true, T0, X86_RSP,
               BT_JIT_FRAME(stack_span[0]) + (size > BT_JIT_STACK_NEAR ? 8 : 0));
    late = bt_jit_new_late(g, BT_JIT_LATE_STACK, number);
    late->size = (uint16_t)size;
    late->write = write;
    late->jump = bt_jit_jump(g, CC_AE);
    bt_emit_rm(e, OP_ADD_LOAD, true, T0, X86_RSP, BT_JIT_FRAME(stack_hva));
    late->back = e->p;
    p->found = bt_jit_here(g);
    return number;
}

/* Is in's operand relative to RSP, or the stack's by what in is? */
static bool mem_on_stack(const struct bt_jit_insn *in)
{
    if (in->lock)
        return false;
    if (!in->mem || in->kind != BT_JIT_RAW)
        return in->kind == BT_JIT_PUSH || in->kind == BT_JIT_POP || in->kind == BT_JIT_CALL ||
               in->kind == BT_JIT_RET;
    return in->base == X86_RSP && in->index == BT_REG_NONE && in->seg < X86_FS;
}

uint32_t bt_jit_operand(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t *disp)
{
    const uint8_t *retry = g->e.p;

    *disp = 0;
    if (in->member)
        *disp = in->group_off;
    if (in->member && !in->leader)
        return 0;
    if (!in->leader) {
        bt_jit_ea(g, in, 0);
        return (mem_on_stack(in) ? bt_jit_lookup_stack : bt_jit_lookup)(g, in, 1, in->mem_size,
                                                                        in->mem_write, retry);
    }
    if (in->mem && in->kind == BT_JIT_RAW)
        bt_jit_ea(g, in, in->group_lo - in->disp);
    else if (in->group_lo)
        bt_emit_rm(&g->e, OP_LEA, bt_jit_wide(g), T0, BT_JIT_RSP, in->group_lo);
    else
        bt_emit_rr(&g->e, OP_STORE, bt_jit_wide(g), BT_JIT_RSP, T0);
    g->group_left = in->group_count;
    g->group_point = (mem_on_stack(in) ? bt_jit_lookup_stack : bt_jit_lookup)(
        g, in, in->group_count, in->group_size, in->group_write, retry);
    return 0;
}

uint32_t bt_jit_guard(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    enum { INDEX = (BT_TLB_SIZE - 1) * (int)sizeof(struct bt_tlb_entry) };
    uint32_t point = bt_jit_new_point(g, in, 1);
    struct bt_emit *e = &g->e;

    bt_jit_flags_clobber(g);
    bt_emit_imm(e, T0, (uintptr_t)&g->next.page->version);
    bt_emit_rm(e, 0x81, false, 7, T0, 0); /* cmp */
    bt_emit32(e, g->next.version);
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_NZ);
    bt_jit_rip(g, T0, PAGE_SIZE);
    bt_emit_rr(e, OP_STORE, false, T0, T1);
    bt_emit_rr(e, 0xc1, false, 5, T1); /* shr */
    bt_emit8(e, PAGE_SHIFT - 5);
    bt_emit_alu_imm(e, 4, false, T1, INDEX);
    bt_emit_rmx(e, OP_CMP_LOAD, true, T0, TLB, T1, 1, (int)offsetof(struct bt_tlb_entry, tag_x));
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_NZ);
    bt_emit_imm(e, T0, (uintptr_t)g->next.hva);
    bt_emit_rmx(e, OP_CMP_LOAD, true, T0, TLB, T1, 1, (int)offsetof(struct bt_tlb_entry, page));
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_NZ);
    return point;
}
