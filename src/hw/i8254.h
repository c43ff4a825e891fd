/*
 * i8254.h: the PC's programmable interval timer and the speaker port that gates its channel 2.
 */
#ifndef HW_I8254_H
#define HW_I8254_H

#include "bus/bus.h"

struct i8254;

/* Four ports from base, one at speaker (0x61). irq0: output of channel 0. */
struct i8254 *i8254_create(struct vm *vm, uint16_t base, uint16_t speaker, struct irq irq0,
                           struct err *e);

#endif
