#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "testvm.h"

struct chip {
    struct device dev;
    uint64_t off, val;
    unsigned size, writes, reads;
};

static uint64_t chip_read(struct device *d, uint64_t off, unsigned size)
{
    struct chip *c = container_of(d, struct chip, dev);

    c->reads++;
    c->off = off;
    c->size = size;
    return 0x1122334455667788ull >> (8 * off);
}

static void chip_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct chip *c = container_of(d, struct chip, dev);

    c->writes++;
    c->off = off;
    c->size = size;
    c->val = val;
}

static void chip_state(struct device *d, struct state *s)
{
    state_u64(s, &container_of(d, struct chip, dev)->val);
}

static const struct device_ops chip_ops = { .type = "chip", .version = 1, .state = chip_state };
static const struct io_ops chip_io4 = { chip_read, chip_write, 4, 4 };
static const struct io_ops chip_io1 = { chip_read, chip_write, 1, 1 };

static struct chip *chip_create(struct testvm *t, const struct io_ops *ops, const char *id,
                                uint64_t at)
{
    struct chip *c = calloc(1, sizeof(*c));
    struct err e = { 0 };

    assert_non_null(c);
    c->dev = (struct device){ .ops = &chip_ops, .vm = t->vm, .id = id };
    assert_int_equal(bus_claim(&t->vm->pio, at, 8, ops, &c->dev, &e), 0);
    assert_int_equal(device_add(t->vm, &c->dev, &e), 0);
    return c;
}

static void test_sizes(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct chip *c = chip_create(t, &chip_io4, "c0", 0x100);

    (void)ctx;
    assert_int_equal(testvm_in(t, 0x100, 4), 0x55667788);
    assert_int_equal(testvm_in(t, 0x101, 1), 0x77); /* narrower: extracted from the unit */
    assert_int_equal(c->size, 4);
    testvm_out(t, 0x100, 1, 1); /* narrower: dropped */
    assert_int_equal(c->writes, 0);
    testvm_out(t, 0x104, 4, 9);
    assert_int_equal(c->val, 9);
    assert_int_equal(testvm_in(t, 0x200, 4), 0xffffffff);   /* nobody */
    assert_int_equal(testvm_in(t, 0x106, 4) >> 16, 0xffff); /* half of it beyond the range */
    testvm_destroy(t);
}

static void test_split(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct chip *c = chip_create(t, &chip_io1, "c0", 0x100);

    (void)ctx;
    assert_int_equal(testvm_in(t, 0x100, 4), 0x55667788);
    assert_int_equal(c->reads, 4);
    testvm_destroy(t);
}

static void test_overlap(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct chip *c = chip_create(t, &chip_io1, "c0", 0x100);
    struct err e = { 0 };

    (void)ctx;
    assert_int_equal(bus_claim(&t->vm->pio, 0x107, 1, &chip_io1, &c->dev, &e), -EEXIST);
    e = (struct err){ 0 };
    assert_int_equal(bus_claim(&t->vm->pio, 0x108, 1, &chip_io1, &c->dev, &e), 0);
    assert_int_equal(bus_claim(&t->vm->pio, 0xff, 1, &chip_io1, &c->dev, &e), 0);
    bus_release_at(&t->vm->pio, &c->dev, 0x100);
    assert_int_equal(testvm_in(t, 0x104, 1), 0xff);
    assert_int_equal(testvm_in(t, 0x108, 1), 0x88);
    testvm_destroy(t);
}

static void test_default_reset(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct chip *c = chip_create(t, &chip_io4, "c0", 0x100);

    (void)ctx;
    testvm_out(t, 0x100, 4, 77);
    device_reset_all(t->vm->devices);
    assert_int_equal(c->val, 0);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_default_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
