/*
 * copy.h: copies disks to an image that is being written (out.h), with several threads. Called on the thread
 * that drives the loop, which is run inside.
 */
#ifndef IMAGE_COPY_H
#define IMAGE_COPY_H

#include "image/out.h"

enum { COPY_WORKERS_MAX = 64 };

struct copy_opts {
    struct loop *loop;     /* that of the disks */
    unsigned workers;      /* 1 to COPY_WORKERS_MAX */
    uint64_t skip, length; /* of a single disk, a piece: whole sectors; length 0 and skip 0: all */
    uint64_t rate;         /* bytes a second, 0: as fast as possible */
    bool salvage;          /* zeros for what cannot be read */
    bool
        top_only; /* only what the disk's own layer has: the rest is in the target's backing file */
    bool sparse;  /* look for zeros in what is read */
    void (*progress)(void *opaque, uint64_t done,
                     uint64_t total); /* a few times a second; optional */
    void *opaque;
};
struct copy_result {
    uint64_t read, written; /* bytes of data */
    uint64_t salvaged;      /* bytes that could not be read */
};

/* The disks one behind the other. 0 or -errno with a sentence; out_finish() is still due. */
must_check int copy_disks(struct blk *const *disk, unsigned n, struct out *o,
                          const struct copy_opts *opts, struct copy_result *result, struct err *e);

#endif
