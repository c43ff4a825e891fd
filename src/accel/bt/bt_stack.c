/*
 * bt_stack.c: PUSH POP PUSHA POPA ENTER LEAVE of general registers, immediates and memory. (Flags and
 * segment registers are bt_sys's.) vCPU thread.
 */
#include "accel/bt/bt_ops.h"
#include "accel/bt/bt_sys.h"

/* --- 64-bit code, operand size 8 --- */
static int bt_push_r64(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_store_lin64(c, X86_SS, c->s.gpr[X86_RSP] - 8, c->s.gpr[in->reg]))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] -= 8;
    return bt_next(c, in);
}

static int bt_push_i64(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_store_lin64(c, X86_SS, c->s.gpr[X86_RSP] - 8, (uint64_t)in->imm))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] -= 8;
    return bt_next(c, in);
}

static int bt_pop_r64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_load_lin64(c, X86_SS, c->s.gpr[X86_RSP], &v))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] += 8;
    c->s.gpr[in->reg] = v;
    return bt_next(c, in);
}

static int bt_leave64(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_load_lin64(c, X86_SS, c->s.gpr[X86_RBP], &v))
        return bt_fault(c, in);
    c->s.gpr[X86_RSP] = c->s.gpr[X86_RBP] + 8;
    c->s.gpr[X86_RBP] = v;
    return bt_next(c, in);
}

/* --- any mode --- */
static int bt_push_r(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_push(c, in->size, c->s.gpr[in->reg]))
        return bt_fault(c, in);
    return bt_next(c, in);
}

static int bt_push_i(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_push(c, in->size, (uint64_t)in->imm))
        return bt_fault(c, in);
    return bt_next(c, in);
}

static int bt_push_rm(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_get_rm(c, in, in->size, &v) || bt_push(c, in->size, v))
        return bt_fault(c, in);
    return bt_next(c, in);
}

static int bt_pop_r(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (bt_op_pop(c, in->size, &v))
        return bt_fault(c, in);
    bt_stack_add(c, in->size);
    bt_set(c, in, in->reg, in->size, v);
    return bt_next(c, in);
}

/* The address of the destination is computed with RSP already moved. */
static int bt_pop_rm(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v, rsp = c->s.gpr[X86_RSP];

    if (bt_op_pop(c, in->size, &v))
        return bt_fault(c, in);
    bt_stack_add(c, in->size);
    if (bt_set_rm(c, in, in->size, v)) {
        c->s.gpr[X86_RSP] = rsp;
        return bt_fault(c, in);
    }
    return bt_next(c, in);
}

static int bt_pusha(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t rsp = c->s.gpr[X86_RSP];

    for (unsigned r = 0; r < 8; r++) {
        if (bt_push(c, in->size, r == X86_RSP ? rsp : c->s.gpr[r])) {
            c->s.gpr[X86_RSP] = rsp;
            return bt_fault(c, in);
        }
    }
    return bt_next(c, in);
}

static int bt_popa(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v[8], rsp = c->s.gpr[X86_RSP];

    for (unsigned i = 0; i < 8; i++) {
        if (bt_op_pop(c, in->size, &v[7 - i])) {
            c->s.gpr[X86_RSP] = rsp;
            return bt_fault(c, in);
        }
        bt_stack_add(c, in->size);
    }
    for (unsigned r = 0; r < 8; r++)
        if (r != X86_RSP)
            bt_set(c, in, r, in->size, v[r]);
    return bt_next(c, in);
}

/* RSP, RBP at the width of the stack pointer. */
static void bt_stack_set(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint64_t v)
{
    bt_set(c, in, r, c->stack_size, v);
}

static int bt_leave(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v, rsp = c->s.gpr[X86_RSP];

    bt_stack_set(c, in, X86_RSP, c->s.gpr[X86_RBP]);
    if (bt_op_pop(c, in->size, &v)) {
        c->s.gpr[X86_RSP] = rsp;
        return bt_fault(c, in);
    }
    bt_stack_add(c, in->size);
    bt_set(c, in, X86_RBP, in->size, v);
    return bt_next(c, in);
}

/* Copies the display: level - 1 frame pointers from the caller's frame. */
static int bt_enter_display(struct bt_cpu *c, const struct bt_insn *in, unsigned level,
                            uint64_t frame)
{
    uint64_t rbp = c->s.gpr[X86_RBP], v;

    for (unsigned i = 1; i < level; i++) {
        rbp = (rbp - in->size) & bt_mask(c->stack_size);
        if (bt_op_read(c, X86_SS, rbp, in->size, &v) || bt_push(c, in->size, v))
            return BT_FAULT;
    }
    return level ? bt_push(c, in->size, frame) : 0;
}

/* SDM 2A, ENTER: the end of the frame must be writable, though nothing is written there. */
static int bt_enter_probe(struct bt_cpu *c)
{
    uint64_t lin, sp = c->s.gpr[X86_RSP] & bt_mask(c->stack_size);
    void *hva;

    return bt_linear(c, X86_SS, sp, 1, true, &lin) || bt_lin_ptr(c, lin, 1, true, c->mmu, &hva);
}

static int bt_enter_frame(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t rsp = c->s.gpr[X86_RSP], frame;

    if (bt_push(c, in->size, c->s.gpr[X86_RBP]))
        return bt_fault(c, in);
    frame = c->s.gpr[X86_RSP];
    if (bt_enter_display(c, in, in->imm2 & 31, frame)) {
        c->s.gpr[X86_RSP] = rsp;
        return bt_fault(c, in);
    }
    bt_stack_add(c, -(int64_t)(uint16_t)in->imm);
    if (bt_enter_probe(c)) {
        c->s.gpr[X86_RSP] = rsp;
        return bt_fault(c, in);
    }
    bt_set(c, in, X86_RBP, in->size, frame);
    return bt_next(c, in);
}

static bool bt_stack_is_gpr(const ZydisDecodedOperand *op)
{
    return op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
           ZydisRegisterGetClass(op->reg.value) != ZYDIS_REGCLASS_SEGMENT;
}

static bt_op *bt_stack_push(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                            struct bt_insn *in)
{
    bool fast = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && in->size == 8;

    if (!bt_stack_is_gpr(&ops[0]))
        return NULL;
    if (ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return fast ? bt_push_i64 : bt_push_i;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
        return bt_push_rm;
    return fast ? bt_push_r64 : bt_push_r;
}

static bt_op *bt_stack_pop(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                           struct bt_insn *in)
{
    if (!bt_stack_is_gpr(&ops[0]))
        return NULL;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
        return bt_pop_rm;
    return z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && in->size == 8 ? bt_pop_r64 : bt_pop_r;
}

bt_op *bt_stack_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                       struct bt_insn *in)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return bt_stack_push(z, ops, in);
    case ZYDIS_MNEMONIC_POP:
        return bt_stack_pop(z, ops, in);
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        return bt_pusha;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        return bt_popa;
    case ZYDIS_MNEMONIC_ENTER:
        return bt_enter_frame;
    case ZYDIS_MNEMONIC_LEAVE:
        return z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && in->size == 8 ? bt_leave64
                                                                              : bt_leave;
    default:
        return NULL;
    }
}
