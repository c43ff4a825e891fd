#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/i8254.h"
#include "testvm.h"

enum { BASE = 0x40, CONTROL = 0x43, SPEAKER = 0x61 };

struct wire {
    bool level;
    unsigned rises;
};

static void wire_set(void *chip, unsigned pin, bool level)
{
    struct wire *w = chip;

    (void)pin;
    w->rises += level && !w->level;
    w->level = level;
}

static struct testvm *create(struct wire *w)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    *w = (struct wire){ 0 };
    assert_non_null(i8254_create(t->vm, BASE, SPEAKER, (struct irq){ wire_set, w, 0 }, &e));
    return t;
}

static void load(struct testvm *t, unsigned ch, unsigned mode, uint16_t count)
{
    testvm_out(t, CONTROL, 1, ch << 6 | 3 << 4 | mode << 1);
    testvm_out(t, (uint16_t)(BASE + ch), 1, count & 0xff);
    testvm_out(t, (uint16_t)(BASE + ch), 1, count >> 8);
}

static unsigned count(struct testvm *t, unsigned ch)
{
    unsigned low = (unsigned)testvm_in(t, (uint16_t)(BASE + ch), 1);

    return low | (unsigned)testvm_in(t, (uint16_t)(BASE + ch), 1) << 8;
}

static void test_rate_generator(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 0, 2, 11932); /* 100 Hz */
    w.rises = 0;
    clock_advance(t->vm->clock, 1000000000);
    assert_in_range(w.rises, 99, 100);
    clock_advance(t->vm->clock, 9000000000);
    assert_in_range(w.rises, 998, 1000);
    testvm_destroy(t);
}

static void test_one_shot(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 0, 0, 1193); /* 1 ms */
    assert_false(w.level);
    clock_advance(t->vm->clock, 990000);
    assert_false(w.level);
    assert_in_range(count(t, 0), 5, 15);
    clock_advance(t->vm->clock, 20000);
    assert_true(w.level);
    clock_advance(t->vm->clock, 100000000);
    assert_int_equal(w.rises, 1);
    load(t, 0, 0, 1193);
    assert_false(w.level);
    testvm_destroy(t);
}

static void test_channel2_gate(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    testvm_out(t, SPEAKER, 1, 0);
    load(t, 2, 0, 11932); /* 10 ms, as kernels calibrate the TSC */
    clock_advance(t->vm->clock, 20000000);
    assert_int_equal(testvm_in(t, SPEAKER, 1) & 0x20, 0); /* gate low: stands */
    testvm_out(t, SPEAKER, 1, 1);
    clock_advance(t->vm->clock, 9900000);
    assert_int_equal(testvm_in(t, SPEAKER, 1) & 0x21, 0x01);
    clock_advance(t->vm->clock, 200000);
    assert_int_equal(testvm_in(t, SPEAKER, 1) & 0x21, 0x21);
    testvm_destroy(t);
}

static void test_latch_and_read_back(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 1, 2, 0x8000);
    testvm_out(t, CONTROL, 1, 0x40); /* latch channel 1 */
    clock_advance(t->vm->clock, 1000000);
    assert_int_equal(count(t, 1), 0x8000);
    assert_in_range(count(t, 1), 0x8000 - 1195, 0x8000 - 1192);
    testvm_out(t, CONTROL, 1, 0xc4); /* status and count of channel 1 */
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x80 | 0x30 | 2 << 1);
    assert_in_range(count(t, 1), 0x8000 - 1195, 0x8000 - 1192);
    testvm_out(t, CONTROL, 1, 0x74); /* a control word: null count */
    testvm_out(t, CONTROL, 1, 0xe4);
    assert_int_equal(testvm_in(t, BASE + 1, 1) & 0x40, 0x40);
    testvm_destroy(t);
}

static void test_bcd(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    testvm_out(t, CONTROL, 1, 0x71); /* channel 1, mode 0, BCD */
    testvm_out(t, BASE + 1, 1, 0x34);
    testvm_out(t, BASE + 1, 1, 0x12);
    assert_int_equal(count(t, 1), 0x1234);
    testvm_destroy(t);
}

/* After half a tick more where the counter starts, it is read in the middle of its ticks. */
static void ticks(struct testvm *t, unsigned n)
{
    clock_advance(t->vm->clock, (uint64_t)n * 838096 / 1000);
}

static bool out2(struct testvm *t)
{
    return testvm_in(t, SPEAKER, 1) & 0x20;
}

static void gate2(struct testvm *t, bool high)
{
    testvm_out(t, SPEAKER, 1, high);
    clock_advance(t->vm->clock, high ? 400 : 0);
}

static unsigned status2(struct testvm *t)
{
    testvm_out(t, CONTROL, 1, 0xe8);
    return (unsigned)testvm_in(t, BASE + 2, 1);
}

static struct testvm *create_channel2(struct wire *w, unsigned mode, uint16_t count)
{
    struct testvm *t = create(w);

    gate2(t, true);
    load(t, 2, mode, count);
    clock_advance(t->vm->clock, 400);
    return t;
}

static void test_mode_0(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 0, 10);

    (void)ctx;
    ticks(t, 4);
    assert_int_equal(count(t, 2), 6);
    gate2(t, false); /* counting stands, OUT stays */
    ticks(t, 50);
    assert_int_equal(count(t, 2), 6);
    gate2(t, true);
    ticks(t, 5);
    assert_false(out2(t));
    ticks(t, 1);
    assert_true(out2(t));
    ticks(t, 2);
    assert_int_equal(count(t, 2), 0xfffe); /* it wraps, and OUT stays high */
    assert_true(out2(t));
    testvm_out(t, BASE + 2, 1, 5); /* the first byte: stop, OUT low */
    assert_false(out2(t));
    ticks(t, 9);
    assert_int_equal(count(t, 2), 0xfffe);
    testvm_out(t, BASE + 2, 1, 0);
    ticks(t, 6);
    assert_true(out2(t));
    testvm_destroy(t);
}

/* The first byte of a count lowers channel 0's interrupt, too. */
static void test_mode_0_wire(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 0, 0, 10);
    ticks(t, 20);
    assert_true(w.level);
    testvm_out(t, BASE, 1, 10);
    assert_false(w.level);
    ticks(t, 20);
    testvm_out(t, BASE, 1, 0);
    ticks(t, 5);
    assert_false(w.level);
    ticks(t, 10);
    assert_true(w.level);
    testvm_destroy(t);
}

static void test_mode_1(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 1, 10);

    (void)ctx;
    ticks(t, 50);
    assert_true(out2(t));               /* not triggered */
    assert_int_equal(status2(t), 0xf2); /* and the count not taken */
    gate2(t, false);
    gate2(t, true);
    assert_int_equal(status2(t), 0x32);
    ticks(t, 4);
    assert_false(out2(t));
    testvm_out(t, BASE + 2, 1, 30); /* for the next pulse */
    testvm_out(t, BASE + 2, 1, 0);
    ticks(t, 5);
    assert_false(out2(t));
    ticks(t, 2);
    assert_true(out2(t));
    gate2(t, false);
    gate2(t, true);
    ticks(t, 28);
    assert_false(out2(t));
    gate2(t, false); /* the level does not matter, and a new edge triggers anew */
    gate2(t, true);
    ticks(t, 28);
    assert_false(out2(t));
    ticks(t, 3);
    assert_true(out2(t));
    testvm_destroy(t);
}

static void test_mode_2(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 2, 10);

    (void)ctx;
    ticks(t, 8);
    assert_int_equal(count(t, 2), 2);
    assert_true(out2(t));
    ticks(t, 1);
    assert_int_equal(count(t, 2), 1);
    assert_false(out2(t));
    ticks(t, 1);
    assert_int_equal(count(t, 2), 10);
    testvm_out(t, BASE + 2, 1, 20); /* from the next period on */
    testvm_out(t, BASE + 2, 1, 0);
    assert_int_equal(status2(t) & 0x40, 0x40);
    ticks(t, 8);
    assert_int_equal(count(t, 2), 2);
    ticks(t, 3);
    assert_int_equal(count(t, 2), 19);
    assert_int_equal(status2(t) & 0x40, 0);
    gate2(t, false);
    assert_true(out2(t));
    ticks(t, 30);
    gate2(t, true); /* starts anew */
    ticks(t, 1);
    assert_int_equal(count(t, 2), 19);
    testvm_destroy(t);
}

static void test_mode_3(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 3, 10);

    (void)ctx;
    ticks(t, 4);
    assert_int_equal(count(t, 2), 2);
    assert_true(out2(t));
    ticks(t, 1);
    assert_int_equal(count(t, 2), 10);
    assert_false(out2(t));
    ticks(t, 5);
    assert_true(out2(t));
    testvm_out(t, BASE + 2, 1, 21); /* odd: 11 high, 10 low; from the next half on */
    testvm_out(t, BASE + 2, 1, 0);
    ticks(t, 4);
    assert_true(out2(t));
    ticks(t, 1);
    assert_false(out2(t));
    assert_int_equal(count(t, 2), 20);
    ticks(t, 9);
    assert_false(out2(t));
    ticks(t, 1);
    assert_true(out2(t));
    assert_int_equal(count(t, 2), 20);
    ticks(t, 10);
    assert_true(out2(t));
    assert_int_equal(count(t, 2), 0);
    ticks(t, 1);
    assert_false(out2(t));
    gate2(t, false);
    assert_true(out2(t));
    testvm_destroy(t);
}

/* Channel 0's next interrupt, after a count that waits for the end of the half period. */
static void test_mode_3_wire(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 0, 3, 1000);
    clock_advance(t->vm->clock, 400);
    ticks(t, 100);
    w.rises = 0;
    testvm_out(t, BASE, 1, 0xd0); /* 2000: low for 1000 from tick 500 on */
    testvm_out(t, BASE, 1, 0x07);
    ticks(t, 1398);
    assert_int_equal(w.rises, 0);
    ticks(t, 4);
    assert_int_equal(w.rises, 1);
    ticks(t, 1994);
    assert_int_equal(w.rises, 1);
    ticks(t, 10);
    assert_int_equal(w.rises, 2);
    testvm_destroy(t);
}

static void test_mode_4(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 4, 10);

    (void)ctx;
    ticks(t, 9);
    assert_true(out2(t));
    ticks(t, 1);
    assert_false(out2(t)); /* one tick */
    ticks(t, 1);
    assert_true(out2(t));
    testvm_out(t, BASE + 2, 1, 10);
    testvm_out(t, BASE + 2, 1, 0);
    gate2(t, false);
    ticks(t, 20);
    gate2(t, true);
    ticks(t, 10);
    assert_false(out2(t));
    testvm_destroy(t);
}

static void test_mode_5(void **ctx)
{
    struct wire w;
    struct testvm *t = create_channel2(&w, 5, 10);

    (void)ctx;
    ticks(t, 10);
    assert_true(out2(t));
    gate2(t, false);
    gate2(t, true);
    testvm_out(t, BASE + 2, 1, 20); /* for the next trigger */
    testvm_out(t, BASE + 2, 1, 0);
    gate2(t, false);
    ticks(t, 10);
    assert_false(out2(t));
    ticks(t, 1);
    assert_true(out2(t));
    gate2(t, true);
    ticks(t, 20);
    assert_false(out2(t));
    testvm_destroy(t);
}

static void test_single_bytes(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    testvm_out(t, CONTROL, 1, 0x54); /* channel 1, low byte, mode 2 */
    testvm_out(t, BASE + 1, 1, 0x80);
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x80);
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x80);
    testvm_out(t, CONTROL, 1, 0x6c); /* high byte, mode 6, which is 2 */
    testvm_out(t, BASE + 1, 1, 0x12);
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x12);
    testvm_out(t, CONTROL, 1, 0x40);
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x12);
    testvm_out(t, CONTROL, 1, 0xe4);
    assert_int_equal(testvm_in(t, BASE + 1, 1), 0x80 | 0x20 | 2 << 1);
    testvm_destroy(t);
}

/* 838 ns: a guest may ask, the host does not spin. */
static void test_shortest_period(void **ctx)
{
    struct wire w;
    struct testvm *t = create(&w);

    (void)ctx;
    load(t, 0, 2, 1);
    w.rises = 0;
    clock_advance(t->vm->clock, 10000000);
    assert_in_range(w.rises, 100, 201);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_generator),
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_channel2_gate),
        cmocka_unit_test(test_latch_and_read_back),
        cmocka_unit_test(test_bcd),
        cmocka_unit_test(test_shortest_period),
        cmocka_unit_test(test_mode_0),
        cmocka_unit_test(test_mode_0_wire),
        cmocka_unit_test(test_mode_1),
        cmocka_unit_test(test_mode_2),
        cmocka_unit_test(test_mode_3),
        cmocka_unit_test(test_mode_3_wire),
        cmocka_unit_test(test_mode_4),
        cmocka_unit_test(test_mode_5),
        cmocka_unit_test(test_single_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
