/* The small ISA devices: isa_misc, i8042, pvpanic, debug_exit, testdev. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/debug_exit.h"
#include "hw/i8042.h"
#include "hw/isa_misc.h"
#include "hw/pvpanic.h"
#include "hw/testdev.h"
#include "testvm.h"

static void test_ports(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    (void)ctx;
    assert_non_null(isa_misc_create(t->vm, 0x80, 0x92, 0xf0, &e));
    testvm_out(t, 0x80, 1, 0x42);
    assert_int_equal(testvm_in(t, 0x80, 1), 0x42);
    assert_int_equal(testvm_in(t, 0x92, 1), 2);
    testvm_out(t, 0x92, 1, 0);
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, 0x92, 1, 3);
    assert_int_equal(t->vm->end, VM_END_RESET);
    testvm_destroy(t);
}

/* The gate has two hands; while it is closed the second MiB is the first. */
static void test_a20(void **ctx)
{
    struct testvm *t = testvm_create(MIB);
    struct err e = { 0 };
    bool irq;
    struct isa_misc *m = isa_misc_create(t->vm, 0x80, 0x92, 0xf0, &e);
    struct i8042 *k = i8042_create(t->vm, 0x60, 0x64, testvm_irq(&irq), &e);

    (void)ctx;
    assert_true(m && k);
    i8042_set_a20(k, isa_misc_a20_wire(m));
    assert_true(isa_misc_a20(m));
    testvm_out(t, 0x92, 1, 0);
    assert_false(isa_misc_a20(m));
    testvm_out(t, 0x64, 1, 0xd1);
    testvm_out(t, 0x60, 1, 0x03);
    assert_true(isa_misc_a20(m));
    assert_int_equal(testvm_in(t, 0x92, 1), 2);
    testvm_out(t, 0x64, 1, 0xdd);
    assert_false(isa_misc_a20(m));
    assert_int_equal(t->vm->end, VM_RUNNING);
    t->ram.hva[0x500] = 0x5a;
    assert_int_equal(testvm_read(t, 0x100500, 1), 0x5a);
    testvm_write(t, 0x1ffffe, 2, 0x1234);
    assert_int_equal(t->ram.hva[0xfffff], 0x12);
    device_reset_all(t->vm->devices);
    assert_true(isa_misc_a20(m));
    testvm_destroy(t);
}

static void test_i8042(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };
    bool irq = false;

    (void)ctx;
    assert_non_null(i8042_create(t->vm, 0x60, 0x64, testvm_irq(&irq), &e));
    testvm_out(t, 0x64, 1, 0xaa);
    assert_int_equal(testvm_in(t, 0x64, 1) & 1, 1);
    assert_int_equal(testvm_in(t, 0x60, 1), 0x55);
    assert_int_equal(testvm_in(t, 0x64, 1) & 1, 0);
    testvm_out(t, 0x64, 1, 0x60);
    testvm_out(t, 0x60, 1, 0x01);
    testvm_out(t, 0x64, 1, 0x20);
    assert_true(irq);
    assert_int_equal(testvm_in(t, 0x60, 1), 0x01);
    assert_false(irq);
    testvm_out(t, 0x60, 1, 0xff); /* no keyboard */
    assert_int_equal(testvm_in(t, 0x64, 1) & 0x41, 0x41);
    assert_int_equal(testvm_in(t, 0x60, 1), 0xfe);
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, 0x64, 1, 0xfe);
    assert_int_equal(t->vm->end, VM_END_RESET);
    testvm_destroy(t);
}

static void test_pvpanic(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    (void)ctx;
    assert_non_null(pvpanic_create(t->vm, 0x505, &e));
    assert_int_equal(testvm_in(t, 0x505, 1), 1);
    testvm_out(t, 0x505, 1, 2);
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, 0x505, 1, 1);
    assert_int_equal(t->vm->end, VM_END_PANIC);
    testvm_destroy(t);
}

static void test_debug_exit(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    (void)ctx;
    assert_non_null(debug_exit_create(t->vm, 0xf4, &e));
    assert_int_equal(testvm_in(t, 0xf4, 4), 0);
    testvm_out(t, 0xf4, 4, 0x10);
    assert_int_equal(t->vm->end, VM_END_DEBUG_EXIT);
    assert_int_equal(t->vm->end_status, 0x21);
    testvm_destroy(t);
}

static void test_testdev(void **ctx)
{
    static const struct testdev_at at = { 0x2000, 0xe0, 0xe4, 0xff000000 };
    struct testvm *t = testvm_create(0);
    struct irq line[TESTDEV_LINES] = { { 0 } };
    struct err e = { 0 };
    uint64_t val = 0x1122334455667788;
    bool irq = false;

    (void)ctx;
    line[5] = testvm_irq(&irq);
    assert_non_null(testdev_create(t->vm, &at, line, &e));
    testvm_out(t, 0x2005, 1, 1);
    assert_true(irq);
    testvm_out(t, 0x2005, 1, 0);
    assert_false(irq);
    testvm_out(t, 0xe0, 4, 0x12345678);
    testvm_out(t, 0xe1, 1, 0xaa);
    assert_int_equal(testvm_in(t, 0xe0, 4), 0x1234aa78);
    bus_write(&t->vm->mmio, 0xff000ffc, 8, &val);
    val = 0;
    bus_read(&t->vm->mmio, 0xff001000, 4, &val);
    assert_int_equal(val, 0x11223344);
    testvm_destroy(t);
}

/* Two devices on one port: the second is refused with a sentence and leaves nothing behind. */
static void test_taken(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };

    (void)ctx;
    assert_non_null(debug_exit_create(t->vm, 0x90, &e));
    assert_null(isa_misc_create(t->vm, 0x80, 0x92, 0xf0, &e));
    assert_string_equal(e.msg, "isa-misc: address 0x92 is taken by debug-exit");
    assert_int_equal(testvm_in(t, 0x80, 1), 0xff);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),   cmocka_unit_test(test_a20),
        cmocka_unit_test(test_i8042),   cmocka_unit_test(test_pvpanic),
        cmocka_unit_test(test_taken),   cmocka_unit_test(test_debug_exit),
        cmocka_unit_test(test_testdev),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
