#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hw/piix4_pm.h"
#include "testvm.h"

enum { DEVFN = PCI_DEVFN(1, 3), PMBASE = 0x40, DEVACTB = 0x58, PMREGMISC = 0x80 };

struct fixture {
    struct testvm *t;
    struct piix4_pm *p;
    bool sci;
};

static int set_up(void **ctx)
{
    static const struct acpi_pm_sleep sleep = { 1, 0 };
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;
    struct acpi_pm *pm;

    assert_non_null(f);
    f->t = testvm_create(0);
    bus = pci_bus_create(f->t->vm, NULL);
    pm = acpi_pm_create(f->t->vm, 0, 0xafe0, &sleep, testvm_irq(&f->sci), NULL);
    assert_true(bus && pm);
    f->p = piix4_pm_create(f->t->vm, bus, DEVFN, pm, NULL);
    assert_non_null(f->p);
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

static bool answers(struct fixture *f, uint16_t base)
{
    return testvm_in(f->t, base + ACPI_PM_CNT, 2) == 1; /* SCI_EN */
}

/* As firmware does it: base, then the enable bit; and away again. */
static void test_base(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(testvm_pci_in(f->t, DEVFN, 0, 4), 0x71138086);
    assert_int_equal(testvm_pci_in(f->t, DEVFN, DEVACTB, 4) >> 24 & 2, 2); /* SMM is set up */
    testvm_pci_out(f->t, DEVFN, PMBASE, 4, 0xb03f);
    assert_int_equal(testvm_pci_in(f->t, DEVFN, PMBASE, 4), 0xb001);
    assert_int_equal(piix4_pm_base(f->p), 0);
    assert_false(answers(f, 0xb000));
    testvm_pci_out(f->t, DEVFN, PMREGMISC, 4, 1);
    assert_int_equal(piix4_pm_base(f->p), 0xb000);
    assert_true(answers(f, 0xb000));
    assert_true(testvm_in(f->t, 0xb008, 4) != 0xffffffff);
    testvm_pci_out(f->t, DEVFN, PMBASE, 4, 0x601);
    assert_true(answers(f, 0x600) && !answers(f, 0xb000));
    testvm_pci_out(f->t, DEVFN, PMREGMISC, 4, 0);
    assert_false(answers(f, 0x600));
}

static void test_reset_and_load(void **ctx)
{
    struct fixture *f = *ctx;
    struct state s, l;

    piix4_pm_assign(f->p, 0x600);
    assert_true(answers(f, 0x600));
    state_init_save(&s);
    device_state_all(f->t->vm->devices, &s);
    device_reset_all(f->t->vm->devices);
    device_sync_all(f->t->vm->devices);
    assert_false(answers(f, 0x600));
    state_init_load(&l, s.buf, s.len);
    device_state_all(f->t->vm->devices, &l);
    assert_int_equal(state_error(&l), 0);
    device_sync_all(f->t->vm->devices);
    assert_true(answers(f, 0x600));
    state_fini(&l);
    state_fini(&s);
}

/* On top of another device: that one stays, and nothing breaks. */
static void test_in_the_way(void **ctx)
{
    struct fixture *f = *ctx;

    piix4_pm_assign(f->p, 0xaf80 + 0x40); /* its registers end below afe0 */
    assert_true(answers(f, 0xafc0));
    piix4_pm_assign(f->p, 0xcc0);
    testvm_out(f->t, 0xcf8, 4, 0x80000000u);
    assert_int_equal(testvm_in(f->t, 0xcf8, 4), 0x80000000u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_base, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_and_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_the_way, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
