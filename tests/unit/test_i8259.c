#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/i8259.h"
#include "testvm.h"

enum { MASTER = 0x20, SLAVE = 0xa0, ELCR = 0x4d0 };

static struct i8259 *create(struct testvm *t, uint8_t icw4)
{
    struct err e = { 0 };
    struct i8259 *p = i8259_create(t->vm, MASTER, SLAVE, ELCR, &e);

    assert_non_null(p);
    for (unsigned port = MASTER; port <= SLAVE; port += SLAVE - MASTER) {
        testvm_out(t, (uint16_t)port, 1, 0x11);
        testvm_out(t, (uint16_t)(port + 1), 1, port == MASTER ? 0x20 : 0x28);
        testvm_out(t, (uint16_t)(port + 1), 1, port == MASTER ? 4 : 2);
        testvm_out(t, (uint16_t)(port + 1), 1, icw4);
    }
    return p;
}

static void set(struct i8259 *p, unsigned pin, bool level)
{
    struct irq irq = i8259_irq(p, pin);

    irq_set(&irq, level);
}

static void test_edge_and_priority(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    assert_false(t->intr);
    set(p, 4, true);
    assert_true(t->intr);
    set(p, 1, true);
    assert_int_equal(i8259_inta(p), 0x21);
    assert_false(t->intr); /* 4 is below 1, which is in service */
    testvm_out(t, MASTER, 1, 0x20);
    assert_int_equal(i8259_inta(p), 0x24);
    testvm_out(t, MASTER, 1, 0x64); /* specific EOI */
    assert_false(t->intr);          /* still high: no new edge */
    set(p, 4, false);
    set(p, 4, true);
    testvm_out(t, MASTER + 1, 1, 0x10);
    assert_false(t->intr);
    assert_int_equal(testvm_in(t, MASTER + 1, 1), 0x10);
    testvm_out(t, MASTER + 1, 1, 0);
    assert_true(t->intr);
    testvm_destroy(t);
}

static void test_cascade(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    set(p, 14, true);
    assert_int_equal(i8259_inta(p), 0x2e);
    testvm_out(t, MASTER, 1, 0x0b);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x04);
    testvm_out(t, SLAVE, 1, 0x0b);
    assert_int_equal(testvm_in(t, SLAVE, 1), 0x40);
    set(p, 8, true); /* higher on the slave, but the master still serves 2 */
    assert_false(t->intr);
    testvm_out(t, SLAVE, 1, 0x20);
    testvm_out(t, MASTER, 1, 0x20);
    assert_int_equal(i8259_inta(p), 0x28);
    assert_int_equal(i8259_inta(p), 0x27); /* nothing: spurious */
    testvm_destroy(t);
}

static void test_level(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    testvm_out(t, ELCR, 2, 0xffff);
    assert_int_equal(testvm_in(t, ELCR, 2), 0xdef8);
    set(p, 11, true);
    assert_int_equal(i8259_inta(p), 0x2b);
    testvm_out(t, SLAVE, 1, 0x20);
    testvm_out(t, MASTER, 1, 0x20);
    assert_true(t->intr); /* still asserted */
    set(p, 11, false);
    assert_int_equal(i8259_inta(p), 0x2f); /* too late: spurious, from the slave */
    testvm_destroy(t);
}

static void test_level_follows_its_control(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    set(p, 11, true);
    assert_int_equal(i8259_inta(p), 0x2b);
    testvm_out(t, SLAVE, 1, 0x20);
    testvm_out(t, MASTER, 1, 0x20);
    assert_false(t->intr); /* an edge comes once */
    i8259_assign(p, 0x0800);
    assert_true(t->intr); /* a level is there */
    assert_int_equal(i8259_inta(p), 0x2b);
    i8259_assign(p, 0x0c00);
    assert_int_equal(testvm_in(t, ELCR, 2), 0x0c00);
    testvm_destroy(t);
}

static void test_auto_eoi_and_rotation(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 3);

    (void)ctx;
    set(p, 3, true);
    assert_int_equal(i8259_inta(p), 0x23);
    testvm_out(t, MASTER, 1, 0x0b);
    assert_int_equal(testvm_in(t, MASTER, 1), 0);
    testvm_out(t, MASTER, 1, 0xc3); /* 3 becomes the lowest */
    set(p, 3, false);
    set(p, 3, true);
    set(p, 4, true);
    assert_int_equal(i8259_inta(p), 0x24);
    assert_int_equal(i8259_inta(p), 0x23);
    testvm_destroy(t);
}

static void test_poll_and_special_mask(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    set(p, 1, true);
    testvm_out(t, MASTER, 1, 0x0c);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x81);
    set(p, 5, true);
    assert_false(t->intr);
    testvm_out(t, MASTER, 1, 0x68); /* special mask: what is masked does not hold back */
    testvm_out(t, MASTER + 1, 1, 0x02);
    assert_int_equal(i8259_inta(p), 0x25);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edge_and_priority),
        cmocka_unit_test(test_cascade),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_level_follows_its_control),
        cmocka_unit_test(test_auto_eoi_and_rotation),
        cmocka_unit_test(test_poll_and_special_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
