/*
 * vmdk_impl.h: what vmdk.c and vmdk_sparse.c share.
 */
#ifndef BLOCK_VMDK_IMPL_H
#define BLOCK_VMDK_IMPL_H

#include "block/foreign.h"
#include "block/vmdk_format.h"

enum vmdk_kind { VMDK_SPARSE, VMDK_FLAT, VMDK_ZERO };
struct vmdk_extent {
    enum vmdk_kind kind;
    unsigned file;
    uint64_t start, size; /* bytes of the disk */
    uint64_t flat_off;

    /* sparse */
    uint64_t grain; /* bytes */
    bool compressed, markers, zero_grains;
    uint32_t per_table, n_tables;
    uint32_t **table; /* little-endian; NULL: nothing is in there */
    uint64_t room;    /* bytes of tables that its file can still have: they are all different */
};

struct vmdk {
    struct vmdk_extent *extents;
    unsigned n_extents;
    uint64_t desc_off, desc_size; /* of the description inside the first file, bytes; 0: none */
    uint64_t room;                /* how many bytes of grain tables may still be loaded */
};

/* x->file is set. Fills in the rest but `start`; vmdk_sparse_close() is due in any case. */
must_check int vmdk_sparse_open(struct foreign *f, struct vmdk_extent *x, struct err *e);
void vmdk_sparse_close(struct vmdk_extent *x);
void vmdk_sparse_map(const struct vmdk_extent *ext, uint64_t in, struct foreign_extent *x);
int vmdk_sparse_unpack(const struct foreign *f, const struct foreign_extent *x, const void *in,
                       size_t n, void *out);

#endif
