/*
 * bt_jit_code32.c: 32-bit code in the translator: segments, and encodings that mean something else, or
 * nothing, in 64-bit code. It is translated only where CS, DS, ES and SS are flat (BT_KEY_FLAT).
 *
 * vCPU thread; the FPU state is stored.
 */
#include <string.h>

#include "accel/bt/bt_jit_insn.h"
#include "accel/bt/bt_native.h"

bool bt_jit_code32_mem(const struct bt_cpu *c, const struct bt_jit_insn *in)
{
    switch (in->seg) {
    case X86_CS: /* may not be readable */
        return false;
    case X86_FS:
        return c->code_key & BT_KEY_FS;
    case X86_GS:
        return c->code_key & BT_KEY_GS;
    default:
        return true;
    }
}

/* INC and DEC of a register have the opcodes of REX: FF /0 and /1. */
static void code32_inc(struct bt_jit_insn *in)
{
    unsigned op = in->bytes[in->opcode];

    in->own[0] = 0xff;
    in->own[1] = (uint8_t)(0xc0 | (op & 0xf));
    in->bytes = in->own;
    in->opcode = 0;
    in->modrm = 1;
    in->imm = in->len;
    in->slot[BT_JIT_SLOT_RM] = in->slot[BT_JIT_SLOT_OP];
    in->slot[BT_JIT_SLOT_OP].reg = BT_JIT_NO_REG;
}

/* MOV of the accumulator has its address behind the opcode: 88 to 8B. */
static void code32_moffs(struct bt_jit_insn *in)
{
    unsigned op = in->bytes[in->opcode];

    in->own[0] = (uint8_t)(0x88 | (op & 1) | (~op & 2));
    in->own[1] = 0;
    in->bytes = in->own;
    in->opcode = 0;
    in->modrm = 1;
    in->imm = in->len;
}

/* Bits that only 64-bit code looks at become what they are there for the lower eight registers. */
static void code32_vex(struct bt_jit_insn *in, bool w_is_gpr)
{
    enum { NOT_X = 0x40, NOT_B = 0x20, NOT_VVVV3 = 0x40, W = 0x80 };
    uint8_t *p;

    memcpy(in->own, in->bytes, in->len);
    in->bytes = in->own;
    p = in->own + in->prefix;
    if (p[0] == 0xc5) {
        p[1] |= NOT_VVVV3;
        return;
    }
    p[1] |= NOT_X | NOT_B;
    p[2] |= NOT_VVVV3;
    if (w_is_gpr)
        p[2] &= (uint8_t)~W;
}

static void code32_evex(struct bt_jit_insn *in, bool w_is_gpr)
{
    enum { NOT_R_X_B_R2 = 0xf0, NOT_VVVV3 = 0x40, NOT_V2 = 0x08, W = 0x80 };
    uint8_t *p;

    memcpy(in->own, in->bytes, in->len);
    in->bytes = in->own;
    p = in->own + in->prefix;
    p[1] |= NOT_R_X_B_R2;
    p[2] |= NOT_VVVV3;
    p[3] |= NOT_V2;
    if (w_is_gpr)
        p[2] &= (uint8_t)~W;
}

bool bt_jit_code32_bytes(struct bt_jit_insn *in, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops)
{
    bool w_is_gpr = bt_stub_w_is_gpr(z, ops);

    for (unsigned i = 0; i < z->operand_count; i++) /* the fourth bit of that register's number */
        if (ops[i].encoding == ZYDIS_OPERAND_ENCODING_IS4 && (in->bytes[in->imm] & 0x80))
            return false;
    if (in->encoding == BT_JIT_VEX) {
        code32_vex(in, w_is_gpr);
        return true;
    }
    if (in->encoding == BT_JIT_EVEX) {
        code32_evex(in, w_is_gpr);
        return true;
    }
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        return true;
    if (z->opcode >= 0x40 && z->opcode < 0x50)
        code32_inc(in);
    if (z->opcode >= 0xa0 && z->opcode < 0xa4)
        code32_moffs(in);
    return z->opcode != 0x82; /* 80 once more, which 64-bit code has not */
}
