/*
 * gdb.h: the debugger's view of a VM: a server of GDB's remote serial protocol (GDB manual, appendix E).
 *
 * A vCPU is a thread; all of them stop and go together (all-stop). While the guest is stopped its clock
 * stands too. One client at a time; when it leaves, its breakpoints go and the guest runs on.
 * On the loop thread, or before it runs.
 */
#ifndef CONTROL_GDB_H
#define CONTROL_GDB_H

#include "base/err.h"

struct gdb;
struct vm;

/*
 * Listens at addr (base/sock.h); the sandbox may close behind it. wait: the VM stays stopped until a client
 * lets it go. After the vCPUs exist. NULL with a sentence in *e.
 */
struct gdb *gdb_create(struct vm *vm, const char *addr, bool wait, struct err *e);
/* Where it listens, for whoever started the VM: an argument of gdb's `target remote`. */
void gdb_where(const struct gdb *g, char *buf, size_t len);
/* A client is told that the VM ended. The loop does not run any more; before vm_destroy(). NULL is fine. */
void gdb_destroy(struct gdb *g);

#endif
