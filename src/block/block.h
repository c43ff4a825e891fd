/*
 * block.h: disks as stacks of drivers: a format (raw) owns a child (file).
 *
 * Threads: everything on the VM's loop thread or under the calling device's lock; blk_submit() from any
 * thread that holds the device's lock; done() on the loop thread with no lock held.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

struct blk;
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
enum { BLK_F_FUA = BIT(0), BLK_F_UNMAP = BIT(1) };

struct blk_req { /* caller's memory until done() */
    enum blk_op op;
    unsigned flags; /* BLK_F_* */
    uint64_t off, len;
    struct iovec *iov;
    int niov;
    void (*done)(struct blk_req *r, int err); /* exactly once, on the loop thread, 0 or -errno */

    struct blk_req *next; /* the driver's that has it */
    void *priv[4];
};
struct blk_opts {
    const char *path;
    const char *format; /* NULL: probe */
    bool readonly;
    struct loop *loop;
    const char *owner; /* "VM web": put into the lock, for whoever finds it taken */
};
struct blk_ops {
    const char *format; /* "file", "raw" */
    bool (*probe)(const void *head, size_t n);
    int (*open)(struct blk *b, const struct blk_opts *o, struct err *e); /* a parent owns its child */
    void (*close)(struct blk *b);                                        /* after blk_drain() */
    void (*submit)(struct blk *b, struct blk_req *r); /* queues; never calls r->done itself */
};
struct blk {
    const struct blk_ops *ops;
    struct blk *child;
    struct loop *loop;
    uint64_t size; /* bytes */
    bool readonly;
    void *priv;
    atomic_uint in_flight;
};

/* Opens path with everything it needs probed and locked; NULL with a sentence if it cannot be used. */
struct blk *blk_open(const struct blk_opts *o, struct err *e);
void blk_close(struct blk *b);
/* Validates the range and counts it; out of range completes with -EINVAL (on the loop thread). */
void blk_submit(struct blk *b, struct blk_req *r);
/* Runs until nothing is in flight. On the loop thread, no device lock held. */
void blk_drain(struct blk *b);

#endif
