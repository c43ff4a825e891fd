/*
 * bt_jit_gen.c: struct bt_jit_insn to host code. An instruction is emitted as itself: its registers are
 * renamed, those that live in memory come through scratch, and a memory operand is [T0 + disp].
 *
 * vCPU thread; the FPU state is stored.
 */
#include <string.h>

#include "accel/bt/bt_access.h"
#include "accel/bt/bt_code.h"
#include "accel/bt/bt_jit_insn.h"

enum { T0 = BT_JIT_T0, T1 = BT_JIT_T1 };
enum { CC_Z = 4 };
enum { GEN_ROOM = 64 * KIB }; /* more than the longest unit */

/* --- points and late code --- */
uint32_t bt_jit_new_point(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count)
{
    struct bt_jit *j = g->j;
    uint32_t n = j->n_points;

    if (n + 1 < BT_JIT_POINTS)
        j->n_points++;
    else
        g->full = true;
    j->point[n] = (struct bt_jit_point){ .unit = (uint32_t)(g->u - j->unit),
                                         .off = in->off,
                                         .count = (uint8_t)count };
    return n;
}

struct bt_jit_late *bt_jit_new_late(struct bt_jit_gen *g, unsigned kind, uint32_t number)
{
    struct bt_jit_late *l = &g->j->scratch->late[g->n_late];

    if (g->n_late + 1 < BT_JIT_LATE)
        g->n_late++;
    else
        g->full = true;
    *l = (struct bt_jit_late){
        .kind = kind, .number = number, .flags = (uint8_t)g->flags, .recipe = g->recipe
    };
    return l;
}

void bt_jit_resume(struct bt_jit_gen *g, uint32_t point)
{
    g->j->point[point].resume = bt_jit_here(g);
}

uint8_t *bt_jit_jump(struct bt_jit_gen *g, unsigned cc)
{
    if (cc == BT_JIT_ALWAYS) {
        bt_emit8(&g->e, 0xe9);
    } else {
        bt_emit8(&g->e, 0x0f);
        bt_emit8(&g->e, 0x80 | cc);
    }
    bt_emit32(&g->e, 0);
    return g->e.p - 4;
}

void bt_jit_set_rel(uint8_t *rel, const uint8_t *to)
{
    st_le32(rel, (uint32_t)(to - (rel + 4)));
}

/* mov dword [frame.id], id; jmp call */
void bt_jit_call(struct bt_jit_gen *g, uint32_t id)
{
    bt_emit_rm(&g->e, 0xc7, false, 0, X86_RSP, BT_JIT_FRAME(id));
    bt_emit32(&g->e, id);
    bt_jit_set_rel(bt_jit_jump(g, BT_JIT_ALWAYS), g->j->w + g->j->call);
}

void bt_jit_interp(struct bt_jit_gen *g, const struct bt_jit_insn *in, bool leave)
{
    uint32_t point = bt_jit_new_point(g, in, 1);

    bt_jit_flags_save(g);
    bt_jit_call(g, point);
    if (!leave)
        bt_jit_resume(g, point);
    g->flags = BT_JIT_FL_SAVED | BT_JIT_FL_HOST;
}

/* --- an instruction as itself --- */
struct gen_map {
    unsigned host[BT_JIT_SLOTS];
    int32_t disp;
    unsigned
        in_place; /* the slot whose register is a memory operand, where it lives; BT_JIT_SLOTS: none */
};

/* Does the opcode mean the same with ModRM.rm in memory? Not XCHG, which would lock, nor BT by a register. */
static bool gen_rm_any(const struct bt_jit_insn *in)
{
    const uint8_t *p = in->bytes + in->opcode;

    if (p[0] == 0x0f)
        return p[1] >> 4 == 4 || p[1] >> 4 == 9 || (p[1] & 0xf6) == 0xa4 || p[1] == 0xaf ||
               (p[1] & 0xf6) == 0xb6 || p[1] == 0xb8 || p[1] == 0xba || p[1] == 0xbc ||
               p[1] == 0xbd;
    return (p[0] < 0x40 && (p[0] & 4) == 0) || p[0] == 0x63 || (p[0] & 0xfd) == 0x69 ||
           (p[0] >= 0x80 && p[0] <= 0x85) || (p[0] & 0xfc) == 0x88 || (p[0] & 0xfe) == 0xc0 ||
           (p[0] & 0xfc) == 0xd0 || (p[0] & 0xfe) == 0xc6 || (p[0] & 0xf6) == 0xf6;
}

/* ALU and MOV between registers: the opcode says which of the two ModRM.rm is. */
static bool gen_swaps(const struct bt_jit_insn *in)
{
    uint8_t op = in->bytes[in->opcode];

    return (op < 0x40 && (op & 5) == 1) || (op & 0xfd) == 0x89 || op == 0x85;
}

/*
 * What is stored where a register lives must be all of it: half a register has the other half cleared, and after a
 * byte or a word the host waits with the next load of the whole until the store is in its cache.
 */
static bool gen_slot_lives(const struct bt_jit_insn *in, unsigned slot)
{
    const struct bt_jit_slot *s = &in->slot[slot];

    return s->reg != BT_JIT_NO_REG && bt_jit_in_memory(s->reg) && !s->high &&
           (!s->store || (in->size == 8 && !s->byte));
}

/* Which register of in, one that lives in memory, is used in place? */
static unsigned gen_in_place(const struct bt_jit_insn *in)
{
    const struct bt_jit_slot *rm = &in->slot[BT_JIT_SLOT_RM];

    if (in->encoding != BT_JIT_LEGACY || in->mem || rm->reg == BT_JIT_NO_REG)
        return BT_JIT_SLOTS;
    if (gen_slot_lives(in, BT_JIT_SLOT_RM))
        return gen_rm_any(in) ? BT_JIT_SLOT_RM : BT_JIT_SLOTS;
    if (gen_slot_lives(in, BT_JIT_SLOT_REG) && !bt_jit_in_memory(rm->reg) && gen_swaps(in))
        return BT_JIT_SLOT_REG;
    return BT_JIT_SLOTS;
}

static void gen_legacy(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct gen_map *m)
{
    const struct bt_jit_slot *s = in->slot;
    unsigned rex = in->rex & 0x48, b = in->rex & 1, r = in->rex >> 2 & 1;
    bool byte = false;
    struct bt_emit *e = &g->e;

    if (in->p66)
        bt_emit8(e, 0x66);
    if (in->lock)
        bt_emit8(e, 0xf0);
    if (in->rep)
        bt_emit8(e, in->rep);
    if (s[BT_JIT_SLOT_REG].reg != BT_JIT_NO_REG)
        r = m->host[BT_JIT_SLOT_REG] >> 3;
    if (s[BT_JIT_SLOT_RM].reg != BT_JIT_NO_REG)
        b = m->host[BT_JIT_SLOT_RM] >> 3;
    if (s[BT_JIT_SLOT_OP].reg != BT_JIT_NO_REG)
        b = m->host[BT_JIT_SLOT_OP] >> 3;
    if (in->mem)
        b = T0 >> 3;
    if (m->in_place == BT_JIT_SLOT_REG)
        r = m->host[BT_JIT_SLOT_RM] >> 3;
    if (m->in_place != BT_JIT_SLOTS)
        b = 0;
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        byte |= i != m->in_place && s[i].reg != BT_JIT_NO_REG && s[i].byte && m->host[i] >= 4;
    rex = (rex & 8) | r << 2 | b;
    if (rex || byte)
        bt_emit8(e, 0x40 | rex);
}

/*
 * VEX and EVEX keep the registers' upper bits inverted in the same places: R and B in the byte with the map,
 * vvvv in the next one. X goes with the memory operand.
 */
static void gen_vex_registers(const struct bt_jit_insn *in, const struct gen_map *m, unsigned *rxb,
                              unsigned *vvvv)
{
    enum { NOT_R = 0x80, NOT_X = 0x40, NOT_B = 0x20 };

    if (in->slot[BT_JIT_SLOT_REG].reg != BT_JIT_NO_REG)
        *rxb = (*rxb & ~(unsigned)NOT_R) | (m->host[BT_JIT_SLOT_REG] < 8 ? NOT_R : 0);
    if (in->slot[BT_JIT_SLOT_RM].reg != BT_JIT_NO_REG)
        *rxb = (*rxb & ~(unsigned)NOT_B) | (m->host[BT_JIT_SLOT_RM] < 8 ? NOT_B : 0);
    if (in->mem)
        *rxb = (*rxb | NOT_X) & ~(unsigned)NOT_B;
    if (in->slot[BT_JIT_SLOT_VVVV].reg != BT_JIT_NO_REG)
        *vvvv = (*vvvv & ~0x78u) | (~m->host[BT_JIT_SLOT_VVVV] & 15) << 3;
}

static void gen_vex(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct gen_map *m)
{
    const uint8_t *p = in->bytes + in->prefix;
    unsigned b1, b2;

    if (p[0] == 0xc5) {
        b1 = (p[1] & 0x80) | 0x61;
        b2 = p[1] & 0x7f;
    } else {
        b1 = p[1];
        b2 = p[2];
    }
    gen_vex_registers(in, m, &b1, &b2);
    bt_emit8(&g->e, 0xc4);
    bt_emit8(&g->e, b1);
    bt_emit8(&g->e, b2);
}

static void gen_evex(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct gen_map *m)
{
    const uint8_t *p = in->bytes + in->prefix;
    unsigned p0 = p[1], p1 = p[2];

    gen_vex_registers(in, m, &p0, &p1);
    bt_emit8(&g->e, 0x62);
    bt_emit8(&g->e, p0);
    bt_emit8(&g->e, p1);
    bt_emit8(&g->e, p[3]);
}

/* ModRM with the register that is used in place. */
static void gen_modrm_in_place(struct bt_jit_gen *g, const struct bt_jit_insn *in,
                               const struct gen_map *m)
{
    unsigned reg = in->bytes[in->modrm] >> 3 & 7;
    struct bt_emit *e = &g->e;

    if (m->in_place == BT_JIT_SLOT_REG) {
        reg = m->host[BT_JIT_SLOT_RM];
        if (in->bytes[in->opcode] != OP_TEST)
            e->p[-1] ^= 2;
    } else if (in->slot[BT_JIT_SLOT_REG].reg != BT_JIT_NO_REG && !in->slot[BT_JIT_SLOT_REG].high) {
        reg = m->host[BT_JIT_SLOT_REG];
    }
    bt_emit_modrm(e, reg, X86_RSP,
                  (int)offsetof(struct bt_cpu, s.gpr[0]) + in->slot[m->in_place].reg * 8);
}

/* Opcode, ModRM with its operand, and the immediate. */
static void gen_tail(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct gen_map *m)
{
    unsigned end = in->modrm ? in->modrm : in->imm, modrm;
    struct bt_emit *e = &g->e;

    for (unsigned i = in->opcode; i < end; i++)
        bt_emit8(e, in->bytes[i]);
    if (in->slot[BT_JIT_SLOT_OP].reg != BT_JIT_NO_REG && !in->slot[BT_JIT_SLOT_OP].high)
        e->p[-1] = (uint8_t)((e->p[-1] & ~7) | (m->host[BT_JIT_SLOT_OP] & 7));
    if (in->modrm && m->in_place != BT_JIT_SLOTS) {
        gen_modrm_in_place(g, in, m);
    } else if (in->modrm) {
        modrm = in->bytes[in->modrm];
        if (in->slot[BT_JIT_SLOT_REG].reg != BT_JIT_NO_REG &&
            (!in->slot[BT_JIT_SLOT_REG].high || in->high_swap))
            modrm = (modrm & ~0x38u) | (m->host[BT_JIT_SLOT_REG] & 7) << 3;
        if (in->slot[BT_JIT_SLOT_RM].reg != BT_JIT_NO_REG && !in->slot[BT_JIT_SLOT_RM].high)
            modrm = (modrm & ~7u) | (m->host[BT_JIT_SLOT_RM] & 7);
        if (!in->mem) {
            bt_emit8(e, modrm);
        } else if (in->encoding == BT_JIT_EVEX && m->disp) { /* disp8 would be scaled */
            bt_emit8(e, 0x80 | (modrm & 0x38) | (T0 & 7));
            bt_emit32(e, (uint32_t)m->disp);
        } else {
            bt_emit_modrm(e, modrm >> 3 & 7, T0, m->disp);
        }
    }
    for (unsigned i = in->imm; i < in->len; i++)
        bt_emit8(e, in->bytes[i]);
}

/* Host registers for the slots; those of registers in memory are loaded. */
static void gen_slots(struct bt_jit_gen *g, const struct bt_jit_insn *in, struct gen_map *m)
{
    uint32_t loaded = 0;

    bt_jit_slot_hosts(in, m->in_place, m->host);
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++) {
        const struct bt_jit_slot *s = &in->slot[i];

        if (i == m->in_place || s->reg == BT_JIT_NO_REG || !bt_jit_in_memory(s->reg) || !s->load ||
            (loaded >> s->reg & 1))
            continue;
        bt_jit_load_gpr(&g->e, m->host[i], s->reg);
        loaded |= BIT(s->reg);
    }
}

static void gen_slots_out(struct bt_jit_gen *g, const struct bt_jit_insn *in,
                          const struct gen_map *m)
{
    for (unsigned i = 0; i < BT_JIT_SLOTS; i++)
        if (i != m->in_place && in->slot[i].reg != BT_JIT_NO_REG && in->slot[i].store &&
            bt_jit_in_memory(in->slot[i].reg))
            bt_jit_store_gpr(&g->e, in->slot[i].reg, m->host[i]);
}

/*
 * The guest's FPU state must be in the registers: looked at once, for C puts it there again before it
 * comes back to a unit that uses it. EFLAGS are lost.
 */
static void gen_fpu(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    uint32_t point = bt_jit_new_point(g, in, 0);

    bt_jit_flags_clobber(g);
    bt_emit_rm(&g->e, 0x80, false, 7, X86_RSP, (int)offsetof(struct bt_cpu, fpu_live)); /* cmp */
    bt_emit8(&g->e, 0);
    bt_jit_new_late(g, BT_JIT_LATE_POINT, point)->jump = bt_jit_jump(g, CC_Z);
    bt_jit_resume(g, point);
    g->u->fpu = true;
}

/* Does in, or an instruction of the group that it leads, need it? Within a group T0 is not to be lost. */
static bool gen_needs_fpu(const struct bt_jit_insn *in)
{
    for (unsigned i = 0; i < (in->leader ? in->group_count : 1u); i++)
        if (in[i].fpu)
            return true;
    return false;
}

/* xchg al, ah or such: meanwhile the high byte has a name beside REX. */
static void gen_swap_high(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    unsigned low = in->slot[BT_JIT_SLOT_REG].reg;

    if (!in->high_swap)
        return;
    bt_emit8(&g->e, 0x86);
    bt_emit8(&g->e, 0xc0 | (low + 4) << 3 | low);
}

static void gen_raw(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    struct gen_map m = { .in_place = gen_in_place(in) };
    uint32_t point = 0, unmasked = 0;
    unsigned flags;

    if (in->mem)
        point = bt_jit_operand(g, in, &m.disp);
    if (in->fldcw)
        unmasked = bt_jit_x87_masked(g, in, m.disp);
    flags = g->flags;
    bt_jit_flags_before(g, in);
    gen_slots(g, in, &m);
    if (in->faults) { /* then in has changed nothing: what held before it still does */
        struct bt_jit_late *late =
            bt_jit_new_late(g, BT_JIT_LATE_POINT, bt_jit_new_point(g, in, 1));

        late->fault = g->e.p;
        late->flags |= (uint8_t)flags;
    }
    gen_swap_high(g, in);
    if (in->encoding == BT_JIT_LEGACY)
        gen_legacy(g, in, &m);
    else if (in->encoding == BT_JIT_VEX)
        gen_vex(g, in, &m);
    else
        gen_evex(g, in, &m);
    gen_tail(g, in, &m);
    gen_swap_high(g, in);
    gen_slots_out(g, in, &m);
    if (in->x87)
        bt_jit_x87_record(g, in);
    bt_jit_flags_after(g, in);
    if (point)
        bt_jit_resume(g, point);
    if (unmasked)
        bt_jit_resume(g, unmasked);
}

static void gen_lea(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    const struct bt_jit_slot *to = &in->slot[BT_JIT_SLOT_REG];
    struct bt_jit_insn ea = *in;

    bt_jit_flags_before(g, in);
    ea.seg = X86_DS;   /* LEA knows no segments */
    if (in->size == 4) /* its low half is that of the sum, whatever the address size */
        ea.asize = 4;
    if (in->size != 2 && !bt_jit_in_memory(to->reg)) {
        bt_jit_ea_to(g, &ea, 0, bt_jit_host(to->reg));
        return;
    }
    bt_jit_ea(g, &ea, 0);
    if (in->size == 2)
        bt_emit8(&g->e, 0x66);
    if (!bt_jit_in_memory(to->reg))
        bt_emit_rr(&g->e, OP_STORE, false, T0, bt_jit_host(to->reg));
    else if (in->size == 2)
        bt_emit_rm(&g->e, OP_STORE, false, T0, X86_RSP, to->reg * 8);
    else
        bt_jit_store_gpr(&g->e, to->reg, T0);
}

/* --- stack --- */
/*
 * RSP moves by n for in, a push or a pop. Within a group, whose accesses are known to be good, it is moved
 * once for several: what comes between needs no RSP and goes nowhere.
 */
static void gen_move_rsp(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t n)
{
    const struct bt_jit_insn *next = in + 1;

    g->rsp_by += n;
    if (g->group_left > 1 && next < g->insn + g->n && next->member && !next->crosses &&
        (next->kind == BT_JIT_PUSH || next->kind == BT_JIT_POP) &&
        next->slot[BT_JIT_SLOT_OP].reg != X86_RSP)
        return;
    bt_emit_rm(&g->e, OP_LEA, bt_jit_wide(g), BT_JIT_RSP, BT_JIT_RSP, g->rsp_by);
    g->rsp_by = 0;
}

static void gen_push(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    unsigned r = in->slot[BT_JIT_SLOT_OP].reg;
    struct bt_emit *e = &g->e;
    bool wide = bt_jit_wide(g);
    int32_t disp;

    bt_jit_operand(g, in, &disp);
    bt_jit_flags_before(g, in);
    if (r == BT_JIT_NO_REG) {
        bt_emit_rm(e, 0xc7, wide, 0, T0, disp);
        bt_emit32(e, (uint32_t)in->value);
    } else {
        bt_emit_rm(e, OP_STORE, wide, bt_jit_reg(g, r, T1), T0, disp);
    }
    gen_move_rsp(g, in, -in->word);
}

static void gen_pop(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    unsigned r = in->slot[BT_JIT_SLOT_OP].reg;
    struct bt_emit *e = &g->e;
    bool wide = bt_jit_wide(g);
    int32_t disp;

    bt_jit_operand(g, in, &disp);
    bt_jit_flags_before(g, in);
    if (bt_jit_in_memory(r)) {
        bt_emit_rm(e, OP_LOAD, true, T1, T0, disp);
        bt_jit_store_gpr(e, r, T1);
    } else {
        bt_emit_rm(e, OP_LOAD, wide, r, T0, disp);
    }
    gen_move_rsp(g, in, in->word);
}

static void gen_leave(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    const uint8_t *retry = g->e.p;
    struct bt_emit *e = &g->e;
    bool wide = bt_jit_wide(g);
    uint32_t point;

    bt_emit_rr(e, OP_STORE, wide, X86_RBP, T0);
    point = bt_jit_lookup(g, in, 1, in->word, false, retry);
    bt_jit_flags_before(g, in);
    bt_emit_rm(e, OP_LEA, wide, BT_JIT_RSP, X86_RBP, in->word);
    bt_emit_rm(e, OP_LOAD, wide, X86_RBP, T0, 0);
    bt_jit_resume(g, point);
}

/* --- units --- */
static void gen_insn(struct bt_jit_gen *g, const struct bt_jit_insn *in)
{
    switch (in->kind) {
    case BT_JIT_RAW:
        gen_raw(g, in);
        break;
    case BT_JIT_NOP:
        break;
    case BT_JIT_INTERP:
    case BT_JIT_LEAVE:
        bt_jit_interp(g, in, in->kind == BT_JIT_LEAVE);
        break;
    case BT_JIT_LEA:
        gen_lea(g, in);
        break;
    case BT_JIT_PUSH:
        gen_push(g, in);
        break;
    case BT_JIT_POP:
        gen_pop(g, in);
        break;
    case BT_JIT_LEAVEQ:
        gen_leave(g, in);
        break;
    case BT_JIT_STRING:
        bt_jit_string(g, in);
        break;
    case BT_JIT_BITS:
        bt_jit_bits(g, in);
        break;
    case BT_JIT_PUSH_MEM:
        bt_jit_push_mem(g, in);
        break;
    case BT_JIT_SYS:
        bt_jit_sys(g, in, in + 1 < g->insn + g->n ? in + 1 : NULL);
        break;
    default:
        bt_jit_branch(g, in);
    }
}

static void gen_entries(struct bt_jit_gen *g)
{
    unsigned first = bt_jit_first_flags(g->insn, g->n);
    struct bt_jit_unit *u = g->u;

    g->flags = first;
    if (first == BT_JIT_FL_SAVED) {
        u->host_entry = bt_jit_here(g);
        bt_emit8(&g->e, 0x9c); /* pushfq */
        bt_emit_rsp(&g->e, 8);
        u->saved_entry = bt_jit_here(g);
    } else if (first == BT_JIT_FL_HOST) {
        u->saved_entry = bt_jit_here(g);
        g->flags = BT_JIT_FL_SAVED;
        bt_jit_flags_host(g);
        g->flags = BT_JIT_FL_HOST;
        u->host_entry = bt_jit_here(g);
    } else {
        /* Two of them all the same: the code that takes this one's place may need the flags. */
        u->saved_entry = bt_jit_here(g);
        bt_emit32(&g->e, 0x00441f0f); /* nop, as long as a jump */
        bt_emit8(&g->e, 0);
        u->host_entry = bt_jit_here(g);
    }
    g->entered = bt_jit_here(g);
}

/* What the entries of a stale unit lead to. */
static void gen_gone(struct bt_jit_gen *g)
{
    struct bt_jit_unit *u = g->u;

    u->gone_host = bt_jit_here(g);
    bt_emit8(&g->e, 0x9c); /* pushfq */
    bt_emit_rsp(&g->e, 8);
    u->gone_saved = bt_jit_here(g);
    bt_jit_call(g, (uint32_t)(u - g->j->unit) | BT_JIT_ID_GONE);
}

static bool gen_ends(const struct bt_jit_insn *in)
{
    return in->kind >= BT_JIT_JMP || in->kind == BT_JIT_LEAVE;
}

static void gen_unit(struct bt_jit_gen *g)
{
    const struct bt_jit_insn *last = &g->insn[g->n - 1];
    uint32_t guard;

    gen_entries(g);
    for (unsigned i = 0; i < g->n && !g->full; i++) {
        const struct bt_jit_insn *in = &g->insn[i];

        if (!g->u->fpu && gen_needs_fpu(in))
            gen_fpu(g, in);
        guard = in->crosses ? bt_jit_guard(g, in) : 0;
        gen_insn(g, in);
        if (guard && !gen_ends(in))
            bt_jit_resume(g, guard);
        if (g->group_left && --g->group_left == 0 && !gen_ends(in))
            bt_jit_resume(g, g->group_point);
    }
    if (!gen_ends(last))
        bt_jit_exit_to(g, last->off + last->len);
    g->u->end = bt_jit_here(g);
    g->e.p = g->j->w + g->u->late;
    bt_jit_late_emit(g);
    gen_gone(g);
    g->u->late_end = bt_jit_here(g);
}

/* Decodes the unit's instructions: up to 64 in a row, in one page. */
static unsigned gen_decode(struct bt_cpu *c, struct bt_jit_scratch *s, unsigned off, unsigned room)
{
    unsigned n = 0, at = 0;

    while (n < BT_JIT_INSNS && at < room) {
        struct bt_jit_insn *in = &s->insn[n];

        if (!bt_jit_decode(c, s->bytes + at, room - at, in))
            break;
        in->off = (uint16_t)(off + at);
        at += in->len;
        n++;
        if (gen_ends(in))
            break;
    }
    return n;
}

bool bt_jit_full(const struct bt_jit *j)
{
    return j->used + GEN_ROOM > BT_JIT_LATE_AT || j->late_used + GEN_ROOM > BT_JIT_CODE ||
           j->n_units + 1 >= BT_JIT_UNITS || j->n_exits + BT_JIT_INSNS + 2 >= BT_JIT_EXITS ||
           j->n_points + 4 * BT_JIT_INSNS >= BT_JIT_POINTS ||
           j->n_faults + BT_JIT_LATE >= BT_JIT_FAULTS ||
           j->arena_used + BT_JIT_INSNS * BT_INSN_MAX > BT_JIT_ARENA ||
           j->n_pages >= BT_JIT_PAGES / 2;
}

/*
 * The unit came to the end of its page: the instruction there that ends in the next one, if it can be had,
 * becomes the last. Its bytes are put together in s->bytes, of which `at` are taken.
 */
static void gen_decode_crossing(struct bt_jit_gen *g, struct bt_jit_scratch *s, uint64_t lin,
                                unsigned off, unsigned at)
{
    struct bt_jit_insn *in = &s->insn[g->n];
    uint64_t gpa, cr2 = g->c->s.cr2;
    unsigned room = PAGE_SIZE - off - at;
    uint8_t *hva;

    if (bt_fetch(g->c, (lin & PAGE_MASK) + PAGE_SIZE, &gpa, &hva)) {
        g->c->s.exception_pending = false; /* it is not being executed yet */
        g->c->s.cr2 = cr2;
        return;
    }
    if (!hva)
        return;
    g->next = (struct bt_jit_next){ .hva = hva };
    g->next.page = bt_code_mark(g->c, gpa, BT_INSN_MAX, &g->next.version);
    bt_ram_copy(s->bytes + at + room, hva, BT_INSN_MAX);
    if (!g->next.page || !bt_jit_decode(g->c, s->bytes + at, room + BT_INSN_MAX, in) ||
        in->len <= room)
        return;
    in->off = (uint16_t)(off + at);
    in->crosses = true;
    g->n++;
}

struct bt_jit_unit *bt_jit_translate(struct bt_cpu *c, struct bt_block *b, uint64_t rip)
{
    struct bt_jit *j = c->jit;
    struct bt_jit_scratch *s = j->scratch;
    unsigned off = (unsigned)(rip & ~PAGE_MASK), room = PAGE_SIZE - off, len = 0;
    struct bt_jit_unit *u = &j->unit[j->n_units];
    struct bt_jit_gen g = { .c = c, .j = j, .u = u, .insn = s->insn };
    uint32_t version;

    if (room > sizeof(s->bytes))
        room = sizeof(s->bytes);
    bt_ram_copy(s->bytes, b->hva, room);
    g.n = gen_decode(c, s, off, room);
    for (unsigned i = 0; i < g.n; i++)
        len += s->insn[i].len;
    if (c->code_size == 8 && g.n && g.n < BT_JIT_INSNS && !gen_ends(&s->insn[g.n - 1]) &&
        off + len < PAGE_SIZE && off + len + BT_INSN_MAX > PAGE_SIZE) {
        gen_decode_crossing(&g, s, rip, off, len);
        len += s->insn[g.n - 1].crosses ? PAGE_SIZE - off - len : 0;
    }
    /* The lines are watched from the mark on: what was read before must still be there. */
    if (!g.n || bt_code_mark(c, b->gpa, len, &version) != b->page ||
        !bt_ram_equal(s->bytes, b->hva, len))
        return NULL;
    *u = (struct bt_jit_unit){ .block = b,
                               .lin = rip,
                               .gpa = b->gpa,
                               .hva = b->hva,
                               .bytes = j->arena + j->arena_used,
                               .len = (uint16_t)len,
                               .key = c->code_key,
                               .fixed = c->cpl == 0,
                               .code = j->used,
                               .late = j->late_used,
                               .first_exit = j->n_exits };
    memcpy(u->bytes, s->bytes, len);
    bt_jit_buf_reach(j, GEN_ROOM);
    g.e.p = j->w + j->used;
    bt_jit_plan(s->insn, g.n, b->apart);
    gen_unit(&g);
    if (g.full)
        return NULL;
    u->n_exits = j->n_exits - u->first_exit;
    j->used = (uint32_t)align_up(u->end, 16);
    j->late_used = u->late_end;
    j->arena_used += len;
    j->n_units++;
    j->translated += g.n;
    return u;
}
