/*
 * vdi_format.h: the header of VDI images (1.1), little-endian. Shared by the reader and the writer.
 */
#ifndef BLOCK_VDI_FORMAT_H
#define BLOCK_VDI_FORMAT_H

enum {
    VDI_SIGNATURE = 0x40,
    VDI_VERSION = 0x44,
    VDI_HEADER_SIZE = 0x48, /* of what follows */
    VDI_TYPE = 0x4c,
    VDI_MAP_OFFSET = 0x154,
    VDI_DATA_OFFSET = 0x158,
    VDI_SECTOR_SIZE = 0x168,
    VDI_DISK_SIZE = 0x170,
    VDI_BLOCK_SIZE = 0x178,
    VDI_BLOCK_EXTRA = 0x17c,
    VDI_BLOCKS = 0x180,
    VDI_BLOCKS_USED = 0x184,
    VDI_UUID_IMAGE = 0x188,
    VDI_UUID_SNAPSHOT = 0x198,
    VDI_UUID_LINK = 0x1a8, /* the parent's image and snapshot */
    VDI_UUID_PARENT = 0x1b8,
    VDI_HEADER = 0x200,
    VDI_UUID_LEN = 16,

    VDI_DYNAMIC = 1,
    VDI_FIXED = 2,
    VDI_UNDO = 3,
    VDI_DIFFERENCING = 4,
};

struct foreign;
struct err;
/* vdi_parent.c: finds the image that this one, with that header, is based on. 0 or -errno with a sentence. */
int vdi_parent_find(struct foreign *f, const unsigned char *header, struct err *e);

#define VDI_MAGIC 0xbeda107fu
#define VDI_ZERO  0xfffffffeu /* map entry: explicit zeros */
#define VDI_FREE  0xffffffffu /* never written */

#endif
