#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "bus/pci.h"
#include "hw/i440fx.h"
#include "hw/piix3.h"
#include "testvm.h"

/* A function with every kind of BAR; its registers read as the offset and keep the last write. */
struct toy {
    struct pci_dev pci;
    uint64_t written;
    bool level;
};

struct fixture {
    struct testvm *t;
    struct pci_bus *bus;
    struct piix3 *piix3;
    struct toy *toy;
    bool pirq[4], isa[16];
};

static const uint8_t toy_rom[3000] = { 0x55, 0xaa, 6, [2998] = 0x12, [2999] = 0x34 };

static struct toy *toy_of(struct device *d)
{
    return container_of(d, struct toy, pci.dev);
}

static void toy_state(struct device *d, struct state *s)
{
    pci_state(&toy_of(d)->pci, s);
    state_bool(s, &toy_of(d)->level);
}

static void toy_sync(struct device *d)
{
    pci_sync(&toy_of(d)->pci);
    pci_set_intx(&toy_of(d)->pci, toy_of(d)->level);
}

static uint64_t toy_read(struct device *d, uint64_t off, unsigned size)
{
    (void)d;
    (void)size;
    return off + 0x40;
}

static void toy_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    toy_of(d)->written = val;
}

static const struct device_ops toy_ops = { "toy", 1, toy_state, toy_sync, NULL, NULL, NULL };
static const struct io_ops toy_io = { toy_read, toy_write, 1, 8 };

static struct toy *toy_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id)
{
    struct toy *toy = calloc(1, sizeof(*toy));

    assert_non_null(toy);
    pci_init(&toy->pci, &toy_ops, vm, id, 0x1af4, 0x1234, 0xff0000, 7);
    pci_set_subsystem(&toy->pci, 0x1111, 0x2222);
    pci_add_bar(&toy->pci, 0, 0x20, true, false, &toy_io);
    pci_add_bar(&toy->pci, 1, 0x1000, false, false, &toy_io);
    pci_add_bar(&toy->pci, 2, 0x4000, false, true, &toy_io);
    pci_add_rom(&toy->pci, toy_rom, sizeof(toy_rom));
    pci_add_msix(&toy->pci, 4, 3);
    pci_add_intx(&toy->pci);
    assert_int_equal(pci_add(bus, &toy->pci, devfn, NULL), 0);
    return toy;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq pirq[4], isa[16];

    assert_non_null(f);
    for (unsigned i = 0; i < 4; i++)
        pirq[i] = testvm_irq(&f->pirq[i]);
    for (unsigned i = 0; i < 16; i++)
        isa[i] = testvm_irq(&f->isa[i]);
    f->t = testvm_create(0);
    f->bus = pci_bus_create(f->t->vm, NULL);
    assert_non_null(f->bus);
    assert_non_null(i440fx_create(f->t->vm, f->bus, 0, NULL, NULL));
    f->piix3 = piix3_create(f->t->vm, f->bus, PCI_DEVFN(1, 0), pirq, isa, NULL);
    assert_non_null(f->piix3);
    f->toy = toy_create(f->t->vm, f->bus, PCI_DEVFN(3, 0), "toy");
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

enum { TOY = PCI_DEVFN(3, 0) };

static void test_mechanism(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(testvm_pci_in(f->t, 0, 0, 4), 0x12378086);
    assert_int_equal(testvm_in(f->t, 0xcf8, 4), 0x80000000);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0, 2), 0x1af4);
    assert_int_equal(testvm_pci_in(f->t, TOY, 2, 2), 0x1234);
    assert_int_equal(testvm_pci_in(f->t, TOY, 3, 1), 0x12);
    assert_int_equal(testvm_pci_in(f->t, TOY, 8, 4), 0xff000007);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x2c, 4), 0x22221111);
    assert_int_equal(testvm_pci_in(f->t, PCI_DEVFN(4, 0), 0, 4), 0xffffffff); /* nobody */
    testvm_out(f->t, 0xcf8, 4, TOY << 8);                                     /* not enabled */
    assert_int_equal(testvm_in(f->t, 0xcfc, 4), 0xffffffff);
    testvm_out(f->t, 0xcf8, 4, 0x80010000 | TOY << 8); /* bus 1 */
    assert_int_equal(testvm_in(f->t, 0xcfc, 4), 0xffffffff);
    testvm_out(f->t, 0xcf8, 1, 0); /* bytes do not reach the address register */
    assert_int_equal(testvm_in(f->t, 0xcf8, 4), 0x80010000 | TOY << 8);
    testvm_pci_out(f->t, TOY, 0, 4, 0); /* read-only */
    assert_int_equal(testvm_pci_in(f->t, TOY, 0, 4), 0x12341af4);
}

static void test_reset_control(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_out(f->t, 0xcf9, 1, 2);
    assert_int_equal(testvm_in(f->t, 0xcf9, 1), 2);
    assert_int_equal(f->t->vm->end, VM_RUNNING);
    testvm_out(f->t, 0xcf9, 1, 6);
    assert_int_equal(f->t->vm->end, VM_END_RESET);
}

static void test_bar_sizing(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned off = 0x10; off < 0x28; off += 4)
        testvm_pci_out(f->t, TOY, off, 4, 0xffffffff);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x10, 4), 0xffffffe1);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x14, 4), 0xfffff000);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x18, 4), 0xffffc004);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x1c, 4), 0xffffffff);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x20, 4), 0xfffff000);
    assert_int_equal(testvm_pci_in(f->t, TOY, 0x24, 4), 0);
}

static void test_bar_mapping(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_pci_out(f->t, TOY, 0x14, 4, 0xe0000000);
    assert_int_equal(testvm_read(f->t, 0xe0000004, 4), 0xffffffff); /* no decoding yet */
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_IO);
    assert_int_equal(testvm_read(f->t, 0xe0000004, 4), 0x44);
    testvm_pci_out(f->t, TOY, 0x14, 4, 0xe0100000);
    assert_int_equal(testvm_read(f->t, 0xe0000004, 4), 0xffffffff);
    assert_int_equal(testvm_read(f->t, 0xe0100004, 4), 0x44);
    testvm_pci_out(f->t, TOY, 0x10, 4, 0xc000);
    assert_int_equal(testvm_in(f->t, 0xc003, 1), 0x43);
    testvm_pci_out(f->t, TOY, 0x10, 4, 0x12345600); /* beyond the I/O space */
    assert_int_equal(testvm_in(f->t, 0xc003, 1), 0xff);
    testvm_pci_out(f->t, TOY, 0x18, 4, 0x4000);
    testvm_pci_out(f->t, TOY, 0x1c, 4, 0x12);
    assert_int_equal(testvm_read(f->t, 0x1200004010, 1), 0x50);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, 0);
    assert_int_equal(testvm_read(f->t, 0x1200004010, 1), 0xff);
}

static void test_bar_conflict(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned second = PCI_DEVFN(4, 0);
    struct toy *other = toy_create(f->t->vm, f->bus, second, "toy2");

    testvm_pci_out(f->t, TOY, 0x14, 4, 0xe0000000);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM);
    testvm_pci_out(f->t, second, PCI_COMMAND, 2, PCI_CMD_MEM);
    testvm_pci_out(f->t, second, 0x14, 4, 0xe0000000);
    testvm_write(f->t, 0xe0000000, 4, 1);
    assert_int_equal(f->toy->written, 1); /* first come */
    assert_int_equal(other->written, 0);
    /* and the second moves in when the place is free */
    testvm_pci_out(f->t, TOY, 0x14, 4, 0xe0001000);
    testvm_write(f->t, 0xe0000000, 4, 2);
    testvm_write(f->t, 0xe0001000, 4, 3);
    assert_int_equal(other->written, 2);
    assert_int_equal(f->toy->written, 3);
    assert_int_equal(pci_add(f->bus, &other->pci, TOY, NULL), -EEXIST);
}

/* As firmware does it: size, address with the enable bit, copy, off again. */
static void test_rom(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_pci_out(f->t, TOY, PCI_ROM_BAR, 4, 0xfffff800);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_ROM_BAR, 4), 0xfffff000); /* 4 KiB */
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM);
    testvm_pci_out(f->t, TOY, PCI_ROM_BAR, 4, 0xfeb00000);
    assert_int_equal(testvm_read(f->t, 0xfeb00000, 2), 0xffff);
    testvm_pci_out(f->t, TOY, PCI_ROM_BAR, 4, 0xfeb00001);
    assert_int_equal(testvm_read(f->t, 0xfeb00000, 2), 0xaa55);
    assert_int_equal(testvm_read(f->t, 0xfeb00000 + 2998, 4),
                     0xffff3412); /* erased behind its end */
    testvm_write(f->t, 0xfeb00000, 1, 0);
    assert_int_equal(testvm_read(f->t, 0xfeb00000, 1), 0x55);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, 0);
    assert_int_equal(testvm_read(f->t, 0xfeb00000, 2), 0xffff);
    testvm_pci_out(f->t, TOY, PCI_ROM_BAR, 4, 0xffffffff); /* somebody measures it carelessly */
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_ROM_BAR, 4), 0xfffff001);
    assert_int_equal(testvm_read(f->t, 0xfffff000, 2), 0xffff);
}

static void test_intx(void **ctx)
{
    struct fixture *f = *ctx;
    struct pci_dev *p = &f->toy->pci;
    unsigned pirq = piix3_pirq(3, 0);

    pci_set_intx(p, true);
    assert_true(f->pirq[pirq]);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_STATUS, 2) & PCI_STS_INTX, PCI_STS_INTX);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_INTX_OFF);
    assert_false(f->pirq[pirq]);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_STATUS, 2) & PCI_STS_INTX, PCI_STS_INTX);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, 0);
    assert_true(f->pirq[pirq]);
    testvm_pci_out(f->t, PCI_DEVFN(1, 0), 0x60 + pirq, 1, 11); /* and by the 8259s */
    assert_true(f->isa[11]);
    testvm_pci_out(f->t, PCI_DEVFN(1, 0), 0x60 + pirq, 1, 5);
    assert_false(f->isa[11]);
    assert_true(f->isa[5]);
    testvm_pci_out(f->t, PCI_DEVFN(1, 0), 0x60 + pirq, 1, 13); /* not routable */
    assert_false(f->isa[5]);
    assert_false(f->isa[13]);
    pci_set_intx(p, false);
    assert_false(f->pirq[pirq]);
}

static void test_intx_shared(void **ctx)
{
    struct fixture *f = *ctx;
    struct toy *other = toy_create(f->t->vm, f->bus, PCI_DEVFN(7, 0), "toy2");
    unsigned pirq = piix3_pirq(3, 0);

    assert_int_equal(piix3_pirq(7, 0), pirq);
    pci_set_intx(&f->toy->pci, true);
    pci_set_intx(&other->pci, true);
    pci_set_intx(&f->toy->pci, false);
    assert_true(f->pirq[pirq]);
    pci_set_intx(&other->pci, false);
    assert_false(f->pirq[pirq]);
}

static void test_msix(void **ctx)
{
    struct fixture *f = *ctx;
    struct pci_dev *p = &f->toy->pci;
    unsigned cap = testvm_pci_in(f->t, TOY, PCI_CAP_PTR, 1);
    uint64_t table = 0xe0010000;

    assert_int_equal(testvm_pci_in(f->t, TOY, cap, 1), PCI_CAP_MSIX);
    assert_int_equal(testvm_pci_in(f->t, TOY, cap + 2, 2), 2); /* three vectors */
    assert_int_equal(testvm_pci_in(f->t, TOY, cap + 4, 4), 4); /* BAR 4 */
    testvm_pci_out(f->t, TOY, 0x20, 4, (uint32_t)table);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
    testvm_write(f->t, table + 16, 8, 0xfee01000);
    testvm_write(f->t, table + 24, 4, 0x4041);
    pci_msix_fire(p, 1);
    assert_int_equal(f->t->n_msi, 0); /* not enabled: lost */
    testvm_pci_out(f->t, TOY, cap + 2, 2, 0x8000);
    pci_msix_fire(p, 1);
    assert_int_equal(f->t->n_msi, 0); /* masked: pending */
    assert_int_equal(testvm_read(f->t, table + 0x800, 8), 2);
    testvm_write(f->t, table + 28, 4, 0);
    assert_int_equal(f->t->n_msi, 1);
    assert_int_equal(f->t->msi_addr, 0xfee01000);
    assert_int_equal(f->t->msi_data, 0x4041);
    assert_int_equal(testvm_read(f->t, table + 0x800, 8), 0);
    testvm_pci_out(f->t, TOY, cap + 2, 2, 0xc000); /* function mask */
    pci_msix_fire(p, 1);
    pci_msix_fire(p, 3); /* no such vector */
    assert_int_equal(f->t->n_msi, 1);
    testvm_pci_out(f->t, TOY, cap + 2, 2, 0x8000);
    assert_int_equal(f->t->n_msi, 2);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM); /* no bus master: cannot write memory */
    pci_msix_fire(p, 1);
    assert_int_equal(f->t->n_msi, 2);
    testvm_pci_out(f->t, TOY, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
    assert_int_equal(f->t->n_msi, 3);
}

static void test_multi_function(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_HEADER_TYPE, 1), 0);
    toy_create(f->t->vm, f->bus, PCI_DEVFN(3, 2), "toy2");
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_HEADER_TYPE, 1), 0x80);
    device_reset(&f->toy->pci.dev);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_HEADER_TYPE, 1), 0x80);
}

static void test_assign(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e = { 0 };

    assert_int_equal(pci_assign(f->bus, 0xe0000000, 0x10000, 0xc000, 1ull << 40, &e), 0);
    piix3_assign(f->piix3);
    for (unsigned n = 0; n < 5; n += n == 2 ? 2 : 1)
        assert_true(f->toy->pci.bar[n].mapped_at != PCI_UNMAPPED);
    assert_int_equal(f->toy->pci.bar[2].mapped_at, 0xe0000000); /* the largest first */
    assert_int_equal(f->toy->pci.bar[0].mapped_at, 0xc000);
    assert_int_equal(testvm_pci_in(f->t, TOY, PCI_INT_LINE, 1), 11);
    /* A window too small for the 64-bit BAR: it goes high; too small for the rest: a sentence. */
    assert_int_equal(pci_assign(f->bus, 0xe0000000, 0x2000, 0xc000, 1ull << 40, &e), 0);
    assert_int_equal(f->toy->pci.bar[2].mapped_at, 1ull << 40);
    assert_int_equal(pci_assign(f->bus, 0xe0000000, 0x1000, 0xc000, 1ull << 40, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "toy"));
}

static void test_state(void **ctx)
{
    struct fixture *f = *ctx;
    struct state out, in;

    assert_int_equal(pci_assign(f->bus, 0xe0000000, 0x10000, 0xc000, 1ull << 40, NULL), 0);
    f->toy->level = true;
    state_init_save(&out);
    device_state(&f->toy->pci.dev, &out);
    device_reset(&f->toy->pci.dev);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(testvm_read(f->t, 0xe0000000, 1), 0xff);
    assert_false(f->pirq[2]);
    state_init_load(&in, out.buf, out.len);
    device_state(&f->toy->pci.dev, &in);
    assert_int_equal(state_error(&in), 0);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(testvm_read(f->t, 0xe0000000, 1), 0x40);
    assert_true(f->pirq[2]);
    out.buf[16] ^= 1; /* the vendor: from another device */
    state_init_load(&in, out.buf, out.len);
    device_state(&f->toy->pci.dev, &in);
    assert_int_not_equal(state_error(&in), 0);
    state_fini(&out);
}

/* Whatever is written to configuration space: nothing breaks, and the ids stay. */
static void test_garbage(void **ctx)
{
    struct fixture *f = *ctx;
    uint32_t seed = 1;

    for (unsigned i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        testvm_pci_out(f->t, i & 1 ? TOY : PCI_DEVFN(seed >> 30, 0), seed >> 8 & 0xff,
                       1u << (seed >> 20) % 3, seed ^ seed >> 16);
    }
    assert_int_equal(testvm_pci_in(f->t, TOY, 0, 4), 0x12341af4);
    device_reset_all(f->t->vm->devices);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(f->t->vm->mmio.n, 1); /* the shadow RAM of the host bridge */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mechanism, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_control, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bar_sizing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bar_mapping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bar_conflict, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rom, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_intx, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_intx_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_msix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_multi_function, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_assign, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
