/*
 * bt_isa.c: which instruction sets may run natively, the CPUID bits that must offer them to this guest, and
 * what of the FPU they need. A set that is not named here (everything privileged, control flow, AMX, CET,
 * TSX, SGX, VMX and the base integer set) is not run natively.
 */
#include "accel/bt/bt_native.h"

enum { EAX, EBX, ECX, EDX };

struct bt_feature {
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
};
struct bt_isa {
    ZydisISASet set;
    uint8_t class;
    bool vl;                   /* also needs AVX512VL */
    struct bt_feature need[2]; /* leaf 0: none */
};

#define SSE1_                                                                                      \
    {                                                                                              \
        1, 0, EDX, 25                                                                              \
    }
#define SSE2_                                                                                      \
    {                                                                                              \
        1, 0, EDX, 26                                                                              \
    }
#define SSE3_                                                                                      \
    {                                                                                              \
        1, 0, ECX, 0                                                                               \
    }
#define SSSE3_                                                                                     \
    {                                                                                              \
        1, 0, ECX, 9                                                                               \
    }
#define AES_                                                                                       \
    {                                                                                              \
        1, 0, ECX, 25                                                                              \
    }
#define AVX_                                                                                       \
    {                                                                                              \
        1, 0, ECX, 28                                                                              \
    }
#define AVX2_                                                                                      \
    {                                                                                              \
        7, 0, EBX, 5                                                                               \
    }
#define GFNI_                                                                                      \
    {                                                                                              \
        7, 0, ECX, 8                                                                               \
    }
#define VAES_                                                                                      \
    {                                                                                              \
        7, 0, ECX, 9                                                                               \
    }
#define VPCL_                                                                                      \
    {                                                                                              \
        7, 0, ECX, 10                                                                              \
    }
#define AVX512_                                                                                    \
    {                                                                                              \
        7, 0, EBX, 16                                                                              \
    }
#define ANY_                                                                                       \
    {                                                                                              \
        0, 0, 0, 0                                                                                 \
    }
#define ISA(set, class, ...)                                                                       \
    {                                                                                              \
        ZYDIS_ISA_SET_##set, class, false,                                                         \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

/* One AVX-512 group: three vector lengths, the shorter ones by AVX512VL. */
#define AVX512(set, ...)                                                                           \
    { ZYDIS_ISA_SET_##set##_128, BT_FPU_AVX512, true, { __VA_ARGS__ } },                           \
        { ZYDIS_ISA_SET_##set##_256, BT_FPU_AVX512, true, { __VA_ARGS__ } },                       \
    {                                                                                              \
        ZYDIS_ISA_SET_##set##_512, BT_FPU_AVX512, false,                                           \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct bt_isa bt_isas[] = {
    ISA(X87, BT_FPU_X87, { 1, 0, EDX, 0 }),
    ISA(FCMOV, BT_FPU_X87, { 1, 0, EDX, 15 }),
    ISA(PPRO, BT_FPU_X87, { 1, 0, EDX, 15 }), /* FCOMI and its kin only */
    ISA(SSE3X87, BT_FPU_X87, SSE3_),
    ISA(PENTIUMMMX, BT_FPU_MMX, { 1, 0, EDX, 23 }),
    ISA(SSSE3MMX, BT_FPU_MMX, SSSE3_),
    ISA(SSE2MMX, BT_FPU_SSE, SSE2_),
    ISA(SSE, BT_FPU_SSE, SSE1_),
    ISA(SSEMXCSR, BT_FPU_SSE, SSE1_),
    ISA(SSE2, BT_FPU_SSE, SSE2_),
    ISA(SSE3, BT_FPU_SSE, SSE3_),
    ISA(SSSE3, BT_FPU_SSE, SSSE3_),
    ISA(SSE4, BT_FPU_SSE, { 1, 0, ECX, 19 }),
    ISA(SSE42, BT_FPU_SSE, { 1, 0, ECX, 20 }),
    ISA(AES, BT_FPU_SSE, AES_),
    ISA(PCLMULQDQ, BT_FPU_SSE, { 1, 0, ECX, 1 }),
    ISA(SHA, BT_FPU_SSE, { 7, 0, EBX, 29 }),
    ISA(GFNI, BT_FPU_SSE, GFNI_),
    ISA(AVX, BT_FPU_AVX, AVX_),
    ISA(AVXAES, BT_FPU_AVX, AES_, AVX_),
    ISA(AVX2, BT_FPU_AVX, AVX2_),
    ISA(AVX2GATHER, BT_FPU_AVX, AVX2_),
    ISA(FMA, BT_FPU_AVX, { 1, 0, ECX, 12 }),
    ISA(F16C, BT_FPU_AVX, { 1, 0, ECX, 29 }),
    ISA(AVX_GFNI, BT_FPU_AVX, GFNI_, AVX_),
    ISA(VAES, BT_FPU_AVX, VAES_, AVX_),
    ISA(VPCLMULQDQ, BT_FPU_AVX, VPCL_, AVX_),
    ISA(AVX_VNNI, BT_FPU_AVX, { 7, 1, EAX, 4 }),

    ISA(FXSAVE, BT_CLASS_NONE, { 1, 0, EDX, 24 }),
    ISA(FXSAVE64, BT_CLASS_NONE, { 1, 0, EDX, 24 }),
    ISA(XSAVE, BT_CLASS_NONE, { 1, 0, ECX, 26 }),
    ISA(XSAVEOPT, BT_CLASS_NONE, { 0xd, 1, EAX, 0 }),
    ISA(XSAVEC, BT_CLASS_NONE, { 0xd, 1, EAX, 1 }),
    ISA(PAUSE, BT_CLASS_NONE, ANY_),
    ISA(SSE_PREFETCH, BT_CLASS_NONE, ANY_),
    ISA(PREFETCH_NOP, BT_CLASS_NONE, ANY_),
    ISA(CLDEMOTE, BT_CLASS_NONE, ANY_),
    ISA(CLFSH, BT_CLASS_NONE, { 1, 0, EDX, 19 }),
    ISA(CLFLUSHOPT, BT_CLASS_NONE, { 7, 0, EBX, 23 }),
    ISA(CLWB, BT_CLASS_NONE, { 7, 0, EBX, 24 }),
    ISA(MOVDIR, BT_CLASS_NONE, { 7, 0, ECX, 27 }),
    ISA(SERIALIZE, BT_CLASS_NONE, { 7, 0, EDX, 14 }),
    ISA(POPCNT, BT_CLASS_NONE, { 1, 0, ECX, 23 }),
    ISA(LZCNT, BT_CLASS_NONE, { 0x80000001, 0, ECX, 5 }),
    ISA(MOVBE, BT_CLASS_NONE, { 1, 0, ECX, 22 }),
    ISA(BMI1, BT_CLASS_NONE, { 7, 0, EBX, 3 }),
    ISA(BMI2, BT_CLASS_NONE, { 7, 0, EBX, 8 }),
    ISA(ADOX_ADCX, BT_CLASS_NONE, { 7, 0, EBX, 19 }),
    ISA(RDRAND, BT_CLASS_NONE, { 1, 0, ECX, 30 }),
    ISA(RDSEED, BT_CLASS_NONE, { 7, 0, EBX, 18 }),

    AVX512(AVX512F, AVX512_),
    ISA(AVX512F_128N, BT_FPU_AVX512, AVX512_),
    ISA(AVX512F_SCALAR, BT_FPU_AVX512, AVX512_),
    ISA(AVX512F_KOP, BT_FPU_AVX512, AVX512_),
    AVX512(AVX512BW, { 7, 0, EBX, 30 }),
    ISA(AVX512BW_128N, BT_FPU_AVX512, { 7, 0, EBX, 30 }),
    ISA(AVX512BW_KOP, BT_FPU_AVX512, { 7, 0, EBX, 30 }),
    AVX512(AVX512CD, { 7, 0, EBX, 28 }),
    AVX512(AVX512DQ, { 7, 0, EBX, 17 }),
    ISA(AVX512DQ_128N, BT_FPU_AVX512, { 7, 0, EBX, 17 }),
    ISA(AVX512DQ_SCALAR, BT_FPU_AVX512, { 7, 0, EBX, 17 }),
    ISA(AVX512DQ_KOP, BT_FPU_AVX512, { 7, 0, EBX, 17 }),
    AVX512(AVX512_BF16, { 7, 1, EAX, 5 }),
    AVX512(AVX512_BITALG, { 7, 0, ECX, 12 }),
    AVX512(AVX512_FP16, { 7, 0, EDX, 23 }),
    ISA(AVX512_FP16_128N, BT_FPU_AVX512, { 7, 0, EDX, 23 }),
    ISA(AVX512_FP16_SCALAR, BT_FPU_AVX512, { 7, 0, EDX, 23 }),
    AVX512(AVX512_GFNI, GFNI_, AVX512_),
    AVX512(AVX512_IFMA, { 7, 0, EBX, 21 }),
    AVX512(AVX512_VAES, VAES_, AVX512_),
    AVX512(AVX512_VBMI, { 7, 0, ECX, 1 }),
    AVX512(AVX512_VBMI2, { 7, 0, ECX, 6 }),
    AVX512(AVX512_VNNI, { 7, 0, ECX, 11 }),
    AVX512(AVX512_VP2INTERSECT, { 7, 0, EDX, 8 }),
    AVX512(AVX512_VPCLMULQDQ, VPCL_, AVX512_),
    AVX512(AVX512_VPOPCNTDQ, { 7, 0, ECX, 14 }),
};

static bool bt_isa_has(const struct bt_cpu *c, const struct bt_feature *f)
{
    return !f->leaf || cpuid_has(&c->vm->cpuid, f->leaf, f->subleaf, f->reg, f->bit);
}

static const struct bt_isa *bt_isa_find(ZydisISASet set)
{
    for (size_t i = 0; i < ARRAY_SIZE(bt_isas); i++)
        if (bt_isas[i].set == set)
            return &bt_isas[i];
    return NULL;
}

/* Members of the SSE sets that do not touch its registers. */
static bool bt_isa_no_fpu(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_MOVNTI:
        return true;
    default:
        return false;
    }
}

static bool bt_isa_x87(const ZydisDecodedInstruction *z)
{
    return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode & 0xf8) == 0xd8;
}

/*
 * TZCNT and LZCNT without their CPUID bit are BSF and BSR, and so are the bytes; the decoder of a guest
 * without them must not get here with these mnemonics.
 */
bool bt_isa_allowed(const struct bt_cpu *c, const ZydisDecodedInstruction *z, uint8_t *class)
{
    static const struct bt_feature vl = { 7, 0, EBX, 31 }, pclmulqdq = { 1, 0, ECX, 1 };
    const struct bt_isa *isa = bt_isa_find(z->meta.isa_set);
    bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
               z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;

    if (!isa || !bt_isa_has(c, &isa->need[0]) || !bt_isa_has(c, &isa->need[1]))
        return false;
    if (isa->set == ZYDIS_ISA_SET_PPRO && !bt_isa_x87(z))
        return false;
    if (isa->vl && !bt_isa_has(c, &vl))
        return false;
    if (z->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ && !bt_isa_has(c, &pclmulqdq))
        return false;
    /* VEX and EVEX do not exist in real and virtual-8086 mode. */
    if (vex && (!(c->s.cr0 & CR0_PE) || (c->s.rflags & FLAG_VM)))
        return false;
    *class = bt_isa_no_fpu(z->mnemonic) ? BT_CLASS_NONE : isa->class;
    if (bt_isa_x87(z)) /* FISTTP is of SSE3 */
        *class = BT_FPU_X87;
    if (z->mnemonic == ZYDIS_MNEMONIC_FWAIT)
        *class = BT_CLASS_WAIT;
    return true;
}
