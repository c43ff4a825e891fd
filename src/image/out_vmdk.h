/*
 * out_vmdk.h: what the writers of VMDK images share: out_vmdk.c (in one file), out_vmdk_split.c (in several).
 */
#ifndef IMAGE_OUT_VMDK_H
#define IMAGE_OUT_VMDK_H

#include "image/out.h"

/* What a description says of the machine. */
struct out_vmdk_hw {
    char adapter[16], version[8];
};

/* Reads and checks all options but the subformat. */
must_check int out_vmdk_hw(const struct out_opts *opts, struct out_vmdk_hw *hw, struct err *e);
/* The description as text, the caller's; extents: its lines, each with its end. NULL: no memory. */
char *out_vmdk_describe(const struct out *o, const struct out_vmdk_hw *hw, const char *type,
                        const char *extents);

/* A sparse extent of a split image: the description is elsewhere. */
extern const struct out_ops out_vmdk_part_ops;

#endif
