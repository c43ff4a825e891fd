/*
 * qcow2_snapshot.h: the table of internal snapshots. Blocking, nothing in flight.
 */
#ifndef BLOCK_QCOW2_SNAPSHOT_H
#define BLOCK_QCOW2_SNAPSHOT_H

#include "block/block.h"

struct qcow2;
struct qcow2_snapshot {
    uint64_t l1_off;
    uint32_t l1_size, date_sec, date_nsec;
    uint64_t clock_ns, vm_state, disk_size;
    char *id, *name;
    uint8_t *extra; /* the extra data as it is in the file */
    uint32_t extra_len;
};
struct qcow2_snapshots {
    struct qcow2_snapshot *v;
    uint32_t n;
    uint64_t bytes; /* of the table in the file */
};

/* 0; -EINVAL: damaged; -errno. */
must_check int qcow2_snapshot_load(struct qcow2 *q, struct qcow2_snapshots *list);
void qcow2_snapshot_unload(struct qcow2_snapshots *list);
/* The table as it has to stand in the file: *len bytes, the caller's; NULL: no memory. */
uint8_t *qcow2_snapshot_encode(const struct qcow2_snapshots *list, uint64_t *len);

#endif
