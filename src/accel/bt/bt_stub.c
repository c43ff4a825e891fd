/*
 * bt_stub.c: host code that runs one guest instruction.
 *
 *   push callee-saved registers it uses
 *   push rdx; popfq               flags (argument 3), if it reads any
 *   mov  cpu_reg, rdi             struct bt_cpu (argument 1)
 *   mov  mem_reg, rsi             memory operand (argument 2)
 *   mov  r, [cpu_reg + gpr[r]]    guest registers it reads; the same register, but for RSP
 *   <the instruction>             insn_off
 *   mov  [cpu_reg + gpr[r]], r    guest registers it writes
 *   fnstsw ax; mov edx, eax       abort_off: x87 status, if it is an x87 instruction
 *   pushfq; pop rax               flags, if it writes any
 *   pop callee-saved registers
 *   ret
 *
 * Instructions are compared by their plan; a plan is a few dozen bytes, its stub is made when it first runs
 * and made again after the code buffer was full. Plans are bounded in number: when there are too many,
 * all decoded blocks go, and the plans with them one generation later.
 */
#include "accel/bt/bt_native.h"

#include <string.h>

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_emit.h"
#include "accel/bt/bt_exec.h"

enum {
    STUB_BUFFER = 256 * KIB,
    STUB_MAX = 512, /* bytes of the longest one */
    CALLEE_SAVED =
        BIT(X86_RBX) | BIT(X86_RBP) | BIT(X86_R12) | BIT(X86_R13) | BIT(X86_R14) | BIT(X86_R15),
};

/* --- code around the instruction --- */
/* mov reg, [cpu + gpr] (OP_LOAD) or mov [cpu + gpr], reg (OP_STORE) */
static void bt_stub_gpr(struct bt_emit *e, unsigned op, unsigned reg, unsigned cpu, unsigned gpr)
{
    bt_emit_rm(e, op, true, reg, cpu, (int32_t)(offsetof(struct bt_cpu, s.gpr) + gpr * 8));
}

static unsigned bt_stub_host_reg(const struct bt_plan *p, unsigned gpr)
{
    return gpr == X86_RSP ? p->alias : gpr;
}

/* Callee-saved host registers that the stub changes. */
static unsigned bt_stub_saved(const struct bt_plan *p)
{
    unsigned used = (p->load | p->store) & ~BIT(X86_RSP);

    if (p->alias != BT_NATIVE_NO_REG)
        used |= BIT(p->alias);
    if (p->mem_reg != BT_NATIVE_NO_REG)
        used |= BIT(p->mem_reg);
    return used & CALLEE_SAVED;
}

static void bt_stub_enter(struct bt_emit *e, const struct bt_plan *p)
{
    unsigned saved = bt_stub_saved(p);

    for (unsigned r = 0; r < 16; r++)
        if (saved >> r & 1)
            bt_emit_push(e, r);
    if (p->flags_in) { /* before RDX is wanted for anything else; what follows changes no flags */
        bt_emit_push(e, X86_RDX);
        bt_emit8(e, 0x9d);
    }
    bt_emit_mov(e, p->cpu_reg, X86_RDI);
    if (p->mem_reg != BT_NATIVE_NO_REG && p->mem_reg != X86_RSI)
        bt_emit_mov(e, p->mem_reg, X86_RSI);
    for (unsigned r = 0; r < 16; r++)
        if (p->load >> r & 1)
            bt_stub_gpr(e, OP_LOAD, bt_stub_host_reg(p, r), p->cpu_reg, r);
}

static void bt_stub_leave(struct bt_emit *e, const struct bt_plan *p)
{
    unsigned saved = bt_stub_saved(p);

    if (p->x87) {
        bt_emit8(e, 0xdf); /* fnstsw ax */
        bt_emit8(e, 0xe0);
        bt_emit8(e, 0x89); /* mov edx, eax */
        bt_emit8(e, 0xc2);
    }
    if (p->flags_out) {
        bt_emit8(e, 0x9c);
        bt_emit_pop(e, X86_RAX);
    }
    for (unsigned r = 16; r-- > 0;)
        if (saved >> r & 1)
            bt_emit_pop(e, r);
    bt_emit8(e, 0xc3);
}

void bt_stub_compile(struct bt_fpu *f, struct bt_native *n)
{
    const struct bt_plan *p = &n->plan;
    struct bt_emit e;
    uint8_t *start;

    if (f->used + STUB_MAX > STUB_BUFFER) {
        for (unsigned i = 0; i < BT_NATIVE_HASH; i++)
            for (struct bt_native *o = f->hash[i]; o; o = o->next)
                o->code = NULL;
        for (struct bt_native *o = f->old; o; o = o->next)
            o->code = NULL;
        f->used = 0;
    }
    start = e.p = f->code_w + f->used;
    bt_stub_enter(&e, p);
    n->insn_off = (uint16_t)(e.p - start);
    for (unsigned i = 0; i < p->len; i++)
        bt_emit8(&e, p->bytes[i]);
    for (unsigned r = 0; r < 16; r++)
        if (p->store >> r & 1)
            bt_stub_gpr(&e, OP_STORE, bt_stub_host_reg(p, r), p->cpu_reg, r);
    n->abort_off = (uint16_t)(e.p - start);
    bt_stub_leave(&e, p);
    n->code = f->code_x + f->used;
    f->used += align_up((uint64_t)(e.p - start), 16);
}

/* --- plans --- */
static void bt_stub_free_list(struct bt_native *n)
{
    while (n) {
        struct bt_native *next = n->next;

        free(n);
        n = next;
    }
}

/*
 * Too many plans: every decoded block that names one goes. The block that is being decoded now is not among
 * them and may name plans it has just looked up, so they live until the next time.
 */
static void bt_stub_retire(struct bt_cpu *c)
{
    struct bt_fpu *f = c->fpu;

    bt_fpu_store(c);
    bt_cache_flush(c);
    bt_stub_free_list(f->old);
    f->old = NULL;
    for (unsigned i = 0; i < BT_NATIVE_HASH; i++) {
        while (f->hash[i]) {
            struct bt_native *n = f->hash[i];

            f->hash[i] = n->next;
            n->next = f->old;
            f->old = n;
        }
    }
    f->n = 0;
}

struct bt_native *bt_stub_get(struct bt_cpu *c, const struct bt_plan *p)
{
    struct bt_fpu *f = c->fpu;
    const uint8_t *bytes = (const uint8_t *)p;
    struct bt_native **slot, *n;
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < sizeof(*p); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    slot = &f->hash[(hash ^ hash >> 16) % BT_NATIVE_HASH];
    for (n = *slot; n; n = n->next)
        /* Plans are made zeroed; a difference in padding would only compile it once more. */
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
        if (!memcmp(&n->plan, p, sizeof(*p)))
            return n;
    if (f->n == BT_NATIVE_MAX)
        bt_stub_retire(c);
    bt_fpu_store(c); /* before the allocator */
    n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->plan = *p;
    n->next = *slot;
    *slot = n;
    f->n++;
    return n;
}

/* --- the instruction's bytes --- */
struct bt_rewrite {
    struct bt_plan *p;
    const uint8_t *bytes;
    const ZydisDecodedInstruction *z;
    bool mem;                          /* ModRM.rm is a memory operand */
    bool is4;                          /* the last byte names a register */
    bool swap_reg, swap_rm, swap_vvvv; /* RSP is there: alias instead */
};

static void bt_stub_put(struct bt_rewrite *w, unsigned b)
{
    BUG_ON(w->p->len == sizeof(w->p->bytes));
    w->p->bytes[w->p->len++] = (uint8_t)b;
}

/* Instructions whose 66 prefix chooses between 16 and 32 bits of a general register. */
static bool bt_stub_sized(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
        return true;
    default:
        return false;
    }
}

/*
 * Segment, address-size and LOCK prefixes go: the operand is at a register now. In 16-bit code 66 means
 * the other size, so sized instructions get what 64-bit mode needs.
 */
static void bt_stub_prefixes(struct bt_rewrite *w)
{
    const ZydisDecodedInstruction *z = w->z;
    bool sized = bt_stub_sized(z->mnemonic), crc8 = z->opcode == 0xf0 && sized;
    bool keep_66 = !sized && w->p->class != BT_FPU_X87; /* x87: only the layout of an environment */

    if (sized && z->operand_width == 16 && !crc8)
        bt_stub_put(w, 0x66);
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        uint8_t b = z->raw.prefixes[i].value;

        if (b == 0xf2 || b == 0xf3 || (b == 0x66 && keep_66))
            bt_stub_put(w, b);
    }
}

/* Each of these puts the prefixes and returns where the opcode starts. */
static unsigned bt_stub_legacy(struct bt_rewrite *w)
{
    const ZydisDecodedInstruction *z = w->z;

    bt_stub_prefixes(w);
    if (z->attributes & ZYDIS_ATTRIB_HAS_REX)
        bt_stub_put(w, w->bytes[z->raw.rex.offset] & (w->mem ? ~3u : ~0u)); /* no X, B */
    return z->raw.prefix_count;
}

/* vvvv holds the register inverted; 32-bit code has eight registers and ignores the fourth bit. */
static unsigned bt_stub_vvvv(const struct bt_rewrite *w, unsigned byte)
{
    unsigned vvvv = byte >> 3 & 15;

    if (w->z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        vvvv |= 8;
    if (w->swap_vvvv)
        vvvv = ~(unsigned)w->p->alias & 15;
    return (byte & ~(15u << 3)) | vvvv << 3;
}

bool bt_stub_w_is_gpr(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        ZydisRegisterClass class = ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER
                                       ? ZydisRegisterGetClass(ops[i].reg.value)
                                       : ZYDIS_REGCLASS_INVALID;

        if (class >= ZYDIS_REGCLASS_GPR8 && class <= ZYDIS_REGCLASS_GPR64)
            return true;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SH:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SH:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPCMPESTRI: /* of EAX and EDX */
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
        return true;
    default:
        return false;
    }
}

/*
 * Outside 64-bit mode R, X, B extend nothing and W does not widen general registers. (W also says 64 bits
 * of a vector element, so it stays where no general register is an operand.)
 */
static unsigned bt_stub_vex(struct bt_rewrite *w, const ZydisDecodedOperand *ops)
{
    enum { NOT_X = 0x40, NOT_B = 0x20, W = 0x80 };
    bool long64 = w->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    unsigned at = w->z->raw.vex.offset, p0, p1;

    if (w->bytes[at] == 0xc5) {
        bt_stub_put(w, 0xc5);
        bt_stub_put(w, bt_stub_vvvv(w, w->bytes[at + 1]));
        return at + 2;
    }
    p0 = w->bytes[at + 1];
    p1 = bt_stub_vvvv(w, w->bytes[at + 2]);
    if (w->mem || !long64)
        p0 |= NOT_X | NOT_B;
    if (!long64 && bt_stub_w_is_gpr(w->z, ops))
        p1 &= ~(unsigned)W;
    bt_stub_put(w, 0xc4);
    bt_stub_put(w, p0);
    bt_stub_put(w, p1);
    return at + 3;
}

static unsigned bt_stub_evex(struct bt_rewrite *w, const ZydisDecodedOperand *ops)
{
    enum { NOT_R = 0x80, NOT_X = 0x40, NOT_B = 0x20, NOT_R2 = 0x10, W = 0x80, NOT_V2 = 0x08 };
    bool long64 = w->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    unsigned at = w->z->raw.evex.offset;
    unsigned p0 = w->bytes[at + 1], p1 = bt_stub_vvvv(w, w->bytes[at + 2]), p2 = w->bytes[at + 3];

    if (w->mem)
        p0 |= NOT_X | NOT_B;
    if (!long64) {
        p0 |= NOT_R | NOT_X | NOT_B | NOT_R2;
        p2 |= NOT_V2;
        if (bt_stub_w_is_gpr(w->z, ops))
            p1 &= ~(unsigned)W;
    }
    bt_stub_put(w, 0x62);
    bt_stub_put(w, p0);
    bt_stub_put(w, p1);
    bt_stub_put(w, p2);
    return at + 4;
}

/* Opcode, ModRM and what follows the operand (immediates); SIB and displacement go. */
static void bt_stub_tail(struct bt_rewrite *w, unsigned at)
{
    const ZydisDecodedInstruction *z = w->z;
    const struct bt_plan *p = w->p;
    unsigned modrm;

    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        while (at < z->raw.modrm.offset)
            bt_stub_put(w, w->bytes[at++]);
        modrm = w->bytes[at++];
        if (w->mem)
            modrm = (modrm & 0x38) | p->mem_reg;
        if (w->swap_reg)
            modrm = (modrm & ~0x38u) | (unsigned)p->alias << 3;
        if (w->swap_rm)
            modrm = (modrm & ~7u) | p->alias;
        bt_stub_put(w, modrm);
        at += (z->raw.sib.offset ? 1u : 0u) + z->raw.disp.size / 8u;
    }
    while (at < z->length)
        bt_stub_put(w, w->bytes[at++]);
    if (w->is4 && z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        w->p->bytes[w->p->len - 1] &=
            0x7f; /* a register number in the upper four bits, three of which count */
}

/* Where RSP is an operand, the alias register takes its place. */
static bool bt_stub_find_rsp(struct bt_rewrite *w, const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < w->z->operand_count; i++) {
        w->is4 |= ops[i].encoding == ZYDIS_OPERAND_ENCODING_IS4;
        if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, ops[i].reg.value) !=
                ZYDIS_REGISTER_RSP)
            continue;
        if (ops[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            w->swap_reg = true;
        else if (ops[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            w->swap_rm = true;
        else if (ops[i].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
            w->swap_vvvv = true;
        else
            return false;
    }
    return true;
}

bool bt_stub_rewrite(struct bt_plan *p, const uint8_t *bytes, const ZydisDecodedInstruction *z,
                     const ZydisDecodedOperand *ops)
{
    struct bt_rewrite w = { .p = p,
                            .bytes = bytes,
                            .z = z,
                            .mem = p->mem_reg != BT_NATIVE_NO_REG && z->raw.modrm.mod != 3 };
    unsigned opcode_at;

    if (!bt_stub_find_rsp(&w, ops))
        return false;
    switch (z->encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
        opcode_at = bt_stub_legacy(&w);
        break;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        opcode_at = bt_stub_vex(&w, ops);
        break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        opcode_at = bt_stub_evex(&w, ops);
        break;
    default:
        return false;
    }
    bt_stub_tail(&w, opcode_at);
    return true;
}

/* --- the code buffer --- */
int bt_stub_init(const struct vm *vm, struct bt_fpu *f, struct err *e)
{
    int rc = bt_exec_map(STUB_BUFFER, &f->code_w, &f->code_x, e);

    if (!rc)
        bt_perf_name(bt_code_perf(vm), f->code_x, STUB_BUFFER, "ruche stubs");
    return rc;
}

void bt_stub_fini(struct bt_fpu *f)
{
    for (unsigned i = 0; i < BT_NATIVE_HASH; i++)
        bt_stub_free_list(f->hash[i]);
    bt_stub_free_list(f->old);
    bt_exec_unmap(STUB_BUFFER, f->code_w);
}
