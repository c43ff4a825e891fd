/*
 * testvm.h: a bare VM for device tests: manual clock, empty buses, optional RAM, no vCPUs; MSIs and the
 * 8259's INTR line are recorded instead of delivered.
 */
#ifndef TESTS_TESTVM_H
#define TESTS_TESTVM_H

#include "bus/pci.h"
#include "vm/vm.h"

struct testvm {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    unsigned n_msi;    /* messages sent so far */
    uint64_t msi_addr; /* of the last one */
    uint32_t msi_data;
    bool intr;    /* level of the INTR pin */
    bool pirq[4]; /* and of the PCI interrupt lines (testvm_pci()) */
};

/* ram_len may be 0. Fails the test on error. clock: vm_clock(t->vm), moved by clock_advance(). */
struct testvm *testvm_create(uint64_t ram_len);
void testvm_destroy(struct testvm *t);
/* Bus shorthands. */
uint64_t testvm_in(struct testvm *t, uint16_t port, unsigned size);
void testvm_out(struct testvm *t, uint16_t port, unsigned size, uint64_t val);
uint64_t testvm_read(struct testvm *t, uint64_t gpa, unsigned size);
void testvm_write(struct testvm *t, uint64_t gpa, unsigned size, uint64_t val);
/* A PCI bus; its interrupts go through a PIIX3, which is 00:01.0, to t->pirq. */
struct pci_bus *testvm_pci(struct testvm *t);
/* The level of the line that INTA of a slot drives. */
bool testvm_inta(const struct testvm *t, unsigned slot);
/* The configuration space of a function. */
uint32_t testvm_pci_in(struct testvm *t, unsigned devfn, unsigned reg, unsigned size);
void testvm_pci_out(struct testvm *t, unsigned devfn, unsigned reg, unsigned size, uint32_t val);
/* A wire that records its level in *level. */
struct irq testvm_irq(bool *level);

#endif
