/*
 * vhdx_format.h: the structures of VHDX images (MS-VHDX), little-endian. Shared by reader and writer.
 */
#ifndef BLOCK_VHDX_FORMAT_H
#define BLOCK_VHDX_FORMAT_H

#include <stdint.h>

#include "base/util.h"

enum {
    /* the two headers, 4 KiB each, of which the higher sequence number counts */
    VHDX_HEADER1 = 64 * KIB,
    VHDX_HEADER2 = 128 * KIB,
    VHDX_HEADER_SIZE = 4 * KIB,
    VHDX_HEADER_CHECKSUM = 4,
    VHDX_HEADER_SEQUENCE = 8,
    VHDX_HEADER_FILE_GUID = 16,
    VHDX_HEADER_DATA_GUID = 32,
    VHDX_HEADER_LOG_GUID = 48,
    VHDX_HEADER_LOG_VERSION = 64,
    VHDX_HEADER_VERSION = 66,
    VHDX_HEADER_LOG_LENGTH = 68,
    VHDX_HEADER_LOG_OFFSET = 72,

    /* the two region tables, 64 KiB each: 16 bytes, then entries of GUID, offset, length, required */
    VHDX_REGIONS1 = 192 * KIB,
    VHDX_REGIONS2 = 256 * KIB,
    VHDX_REGIONS_SIZE = 64 * KIB,
    VHDX_REGION_ENTRIES = 16,
    VHDX_REGION_ENTRY = 32,
    VHDX_REGIONS_MAX = 2047,

    /* the metadata table: 32 bytes, then entries of GUID, offset, length, flags */
    VHDX_META_TABLE = 64 * KIB,
    VHDX_META_ENTRIES = 32,
    VHDX_META_ENTRY = 32,
    VHDX_META_MAX = 2047,
    VHDX_META_IS_VIRTUAL = BIT(1),
    VHDX_META_REQUIRED = BIT(2),
    VHDX_PARAM_HAS_PARENT = BIT(1), /* of the file parameters' second word */

    /* the parent locator: its type, 2 bytes, a count, then keys and values as offsets and lengths */
    VHDX_LOCATOR_COUNT = 18,
    VHDX_LOCATOR_ENTRIES = 20,
    VHDX_LOCATOR_ENTRY = 12,
    VHDX_LOCATOR_MAX = 64 * KIB,

    /* the log: entries of a header of 64 bytes, descriptors of 32, data sectors of 4 KiB */
    VHDX_LOG_SECTOR = 4 * KIB,
    VHDX_LOG_CHECKSUM = 4,
    VHDX_LOG_LENGTH = 8,
    VHDX_LOG_TAIL = 12,
    VHDX_LOG_SEQUENCE = 16,
    VHDX_LOG_DESCRIPTORS = 24,
    VHDX_LOG_GUID = 32,
    VHDX_LOG_FLUSHED = 48,
    VHDX_LOG_HEADER = 64,
    VHDX_LOG_DESCRIPTOR = 32,

    VHDX_BLOCK_MIN = MIB,
    VHDX_BLOCK_MAX = 256 * MIB,
};
#define VHDX_CHUNK_SECTORS (1ull << 23) /* sectors that one bitmap block describes */
#define VHDX_MAX_SIZE      (64ull << 40)

/* A BAT entry: state in bits 0 to 2, offset in MiB from bit 20 on. */
enum {
    VHDX_BLOCK_ABSENT = 0,
    VHDX_BLOCK_UNDEFINED = 1,
    VHDX_BLOCK_ZERO = 2,
    VHDX_BLOCK_UNMAPPED = 3,
    VHDX_BLOCK_FULL = 6,
    VHDX_BLOCK_PARTIAL = 7,
    VHDX_BITMAP_PRESENT = 6, /* of a bitmap block */
    VHDX_STATE_MASK = 7,
};
#define VHDX_OFFSET_MASK (~(uint64_t)(MIB - 1))

/* GUIDs as they lie in the file. */
#define VHDX_GUID_BAT        "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
#define VHDX_GUID_METADATA   "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
#define VHDX_GUID_PARAMETERS "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
#define VHDX_GUID_SIZE       "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
#define VHDX_GUID_PAGE83     "\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46"
#define VHDX_GUID_LOGICAL    "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f"
#define VHDX_GUID_PHYSICAL   "\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56"
#define VHDX_GUID_PARENT     "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"
/* the type of a parent locator */
#define VHDX_GUID_LOCATOR "\xb7\xef\x4a\xb0\x9e\xd1\x81\x4a\xb7\x89\x25\xb8\xe9\x44\x59\x13"
#define VHDX_GUID_LEN     16

/* CRC-32C of p with the four bytes at `at` taken as zeros. */
uint32_t vhdx_checksum(const void *p, size_t n, size_t at);

#endif
