/*
 * diff_program.c: random programs: what single instructions do not show (flags from one to the next, shared
 * checks of accesses, the stack, branches, loops, code that is patched while it runs, faults in between).
 *
 * A program is a list of items, instructions that belong together; places in it are named by items, so that
 * one can be taken out (diff_shrink.c) and the rest laid out anew. Memory is reached off a few registers
 * that the program does not change, often close to the end of a page. Loops count down in memory.
 */
#include "diff.h"

#include <stdio.h>
#include <string.h>

#include "accel/bt/bt_emit.h"

enum { PROGRAM_INSNS = 28, PROGRAM_LOOPS = 3, PROGRAM_COUNTERS = 0 /* in the data pages */ };

struct diff_program_gen {
    uint64_t rng;
    bool code32;
    struct bt_emit e;
    struct diff_program *p;
    struct diff_item *item; /* that e writes */
    unsigned at;            /* and its number */
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

/* The next byte may be overwritten by others: base | (anything & mask). */
static void program_patchable(struct diff_program_gen *g, uint8_t base, uint8_t mask)
{
    g->item->patch = (uint8_t)(g->e.p - g->item->bytes + 1);
    g->item->patch_base = base;
    g->item->patch_mask = mask;
}

/* Of locked accesses: the host makes much of those across cache lines. */
static int32_t program_locked_disp(struct diff_program_gen *g)
{
    int32_t disp = program_disp(g);

    if (disp & 7)
        g->p->host = false;
    return disp;
}

static void program_alu(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned op = program_below(g, 8), size = program_below(g, 4);
    bool w = program_wide(g);

    if (size == 0)
        bt_emit8(e, 0x66);
    switch (program_below(g, 6)) {
    case 5: /* AH, CH, DH, BH */
        bt_emit_rm(e, op << 3 | 2 * program_below(g, 2), false, 4 + program_below(g, 3), X86_RBX,
                   program_disp(g));
        break;
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
        program_patchable(g, 0, 0xff);
        bt_emit8(e, program_below(g, 256));
        break;
    default:
        bt_emit_rr(e, OP_TEST, w, program_reg(g), program_reg(g));
    }
}

/* MULX or ANDN: three registers, or two and memory. */
static void program_vex(struct diff_program_gen *g)
{
    unsigned r = program_reg(g), v = program_reg(g), rm = program_reg(g), mul = program_below(g, 2);
    bool mem = program_below(g, 2);
    struct bt_emit *e = &g->e;

    bt_emit8(e, 0xc4);
    bt_emit8(e, (r < 8 ? 0x80 : 0) | 0x40 | (mem || rm < 8 ? 0x20 : 0) | 2);
    bt_emit8(e, (program_wide(g) ? 0x80u : 0) | (~v & 15) << 3 | (mul ? 3 : 0));
    bt_emit8(e, mul ? 0xf6 : 0xf2);
    if (mem)
        bt_emit_modrm(e, r, X86_RBX, program_disp(g));
    else
        bt_emit8(e, 0xc0 | (r & 7) << 3 | (rm & 7));
}

static void program_misc(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned r = program_reg(g);
    bool w = program_wide(g);

    switch (program_below(g, 15)) {
    case 13:
        program_vex(g);
        break;
    case 0:
        bt_emit_rr(e, 0xff, w, program_below(g, 2), r); /* inc, dec */
        break;
    case 1:
        bt_emit_rr(e, 0xc1, w, 4 + program_below(g, 2), r); /* shl, shr */
        program_patchable(g, 0, 0x3f);
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
        program_patchable(g, 0x90, 0xf);
        bt_emit8(e, 0x90 | program_below(g, 16));
        bt_emit8(e, 0xc0 | (r & 7));
        break;
    case 5:
        bt_emit_rex(e, w, r, 0, 2); /* cmovcc from rdx */
        bt_emit8(e, 0x0f);
        program_patchable(g, 0x40, 0xf);
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
        bt_emit_rm(e, OP_ADD, w, r, program_base(g), program_locked_disp(g));
        break;
    case 10:
        bt_emit_rm(e, 0x87, w, r, program_base(g), program_locked_disp(g));
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
        program_patchable(g, 0, 0xff);
        bt_emit8(e, program_below(g, 256));
        break;
    default:
        bt_emit8(e, program_below(g, 2) ? 0x9c : 0xfc | program_below(g, 2)); /* pushf, cld, std */
    }
}

/* RSI and RDI to where memory is, RCX to a few elements; a bit string; a push of memory. */
static void program_string(struct diff_program_gen *g)
{
    static const uint8_t bit_ops[] = { 0xa3, 0xab, 0xb3, 0xbb };
    static const uint8_t string_ops[] = { 0xa4, 0xa6, 0xaa, 0xae }; /* MOVS CMPS STOS SCAS */
    struct bt_emit *e = &g->e;
    unsigned r;

    switch (program_below(g, 4)) {
    case 0:
        bt_emit_rm(e, 0xff, false, 6, program_base(g), program_disp(g));
        return;
    case 1:
        r = g->code32 || program_below(g, 2) ? X86_RCX : X86_R10;
        bt_emit_imm(e, r, program_below(g, 200));
        if (program_below(g, 2))
            bt_emit8(e, 0xf0);
        bt_emit_rex(e, program_wide(g), r, 0, X86_RBX);
        bt_emit8(e, 0x0f);
        bt_emit8(e, bit_ops[program_below(g, 4)]);
        if (e->p[-1] == 0xa3 && (e->p[-3] == 0xf0 || e->p[-4] == 0xf0))
            e->p[-1] = 0xab; /* BT cannot be locked */
        bt_emit_modrm(e, r, X86_RBX, program_locked_disp(g));
        return;
    default:
        bt_emit_rm(e, OP_LEA, !g->code32, X86_RSI, program_base(g), program_disp(g));
        bt_emit_rm(e, OP_LEA, !g->code32, X86_RDI, program_base(g), program_disp(g));
        bt_emit_imm(e, X86_RCX, program_below(g, 20));
        if (program_below(g, 4) == 0)
            bt_emit8(e, 0x66);
        bt_emit8(e, program_below(g, 4) ? 0xf3 : 0xf2);
        bt_emit_rex(e, program_wide(g), 0, 0, 0);
        bt_emit8(e, string_ops[program_below(g, 4)] | program_below(g, 2));
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

static void program_fix(struct diff_program_gen *g, enum diff_fix fix, unsigned to)
{
    g->item->fix = fix;
    g->item->fix_at = (uint8_t)(g->e.p - g->item->bytes);
    g->item->to = (uint8_t)to;
    if (fix == DIFF_FIX_REL8)
        bt_emit8(&g->e, 0);
    else
        bt_emit32(&g->e, 0);
}

/* Forward by a few items, in one of many ways. */
static void program_jump(struct diff_program_gen *g)
{
    unsigned to = g->at + 1 + program_below(g, 4), r;

    to = to > PROGRAM_INSNS ? PROGRAM_INSNS : to;
    switch (program_below(g, 10)) {
    case 0: /* the return address stays on the stack */
        bt_emit8(&g->e, 0xe8);
        program_fix(g, DIFF_FIX_REL32, to);
        break;
    case 1:
        bt_emit8(&g->e, 0xeb);
        program_fix(g, DIFF_FIX_REL8, to);
        break;
    case 2:
        r = program_reg(g);
        bt_emit_rex(&g->e, false, 0, 0, r); /* mov r, there; jmp r */
        bt_emit8(&g->e, 0xb8 | (r & 7));
        program_fix(g, DIFF_FIX_ABS32, to);
        bt_emit_rr(&g->e, 0xff, false, 4, r);
        break;
    case 3: /* push there; ret */
        bt_emit8(&g->e, 0x68);
        program_fix(g, DIFF_FIX_ABS32, to);
        bt_emit8(&g->e, 0xc3);
        break;
    case 4: /* call a function that is a NOT; it is jumped over behind the call */
        bt_emit8(&g->e, 0xe8);
        bt_emit32(&g->e, 2);
        bt_emit8(&g->e, 0xeb);
        r = program_reg(g);
        bt_emit8(&g->e, r >= 8 ? 4 : 3);
        bt_emit_rr(&g->e, 0xf7, false, 2, r);
        bt_emit8(&g->e, 0xc3);
        break;
    case 5: /* LOOPNE, LOOPE, LOOP, JRCXZ */
        if (program_below(g, 3) == 0)
            bt_emit8(&g->e, 0x67);
        program_patchable(g, 0xe0, 3);
        bt_emit8(&g->e, 0xe0 | program_below(g, 4));
        program_fix(g, DIFF_FIX_REL8, to);
        break;
    default:
        program_patchable(g, 0x70, 0xf);
        bt_emit8(&g->e, 0x70 | program_below(g, 16));
        program_fix(g, DIFF_FIX_REL8, to);
    }
}

/* sub dword [counter], 1; jns back. The first PROGRAM_LOOPS of a program; then a NOP. */
static void program_loop(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned k = g->p->loops;

    if (k == PROGRAM_LOOPS) {
        bt_emit8(e, 0x90);
        return;
    }
    g->p->loop[g->p->loops++] = (uint8_t)program_below(g, program_below(g, 2) ? 4 : 60);
    bt_emit8(e, 0x83);
    bt_emit8(e, g->code32 ? 0x2d : 0x2c);
    if (!g->code32)
        bt_emit8(e, 0x25);
    bt_emit32(e, (uint32_t)(DIFF_DATA + PROGRAM_COUNTERS + 4 * k));
    bt_emit8(e, 1);
    bt_emit16(e, 0x890f);
    program_fix(g, DIFF_FIX_REL32, program_below(g, g->at + 1));
}

/* mov byte [a patchable byte], n; which one is chosen when all are there. */
static void program_patch(struct diff_program_gen *g)
{
    bt_emit8(&g->e, 0xc6);
    bt_emit8(&g->e, g->code32 ? 0x05 : 0x04);
    if (!g->code32)
        bt_emit8(&g->e, 0x25);
    program_fix(g, DIFF_FIX_PATCH, 0);
    bt_emit8(&g->e, program_below(g, 256));
}

/* Mostly aligned, as RBX and RBP are. */
static int32_t program_vector_disp(struct diff_program_gen *g)
{
    return program_below(g, 8) ? 16 * (int32_t)program_below(g, 6) : program_disp(g);
}

static void program_vector(struct diff_program_gen *g)
{
    struct bt_emit *e = &g->e;
    unsigned x = program_below(g, g->code32 ? 8 : 16);

    switch (program_below(g, 5)) {
    case 4: /* addpd, mulpd, addss, mulss */
        bt_emit8(e, program_below(g, 2) ? 0x66 : 0xf3);
        bt_emit_rex(e, false, x, 0, X86_RBX);
        bt_emit8(e, 0x0f);
        bt_emit8(e, 0x58 | program_below(g, 2));
        bt_emit_modrm(e, x, X86_RBX, program_vector_disp(g));
        break;
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
        bt_emit_modrm(e, x, X86_RBP, program_vector_disp(g));
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

static void program_item(struct diff_program_gen *g)
{
    switch (program_below(g, 14)) {
    case 0:
    case 1:
    case 2:
        program_alu(g);
        break;
    case 3:
        program_misc(g);
        break;
    case 4:
        program_vector(g);
        break;
    case 5:
    case 6:
        program_move(g);
        break;
    case 7:
        program_jump(g);
        break;
    case 8:
        program_x87(g);
        break;
    case 9:
        program_string(g);
        break;
    case 10:
        program_loop(g);
        break;
    case 11:
        program_patch(g);
        break;
    default:
        program_stack(g);
    }
}

/* Which byte each patch overwrites. */
static void program_aim(struct diff_program_gen *g)
{
    unsigned found = 0;
    uint8_t with[PROGRAM_INSNS];

    for (unsigned i = 0; i < PROGRAM_INSNS; i++)
        if (g->p->item[i].patch)
            with[found++] = (uint8_t)i;
    for (unsigned i = 0; i < PROGRAM_INSNS; i++) {
        struct diff_item *it = &g->p->item[i], *to;

        if (it->fix != DIFF_FIX_PATCH)
            continue;
        if (!found) {
            it->dropped = true;
            continue;
        }
        it->to = with[program_below(g, found)];
        to = &g->p->item[it->to];
        it->bytes[it->len - 1] =
            (uint8_t)(to->patch_base | (it->bytes[it->len - 1] & to->patch_mask));
    }
}

static void program_registers(struct diff_program_gen *g)
{
    enum { MXCSR_AT = 24, XMM_AT = 160, BV_AT = 512 };
    struct diff_program *p = g->p;
    const uint32_t mxcsr = program_below(g, 8) ? 0x1f80 : 0;

    for (unsigned i = 0; i < 16; i++)
        p->regs.gpr[i] = (uint64_t)program_below(g, 1u << 31) << program_below(g, 33);
    for (unsigned i = 0; i < ARRAY_SIZE(program_bases); i++) {
        uint64_t page = DIFF_DATA + PAGE_SIZE * (1 + program_below(g, 2));

        p->regs.gpr[program_bases[i]] = page + 8 * program_below(g, 480) + 128;
        if (program_below(g, 4) == 0)
            p->regs.gpr[program_bases[i]] = page - 64 + 8 * program_below(g, 16);
        if (program_below(g, 8))
            p->regs.gpr[program_bases[i]] &= ~15ull;
    }
    for (unsigned i = 0; p->code32 && i < 16; i++)
        p->regs.gpr[i] = i < 8 ? (uint32_t)p->regs.gpr[i] : 0;
    p->regs.rflags = FLAG_1 | FLAG_IF | (program_below(g, 4096) & FLAG_ARITH);
    st_le32(p->regs.xsave + MXCSR_AT, mxcsr);
    st_le64(p->regs.xsave + BV_AT, XCR0_SSE);
    for (unsigned i = 0; i < 256; i += 4)
        st_le32(p->regs.xsave + XMM_AT + i, program_below(g, 1u << 31));
}

void diff_program(uint64_t seed, bool code32, struct diff_program *p)
{
    struct diff_program_gen g = { .rng = seed * 0x9e3779b97f4a7c15ull + 1,
                                  .code32 = code32,
                                  .p = p };

    memset(p, 0, sizeof(*p));
    p->seed = seed;
    p->code32 = code32;
    p->host = true;
    for (unsigned i = 0; i < 8; i++)
        program_below(&g, 2);
    for (g.at = 0; g.at < PROGRAM_INSNS; g.at++) {
        g.item = &p->item[g.at];
        g.e.p = g.item->bytes;
        program_item(&g);
        g.item->len = (uint8_t)(g.e.p - g.item->bytes);
        BUG_ON(g.item->len > DIFF_ITEM_BYTES);
    }
    p->items = PROGRAM_INSNS;
    program_aim(&g);
    program_registers(&g);
    diff_program_lay_out(p);
    p->offset = program_below(&g, (unsigned)PAGE_SIZE - DIFF_PROGRAM_BYTES);
    if (program_below(&g, 3) == 0) /* often across the end of the page */
        p->offset = (unsigned)PAGE_SIZE - program_below(&g, p->len + 1);
    p->cold = program_below(&g, 2);
    diff_program_lay_out(p);
}

static void program_fix_up(struct diff_program *p, unsigned i, const unsigned *start)
{
    const struct diff_item *it = &p->item[i];
    uint8_t *field = p->code + start[i] + it->fix_at;
    const unsigned base = (unsigned)DIFF_CODE + p->offset, behind = (unsigned)(field - p->code);

    switch (it->fix) {
    case DIFF_FIX_NONE:
        break;
    case DIFF_FIX_REL8:
        BUG_ON(start[it->to] - (behind + 1) > 127);
        *field = (uint8_t)(start[it->to] - (behind + 1));
        break;
    case DIFF_FIX_REL32:
        st_le32(field, start[it->to] - (behind + 4));
        break;
    case DIFF_FIX_ABS32:
        st_le32(field, base + start[it->to]);
        break;
    case DIFF_FIX_PATCH:
        st_le32(field, base + start[it->to] + p->item[it->to].patch - 1u);
        break;
    }
}

void diff_program_lay_out(struct diff_program *p)
{
    unsigned start[DIFF_ITEMS + 1], len = 0;

    for (unsigned i = 0; i < p->items; i++) {
        struct diff_item *it = &p->item[i];

        if (it->fix == DIFF_FIX_PATCH && p->item[it->to].dropped)
            it->dropped = true;
        start[i] = len;
        if (it->dropped)
            continue;
        memcpy(p->code + len, it->bytes, it->len);
        len += it->len;
    }
    start[p->items] = len;
    p->code[len] = 0xf4; /* HLT */
    p->len = len + 1;
    BUG_ON(p->len > DIFF_PROGRAM_BYTES);
    for (unsigned i = 0; i < p->items; i++)
        if (!p->item[i].dropped)
            program_fix_up(p, i, start);
}

void diff_program_memory(const struct diff_program *p, uint8_t *mem)
{
    for (unsigned i = 0; i < DIFF_MEM / 4; i++)
        st_le32(mem + 4 * i, p->plain ? 0 : i * 0x01030507u);
    for (unsigned i = 0; i < p->loops; i++)
        st_le32(mem + PROGRAM_COUNTERS + 4 * i, p->loop[i]);
}
