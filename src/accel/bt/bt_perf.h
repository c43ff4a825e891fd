/*
 * bt_perf.h: names of generated code for perf(1): /tmp/perf-PID.map, one line a piece of code. Kernel code
 * is "guest SYMBOL" or "guest 0xRIP"; user code, which has other addresses in each process, is named by its
 * page: "guest user 0xPAGE". The file is bounded: what comes later has no name.
 *
 * Made before the sandbox closes; naming on any thread.
 */
#ifndef ACCEL_BT_BT_PERF_H
#define ACCEL_BT_BT_PERF_H

#include "base/err.h"

struct bt_perf;

/* symbols: a file for base/symbols.h, or NULL. */
must_check int bt_perf_create(struct bt_perf **out, const char *symbols, struct err *e);
void bt_perf_destroy(struct bt_perf *p);
/* p may be NULL: nobody wants names. */
void bt_perf_name(struct bt_perf *p, const uint8_t *code, size_t len, const char *name);
/* Code made of the guest's at lin. */
void bt_perf_guest(struct bt_perf *p, const uint8_t *code, size_t len, uint64_t lin, bool user);

#endif
