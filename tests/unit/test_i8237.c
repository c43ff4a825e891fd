#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "hw/i8237.h"
#include "testvm.h"

enum { LOW = 0x00, HIGH = 0xc0, PAGE = 0x81, RAM = 0x100000 };
enum { WRITE = 0x44, READ = 0x48, VERIFY = 0x40, AUTO = 0x10, DOWN = 0x20 }; /* single mode */

struct fixture {
    struct testvm *t;
    struct i8237 *dma;
    struct loop_work work;
    unsigned woken;
};

static void woken(struct loop_work *w)
{
    container_of(w, struct fixture, work)->woken++;
}

static int set_up(void **ctx)
{
    static const struct i8237_at at = { LOW, HIGH, PAGE };
    struct fixture *f = calloc(1, sizeof(*f));

    f->t = testvm_create(RAM);
    f->dma = i8237_create(f->t->vm, &at, NULL);
    assert_non_null(f->dma);
    f->work.call = woken;
    i8237_connect(f->dma, 2, &f->work);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    loop_unpost(vm_loop(f->t->vm), &f->work);
    testvm_destroy(f->t);
    free(f);
    return 0;
}

/* count: units less one. */
static void program(struct fixture *f, unsigned channel, uint8_t page, uint16_t addr,
                    uint16_t count, uint8_t mode)
{
    static const uint16_t pages[8] = { 0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a };
    uint16_t base = channel < 4 ? LOW : HIGH, step = channel < 4 ? 1 : 2;
    uint16_t reg = (uint16_t)(base + channel % 4 * 2 * step);

    testvm_out(f->t, (uint16_t)(base + 10 * step), 1, 4 | channel % 4);
    testvm_out(f->t, (uint16_t)(base + 12 * step), 1, 0);
    testvm_out(f->t, (uint16_t)(base + 11 * step), 1, mode | channel % 4);
    testvm_out(f->t, reg, 1, addr & 0xff);
    testvm_out(f->t, reg, 1, addr >> 8);
    testvm_out(f->t, (uint16_t)(reg + step), 1, count & 0xff);
    testvm_out(f->t, (uint16_t)(reg + step), 1, count >> 8);
    testvm_out(f->t, pages[channel], 1, page);
    testvm_out(f->t, (uint16_t)(base + 10 * step), 1, channel % 4);
}

static void test_to_memory(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[10] = "0123456789";
    bool end;

    program(f, 2, 0x03, 0x1234, 7, WRITE);
    assert_int_equal(i8237_transfer(f->dma, 2, data, 5, true, &end), 5);
    assert_false(end);
    assert_int_equal(testvm_in(f->t, LOW + 8, 1), 0);
    assert_int_equal(i8237_transfer(f->dma, 2, data + 5, 5, true, &end), 3);
    assert_true(end);
    assert_memory_equal(f->t->ram.hva + 0x31234, "01234567\0", 9);
    assert_int_equal(testvm_in(f->t, LOW + 8, 1), 4); /* terminal count, once */
    assert_int_equal(testvm_in(f->t, LOW + 8, 1), 0);
    assert_int_equal(i8237_transfer(f->dma, 2, data, 1, true, &end), 0); /* masked by it */
}

static void test_from_memory_of_words(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[8] = { 0 };
    bool end;

    memcpy(f->t->ram.hva + 0x42468, "abcdefgh", 8);
    program(f, 5, 0x04, 0x1234, 2, READ); /* word 0x1234 of page 4 */
    assert_int_equal(i8237_transfer(f->dma, 5, data, 8, false, &end), 6);
    assert_true(end);
    assert_memory_equal(data, "abcdef\0\0", 8);
}

static void test_down_and_auto(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[4] = "wxyz";
    bool end;

    program(f, 2, 0, 0x1003, 3, WRITE | DOWN | AUTO);
    for (int i = 0; i < 2; i++) {
        memset(f->t->ram.hva + 0x1000, 0, 4);
        assert_int_equal(i8237_transfer(f->dma, 2, data, 4, true, &end), 4);
        assert_true(end);
        assert_memory_equal(f->t->ram.hva + 0x1000, "zyxw", 4);
    }
}

/* Addresses wrap in their 64 KiB; memory that is not there swallows. */
static void test_wrap_and_verify(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[4] = "1234";
    bool end;

    program(f, 2, 1, 0xfffe, 3, WRITE);
    assert_int_equal(i8237_transfer(f->dma, 2, data, 4, true, &end), 4);
    assert_memory_equal(f->t->ram.hva + 0x1fffe, "12", 2);
    assert_memory_equal(f->t->ram.hva + 0x10000, "34", 2);
    program(f, 2, 0xff, 0, 3, READ);
    assert_int_equal(i8237_transfer(f->dma, 2, data, 4, false, &end), 4);
    assert_memory_equal(data, "\xff\xff\xff\xff", 4);
    program(f, 2, 0, 0x2000, 3, VERIFY);
    assert_int_equal(i8237_transfer(f->dma, 2, data, 4, true, &end), 4);
    assert_true(end);
    assert_int_equal(f->t->ram.hva[0x2000], 0);
}

static void test_registers(void **ctx)
{
    struct fixture *f = *ctx;
    bool end;

    program(f, 1, 0, 0xabcd, 0x1234, READ);
    testvm_out(f->t, LOW + 12, 1, 0);
    assert_int_equal(testvm_in(f->t, LOW + 2, 1), 0xcd);
    assert_int_equal(testvm_in(f->t, LOW + 2, 1), 0xab);
    assert_int_equal(testvm_in(f->t, LOW + 3, 1), 0x34);
    assert_int_equal(testvm_in(f->t, LOW + 3, 1), 0x12);
    assert_int_equal(testvm_in(f->t, LOW + 15, 1) & 0x0f, 0x0d);
    testvm_out(f->t, LOW + 14, 1, 0);
    assert_int_equal(testvm_in(f->t, LOW + 15, 1) & 0x0f, 0);
    testvm_out(f->t, LOW + 8, 1, 4); /* disabled */
    assert_int_equal(i8237_transfer(f->dma, 1, (uint8_t[1]){ 0 }, 1, false, &end), 0);
    testvm_out(f->t, LOW + 13, 1, 0);
    assert_int_equal(testvm_in(f->t, LOW + 15, 1) & 0x0f, 0x0f);
}

/* The device hears of a channel that is ready. */
static void test_wakes(void **ctx)
{
    struct fixture *f = *ctx;

    loop_poll(vm_loop(f->t->vm), 0);
    assert_int_equal(f->woken, 0);
    program(f, 2, 0, 0, 0, READ);
    loop_poll(vm_loop(f->t->vm), 0);
    assert_int_equal(f->woken, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_to_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_from_memory_of_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_down_and_auto, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrap_and_verify, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_registers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wakes, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
