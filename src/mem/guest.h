/*
 * guest.h: the only way a device reaches guest memory. Any thread.
 */
#ifndef MEM_GUEST_H
#define MEM_GUEST_H

#include "mem/physmap.h"

/*
 * A pointer to len bytes at gpa, or NULL unless the whole range lies in one RAM region (and, for write,
 * one that is not read-only). write marks the pages dirty and drops translations of code in them. The
 * pointer lives no longer than one request.
 */
void *guest_ptr(struct physmap *m, uint64_t gpa, uint64_t len, bool write);

/*
 * Data landed through a pointer that was taken earlier (an asynchronous read): marks and drops again,
 * because a page may have been sent or translated between guest_ptr() and the write.
 */
void guest_written(struct physmap *m, uint64_t gpa, uint64_t len);

/*
 * [off, off + len) of r's bytes were written to by somebody who knows them by r->hva, visible or not: marks
 * and drops like guest_written().
 */
void guest_region_written(struct physmap *m, struct ram_region *r, uint64_t off, uint64_t len);

/* Copies, across regions if need be; false (nothing copied) unless all of it is RAM. */
must_check bool guest_read(struct physmap *m, uint64_t gpa, void *buf, uint64_t len);
must_check bool guest_write(struct physmap *m, uint64_t gpa, const void *buf, uint64_t len);
must_check bool guest_fill(struct physmap *m, uint64_t gpa, int byte, uint64_t len);

#endif
