/*
 * drive.h: a drive whose medium can be changed while a guest uses it: a layer that stays, above the stack of the
 * medium. Without one b->empty is set, its size is 0, and requests fail with -ENOMEDIUM.
 *
 * Threads: as block.h says of open. A change needs the VM paused, so that nothing is in flight.
 */
#ifndef BLOCK_DRIVE_H
#define BLOCK_DRIVE_H

#include "block/block.h"

enum { DRIVE_OPEN = BIT(0), DRIVE_LOCKED = BIT(1) }; /* its tray, as the guest has it */

/* What the guest's controller does with it. All but changed() optional; the VM is paused except for tray(). */
struct drive_ops {
    /* 0 if it takes this medium, else -errno with a sentence. NULL: it takes all. */
    int (*fits)(void *opaque, const struct blk *medium, struct err *e);
    void (*changed)(void *opaque);  /* another medium is in it, or none any more */
    unsigned (*tray)(void *opaque); /* DRIVE_*; any thread. NULL: it has none */
    void (*ask)(void *opaque);      /* the guest is to hear that somebody wants the medium */
};

/* name: for messages. medium: NULL: empty; owned by the drive if it succeeds. */
struct blk *drive_create(struct loop *l, const char *name, struct blk *medium, struct err *e);
/* For controllers, when they get it; again with the same is fine. Nothing happens to a disk that is no drive. */
void drive_attach(struct blk *b, const struct drive_ops *ops, void *opaque);
/* The medium in it, or NULL. */
struct blk *drive_medium(const struct blk *drive);
unsigned drive_tray(const struct blk *drive);
/* Would a controller take it? 0, or -errno with a sentence. */
must_check int drive_fits(const struct blk *drive, const struct blk *medium, struct err *e);
/* Puts medium (owned from now on; it fits) in place of the one that is there; NULL: takes that out. Closes it. */
void drive_change(struct blk *drive, struct blk *medium);
void drive_ask(struct blk *drive);

#endif
