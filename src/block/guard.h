/*
 * guard.h: what becomes of requests that fail, for a disk that a guest uses. Kept ones are tried again every
 * second, and whoever watches is told, so that the VM stands meanwhile and the guest notices nothing.
 *
 * Threads: as block.h says of open and done().
 */
#ifndef BLOCK_GUARD_H
#define BLOCK_GUARD_H

#include "block/block.h"

enum blk_on_error {
    BLK_ON_ERROR_ENOSPC, /* kept while there is no space for a write, else reported: QEMU's default too */
    BLK_ON_ERROR_REPORT, /* the guest sees the error */
    BLK_ON_ERROR_PAUSE,  /* kept, whatever it is */
    BLK_ON_ERROR_IGNORE, /* the guest sees success */
};
/* On the loop thread or inside blk_drain(), no lock held. In turn. */
struct blk_watcher {
    void (*stuck)(struct blk_watcher *w,
                  const char *why);         /* a sentence; the first request is kept */
    void (*unstuck)(struct blk_watcher *w); /* none is kept any more */
};

/* On a disk that has a loop. name: in messages; copied. The watcher outlives the disk. */
must_check int blk_guard_add(struct blk *b, const char *name, enum blk_on_error what,
                             struct blk_watcher *w, struct err *e);

/* For block.c. */
struct blk_guard;
/* r is finished with *err: true if it is kept; else *err may have changed. */
bool blk_guard_keeps(struct blk_guard *g, struct blk_req *r, int *err);
/* Completes what is kept with -ECANCELED: whoever submitted it does so again later. False: nothing was. */
bool blk_guard_give_back(struct blk_guard *g);
void blk_guard_destroy(struct blk_guard *g); /* NULL is fine */

#endif
