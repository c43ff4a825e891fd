/*
 * isa_misc.h: the one-byte ports of an ISA board: POST code, fast A20 and reset, coprocessor error.
 */
#ifndef HW_ISA_MISC_H
#define HW_ISA_MISC_H

#include "bus/bus.h"

struct isa_misc;

/* post: 0x80; port92: 0x92; ferr: 0xf0. */
struct isa_misc *isa_misc_create(struct vm *vm, uint16_t post, uint16_t port92, uint16_t ferr,
                                 struct err *e);
/* Is the A20 gate open? vCPUs stopped. vm_memory_changed() tells of changes. */
bool isa_misc_a20(const struct isa_misc *m);
/* The keyboard controller's hand on the gate. */
struct irq isa_misc_a20_wire(struct isa_misc *m);

#endif
