/*
 * vmdk_format.h: the sparse extents of VMware disk images (Virtual Disk Format 5.0), little-endian. Shared
 * by the reader and the writer. Offsets and sizes in the header are in sectors.
 */
#ifndef BLOCK_VMDK_FORMAT_H
#define BLOCK_VMDK_FORMAT_H

#include "base/util.h"

enum {
    VMDK_MAGIC = 0, /* "KDMV" */
    VMDK_VERSION = 4,
    VMDK_FLAGS = 8,
    VMDK_CAPACITY = 12,
    VMDK_GRAIN = 20,
    VMDK_DESC_OFFSET = 28,
    VMDK_DESC_SIZE = 36,
    VMDK_ENTRIES = 44, /* of a grain table */
    VMDK_RGD_OFFSET = 48,
    VMDK_GD_OFFSET = 56,
    VMDK_OVERHEAD = 64,
    VMDK_UNCLEAN = 72,
    VMDK_LINE_ENDS = 73, /* "\n \r\n" */
    VMDK_COMPRESSION = 77,
    VMDK_HEADER = 512,

    VMDK_FLAG_LINE_ENDS = BIT(0),
    VMDK_FLAG_REDUNDANT = BIT(1),
    VMDK_FLAG_ZERO_GRAINS = BIT(2),
    VMDK_FLAG_COMPRESSED = BIT(16),
    VMDK_FLAG_MARKERS = BIT(17),
    VMDK_DEFLATE = 1,

    VMDK_MARK_END = 0,
    VMDK_MARK_TABLE = 1,
    VMDK_MARK_DIRECTORY = 2,
    VMDK_MARK_FOOTER = 3,
    VMDK_GRAIN_MARK = 12, /* bytes in front of a compressed grain: sector and size */
};
#define VMDK_AT_END 0xffffffffffffffffull /* as the directory's offset: see the footer */

#endif
