/*
 * bt_mask.c: memory operands of which only some elements are accessed: VMASKMOV, AVX-512
 * masking, compress and expand, gathers and scatters. What is not accessed does not fault.
 *
 * Masked operands: usually all of the operand is there and the instruction runs on it directly. If not, the
 * mask is looked up and the active elements go through the bounce buffer. Gathers and scatters run in C,
 * element by element, on the saved state: an element's fault leaves the ones before it done.
 */
#include "accel/bt/bt_native.h"

#include <string.h>

#include "base/endian.h"

enum { XMM_AT = 160, HEADER_AT = 512 };
enum { AVX_STATE = 2, OPMASK_STATE = 5, ZMM_HI256_STATE = 6, HI16_ZMM_STATE = 7 };

/* --- registers in s.xsave, after bt_fpu_normalize() --- */
/* The byte of vector register reg; a power of two of bytes from there up to its own size is contiguous. */
static uint8_t *bt_mask_vector(struct bt_cpu *c, unsigned reg, unsigned byte)
{
    const uint16_t *offset = c->fpu->offset;
    uint8_t *x = c->s.xsave;

    if (reg >= 16)
        return x + offset[HI16_ZMM_STATE] + (reg - 16) * 64 + byte;
    if (byte < 16)
        return x + XMM_AT + reg * 16 + byte;
    if (byte < 32)
        return x + offset[AVX_STATE] + reg * 16 + byte - 16;
    return x + offset[ZMM_HI256_STATE] + reg * 32 + byte - 32;
}

static uint8_t *bt_mask_opmask(struct bt_cpu *c, unsigned reg)
{
    return c->s.xsave + c->fpu->offset[OPMASK_STATE] + reg * 8;
}

static bool bt_mask_sign(struct bt_cpu *c, unsigned reg, unsigned element, unsigned size)
{
    return *bt_mask_vector(c, reg, (element + 1) * size - 1) & 0x80;
}

/* Bit i: element i of the memory operand is accessed. */
static uint64_t bt_mask_active(struct bt_cpu *c, const struct bt_plan *p)
{
    uint64_t all = p->count == 64 ? ~0ull : BIT64(p->count) - 1, bits = 0;

    bt_fpu_normalize(c);
    switch (p->mask_kind) {
    case BT_MASK_VECTOR:
        for (unsigned i = 0; i < p->count; i++)
            bits |= (uint64_t)bt_mask_sign(c, p->mask_reg, i, p->element_size) << i;
        return bits;
    case BT_MASK_K:
        return ld_le64(bt_mask_opmask(c, p->mask_reg)) & all;
    case BT_MASK_K_ANY:
        return (ld_le64(bt_mask_opmask(c, p->mask_reg)) & all) != 0;
    default: /* BT_MASK_K_PACKED */
        bits = ld_le64(bt_mask_opmask(c, p->mask_reg)) & all;
        for (all = 0; bits; bits &= bits - 1)
            all = all << 1 | 1;
        return all;
    }
}

/* --- masked operands --- */
/* One element: checked for writing, or copied to or from the bounce buffer. */
enum bt_mask_step { STEP_PROBE, STEP_IN, STEP_OUT };

static int bt_mask_element(struct bt_cpu *c, const struct bt_insn *in, unsigned at, unsigned size,
                           uint8_t *buf, enum bt_mask_step step)
{
    uint64_t off = bt_ea(c, in) + at, lin;
    int r;

    if (in->asize < 8)
        off &= in->asize == 4 ? 0xffffffff : 0xffff;
    r = bt_linear(c, in->seg, off, size, step != STEP_IN, &lin);
    if (r)
        return r;
    if (step == STEP_PROBE)
        return bt_native_probe(c, lin, size);
    if (step == STEP_IN)
        return bt_lin_copy_in(c, lin, buf + at, size, c->mmu);
    return bt_lin_copy_out(c, lin, buf + at, size, c->mmu);
}

static int bt_mask_elements(struct bt_cpu *c, const struct bt_insn *in, uint64_t active,
                            uint8_t *buf, enum bt_mask_step step)
{
    const struct bt_plan *p = &in->native->plan;
    unsigned size = p->mask_kind == BT_MASK_K_ANY ? p->mem_size : p->element_size;
    int r = 0;

    for (unsigned i = 0; !r && i < p->count; i++)
        if (active >> i & 1)
            r = bt_mask_element(c, in, i * size, size, buf, step);
    return r;
}

static int bt_mask_bounce(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    bool write = p->access & BT_ACCESS_WRITE;
    uint8_t *buf = c->fpu->bounce + (bt_ea(c, in) & 63);
    uint64_t active = bt_mask_active(c, p);
    int r;

    if (active && bt_native_misaligned(c, in))
        return bt_raise_err(c, X86_GP, 0);
    r = bt_mask_elements(c, in, active, buf, write ? STEP_PROBE : STEP_IN);
    if (!r)
        r = bt_native_run(c, in, buf);
    if (!r && write)
        r = bt_mask_elements(c, in, active, buf, STEP_OUT);
    return r;
}

static int bt_mask_op(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    bool write = p->access & BT_ACCESS_WRITE;
    uint64_t lin, cr2 = c->s.cr2;
    void *hva = NULL;
    int r = bt_native_check(c, p->class);

    if (r)
        return r;
    r = bt_native_linear(c, in, p->mem_size, write, &lin);
    if (!r)
        r = bt_lin_ptr(c, lin, p->mem_size, write, c->mmu, &hva);
    if (r) { /* perhaps in a part that is masked off: not a fault yet */
        c->s.exception_pending = false;
        c->s.cr2 = cr2;
        hva = NULL;
    }
    return hva ? bt_native_run(c, in, hva) : bt_mask_bounce(c, in);
}

bool bt_mask_is_contiguous(bt_op *op)
{
    return op == bt_mask_op;
}

/* --- gathers and scatters --- */
/* Offset of an element's memory in its segment. */
static uint64_t bt_mask_address(struct bt_cpu *c, const struct bt_insn *in, const struct bt_plan *p,
                                unsigned element)
{
    const uint8_t *at = bt_mask_vector(c, p->index_reg, element * p->index_size);
    int64_t index = p->index_size == 4 ? (int32_t)ld_le32(at) : (int64_t)ld_le64(at);
    uint64_t off = bt_ea(c, in) + (uint64_t)index * in->scale;

    if (in->asize < 8)
        off &= in->asize == 4 ? 0xffffffff : 0xffff;
    return off;
}

static bool bt_mask_selected(struct bt_cpu *c, const struct bt_plan *p, unsigned element)
{
    if (p->evex)
        return ld_le64(bt_mask_opmask(c, p->mask_reg)) >> element & 1;
    return bt_mask_sign(c, p->mask_reg, element, p->element_size);
}

static void bt_mask_done(struct bt_cpu *c, const struct bt_plan *p, unsigned element)
{
    if (p->evex) {
        uint8_t *k = bt_mask_opmask(c, p->mask_reg);

        st_le64(k, ld_le64(k) & ~BIT64(element));
    } else {
        memset(bt_mask_vector(c, p->mask_reg, element * p->element_size), 0, p->element_size);
    }
}

static void bt_mask_clear_from(struct bt_cpu *c, unsigned reg, unsigned byte)
{
    for (; byte < 64; byte++)
        if (reg >= 16 || byte < 32 || c->fpu->size[ZMM_HI256_STATE])
            *bt_mask_vector(c, reg, byte) = 0;
}

static int bt_mask_move(struct bt_cpu *c, const struct bt_insn *in, const struct bt_plan *p,
                        unsigned element)
{
    uint8_t *at = bt_mask_vector(c, p->vector_reg, element * p->element_size);
    uint64_t off = bt_mask_address(c, in, p, element), val;
    int r;

    if (p->access & BT_ACCESS_WRITE) {
        val = p->element_size == 4 ? ld_le32(at) : ld_le64(at);
        return bt_write(c, in->seg, off, p->element_size, val);
    }
    r = bt_read(c, in->seg, off, p->element_size, &val);
    if (!r && p->element_size == 4)
        st_le32(at, (uint32_t)val);
    else if (!r)
        st_le64(at, val);
    return r;
}

/* Bytes of a gather's destination. */
static unsigned bt_mask_vsib_size(const struct bt_plan *p)
{
    return (unsigned)max_u64(16, p->count * p->element_size);
}

/* VEX, before anything else: the mask's elements become all ones or zero, and what is above them zero. */
static void bt_mask_prepare(struct bt_cpu *c, const struct bt_plan *p)
{
    for (unsigned i = 0; i < (unsigned)p->vl / p->element_size; i++)
        memset(bt_mask_vector(c, p->mask_reg, i * p->element_size),
               bt_mask_sign(c, p->mask_reg, i, p->element_size) ? 0xff : 0, p->element_size);
    bt_mask_clear_from(c, p->mask_reg, p->vl);
}

static int bt_mask_vsib_op(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    uint64_t touched = XCR0_SSE | XCR0_AVX;
    int r = bt_native_check(c, p->class);

    if (r)
        return r;
    bt_fpu_normalize(c);
    if (p->evex)
        touched |= XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM;
    st_le64(c->s.xsave + HEADER_AT, ld_le64(c->s.xsave + HEADER_AT) | touched);
    if (!p->evex)
        bt_mask_prepare(c, p);
    for (unsigned i = 0; i < p->count; i++) {
        if (!bt_mask_selected(c, p, i))
            continue;
        r = bt_mask_move(c, in, p, i);
        if (r)
            return r;
        bt_mask_done(c, p, i);
        if (!(p->access & BT_ACCESS_WRITE))
            bt_mask_clear_from(c, p->vector_reg, bt_mask_vsib_size(p));
    }
    if (p->evex)
        st_le64(bt_mask_opmask(c, p->mask_reg), 0);
    else
        bt_mask_clear_from(c, p->mask_reg, 0);
    if (!(p->access & BT_ACCESS_WRITE))
        bt_mask_clear_from(c, p->vector_reg, p->count * p->element_size);
    return BT_NEXT;
}

/* --- VZEROALL and VZEROUPPER outside 64-bit mode: only eight registers --- */
static int bt_mask_zero(struct bt_cpu *c, unsigned from)
{
    int r = bt_native_check(c, BT_FPU_AVX);

    if (r)
        return r;
    bt_fpu_normalize(c);
    for (unsigned reg = 0; reg < 8; reg++)
        bt_mask_clear_from(c, reg, from);
    return BT_NEXT;
}

static int bt_mask_zeroall(struct bt_cpu *c, const struct bt_insn *in)
{
    (void)in;
    return bt_mask_zero(c, 0);
}

static int bt_mask_zeroupper(struct bt_cpu *c, const struct bt_insn *in)
{
    (void)in;
    return bt_mask_zero(c, 16);
}

bt_op *bt_mask_zero_lookup(const ZydisDecodedInstruction *z)
{
    if (z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return NULL;
    return z->mnemonic == ZYDIS_MNEMONIC_VZEROALL     ? bt_mask_zeroall
           : z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ? bt_mask_zeroupper
                                                      : NULL;
}

/* --- planning --- */
static uint8_t bt_mask_id(const ZydisDecodedOperand *op)
{
    return (uint8_t)ZydisRegisterGetId(op->reg.value);
}

static const ZydisDecodedOperand *bt_mask_memory(const ZydisDecodedInstruction *z,
                                                 const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < z->operand_count; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return &ops[i];
    return NULL;
}

/* gather: dest, mem, mask (VEX) or dest, k, mem (EVEX); scatter: mem, k, source */
static bt_op *bt_mask_plan_vsib(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                                const ZydisDecodedOperand *mem, struct bt_plan *p)
{
    bool gather =
        z->meta.category == ZYDIS_CATEGORY_AVX2GATHER || z->meta.category == ZYDIS_CATEGORY_GATHER;
    const ZydisDecodedOperand *vector = gather ? &ops[0] : &ops[2];

    if (!gather && z->meta.category != ZYDIS_CATEGORY_SCATTER)
        return NULL;
    p->evex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
    p->access = gather ? BT_ACCESS_READ : BT_ACCESS_WRITE;
    p->vector_reg = bt_mask_id(vector);
    p->mask_reg = p->evex ? bt_mask_id(&ops[1]) : bt_mask_id(&ops[2]);
    p->index_reg = (uint8_t)ZydisRegisterGetId(mem->mem.index);
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VSCATTERQPS:
    case ZYDIS_MNEMONIC_VSCATTERQPD:
    case ZYDIS_MNEMONIC_VPSCATTERQD:
    case ZYDIS_MNEMONIC_VPSCATTERQQ:
        p->index_size = 8;
        break;
    default:
        p->index_size = 4;
    }
    p->element_size = (uint8_t)(vector->element_size / 8);
    if (p->element_size != 4 && p->element_size != 8)
        return NULL;
    p->vl = (uint8_t)(z->avx.vector_length / 8);
    p->count = (uint8_t)(p->vl / max_u64(p->element_size, p->index_size));
    return bt_mask_vsib_op;
}

/* Exception classes "NF": the whole operand is accessed whatever the mask says. */
static bool bt_mask_suppresses(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) { /* whose class Zydis 4.0 has wrong */
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VDBPSADBW:
        return false;
    default:
        break;
    }
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF:
        return false;
    default:
        return true;
    }
}

static bool bt_mask_scalar(const ZydisDecodedInstruction *z)
{
    return z->meta.isa_set == ZYDIS_ISA_SET_AVX512F_SCALAR ||
           z->meta.isa_set == ZYDIS_ISA_SET_AVX512DQ_SCALAR ||
           z->meta.isa_set == ZYDIS_ISA_SET_AVX512_FP16_SCALAR;
}

/* How many mask bits count. A narrow result leaves elements of its register without one. */
static unsigned bt_mask_bits(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *reg)
{
    ZydisBroadcastMode mode = z->avx.broadcast.mode;

    if (bt_mask_scalar(z))
        return 1;
    if (!z->avx.broadcast.is_static && mode >= ZYDIS_BROADCAST_MODE_1_TO_2 &&
        mode <= ZYDIS_BROADCAST_MODE_1_TO_64)
        return 2u << (mode - ZYDIS_BROADCAST_MODE_1_TO_2);
    return reg->element_count;
}

static bt_op *bt_mask_plan_evex(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                                const ZydisDecodedOperand *mem, struct bt_plan *p)
{
    const ZydisDecodedOperand *reg = mem == &ops[0] ? &ops[2] : &ops[0];
    unsigned bits;

    if (z->avx.mask.mode <= ZYDIS_MASK_MODE_DISABLED || !bt_mask_suppresses(z))
        return NULL;
    p->mask_reg = (uint8_t)ZydisRegisterGetId(z->avx.mask.reg);
    p->element_size = (uint8_t)(mem->element_size / 8);
    p->count = (uint8_t)mem->element_count;
    if (z->mnemonic == ZYDIS_MNEMONIC_VPSHUFBITQMB) { /* its bytes are masked, not its quadwords */
        p->element_size = 1;
        p->count = (uint8_t)p->mem_size;
        p->mask_kind = BT_MASK_K;
        return bt_mask_op;
    }
    if (z->meta.category == ZYDIS_CATEGORY_COMPRESS || z->meta.category == ZYDIS_CATEGORY_EXPAND) {
        p->mask_kind = BT_MASK_K_PACKED;
        return bt_mask_op;
    }
    /* A compare's destination is a mask: count by the first source. */
    if (reg->type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(reg->reg.value) == ZYDIS_REGCLASS_MASK)
        reg = &ops[2];
    bits = bt_mask_bits(z, reg);
    if (bits == mem->element_count && bits > 1) {
        p->mask_kind = BT_MASK_K;
    } else {
        p->mask_kind = BT_MASK_K_ANY;
        p->count = (uint8_t)bits;
    }
    return bt_mask_op;
}

bt_op *bt_mask_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_plan *p)
{
    const ZydisDecodedOperand *mem = bt_mask_memory(z, ops);

    if (!mem)
        return NULL;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        p->mask_kind = BT_MASK_VECTOR;
        p->mask_reg = bt_mask_id(&ops[1]);
        p->element_size =
            z->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS || z->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD
                ? 4
                : 8;
        p->count = (uint8_t)(p->mem_size / p->element_size);
        p->access = mem == &ops[0] ? BT_ACCESS_WRITE : BT_ACCESS_READ;
        return bt_mask_op;
    default:
        if (mem->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
            return bt_mask_plan_vsib(z, ops, mem, p);
        return bt_mask_plan_evex(z, ops, mem, p);
    }
}
