/*
 * bt_emit.h: a small assembler for 64-bit host code. Registers are numbers of enum x86_gpr. The caller
 * has made sure of the room. None of these checks that an encoding exists.
 */
#ifndef ACCEL_BT_BT_EMIT_H
#define ACCEL_BT_BT_EMIT_H

#include "base/endian.h"
#include "x86/regs.h"

struct bt_emit {
    uint8_t *p;
};

enum { /* opcodes as bt_emit_rr() and bt_emit_rm() take them */
       OP_ADD = 0x01,
       OP_OR = 0x09,
       OP_AND = 0x21,
       OP_SUB = 0x29,
       OP_XOR = 0x31,
       OP_CMP = 0x39,
       OP_TEST = 0x85,
       OP_STORE = 0x89,
       OP_LOAD = 0x8b,
       OP_LEA = 0x8d,
       OP_ADD_LOAD = 0x03,
       OP_SUB_LOAD = 0x2b,
       OP_XOR_LOAD = 0x33,
       OP_CMP_LOAD = 0x3b,
};

static inline void bt_emit8(struct bt_emit *e, unsigned b)
{
    *e->p++ = (uint8_t)b;
}

static inline void bt_emit16(struct bt_emit *e, unsigned v)
{
    bt_emit8(e, v);
    bt_emit8(e, v >> 8);
}

static inline void bt_emit32(struct bt_emit *e, uint32_t v)
{
    st_le32(e->p, v);
    e->p += 4;
}

static inline void bt_emit64(struct bt_emit *e, uint64_t v)
{
    st_le64(e->p, v);
    e->p += 8;
}

/*
 * The parts of an instruction at p; what follows them is returned. Not by way of e: a byte may be anything's, so
 * that the compiler would load and store e->p for each.
 */
static inline uint8_t *bt_put_rex(uint8_t *p, bool w, unsigned reg, unsigned index, unsigned base)
{
    unsigned rex = 0x40u | (unsigned)w << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;

    *p = (uint8_t)rex;
    return p + (rex != 0x40);
}

/* A displacement as ModRM.mod has it */
static inline uint8_t *bt_put_disp(uint8_t *p, unsigned mod, int32_t disp)
{
    if (mod == 0)
        return p;
    st_le32(p, (uint32_t)disp);
    return p + (mod == 1 ? 1 : 4);
}

static inline unsigned bt_emit_mod(unsigned base, int32_t disp)
{
    return disp == 0 && (base & 7) != X86_RBP ? 0 : disp == (int8_t)disp ? 1 : 2;
}

/* ModRM, SIB and displacement of [base + disp] */
static inline uint8_t *bt_put_modrm(uint8_t *p, unsigned reg, unsigned base, int32_t disp)
{
    unsigned mod = bt_emit_mod(base, disp);

    *p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | (base & 7));
    if ((base & 7) == X86_RSP)
        *p++ = 0x24;
    return bt_put_disp(p, mod, disp);
}

static inline void bt_emit_rex(struct bt_emit *e, bool w, unsigned reg, unsigned index,
                               unsigned base)
{
    e->p = bt_put_rex(e->p, w, reg, index, base);
}

static inline void bt_emit_modrm(struct bt_emit *e, unsigned reg, unsigned base, int32_t disp)
{
    e->p = bt_put_modrm(e->p, reg, base, disp);
}

/* op rm, reg (or op reg, rm, as the opcode has it) */
static inline void bt_emit_rr(struct bt_emit *e, unsigned op, bool w, unsigned reg, unsigned rm)
{
    uint8_t *p = bt_put_rex(e->p, w, reg, 0, rm);

    *p++ = (uint8_t)op;
    *p++ = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
    e->p = p;
}

/* op [base + disp], reg */
static inline void bt_emit_rm(struct bt_emit *e, unsigned op, bool w, unsigned reg, unsigned base,
                              int32_t disp)
{
    uint8_t *p = bt_put_rex(e->p, w, reg, 0, base);

    *p++ = (uint8_t)op;
    e->p = bt_put_modrm(p, reg, base, disp);
}

/* op [base + index * scale + disp], reg; index is not RSP; base RSP + 32: none */
enum { BT_EMIT_NO_BASE = 32 };
static inline void bt_emit_rmx(struct bt_emit *e, unsigned op, bool w, unsigned reg, unsigned base,
                               unsigned index, unsigned scale, int32_t disp)
{
    unsigned ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
    bool none = base == BT_EMIT_NO_BASE;
    unsigned mod = none ? 0 : bt_emit_mod(base, disp);
    uint8_t *p = bt_put_rex(e->p, w, reg, index, none ? 0 : base);

    *p++ = (uint8_t)op;
    *p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | 4);
    *p++ = (uint8_t)(ss << 6 | (index & 7) << 3 | (none ? X86_RBP : base & 7));
    e->p = bt_put_disp(p, none ? 2 : mod, disp);
}

static inline void bt_emit_push(struct bt_emit *e, unsigned reg)
{
    bt_emit_rex(e, false, 0, 0, reg);
    bt_emit8(e, 0x50 | (reg & 7));
}

static inline void bt_emit_pop(struct bt_emit *e, unsigned reg)
{
    bt_emit_rex(e, false, 0, 0, reg);
    bt_emit8(e, 0x58 | (reg & 7));
}

/* mov to, from */
static inline void bt_emit_mov(struct bt_emit *e, unsigned to, unsigned from)
{
    if (to != from)
        bt_emit_rr(e, OP_STORE, true, from, to);
}

/* mov reg, [RSP + off] and back: struct bt_cpu and its frame */
static inline void bt_emit_load(struct bt_emit *e, unsigned reg, int off)
{
    bt_emit_rm(e, OP_LOAD, true, reg, X86_RSP, off);
}

static inline void bt_emit_store(struct bt_emit *e, unsigned reg, int off)
{
    bt_emit_rm(e, OP_STORE, true, reg, X86_RSP, off);
}

/* mov reg, imm: shortest; changes no flags */
static inline void bt_emit_imm(struct bt_emit *e, unsigned reg, uint64_t v)
{
    if (v == (uint32_t)v) {
        bt_emit_rex(e, false, 0, 0, reg);
        bt_emit8(e, 0xb8 | (reg & 7));
        bt_emit32(e, (uint32_t)v);
    } else if (v == (uint64_t)(int64_t)(int32_t)v) {
        bt_emit_rr(e, 0xc7, true, 0, reg);
        bt_emit32(e, (uint32_t)v);
    } else {
        bt_emit_rex(e, true, 0, 0, reg);
        bt_emit8(e, 0xb8 | (reg & 7));
        bt_emit64(e, v);
    }
}

/* Group 1 with a 32-bit immediate: n is ModRM.reg (0 ADD, 4 AND, 7 CMP) */
static inline void bt_emit_alu_imm(struct bt_emit *e, unsigned n, bool w, unsigned reg, int32_t v)
{
    if (v == (int8_t)v) {
        bt_emit_rr(e, 0x83, w, n, reg);
        bt_emit8(e, (unsigned)v);
    } else {
        bt_emit_rr(e, 0x81, w, n, reg);
        bt_emit32(e, (uint32_t)v);
    }
}

/* lea rsp, [rsp + n] */
static inline void bt_emit_rsp(struct bt_emit *e, int n)
{
    bt_emit_rm(e, OP_LEA, true, X86_RSP, X86_RSP, n);
}

#endif
