/*
 * bt_jit_plan.c: over a unit, backwards: which flags are needed where; forwards: which memory accesses
 * share one check of the soft TLB. vCPU thread.
 */
#include "accel/bt/bt_jit_insn.h"

/* May the interpreter have to take over at this instruction? Then all flags must be right. */
static bool plan_leaves(const struct bt_jit_insn *in)
{
    if (in->crosses)
        return true;
    switch (in->kind) {
    case BT_JIT_RAW:
        return in->mem || in->faults;
    case BT_JIT_NOP:
    case BT_JIT_LEA:
        return false;
    default: /* a jump may find a vCPU that was kicked */
        return true;
    }
}

static void plan_flags(struct bt_jit_insn *insn, unsigned n)
{
    unsigned need = FLAG_ARITH;

    while (n-- > 0) {
        struct bt_jit_insn *in = &insn[n];

        in->need_after = (uint16_t)need;
        need = (need & ~(unsigned)in->flags_def) | in->flags_use;
        if (plan_leaves(in))
            need = FLAG_ARITH;
        in->need = (uint16_t)need;
    }
}

unsigned bt_jit_first_flags(const struct bt_jit_insn *insn, unsigned n)
{
    if (!n || !insn[0].need)
        return 0;
    for (unsigned i = 0; i < n; i++) {
        const struct bt_jit_insn *in = &insn[i];

        if ((in->kind >= BT_JIT_JCC && in->kind <= BT_JIT_JMP) || in->flags_use)
            return BT_JIT_FL_HOST;
        if (plan_leaves(in))
            return BT_JIT_FL_SAVED;
        if (in->flags_change)
            return BT_JIT_FL_HOST;
    }
    return BT_JIT_FL_HOST;
}

/* --- groups --- */
enum { GROUP_SPAN = 128 };

/* What an instruction accesses relative to one base register, as it was before the instruction. */
struct plan_access {
    bool any, write;
    int32_t lo, size;
};

static struct plan_access plan_access(const struct bt_jit_insn *in, unsigned base)
{
    struct plan_access a = { 0 };

    switch (in->kind) {
    case BT_JIT_PUSH:
    case BT_JIT_CALL:
        if (base == X86_RSP)
            a = (struct plan_access){ true, true, -in->word, in->word };
        break;
    case BT_JIT_POP:
    case BT_JIT_RET:
        if (base == X86_RSP)
            a = (struct plan_access){ true, false, 0, in->word };
        break;
    case BT_JIT_RAW:
        if (in->mem && !in->lock && !in->fldcw && in->base == base && in->index == BT_REG_NONE &&
            in->asize == in->word && in->seg < X86_FS)
            a = (struct plan_access){ true, in->mem_write, in->disp, in->mem_size };
        break;
    default:
        break;
    }
    return a;
}

/* The base register of an access that may lead a group, or BT_REG_NONE. */
static unsigned plan_base(const struct bt_jit_insn *in)
{
    switch (in->kind) {
    case BT_JIT_PUSH:
    case BT_JIT_POP:
    case BT_JIT_CALL:
    case BT_JIT_RET:
        return X86_RSP;
    case BT_JIT_RAW:
        return plan_access(in, in->base).any && in->base < BT_REG_NONE ? in->base : BT_REG_NONE;
    default:
        return BT_REG_NONE;
    }
}

/* Does it leave T0 alone? In a group of another base than RSP, the stack would need it. */
static bool plan_keeps_t0(const struct bt_jit_insn *in, unsigned base)
{
    unsigned host[BT_JIT_SLOTS];

    switch (in->kind) {
    case BT_JIT_PUSH:
    case BT_JIT_POP:
    case BT_JIT_CALL:
    case BT_JIT_RET:
        return base == X86_RSP;
    case BT_JIT_NOP:
    case BT_JIT_JCC:
        return true;
    case BT_JIT_RAW:
        break;
    default:
        return false;
    }
    bt_jit_slot_hosts(in, BT_JIT_SLOTS, host);
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        if (host[i] == BT_JIT_T0)
            return false;
    return true;
}

/* How the instruction moves the base register; false: by an unknown amount. */
static bool plan_moves(const struct bt_jit_insn *in, unsigned base, int32_t *by)
{
    const struct bt_jit_slot *rm = &in->slot[BT_JIT_SLOT_RM];

    *by = 0;
    if (!(in->writes >> base & 1))
        return true;
    if (base != X86_RSP)
        return false;
    if (in->kind == BT_JIT_PUSH)
        *by = -in->word;
    else if (in->kind == BT_JIT_POP)
        *by = in->word;
    else if (in->kind == BT_JIT_RAW && !in->mem && rm->reg == X86_RSP && in->size == in->word &&
             in->encoding == BT_JIT_LEGACY && in->imm < in->len && in->modrm == in->opcode + 1 &&
             (in->bytes[in->opcode] | 2) == 0x83) { /* ADD, SUB with an immediate */
        unsigned n = in->bytes[in->modrm] >> 3 & 7;

        if ((n != 0 && n != 5) || in->value > 4096 || in->value < -4096)
            return false;
        *by = (int32_t)(n == 0 ? in->value : -in->value);
    } else {
        return false;
    }
    return true;
}

struct plan_group {
    unsigned base, last;
    int64_t lo, hi, delta; /* displacements are the guest's: their differences need 64 bits */
    bool write, jumped;
};

/* Can the access at lo..lo+size join? */
static bool plan_join(struct plan_group *g, const struct plan_access *a)
{
    int64_t lo = a->lo + g->delta, hi = lo + a->size;

    if (lo > g->lo)
        lo = g->lo;
    if (hi < g->hi)
        hi = g->hi;
    if (hi - lo > GROUP_SPAN || lo < INT32_MIN || (a->write && !g->write && g->jumped))
        return false;
    g->lo = lo;
    g->hi = hi;
    g->write |= a->write;
    return true;
}

/* Tries to grow a group from insn[first]; marks its members. */
static unsigned plan_group(struct bt_jit_insn *insn, unsigned n, unsigned first)
{
    struct plan_access a = plan_access(&insn[first], plan_base(&insn[first]));
    struct plan_group g = { .base = plan_base(&insn[first]),
                            .last = first,
                            .lo = a.lo,
                            .hi = (int64_t)a.lo + a.size,
                            .write = a.write };
    int64_t delta = 0;
    int32_t by;

    for (unsigned i = first; i < n; i++) {
        struct bt_jit_insn *in = &insn[i];

        a = plan_access(in, g.base);
        if (i > first &&
            ((!a.any && in->mem) || in->lock || in->crosses || !plan_keeps_t0(in, g.base)))
            break;
        if (a.any) {
            if (!plan_join(&g, &a))
                break;
            g.last = i;
        }
        g.jumped |= in->kind == BT_JIT_JCC;
        if (!plan_keeps_t0(in, g.base) || !plan_moves(in, g.base, &by))
            break;
        g.delta += by;
    }
    for (unsigned i = first; i <= g.last; i++) {
        struct bt_jit_insn *in = &insn[i];

        a = plan_access(in, g.base);
        in->member = a.any;
        if (a.any)
            in->group_off = (int32_t)(a.lo + delta - g.lo);
        if (plan_moves(in, g.base, &by))
            delta += by;
    }
    insn[first].leader = true;
    insn[first].group_lo = (int32_t)g.lo;
    insn[first].group_size = (uint16_t)(g.hi - g.lo);
    insn[first].group_write = g.write;
    insn[first].group_count = (uint8_t)(g.last - first + 1);
    return g.last + 1;
}

void bt_jit_plan(struct bt_jit_insn *insn, unsigned n, bool apart)
{
    plan_flags(insn, n);
    for (unsigned i = 0; i < n;)
        if (plan_base(&insn[i]) != BT_REG_NONE)
            i = plan_group(insn, apart ? i + 1 : n, i);
        else
            i++;
}
