#include "testvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "hw/piix3.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };

static struct testvm *testvm_of(struct vm *vm)
{
    return container_of(vm->cfg, struct testvm, cfg);
}

static void testvm_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    struct testvm *t = testvm_of(vm);

    t->n_msi++;
    t->msi_addr = addr;
    t->msi_data = data;
}

static void testvm_intr(struct vm *vm, bool level)
{
    testvm_of(vm)->intr = level;
}

static void testvm_nmi(struct vm *vm, struct vcpu *c)
{
    (void)vm;
    (void)c;
}

static const struct irqchip_ops testvm_irqchip = {
    .msi = testvm_msi,
    .intr = testvm_intr,
    .nmi = testvm_nmi,
};

struct testvm *testvm_create(uint64_t ram_len)
{
    struct testvm *t = calloc(1, sizeof(*t));
    struct err e = { 0 };

    assert_non_null(t);
    config_init(&t->cfg);
    assert_int_equal(vm_create(&t->vm, &t->cfg, NULL, &e), 0);
    t->vm->irqchip = &testvm_irqchip;
    if (ram_len) {
        assert_int_equal(ram_alloc(&t->ram, "low", 0, ram_len, &e), 0);
        assert_int_equal(physmap_add(&t->vm->mem, &t->ram), 0);
    }
    return t;
}

void testvm_destroy(struct testvm *t)
{
    vm_destroy(t->vm);
    if (t->ram.hva)
        ram_free(&t->ram);
    config_fini(&t->cfg);
    free(t);
}

uint64_t testvm_in(struct testvm *t, uint16_t port, unsigned size)
{
    uint64_t val = 0;

    bus_read(&t->vm->pio, port, size, &val);
    return val;
}

void testvm_out(struct testvm *t, uint16_t port, unsigned size, uint64_t val)
{
    bus_write(&t->vm->pio, port, size, &val);
}

uint64_t testvm_read(struct testvm *t, uint64_t gpa, unsigned size)
{
    uint64_t val = 0;

    bus_read(&t->vm->mmio, gpa, size, &val);
    return val;
}

void testvm_write(struct testvm *t, uint64_t gpa, unsigned size, uint64_t val)
{
    bus_write(&t->vm->mmio, gpa, size, &val);
}

static void testvm_wire(void *chip, unsigned pin, bool level)
{
    (void)pin;
    *(bool *)chip = level;
}

struct irq testvm_irq(bool *level)
{
    return (struct irq){ .set = testvm_wire, .chip = level };
}

struct pci_bus *testvm_pci(struct testvm *t)
{
    struct pci_bus *bus = pci_bus_create(t->vm, NULL);
    struct irq pirq[ARRAY_SIZE(t->pirq)];

    assert_non_null(bus);
    for (unsigned i = 0; i < ARRAY_SIZE(pirq); i++)
        pirq[i] = testvm_irq(&t->pirq[i]);
    assert_non_null(piix3_create(t->vm, bus, PCI_DEVFN(1, 0), pirq, NULL, NULL));
    return bus;
}

bool testvm_inta(const struct testvm *t, unsigned slot)
{
    return t->pirq[piix3_pirq(slot, 0)];
}

static uint16_t testvm_pci_select(struct testvm *t, unsigned devfn, unsigned reg)
{
    testvm_out(t, CONFIG_ADDRESS, 4, 0x80000000u | devfn << 8 | (reg & 0xfc));
    return (uint16_t)(CONFIG_DATA + (reg & 3));
}

uint32_t testvm_pci_in(struct testvm *t, unsigned devfn, unsigned reg, unsigned size)
{
    return (uint32_t)testvm_in(t, testvm_pci_select(t, devfn, reg), size);
}

void testvm_pci_out(struct testvm *t, unsigned devfn, unsigned reg, unsigned size, uint32_t val)
{
    testvm_out(t, testvm_pci_select(t, devfn, reg), size, val);
}
