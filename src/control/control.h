/*
 * control.h: the VM's control socket: JSON-RPC 2.0, one object a line (docs/control.md has the methods).
 * Loop thread, or before it runs.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "control/rundir.h"
#include "vm/vm.h"

struct control;

/* Listens in the claimed folder (NULL: nowhere); before the sandbox closes. NULL with a sentence. */
struct control *control_create(struct vm *vm, const struct rundir *dir, struct err *e);
/* One more client, on a connected stream socket; owned by the control if it returns 0. */
must_check int control_adopt(struct control *c, int fd);
/* Before vm_destroy(). NULL is fine. */
void control_destroy(struct control *c);

#endif
