/*
 * qcow2_options.h: the options of a new image, as users of qemu-img know them.
 */
#ifndef BLOCK_QCOW2_OPTIONS_H
#define BLOCK_QCOW2_OPTIONS_H

#include "block/block.h"
#include "block/qcow2_luks.h"

struct qcow2_options {
    unsigned version, cluster_bits, refcount_order;
    bool extended_l2, lazy_refcounts, data_file_raw;
    uint8_t compression; /* QCOW2_ZLIB, QCOW2_ZSTD */
    enum blk_prealloc preallocation;
    const char *data_file; /* points into the options */
    bool encrypt;          /* by LUKS */
    struct qcow2_luks_params luks;
};

/* From "name=value" strings, onto what *out has already. 0, or a sentence about the first that is wrong. */
must_check int qcow2_options_parse(const char *const *options, struct qcow2_options *out,
                                   struct err *e);
/* Do they fit together? */
must_check int qcow2_options_check(const struct qcow2_options *o, bool has_backing, struct err *e);

#endif
