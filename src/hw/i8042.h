/*
 * i8042.h: keyboard controller without a keyboard.
 */
#ifndef HW_I8042_H
#define HW_I8042_H

#include "bus/bus.h"

struct i8042;

/* data: 0x60, command: 0x64. irq1: output buffer full. */
struct i8042 *i8042_create(struct vm *vm, uint16_t data, uint16_t command, struct irq irq1,
                           struct err *e);

#endif
