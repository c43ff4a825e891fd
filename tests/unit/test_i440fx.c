#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/i440fx.h"
#include "testvm.h"

enum { HOST = PCI_DEVFN(0, 0), PAM0 = 0x59, PAM1 = 0x5a, SMRAMC = 0x72, F0000 = 12 };

struct fixture {
    struct testvm *t;
    struct ram_region block, shadow[I440FX_SEGMENTS];
    struct pci_bus *bus;
    struct i440fx *host;
    unsigned layouts; /* times that the machine was told */
};
static struct fixture *the_fixture;

static void layout(struct vm *vm)
{
    (void)vm;
    the_fixture->layouts++;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = testvm_create(0);
    f->t->vm->layout = layout;
    assert_int_equal(ram_alloc(&f->block, "block", 0, MIB, NULL), 0);
    for (unsigned i = 0; i < I440FX_SEGMENTS; i++)
        ram_view(&f->shadow[i], &f->block, "shadow", i440fx_segment_at(i), i440fx_segment_at(i),
                 i440fx_segment_len(i));
    f->bus = pci_bus_create(f->t->vm, NULL);
    assert_non_null(f->bus);
    f->host = i440fx_create(f->t->vm, f->bus, HOST, f->shadow, NULL);
    assert_non_null(f->host);
    *ctx = the_fixture = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    ram_free(&f->block);
    free(f);
    return 0;
}

static void test_segments(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(i440fx_segment_at(1), 0xc4000);
    assert_int_equal(i440fx_segment_at(F0000), 0xf0000);
    assert_int_equal(i440fx_segment_len(F0000), 0x10000);
    for (unsigned i = 0; i < I440FX_SEGMENTS; i++)
        assert_false(i440fx_reads_ram(f->host, i) || i440fx_writes_ram(f->host, i));
    testvm_pci_out(f->t, HOST, PAM1, 1, 0x31); /* c0000: reads; c4000: both */
    testvm_pci_out(f->t, HOST, PAM0, 1, 0x2f); /* f0000: writes; the lower half is nothing */
    assert_int_equal(testvm_pci_in(f->t, HOST, PAM0, 1), 0x20);
    assert_int_equal(f->layouts, 2);
    assert_true(i440fx_reads_ram(f->host, 0) && !i440fx_writes_ram(f->host, 0));
    assert_true(i440fx_reads_ram(f->host, 1) && i440fx_writes_ram(f->host, 1));
    assert_false(i440fx_reads_ram(f->host, 2) || i440fx_writes_ram(f->host, 2));
    assert_true(!i440fx_reads_ram(f->host, F0000) && i440fx_writes_ram(f->host, F0000));
    i440fx_assign(f->host);
    for (unsigned i = 0; i < I440FX_SEGMENTS; i++)
        assert_true(i440fx_reads_ram(f->host, i) && i440fx_writes_ram(f->host, i));
}

/* What is not mapped: nobody answers a read; a write reaches the RAM below if the register says so. */
static void test_behind_rom(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_write(f->t, 0xf0010, 4, 0x12345678);
    assert_int_equal(*(uint32_t *)(void *)(f->block.hva + 0xf0010), 0);
    testvm_pci_out(f->t, HOST, PAM0, 1, 0x20);
    testvm_write(f->t, 0xf0010, 4, 0x12345678);
    testvm_write(f->t, 0xfffff, 1, 0x9a);
    assert_int_equal(*(uint32_t *)(void *)(f->block.hva + 0xf0010), 0x12345678);
    assert_int_equal(f->block.hva[0xfffff], 0x9a);
    assert_int_equal(testvm_read(f->t, 0xf0010, 4), 0xffffffff);
    testvm_pci_out(f->t, HOST, PAM1, 1, 0x10);
    f->block.hva[0xc4001] = 0x77;
    assert_int_equal(testvm_read(f->t, 0xc4001, 1), 0x77);
    testvm_write(f->t, 0xc4001, 1, 0); /* read-only */
    assert_int_equal(f->block.hva[0xc4001], 0x77);
}

static void test_smram_lock(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e = { 0 };

    assert_false(i440fx_smram_open(f->host));
    testvm_pci_out(f->t, HOST, SMRAMC, 1, 0x4a);
    assert_true(i440fx_smram_open(f->host));
    testvm_pci_out(f->t, HOST, SMRAMC, 1, 0x5a); /* D_LCK: closed for good */
    assert_false(i440fx_smram_open(f->host));
    testvm_pci_out(f->t, HOST, SMRAMC, 1, 0x4a);
    assert_int_equal(testvm_pci_in(f->t, HOST, SMRAMC, 1), 0x1a);
    assert_int_equal(vm_reset(f->t->vm, &e), 0);
    testvm_pci_out(f->t, HOST, SMRAMC, 1, 0x4a);
    assert_true(i440fx_smram_open(f->host));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_behind_rom, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_smram_lock, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
