/*
 * formats.h: which disk formats there are, and which ones we only know by sight.
 */
#ifndef BLOCK_FORMATS_H
#define BLOCK_FORMATS_H

#include "block/block.h"

extern const struct blk_ops blk_file_ops, blk_luks_ops, blk_qcow2_ops, blk_raw_ops;

/* "raw, qcow2": for messages. */
const char *blk_format_names(void);
/* Instead of a file, disks on servers (remote.h). */
extern const struct blk_ops blk_nbd_ops, blk_rbd_ops;

/* On top of a server's disk: any bytes of it. */
extern const struct blk_ops blk_blocks_ops;
bool blk_blocks_wanted(const struct blk *file);

/* Layers on top of a format: what the options ask for. */
extern const struct blk_ops blk_filter_ops, blk_throttle_ops;
bool blk_filter_wanted(const struct blk_opts *o);
bool blk_throttle_wanted(const struct blk_limits *l);

/* The driver of that name or NULL. */
const struct blk_ops *blk_format_find(const char *name);
/* The name of the format that new images of that name have, by what it ends in; "raw" if that says nothing. */
const char *blk_format_by_name(const char *path);
/* The driver that recognises an image by its first n bytes; raw if none does. */
const struct blk_ops *blk_format_probe(const void *head, size_t n);
/*
 * A phrase ("a qcow2 image", "compressed with gzip") if the head is that of a format that we cannot use
 * as a disk, and in *cure what to do about it; else NULL.
 */
const char *blk_format_foreign(const void *head, size_t n, const char **cure);

#endif
