/*
 * diff_programs.c: random programs on the interpreter, the translator and the host CPU. A difference is
 * shrunk and shown with all that is needed to have it again.
 */
#include "diff.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

enum { PROGRAMS_SHOWN = 3 };

struct diff_programs {
    struct diff_guest *guest;
    struct diff_compare compare;
};

/* The instruction that a result stopped at. */
static struct diff_insn programs_insn(const struct diff_program *p, const struct diff_result *r)
{
    const uint64_t at = r->regs.rip - DIFF_CODE - p->offset;

    if (at >= p->len)
        return (struct diff_insn){ .code32 = p->code32 };
    return (struct diff_insn){ p->code + at, p->len - (unsigned)at, p->code32 };
}

static bool programs_compare(struct diff_programs *d, const struct diff_program *p, const char *one,
                             struct diff_result *a, const char *other, struct diff_result *b)
{
    const struct diff_insn insn = programs_insn(p, a);

    if (a->trap == DIFF_TIMEOUT || b->trap == DIFF_TIMEOUT) /* where it was by then is chance */
        return false;
    d->compare.one = one;
    d->compare.other = other;
    return diff_compare(&d->compare, &insn, a, b);
}

/* On all of them; the host is taken for right. */
static bool programs_differ(void *ctx, const struct diff_program *p)
{
    static struct diff_result host, interpreter, translator;
    struct diff_programs *d = ctx;
    bool differs = false;

    diff_guest_program(d->guest, p, false, &interpreter);
    diff_guest_program(d->guest, p, true, &translator);
    if (p->host) {
        if (!diff_host_program(p, &host)) {
            if (diff_host_start())
                exit(2);
            if (!d->compare.quiet)
                printf("    the host's child died\n");
            return true;
        }
        differs = programs_compare(d, p, "host", &host, "interp", &interpreter);
    }
    return programs_compare(d, p, "interp", &interpreter, "transl", &translator) || differs;
}

static void programs_show(const struct diff_program *p)
{
    char text[128];
    ZydisDecoder d;
    ZydisDecodedInstruction z;

    ZydisDecoderInit(&d, p->code32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
                     p->code32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
    for (unsigned at = 0; at < p->len; at += z.length) {
        const struct diff_insn insn = { p->code + at, p->len - at, p->code32 };

        if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, insn.code, insn.len, &z)))
            break;
        diff_disassemble(&insn, DIFF_CODE + p->offset + at, text, sizeof(text));
        printf("    %lx  %-40s", (unsigned long)DIFF_CODE + p->offset + at, text);
        for (unsigned i = 0; i < z.length; i++)
            printf(" %02x", p->code[at + i]);
        printf("\n");
    }
    printf("    in: flags %lx", (unsigned long)p->regs.rflags);
    for (unsigned i = 0; i < 16; i++)
        if (p->regs.gpr[i])
            printf(" %s %lx", diff_gpr_name[i], (unsigned long)p->regs.gpr[i]);
    printf("\n    in: memory %s%s", p->plain ? "zero" : "patterned", p->loops ? ", counters" : "");
    for (unsigned i = 0; i < p->loops; i++)
        printf(" %u", p->loop[i]);
    printf("\n");
}

static void programs_report(struct diff_programs *d, struct diff_program *p)
{
    printf("DIFFERENT: program of seed %lu, %s, %s; again: diff --count 0 --programs 1 --seed %lu "
           "--mode %s\n",
           (unsigned long)p->seed, p->code32 ? "32-bit" : "64-bit", p->cold ? "cold" : "warm",
           (unsigned long)p->seed, p->code32 ? "32" : "64");
    d->compare.quiet = false;
    if (!programs_differ(d, p))
        printf("    it did not differ when it ran again\n");
    d->compare.quiet = true;
    diff_shrink(p, programs_differ, d);
    d->compare.quiet = false;
    programs_show(p);
    programs_differ(d, p);
    fflush(stdout);
}

unsigned diff_programs(struct diff_guest *g, uint64_t mask, uint64_t from, unsigned long count,
                       unsigned code32)
{
    struct diff_programs d = { .guest = g, .compare = { .mask = mask } };
    static struct diff_program p;
    unsigned found = 0;

    for (uint64_t i = from; i < from + count; i++) {
        diff_program(i, code32 == 1 ? i & 1 : code32 != 0, &p);
        d.compare.quiet = true;
        if (programs_differ(&d, &p) && found++ < PROGRAMS_SHOWN)
            programs_report(&d, &p);
    }
    return found;
}
