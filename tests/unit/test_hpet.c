#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/hpet.h"
#include "testvm.h"

#define GPA 0xfed00000ull
enum { CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, T0 = 0x100, T1 = 0x120, T2 = 0x140 };

struct fixture {
    struct testvm *t;
    struct hpet *h;
    bool level[HPET_GSIS + 2];
    unsigned rises[HPET_GSIS + 2];
};

static void wire_set(void *chip, unsigned pin, bool level)
{
    struct fixture *f = chip;

    f->rises[pin] += level && !f->level[pin];
    f->level[pin] = level;
}

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq wire[HPET_GSIS + 2];
    struct err e = { 0 };

    assert_non_null(f);
    for (unsigned i = 0; i < ARRAY_SIZE(wire); i++)
        wire[i] = (struct irq){ wire_set, f, i };
    f->t = testvm_create(0);
    f->h = hpet_create(f->t->vm, GPA, wire, wire + HPET_GSIS, &e);
    assert_non_null(f->h);
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

static uint64_t rd(struct fixture *f, unsigned reg)
{
    return testvm_read(f->t, GPA + reg, 8);
}

static void wr(struct fixture *f, unsigned reg, uint64_t val)
{
    testvm_write(f->t, GPA + reg, 8, val);
}

static void test_counter(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(rd(f, 0), 10000000ull << 32 | 0x8086a201);
    clock_advance(f->t->vm->clock, 5000);
    assert_int_equal(rd(f, COUNTER), 0);
    wr(f, CONFIG, 1);
    clock_advance(f->t->vm->clock, 5000);
    assert_int_equal(rd(f, COUNTER), 500);
    assert_int_equal(testvm_read(f->t, GPA + COUNTER, 4), 500);
    wr(f, CONFIG, 0);
    clock_advance(f->t->vm->clock, 5000);
    assert_int_equal(rd(f, COUNTER), 500);
    testvm_write(f->t, GPA + COUNTER + 4, 4, 7); /* halves */
    assert_int_equal(rd(f, COUNTER), 7ull << 32 | 500);
}

static void test_one_shot_edge(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CONFIG, 1);
    wr(f, T2, 0x4 | 20 << 9);
    wr(f, T2 + 8, 1000);
    clock_advance(f->t->vm->clock, 9990);
    assert_int_equal(f->rises[20], 0);
    clock_advance(f->t->vm->clock, 10);
    assert_int_equal(f->rises[20], 1);
    assert_false(f->level[20]);
    clock_advance(f->t->vm->clock, 1000000000);
    assert_int_equal(f->rises[20], 1);
}

static void test_periodic(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CONFIG, 1);
    wr(f, T0, 0x4c | 21 << 9 | 0x100); /* enable, periodic, value set, 32 bits */
    testvm_write(f->t, GPA + T0 + 8, 4, 50000);
    testvm_write(f->t, GPA + T0 + 8, 4, 100000);
    clock_advance(f->t->vm->clock, 499999);
    assert_int_equal(f->rises[21], 0);
    clock_advance(f->t->vm->clock, 1);
    assert_int_equal(f->rises[21], 1);
    clock_advance(f->t->vm->clock, 10000000);
    assert_int_equal(f->rises[21], 11);
}

static void test_level(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CONFIG, 1);
    wr(f, T1, 0x6 | 23 << 9);
    wr(f, T1 + 8, 1000);
    clock_advance(f->t->vm->clock, 10000);
    assert_true(f->level[23]);
    assert_int_equal(rd(f, STATUS), 2);
    wr(f, STATUS, 2);
    assert_false(f->level[23]);
}

/* A timer goes on without its interrupt; one that is looked at shows what came due, and is on time when it is let. */
static void test_without_interrupt(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CONFIG, 1);
    wr(f, T1, 0x4a | 23 << 9); /* level, periodic, value set */
    wr(f, T1 + 8, 10000);
    wr(f, T1 + 8, 10000);
    clock_advance(f->t->vm->clock, 350000);
    assert_int_equal(rd(f, STATUS), 2);
    assert_int_equal(rd(f, T1 + 8), 40000);
    assert_false(f->level[23]);
    clock_advance(f->t->vm->clock, 4000000);
    wr(f, STATUS, 2); /* also of what came due since */
    assert_int_equal(rd(f, STATUS), 0);
    wr(f, T1, 0xe | 23 << 9);
    assert_int_equal(f->rises[23], 0);
    clock_advance(f->t->vm->clock, 100000);
    assert_int_equal(f->rises[23], 1);
    assert_int_equal(rd(f, T1 + 8), 450000);
}

static void test_fsb(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CONFIG, 1);
    wr(f, T1 + 0x10, 0xfee01000ull << 32 | 0x41);
    wr(f, T1, 0x4004);
    wr(f, T1 + 8, 1000);
    clock_advance(f->t->vm->clock, 10000);
    assert_int_equal(f->t->n_msi, 1);
    assert_int_equal(f->t->msi_addr, 0xfee01000);
    assert_int_equal(f->t->msi_data, 0x41);
}

static void test_legacy(void **ctx)
{
    struct fixture *f = *ctx;
    struct irq pit = hpet_legacy_irq(f->h, HPET_LEGACY_PIT);

    irq_set(&pit, true);
    assert_true(f->level[HPET_GSIS]);
    wr(f, CONFIG, 3);
    assert_false(f->level[HPET_GSIS]); /* the PIT is cut off */
    irq_set(&pit, false);
    irq_set(&pit, true);
    assert_false(f->level[HPET_GSIS]);
    f->rises[HPET_GSIS] = 0;
    wr(f, T0, 0x4);
    wr(f, T0 + 8, 1000);
    clock_advance(f->t->vm->clock, 10000);
    assert_int_equal(f->rises[HPET_GSIS], 1);
    wr(f, CONFIG, 1);
    assert_true(f->level[HPET_GSIS]);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_counter), TEST(test_one_shot_edge),     TEST(test_periodic), TEST(test_level),
        TEST(test_fsb),     TEST(test_without_interrupt), TEST(test_legacy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
