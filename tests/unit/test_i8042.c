#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/i8042.h"
#include "testvm.h"

enum { DATA = 0x60, COMMAND = 0x64, OBF = 1, AUX = 0x20, TIMEOUT = 0x40 };

struct fixture {
    struct testvm *t;
    struct i8042 *k;
    bool irq, irq12;
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

    i8042_plug_keyboard(f->k, NULL);
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
    i8042_plug_keyboard(f->k, NULL);
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

    i8042_plug_keyboard(f->k, NULL);
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

    i8042_plug_keyboard(f->k, NULL);
    testvm_out(f->t, COMMAND, 1, 0xad);
    i8042_key(f->k, a, 1);
    assert_false(status(f) & OBF);
    testvm_out(f->t, COMMAND, 1, 0xae);
    expect(f, 0x1c);
}

static void to_mouse(struct fixture *f, uint8_t byte)
{
    testvm_out(f->t, COMMAND, 1, 0xd4);
    testvm_out(f->t, DATA, 1, byte);
}

static void expect_aux(struct fixture *f, uint8_t byte)
{
    assert_int_equal(status(f) & (OBF | AUX | TIMEOUT), OBF | AUX);
    assert_int_equal(testvm_in(f->t, DATA, 1), byte);
}

static void mouse_command(struct fixture *f, uint8_t byte)
{
    to_mouse(f, byte);
    expect_aux(f, 0xfa);
}

static void test_mouse_commands(void **ctx)
{
    struct fixture *f = *ctx;

    i8042_plug_mouse(f->k, testvm_irq(&f->irq12), NULL);
    testvm_out(f->t, COMMAND, 1, 0xa9);
    expect(f, 0);
    mouse_command(f, 0xff);
    expect_aux(f, 0xaa);
    expect_aux(f, 0);
    mouse_command(f, 0xf2);
    expect_aux(f, 0);
    mouse_command(f, 0xe8);
    mouse_command(f, 3);
    mouse_command(f, 0xe7);
    mouse_command(f, 0xe9);
    expect_aux(f, 0x10);
    expect_aux(f, 3);
    expect_aux(f, 100);
    to_mouse(f, 0x12); /* no such command */
    expect_aux(f, 0xfe);
    mouse_command(f, 0xee); /* wrap mode */
    to_mouse(f, 0xf4);
    expect_aux(f, 0xf4);
    mouse_command(f, 0xec);
    testvm_out(f->t, COMMAND, 1, 0xd3);
    testvm_out(f->t, DATA, 1, 0x77);
    expect_aux(f, 0x77);
}

static void test_mouse_moves(void **ctx)
{
    struct fixture *f = *ctx;

    i8042_plug_mouse(f->k, testvm_irq(&f->irq12), NULL);
    set_ccb(f, 3);
    i8042_move(f->k, 1, 1, 0, 0); /* not yet */
    assert_false(status(f) & OBF);
    mouse_command(f, 0xf4);
    i8042_move(f->k, 5, 3, INPUT_LEFT, 0);
    assert_true(f->irq12);
    assert_false(f->irq);
    expect_aux(f, 0x29);
    expect_aux(f, 5);
    expect_aux(f, 0xfd);
    assert_false(f->irq12);
    for (unsigned i = 0; i < 3; i++) {
        static const uint8_t rates[] = { 200, 100, 80 };

        mouse_command(f, 0xf3);
        mouse_command(f, rates[i]);
    }
    mouse_command(f, 0xf2);
    expect_aux(f, 3);
    i8042_move(f->k, -300, 0, 0, 1); /* more than a packet can say */
    expect_aux(f, 0x18);
    expect_aux(f, 0x01);
    expect_aux(f, 0);
    expect_aux(f, 0xff);
    expect_aux(f, 0x18);
    expect_aux(f, 0xd3);
    expect_aux(f, 0);
    expect_aux(f, 0);
    mouse_command(f, 0xf0); /* remote mode */
    i8042_move(f->k, 7, 0, INPUT_RIGHT, 0);
    assert_false(status(f) & OBF);
    mouse_command(f, 0xeb);
    expect_aux(f, 0x0a);
    expect_aux(f, 7);
    expect_aux(f, 0);
    expect_aux(f, 0);
}

/* What there is no room for is added up, not lost. */
static void test_mouse_far(void **ctx)
{
    struct fixture *f = *ctx;
    int sum = 0;

    i8042_plug_mouse(f->k, testvm_irq(&f->irq12), NULL);
    mouse_command(f, 0xf4);
    for (int i = 0; i < 100; i++)
        i8042_move(f->k, 10, 0, 0, 0);
    while (status(f) & OBF) {
        uint8_t head = (uint8_t)testvm_in(f->t, DATA, 1);

        assert_int_equal(head, 0x08);
        sum += (int)testvm_in(f->t, DATA, 1);
        testvm_in(f->t, DATA, 1);
    }
    assert_int_equal(sum, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_plugged_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keyboard_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_queue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interface_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mouse_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mouse_moves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mouse_far, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
