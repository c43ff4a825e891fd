/*
 * bt_exec.h: memory for host code: the same pages twice, once to write and once to execute, never both in
 * one mapping. Before the sandbox closes.
 */
#ifndef ACCEL_BT_BT_EXEC_H
#define ACCEL_BT_BT_EXEC_H

#include "base/err.h"
#include "base/util.h"

enum { BT_EXEC_HUGE = 2 * MIB };

/* len bytes, a multiple of 4 KiB, touched as needed. 0 or -errno; both are NULL after a failure. */
must_check int bt_exec_map(size_t len, uint8_t **w, const uint8_t **x, struct err *e);
/* Of what bt_exec_map() made, or of NULL. */
void bt_exec_unmap(size_t len, uint8_t *w);
/*
 * Makes BT_EXEC_HUGE bytes at w, a multiple of that from the start of a mapping, one huge page of the host,
 * before it is used: translated code is many times the guest's, and spends much of its time in misses of the
 * host's instruction TLB. Takes 0.3 to 0.8 ms. Only a wish: the host may have none.
 */
void bt_exec_huge(uint8_t *w);

#endif
