/*
 * debugcon.h: the port to which firmware writes its debug messages (0x402 on virtual machines).
 */
#ifndef HW_DEBUGCON_H
#define HW_DEBUGCON_H

#include "bus/bus.h"
#include "chardev/chardev.h"

struct debugcon;

/*
 * Reads give 0xe9, by which firmware knows that somebody listens. Bytes written go to out (NULL: nowhere),
 * and line by line to the log at debug level. out stays the caller's and outlives the vm.
 */
struct debugcon *debugcon_create(struct vm *vm, uint16_t port, struct chardev *out, struct err *e);

#endif
