/*
 * blkjob.h: requests of tests to a disk, and what became of them. Single thread, which runs the disk's loop.
 * With cmocka's headers before it.
 */
#ifndef UNIT_BLKJOB_H
#define UNIT_BLKJOB_H

#include "block/block.h"

struct blkjob { /* may be anything before blkjob_start(); stays where it is until it is done */
    struct blk_req req;
    struct iovec iov[3];
    int n_done, err; /* how often done() was called, with what */
};

/* Submits it; buf (NULL: none) in three pieces, one of them odd. Fails the test if it is done at once. */
void blkjob_start(struct blk *b, struct blkjob *job, enum blk_op op, uint64_t off, void *buf,
                  uint64_t len, unsigned flags);
/* The same and waits for it: 0 or -errno, which is what err says. */
int blkjob_run(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len,
               unsigned flags);
void blkjob_wait(struct blk *b, const struct blkjob *job);
/* Fails the test unless all these bytes of the disk are `byte`. */
void blkjob_expect(struct blk *b, uint64_t off, int byte, size_t len);

#endif
