/*
 * vhd_format.h: the structures of VHD images (Microsoft's specification 1.0), big-endian. Shared by the
 * reader and the writer.
 */
#ifndef BLOCK_VHD_FORMAT_H
#define BLOCK_VHD_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/endian.h"

enum {
    /* the footer: the last 512 bytes, and the first too unless the image is fixed */
    VHD_COOKIE = 0, /* "conectix" */
    VHD_FEATURES = 8,
    VHD_VERSION = 12,
    VHD_HEADER_OFFSET = 16,
    VHD_TIME = 24, /* seconds since 2000 */
    VHD_CREATOR = 28,
    VHD_CREATOR_VERSION = 32,
    VHD_CREATOR_OS = 36,
    VHD_ORIGINAL_SIZE = 40,
    VHD_SIZE = 48,
    VHD_CYLINDERS = 56,
    VHD_HEADS = 58,
    VHD_SECTORS = 59,
    VHD_TYPE = 60,
    VHD_CHECKSUM = 64,
    VHD_UUID = 68,
    VHD_FOOTER = 512,

    VHD_FIXED = 2,
    VHD_DYNAMIC = 3,
    VHD_DIFFERENCING = 4,

    /* the header of dynamic and differencing images */
    VHD_DYN_COOKIE = 0, /* "cxsparse" */
    VHD_DYN_DATA_OFFSET = 8,
    VHD_DYN_TABLE = 16,
    VHD_DYN_VERSION = 24,
    VHD_DYN_ENTRIES = 28,
    VHD_DYN_BLOCK_SIZE = 32,
    VHD_DYN_CHECKSUM = 36,
    VHD_DYN_PARENT_NAME = 64, /* 256 UTF-16 units */
    VHD_DYN_PARENT_UNITS = 256,
    VHD_DYN_LOCATOR = 576, /* 8 of 24 bytes: platform, space, length, reserved, offset of 8 */
    VHD_DYN_LOCATORS = 8,
    VHD_DYN_HEADER = 1024,
};
#define VHD_FREE         0xffffffffu           /* table entry: no block */
#define VHD_MAX_GEOMETRY (65535ull * 16 * 255) /* sectors; a disk of this geometry may be larger */

/* The checksum of a footer or header: the complement of the sum of its bytes but those of the sum. */
static inline uint32_t vhd_checksum(const uint8_t *p, size_t n, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++)
        if (i < at || i >= at + 4)
            sum += p[i];
    return ~sum;
}

#endif
