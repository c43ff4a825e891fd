#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "hw/mc146818.h"
#include "testvm.h"

#define SEC 1000000000ull

static struct mc146818 *rtc;

static struct testvm *create(bool *irq)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    rtc = mc146818_create(t->vm, 0x70, testvm_irq(irq), &e);
    assert_non_null(rtc);
    return t;
}

static unsigned rd(struct testvm *t, unsigned reg)
{
    testvm_out(t, 0x70, 1, reg);
    return (unsigned)testvm_in(t, 0x71, 1);
}

static void wr(struct testvm *t, unsigned reg, unsigned val)
{
    testvm_out(t, 0x70, 1, reg | 0x80);
    testvm_out(t, 0x71, 1, val);
}

static void test_time(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    clock_advance(t->vm->clock, 951782399 * SEC); /* 2000-02-28 23:59:59 UTC */
    assert_int_equal(rd(t, 0), 0x59);
    assert_int_equal(rd(t, 2), 0x59);
    assert_int_equal(rd(t, 4), 0x23);
    clock_advance(t->vm->clock, SEC);
    assert_int_equal(rd(t, 7), 0x29);
    assert_int_equal(rd(t, 8), 0x02);
    assert_int_equal(rd(t, 9), 0x00);
    assert_int_equal(rd(t, 0x32), 0x20);
    assert_int_equal(rd(t, 6), 3); /* a Tuesday */
    wr(t, 0xb, 0x04);              /* binary, 12 hours */
    assert_int_equal(rd(t, 4), 12);
    clock_advance(t->vm->clock, 14 * 3600 * SEC);
    assert_int_equal(rd(t, 4), 0x82);
    assert_int_equal(rd(t, 0xd), 0x80);
    testvm_destroy(t);
}

static void test_set(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    wr(t, 0xb, 0x86); /* stop, binary, 24 h */
    wr(t, 0, 30);
    wr(t, 2, 59);
    wr(t, 4, 23);
    wr(t, 7, 31);
    wr(t, 8, 12);
    wr(t, 9, 37);
    wr(t, 0x32, 20);
    clock_advance(t->vm->clock, 5 * SEC);
    assert_int_equal(rd(t, 0), 30); /* it stands */
    wr(t, 0xb, 0x06);
    clock_advance(t->vm->clock, 40 * SEC);
    assert_int_equal(rd(t, 0), 10);
    assert_int_equal(rd(t, 9), 38);
    device_reset_all(t->vm->devices);
    assert_int_equal(rd(t, 9), 38); /* the battery keeps it */
    testvm_destroy(t);
}

static void test_update_interrupt(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    wr(t, 0xb, 0x12);
    clock_advance(t->vm->clock, SEC / 2);
    assert_false(irq);
    clock_advance(t->vm->clock, SEC / 2);
    assert_true(irq);
    assert_int_equal(rd(t, 0xc) & 0x90, 0x90);
    assert_false(irq);
    assert_int_equal(rd(t, 0xc), 0);
    clock_advance(t->vm->clock, SEC);
    assert_true(irq);
    testvm_destroy(t);
}

static void test_alarm(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    wr(t, 1, 0x10);
    wr(t, 3, 0x05);
    wr(t, 5, 0xff); /* any hour */
    wr(t, 0xb, 0x22);
    clock_advance(t->vm->clock, 309 * SEC);
    assert_false(irq);
    clock_advance(t->vm->clock, SEC);
    assert_true(irq);
    assert_int_equal(rd(t, 0xc) & 0xa0, 0xa0);
    clock_advance(t->vm->clock, 3599 * SEC);
    assert_false(irq);
    clock_advance(t->vm->clock, SEC);
    assert_true(irq);
    testvm_destroy(t);
}

/* A year before 1900 was shifted as a negative number. */
static void test_old_year(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    wr(t, 0xb, 0x82);
    wr(t, 0x32, 0x18);
    wr(t, 9, 0x76);
    wr(t, 8, 0x03);
    wr(t, 7, 0x10);
    wr(t, 0xb, 0x02);
    assert_int_equal(rd(t, 0x32), 0x18);
    assert_int_equal(rd(t, 9), 0x76);
    assert_int_equal(rd(t, 8), 0x03);
    testvm_destroy(t);
}

/* Such a tick lay in the past for ever, and its timer never stopped firing. */
static void test_state_tick_without_rate(void **ctx)
{
    enum { CMOS = 128, AFTER_CMOS = 24, REG_A = 0xa };
    bool irq = false;
    struct testvm *t = create(&irq);
    struct state save, load;

    (void)ctx;
    state_init_save(&save);
    device_state(t->vm->devices, &save);
    assert_int_equal(state_error(&save), 0);
    state_init_load(&load, save.buf, save.len);
    device_state(t->vm->devices, &load);
    assert_int_equal(state_error(&load), 0);
    save.buf[save.len - AFTER_CMOS - CMOS + REG_A] &= 0xf0;
    state_init_load(&load, save.buf, save.len);
    device_state(t->vm->devices, &load);
    assert_int_equal(state_error(&load), -EINVAL);
    state_fini(&save);
    testvm_destroy(t);
}

static void test_periodic(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);
    unsigned n = 0;

    (void)ctx;
    wr(t, 0xa, 0x2a); /* 64 Hz */
    wr(t, 0xb, 0x42);
    for (int i = 0; i < 1000; i++) {
        clock_advance(t->vm->clock, SEC / 1000);
        if (irq && ++n)
            assert_int_equal(rd(t, 0xc) & 0xc0, 0xc0);
    }
    assert_in_range(n, 63, 64);
    wr(t, 0xb, 0x02);
    clock_advance(t->vm->clock, SEC);
    assert_false(irq);
    assert_int_equal(rd(t, 0xc) & 0xd0, 0x50); /* flags are set without the interrupt */
    testvm_destroy(t);
}

static void test_update_in_progress(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    clock_advance(t->vm->clock, SEC - 100000);
    assert_int_equal(rd(t, 0xa), 0xa6);
    clock_advance(t->vm->clock, 100000);
    assert_int_equal(rd(t, 0xa), 0x26);
    testvm_destroy(t);
}

static void test_memory(void **ctx)
{
    bool irq = false;
    struct testvm *t = create(&irq);

    (void)ctx;
    mc146818_set_memory(rtc, 3 * GIB, 5 * GIB);
    assert_int_equal(rd(t, 0x34) | rd(t, 0x35) << 8, (3 * GIB - 16 * MIB) >> 16);
    assert_int_equal(rd(t, 0x5b) | rd(t, 0x5c) << 8 | rd(t, 0x5d) << 16, 5 * GIB >> 16);
    assert_int_equal(rd(t, 0x30) | rd(t, 0x31) << 8, 0xffff);
    wr(t, 0x40, 0x5a);
    assert_int_equal(rd(t, 0x40), 0x5a);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),     cmocka_unit_test(test_set),
        cmocka_unit_test(test_old_year), cmocka_unit_test(test_state_tick_without_rate),
        cmocka_unit_test(test_alarm),    cmocka_unit_test(test_update_interrupt),
        cmocka_unit_test(test_periodic), cmocka_unit_test(test_update_in_progress),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
