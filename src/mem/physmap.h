/*
 * physmap.h: guest physical addresses to RAM. What is not RAM is the bus's (MMIO).
 *
 * Threads: built and changed while all vCPUs are stopped; looked up from any thread without a lock.
 */
#ifndef MEM_PHYSMAP_H
#define MEM_PHYSMAP_H

#include "mem/ram.h"

enum { PHYSMAP_MAX = 48 };

struct physmap {
    /* Sorted by gpa (but for those that move); those that are not hidden do not overlap. Owned by others. */
    struct ram_region *region[PHYSMAP_MAX];
    unsigned n;
    bool logging; /* dirty bitmaps are being kept */
    /* Told when somebody other than a vCPU writes to a page whose code bit is set. Any thread. */
    void (*code_written)(void *opaque, uint64_t gpa, uint64_t len);
    void *opaque;
};

/*
 * 0; -EEXIST if it overlaps with one that is not hidden (unless it is hidden itself), -ENOSPC if there
 * are too many. r stays the caller's and must outlive m.
 */
must_check int physmap_add(struct physmap *m, struct ram_region *r);
void physmap_remove(struct physmap *m, struct ram_region *r);
/*
 * Whether r answers at its addresses, as RAM or as ROM; vCPUs stopped. The accelerator is the caller's to
 * tell. -EEXIST, and nothing changes, if another one that is not hidden lies there.
 */
must_check int physmap_show(struct physmap *m, struct ram_region *r, bool visible, bool readonly);

/* A hidden region gets another address; it keeps its place in the list. vCPUs stopped. */
void physmap_move(struct physmap *m, struct ram_region *r, uint64_t gpa);

/* The region that answers at gpa, or NULL (MMIO or nothing). */
struct ram_region *physmap_find(const struct physmap *m, uint64_t gpa);

/* Starts or stops keeping dirty bitmaps in all regions. vCPUs stopped. */
must_check int physmap_log_start(struct physmap *m);
void physmap_log_stop(struct physmap *m);

#endif
