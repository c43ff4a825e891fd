/*
 * parport.h: a parallel port (SPP) with a printer at its other end that takes everything: a character device.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; room in the device on the loop thread.
 */
#ifndef HW_PARPORT_H
#define HW_PARPORT_H

#include "bus/bus.h"
#include "chardev/chardev.h"

struct parport;

/* Three ports at base. out outlives the device. NULL with a sentence. */
struct parport *parport_create(struct vm *vm, uint16_t base, struct irq irq, struct chardev *out,
                               struct err *e);

#endif
