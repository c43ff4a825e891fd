#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/i8042.h"
#include "testvm.h"

enum { DATA = 0x60, COMMAND = 0x64, OBF = 1, TIMEOUT = 0x40 };

struct fixture {
    struct testvm *t;
    struct i8042 *k;
    bool irq;
};

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = testvm_create(0);
    f->k = i8042_create(f->t->vm, DATA, COMMAND, testvm_irq(&f->irq), NULL);
    assert_non_null(f->k);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

static uint8_t status(struct fixture *f)
{
    return (uint8_t)testvm_in(f->t, COMMAND, 1);
}

static void expect(struct fixture *f, uint8_t byte)
{
    assert_true(status(f) & OBF);
    assert_int_equal(testvm_in(f->t, DATA, 1), byte);
}

static void set_ccb(struct fixture *f, uint8_t ccb)
{
    testvm_out(f->t, COMMAND, 1, 0x60);
    testvm_out(f->t, DATA, 1, ccb);
}

static void test_nothing_plugged_in(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_out(f->t, COMMAND, 1, 0xaa);
    expect(f, 0x55);
    testvm_out(f->t, DATA, 1, 0xff);
    assert_true(status(f) & TIMEOUT);
    expect(f, 0xfe);
    testvm_out(f->t, COMMAND, 1, 0xd4); /* nor is there a mouse */
    testvm_out(f->t, DATA, 1, 0xff);
    assert_true(status(f) & TIMEOUT);
    expect(f, 0xfe);
}

/* What firmware does to find a keyboard and set it up. */
static void test_keyboard_commands(void **ctx)
{
    struct fixture *f = *ctx;

    i8042_plug_keyboard(f->k);
    testvm_out(f->t, DATA, 1, 0xff);
    expect(f, 0xfa);
    expect(f, 0xaa);
    assert_false(status(f) & OBF);
    testvm_out(f->t, DATA, 1, 0xf2);
    expect(f, 0xfa);
    expect(f, 0xab);
    expect(f, 0x83);
    testvm_out(f->t, DATA, 1, 0xf0);
    expect(f, 0xfa);
    testvm_out(f->t, DATA, 1, 0);
    expect(f, 0xfa);
    expect(f, 2);
    testvm_out(f->t, DATA, 1, 0xed);
    expect(f, 0xfa);
    testvm_out(f->t, DATA, 1, 7);
    expect(f, 0xfa);
    testvm_out(f->t, DATA, 1, 0xee);
    expect(f, 0xee);
    testvm_out(f->t, DATA, 1, 0x01); /* no such command */
    expect(f, 0xfe);
}

static void test_keys(void **ctx)
{
    static const uint8_t a[] = { 0x1c }, a_up[] = { 0xf0, 0x1c }, left[] = { 0xe0, 0x6b },
                         left_up[] = { 0xe0, 0xf0, 0x6b }, f7[] = { 0x83 };
    struct fixture *f = *ctx;

    i8042_key(f->k, a, 1); /* nobody has plugged it in */
    assert_false(status(f) & OBF);
    i8042_plug_keyboard(f->k);
    i8042_key(f->k, a, 1);
    assert_false(f->irq);
    expect(f, 0x1c); /* as it is */
    set_ccb(f, 0x41);
    i8042_key(f->k, a, 1);
    assert_true(f->irq);
    i8042_key(f->k, a_up, 2);
    i8042_key(f->k, left, 2);
    i8042_key(f->k, left_up, 3);
    i8042_key(f->k, f7, 1);
    expect(f, 0x1e);
    expect(f, 0x9e);
    expect(f, 0xe0);
    expect(f, 0x4b);
    expect(f, 0xe0);
    expect(f, 0xcb);
    expect(f, 0x41);
    assert_false(f->irq);
    testvm_out(f->t, DATA, 1, 0xf5); /* scanning off */
    expect(f, 0xfa);
    i8042_key(f->k, a, 1);
    assert_false(status(f) & OBF);
}

/* A key is sent whole or not at all, and the answers to commands always have room. */
static void test_full_queue(void **ctx)
{
    static const uint8_t left_up[] = { 0xe0, 0xf0, 0x6b };
    struct fixture *f = *ctx;
    unsigned bytes = 0;

    i8042_plug_keyboard(f->k);
    for (int i = 0; i < 100; i++)
        i8042_key(f->k, left_up, sizeof(left_up));
    testvm_out(f->t, DATA, 1, 0xf2);
    for (; status(f) & OBF; bytes++)
        testvm_in(f->t, DATA, 1);
    assert_int_equal(bytes % 3, 0); /* the identification has three bytes, too */
    assert_true(bytes > 20);
}

static void test_interface_off(void **ctx)
{
    static const uint8_t a[] = { 0x1c };
    struct fixture *f = *ctx;

    i8042_plug_keyboard(f->k);
    testvm_out(f->t, COMMAND, 1, 0xad);
    i8042_key(f->k, a, 1);
    assert_false(status(f) & OBF);
    testvm_out(f->t, COMMAND, 1, 0xae);
    expect(f, 0x1c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_plugged_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keyboard_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_queue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interface_off, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
