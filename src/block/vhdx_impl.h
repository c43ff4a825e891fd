/*
 * vhdx_impl.h: what vhdx.c and vhdx_log.c share.
 */
#ifndef BLOCK_VHDX_IMPL_H
#define BLOCK_VHDX_IMPL_H

#include "block/foreign.h"
#include "block/vhdx_format.h"

/* Sectors of metadata that the log holds newer than their place in the file. */
struct vhdx_patch {
    uint64_t off;
    uint8_t *data; /* VHDX_LOG_SECTOR bytes; NULL: zeros */
    uint64_t len;
};

struct vhdx {
    uint8_t header[VHDX_HEADER_SIZE]; /* the one that counts */
    uint64_t bat_off, meta_off;
    uint32_t bat_len, meta_len;
    uint64_t *bat;              /* little-endian, as it is in the file */
    uint64_t block_size, ratio; /* data blocks to a bitmap block */
    uint32_t sector_size;

    bool differencing;
    char linkage[2][40]; /* what the parent's header may say, as text; "": nothing */
    uint8_t *
        *bitmap; /* one to a chunk: a bit for each sector that is here; NULL: no partial block */
    uint64_t chunks;

    struct vhdx_patch *patches; /* in the order of the log: later ones win */
    size_t n_patches;
};

/* --- vhdx_parent.c: differencing images --- */
/* The locator in the metadata: which image is the parent. */
must_check int vhdx_parent_find(struct foreign *f, const uint8_t *locator, uint32_t len,
                                struct err *e);
/* The bitmaps of the chunks with partial blocks; the BAT has been read. */
must_check int vhdx_parent_bitmaps(struct foreign *f, uint64_t blocks, struct err *e);
int vhdx_parent_check(const struct foreign *f, const struct foreign *parent, struct err *e);
/* Part of a partial block: here or in the parent. */
void vhdx_parent_map(const struct vhdx *v, uint64_t off, uint64_t len, struct foreign_extent *x);
void vhdx_parent_free(struct vhdx *v);

/* Reads the log if there is one to be replayed, into v->patches. */
must_check int vhdx_log_load(struct foreign *f, struct err *e);
/* Puts what the log knows better over len bytes that were read from off. */
void vhdx_log_apply(const struct vhdx *v, uint64_t off, void *buf, uint64_t len);
void vhdx_log_free(struct vhdx *v);

#endif
