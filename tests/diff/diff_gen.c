/*
 * diff_gen.c: random instructions: random bytes in the shape of one of the encodings, kept if Zydis knows
 * them and they belong to what unprivileged code may run and what has one answer (no clocks, no random
 * numbers, nothing that names the machine). Addresses are then bent towards the data pages.
 */
#include "diff.h"

#include <Zydis/Zydis.h>
#include <string.h>

struct diff_gen {
    uint64_t rng[2];
    uint64_t xcr0;
    ZydisDecoder decoder[2]; /* of 64-bit and of 32-bit code */
    unsigned code32_mode;
    const char *only;
    bool code32;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
};

struct diff_gen *diff_gen_create(uint64_t seed, uint64_t xcr0, unsigned code32, const char *only)
{
    struct diff_gen *g = calloc(1, sizeof(*g));

    BUG_ON(!g);
    g->rng[0] = seed * 0x9e3779b97f4a7c15ull + 1;
    g->rng[1] = seed ^ 0xd1b54a32d192ed03ull;
    g->xcr0 = xcr0;
    g->code32_mode = code32;
    g->only = only;
    ZydisDecoderInit(&g->decoder[0], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderInit(&g->decoder[1], ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    return g;
}

void diff_gen_destroy(struct diff_gen *g)
{
    free(g);
}

/* xorshift128+ */
static uint64_t diff_gen_rand(struct diff_gen *g)
{
    uint64_t a = g->rng[0], b = g->rng[1];

    g->rng[0] = b;
    a ^= a << 23;
    g->rng[1] = a ^ b ^ a >> 17 ^ b >> 26;
    return g->rng[1] + b;
}

static unsigned diff_gen_below(struct diff_gen *g, unsigned n)
{
    return (unsigned)((diff_gen_rand(g) >> 32) % n);
}

static bool diff_gen_one_in(struct diff_gen *g, unsigned n)
{
    return diff_gen_below(g, n) == 0;
}

/* --- values --- */
static uint64_t diff_gen_integer(struct diff_gen *g)
{
    uint64_t v = diff_gen_rand(g);

    switch (diff_gen_below(g, 8)) {
    case 0:
        return v & 0xff;
    case 1:
        return (uint64_t)(int64_t)(int8_t)v;
    case 2:
        return (uint64_t)(int64_t)(int32_t)v;
    case 3:
        return BIT64(v & 63) - (v >> 6 & 1);
    case 4:
        return diff_gen_one_in(g, 2) ? 0 : v & 1 ? ~0ull : 1ull << 63;
    case 5:
        return v & 0xffffffff;
    default:
        return v;
    }
}

static uint32_t diff_gen_float(struct diff_gen *g)
{
    static const uint32_t special[] = { 0,          0x80000000, 0x3f800000, 0x7f800000,
                                        0xff800000, 0x7fc00000, 0x7f800001, 1,
                                        0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000 };

    if (diff_gen_one_in(g, 4))
        return special[diff_gen_below(g, ARRAY_SIZE(special))];
    return (uint32_t)(diff_gen_rand(g) & 0x807fffff) | (110 + diff_gen_below(g, 40)) << 23;
}

static uint64_t diff_gen_double(struct diff_gen *g)
{
    static const uint64_t special[] = {
        0,
        1ull << 63,
        0x3ff0000000000000ull,
        0x7ff0000000000000ull,
        0xfff0000000000000ull,
        0x7ff8000000000000ull,
        0x7ff0000000000001ull,
        1,
        0x000fffffffffffffull,
        0x0010000000000000ull,
        0x7fefffffffffffffull,
        0x43e0000000000000ull,
    };

    if (diff_gen_one_in(g, 4))
        return special[diff_gen_below(g, ARRAY_SIZE(special))];
    return (diff_gen_rand(g) & 0x800fffffffffffffull) | (uint64_t)(1000 + diff_gen_below(g, 60))
                                                            << 52;
}

/* Fills with eight-byte units of one kind. */
static void diff_gen_fill(struct diff_gen *g, uint8_t *p, unsigned len)
{
    for (unsigned i = 0; i < len; i += 16) {
        unsigned kind = diff_gen_below(g, 5);

        for (unsigned k = 0; k < 16; k += 8) {
            uint64_t v = kind == 0   ? diff_gen_double(g)
                         : kind == 1 ? diff_gen_float(g) | (uint64_t)diff_gen_float(g) << 32
                         : kind == 2 ? diff_gen_integer(g)
                         : kind == 3 ? (uint64_t)diff_gen_below(g, 64) << 32 | diff_gen_below(g, 64)
                                     : diff_gen_rand(g);

            memcpy(p + i + k, &v, 8);
        }
    }
}

static void diff_gen_x87(struct diff_gen *g, uint8_t *x)
{
    enum {
        FCW_AT = 0,
        FSW_AT = 2,
        FTW_AT = 4,
        FOP_AT = 6,
        FIP_AT = 8,
        FDP_AT = 16,
        ST_AT = 32,
        ST = 16
    };
    uint16_t fcw = (uint16_t)(0x37f | (diff_gen_rand(g) & 0xc00)), fsw, fop, exponent;
    uint64_t pointer = diff_gen_rand(g) >> 17, fraction;

    if (diff_gen_one_in(g, 4))
        fcw = (uint16_t)(diff_gen_rand(g) & 0xf3f) | 0x40;
    fsw = (uint16_t)(diff_gen_rand(g) & 0x7f00);
    if (diff_gen_one_in(g, 6))
        fsw |= (uint16_t)(diff_gen_rand(g) & 0x7f);
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    fop = (uint16_t)(diff_gen_rand(g) & 0x7ff);
    memset(x, 0, ST_AT - 8);
    memcpy(x + FCW_AT, &fcw, 2);
    memcpy(x + FSW_AT, &fsw, 2);
    x[FTW_AT] = (uint8_t)(diff_gen_one_in(g, 3) ? diff_gen_rand(g) : 0xff);
    memcpy(x + FOP_AT, &fop, 2);
    memcpy(x + FIP_AT, &pointer, 8);
    pointer = diff_gen_rand(g) >> 17;
    memcpy(x + FDP_AT, &pointer, 8);
    for (unsigned i = 0; i < 8; i++) {
        fraction = diff_gen_rand(g) | 1ull << 63;
        exponent = (uint16_t)((16383 - 20 + diff_gen_below(g, 70)) | (diff_gen_rand(g) & 0x8000));
        if (diff_gen_one_in(g, 5)) {
            fraction = diff_gen_one_in(g, 2) ? 0 : diff_gen_rand(g);
            exponent = (uint16_t)(diff_gen_one_in(g, 2) ? 0 : 0x7fff);
        }
        memcpy(x + ST_AT + i * ST, &fraction, 8);
        memcpy(x + ST_AT + i * ST + 8, &exponent, 2);
    }
}

static void diff_gen_fpu(struct diff_gen *g, uint8_t *x)
{
    enum {
        MXCSR_AT = 24,
        ST_AT = 32,
        XMM_AT = 160,
        HEADER_AT = 512,
        EXTENDED = 576,
        OPMASK = 1088
    };
    uint32_t mxcsr = 0x1f80 | (uint32_t)(diff_gen_rand(g) & 0xe07f);
    uint64_t bv = g->xcr0;

    memset(x, 0, DIFF_XSAVE);
    diff_gen_fill(g, x + XMM_AT, HEADER_AT - 96 - XMM_AT);
    diff_gen_fill(g, x + EXTENDED, DIFF_XSAVE - EXTENDED);
    diff_gen_x87(g, x);
    if (diff_gen_one_in(g, 8))
        mxcsr = (uint32_t)(diff_gen_rand(g) & 0xffff);
    memcpy(x + MXCSR_AT, &mxcsr, 4);
    if (diff_gen_one_in(g, 8))
        bv &= diff_gen_rand(g);
    memcpy(x + HEADER_AT, &bv, 8);
}

/* --- instructions --- */
static bool diff_gen_category_ok(const ZydisDecodedInstruction *z)
{
    switch (z->meta.category) {
    case ZYDIS_CATEGORY_AMX_TILE:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_CET:
    case ZYDIS_CATEGORY_CLZERO:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_ENQCMD:
    case ZYDIS_CATEGORY_HRESET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_KEYLOCKER:
    case ZYDIS_CATEGORY_KEYLOCKER_WIDE:
    case ZYDIS_CATEGORY_MPX:
    case ZYDIS_CATEGORY_PADLOCK:
    case ZYDIS_CATEGORY_PCONFIG:
    case ZYDIS_CATEGORY_PKU:
    case ZYDIS_CATEGORY_PT:
    case ZYDIS_CATEGORY_RDPID:
    case ZYDIS_CATEGORY_RDPRU:
    case ZYDIS_CATEGORY_RDRAND:
    case ZYDIS_CATEGORY_RDSEED:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SGX:
    case ZYDIS_CATEGORY_SMAP:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_TSX_LDTRK:
    case ZYDIS_CATEGORY_UINTR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_WAITPKG:
        return false;
    default:
        return true;
    }
}

static bool diff_gen_mnemonic_ok(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_CLI: /* privileged at this level, but the fault is not the point */
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_UD0: /* the host kernel's own use of it */
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_MOVDIR64B: /* not offered */
    case ZYDIS_MNEMONIC_PTWRITE:
    case ZYDIS_MNEMONIC_POPF: /* TF and AC would reach the host's process */
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_XBEGIN:
    case ZYDIS_MNEMONIC_XEND:
    case ZYDIS_MNEMONIC_XABORT:
    case ZYDIS_MNEMONIC_XTEST:
    case ZYDIS_MNEMONIC_XGETBV: /* the host's XCR0 has more in it */
    case ZYDIS_MNEMONIC_XSETBV:
    case ZYDIS_MNEMONIC_XSAVES:
    case ZYDIS_MNEMONIC_XSAVES64:
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_LAR: /* need the host's descriptor tables */
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        return false;
    default:
        return true;
    }
}

static bool diff_gen_operands_ok(const struct diff_gen *g)
{
    for (unsigned i = 0; i < g->z.operand_count; i++) {
        const ZydisDecodedOperand *op = &g->ops[i];

        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            switch (ZydisRegisterGetClass(op->reg.value)) {
            case ZYDIS_REGCLASS_SEGMENT:
            case ZYDIS_REGCLASS_CONTROL:
            case ZYDIS_REGCLASS_DEBUG:
            case ZYDIS_REGCLASS_TABLE:
            case ZYDIS_REGCLASS_TMM:
            case ZYDIS_REGCLASS_BOUND:
                return false;
            default:
                break;
            }
        } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
                   (op->mem.segment == ZYDIS_REGISTER_FS || op->mem.segment == ZYDIS_REGISTER_GS)) {
            return false; /* the host's thread pointer */
        }
    }
    return true;
}

static unsigned diff_gen_prefixes(struct diff_gen *g, uint8_t *p)
{
    unsigned n = 0;

    if (diff_gen_one_in(g, 4))
        p[n++] = 0x66;
    if (diff_gen_one_in(g, 3))
        p[n++] = diff_gen_one_in(g, 2) ? 0xf2 : 0xf3;
    if (diff_gen_one_in(g, 30))
        p[n++] = 0x67;
    if (diff_gen_one_in(g, 20))
        p[n++] = 0xf0;
    if (diff_gen_one_in(g, 40))
        p[n++] = 0x3e;
    return n;
}

static unsigned diff_gen_legacy(struct diff_gen *g, uint8_t *p)
{
    static const uint8_t escape[][2] = { { 0 }, { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
    unsigned map = diff_gen_below(g, 4), n = diff_gen_prefixes(g, p);

    if (!g->code32 && diff_gen_one_in(g, 2))
        p[n++] = (uint8_t)(0x40 | diff_gen_below(g, 16));
    for (unsigned i = 0; i < 2 && escape[map][i]; i++)
        p[n++] = escape[map][i];
    return n;
}

static unsigned diff_gen_vex(struct diff_gen *g, uint8_t *p)
{
    if (diff_gen_one_in(g, 3)) {
        p[0] = 0xc5;
        p[1] = (uint8_t)diff_gen_rand(g);
        return 2;
    }
    p[0] = 0xc4;
    p[1] = (uint8_t)((diff_gen_rand(g) & 0xe0) | (1 + diff_gen_below(g, 3)));
    p[2] = (uint8_t)diff_gen_rand(g);
    return 3;
}

static unsigned diff_gen_evex(struct diff_gen *g, uint8_t *p)
{
    static const uint8_t maps[] = { 1, 2, 3, 5, 6 };

    p[0] = 0x62;
    p[1] = (uint8_t)((diff_gen_rand(g) & 0xf0) | maps[diff_gen_below(g, ARRAY_SIZE(maps))]);
    p[2] = (uint8_t)(diff_gen_rand(g) | 4);
    p[3] = (uint8_t)diff_gen_rand(g);
    if (diff_gen_one_in(g, 2))
        p[2] |= 0x78; /* no vvvv */
    if (diff_gen_one_in(g, 3))
        p[3] &= 0x6f; /* no zeroing, no broadcast */
    return 4;
}

/* Random bytes in the shape of an instruction; false: not one we want. */
static bool diff_gen_try(struct diff_gen *g, uint8_t *code)
{
    uint64_t tail[2] = { diff_gen_rand(g), diff_gen_rand(g) };
    unsigned kind = diff_gen_below(g, 8), n;

    memcpy(code, tail, 16);
    g->code32 = g->code32_mode == 2 || (g->code32_mode == 1 && diff_gen_one_in(g, 2));
    if (kind < 4) {
        n = diff_gen_legacy(g, code);
    } else if (kind < 5) {
        n = diff_gen_one_in(g, 2) ? diff_gen_prefixes(g, code) : 0;
        code[n] = (uint8_t)(0xd8 | diff_gen_below(g, 8));
        n++;
    } else {
        n = kind < 6 ? diff_gen_vex(g, code) : diff_gen_evex(g, code);
    }
    return n < 12 &&
           ZYAN_SUCCESS(ZydisDecoderDecodeFull(&g->decoder[g->code32], code, 15, &g->z, g->ops)) &&
           diff_gen_category_ok(&g->z) && diff_gen_mnemonic_ok(g->z.mnemonic) &&
           diff_gen_operands_ok(g) &&
           (!g->only || strstr(ZydisMnemonicGetString(g->z.mnemonic), g->only));
}

/* --- addresses --- */
/* Somewhere in the data pages; rarely where it faults. Locked accesses never cross a cache line. */
static uint64_t diff_gen_target(struct diff_gen *g, unsigned size)
{
    unsigned room = DIFF_RW - 1024;

    if (g->z.attributes & ZYDIS_ATTRIB_HAS_LOCK || g->z.mnemonic == ZYDIS_MNEMONIC_XCHG)
        return DIFF_DATA + 64 * diff_gen_below(g, DIFF_MEM / 64);
    switch (diff_gen_below(g, 20)) {
    case 0:
        return DIFF_DATA + DIFF_MEM - diff_gen_below(g, 2 * size + 2);
    case 1:
        return DIFF_DATA + DIFF_RW - diff_gen_below(g, 2 * size + 2);
    case 2:
        return DIFF_DATA - diff_gen_below(g, 2 * size + 2);
    case 3:
    case 4:
        return DIFF_DATA + PAGE_SIZE - diff_gen_below(g, size + 1);
    case 5:
        return diff_gen_one_in(g, 4) ? diff_gen_rand(g)
                                     : DIFF_DATA + DIFF_RW + diff_gen_below(g, 64);
    case 6:
    case 7:
    case 8:
        return DIFF_DATA + 128 + diff_gen_below(g, room);
    default:
        return DIFF_DATA + 128 + (diff_gen_below(g, room) & ~63u);
    }
}

static unsigned diff_gen_gpr(ZydisRegister r)
{
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r) - ZYDIS_REGISTER_RAX;
}

static void diff_gen_disp(struct diff_gen *g, struct diff_case *c, uint64_t value)
{
    memcpy(c->code + g->z.raw.disp.offset, &value, g->z.raw.disp.size / 8);
}

/* Small indices for gathers, all of the register. */
static void diff_gen_vsib(struct diff_gen *g, struct diff_case *c)
{
    enum { XMM_AT = 160, YMM_AT = 576, ZMM_AT = 1152, HI16_AT = 1664 };
    uint64_t v[8];

    for (unsigned r = 0; r < 32; r++) {
        for (unsigned i = 0; i < 8; i++) {
            v[i] = diff_gen_below(g, 200);
            if (diff_gen_one_in(g, 2))
                v[i] |= (uint64_t)diff_gen_below(g, 200) << 32;
        }
        if (diff_gen_one_in(g, 2))
            continue;
        if (r >= 16) {
            memcpy(c->regs.xsave + HI16_AT + (r - 16) * 64, v, 64);
            continue;
        }
        memcpy(c->regs.xsave + XMM_AT + r * 16, v, 16);
        memcpy(c->regs.xsave + YMM_AT + r * 16, v + 2, 16);
        memcpy(c->regs.xsave + ZMM_AT + r * 32, v + 4, 32);
    }
}

static void diff_gen_address(struct diff_gen *g, struct diff_case *c, const ZydisDecodedOperand *op)
{
    uint64_t target = diff_gen_target(g, op->size / 8u),
             value = target - (uint64_t)op->mem.disp.value;
    ZydisRegister base = op->mem.base, index = op->mem.index;
    bool vsib = op->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
    unsigned b, i;

    if (vsib)
        diff_gen_vsib(g, c);
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP) {
        diff_gen_disp(g, c, target - c->regs.rip - c->len);
        return;
    }
    if (base == ZYDIS_REGISTER_NONE) {
        if (index != ZYDIS_REGISTER_NONE && !vsib) {
            i = diff_gen_gpr(index);
            c->regs.gpr[i] = diff_gen_below(g, 64);
            target -= c->regs.gpr[i] * op->mem.scale;
        }
        if (g->z.raw.disp.size >= 32)
            diff_gen_disp(g, c, target);
        return;
    }
    b = diff_gen_gpr(base);
    if (index != ZYDIS_REGISTER_NONE && !vsib) {
        i = diff_gen_gpr(index);
        if (i == b) {
            c->regs.gpr[b] = value / (1u + op->mem.scale);
            return;
        }
        if (diff_gen_one_in(g, 2))
            c->regs.gpr[i] = diff_gen_below(g, 64);
        value -= c->regs.gpr[i] * op->mem.scale;
    }
    c->regs.gpr[b] = value;
}

/* Bit offsets of BT and its kin reach far beyond the operand: keep most of them near. */
static void diff_gen_near_bits(struct diff_gen *g, struct diff_case *c)
{
    if (g->z.meta.category == ZYDIS_CATEGORY_BITBYTE &&
        g->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(g->ops[1].reg.value) >= ZYDIS_REGCLASS_GPR8 &&
        ZydisRegisterGetClass(g->ops[1].reg.value) <= ZYDIS_REGCLASS_GPR64 &&
        !diff_gen_one_in(g, 4))
        c->regs.gpr[diff_gen_gpr(g->ops[1].reg.value)] =
            (uint64_t)((int64_t)diff_gen_below(g, 4096) - 1024);
}

/* An area that XRSTOR and FXRSTOR accept more often than not. */
static void diff_gen_xsave_image(struct diff_gen *g, struct diff_case *c, uint64_t at)
{
    uint64_t bv = g->xcr0 & diff_gen_rand(g), comp = 0;
    uint8_t *p;

    if (at < DIFF_DATA || at + DIFF_XSAVE > DIFF_DATA + DIFF_RW)
        return;
    p = c->mem + (at - DIFF_DATA);
    diff_gen_fpu(g, p);
    if (diff_gen_one_in(g, 4)) /* pointers that no address has */
        diff_gen_fill(g, p + 8, 16);
    memset(p + 512, 0, 64);
    if (diff_gen_one_in(g, 2)) {
        comp = (bv | (g->xcr0 & diff_gen_rand(g))) | 1ull << 63;
        memcpy(p + 520, &comp, 8);
    }
    memcpy(p + 512, &bv, 8);
    if (diff_gen_one_in(g, 16))
        p[512 + diff_gen_below(g, 64)] ^= (uint8_t)(1u << diff_gen_below(g, 8));
    for (unsigned i = 512; i < 528;
         i += 8) { /* components that only the host's XCR0 has: PKRU, AMX */
        p[i + 1] &= 0xfd;
        p[i + 2] &= 0xf9;
    }
}

static void diff_gen_special(struct diff_gen *g, struct diff_case *c)
{
    const bool xsave =
        g->z.meta.category == ZYDIS_CATEGORY_XSAVE || g->z.meta.category == ZYDIS_CATEGORY_XSAVEOPT;
    const bool fx =
        g->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE || g->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64;

    if (g->z.meta.category == ZYDIS_CATEGORY_STRINGOP && !diff_gen_one_in(g, 8))
        c->regs.gpr[X86_RCX] = diff_gen_below(g, 40);
    diff_gen_near_bits(g, c);
    if (!xsave && !fx)
        return;
    if (g->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY && g->ops[0].mem.base != ZYDIS_REGISTER_NONE &&
        g->ops[0].mem.base != ZYDIS_REGISTER_RIP && g->ops[0].mem.index == ZYDIS_REGISTER_NONE &&
        g->z.address_width == 64) {
        unsigned b = diff_gen_gpr(g->ops[0].mem.base);
        uint64_t at = DIFF_DATA + 64 * diff_gen_below(g, (DIFF_RW - DIFF_XSAVE) / 64);

        c->regs.gpr[b] = at - (uint64_t)g->ops[0].mem.disp.value;
        if (b != X86_RAX && b != X86_RDX) {
            c->regs.gpr[X86_RAX] = diff_gen_rand(g) & 0xe7;
            c->regs.gpr[X86_RDX] = 0;
        }
        diff_gen_xsave_image(g, c, at);
    }
    /* What the guest's XCR0 lacks must not be asked of the host's. */
    c->regs.gpr[X86_RAX] &= 0xe7;
    c->regs.gpr[X86_RDX] = 0;
}

void diff_gen_next(struct diff_gen *g, struct diff_case *c)
{
    do {
        memset(c->code, 0, sizeof(c->code));
    } while (!diff_gen_try(g, c->code));
    c->len = g->z.length;
    c->code32 = g->code32;
    c->slot = diff_gen_below(g, DIFF_SLOTS);
    c->regs.rip = DIFF_CODE + c->slot * DIFF_SLOT;
    c->regs.rflags = 0x202 | (diff_gen_rand(g) & FLAG_ARITH);
    if (diff_gen_one_in(g, 4))
        c->regs.rflags |= FLAG_DF;
    for (unsigned i = 0; i < 16; i++)
        c->regs.gpr[i] = c->code32 && i >= 8 ? 0 : diff_gen_integer(g);
    diff_gen_fpu(g, c->regs.xsave);
    diff_gen_fill(g, c->mem, DIFF_MEM);
    for (unsigned i = 0; i < g->z.operand_count; i++)
        if (g->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            diff_gen_address(g, c, &g->ops[i]);
    diff_gen_special(g, c);
    for (unsigned i = 0; c->code32 && i < 8; i++)
        c->regs.gpr[i] = (uint32_t)c->regs.gpr[i];
}
