/*
 * ns16550.h: 16550A UART on a character device. chardev callbacks come from the loop thread.
 */
#ifndef HW_NS16550_H
#define HW_NS16550_H

#include "bus/bus.h"

struct chardev;
struct ns16550;

/* Eight ports from base. chr stays the caller's and outlives the device; NULL: nobody at the other end. */
struct ns16550 *ns16550_create(struct vm *vm, const char *id, uint16_t base, struct irq irq,
                               struct chardev *chr, struct err *e);

#endif
