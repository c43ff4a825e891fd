/*
 * bt_jit_decode.c: guest bytes to struct bt_jit_insn: what an instruction is for the translator, where its
 * registers are encoded, and what it does to registers and flags. vCPU thread; the FPU state is stored.
 */
#include "accel/bt/bt_form.h"
#include "accel/bt/bt_jit_insn.h"
#include "accel/bt/bt_sysops.h"
#include "accel/bt/bt_native.h"
#include "accel/bt/bt_ops.h"

/* The integer instructions that are emitted as they are. */
static bool jit_integer(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADOX:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XOR:
        return true;
    default:
        return false;
    }
}

static bool jit_conditional(ZydisMnemonic m)
{
    return bt_cc_of(m) >= 0; /* Jcc is not asked for */
}

/* --- registers --- */
static bool jit_slot(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op,
                     struct bt_jit_insn *in)
{
    struct bt_jit_slot *s;
    ZydisRegister r = op->reg.value;
    bool high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;

    switch (op->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        s = &in->slot[BT_JIT_SLOT_REG];
        break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        s = &in->slot[BT_JIT_SLOT_RM];
        break;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        s = &in->slot[BT_JIT_SLOT_VVVV];
        break;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        s = &in->slot[BT_JIT_SLOT_OP];
        break;
    case ZYDIS_OPERAND_ENCODING_NONE: /* implicit: it must be where the host looks for it */
        return bt_native_gpr(r) != X86_RSP && !bt_jit_in_memory(bt_native_gpr(r)) &&
               !(high && in->mem);
    default:
        return false;
    }
    s->reg = (uint8_t)bt_native_gpr(r);
    s->high = high;
    s->byte = !high && op->size == 8;
    s->store = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    s->load = op->actions != ZYDIS_OPERAND_ACTION_WRITE || op->size < 32 ||
              z->mnemonic == ZYDIS_MNEMONIC_BSF || z->mnemonic == ZYDIS_MNEMONIC_BSR;
    return true;
}

/* ALU, MOV, TEST, XCHG of a high byte and memory: they have no other registers. */
static bool jit_swaps_high(const struct bt_jit_insn *in)
{
    unsigned op = in->bytes[in->opcode];

    return in->encoding == BT_JIT_LEGACY && (op < 0x40 || (op >= 0x84 && op <= 0x8b)) && op != 0x0f;
}

/* Can the registers of the instruction be renamed? */
static bool jit_slots(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_jit_insn *in)
{
    bool ok = true, high = false, rex = in->mem || in->rex;
    unsigned in_memory = 0, loaded = 0;

    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        in->slot[i].reg = BT_JIT_NO_REG;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *op = &ops[i];
        unsigned r;

        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        r = bt_native_gpr(op->reg.value);
        if (r == BT_JIT_NO_REG)
            continue;
        if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            in->writes |= (uint16_t)BIT(r);
        ok = ok && jit_slot(z, op, in);
    }
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++) {
        const struct bt_jit_slot *s = &in->slot[i];

        if (s->reg == BT_JIT_NO_REG)
            continue;
        if (bt_jit_in_memory(s->reg)) {
            in_memory |= BIT(s->reg);
            loaded |= s->load ? BIT(s->reg) : 0;
        }
        high |= s->high;
        rex |= s->reg >= 8 || (s->byte && s->reg >= 4) || s->reg == X86_RSP;
    }
    in->high_swap = in->mem && high && jit_swaps_high(in);
    if (high && rex && !in->high_swap) /* the high bytes cannot be named beside REX */
        ok = false;
    /* Two scratch registers, one of which has the address: what is only written may take its place. */
    return ok && __builtin_popcount(loaded) <= (in->mem ? 1 : 2) &&
           __builtin_popcount(in_memory & ~loaded) <= 2 && __builtin_popcount(in_memory) <= 3;
}

/* --- flags --- */
static void jit_flags(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_jit_insn *in)
{
    const ZydisAccessedFlags *a = z->cpu_flags;
    uint32_t written, undefined;

    if (!a)
        return;
    written = (a->modified | a->set_0 | a->set_1) & FLAG_ARITH;
    undefined = a->undefined & FLAG_ARITH;
    in->flags_use = a->tested & FLAG_ARITH;
    in->flags_change = (uint16_t)(written | undefined);
    in->flags_def = (uint16_t)(written & ~undefined);
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_AND: /* AF is undefined, and 0 */
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
        in->flags_def = in->flags_change = FLAG_ARITH;
        break;
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SHRD:
        if (ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER || in->flags_def != FLAG_ARITH) {
            /* a count of 0 changes nothing */
            in->flags_def = 0;
            in->flags_change = FLAG_ARITH;
        }
        break;
    default:
        break;
    }
}

/* --- encoding --- */
static bool jit_encoding(const ZydisDecodedInstruction *z, struct bt_jit_insn *in)
{
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        uint8_t b = z->raw.prefixes[i].value;

        in->p66 |= b == 0x66;
        in->lock |= b == 0xf0;
        if (b == 0xf2 || b == 0xf3)
            in->rep = b;
    }
    switch (z->encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
        in->encoding = BT_JIT_LEGACY;
        in->prefix = z->raw.prefix_count;
        in->opcode = in->prefix;
        if (z->attributes & ZYDIS_ATTRIB_HAS_REX) {
            in->prefix = z->raw.rex.offset;
            in->rex = in->bytes[in->prefix];
            in->opcode = (uint8_t)(in->prefix + 1);
        }
        break;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        in->encoding = BT_JIT_VEX;
        in->prefix = z->raw.vex.offset;
        in->opcode = (uint8_t)(in->prefix + (in->bytes[in->prefix] == 0xc5 ? 2 : 3));
        break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        in->encoding = BT_JIT_EVEX;
        in->prefix = z->raw.evex.offset;
        in->opcode = (uint8_t)(in->prefix + 4);
        break;
    default:
        return false;
    }
    in->modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM ? z->raw.modrm.offset : 0;
    in->imm = z->length;
    if (z->raw.imm[0].size)
        in->imm = z->raw.imm[0].offset;
    else if (in->modrm && z->opcode_map != ZYDIS_OPCODE_MAP_0F0F)
        in->imm = (uint8_t)(in->modrm + 1 + (z->raw.sib.offset ? 1 : 0) + z->raw.disp.size / 8);
    return z->opcode_map != ZYDIS_OPCODE_MAP_0F0F;
}

/* --- memory --- */
static uint8_t jit_ea_reg(ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE)
        return BT_REG_NONE;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return BT_REG_RIP;
    return (uint8_t)bt_native_gpr(r);
}

static bool jit_mem_known(const struct bt_jit_insn *in, const ZydisDecodedOperand *m)
{
    return m->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
           (m->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64 && in->word == 4);
}

/* The operand that ModRM describes. false: there is another one, or one of a kind that is not known. */
static bool jit_mem(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                    struct bt_jit_insn *in)
{
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *m = &ops[i];

        if (m->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (in->mem || !jit_mem_known(in, m) ||
            (m->mem.type != ZYDIS_MEMOP_TYPE_MEM && m->mem.type != ZYDIS_MEMOP_TYPE_AGEN))
            return false;
        in->mem = true;
        in->mem_size = m->size / 8;
        in->mem_read = m->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
        in->mem_write = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        in->asize = z->address_width / 8;
        in->seg = (uint8_t)ZydisRegisterGetId(m->mem.segment);
        in->base = jit_ea_reg(m->mem.base);
        in->index = jit_ea_reg(m->mem.index);
        in->scale = m->mem.scale ? m->mem.scale : 1;
        in->disp = (int32_t)m->mem.disp.value;
        if (in->asize < 4)
            return false;
        if (m->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            return true;
        if (!in->mem_size || in->mem_size > 64)
            return false;
    }
    return true;
}

/* --- what it is --- */
static bool jit_segment(const struct bt_cpu *c, const struct bt_jit_insn *in)
{
    return c->code_size == 8 || !in->mem || bt_jit_code32_mem(c, in);
}

static bool jit_loop(const ZydisDecodedInstruction *z, struct bt_jit_insn *in)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_LOOP:
        in->cc = BT_JIT_LOOP_ANY;
        break;
    case ZYDIS_MNEMONIC_LOOPE:
        in->cc = BT_JIT_LOOP_E;
        break;
    case ZYDIS_MNEMONIC_LOOPNE:
        in->cc = BT_JIT_LOOP_NE;
        break;
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        in->cc = BT_JIT_RCXZ;
        return true;
    default:
        return false;
    }
    in->writes = BIT(X86_RCX);
    return true;
}

static void jit_branch(const struct bt_cpu *c, const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *ops, struct bt_jit_insn *in)
{
    bool rel = ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

    in->kind = BT_JIT_LEAVE;
    in->value = rel ? z->raw.imm[0].value.s : 0;
    if (in->lock || in->p66)
        return;
    if (z->meta.category == ZYDIS_CATEGORY_COND_BR && bt_cc_of(z->mnemonic) >= 0) {
        in->kind = BT_JIT_JCC;
        in->cc = (uint8_t)bt_cc_of(z->mnemonic);
    } else if (z->address_width >= 32 && jit_loop(z, in)) {
        in->kind = BT_JIT_LOOP;
        in->asize = z->address_width / 8;
    } else if (z->mnemonic == ZYDIS_MNEMONIC_JMP) {
        in->kind = rel ? BT_JIT_JMP : BT_JIT_JMP_IND;
    } else if (z->mnemonic == ZYDIS_MNEMONIC_CALL) {
        in->kind = rel ? BT_JIT_CALL : BT_JIT_CALL_IND;
        in->writes |= BIT(X86_RSP);
    } else if (z->mnemonic == ZYDIS_MNEMONIC_RET) {
        in->kind = BT_JIT_RET;
        in->value = z->raw.imm[0].size ? (int64_t)z->raw.imm[0].value.u : 0;
        in->writes |= BIT(X86_RSP);
    }
    /* Their memory operand is the stack's as well: this one is ModRM's. */
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            ZydisDecodedInstruction one = *z;

            one.operand_count = 1;
            if (!jit_mem(&one, &ops[i], in) || !jit_segment(c, in))
                in->kind = BT_JIT_LEAVE;
            in->mem_size = in->word;
        } else {
            in->slot[BT_JIT_SLOT_RM].reg = (uint8_t)bt_native_gpr(ops[i].reg.value);
        }
    }
}

static bool jit_stack(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_jit_insn *in)
{
    if (z->mnemonic == ZYDIS_MNEMONIC_LEAVE && z->operand_width == in->word * 8) {
        in->kind = BT_JIT_LEAVEQ;
        in->writes = BIT(X86_RSP) | BIT(X86_RBP);
        return true;
    }
    if ((z->mnemonic != ZYDIS_MNEMONIC_PUSH && z->mnemonic != ZYDIS_MNEMONIC_POP) ||
        z->operand_width != in->word * 8)
        return false;
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        in->slot[i].reg = BT_JIT_NO_REG;
    if (ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        in->value = z->raw.imm[0].value.s;
    } else if (ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
               bt_native_gpr(ops[0].reg.value) != BT_JIT_NO_REG) {
        in->slot[BT_JIT_SLOT_OP].reg = (uint8_t)bt_native_gpr(ops[0].reg.value);
    } else {
        return false;
    }
    in->kind = z->mnemonic == ZYDIS_MNEMONIC_PUSH ? BT_JIT_PUSH : BT_JIT_POP;
    in->writes = BIT(X86_RSP);
    if (in->kind == BT_JIT_POP) {
        if (in->slot[BT_JIT_SLOT_OP].reg == X86_RSP)
            return false;
        in->writes |= (uint16_t)BIT(in->slot[BT_JIT_SLOT_OP].reg);
    }
    return true;
}

#define JIT_STRING(name)                                                                           \
    case ZYDIS_MNEMONIC_##name##B:                                                                 \
    case ZYDIS_MNEMONIC_##name##W:                                                                 \
    case ZYDIS_MNEMONIC_##name##D:                                                                 \
    case ZYDIS_MNEMONIC_##name##Q:                                                                 \
        in->cc = BT_JIT_##name

/* cc says which, size the element. */
static bool jit_string(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                       struct bt_jit_insn *in)
{
    if (in->lock || z->address_width != in->word * 8 ||
        z->meta.category != ZYDIS_CATEGORY_STRINGOP) /* MOVSD and CMPSD are of SSE, too */
        return false;
    switch (z->mnemonic) {
        JIT_STRING(MOVS);
        in->writes = BIT(X86_RCX) | BIT(X86_RDI) | BIT(X86_RSI);
        break;
        JIT_STRING(STOS);
        in->writes = BIT(X86_RCX) | BIT(X86_RDI);
        break;
        JIT_STRING(LODS);
        in->writes = BIT(X86_RAX) | BIT(X86_RSI);
        break;
        JIT_STRING(SCAS);
        in->writes = BIT(X86_RDI);
        break;
        JIT_STRING(CMPS);
        in->writes = BIT(X86_RDI) | BIT(X86_RSI);
        break;
    default:
        return false;
    }
    if (in->rep && in->cc != BT_JIT_MOVS && in->cc != BT_JIT_STOS)
        return false;
    for (unsigned i = 0; i < z->operand_count; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (ops[i].mem.segment == ZYDIS_REGISTER_FS || ops[i].mem.segment == ZYDIS_REGISTER_GS ||
             (ops[i].mem.segment == ZYDIS_REGISTER_CS && in->word == 4)))
            return false;
    in->kind = BT_JIT_STRING;
    return true;
}

/* BT and its kin with a bit of a register somewhere from the operand on. */
static bool jit_bit_string(const ZydisDecodedInstruction *z, const struct bt_jit_insn *in)
{
    unsigned reg = in->slot[BT_JIT_SLOT_REG].reg;

    return in->mem && z->mnemonic >= ZYDIS_MNEMONIC_BT && z->mnemonic <= ZYDIS_MNEMONIC_BTS &&
           reg != BT_JIT_NO_REG;
}

static bool jit_push_mem(const struct bt_cpu *c, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops, struct bt_jit_insn *in)
{
    ZydisDecodedInstruction one = *z;

    one.operand_count = 1;
    if (z->mnemonic != ZYDIS_MNEMONIC_PUSH || z->operand_width != in->word * 8 || in->lock ||
        ops[0].type != ZYDIS_OPERAND_TYPE_MEMORY || !jit_mem(&one, ops, in) || !jit_segment(c, in))
        return false;
    in->kind = BT_JIT_PUSH_MEM;
    in->writes = BIT(X86_RSP);
    return true;
}

/* Exceptions that MXCSR may unmask (SDM 2A 2.4, 2.8: not all types have them). */
static bool jit_may_trap(const ZydisDecodedInstruction *z)
{
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
    case ZYDIS_EXCEPTION_CLASS_SSE5:
    case ZYDIS_EXCEPTION_CLASS_SSE7:
    case ZYDIS_EXCEPTION_CLASS_AVX1:
    case ZYDIS_EXCEPTION_CLASS_AVX4:
    case ZYDIS_EXCEPTION_CLASS_AVX5:
    case ZYDIS_EXCEPTION_CLASS_AVX7:
    case ZYDIS_EXCEPTION_CLASS_AVX8:
    case ZYDIS_EXCEPTION_CLASS_E1:
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E4:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
        return false;
    default:
        return true;
    }
}

static bool jit_native(struct bt_cpu *c, const ZydisDecodedInstruction *z, const struct bt_insn *op,
                       struct bt_jit_insn *in)
{
    uint8_t class = BT_CLASS_NONE;

    if (!(bt_native_is_plain(op->op) || bt_mask_is_contiguous(op->op)) ||
        !bt_isa_allowed(c, z, &class) || !bt_jit_x87_decode(c, &op->native->plan, in))
        return false;
    if (in->mem) {
        in->mem_size = op->native->plan.mem_size;
        in->mem_write = op->native->plan.access & BT_ACCESS_WRITE;
    }
    in->faults = in->fpu && (in->mem || jit_may_trap(z));
    return true;
}

static bool jit_fence(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_LFENCE || m == ZYDIS_MNEMONIC_MFENCE || m == ZYDIS_MNEMONIC_SFENCE;
}

/* System instructions that need no C most of the time. */
static bool jit_sys(const struct bt_cpu *c, const ZydisDecodedInstruction *z,
                    struct bt_jit_insn *in)
{
    bool super = c->cpl == 0;

    if (in->lock || in->p66)
        return false;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CLD:
        in->cc = BT_JIT_CLD;
        super = true;
        break;
    case ZYDIS_MNEMONIC_STD:
        in->cc = BT_JIT_STD;
        super = true;
        break;
    case ZYDIS_MNEMONIC_CLI:
        in->cc = BT_JIT_CLI;
        break;
    case ZYDIS_MNEMONIC_STI:
        in->cc = BT_JIT_STI;
        break;
    case ZYDIS_MNEMONIC_SWAPGS:
        in->cc = BT_JIT_SWAPGS;
        break;
    case ZYDIS_MNEMONIC_CLAC:
        in->cc = BT_JIT_CLAC;
        super = super && (c->code_key & BT_KEY_SMAP);
        break;
    case ZYDIS_MNEMONIC_STAC:
        in->cc = BT_JIT_STAC;
        super = super && (c->code_key & BT_KEY_SMAP);
        break;
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        in->cc = BT_JIT_PUSHF;
        in->writes = BIT(X86_RSP);
        super = true;
        break;
    case ZYDIS_MNEMONIC_RDTSCP:
        in->cc = BT_JIT_RDTSCP;
        in->writes = BIT(X86_RAX) | BIT(X86_RDX) | BIT(X86_RCX);
        super = (c->code_key & BT_KEY_TSC) && bt_has(c, BT_HAS_RDTSCP);
        break;
    case ZYDIS_MNEMONIC_RDTSC:
        in->cc = BT_JIT_RDTSC;
        in->writes = BIT(X86_RAX) | BIT(X86_RDX);
        super = c->code_key & BT_KEY_TSC;
        break;
    default:
        return false;
    }
    in->kind = BT_JIT_SYS;
    return super;
}

static bool jit_raw(struct bt_cpu *c, const ZydisDecodedInstruction *z,
                    const ZydisDecodedOperand *ops, const struct bt_insn *op, unsigned flags,
                    struct bt_jit_insn *in)
{
    bool integer = z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
                   (jit_integer(z->mnemonic) || jit_conditional(z->mnemonic));

    if (flags & BT_DECODE_CALL)
        integer = jit_fence(z->mnemonic); /* and not MOV of a control register, say */
    if (z->mnemonic == ZYDIS_MNEMONIC_NOP || z->mnemonic == ZYDIS_MNEMONIC_ENDBR64 ||
        z->mnemonic == ZYDIS_MNEMONIC_ENDBR32 || op->op == bt_op_nop ||
        z->meta.category == ZYDIS_CATEGORY_PREFETCH) {
        in->kind = BT_JIT_NOP;
        return true;
    }
    if (!jit_mem(z, ops, in) || !jit_slots(z, ops, in))
        return false;
    if (z->mnemonic == ZYDIS_MNEMONIC_LEA) {
        in->kind = BT_JIT_LEA;
        return in->asize == 8 || in->size != 2;
    }
    if (c->code_size != 8 && (!jit_segment(c, in) || !bt_jit_code32_bytes(in, z, ops)))
        return false;
    if (!integer && !jit_native(c, z, op, in))
        return false;
    if (z->mnemonic == ZYDIS_MNEMONIC_DIV || z->mnemonic == ZYDIS_MNEMONIC_IDIV ||
        z->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B)
        in->faults = true;
    in->fldcw = z->mnemonic == ZYDIS_MNEMONIC_FLDCW;
    if (z->mnemonic == ZYDIS_MNEMONIC_XCHG && in->mem)
        in->lock = true; /* as if it had the prefix */
    in->kind = BT_JIT_RAW;
    if (jit_bit_string(z, in)) { /* the bit may lie outside the operand */
        in->kind = BT_JIT_BITS;
        return in->size >= 4 && in->asize == in->word;
    }
    return true;
}

/* Fills in *in, whose bytes and length are set, from what they were decoded to. */
static void jit_classify(struct bt_cpu *c, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops, const struct bt_insn *op, unsigned flags,
                         struct bt_jit_insn *in)
{
    const uint8_t kind = flags & BT_DECODE_END ? BT_JIT_LEAVE : BT_JIT_INTERP;

    in->kind = kind;
    if (op->op == bt_op_ud || op->op == bt_op_gp)
        return;
    if (jit_encoding(z, in)) {
        if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
            z->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR) {
            jit_branch(c, z, ops, in);
            jit_flags(z, ops, in);
            return;
        }
        if (jit_sys(c, z, in))
            return;
        if (!(flags & BT_DECODE_END) &&
            (jit_stack(z, ops, in) || jit_string(z, ops, in) || jit_push_mem(c, z, ops, in) ||
             jit_raw(c, z, ops, op, flags, in))) {
            jit_flags(z, ops, in);
            return;
        }
    }
    in->kind = kind;
    in->mem = false;
    in->flags_use = in->flags_change = FLAG_ARITH;
    in->writes = 0xffff;
}

/* Keeps what the instruction is, if that is so for all of its form. */
static void jit_keep(const struct bt_cpu *c, const uint8_t *bytes, const struct bt_form_parts *p,
                     const ZydisDecodedInstruction *z, const struct bt_jit_insn *in)
{
    struct bt_form *f = bt_form_at(c, bytes, p, false);
    int32_t disp = in->disp;
    int64_t value = in->value;

    if (!bt_form_agrees(f, p, z))
        return;
    bt_form_numbers(f, p, bytes, &disp, &value);
    if ((in->mem && disp != in->disp) || value != in->value)
        return;
    f->jit = *in;
    f->has_jit = true;
}

bool bt_jit_decode(struct bt_cpu *c, const uint8_t *bytes, unsigned n, struct bt_jit_insn *in)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction z;
    struct bt_form_parts p;
    const struct bt_form *f;
    struct bt_insn op;
    unsigned flags;
    /* In 32-bit code other bytes may stand for the instruction's, numbers and all. */
    bool kept = c->code_size == 8 && bt_form_scan(bytes, n, 8, &p);

    f = kept ? bt_form_at(c, bytes, &p, false) : NULL;
    if (f && f->has_jit) {
        *in = f->jit;
        in->bytes = bytes;
        bt_form_numbers(f, &p, bytes, &in->disp, &in->value);
        return true;
    }
    if (bt_decode_full(c, bytes, n, &op, &flags, &z, ops) != BT_DECODE_OK)
        return false;
    *in = (struct bt_jit_insn){
        .bytes = bytes, .len = op.len, .size = op.size, .value = op.imm, .word = c->code_size
    };
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        in->slot[i].reg = BT_JIT_NO_REG;
    jit_classify(c, &z, ops, &op, flags, in);
    if (kept && op.op != bt_op_ud && op.op != bt_op_gp)
        jit_keep(c, bytes, &p, &z, in);
    return true;
}
