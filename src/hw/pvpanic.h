/*
 * pvpanic.h: the port by which a guest kernel says that it panicked.
 */
#ifndef HW_PVPANIC_H
#define HW_PVPANIC_H

#include "bus/bus.h"

struct pvpanic;

struct pvpanic *pvpanic_create(struct vm *vm, uint16_t port, struct err *e);

#endif
