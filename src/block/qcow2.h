/*
 * qcow2.h: what the qcow2 driver offers beyond guest requests. Everyone else calls these through blk_ops, whose
 * rules they follow.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include "block/block.h"

void qcow2_info(struct blk *b, struct blk_info *i);
must_check int qcow2_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *e);
must_check int qcow2_create(const struct blk_create_opts *o, struct err *e);
/* From guest offset `from` to the end: no write there will have to allocate any more. */
must_check int qcow2_preallocate(struct blk *b, uint64_t from, enum blk_prealloc mode,
                                 struct err *e);
must_check int qcow2_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc,
                              struct err *e);
must_check int qcow2_snap(struct blk *b, enum blk_snap what, const char *tag, struct err *e);
must_check int qcow2_set_backing(struct blk *b, const char *path, const char *format,
                                 struct err *e);
must_check int qcow2_amend(struct blk *b, const char *const *options, struct err *e);

#endif
