/*
 * bt_io.c: IN, OUT, INS, OUTS (SDM 1 chapter 19; 2A, 2B). Repeated forms look at c->kick between
 * iterations, and do one iteration at a time while somebody debugs.
 */
#include "accel/bt/bt_block.h"
#include "accel/bt/bt_sysops.h"

enum { TSS_IOMAP = 102, TSS_MIN_LIMIT = 0x67, IO_CHUNK = 1024 };

/* The TSS's permission bitmap: all bits of the access must be clear. */
static int io_bitmap(struct bt_cpu *c, uint16_t port, unsigned size)
{
    uint64_t base, bits;

    if ((c->s.tr.attr & SEG_TYPE) < DESC_TSS || c->s.tr.limit < TSS_MIN_LIMIT)
        return bt_raise_err(c, X86_GP, 0);
    if (bt_lin_read(c, c->s.tr.base + TSS_IOMAP, 2, &base, BT_MMU_SUPER))
        return BT_FAULT;
    base += port / 8;
    if (base + 1 > c->s.tr.limit) /* two bytes are read, whatever the access */
        return bt_raise_err(c, X86_GP, 0);
    if (bt_lin_read(c, c->s.tr.base + base, 2, &bits, BT_MMU_SUPER))
        return BT_FAULT;
    return bits >> (port % 8) & (BIT(size) - 1) ? bt_raise_err(c, X86_GP, 0) : 0;
}

static int io_allowed(struct bt_cpu *c, uint16_t port, unsigned size)
{
    if (!(c->s.cr0 & CR0_PE) || (!bt_vm86(c) && c->cpl <= bt_iopl(c)))
        return 0;
    return io_bitmap(c, port, size);
}

static uint64_t io_do(struct bt_cpu *c, uint16_t port, unsigned size, bool write, uint64_t val)
{
    bt_fpu_store(c);
    c->intr_check = true;
    exit_pio(c->vcpu, port, size, write, &val);
    bt_left_machine(c);
    bt_debug_io(c, port, size);
    return val & bt_mask(size);
}

/* imm2: the port is in DX. */
static uint16_t io_port(const struct bt_cpu *c, const struct bt_insn *in)
{
    return in->imm2 ? (uint16_t)c->s.gpr[X86_RDX] : (uint16_t)(in->imm & 0xff);
}

int bt_op_in(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t port = io_port(c, in);
    uint64_t val;

    if (io_allowed(c, port, in->size))
        return bt_sys_fault(c, in);
    val = io_do(c, port, in->size, false, 0);
    if (in->size == 1)
        c->s.gpr[X86_RAX] = (c->s.gpr[X86_RAX] & ~0xffull) | val;
    else
        bt_gpr_set(c, X86_RAX, in->size, val);
    return BT_NEXT;
}

int bt_op_out(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t port = io_port(c, in);

    if (io_allowed(c, port, in->size))
        return bt_sys_fault(c, in);
    io_do(c, port, in->size, true, c->s.gpr[X86_RAX] & bt_mask(in->size));
    return BT_NEXT;
}

/* --- strings --- */

static void io_advance(struct bt_cpu *c, const struct bt_insn *in, unsigned reg)
{
    uint64_t step = c->s.rflags & FLAG_DF ? 0 - (uint64_t)in->size : in->size;

    bt_gpr_set(c, reg, in->asize, c->s.gpr[reg] + step);
}

/* The destination is checked before the port is read: a fault must not lose the byte. */
static int io_ins_once(struct bt_cpu *c, const struct bt_insn *in)
{
    uint16_t port = (uint16_t)c->s.gpr[X86_RDX];
    uint64_t off = bt_gpr_get(c, X86_RDI, in->asize), lin, gpa;

    if (bt_linear(c, X86_ES, off, in->size, true, &lin) ||
        bt_translate(c, lin, PF_W, c->mmu, &gpa) ||
        bt_translate(c, lin + in->size - 1, PF_W, c->mmu, &gpa))
        return BT_FAULT;
    if (bt_lin_write(c, lin, in->size, io_do(c, port, in->size, false, 0), c->mmu))
        return BT_FAULT;
    io_advance(c, in, X86_RDI);
    return 0;
}

static int io_outs_once(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t val;

    if (bt_read(c, in->seg, bt_gpr_get(c, X86_RSI, in->asize), in->size, &val))
        return BT_FAULT;
    io_do(c, (uint16_t)c->s.gpr[X86_RDX], in->size, true, val);
    io_advance(c, in, X86_RSI);
    return 0;
}

static bool io_one_at_a_time(const struct bt_cpu *c)
{
    return (c->s.rflags & FLAG_TF) || bt_debug_armed(c);
}

static int io_string(struct bt_cpu *c, const struct bt_insn *in,
                     int once(struct bt_cpu *c, const struct bt_insn *in))
{
    unsigned left = io_one_at_a_time(c) ? 1 : IO_CHUNK;

    if (io_allowed(c, (uint16_t)c->s.gpr[X86_RDX], in->size))
        return bt_sys_fault(c, in);
    if (!(in->prefix & (BT_REP | BT_REPNE)))
        return once(c, in) ? bt_sys_fault(c, in) : BT_NEXT;
    while (bt_gpr_get(c, X86_RCX, in->asize)) {
        if (!left-- || atomic_load_explicit(&c->kick, memory_order_relaxed)) {
            c->s.rip = bt_rip(c, in);
            return BT_JUMP;
        }
        if (once(c, in))
            return bt_sys_fault(c, in);
        bt_gpr_set(c, X86_RCX, in->asize, c->s.gpr[X86_RCX] - 1);
    }
    return BT_NEXT;
}

int bt_op_ins(struct bt_cpu *c, const struct bt_insn *in)
{
    return io_string(c, in, io_ins_once);
}

int bt_op_outs(struct bt_cpu *c, const struct bt_insn *in)
{
    return io_string(c, in, io_outs_once);
}
