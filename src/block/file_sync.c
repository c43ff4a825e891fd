/*
 * file_sync.c: one request on a file, blocking, with everything that can happen on the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "block/file_impl.h"

enum { FILE_ZERO_CHUNK = 64 * KIB };

/* Drops the first n bytes of the vector. */
static void file_iov_skip(struct iovec **iov, int *niov, size_t n)
{
    while (*niov && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*niov)--;
    }
    if (n) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

static int file_rw_iov(int fd, const struct blk_req *r, struct iovec *iov)
{
    int niov = r->niov, flags = r->op == BLK_WRITE && (r->flags & BLK_F_FUA) ? RWF_DSYNC : 0;
    uint64_t pos = r->off, end = r->off + r->len;

    file_iov_skip(&iov, &niov, 0); /* empty ones in front */
    while (pos < end) {
        ssize_t n = r->op == BLK_READ ? preadv2(fd, iov, niov, (off_t)pos, 0)
                                      : pwritev2(fd, iov, niov, (off_t)pos, flags);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && r->op == BLK_WRITE)
            return -ENOSPC;
        if (n == 0) { /* beyond the end of the file: zeros */
            memset(iov->iov_base, 0, iov->iov_len);
            n = (ssize_t)iov->iov_len;
        }
        pos += (uint64_t)n;
        file_iov_skip(&iov, &niov, (size_t)n);
    }
    return 0;
}

static int file_rw(int fd, const struct blk_req *r)
{
    size_t size = (size_t)r->niov * sizeof(*r->iov);
    struct iovec *iov = malloc(size);
    int rc;

    if (!iov)
        return -ENOMEM;
    memcpy(iov, r->iov, size);
    rc = file_rw_iov(fd, r, iov);
    free(iov);
    return rc;
}

static int file_flush(int fd)
{
    return fdatasync(fd) ? -errno : 0;
}

static int file_fallocate(int fd, int mode, const struct blk_req *r)
{
    int rc;

    do {
        rc = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->off, (off_t)r->len);
    } while (rc && errno == EINTR);
    return rc ? -errno : 0;
}

/* It is advice: where the file system cannot, nothing happens. */
static int file_discard(int fd, const struct blk_req *r)
{
    int rc = file_fallocate(fd, FALLOC_FL_PUNCH_HOLE, r);

    return rc == -EOPNOTSUPP || rc == -EINVAL || rc == -ENOTTY ? 0 : rc;
}

static int file_write_zero_bytes(int fd, const struct blk_req *r)
{
    void *zeros = calloc(1, FILE_ZERO_CHUNK);
    uint64_t pos = r->off, end = r->off + r->len;
    int rc = zeros ? 0 : -ENOMEM;

    while (!rc && pos < end) {
        ssize_t n = pwrite(fd, zeros, min_u64(FILE_ZERO_CHUNK, end - pos), (off_t)pos);

        if (n > 0)
            pos += (uint64_t)n;
        else if (!n || errno != EINTR)
            rc = n ? -errno : -ENOSPC;
    }
    free(zeros);
    return rc;
}

static int file_write_zeroes(int fd, const struct blk_req *r)
{
    int rc = -EOPNOTSUPP;

    if (r->flags & BLK_F_UNMAP)
        rc = file_fallocate(fd, FALLOC_FL_PUNCH_HOLE, r);
    if (rc)
        rc = file_fallocate(fd, FALLOC_FL_ZERO_RANGE, r);
    if (rc && rc != -ENOSPC && rc != -EIO)
        rc = file_write_zero_bytes(fd, r);
    return !rc && (r->flags & BLK_F_FUA) ? file_flush(fd) : rc;
}

int file_sync(int fd, const struct blk_req *r)
{
    switch (r->op) {
    case BLK_READ:
    case BLK_WRITE:
        return file_rw(fd, r);
    case BLK_FLUSH:
        return file_flush(fd);
    case BLK_DISCARD:
        return file_discard(fd, r);
    case BLK_WRITE_ZEROES:
        return file_write_zeroes(fd, r);
    }
    return -EINVAL;
}
