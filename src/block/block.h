/*
 * block.h: disks as stacks of drivers: a format (raw) owns a child (file).
 *
 * Threads: open, close and drain on the VM's loop thread, or while the loop does not run; blk_submit()
 * from any thread; done() on the loop thread (or inside blk_drain()) with no lock held.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

struct blk;
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
enum {
    BLK_F_FUA = BIT(0),   /* writes: on stable storage before done() */
    BLK_F_UNMAP = BIT(1), /* write zeroes: the space may be given back */
};
enum { BLK_SECTOR = 512, BLK_MAX_SEGS = 1024 };

struct blk_req { /* caller's memory until done() */
    enum blk_op op;
    unsigned flags; /* BLK_F_* */
    uint64_t off, len;
    struct iovec *iov; /* reads and writes: len bytes in all; stays as it is */
    int niov;          /* at most BLK_MAX_SEGS */
    void (*done)(struct blk_req *r, int err); /* exactly once, on the loop thread, 0 or -errno */

    /* the block layer's */
    struct blk *top;      /* where it was submitted */
    struct blk_req *next; /* the driver's that has it */
    void *priv[4];
};
struct blk_opts {
    const char *path;
    const char *format; /* NULL: probe */
    bool readonly;
    bool no_uring; /* use threads even where io_uring works */
    struct loop *loop;
};
struct blk_ops {
    const char *format;                        /* "file", "raw" */
    bool (*probe)(const void *head, size_t n); /* is it surely this format? NULL: never */
    int (*open)(struct blk *b, const struct blk_opts *o, struct err *e); /* b->child is open */
    void (*close)(struct blk *b); /* after blk_drain(); optional */
    /* Queues, or passes on to the child; never calls blk_done() itself. Any thread. */
    void (*submit)(struct blk *b, struct blk_req *r);
    /* Blocks until at least one request in flight has completed. As blk_drain(). NULL: the child's. */
    void (*wait)(struct blk *b);
};
struct blk {
    const struct blk_ops *ops;
    struct blk *child; /* owned */
    struct loop *loop;
    uint64_t size; /* bytes, a multiple of BLK_SECTOR */
    bool readonly;
    void *priv;
    atomic_uint in_flight;

    pthread_mutex_t lock;    /* guards what follows */
    struct blk_req *refused; /* to be completed with -EINVAL or -EROFS */
    struct loop_work refuse;
};

/* Opens path with everything it needs probed and locked; NULL with a sentence if it cannot be used. */
struct blk *blk_open(const struct blk_opts *o, struct err *e);
void blk_close(struct blk *b); /* drains; NULL is fine */
/* Counts it and checks the range; what is out of range completes with -EINVAL (on the loop thread). */
void blk_submit(struct blk *b, struct blk_req *r);
/* Returns when nothing is in flight. No device lock held. */
void blk_drain(struct blk *b);
/* For tools and probing: one request, waited for. As blk_drain(). 0 or -errno. */
must_check int blk_read_sync(struct blk *b, uint64_t off, void *buf, size_t len);

/* For drivers: r is finished. Loop thread, or inside wait(). */
void blk_done(struct blk_req *r, int err);

#endif
