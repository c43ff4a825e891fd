/*
 * bt_decode.c: bytes to struct bt_insn (see bt_decode.h). vCPU thread; the host's FPU may be clobbered.
 */
#include "accel/bt/bt_decode.h"

#include "accel/bt/bt_form.h"
#include "accel/bt/bt_ops.h"

static void bt_decode_init(const struct bt_cpu *c, ZydisDecoder *d)
{
    ZydisStackWidth stack = c->stack_size == 8   ? ZYDIS_STACK_WIDTH_64
                            : c->stack_size == 4 ? ZYDIS_STACK_WIDTH_32
                                                 : ZYDIS_STACK_WIDTH_16;
    ZydisMachineMode mode;

    if (c->code_size == 8)
        mode = ZYDIS_MACHINE_MODE_LONG_64;
    else if (c->code_size == 4)
        mode = ZYDIS_MACHINE_MODE_LEGACY_32;
    else if (!(c->s.cr0 & CR0_PE) || (c->s.rflags & FLAG_VM))
        mode = ZYDIS_MACHINE_MODE_REAL_16;
    else
        mode = ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisDecoderInit(d, mode, stack);
}

static uint8_t bt_decode_gpr(ZydisRegister r)
{
    ZyanI8 id;

    if (r == ZYDIS_REGISTER_NONE)
        return BT_REG_NONE;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return BT_REG_RIP;
    id = ZydisRegisterGetId(r);
    return id < 0 ? BT_REG_NONE : (uint8_t)id;
}

static uint8_t bt_decode_seg(ZydisRegister r)
{
    switch (r) {
    case ZYDIS_REGISTER_ES:
        return X86_ES;
    case ZYDIS_REGISTER_CS:
        return X86_CS;
    case ZYDIS_REGISTER_SS:
        return X86_SS;
    case ZYDIS_REGISTER_FS:
        return X86_FS;
    case ZYDIS_REGISTER_GS:
        return X86_GS;
    default:
        return X86_DS;
    }
}

/*
 * The memory operand that base, index and seg describe: ModRM's if there is one, else the first implicit
 * one with an overridable segment (string source, XLAT); a moffs goes into imm.
 */
static bool bt_decode_mem(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                          struct bt_insn *in)
{
    const ZydisDecodedOperand *m = NULL;

    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (ops[i].encoding != ZYDIS_OPERAND_ENCODING_NONE) {
            m = &ops[i];
            break;
        }
        if (!m || ops[i].mem.base == ZYDIS_REGISTER_RSI || ops[i].mem.base == ZYDIS_REGISTER_ESI ||
            ops[i].mem.base == ZYDIS_REGISTER_SI)
            m = &ops[i];
    }
    if (!m)
        return false;
    in->seg = bt_decode_seg(m->mem.segment);
    in->base = bt_decode_gpr(m->mem.base);
    in->index = bt_decode_gpr(m->mem.index);
    in->scale = m->mem.index == ZYDIS_REGISTER_NONE ? 1 : m->mem.scale;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
        in->disp = (int32_t)m->mem.disp.value;
    else if (m->mem.disp.has_displacement)
        in->imm = m->mem.disp.value;
    return m->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
}

static uint8_t bt_decode_rex(const ZydisDecodedInstruction *z, unsigned *r, unsigned *b)
{
    *r = *b = 0;
    switch (z->encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
        *r = z->raw.rex.R;
        *b = z->raw.rex.B;
        return z->attributes & ZYDIS_ATTRIB_HAS_REX ? BT_REX : 0;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        *r = !z->raw.vex.R;
        *b = !z->raw.vex.B;
        return BT_REX;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        *r = !z->raw.evex.R;
        *b = !z->raw.evex.B;
        return BT_REX;
    default:
        return 0;
    }
}

static void bt_decode_regs(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                           struct bt_insn *in, bool mem)
{
    unsigned r, b;

    in->prefix |= bt_decode_rex(z, &r, &b);
    if (z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        r = b = 0;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        in->reg = (uint8_t)(z->raw.modrm.reg | r << 3);
        in->rm = mem ? BT_REG_NONE : (uint8_t)(z->raw.modrm.rm | b << 3);
        return;
    }
    in->rm = BT_REG_NONE;
    for (unsigned i = 0; i < z->operand_count; i++)
        if (ops[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
            in->reg = (uint8_t)((z->opcode & 7) | b << 3);
}

static void bt_decode_imm(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                          struct bt_insn *in)
{
    for (unsigned i = 0; i < z->operand_count; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_POINTER) {
            in->imm = (int64_t)ops[i].ptr.offset;
            in->imm2 = ops[i].ptr.segment;
            return;
        }
    if (z->raw.imm[0].size)
        in->imm = z->raw.imm[0].value.s;
    if (z->raw.imm[1].size)
        in->imm2 = z->raw.imm[1].value.u;
}

static void bt_decode_fields(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                             struct bt_insn *in)
{
    const uint64_t rep = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE;

    *in = (struct bt_insn){ .len = z->length,
                            .size = (uint8_t)(z->operand_width / 8),
                            .asize = (uint8_t)(z->address_width / 8),
                            .seg = X86_DS,
                            .base = BT_REG_NONE,
                            .index = BT_REG_NONE,
                            .scale = 1 };
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        in->prefix |= BT_LOCK;
    if (z->attributes & rep)
        in->prefix |= BT_REP;
    if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        in->prefix |= BT_REPNE;
    bt_decode_imm(z, ops, in);
    bt_decode_regs(z, ops, in, bt_decode_mem(z, ops, in));
}

typedef bt_op *bt_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                         struct bt_insn *in);

static bt_op *bt_decode_integer(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                                struct bt_insn *in)
{
    static bt_lookup *const table[] = {
        bt_mov_lookup,    bt_alu_lookup,   bt_shift_lookup,  bt_mul_lookup,  bt_bit_lookup,
        bt_atomic_lookup, bt_stack_lookup, bt_string_lookup, bt_misc_lookup,
    };

    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        bt_op *op = table[i](z, ops, in);

        if (op)
            return op;
    }
    return NULL;
}

/* System instructions after which the block goes on: they change nothing that decoding or events see. */
static bool bt_decode_sys_goes_on(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        return true;
    case ZYDIS_MNEMONIC_MOV: /* from a control, debug or segment register */
        return ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ||
               (ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                ZydisRegisterGetId(ops[0].reg.value) >= 0 &&
                ZydisRegisterGetClass(ops[0].reg.value) != ZYDIS_REGCLASS_CONTROL &&
                ZydisRegisterGetClass(ops[0].reg.value) != ZYDIS_REGCLASS_DEBUG &&
                ZydisRegisterGetClass(ops[0].reg.value) != ZYDIS_REGCLASS_SEGMENT);
    default:
        return false;
    }
}

static void bt_decode_choose(struct bt_cpu *c, const uint8_t *bytes,
                             const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                             struct bt_insn *in, unsigned *flags)
{
    *flags = 0;
    in->op = bt_branch_lookup(c, z, ops, in);
    if (in->op) {
        *flags = BT_DECODE_END;
        return;
    }
    in->op = bt_decode_integer(z, ops, in);
    if (in->op)
        return;
    in->op = bt_sys_lookup(z, ops, in);
    if (in->op) {
        *flags = BT_DECODE_CALL;
        if (!bt_decode_sys_goes_on(z, ops))
            *flags |= BT_DECODE_END | BT_DECODE_LOOP;
        return;
    }
    in->op = bt_native_lookup(c, bytes, z, ops, in);
    if (in->op) {
        *flags = BT_DECODE_CALL;
        return;
    }
    in->op = bt_op_ud;
    *flags = BT_DECODE_END;
}

/* Its length is that of the bytes it was found invalid by: if one of them changes, it may be valid. */
static void bt_decode_invalid(struct bt_insn *in, bt_op *op, size_t n, unsigned *flags)
{
    *in = (struct bt_insn){ .op = op,
                            .len = (uint8_t)(n > BT_INSN_MAX ? BT_INSN_MAX : n),
                            .rm = BT_REG_NONE,
                            .base = BT_REG_NONE,
                            .index = BT_REG_NONE };
    *flags = BT_DECODE_END;
}

/*
 * ModRM.mod 0 with SIB.base 5 means a displacement and no base, whatever REX.B says; with 32-bit addresses
 * Zydis 4.0 takes R13D for the base.
 */
static void bt_decode_repair(const ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
    if (!z->raw.sib.offset || z->raw.modrm.mod != 0 || z->raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY || ops[i].mem.base == ZYDIS_REGISTER_NONE ||
            ops[i].encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        ops[i].mem.base = ZYDIS_REGISTER_NONE;
        ops[i].mem.disp.has_displacement = true;
        ops[i].mem.disp.value = z->raw.disp.value;
    }
}

enum bt_decode_result bt_decode_full(struct bt_cpu *c, const uint8_t *bytes, size_t n,
                                     struct bt_insn *in, unsigned *flags,
                                     ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
    ZydisDecoder d;
    ZyanStatus status;

    bt_fpu_store(c); /* Zydis is an ordinary library */
    bt_decode_init(c, &d);
    status = ZydisDecoderDecodeFull(&d, bytes, n > BT_INSN_MAX ? BT_INSN_MAX : n, z, ops);
    if (ZYAN_SUCCESS(status)) {
        bt_decode_repair(z, ops);
        bt_decode_fields(z, ops, in);
        bt_decode_choose(c, bytes, z, ops, in, flags);
        return BT_DECODE_OK;
    }
    if (status == ZYDIS_STATUS_NO_MORE_DATA && n < BT_INSN_MAX)
        return BT_DECODE_MORE;
    if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        bt_decode_invalid(in, bt_op_gp, n, flags);
    else
        bt_decode_invalid(in, bt_op_ud, n, flags);
    return BT_DECODE_OK;
}

/* Keeps what the instruction was decoded to, if it is that of its form. */
static void bt_decode_keep(struct bt_cpu *c, const uint8_t *bytes, const struct bt_form_parts *p,
                           bool one, const ZydisDecodedInstruction *z, const struct bt_insn *in,
                           unsigned flags)
{
    struct bt_form *f;
    int32_t disp = in->disp;
    int64_t imm = in->imm;

    if (in->op == bt_op_ud || in->op == bt_op_gp)
        return;
    f = bt_form_at(c, bytes, p, one); /* decoding may have emptied the table */
    if (!bt_form_agrees(f, p, z))
        return;
    bt_form_numbers(f, p, bytes, &disp, &imm);
    if (disp != in->disp || imm != in->imm)
        return;
    f->op = *in;
    f->flags = (uint8_t)flags;
    f->has_op = true;
}

enum bt_decode_result bt_decode(struct bt_cpu *c, const uint8_t *bytes, size_t n,
                                struct bt_insn *in, unsigned *flags)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    bool one = c->decode_one, kept;
    enum bt_decode_result r;
    ZydisDecodedInstruction z;
    struct bt_form_parts p;
    struct bt_form *f;

    kept = bt_form_scan(bytes, n, c->code_size, &p);
    f = kept ? bt_form_at(c, bytes, &p, one) : NULL;
    if (f && f->has_op) {
        *in = f->op;
        *flags = f->flags;
        bt_form_numbers(f, &p, bytes, &in->disp, &in->imm);
        return BT_DECODE_OK;
    }
    r = bt_decode_full(c, bytes, n, in, flags, &z, ops);
    if (kept && r == BT_DECODE_OK)
        bt_decode_keep(c, bytes, &p, one, &z, in, *flags);
    return r;
}
