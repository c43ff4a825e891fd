/*
 * iov.h: vectors of buffers as one run of bytes. No state, any thread.
 */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <sys/uio.h>

#include "base/util.h"

size_t iov_size(const struct iovec *iov, unsigned n);
/* Copies up to len bytes from off; returns how many there were. */
size_t iov_copy_from(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len);
size_t iov_copy_to(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len);
/* dst[0..n) become the pieces of bytes [off, off + len) without empty ones; returns how many. */
unsigned iov_slice(struct iovec *dst, const struct iovec *iov, unsigned n, size_t off, size_t len);

#endif
