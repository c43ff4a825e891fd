/*
 * measure.h: how much space a disk will need in another format, as qemu-img counts it. Loop thread, blocking.
 */
#ifndef IMAGE_MEASURE_H
#define IMAGE_MEASURE_H

#include "block/block.h"

struct measure {
    uint64_t required; /* for what the disk has */
    uint64_t full;     /* when all of it has been written */
    uint64_t bitmaps;  /* for its dirty bitmaps too */
    bool has_bitmaps;  /* the format and the disk can have them */
};

/* b: NULL for an empty disk of that size. options: as blk_create_opts. 0 or -errno with a sentence. */
must_check int measure_disk(struct blk *b, uint64_t size, const char *format,
                            const char *const *options, struct measure *m, struct err *e);

#endif
