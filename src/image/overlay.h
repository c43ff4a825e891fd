/*
 * overlay.h: what is done between an overlay and its backing files. On the thread of the disks' loop,
 * blocking; nothing else uses the disks.
 */
#ifndef IMAGE_OVERLAY_H
#define IMAGE_OVERLAY_H

#include "block/block.h"

struct overlay_progress {
    void (*show)(void *opaque, uint64_t done, uint64_t total); /* optional */
    void *opaque;
};

/*
 * Writes what the layers above base have into base, which is b's backing disk, open for writing, and gets
 * b's size if that is larger. Flushed. 0 or -errno with a sentence.
 */
must_check int overlay_commit(struct blk *b, const struct overlay_progress *p, struct err *e);
/*
 * Makes b independent of what is below it where that differs from `new` (NULL: no backing disk any more),
 * so that it may be put on top of new. Flushed. 0 or -errno with a sentence.
 */
must_check int overlay_rebase(struct blk *b, struct blk *new, const struct overlay_progress *p,
                              struct err *e);

#endif
