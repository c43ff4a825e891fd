/*
 * i8259.h: the two cascaded 8259A interrupt controllers of a PC. Wires may be set from any thread.
 */
#ifndef HW_I8259_H
#define HW_I8259_H

#include "bus/bus.h"

struct i8259;

/* Ports of master, slave (two each) and the edge/level registers (two). INTR goes to vm_intr(). */
struct i8259 *i8259_create(struct vm *vm, uint16_t master, uint16_t slave, uint16_t elcr,
                           struct err *e);
/* What firmware would do, vCPUs stopped: these irqs (a bit each) are level-triggered, the others edges. */
void i8259_assign(struct i8259 *p, uint16_t level);
struct irq i8259_irq(struct i8259 *p, unsigned pin); /* 0..15; 2 is the cascade */
/*
 * Interrupt acknowledge cycle: the vector; the spurious one (7 or 15) if the request went away. For
 * vm->inta. Any thread, no APIC lock held.
 */
int i8259_inta(struct i8259 *p);

#endif
