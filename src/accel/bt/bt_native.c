/*
 * bt_native.c: unprivileged instructions that the interpreter does not have in C are run as themselves on
 * the host: FPU, vector and bit-manipulation instructions. See bt_native.h for the files.
 *
 * Registers keep their numbers, but for RSP, which an unused register stands for. A memory operand becomes
 * [register] that points at guest RAM if it lies in one page of it, else at a bounce buffer with the same
 * alignment, so that the host's own alignment checks are the guest's. Whether all of it may be written is
 * known before the instruction runs; it is written back after it.
 */
#include "accel/bt/bt_native.h"

#include <errno.h>
#include <string.h>

#include "accel/bt/bt_decode.h"

int bt_native_init(struct bt_cpu *c, struct err *e)
{
    int r;

    c->fpu = aligned_alloc(64, align_up(sizeof(*c->fpu), 64));
    if (!c->fpu) {
        err_oom(e);
        return -ENOMEM;
    }
    memset(c->fpu, 0, sizeof(*c->fpu));
    r = bt_fpu_init(c, e);
    if (!r)
        r = bt_stub_init(c->vm, c->fpu, e);
    if (r)
        bt_native_fini(c);
    return r;
}

void bt_native_fini(struct bt_cpu *c)
{
    if (!c->fpu)
        return;
    bt_fpu_store(c);
    bt_stub_fini(c->fpu);
    free(c->fpu);
    c->fpu = NULL;
}

/* --- running --- */
int bt_native_run(struct bt_cpu *c, const struct bt_insn *in, void *mem)
{
    struct bt_native *n = in->native;
    const struct bt_plan *p = &n->plan;
    struct bt_fpu *f = c->fpu;
    struct bt_native_result r;

    if (unlikely(!n->code))
        bt_stub_compile(f, n);
    if (unlikely(bt_fpu_call(c, n, mem, &r)))
        return BT_FAULT;
    if (p->flags_out)
        c->s.rflags = (c->s.rflags & ~(uint64_t)p->flags_out) | (r.flags & p->flags_out);
    if (p->x87)
        bt_fpu_record(c, in, r.fsw);
    if (p->control)
        bt_fpu_control_changed(c);
    return BT_NEXT;
}

int bt_native_linear(struct bt_cpu *c, const struct bt_insn *in, unsigned len, bool write,
                     uint64_t *lin)
{
    return bt_linear(c, in->seg, bt_ea(c, in), len, write, lin);
}

bool bt_native_misaligned(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned align = in->native->plan.align;

    return align && ((c->s.seg[in->seg].base + bt_ea(c, in)) & align);
}

int bt_native_probe(struct bt_cpu *c, uint64_t lin, unsigned len)
{
    unsigned first = (unsigned)min_u64(len, PAGE_SIZE - (lin & ~PAGE_MASK));
    void *hva;
    int r = bt_lin_ptr(c, lin, first, true, c->mmu, &hva);

    if (!r && first < len)
        r = bt_lin_ptr(c, lin + first, len - first, true, c->mmu, &hva);
    return r;
}

static int bt_native_bounce(struct bt_cpu *c, const struct bt_insn *in, uint64_t lin)
{
    const struct bt_plan *p = &in->native->plan;
    uint8_t *buf = c->fpu->bounce + (lin & 63);
    int r = 0;

    if (p->access & BT_ACCESS_WRITE)
        r = bt_native_probe(c, lin, p->mem_size);
    if (!r && (p->access & BT_ACCESS_READ))
        r = bt_lin_copy_in(c, lin, buf, p->mem_size, c->mmu);
    if (!r)
        r = bt_native_run(c, in, buf);
    if (r || !(p->access & BT_ACCESS_WRITE))
        return r;
    if (p->x87 == BT_X87_OP && (bt_fpu_excepted(c) & BT_X87_NO_STORE))
        return BT_NEXT;
    return bt_lin_copy_out(c, lin, buf, p->mem_size, c->mmu);
}

/*
 * A waiting instruction met a fault of its operand. An x87 exception that is pending goes first; and so does
 * an unmasked one of a store itself, which then stores nothing: found out by running it beside the guest.
 */
static int bt_native_x87_fault(struct bt_cpu *c, const struct bt_insn *in, uint64_t cr2)
{
    const struct bt_plan *p = &in->native->plan;
    uint8_t vector = c->s.exception_vector;
    bool has_error = c->s.exception_has_error;
    uint32_t error = c->s.exception_error;
    uint64_t lin = c->s.cr2;

    bt_fpu_pending_first(c, cr2);
    if (c->s.exception_vector == X86_MF || p->x87 != BT_X87_OP || p->access != BT_ACCESS_WRITE)
        return BT_FAULT;
    bt_fpu_backup(c);
    if (!bt_native_run(c, in, c->fpu->bounce) && (bt_fpu_excepted(c) & BT_X87_NO_STORE)) {
        c->s.exception_pending = false;
        c->s.cr2 = cr2;
        return BT_NEXT;
    }
    bt_fpu_restore(c);
    c->s.exception_vector = vector;
    c->s.exception_has_error = has_error;
    c->s.exception_error = error;
    c->s.cr2 = lin;
    return BT_FAULT;
}

static int bt_native_op_reg(struct bt_cpu *c, const struct bt_insn *in)
{
    int r = bt_native_check(c, in->native->plan.class);

    return r ? r : bt_native_run(c, in, NULL);
}

static int bt_native_op_mem(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    bool write = p->access & BT_ACCESS_WRITE;
    uint64_t lin, cr2 = c->s.cr2;
    void *hva;
    int r = bt_native_check(c, p->class);

    if (r)
        return r;
    if (unlikely(bt_native_misaligned(c, in)))
        r = bt_raise_err(c, X86_GP, 0);
    else
        r = bt_native_linear(c, in, p->mem_size, write, &lin);
    if (!r)
        r = bt_lin_ptr(c, lin, p->mem_size, write, c->mmu, &hva);
    if (likely(!r && hva))
        return bt_native_run(c, in, hva);
    if (!r)
        r = bt_native_bounce(c, in, lin);
    return r && p->waits ? bt_native_x87_fault(c, in, cr2) : r;
}

bool bt_native_is_plain(bt_op *op)
{
    return op == bt_native_op_reg || op == bt_native_op_mem;
}

/* Hints: nothing to do, and no fault. */
static int bt_native_op_hint(struct bt_cpu *c, const struct bt_insn *in)
{
    (void)c;
    (void)in;
    return BT_NEXT;
}

/* CLFLUSH and its kin: memory is coherent already, but the address must be readable. */
static int bt_native_op_flush(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t lin;
    void *hva;
    int r = bt_native_linear(c, in, 1, false, &lin);

    return r ? r : bt_lin_ptr(c, lin, 1, false, c->mmu, &hva);
}

/* --- planning --- */
static bool bt_native_register_ok(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
    case ZYDIS_REGCLASS_X87:
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM:
    case ZYDIS_REGCLASS_MASK:
    case ZYDIS_REGCLASS_FLAGS:
        return true;
    default:
        return reg == ZYDIS_REGISTER_MXCSR || reg == ZYDIS_REGISTER_X87CONTROL ||
               reg == ZYDIS_REGISTER_X87STATUS || reg == ZYDIS_REGISTER_X87TAG;
    }
}

unsigned bt_native_gpr(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
        return BT_NATIVE_NO_REG;
    return whole - ZYDIS_REGISTER_RAX;
}

/* Registers are both loaded and stored where they are written: a write may be partial or conditional. */
static bool bt_native_plan_operands(struct bt_plan *p, const ZydisDecodedInstruction *z,
                                    const ZydisDecodedOperand *ops, const ZydisDecodedOperand **mem)
{
    bool ok = true;

    *mem = NULL;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *op = &ops[i];

        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            unsigned gpr = bt_native_gpr(op->reg.value);

            ok = ok && bt_native_register_ok(op->reg.value);
            if (ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_MMX)
                p->waits = true;
            if (gpr == BT_NATIVE_NO_REG)
                continue;
            p->load |= (uint16_t)BIT(gpr);
            if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
                p->store |= (uint16_t)BIT(gpr);
        } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            ok = ok && !*mem && op->mem.type != ZYDIS_MEMOP_TYPE_MIB;
            *mem = op;
        }
    }
    return ok;
}

/*
 * If it writes any flags, all are taken back; and they are loaded before unless it is known to write all of
 * them (Zydis forgets some).
 */
static void bt_native_plan_flags(struct bt_plan *p, const ZydisDecodedInstruction *z)
{
    const ZydisAccessedFlags *a = z->cpu_flags;
    uint32_t written;

    if (!a)
        return;
    written = (a->modified | a->set_0 | a->set_1) & FLAG_ARITH;
    p->flags_out = written || (a->undefined & FLAG_ARITH) ? FLAG_ARITH : 0;
    p->flags_in = (a->tested & FLAG_ARITH) || (p->flags_out && written != FLAG_ARITH);
}

/* Host registers for RSP, the memory operand and struct bt_cpu. ModRM without REX.B reaches the first two. */
static void bt_native_plan_registers(struct bt_plan *p, bool mem)
{
    static const uint8_t pointers[] = { X86_RSI, X86_RDI, X86_RDX, X86_RCX, X86_RAX, X86_RBX };
    static const uint8_t aliases[] = {
        X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RBP, X86_RSI, X86_RDI
    };
    unsigned used = p->load | p->store;

    p->alias = p->mem_reg = BT_NATIVE_NO_REG;
    for (unsigned i = 0; (used & BIT(X86_RSP)) && p->alias == BT_NATIVE_NO_REG; i++)
        if (!(used >> aliases[i] & 1))
            p->alias = aliases[i];
    if (p->alias != BT_NATIVE_NO_REG)
        used |= BIT(p->alias);
    for (unsigned i = 0; mem && p->mem_reg == BT_NATIVE_NO_REG; i++)
        if (!(used >> pointers[i] & 1))
            p->mem_reg = pointers[i];
    p->cpu_reg = X86_R11;
    while (used >> p->cpu_reg & 1)
        p->cpu_reg--;
}

static void bt_native_plan_memory(struct bt_plan *p, const ZydisDecodedOperand *mem)
{
    if (!mem)
        return;
    p->mem_size = mem->size / 8;
    if (mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        p->access |= BT_ACCESS_READ;
    /* What a conditional or partial write leaves alone must be there to be written back. */
    if (mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        p->access |= BT_ACCESS_WRITE;
    if (mem->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
        p->access |= BT_ACCESS_READ;
}

/* No operand in memory, or one that is accessed as a whole. */
static bt_op *bt_native_plain(struct bt_plan *p, const ZydisDecodedInstruction *z,
                              const ZydisDecodedOperand *mem)
{
    if (!mem)
        return bt_native_op_reg;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ: /* all of the operand must be writable, whatever the mask */
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        p->access = BT_ACCESS_READ | BT_ACCESS_WRITE;
        p->mem_reg = X86_RDI;
        return bt_native_op_mem;
    default:
        break;
    }
    if (mem->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
        mem->mem.type != ZYDIS_MEMOP_TYPE_MEM)
        return NULL;
    return p->mem_size && p->mem_size <= BT_MEM_MAX && p->access ? bt_native_op_mem : NULL;
}

/* Operands that must be aligned, and are found to be misaligned before they are found to be missing. */
static void bt_native_plan_align(struct bt_plan *p, const ZydisDecodedInstruction *z)
{
    if (z->mnemonic == ZYDIS_MNEMONIC_CVTPD2PI || z->mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI) {
        p->align = p->mem_size ? 15 : 0;
        return;
    }
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_AVX1:
    case ZYDIS_EXCEPTION_CLASS_E1:
    case ZYDIS_EXCEPTION_CLASS_E1NF:
        p->align = p->mem_size ? (uint8_t)(p->mem_size - 1) : 0;
        return;
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
        break;
    default:
        return;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return;
    default:
        p->align = p->mem_size == 16 ? 15 : 0;
    }
}

/* x87 instructions but for the control ones move FIP (SDM 1 8.1.8). */
static void bt_native_plan_x87(struct bt_plan *p, const uint8_t *bytes,
                               const ZydisDecodedInstruction *z)
{
    unsigned at = z->raw.modrm.offset;

    if (p->class != BT_FPU_X87)
        return;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_FLDCW:
        p->waits = p->control = true;
        return;
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
        return;
    case ZYDIS_MNEMONIC_FNINIT:
        p->x87 = BT_X87_INIT;
        p->control = true;
        return;
    default:
        p->waits = true;
        p->x87 = BT_X87_OP;
        p->fop = (uint16_t)((bytes[at - 1] & 7) << 8 | bytes[at]);
    }
}

/* bt_ea()'s fields. */
static void bt_native_operand(struct bt_insn *in, const ZydisDecodedInstruction *z,
                              const ZydisDecodedOperand *op)
{
    const ZydisRegister base = op->mem.base, index = op->mem.index;

    in->asize = z->address_width / 8;
    in->seg = (uint8_t)ZydisRegisterGetId(op->mem.segment);
    in->disp = (int32_t)op->mem.disp.value;
    in->scale = op->mem.scale ? op->mem.scale : 1;
    in->base = in->index = BT_REG_NONE;
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP)
        in->base = BT_REG_RIP;
    else if (base != ZYDIS_REGISTER_NONE)
        in->base = (uint8_t)bt_native_gpr(base);
    if (index != ZYDIS_REGISTER_NONE && op->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
        in->index = (uint8_t)bt_native_gpr(index);
    in->rm = BT_REG_NONE;
}

static bt_op *bt_native_special(const ZydisDecodedInstruction *z)
{
    switch (z->meta.isa_set) {
    case ZYDIS_ISA_SET_PAUSE:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_CLDEMOTE:
        return bt_native_op_hint;
    case ZYDIS_ISA_SET_CLFSH:
    case ZYDIS_ISA_SET_CLFLUSHOPT:
    case ZYDIS_ISA_SET_CLWB:
        return bt_native_op_flush;
    default:
        return NULL;
    }
}

static bt_op *bt_native_plan(struct bt_cpu *c, const uint8_t *bytes,
                             const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                             struct bt_insn *in, struct bt_plan *p)
{
    const ZydisDecodedOperand *mem;
    bt_op *op;

    if (!bt_isa_allowed(c, z, &p->class))
        return NULL;
    op = bt_xsave_lookup(z, in);
    if (!bt_native_plan_operands(p, z, ops, &mem) && !op)
        return NULL;
    if (mem)
        bt_native_operand(in, z, mem);
    if (!op)
        op = bt_native_special(z);
    if (!op)
        op = bt_mask_zero_lookup(z);
    if (op)
        return op;
    bt_native_plan_flags(p, z);
    bt_native_plan_registers(p, mem != NULL);
    bt_native_plan_memory(p, mem);
    bt_native_plan_align(p, z);
    bt_native_plan_x87(p, bytes, z);
    op = bt_x87env_lookup(z, p);
    if (!op)
        op = bt_mask_lookup(z, ops, p);
    if (!op)
        op = bt_native_plain(p, z, mem);
    return op && bt_stub_rewrite(p, bytes, z, ops) ? op : NULL;
}

bt_op *bt_native_lookup(struct bt_cpu *c, const uint8_t *bytes, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *ops, struct bt_insn *in)
{
    struct bt_plan p;
    bt_op *op;

    memset(&p, 0, sizeof(p));
    op = bt_native_plan(c, bytes, z, ops, in, &p);
    if (!op || !p.len)
        return op;
    in->native = bt_stub_get(c, &p);
    return in->native ? op : NULL;
}
