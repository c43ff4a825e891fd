/*
 * The shrinker against differences that are made up: what is left has what they need, and nothing else.
 */
#include "diff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ADD = 0xc301, NEG = 0xd9f7 }; /* add ebx, eax; neg ecx */

struct made_up {
    bool order;        /* ADD is somewhere before NEG, */
    uint64_t rsi;      /* RSI is this, */
    unsigned loop_min; /* and a loop has as many rounds */
    unsigned asked;
};

static const uint8_t *find(const struct diff_program *p, uint16_t code)
{
    return memmem(p->code, p->len, &code, sizeof(code));
}

static bool shows(void *ctx, const struct diff_program *p)
{
    struct made_up *m = ctx;
    const uint8_t *add = find(p, ADD), *neg = find(p, NEG);

    m->asked++;
    if (m->order && (!add || !neg || add > neg))
        return false;
    if (m->loop_min && p->loop[0] < m->loop_min)
        return false;
    return !m->rsi || p->regs.gpr[X86_RSI] == m->rsi;
}

static unsigned left(const struct diff_program *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < p->items; i++)
        n += !p->item[i].dropped;
    return n;
}

/* A random program with ADD and NEG far from each other. */
static void make(struct diff_program *p)
{
    diff_program(7, false, p);
    p->item[3] = (struct diff_item){ .bytes = { 0x01, 0xc3 }, .len = 2 };
    p->item[20] = (struct diff_item){ .bytes = { 0xf7, 0xd9 }, .len = 2 };
    diff_program_lay_out(p);
}

static void only_what_is_needed_stays(void **state)
{
    struct made_up m = { .order = true };
    struct diff_program p;

    (void)state;
    make(&p);
    diff_shrink(&p, shows, &m);
    assert_int_equal(left(&p), 2);
    assert_int_equal(p.len, 5); /* and HLT */
    assert_true(shows(&m, &p));
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(p.regs.gpr[i], 0);
    assert_int_equal(p.regs.rflags, FLAG_1 | FLAG_IF);
    assert_true(p.plain && p.cold && !p.offset);
    assert_true(m.asked < 500);
}

static void values_that_matter_stay(void **state)
{
    struct made_up m = { .rsi = 0x1234567, .loop_min = 5 };
    struct diff_program p;

    (void)state;
    make(&p);
    p.regs.gpr[X86_RSI] = 0x1234567;
    p.loops = 1;
    p.loop[0] = 50;
    diff_shrink(&p, shows, &m);
    assert_int_equal(left(&p), 0);
    assert_int_equal(p.regs.gpr[X86_RSI], 0x1234567);
    assert_int_equal(p.regs.gpr[X86_RDI], 0);
    assert_in_range(p.loop[0], 5, 8);
}

/* Where a jump leads, and what a patch overwrites, moves with what is taken out. */
static void places_follow(void **state)
{
    struct diff_program p = { .items = 4 };
    uint32_t at;

    (void)state;
    p.item[0] = (struct diff_item){
        .bytes = { 0xeb, 0 }, .len = 2, .fix = DIFF_FIX_REL8, .fix_at = 1, .to = 3
    };
    p.item[1] = (struct diff_item){ .bytes = { 0x90, 0x90 }, .len = 2 };
    p.item[2] = (struct diff_item){ .bytes = { 0xc6, 0x04, 0x25, 0, 0, 0, 0, 1 },
                                    .len = 8,
                                    .fix = DIFF_FIX_PATCH,
                                    .fix_at = 3,
                                    .to = 3 };
    p.item[3] = (struct diff_item){ .bytes = { 0x6a, 5 }, .len = 2, .patch = 2 };
    diff_program_lay_out(&p);
    assert_int_equal(p.code[1], 10);
    memcpy(&at, p.code + 7, sizeof(at));
    assert_int_equal(at, DIFF_CODE + 13);
    p.item[1].dropped = true;
    diff_program_lay_out(&p);
    assert_int_equal(p.code[1], 8);
    p.item[3].dropped = true; /* a patch goes with what it overwrites */
    diff_program_lay_out(&p);
    assert_true(p.item[2].dropped);
    assert_int_equal(p.len, 3);
    assert_int_equal(p.code[1], 0);
}

/* All seeds make programs that can be laid out, also when parts of them are gone. */
static void programs_can_be_taken_apart(void **state)
{
    struct diff_program p;

    (void)state;
    for (unsigned seed = 0; seed < 500; seed++) {
        diff_program(seed, seed & 1, &p);
        assert_in_range(p.len, 1, DIFF_PROGRAM_BYTES);
        assert_in_range(p.offset + p.len, 1, DIFF_CODE_LEN);
        for (unsigned i = 0; i < p.items; i += 3)
            p.item[i].dropped = true;
        diff_program_lay_out(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_needed_stays),
        cmocka_unit_test(values_that_matter_stay),
        cmocka_unit_test(places_follow),
        cmocka_unit_test(programs_can_be_taken_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
