#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/acpi_pm.h"
#include "testvm.h"

enum { STS = 0x600, EN = 0x602, CNT = 0x604, TMR = 0x608, GPE = 0x620, S3 = 1, S5 = 5 };

static struct acpi_pm *create(struct testvm *t, bool *sci)
{
    static const struct acpi_pm_sleep sleep = { S3, S5 };
    struct err e = { 0 };
    struct acpi_pm *pm = acpi_pm_create(t->vm, 0x600, GPE, &sleep, testvm_irq(sci), &e);

    assert_non_null(pm);
    return pm;
}

static void test_power_button(void **ctx)
{
    struct testvm *t = testvm_create(0);
    bool sci = false;
    struct acpi_pm *pm = create(t, &sci);

    (void)ctx;
    acpi_pm_press_power(pm);
    assert_false(sci);
    testvm_out(t, EN, 2, 0x0120);
    assert_true(sci);
    assert_int_equal(testvm_in(t, STS, 4), 0x01200100);
    assert_int_equal(testvm_in(t, STS + 1, 1), 0x01);
    testvm_out(t, STS + 1, 1, 0x01);
    assert_false(sci);
    assert_int_equal(testvm_in(t, STS, 2), 0);
    testvm_destroy(t);
}

/* An RTC alarm wakes only if the guest wants it to, and the guest is told after the reset. */
static void test_suspend(void **ctx)
{
    struct testvm *t = testvm_create(0);
    bool sci = false;
    struct acpi_pm *pm = create(t, &sci);
    struct irq alarm = acpi_pm_rtc_alarm(pm);

    (void)ctx;
    testvm_out(t, CNT, 2, 1 << 13 | S3 << 10);
    assert_true(t->vm->suspended);
    irq_set(&alarm, true);
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, EN, 2, 1 << 10);
    assert_int_equal(t->vm->end, VM_END_WAKE);
    assert_int_equal(acpi_pm_wake_cause(pm), 1 << 10);
    device_reset_all(t->vm->devices);
    acpi_pm_woken(pm, 1 << 10);
    assert_int_equal(testvm_in(t, STS, 2), 1 << 15 | 1 << 10);
    testvm_destroy(t);
}

static void test_sleep(void **ctx)
{
    struct testvm *t = testvm_create(0);
    bool sci;

    (void)ctx;
    create(t, &sci);
    assert_int_equal(testvm_in(t, CNT, 2), 1);
    testvm_out(t, CNT, 2, 3 << 10 | BIT(13));
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, CNT, 2, S5 << 10);
    assert_int_equal(t->vm->end, VM_RUNNING);
    testvm_out(t, CNT, 2, S5 << 10 | BIT(13));
    assert_int_equal(t->vm->end, VM_END_POWEROFF);
    testvm_destroy(t);
}

static void test_timer(void **ctx)
{
    struct testvm *t = testvm_create(0);
    bool sci = false;

    (void)ctx;
    create(t, &sci);
    clock_advance(t->vm->clock, 1000000000);
    assert_int_equal(testvm_in(t, TMR, 4), 3579545);
    testvm_out(t, EN, 2, 1);
    clock_advance(t->vm->clock, 598000000000); /* bit 31 toggles after 599.9 s */
    assert_false(sci);
    clock_advance(t->vm->clock, 1000000000);
    assert_true(sci);
    assert_int_equal(testvm_in(t, STS, 2), 1);
    testvm_out(t, STS, 2, 1);
    assert_false(sci);
    clock_advance(t->vm->clock, 601000000000);
    assert_true(sci);
    testvm_destroy(t);
}

static void test_gpe(void **ctx)
{
    struct testvm *t = testvm_create(0);
    bool sci;

    (void)ctx;
    create(t, &sci);
    testvm_out(t, GPE, 4, 0x12345678);
    assert_int_equal(testvm_in(t, GPE, 4), 0x12340000);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_button), cmocka_unit_test(test_suspend),
        cmocka_unit_test(test_sleep),        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_gpe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
