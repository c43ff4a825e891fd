/*
 * memblk.h: a file in memory below a disk under test, which completes requests in any order, fails the one it is
 * told to, and writes down what happens, so that a test can ask what a power cut would have left.
 */
#ifndef UNIT_MEMBLK_H
#define UNIT_MEMBLK_H

#include "block/block.h"

struct memblk;

/* With the bytes of the file at path. */
struct memblk *memblk_load(const char *path);
struct memblk *memblk_new_from(const uint8_t *bytes, uint64_t len);
void memblk_limit(struct memblk *m, uint64_t size); /* writes behind it: -ENOSPC */
void memblk_destroy(struct memblk *m);
/* The driver's side: a disk over m, which outlives it. */
struct blk *memblk_open(struct memblk *m, const struct blk_opts *o);
/* An image over it, by these ops. NULL: *e says why. */
struct blk *memblk_open_image(struct memblk *m, const struct blk_ops *ops, const struct blk_opts *o,
                              struct err *e);
/* Lets a shell run a command; its exit status. */
int memblk_shell(const char *command);
void memblk_save(const struct memblk *m, const char *path);

void memblk_seed(struct memblk *m,
                 uint64_t seed);      /* of the order of completions; 0: first come, first served */
void memblk_record(struct memblk *m); /* from now on; forgets what was */
/* The n-th write, flush or discard from now on fails with that error, and `more` after it. */
void memblk_fail(struct memblk *m, unsigned n, int err, unsigned more);
unsigned memblk_events(struct memblk *m); /* recorded so far */

/*
 * The file as a cut before event `at` may leave it: what was flushed, and of the rest what chance says, by whole
 * writes or by sectors. Into out, which is a copy of its own.
 */
struct memblk *memblk_cut(struct memblk *m, unsigned at, uint64_t seed);

#endif
