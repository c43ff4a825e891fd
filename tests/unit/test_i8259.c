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

/* Special fully nested: a slave's higher request gets through while it is served; lower ones of the master do not. */
static void test_special_fully_nested(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 0x11);

    (void)ctx;
    set(p, 14, true);
    assert_int_equal(i8259_inta(p), 0x2e);
    set(p, 5, true); /* below the slave */
    assert_false(t->intr);
    set(p, 8, true); /* within it, higher */
    assert_int_equal(i8259_inta(p), 0x28);
    set(p, 15, true); /* within it, lower */
    assert_false(t->intr);
    set(p, 1, true); /* above the slave */
    assert_int_equal(i8259_inta(p), 0x21);
    testvm_out(t, MASTER, 1, 0x20);
    testvm_out(t, SLAVE, 1, 0x20);
    testvm_out(t, SLAVE, 1,
               0x20); /* 8 and 14 are done; the software looks whether it was the last */
    assert_int_equal(i8259_inta(p), 0x2f);
    testvm_out(t, SLAVE, 1, 0x20);
    testvm_out(t, MASTER, 1, 0x20);
    assert_int_equal(i8259_inta(p), 0x25);
    testvm_destroy(t);
}

static void test_rotation(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    set(p, 1, true);
    assert_int_equal(i8259_inta(p), 0x21);
    testvm_out(t, MASTER, 1,
               0xa0); /* rotate on non-specific EOI: 1 is the lowest now, 2 the highest */
    set(p, 0, true);
    set(p, 7, true);
    assert_int_equal(i8259_inta(p), 0x27);
    testvm_out(t, MASTER, 1, 0xe7); /* rotate on specific EOI of 7: 0 is the highest */
    set(p, 3, true);
    assert_int_equal(i8259_inta(p), 0x20);
    testvm_out(t, MASTER, 1, 0x40); /* no operation */
    assert_false(t->intr);
    testvm_out(t, MASTER, 1, 0x60);
    assert_int_equal(i8259_inta(p), 0x23);
    testvm_destroy(t);
}

static void test_rotation_in_auto_eoi(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 3);

    (void)ctx;
    testvm_out(t, MASTER, 1, 0x80); /* set */
    set(p, 3, true);
    assert_int_equal(i8259_inta(p), 0x23);
    set(p, 3, false);
    set(p, 3, true);
    set(p, 5, true);
    assert_int_equal(i8259_inta(p), 0x25); /* 3 became the lowest */
    assert_int_equal(i8259_inta(p), 0x23);
    testvm_out(t, MASTER, 1, 0x00); /* clear */
    set(p, 0, true);
    assert_int_equal(i8259_inta(p), 0x20);
    set(p, 0, false);
    set(p, 0, true);
    set(p, 3, false);
    set(p, 3, true);
    assert_int_equal(i8259_inta(p), 0x20); /* as it was: 4 the highest, 0 before 3 */
    testvm_destroy(t);
}

/* In special mask mode a non-specific EOI leaves alone what is masked. */
static void test_special_mask_eoi(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    set(p, 2 + 1, true);
    assert_int_equal(i8259_inta(p), 0x23);
    testvm_out(t, MASTER, 1, 0x68);
    testvm_out(t, MASTER + 1, 1, 0x08);
    set(p, 6, true);
    assert_int_equal(i8259_inta(p), 0x26);
    testvm_out(t, MASTER, 1, 0x20);
    testvm_out(t, MASTER, 1, 0x0b);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x08);
    testvm_out(t, MASTER, 1, 0x63);
    assert_int_equal(testvm_in(t, MASTER, 1), 0);
    testvm_out(t, MASTER, 1, 0x48); /* back to normal */
    testvm_destroy(t);
}

static void test_poll_of_the_slave(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 1);

    (void)ctx;
    testvm_out(t, MASTER, 1, 0x0c);
    assert_int_equal(testvm_in(t, MASTER, 1), 0); /* nothing */
    set(p, 12, true);
    testvm_out(t, MASTER, 1, 0x0c);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x82);
    testvm_out(t, SLAVE, 1, 0x0c);
    assert_int_equal(testvm_in(t, SLAVE + 1, 1), 0x84);
    assert_int_equal(testvm_in(t, SLAVE + 1, 1), 0); /* the mask again: a poll is one read */
    testvm_out(t, SLAVE, 1, 0x0b);
    assert_int_equal(testvm_in(t, SLAVE, 1), 0x10);
    testvm_destroy(t);
}

/* ICW1 forgets masks, priorities and edges; nothing interrupts before the last word. */
static void test_initialisation(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct i8259 *p = create(t, 3);

    (void)ctx;
    testvm_out(t, ELCR, 2, 0x0020);
    testvm_out(t, MASTER + 1, 1, 0xff);
    testvm_out(t, MASTER, 1, 0xc3);
    set(p, 4, true);                /* an edge */
    set(p, 5, true);                /* a level */
    testvm_out(t, MASTER, 1, 0x10); /* no ICW4 */
    assert_false(t->intr);
    testvm_out(t, MASTER + 1, 1, 0x57);
    assert_false(t->intr);
    testvm_out(t, MASTER + 1, 1, 4);
    assert_int_equal(testvm_in(t, MASTER + 1, 1), 0);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x20); /* the IRR is what is read */
    assert_int_equal(i8259_inta(p), 0x55);
    testvm_out(t, MASTER, 1, 0x0b);
    assert_int_equal(testvm_in(t, MASTER, 1), 0x20); /* AEOI is gone too */
    testvm_out(t, MASTER, 1, 0x12);                  /* single: ICW2 is the last */
    testvm_out(t, MASTER + 1, 1, 0x30);
    testvm_out(t, MASTER + 1, 1, 0xdf);
    assert_int_equal(testvm_in(t, MASTER + 1, 1), 0xdf);
    assert_int_equal(i8259_inta(p), 0x35);
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
        cmocka_unit_test(test_special_fully_nested),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_rotation_in_auto_eoi),
        cmocka_unit_test(test_special_mask_eoi),
        cmocka_unit_test(test_poll_of_the_slave),
        cmocka_unit_test(test_initialisation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
