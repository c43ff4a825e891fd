/*
 * bench.h: how fast are requests to a disk? On the thread that drives the loop, which runs inside.
 */
#ifndef IMAGE_BENCH_H
#define IMAGE_BENCH_H

#include "block/block.h"

enum { BENCH_DEPTH_MAX = 1024 };

struct bench_opts {
    struct loop *loop;
    uint64_t count, size, step, off;
    unsigned depth; /* 1 to BENCH_DEPTH_MAX */
    uint64_t flush; /* writing: a flush after so many; 0: none */
    uint8_t pattern;
    bool write, random;
};
struct bench_result {
    uint64_t wall_ns, cpu_ns;
    uint64_t slowest_ns; /* from submission to completion */
};

/* 0 or -errno with a sentence. */
must_check int bench_disk(struct blk *b, const struct bench_opts *o, struct bench_result *r,
                          struct err *e);

#endif
