/*
 * compare.h: have two disks the same content? Called on the thread that drives the loop, which runs inside.
 */
#ifndef IMAGE_COMPARE_H
#define IMAGE_COMPARE_H

#include "block/block.h"

struct compare_opts {
    struct loop *loop;
    bool strict; /* what one has allocated the other must have too */
    void (*progress)(void *opaque, uint64_t done, uint64_t total); /* optional */
    void *opaque;
};
struct compare_result {
    bool same;
    bool allocation; /* not the same: it is only allocated otherwise */
    uint64_t off;    /* of the first difference: its sector */
};

/* What one of them has behind the end of the other has to be zeros. 0 or -errno with a sentence. */
must_check int compare_disks(struct blk *a, struct blk *b, const struct compare_opts *opts,
                             struct compare_result *result, struct err *e);

#endif
