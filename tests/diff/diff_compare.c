/*
 * diff_compare.c: what differs between two results, less what processors do each in their own way.
 */
#include "diff.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

const char *const diff_gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

static void diff_decoder(bool code32, ZydisDecoder *d)
{
    if (code32)
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

void diff_disassemble(const struct diff_insn *c, uint64_t rip, char *text, size_t len)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction z;
    ZydisFormatter f;
    ZydisDecoder d;

    snprintf(text, len, "?");
    diff_decoder(c->code32, &d);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code, c->len, &z, ops)))
        ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, text, len, rip, NULL);
}

/* --- comparing --- */
/* Where processors themselves differ, or leave traces that no program can rely on. */
struct diff_allow {
    uint64_t flags;
    bool gpr, mem, x87, mxcsr, page;
};

static struct diff_allow diff_allowed(const struct diff_insn *c, const struct diff_result *h)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    struct diff_allow allow = { 0 };
    ZydisDecodedInstruction z;
    ZydisDecoder d;

    diff_decoder(c->code32, &d);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code, c->len, &z, ops)))
        return allow;
    /* OF is undefined unless the count is 1; the forms with an immediate and with CL differ in it. */
    if (z.meta.category == ZYDIS_CATEGORY_ROTATE)
        allow.flags = FLAG_OF;
    if (h->trap < 0)
        return allow;
    /* Microcode may look at the second page first. */
    allow.page =
        z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU || z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU ||
        z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE ||
        z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64 || z.meta.category == ZYDIS_CATEGORY_XSAVE ||
        z.meta.category == ZYDIS_CATEGORY_XSAVEOPT;
    /* POPA may have loaded some of its registers; RSP says that it starts again. */
    allow.gpr = z.mnemonic == ZYDIS_MNEMONIC_POPA || z.mnemonic == ZYDIS_MNEMONIC_POPAD;
    /* Stores of ten bytes that fault may have been done in part. */
    allow.mem = z.mnemonic == ZYDIS_MNEMONIC_FSTP || z.mnemonic == ZYDIS_MNEMONIC_FBSTP;
    /* Stores of an MMX register enter MMX mode before they fault. */
    allow.x87 = ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                ZydisRegisterGetClass(ops[1].reg.value) == ZYDIS_REGCLASS_MMX;
    /* The conversion's flags are there before the store faults. */
    allow.mxcsr = z.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
    return allow;
}

/* Reports one field if it differs (unless quiet); true: it does. */
static bool diff_field(const struct diff_compare *d, const char *name, uint64_t host, uint64_t bt)
{
    if (host == bt)
        return false;
    if (!d->quiet)
        printf("    %-10s %s %016lx  %s %016lx\n", name, d->one, host, d->other, bt);
    return true;
}

static bool diff_bytes(const struct diff_compare *d, const char *name, const uint8_t *host,
                       const uint8_t *bt, unsigned len)
{
    bool differs = false;

    if (!memcmp(host, bt, len))
        return false;
    for (unsigned i = 0; i < len; i += 8) {
        uint64_t a = 0, b = 0;
        unsigned n = len - i < 8 ? len - i : 8;
        char at[32];

        memcpy(&a, host + i, n);
        memcpy(&b, bt + i, n);
        snprintf(at, sizeof(at), "%s+%x", name, i);
        if (diff_field(d, at, a, b))
            differs = true;
        if (differs && d->quiet)
            break;
    }
    return differs;
}

/* Components that are in their initial state may hold anything in the image. */
static void diff_normalize(const struct diff_compare *d, uint8_t *x)
{
    static const struct {
        uint64_t bit;
        unsigned at, len;
    } parts[] = {
        { XCR0_X87, 0, 24 },           { XCR0_X87, 32, 128 },     { XCR0_SSE, 160, 256 },
        { XCR0_AVX, 576, 256 },        { XCR0_OPMASK, 1088, 64 }, { XCR0_ZMM_HI256, 1152, 512 },
        { XCR0_HI16_ZMM, 1664, 1024 },
    };
    const uint16_t fcw = 0x37f;
    uint64_t bv;

    memcpy(&bv, x + 512, 8);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (!(bv & d->mask & parts[i].bit))
            memset(x + parts[i].at, 0, parts[i].len);
    if (!(bv & XCR0_X87))
        memcpy(x, &fcw, 2);
    for (unsigned i = 0; i < 8; i++) /* reserved bytes between the x87 registers */
        memset(x + 32 + i * 16 + 10, 0, 6);
    x[5] = 0;
}

static bool diff_compare_fpu(const struct diff_compare *d, const struct diff_allow *allow,
                             struct diff_result *h, struct diff_result *b)
{
    uint8_t *x = h->regs.xsave, *y = b->regs.xsave;
    bool differs = false;

    diff_normalize(d, x);
    diff_normalize(d, y);
    if (allow->x87) {
        memcpy(x, y, 8);
        memcpy(x + 32, y + 32, 128);
    }
    differs |= diff_bytes(d, "fcw..fop", x, y, 8);
    differs |= diff_bytes(d, "fip", x + 8, y + 8, 8);
    differs |= diff_bytes(d, "fdp", x + 16, y + 16, 8);
    if (!allow->mxcsr)
        differs |= diff_bytes(d, "mxcsr", x + 24, y + 24, 4);
    differs |= diff_bytes(d, "st", x + 32, y + 32, 128);
    differs |= diff_bytes(d, "xmm", x + 160, y + 160, 256);
    if (d->mask & XCR0_AVX)
        differs |= diff_bytes(d, "ymm", x + 576, y + 576, 256);
    if (d->mask & XCR0_OPMASK) {
        differs |= diff_bytes(d, "k", x + 1088, y + 1088, 64);
        differs |= diff_bytes(d, "zmm", x + 1152, y + 1152, 512);
        differs |= diff_bytes(d, "zmm16", x + 1664, y + 1664, 1024);
    }
    return differs;
}

/* An operand across the end of a 4 GiB segment: the limit or the page may be looked at first. */
static bool diff_wraps(const struct diff_insn *c, const struct diff_result *h,
                       const struct diff_result *b)
{
    return c->code32 && h->trap == X86_PF && (b->trap == X86_GP || b->trap == X86_SS_FAULT) &&
           (h->cr2 >> PAGE_SHIFT == 0xfffff || h->cr2 >> PAGE_SHIFT == 0);
}

bool diff_compare(const struct diff_compare *d, const struct diff_insn *c, struct diff_result *h,
                  struct diff_result *b)
{
    const struct diff_allow allow = diff_allowed(c, h);
    const uint64_t flags = (FLAG_ARITH | FLAG_DF) & ~allow.flags;
    const uint64_t width = c->code32 ? 0xffffffff : ~0ull;
    uint32_t far;
    bool differs;

    if (diff_wraps(c, h, b))
        return false;
    differs = diff_field(d, "trap", (uint64_t)h->trap, (uint64_t)b->trap);
    /* At the end of the user's half of the address space and behind it the host has pages of its own. */
    far = h->cr2 >> 46 != 0;
    if (!allow.page)
        differs |= diff_field(d, "error", h->error & ~far, b->error & ~far);
    /* Which byte is named depends on the order in which microcode accesses a large operand. */
    if (!allow.page)
        differs |= diff_field(d, "cr2", h->cr2 & PAGE_MASK, b->cr2 & PAGE_MASK);
    differs |= diff_field(d, "rip", h->regs.rip, b->regs.rip);
    differs |= diff_field(d, "flags", h->regs.rflags & flags, b->regs.rflags & flags);
    for (unsigned i = allow.gpr ? 8 : 0; i < (c->code32 ? 8 : 16); i++)
        differs |= diff_field(d, diff_gpr_name[i], h->regs.gpr[i] & width, b->regs.gpr[i] & width);
    if (!allow.mem)
        differs |= diff_bytes(d, "mem", h->mem, b->mem, DIFF_RW);
    differs |= diff_compare_fpu(d, &allow, h, b);
    return differs;
}
