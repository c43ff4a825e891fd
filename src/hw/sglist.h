/*
 * sglist.h: pieces of guest memory that a request at the block layer reads or writes without a copy.
 * The device lock of whose it is.
 */
#ifndef HW_SGLIST_H
#define HW_SGLIST_H

#include <sys/uio.h>

#include "mem/guest.h"

struct sglist {
    /* configuration */
    struct physmap *mem;
    struct iovec *iov; /* room for max pieces, and where they are in guest memory; the caller's */
    uint64_t *gpa;
    unsigned max;
    bool to_memory; /* guest memory is what is written */

    unsigned n;
    uint64_t len; /* bytes in all pieces */
};
enum sglist_result {
    SGLIST_OK,
    SGLIST_FULL, /* a part of it may have been added */
    SGLIST_BAD   /* not (writable) RAM */
};

void sglist_reset(struct sglist *sg); /* empty */
/* Another stretch of guest memory. */
must_check enum sglist_result sglist_add(struct sglist *sg, uint64_t gpa, uint64_t len);
void sglist_cut(struct sglist *sg, uint64_t len); /* keeps only the first len bytes */
/* The data has landed in guest memory, of a request that took a while. */
void sglist_written(const struct sglist *sg);

#endif
