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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
