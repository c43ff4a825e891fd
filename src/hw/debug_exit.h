/*
 * debug_exit.h: a port that ends the VM: a write of v gives exit status (v << 1) | 1, as OS developers
 * know it from QEMU's isa-debug-exit.
 */
#ifndef HW_DEBUG_EXIT_H
#define HW_DEBUG_EXIT_H

#include "bus/bus.h"

struct debug_exit;

struct debug_exit *debug_exit_create(struct vm *vm, uint16_t port, struct err *e); /* four ports */

#endif
