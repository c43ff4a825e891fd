/*
 * diff.c: bt against the host CPU, instruction by instruction, and whole programs (diff_programs.c).
 *
 *   diff [--seed N] [--count N] [--soak MINUTES] [--only TEXT] [--mode 64|32|both] [--programs N]
 *
 * --only takes a part of a mnemonic's name. The same seed gives the same cases. A difference is shown with as much of its input set to zero as
 * still shows it. Exit status: 0 no difference, 1 differences, 2 cannot run.
 */
#include "diff.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DIFFERENCES_MAX = 20 };

struct diff {
    struct diff_gen *gen;
    struct diff_guest *guest;
    struct diff_compare compare;
    unsigned long done;
    unsigned found;
    bool translated; /* by the translator; else by the interpreter: in turns */
};

/* --- one case on both sides --- */
static bool diff_restart(void)
{
    if (!diff_host_start())
        return true;
    fprintf(stderr, "diff: cannot start the child that runs on the host CPU\n");
    return false;
}

static struct diff_insn diff_insn(const struct diff_case *c)
{
    return (struct diff_insn){ c->code, c->len, c->code32 };
}

static bool diff_compare_case(const struct diff *d, const struct diff_case *c,
                              struct diff_result *h, struct diff_result *b)
{
    const struct diff_insn insn = diff_insn(c);

    return diff_compare(&d->compare, &insn, h, b);
}

static void diff_name(const struct diff_case *c, char *text, size_t len)
{
    const struct diff_insn insn = diff_insn(c);

    diff_disassemble(&insn, c->regs.rip, text, len);
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
    return diff_compare_case(d, c, &h, &b);
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

    d->compare.quiet = true;
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
    d->compare.quiet = false;
}

static void diff_report(struct diff *d, const struct diff_case *found)
{
    static struct diff_case c;
    char text[128];

    c = *found;
    diff_minimize(d, &c);
    diff_name(&c, text, sizeof(text));
    printf("DIFFERENT: %s%s\n    bytes", c.code32 ? "(32-bit) " : "", text);
    for (unsigned i = 0; i < c.len; i++)
        printf(" %02x", c.code[i]);
    printf("\n    in: rip %lx flags %lx", c.regs.rip, c.regs.rflags);
    for (unsigned i = 0; i < 16; i++)
        if (c.regs.gpr[i])
            printf(" %s %lx", diff_gpr_name[i], c.regs.gpr[i]);
    printf("\n    in: fcw %04x fsw %04x mxcsr %04x xstate %lx%s\n", *(uint16_t *)c.regs.xsave,
           *(uint16_t *)(c.regs.xsave + 2), *(uint32_t *)(c.regs.xsave + 24),
           *(uint64_t *)(c.regs.xsave + 512),
           c.mem[0] || memcmp(c.mem, c.mem + 1, DIFF_MEM - 1) ? " memory random" : " memory zero");
    diff_differs(d, &c);
    fflush(stdout);
}

static void diff_batch(struct diff *d)
{
    static struct diff_case c[DIFF_BATCH];
    static struct diff_result h[DIFF_BATCH], b;
    unsigned at;

    for (unsigned i = 0; i < DIFF_BATCH; i++)
        diff_gen_next(d->gen, &c[i]);
    if (!diff_host_run(c, h, DIFF_BATCH, &at)) {
        char text[128];

        diff_name(&c[at], text, sizeof(text));
        printf("the host's child died of: %s\n", text);
        d->found++;
        if (!diff_restart())
            exit(2);
        return;
    }
    for (unsigned i = 0; i < DIFF_BATCH; i++) {
        d->translated = !d->translated;
        diff_guest_run(d->guest, &c[i], d->translated, &b);
        d->compare.quiet = true;
        if (diff_compare_case(d, &c[i], &h[i], &b) && d->found++ < DIFFERENCES_MAX) {
            d->compare.quiet = false;
            diff_report(d, &c[i]);
        }
        d->compare.quiet = false;
    }
    d->done += DIFF_BATCH;
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
    const uint64_t mask = diff_host_mask();
    struct diff d = { .compare = { .mask = mask, .one = "host", .other = "bt" } };
    unsigned long seed = 1, count = 20000, minutes = 0, programs = 0;
    const char *only = NULL;
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
            only = optarg;
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
    d.gen = diff_gen_create(seed, mask, code32, only);
    d.guest = diff_guest_create(mask);
    end = util_monotonic_ns() + minutes * 60000000000ull;
    while (minutes ? util_monotonic_ns() < end : d.done < count) {
        diff_batch(&d);
        if (minutes) {
            d.found += diff_programs(d.guest, mask, seed + programs, DIFF_BATCH, code32);
            programs += DIFF_BATCH;
        }
    }
    if (!minutes)
        d.found += diff_programs(d.guest, mask, seed, programs, code32);
    diff_host_stop();
    printf("%lu instructions, %lu programs, %u differences, seed %lu\n", d.done, programs, d.found,
           seed);
    diff_guest_destroy(d.guest);
    diff_gen_destroy(d.gen);
    return d.found ? 1 : 0;
}
