#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/ioapic.h"
#include "testvm.h"

#define GPA 0xfec00000ull

static uint32_t reg_read(struct testvm *t, unsigned reg)
{
    testvm_write(t, GPA, 4, reg);
    return (uint32_t)testvm_read(t, GPA + 0x10, 4);
}

static void reg_write(struct testvm *t, unsigned reg, uint32_t val)
{
    testvm_write(t, GPA, 4, reg);
    testvm_write(t, GPA + 0x10, 4, val);
}

static struct ioapic *create(struct testvm *t)
{
    struct err e = { 0 };
    struct ioapic *io = ioapic_create(t->vm, GPA, &e);

    assert_non_null(io);
    return io;
}

static void set(struct ioapic *io, unsigned pin, bool level)
{
    struct irq irq = ioapic_irq(io, pin);

    irq_set(&irq, level);
}

static void test_registers(void **ctx)
{
    struct testvm *t = testvm_create(0);

    (void)ctx;
    create(t);
    assert_int_equal(reg_read(t, 1), 0x170020);
    assert_int_equal(reg_read(t, 0x10), 0x10000);
    reg_write(t, 0, 0xffffffff);
    assert_int_equal(reg_read(t, 0), 0x0f000000);
    reg_write(t, 0x12, 0xffffffff);
    assert_int_equal(reg_read(t, 0x12), 0x1afff);
    reg_write(t, 0x13, 0xffffffff);
    assert_int_equal(reg_read(t, 0x13), 0xff000000);
    assert_int_equal(reg_read(t, 0x40), 0);
    testvm_destroy(t);
}

static void test_edge(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct ioapic *io = create(t);

    (void)ctx;
    set(io, 4, true); /* masked: lost */
    set(io, 4, false);
    reg_write(t, 0x19, 0x02000000);
    reg_write(t, 0x18, 0x0831); /* logical */
    assert_int_equal(t->n_msi, 0);
    set(io, 4, true);
    assert_int_equal(t->n_msi, 1);
    assert_int_equal(t->msi_addr, 0xfee02004);
    assert_int_equal(t->msi_data, 0x31);
    set(io, 4, true);
    assert_int_equal(t->n_msi, 1);
    testvm_destroy(t);
}

static void test_level(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct ioapic *io = create(t);

    (void)ctx;
    set(io, 10, true);
    reg_write(t, 0x24, 0x8041); /* unmasking finds the level */
    assert_int_equal(t->n_msi, 1);
    assert_int_equal(t->msi_data, 0xc041);
    assert_int_equal(reg_read(t, 0x24), 0xc041);
    set(io, 10, false);
    set(io, 10, true);
    assert_int_equal(t->n_msi, 1); /* one is being served */
    ioapic_eoi(io, 0x41);
    assert_int_equal(t->n_msi, 2);
    set(io, 10, false);
    testvm_write(t, GPA + 0x40, 4, 0x41);
    assert_int_equal(t->n_msi, 2);
    assert_int_equal(reg_read(t, 0x24), 0x8041);
    testvm_destroy(t);
}

static void count_change(void *opaque, struct ioapic *io, unsigned pin)
{
    uint64_t addr;
    uint32_t data;

    if (ioapic_route_locked(io, pin, &addr, &data))
        (*(unsigned *)opaque)++;
}

static void test_route(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct ioapic *io = create(t);
    unsigned changes = 0;
    uint64_t addr;
    uint32_t data;

    (void)ctx;
    ioapic_on_change(io, count_change, &changes);
    assert_false(ioapic_route(io, 5, &addr, &data));
    reg_write(t, 0x1a, 0x55);
    assert_int_equal(changes, 1);
    reg_write(t, 0x1a, 0x55);
    assert_int_equal(changes, 1);
    assert_true(ioapic_route(io, 5, &addr, &data));
    assert_int_equal(addr, 0xfee00000);
    assert_int_equal(data, 0x55);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_edge),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_route),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
