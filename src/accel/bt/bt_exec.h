/*
 * bt_exec.h: memory for host code: the same pages twice, once to write and once to execute, never both in
 * one mapping. Before the sandbox closes.
 */
#ifndef ACCEL_BT_BT_EXEC_H
#define ACCEL_BT_BT_EXEC_H

#include "base/err.h"

/* len bytes, touched as needed. 0 or -errno; both are NULL after a failure. */
must_check int bt_exec_map(size_t len, uint8_t **w, const uint8_t **x, struct err *e);
/* Of what bt_exec_map() made, or of NULL. */
void bt_exec_unmap(size_t len, uint8_t *w, const uint8_t *x);

#endif
