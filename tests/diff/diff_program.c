/*
 * diff_program.c: random programs, the translator against the interpreter: what single instructions do not
 * show (flags from one to the next, shared checks of accesses, the stack, branches, faults in between).
 *
 * Memory is reached off a few registers that the program does not change, often close to the end of a page.
 */
#include "diff.h"

#include <stdio.h>
#include <string.h>

#include "accel/bt/bt_emit.h"

enum { PROGRAM_INSNS = 28, PROGRAM_ROOM = 600 };

struct diff_program_gen {
    uint64_t rng;
    bool code32;
    struct bt_emit e;
    uint8_t *start[PROGRAM_INSNS + 1];
    struct {
        uint8_t *rel; /* an 8-bit displacement to fill in */
        unsigned to;
    } jump[PROGRAM_INSNS];
    unsigned jumps;
};

static unsigned program_below(struct diff_program_gen *g, unsigned n)
{
    g->rng ^= g->rng << 13;
    g->rng ^= g->rng >> 7;
    g->rng ^= g->rng << 17;
    return (unsigned)((g->rng >> 20) % n);
}

static unsigned program_reg(struct diff_program_gen *g)
{
    static const uint8_t regs[] = { X86_RAX, X86_RCX, X86_RDX, X86_RSI, X86_RDI, X86_R8,
                                    X86_R9,  X86_R10, X86_R11, X86_R12, X86_R15 };

    return regs[program_below(g, g->code32 ? 5 : ARRAY_SIZE(regs))];
}

static const uint8_t program_bases[] = { X86_RBX, X86_RBP, X86_RSP, X86_R13, X86_R14 };

static unsigned program_base(struct diff_program_gen *g)
{
    return program_bases[program_below(g, g->code32 ? 3 : ARRAY_SIZE(program_bases))];
}

/* REX.W, or no REX in 32-bit code. */
static bool program_wide(struct diff_program_gen *g)
{
    return program_below(g, 2) && !g->code32;
}

static int32_t program_disp(struct diff_program_gen *g)
{
    return (int32_t)program_below(g, 12) * 8 - 32 + (program_below(g, 6) ? 0 : 3);
}

static void program_alu(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned op = program_below(g, 8), size = program_below(g, 4);
    bool w = program_wide(g);

    if (size == 0)
        bt_emit8(e, 0x66);
    switch (program_below(g, 5)) {
    case 0:
        bt_emit_rr(e, op << 3 | 1, w, program_reg(g), program_reg(g));
        break;
    case 1:
        bt_emit_rm(e, op << 3 | 3, w, program_reg(g), program_base(g), program_disp(g));
        break;
    case 2:
        bt_emit_rm(e, op << 3 | 1, w, program_reg(g), program_base(g), program_disp(g));
        break;
    case 3:
        bt_emit_rr(e, 0x83, w, op, program_reg(g));
        bt_emit8(e, program_below(g, 256));
        break;
    default:
        bt_emit_rr(e, OP_TEST, w, program_reg(g), program_reg(g));
    }
}

static void program_misc(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned r = program_reg(g);
    bool w = program_wide(g);

    switch (program_below(g, 14)) {
    case 0:
        bt_emit_rr(e, 0xff, w, program_below(g, 2), r); /* inc, dec */
        break;
    case 1:
        bt_emit_rr(e, 0xc1, w, 4 + program_below(g, 2), r); /* shl, shr */
        bt_emit8(e, program_below(g, 8));
        break;
    case 2:
        bt_emit_rr(e, 0xd3, w, program_below(g, 2) ? 4 : 7, r); /* by cl */
        break;
    case 3:
        bt_emit_rex(e, w, r, 0, 1);
        bt_emit16(e, 0xaf0f); /* imul */
        bt_emit8(e, 0xc0 | (r & 7) << 3 | 1);
        break;
    case 4:
        bt_emit_rex(e, false, 0, 0, r); /* setcc */
        if (r < 8 && r >= 4 && !g->code32)
            bt_emit8(e, 0x40);
        bt_emit8(e, 0x0f);
        bt_emit8(e, 0x90 | program_below(g, 16));
        bt_emit8(e, 0xc0 | (r & 7));
        break;
    case 5:
        bt_emit_rex(e, w, r, 0, 2); /* cmovcc from rdx */
        bt_emit8(e, 0x0f);
        bt_emit8(e, 0x40 | program_below(g, 16));
        bt_emit8(e, 0xc0 | (r & 7) << 3 | 2);
        break;
    case 6:
        bt_emit_rmx(e, OP_LEA, w, r, program_reg(g), program_reg(g), 1u << program_below(g, 4),
                    program_disp(g));
        break;
    case 7:
        bt_emit_rr(e, 0xf7, w, 2 + program_below(g, 2), r); /* not, neg */
        break;
    case 8:
        bt_emit_rr(e, 0x87, w, r, program_reg(g)); /* xchg */
        break;
    case 9:
        bt_emit8(e, 0xf0); /* lock add */
        bt_emit_rm(e, OP_ADD, w, r, program_base(g), program_disp(g));
        break;
    case 10:
        bt_emit_rm(e, 0x87, w, r, program_base(g), program_disp(g));
        break;
    case 11:
        bt_emit_rr(e, 0xf7, w, 6, r); /* div: often a fault */
        break;
    case 12:
        bt_emit8(e, program_below(g, 2) ? 0xf8 : 0xf5); /* clc, cmc */
        break;
    default:
        if (!g->code32)
            bt_emit8(e, 0x48);
        bt_emit8(e, program_below(g, 2) ? 0x98 : 0x99); /* cdqe, cqo */
    }
}

static void program_move(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    bool w = program_wide(g);

    switch (program_below(g, g->code32 ? 8 : 6)) {
    case 0:
        bt_emit_rr(e, OP_STORE, w, program_reg(g), program_reg(g));
        break;
    case 1:
        bt_emit_rm(e, 0x88, false, program_reg(g), program_base(g), program_disp(g));
        break;
    case 2:
        bt_emit_rm(e, OP_STORE, w, program_reg(g), program_base(g), program_disp(g));
        break;
    case 6: /* of the accumulator at an address */
        bt_emit8(e, 0xa0 | program_below(g, 4));
        bt_emit32(e, (uint32_t)DIFF_DATA + PAGE_SIZE * 3u - program_below(g, 16));
        break;
    case 7: /* inc, dec */
        bt_emit8(e, 0x40 | program_below(g, 2) << 3 | program_reg(g));
        break;
    default:
        bt_emit_rm(e, OP_LOAD, w, program_reg(g), program_base(g), program_disp(g));
    }
}

static void program_stack(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned r = program_reg(g);

    switch (program_below(g, 10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        bt_emit_rex(e, false, 0, 0, r);
        bt_emit8(e, 0x50 | (r & 7));
        break;
    case 4:
    case 5:
    case 6:
        bt_emit_rex(e, false, 0, 0, r);
        bt_emit8(e, 0x58 | (r & 7));
        break;
    case 7:
        bt_emit_alu_imm(e, program_below(g, 2) ? 0 : 5, !g->code32, X86_RSP,
                        (int32_t)program_below(g, 5) * 8);
        break;
    case 8:
        bt_emit8(e, 0x6a);
        bt_emit8(e, program_below(g, 256));
        break;
    default:
        bt_emit8(e, program_below(g, 2) ? 0x9c : 0xfc); /* pushf, cld */
    }
}

/* RSI and RDI to where memory is, RCX to a few elements; a bit string; a push of memory. */
static void program_string(struct diff_program_gen *g)
{
    static const uint8_t bit_ops[] = { 0xa3, 0xab, 0xb3, 0xbb };
    struct bt_emit *e = &g->e;

    switch (program_below(g, 4)) {
    case 0:
        bt_emit_rm(e, 0xff, false, 6, program_base(g), program_disp(g));
        return;
    case 1:
        bt_emit_imm(e, X86_RCX, program_below(g, 200));
        if (program_below(g, 2))
            bt_emit8(e, 0xf0);
        bt_emit_rex(e, program_wide(g), X86_RCX, 0, X86_RBX);
        bt_emit8(e, 0x0f);
        bt_emit8(e, bit_ops[program_below(g, 4)]);
        if (e->p[-1] == 0xa3 && (e->p[-3] == 0xf0 || e->p[-4] == 0xf0))
            e->p[-1] = 0xab; /* BT cannot be locked */
        bt_emit_modrm(e, X86_RCX, X86_RBX, program_disp(g));
        return;
    default:
        bt_emit_rm(e, OP_LEA, !g->code32, X86_RSI, program_base(g), program_disp(g));
        bt_emit_rm(e, OP_LEA, !g->code32, X86_RDI, program_base(g), program_disp(g));
        bt_emit_imm(e, X86_RCX, program_below(g, 20));
        if (program_below(g, 4) == 0)
            bt_emit8(e, 0x66);
        bt_emit8(e, 0xf3);
        bt_emit_rex(e, program_wide(g), 0, 0, 0);
        bt_emit8(e, (program_below(g, 2) ? 0xa4 : 0xaa) | program_below(g, 2));
    }
}

/* Loads, arithmetic and stores of the x87, on whatever its stack holds; at times a new control word. */
static void program_x87(struct diff_program_gen *g)
{
    static const uint8_t mem_op[][2] = { { 0xd9, 0 }, { 0xdd, 0 }, { 0xdb, 5 }, { 0xd8, 0 },
                                         { 0xdc, 1 }, { 0xd9, 3 }, { 0xdd, 3 }, { 0xdb, 7 },
                                         { 0xdf, 0 }, { 0xd9, 7 } };
    static const uint16_t reg_op[] = { 0xe8d9, 0xeed9, 0xc1d8, 0xc9de, 0xe0df, 0xf1db,
                                       0xc0da, 0xc9d9, 0xe2db, 0xe3db, 0xd9dd };
    struct bt_emit *e = &g->e;
    unsigned i = program_below(g, ARRAY_SIZE(mem_op));

    if (program_below(g, 16) == 0) { /* fldcw */
        bt_emit_rm(e, 0xd9, false, 5, program_base(g), program_disp(g));
    } else if (program_below(g, 2)) {
        bt_emit_rm(e, mem_op[i][0], false, mem_op[i][1], program_base(g), program_disp(g));
    } else {
        bt_emit16(e, reg_op[program_below(g, ARRAY_SIZE(reg_op))]);
    }
}

/* Forward by a few instructions. */
static void program_jump(struct diff_program_gen *g, unsigned at)
{
    unsigned to = at + 1 + program_below(g, 4), kind = program_below(g, 8);

    if (kind == 0) { /* call the next one and take the address off again */
        bt_emit8(&g->e, 0xe8);
        bt_emit32(&g->e, 0);
        return;
    }
    bt_emit8(&g->e, kind == 1 ? 0xeb : 0x70 | program_below(g, 16));
    bt_emit8(&g->e, 0);
    g->jump[g->jumps].rel = g->e.p - 1;
    g->jump[g->jumps++].to = to > PROGRAM_INSNS ? PROGRAM_INSNS : to;
}

static void program_vector(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned x = program_below(g, g->code32 ? 8 : 16);

    switch (program_below(g, 4)) {
    case 0: /* movdqu xmm, m */
        bt_emit8(e, 0xf3);
        bt_emit_rex(e, false, x, 0, X86_RBX);
        bt_emit16(e, 0x6f0f);
        bt_emit_modrm(e, x, X86_RBX, program_disp(g));
        break;
    case 1: /* movdqa m, xmm: faults where it is not aligned */
        bt_emit8(e, 0x66);
        bt_emit_rex(e, false, x, 0, X86_RBP);
        bt_emit16(e, 0x7f0f);
        bt_emit_modrm(e, x, X86_RBP, program_disp(g));
        break;
    case 2: /* paddd */
        bt_emit8(e, 0x66);
        bt_emit_rex(e, false, x, 0, X86_RAX);
        bt_emit16(e, 0xfe0f);
        bt_emit8(e, 0xc0 | (x & 7) << 3 | program_below(g, 8));
        break;
    default: /* movq r, xmm */
        bt_emit8(e, 0x66);
        if (!g->code32)
            bt_emit_rex(e, true, x, 0, X86_R8);
        bt_emit16(e, 0x7e0f);
        bt_emit8(e, 0xc0 | (x & 7) << 3);
    }
}

void diff_program(uint64_t seed, bool code32, struct diff_program *p)
{
    struct diff_program_gen g = { .rng = seed * 0x9e3779b97f4a7c15ull + 1,
                                  .code32 = code32,
                                  .e = { p->code } };

    for (unsigned i = 0; i < 8; i++)
        program_below(&g, 2);
    for (unsigned i = 0; i < PROGRAM_INSNS; i++) {
        g.start[i] = g.e.p;
        switch (program_below(&g, 11)) {
        case 9:
            if (program_below(&g, 3) == 0)
                program_string(&g);
            else
                program_alu(&g);
            break;
        case 0:
        case 1:
            program_alu(&g);
            break;
        case 2:
            program_misc(&g);
            break;
        case 3:
            program_vector(&g);
            break;
        case 4:
        case 5:
            program_move(&g);
            break;
        case 6:
            program_jump(&g, i);
            break;
        case 7:
            program_x87(&g);
            break;
        default:
            program_stack(&g);
        }
    }
    g.start[PROGRAM_INSNS] = g.e.p;
    bt_emit8(&g.e, 0xf4); /* HLT */
    for (unsigned i = 0; i < g.jumps; i++)
        *g.jump[i].rel = (uint8_t)(g.start[g.jump[i].to] - (g.jump[i].rel + 1));
    p->len = (unsigned)(g.e.p - p->code);
    for (unsigned i = 0; i < 16; i++)
        p->gpr[i] = (uint64_t)program_below(&g, 1u << 31) << program_below(&g, 33);
    for (unsigned i = 0; i < ARRAY_SIZE(program_bases); i++) {
        uint64_t page = DIFF_DATA + PAGE_SIZE * (1 + program_below(&g, 2));

        p->gpr[program_bases[i]] = page + 8 * program_below(&g, 480) + 128;
        if (program_below(&g, 4) == 0)
            p->gpr[program_bases[i]] = page - 64 + 8 * program_below(&g, 16);
    }
    p->rflags = FLAG_1 | FLAG_IF | ((unsigned)program_below(&g, 4096) & FLAG_ARITH);
    p->offset = program_below(&g, PAGE_SIZE - PROGRAM_ROOM);
    if (program_below(&g, 3) == 0) /* often across the end of the page */
        p->offset = PAGE_SIZE - program_below(&g, p->len + 1);
    p->cold = program_below(&g, 2);
    p->code32 = code32;
    for (unsigned i = 0; code32 && i < 16; i++)
        p->gpr[i] = (uint32_t)p->gpr[i];
}
