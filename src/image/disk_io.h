/*
 * disk_io.h: requests of worker threads to a disk, whose loop another thread runs.
 */
#ifndef IMAGE_DISK_IO_H
#define IMAGE_DISK_IO_H

#include "block/block.h"

/* Submits r and waits for its end. Any thread but the loop's. 0 or -errno. */
must_check int disk_io_wait(struct blk *b, struct blk_req *r);

#endif
