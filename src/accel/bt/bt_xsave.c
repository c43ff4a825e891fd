/*
 * bt_xsave.c: FXSAVE, FXRSTOR (SDM 1 10.5) and XSAVE, XSAVEOPT, XSAVEC, XRSTOR (SDM 1 13.7 to 13.10), in C
 * on struct x86_state.xsave. XSAVES is not offered. XSAVEOPT skips what is in its initial state, but not
 * what has not changed since XRSTOR.
 *
 * Memory is read and written in the pieces that the processor touches: reserved bytes stay as they are.
 */
#include "accel/bt/bt_native.h"
#include "accel/bt/bt_sys.h"

#include <string.h>

#include "base/endian.h"

enum {
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    FX_ST = 32,
    FX_XMM = 160,
    FX_END = 416,
    FX_SIZE = 512,
    FX_POINTERS_END = 24,
    XMM_SIZE = 16,
    HEADER = 512,
    HEADER_LEN = 64,
    HDR_BV = 0,
    HDR_COMP = 8,
    HDR_RESERVED = 16,
    EXTENDED = 576,
    MXCSR_INIT = 0x1f80,
    COMPONENTS = 10,
    HI16_ZMM = 7,
};
#define COMPACTED BIT64(63)

enum { OP_WIDE = 1 }; /* bt_insn.imm2: pointers of 64 bits (REX.W) */

static bool bt_xsave_long(const struct bt_cpu *c)
{
    return c->code_size == 8;
}

/* Bytes of component i that the current mode sees: half of the registers outside 64-bit mode. */
static unsigned bt_xsave_len(const struct bt_cpu *c, unsigned i)
{
    if (i >= COMPONENTS)
        return 0;
    if (bt_xsave_long(c) || !(BIT64(i) & (XCR0_AVX | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)))
        return c->fpu->size[i];
    return i == HI16_ZMM ? 0 : c->fpu->size[i] / 2;
}

static unsigned bt_xsave_xmm_len(const struct bt_cpu *c)
{
    return bt_xsave_long(c) ? FX_END - FX_XMM : 8 * XMM_SIZE;
}

/* Where component i lies in an area with this XCOMP_BV (0: standard format). */
static unsigned bt_xsave_offset(const struct bt_cpu *c, uint64_t comp, unsigned i)
{
    const struct bt_fpu *f = c->fpu;
    unsigned at = EXTENDED;

    if (!(comp & COMPACTED))
        return f->offset[i];
    for (unsigned k = 2; k <= i; k++) {
        if (!(comp >> k & 1))
            continue;
        if (f->align64 >> k & 1)
            at = (unsigned)align_up(at, 64);
        if (k < i)
            at += f->size[k];
    }
    return at;
}

/* Bytes of an area with the components of mask. */
static unsigned bt_xsave_total(const struct bt_cpu *c, uint64_t comp, uint64_t mask)
{
    unsigned total = EXTENDED;

    for (unsigned i = 2; i < COMPONENTS; i++)
        if (mask >> i & 1)
            total = (unsigned)max_u64(total, bt_xsave_offset(c, comp, i) + c->fpu->size[i]);
    return total;
}

/* --- x87 pointers: 64 bits, or 32 bits and selectors that read as 0 --- */
static void bt_xsave_pointers_out(const uint8_t *x, bool wide, uint8_t *out)
{
    memcpy(out, x, FX_POINTERS_END);
    if (!wide) {
        st_le32(out + FX_FIP + 4, 0);
        st_le32(out + FX_FDP + 4, 0);
    }
}

static void bt_xsave_pointers_in(const struct bt_fpu *f, uint8_t *x, bool wide, const uint8_t *in)
{
    const unsigned above = 64 - f->fip_bits;

    memcpy(x, in, FX_POINTERS_END);
    st_le64(x + FX_FIP, (uint64_t)((int64_t)(ld_le64(in + FX_FIP) << above) >> above));
    if (!wide) {
        st_le32(x + FX_FIP + 4, 0);
        st_le32(x + FX_FDP + 4, 0);
    }
}

/* The components in use (XINUSE), of s.xsave. What the mode does not see counts as unused. */
static uint64_t bt_xsave_inuse(const struct bt_cpu *c)
{
    return ld_le64(c->s.xsave + HEADER) & (bt_xsave_long(c) ? ~0ull : ~XCR0_HI16_ZMM);
}

/* --- checks common to all --- */
static int bt_xsave_gp(struct bt_cpu *c)
{
    return bt_raise_err(c, X86_GP, 0);
}

/* Linear address of the area, aligned; the processor looks at that behind the segment. */
static int bt_xsave_area(struct bt_cpu *c, const struct bt_insn *in, unsigned len, unsigned align,
                         bool write, uint64_t *lin)
{
    int r = bt_native_linear(c, in, len, write, lin);

    return !r && *lin & (align - 1) ? bt_xsave_gp(c) : r;
}

static int bt_xsave_check(struct bt_cpu *c)
{
    if (!(c->s.cr4 & CR4_OSXSAVE))
        return bt_raise(c, X86_UD);
    return c->s.cr0 & CR0_TS ? bt_raise(c, X86_NM) : 0;
}

/* --- FXSAVE and FXRSTOR --- */
static int bt_xsave_fxsave(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned end = FX_XMM + bt_xsave_xmm_len(c);
    uint8_t *out = c->fpu->page;
    uint64_t lin;
    int r = bt_native_check(c, BT_FPU_X87);

    if (!r)
        r = bt_xsave_area(c, in, FX_SIZE, 16, true, &lin);
    if (!r)
        r = bt_native_probe(c, lin, FX_SIZE);
    if (r)
        return r;
    bt_fpu_normalize(c);
    memcpy(out, c->s.xsave, end);
    bt_xsave_pointers_out(c->s.xsave, in->imm2 & OP_WIDE, out);
    st_le32(out + FX_MXCSR_MASK, c->fpu->mxcsr_mask);
    return bt_lin_copy_out(c, lin, out, end, c->mmu);
}

static int bt_xsave_fxrstor(struct bt_cpu *c, const struct bt_insn *in)
{
    uint8_t *img = c->fpu->page, *x = c->s.xsave;
    uint64_t lin;
    int r = bt_native_check(c, BT_FPU_X87);

    if (!r)
        r = bt_xsave_area(c, in, FX_SIZE, 16, false, &lin);
    if (!r)
        r = bt_lin_copy_in(c, lin, img, FX_SIZE, c->mmu);
    if (!r && (ld_le32(img + FX_MXCSR) & ~c->fpu->mxcsr_mask))
        r = bt_xsave_gp(c);
    if (r)
        return r;
    bt_fpu_normalize(c);
    bt_xsave_pointers_in(c->fpu, x, in->imm2 & OP_WIDE, img);
    st_le32(x + FX_MXCSR, ld_le32(img + FX_MXCSR));
    memcpy(x + FX_ST, img + FX_ST, FX_XMM - FX_ST + bt_xsave_xmm_len(c));
    st_le64(x + HEADER, ld_le64(x + HEADER) | XCR0_X87 | XCR0_SSE);
    bt_fpu_load(c); /* the processor repairs what no x87 can hold */
    return BT_NEXT;
}

/* --- XSAVE, XSAVEOPT, XSAVEC --- */
struct bt_xsave_job {
    uint64_t lin;
    uint64_t rfbm; /* requested features that XCR0 enables */
    uint64_t save; /* components whose bytes move */
    uint64_t comp; /* XCOMP_BV */
    bool wide, mxcsr;
};

static uint64_t bt_xsave_rfbm(const struct bt_cpu *c)
{
    return ((c->s.gpr[X86_RDX] & 0xffffffff) << 32 | (c->s.gpr[X86_RAX] & 0xffffffff)) & c->s.xcr0;
}

static int bt_xsave_out(struct bt_cpu *c, const struct bt_xsave_job *j, unsigned at, unsigned from,
                        unsigned len)
{
    return len ? bt_lin_copy_out(c, j->lin + at, c->s.xsave + from, len, c->mmu) : 0;
}

static int bt_xsave_write_legacy(struct bt_cpu *c, const struct bt_xsave_job *j)
{
    uint8_t head[FX_ST];
    int r = 0;

    bt_xsave_pointers_out(c->s.xsave, j->wide, head);
    st_le32(head + FX_MXCSR, ld_le32(c->s.xsave + FX_MXCSR));
    st_le32(head + FX_MXCSR_MASK, c->fpu->mxcsr_mask);
    if (j->save & XCR0_X87) {
        r = bt_lin_copy_out(c, j->lin, head, FX_POINTERS_END, c->mmu);
        if (!r)
            r = bt_xsave_out(c, j, FX_ST, FX_ST, FX_XMM - FX_ST);
    }
    if (!r && j->mxcsr)
        r = bt_lin_copy_out(c, j->lin + FX_MXCSR, head + FX_MXCSR, 8, c->mmu);
    if (!r && (j->save & XCR0_SSE))
        r = bt_xsave_out(c, j, FX_XMM, FX_XMM, bt_xsave_xmm_len(c));
    return r;
}

static int bt_xsave_write(struct bt_cpu *c, const struct bt_xsave_job *j)
{
    int r = bt_xsave_write_legacy(c, j);

    for (unsigned i = 2; !r && i < COMPONENTS; i++)
        if (j->save >> i & 1)
            r = bt_xsave_out(c, j, bt_xsave_offset(c, j->comp, i), c->fpu->offset[i],
                             bt_xsave_len(c, i));
    return r;
}

/* Alignment, and that every page of the area can be written. Leaves s.xsave exact. */
static int bt_xsave_begin(struct bt_cpu *c, const struct bt_insn *in, struct bt_xsave_job *j)
{
    unsigned total;
    int r = bt_xsave_check(c);

    if (r)
        return r;
    j->rfbm = bt_xsave_rfbm(c);
    j->wide = in->imm2 & OP_WIDE;
    if (j->comp)
        j->comp |= j->rfbm;
    total = bt_xsave_total(c, j->comp, j->rfbm);
    r = bt_xsave_area(c, in, total, 64, true, &j->lin);
    if (!r)
        r = bt_native_probe(c, j->lin, total);
    if (!r)
        bt_fpu_normalize(c);
    return r;
}

static int bt_xsave_save(struct bt_cpu *c, const struct bt_insn *in, bool optimize)
{
    struct bt_xsave_job j = { .comp = 0 };
    uint64_t bv, inuse;
    int r = bt_xsave_begin(c, in, &j);

    if (!r)
        r = bt_lin_read(c, j.lin + HEADER, 8, &bv, c->mmu);
    if (r)
        return r;
    inuse = bt_xsave_inuse(c);
    j.save = optimize ? j.rfbm & inuse : j.rfbm;
    j.mxcsr = j.rfbm & (XCR0_SSE | XCR0_AVX);
    r = bt_xsave_write(c, &j);
    return r ? r : bt_lin_write(c, j.lin + HEADER, 8, (bv & ~j.rfbm) | (inuse & j.rfbm), c->mmu);
}

static int bt_xsave_xsave(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_xsave_save(c, in, false);
}

static int bt_xsave_xsaveopt(struct bt_cpu *c, const struct bt_insn *in)
{
    return bt_xsave_save(c, in, true);
}

static int bt_xsave_xsavec(struct bt_cpu *c, const struct bt_insn *in)
{
    struct bt_xsave_job j = { .comp = COMPACTED };
    uint8_t header[HDR_RESERVED];
    uint64_t inuse;
    int r = bt_xsave_begin(c, in, &j);

    if (r)
        return r;
    inuse = bt_xsave_inuse(c);
    if (ld_le32(c->s.xsave + FX_MXCSR) != MXCSR_INIT)
        inuse |= XCR0_SSE;
    j.save = j.rfbm & inuse;
    j.mxcsr = j.save & XCR0_SSE;
    st_le64(header + HDR_BV, j.save);
    st_le64(header + HDR_COMP, j.comp);
    r = bt_xsave_write(c, &j);
    return r ? r : bt_lin_copy_out(c, j.lin + HEADER, header, sizeof(header), c->mmu);
}

/* --- XRSTOR --- */
static bool bt_xsave_zero(const uint8_t *p, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

/* A header that XRSTOR accepts (SDM 1 13.8.1, 13.8.2). */
static bool bt_xsave_header_ok(const struct bt_cpu *c, const uint8_t *h)
{
    uint64_t bv = ld_le64(h + HDR_BV), comp = ld_le64(h + HDR_COMP);

    if (comp & COMPACTED)
        return cpuid_has(&c->vm->cpuid, 0xd, 1, 0, 1) && !(comp & ~COMPACTED & ~c->s.xcr0) &&
               !(bv & ~comp) && bt_xsave_zero(h + HDR_RESERVED, HEADER_LEN - HDR_RESERVED);
    return !(bv & ~c->s.xcr0) && !comp && bt_xsave_zero(h + HDR_RESERVED, 8);
}

/* Component by component: from the image, or to its initial state. All bytes are here already. */
static void bt_xsave_take(struct bt_cpu *c, const struct bt_xsave_job *j, const uint8_t *img)
{
    enum { FCW_INIT = 0x37f };
    uint8_t *x = c->s.xsave;
    uint64_t inuse = ld_le64(x + HEADER);

    if (j->rfbm & XCR0_X87) {
        bool load = j->save & XCR0_X87;

        memset(x, 0, FX_POINTERS_END);
        memset(x + FX_ST, 0, FX_XMM - FX_ST);
        st_le16(x, FCW_INIT);
        if (load) {
            bt_xsave_pointers_in(c->fpu, x, j->wide, img);
            memcpy(x + FX_ST, img + FX_ST, FX_XMM - FX_ST);
        }
    }
    if (j->rfbm & XCR0_SSE) {
        memset(x + FX_XMM, 0, bt_xsave_xmm_len(c));
        if (j->save & XCR0_SSE)
            memcpy(x + FX_XMM, img + FX_XMM, bt_xsave_xmm_len(c));
    }
    for (unsigned i = 2; i < COMPONENTS; i++) {
        if (!(j->rfbm >> i & 1))
            continue;
        memset(x + c->fpu->offset[i], 0, bt_xsave_len(c, i));
        if (j->save >> i & 1)
            memcpy(x + c->fpu->offset[i], img + bt_xsave_offset(c, j->comp, i), bt_xsave_len(c, i));
    }
    inuse = (inuse & ~j->rfbm) | j->save;
    if (!bt_xsave_long(c)) /* the other half of the registers is still there */
        inuse |= ld_le64(x + HEADER) & j->rfbm & ~XCR0_X87;
    st_le64(x + HEADER, inuse);
}

static int bt_xsave_xrstor(struct bt_cpu *c, const struct bt_insn *in)
{
    struct bt_xsave_job j = { .rfbm = bt_xsave_rfbm(c), .wide = in->imm2 & OP_WIDE };
    uint8_t *img = c->fpu->page;
    uint32_t mxcsr = MXCSR_INIT;
    int r = bt_xsave_check(c);

    if (!r)
        r = bt_xsave_area(c, in, EXTENDED, 64, false, &j.lin);
    if (!r)
        r = bt_lin_copy_in(c, j.lin, img, EXTENDED, c->mmu);
    if (!r && !bt_xsave_header_ok(c, img + HEADER))
        r = bt_xsave_gp(c);
    if (r)
        return r;
    j.comp = ld_le64(img + HEADER + HDR_COMP);
    j.save = j.rfbm & ld_le64(img + HEADER + HDR_BV);
    for (unsigned i = 2; !r && i < COMPONENTS; i++) {
        unsigned at = bt_xsave_offset(c, j.comp, i);

        if (j.save >> i & 1)
            r = bt_lin_copy_in(c, j.lin + at, img + at, c->fpu->size[i], c->mmu);
    }
    j.mxcsr = j.comp ? j.rfbm & XCR0_SSE : j.rfbm & (XCR0_SSE | XCR0_AVX);
    if (!j.comp || (j.save & XCR0_SSE))
        mxcsr = ld_le32(img + FX_MXCSR);
    if (!r && j.mxcsr && (mxcsr & ~c->fpu->mxcsr_mask))
        r = bt_xsave_gp(c);
    if (r)
        return r;
    bt_fpu_normalize(c);
    bt_xsave_take(c, &j, img);
    if (j.rfbm & XCR0_PKRU)
        bt_pkru_changed(c);
    if (j.mxcsr)
        st_le32(c->s.xsave + FX_MXCSR, mxcsr);
    bt_fpu_load(c);
    return BT_NEXT;
}

bt_op *bt_xsave_lookup(const ZydisDecodedInstruction *z, struct bt_insn *in)
{
    static const struct {
        ZydisMnemonic narrow, wide;
        bt_op *op;
    } ops[] = {
        { ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64, bt_xsave_fxsave },
        { ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64, bt_xsave_fxrstor },
        { ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64, bt_xsave_xsave },
        { ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64, bt_xsave_xsaveopt },
        { ZYDIS_MNEMONIC_XSAVEC, ZYDIS_MNEMONIC_XSAVEC64, bt_xsave_xsavec },
        { ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64, bt_xsave_xrstor },
    };

    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        if (z->mnemonic == ops[i].narrow || z->mnemonic == ops[i].wide) {
            in->imm2 = z->mnemonic == ops[i].wide ? OP_WIDE : 0;
            return ops[i].op;
        }
    }
    return NULL;
}
