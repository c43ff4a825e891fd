/*
 * copy_map.h: what is to be copied, found out a window at a time, so that the list stays short. Loop thread;
 * the window that is there is read by all.
 */
#ifndef IMAGE_COPY_MAP_H
#define IMAGE_COPY_MAP_H

#include "block/block.h"

enum { COPY_MAP_EXTENTS = 4096, COPY_MAP_DISKS = 64, COPY_MAP_FILES = 64 };

struct copy_extent {
    uint64_t off, len; /* of all the disks behind each other */
    uint64_t host_off; /* with fd */
    int fd;            /* the bytes are there; -1: ask the disk */
    unsigned disk;
    uint32_t packed_len; /* 0: as they are; else these are, packed, the whole extent's: */
    struct blk *packer;  /* see struct blk_extent */
    const struct blk *layer;
    bool zero; /* is to be written as zeros */
};

struct copy_map {
    struct blk *const *disk;
    unsigned n_disks;
    uint64_t start[COPY_MAP_DISKS + 1]; /* where each begins; the end */
    uint32_t chunk;                     /* a window ends at a multiple of it */
    bool zeros;                         /* zeros are wanted too */
    bool top_only;                      /* see copy_opts */
    uint64_t skip;                      /* the first disk counts from there on */

    uint64_t done; /* the window ends here */
    struct copy_extent *extent;
    unsigned n;

    struct {
        const struct blk *layer;
        int fd;
    } file[COPY_MAP_FILES]; /* opened for reading beside the disks */
    unsigned n_files;
};

/* A piece of a single disk is all that is wanted. After copy_map_init(). */
void copy_map_piece(struct copy_map *m, uint64_t skip, uint64_t len);
must_check int copy_map_init(struct copy_map *m, struct blk *const *disk, unsigned n,
                             uint32_t chunk, struct err *e);
void copy_map_fini(struct copy_map *m);
/* The next window, behind the last one, while no request is in flight. n is 0 at the end. 0 or -errno. */
must_check int copy_map_next(struct copy_map *m, struct err *e);

#endif
