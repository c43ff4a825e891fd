/*
 * physmap.h: guest physical addresses to RAM. What is not RAM is the bus's (MMIO).
 *
 * Threads: built and changed while all vCPUs are stopped; looked up from any thread without a lock.
 */
#ifndef MEM_PHYSMAP_H
#define MEM_PHYSMAP_H

#include "mem/ram.h"

enum { PHYSMAP_MAX = 32 };

struct physmap {
    struct ram_region *region[PHYSMAP_MAX]; /* sorted by gpa, not overlapping; owned by others */
    unsigned n;
    bool logging; /* dirty bitmaps are being kept */
    /* Told when somebody other than a vCPU writes to a page whose code bit is set. Any thread. */
    void (*code_written)(void *opaque, uint64_t gpa, uint64_t len);
    void *opaque;
};

/* 0; -EEXIST if it overlaps, -ENOSPC if there are too many. r stays the caller's and must outlive m. */
must_check int physmap_add(struct physmap *m, struct ram_region *r);
void physmap_remove(struct physmap *m, struct ram_region *r);

/* The region that holds gpa, or NULL (MMIO or nothing). */
struct ram_region *physmap_find(const struct physmap *m, uint64_t gpa);

/* Starts or stops keeping dirty bitmaps in all regions. vCPUs stopped. */
must_check int physmap_log_start(struct physmap *m);
void physmap_log_stop(struct physmap *m);

#endif
