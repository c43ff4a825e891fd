/*
 * i8042.h: keyboard controller; a keyboard and a mouse may be plugged in.
 */
#ifndef HW_I8042_H
#define HW_I8042_H

#include "bus/bus.h"
#include "display/input.h"

struct i8042;

/* data: 0x60, command: 0x64. irq1: output buffer full. */
struct i8042 *i8042_create(struct vm *vm, uint16_t data, uint16_t command, struct irq irq1,
                           struct err *e);
/* Where the A20 bit of the output port leads whenever it is written. Before the VM runs. */
void i8042_set_a20(struct i8042 *k, struct irq a20);
/* A keyboard is plugged in, which in (NULL: nobody) feeds; a mouse with its interrupt. Before the VM runs. */
void i8042_plug_keyboard(struct i8042 *k, struct input *in);
void i8042_plug_mouse(struct i8042 *k, struct irq irq12, struct input *in);
/* A key is pressed or released: its whole code in scan code set 2 (ps2_kbd_key()). Any thread. */
void i8042_key(struct i8042 *k, const uint8_t *code, unsigned len);
/* The mouse moves, or its buttons do (display/input.h). Any thread. */
void i8042_move(struct i8042 *k, int dx, int dy, unsigned buttons, int wheel);

#endif
