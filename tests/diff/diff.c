/*
 * diff.c: the interpreter against the host CPU, instruction by instruction.
 *
 *   diff [--seed N] [--count N] [--soak MINUTES] [--only TEXT] [--mode 64|32|both] [--programs N]
 *
 * The same seed gives the same cases. A difference is shown with as much of its input set to zero as
 * still shows it. Exit status: 0 no difference, 1 differences, 2 cannot run.
 */
#include "diff.h"

#include <Zydis/Zydis.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DIFFERENCES_MAX = 20 };

struct diff {
    struct diff_gen *gen;
    struct diff_guest *guest;
    uint64_t mask;
    const char *only;
    unsigned long done;
    unsigned found;
    unsigned code32; /* as diff_gen_create() has it */
    bool quiet;      /* while minimizing */
    bool translated; /* by the translator; else by the interpreter: in turns */
};

static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

static void diff_decoder(bool code32, ZydisDecoder *d)
{
    if (code32)
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static void diff_disassemble(const struct diff_case *c, char *text, size_t len)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction z;
    ZydisFormatter f;
    ZydisDecoder d;

    snprintf(text, len, "?");
    diff_decoder(c->code32, &d);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code, c->len, &z, ops)))
        ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, text, len,
                                        c->regs.rip, NULL);
}

/* --- comparing --- */
/* Where processors themselves differ, or leave traces that no program can rely on. */
struct diff_allow {
    uint64_t flags;
    bool gpr, mem, x87, mxcsr, page;
};

static struct diff_allow diff_allowed(const struct diff_case *c, const struct diff_result *h)
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
static bool diff_field(const struct diff *d, const char *name, uint64_t host, uint64_t bt)
{
    if (host == bt)
        return false;
    if (!d->quiet)
        printf("    %-10s host %016lx  bt %016lx\n", name, host, bt);
    return true;
}

static bool diff_bytes(const struct diff *d, const char *name, const uint8_t *host,
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
static void diff_normalize(const struct diff *d, uint8_t *x)
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

static bool diff_compare_fpu(const struct diff *d, const struct diff_allow *allow,
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
static bool diff_wraps(const struct diff_case *c, const struct diff_result *h,
                       const struct diff_result *b)
{
    return c->code32 && h->trap == X86_PF && (b->trap == X86_GP || b->trap == X86_SS_FAULT) &&
           (h->cr2 >> PAGE_SHIFT == 0xfffff || h->cr2 >> PAGE_SHIFT == 0);
}

static bool diff_compare(const struct diff *d, const struct diff_case *c, struct diff_result *h,
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
        differs |= diff_field(d, gpr_name[i], h->regs.gpr[i] & width, b->regs.gpr[i] & width);
    if (!allow.mem)
        differs |= diff_bytes(d, "mem", h->mem, b->mem, DIFF_RW);
    differs |= diff_compare_fpu(d, &allow, h, b);
    return differs;
}

/* --- one case on both sides --- */
static bool diff_restart(void)
{
    if (!diff_host_start())
        return true;
    fprintf(stderr, "diff: cannot start the child that runs on the host CPU\n");
    return false;
}

static bool diff_differs(struct diff *d, const struct diff_case *c)
{
    static struct diff_result h, b;
    unsigned at;

    if (!diff_host_run(c, &h, 1, &at)) {
        if (!diff_restart())
            exit(2);
        return false;
    }
    diff_guest_run(d->guest, c, d->translated, &b);
    return diff_compare(d, c, &h, &b);
}

/* Zeroes what the difference does not need. */
static void diff_minimize(struct diff *d, struct diff_case *c)
{
    static struct diff_case try;
    const struct {
        unsigned at, len;
    } parts[] = {
        { 0, 24 }, { 32, 128 }, { 160, 256 }, { 576, 256 }, { 1088, 64 }, { 1152, 1536 }
    };

    d->quiet = true;
    for (unsigned i = 0; i < 16; i++) {
        try = *c;
        try.regs.gpr[i] = 0;
        if (diff_differs(d, &try))
            *c = try;
    }
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        try = *c;
        memset(try.regs.xsave + parts[i].at, 0, parts[i].len);
        if (!i)
            memcpy(try.regs.xsave, &(const uint16_t){ 0x37f }, 2);
        if (diff_differs(d, &try))
            *c = try;
    }
    try = *c;
    memset(try.mem, 0, sizeof(try.mem));
    if (diff_differs(d, &try))
        *c = try;
    try = *c;
    try.regs.rflags = 0x202;
    if (diff_differs(d, &try))
        *c = try;
    d->quiet = false;
}

static void diff_report(struct diff *d, const struct diff_case *found)
{
    static struct diff_case c;
    char text[128];

    c = *found;
    diff_minimize(d, &c);
    diff_disassemble(&c, text, sizeof(text));
    printf("DIFFERENT: %s%s\n    bytes", c.code32 ? "(32-bit) " : "", text);
    for (unsigned i = 0; i < c.len; i++)
        printf(" %02x", c.code[i]);
    printf("\n    in: rip %lx flags %lx", c.regs.rip, c.regs.rflags);
    for (unsigned i = 0; i < 16; i++)
        if (c.regs.gpr[i])
            printf(" %s %lx", gpr_name[i], c.regs.gpr[i]);
    printf("\n    in: fcw %04x fsw %04x mxcsr %04x xstate %lx%s\n", *(uint16_t *)c.regs.xsave,
           *(uint16_t *)(c.regs.xsave + 2), *(uint32_t *)(c.regs.xsave + 24),
           *(uint64_t *)(c.regs.xsave + 512),
           c.mem[0] || memcmp(c.mem, c.mem + 1, DIFF_MEM - 1) ? " memory random" : " memory zero");
    diff_differs(d, &c);
    fflush(stdout);
}

static bool diff_wanted(const struct diff *d, const struct diff_case *c)
{
    char text[128];

    if (!d->only)
        return true;
    diff_disassemble(c, text, sizeof(text));
    return strstr(text, d->only);
}

static void diff_batch(struct diff *d)
{
    static struct diff_case c[DIFF_BATCH];
    static struct diff_result h[DIFF_BATCH], b;
    unsigned at;

    for (unsigned i = 0; i < DIFF_BATCH; i++) {
        do {
            diff_gen_next(d->gen, &c[i]);
        } while (!diff_wanted(d, &c[i]));
    }
    if (!diff_host_run(c, h, DIFF_BATCH, &at)) {
        char text[128];

        diff_disassemble(&c[at], text, sizeof(text));
        printf("the host's child died of: %s\n", text);
        d->found++;
        if (!diff_restart())
            exit(2);
        return;
    }
    for (unsigned i = 0; i < DIFF_BATCH; i++) {
        d->translated = !d->translated;
        diff_guest_run(d->guest, &c[i], d->translated, &b);
        d->quiet = true;
        if (diff_compare(d, &c[i], &h[i], &b) && d->found++ < DIFFERENCES_MAX) {
            d->quiet = false;
            diff_report(d, &c[i]);
        }
        d->quiet = false;
    }
    d->done += DIFF_BATCH;
}

static void diff_program_show(const struct diff_program *p, uint64_t seed)
{
    ZydisDecoder d;
    ZydisFormatter f;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    char text[128];

    printf("DIFFERENT: program %lu, %s, %s\n", (unsigned long)seed, p->code32 ? "32-bit" : "64-bit",
           p->cold ? "cold" : "warm");
    diff_decoder(p->code32, &d);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned at = 0; at < p->len; at += z.length) {
        uint64_t rip = DIFF_CODE + p->offset + at;

        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, p->code + at, p->len - at, &z, ops)))
            break;
        ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, text, sizeof(text),
                                        rip, NULL);
        printf("    %lx  %s\n", (unsigned long)rip, text);
    }
    for (unsigned i = 0; i < 16; i++)
        printf("    %-4s%lx\n", gpr_name[i], (unsigned long)p->gpr[i]);
}

/* FCW to FDP, and the registers. */
static bool diff_program_x87(const struct diff *d, struct diff_result *a, struct diff_result *b)
{
    uint8_t *x = a->regs.xsave, *y = b->regs.xsave;

    diff_normalize(d, x);
    diff_normalize(d, y);
    return memcmp(x, y, 24) || memcmp(x + 32, y + 32, 128);
}

/* The translator against the interpreter. */
static void diff_programs(struct diff *d, uint64_t seed, unsigned long count)
{
    static struct diff_result a, b;
    static struct diff_program p;

    for (uint64_t i = seed; i < seed + count; i++) {
        bool differs;

        diff_program(i, d->code32 == 1 ? i & 1 : d->code32 != 0, &p);
        diff_guest_program(d->guest, &p, false, &a);
        diff_guest_program(d->guest, &p, true, &b);
        differs = a.trap != b.trap || a.error != b.error || a.cr2 != b.cr2 ||
                  memcmp(a.regs.gpr, b.regs.gpr, sizeof(a.regs.gpr)) || a.regs.rip != b.regs.rip ||
                  a.regs.rflags != b.regs.rflags || memcmp(a.mem, b.mem, sizeof(a.mem)) ||
                  memcmp(a.regs.xsave + 160, b.regs.xsave + 160, 256) ||
                  diff_program_x87(d, &a, &b);
        if (!differs || d->found++ >= 3)
            continue;
        diff_program_show(&p, i);
        printf("    %-10s one %d  other %d\n", "trap", a.trap, b.trap);
        diff_field(d, "rip", a.regs.rip, b.regs.rip);
        diff_field(d, "rflags", a.regs.rflags, b.regs.rflags);
        diff_field(d, "cr2", a.cr2, b.cr2);
        for (unsigned k = 0; k < 16; k++)
            diff_field(d, gpr_name[k], a.regs.gpr[k], b.regs.gpr[k]);
        diff_bytes(d, "mem", a.mem, b.mem, sizeof(a.mem));
        diff_bytes(d, "xmm", a.regs.xsave + 160, b.regs.xsave + 160, 256);
        diff_bytes(d, "fcw..fdp", a.regs.xsave, b.regs.xsave, 24);
        diff_bytes(d, "st", a.regs.xsave + 32, b.regs.xsave + 32, 128);
    }
    printf("%lu programs, %u differences so far, seed %lu\n", count, d->found, (unsigned long)seed);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, NULL, 's' },
                                             { "count", required_argument, NULL, 'c' },
                                             { "soak", required_argument, NULL, 'm' },
                                             { "only", required_argument, NULL, 'o' },
                                             { "mode", required_argument, NULL, 'b' },
                                             { "programs", required_argument, NULL, 'p' },
                                             { 0 } };
    struct diff d = { .mask = diff_host_mask() };
    unsigned long seed = 1, count = 20000, minutes = 0, programs = 0;
    unsigned code32 = 1;
    uint64_t end;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 's':
            seed = strtoul(optarg, NULL, 0);
            break;
        case 'c':
            count = strtoul(optarg, NULL, 0);
            break;
        case 'm':
            minutes = strtoul(optarg, NULL, 0);
            break;
        case 'o':
            d.only = optarg;
            break;
        case 'p':
            programs = strtoul(optarg, NULL, 0);
            break;
        case 'b':
            code32 = !strcmp(optarg, "64") ? 0 : !strcmp(optarg, "32") ? 2 : 1;
            break;
        default:
            fprintf(stderr, "usage: diff [--seed N] [--count N] [--soak MINUTES] [--only TEXT] "
                            "[--mode 64|32|both] [--programs N]\n");
            return 2;
        }
    }
    if (!diff_restart())
        return 2;
    d.code32 = code32;
    d.gen = diff_gen_create(seed, d.mask, code32);
    d.guest = diff_guest_create(d.mask);
    end = util_monotonic_ns() + minutes * 60000000000ull;
    while (minutes ? util_monotonic_ns() < end : d.done < count) {
        diff_batch(&d);
        if (minutes)
            diff_programs(&d, seed + d.done, DIFF_BATCH);
    }
    if (programs)
        diff_programs(&d, seed, programs);
    diff_host_stop();
    printf("%lu instructions, %u differences, seed %lu\n", d.done, d.found, seed);
    diff_guest_destroy(d.guest);
    diff_gen_destroy(d.gen);
    return d.found ? 1 : 0;
}
