/*
 * file_sync.c: one request on a file, blocking, with everything that can happen on the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

/* Nothing can be read at pos: 0 if the file never went so far, or -EIO: somebody has cut it short. */
static int file_at_end(const struct file_at *at, uint64_t pos)
{
    struct stat st;

    if (pos >= at->floor)
        return 0;
    if (fstat(at->fd, &st))
        return -errno;
    return (uint64_t)st.st_size < at->floor ? -EIO : 0;
}

/* FUA where the file system does not know it: the write, then a flush of all. */
static ssize_t file_pwritev_fua(int fd, const struct iovec *iov, int niov, off_t pos)
{
    ssize_t n = pwritev2(fd, iov, niov, pos, RWF_DSYNC);

    if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
        return n;
    n = pwritev(fd, iov, niov, pos);
    return n >= 0 && fdatasync(fd) ? -1 : n;
}

static ssize_t file_transfer(int fd, const struct blk_req *r, const struct iovec *iov, int niov,
                             uint64_t pos)
{
    if (r->op == BLK_READ)
        return preadv(fd, iov, niov, (off_t)pos);
    if (r->flags & BLK_F_FUA)
        return file_pwritev_fua(fd, iov, niov, (off_t)pos);
    return pwritev(fd, iov, niov, (off_t)pos);
}

static int file_rw_iov(const struct file_at *at, const struct blk_req *r, struct iovec *iov)
{
    uint64_t pos = r->off, end = r->off + r->len;
    int niov = r->niov;

    file_iov_skip(&iov, &niov, 0); /* empty ones in front */
    while (pos < end) {
        /* With O_DIRECT a transfer that stopped at an odd place stopped at the end of the file. */
        bool at_end = r->op == BLK_READ && pos % at->align;
        ssize_t n = at_end ? 0 : file_transfer(at->fd, r, iov, niov, pos);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0 && r->op == BLK_WRITE)
            return -ENOSPC;
        if (n == 0) { /* beyond the end of the file: zeros */
            int rc = file_at_end(at, pos);

            if (rc)
                return rc;
            memset(iov->iov_base, 0, iov->iov_len);
            n = (ssize_t)iov->iov_len;
        }
        pos += (uint64_t)n;
        file_iov_skip(&iov, &niov, (size_t)n);
    }
    return 0;
}

bool file_sync_cached(const struct file_at *at, const struct blk_req *r)
{
    ssize_t n = preadv2(at->fd, r->iov, r->niov, (off_t)r->off, RWF_NOWAIT);

    return n >= 0 && (uint64_t)n == r->len;
}

int file_sync_piece(struct file_at *at, bool write, void *buf, size_t n, uint64_t off)
{
    struct iovec iov = { buf, n };
    const struct blk_req r = {
        .op = write ? BLK_WRITE : BLK_READ, .off = off, .len = n, .iov = &iov, .niov = 1
    };

    return file_rw_iov(at, &r, &iov);
}

static int file_rw(struct file_at *at, const struct blk_req *r)
{
    size_t size = (size_t)r->niov * sizeof(*r->iov);
    struct iovec *iov;
    int rc;

    if (file_bounce_needed(at, r))
        return file_bounce(at, r);
    iov = malloc(size);
    if (!iov)
        return -ENOMEM;
    memcpy(iov, r->iov, size);
    rc = file_rw_iov(at, r, iov);
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

static int file_discard_device(int fd, const struct blk_req *r)
{
    uint64_t range[2] = { r->off, r->len };

    return ioctl(fd, BLKDISCARD, range) ? -errno : 0;
}

/* It is advice: where the file system or the device cannot, nothing happens. */
static int file_discard(const struct file_at *at, const struct blk_req *r)
{
    int rc = at->device ? file_discard_device(at->fd, r)
                        : file_fallocate(at->fd, FALLOC_FL_PUNCH_HOLE, r);

    return rc == -EOPNOTSUPP || rc == -EINVAL || rc == -ENOTTY || rc == -EPERM ? 0 : rc;
}

static int file_write_zero_bytes(struct file_at *at, const struct blk_req *r)
{
    void *zeros = aligned_alloc(PAGE_SIZE, FILE_ZERO_CHUNK);
    struct iovec iov = { zeros, 0 };
    uint64_t end = r->off + r->len;
    struct blk_req w = { .op = BLK_WRITE, .off = r->off, .iov = &iov, .niov = 1 };
    int rc = zeros ? 0 : -ENOMEM;

    if (zeros)
        memset(zeros, 0, FILE_ZERO_CHUNK);
    for (; !rc && w.off < end; w.off += w.len) {
        w.len = iov.iov_len = min_u64(FILE_ZERO_CHUNK, end - w.off);
        rc = file_rw(at, &w);
    }
    free(zeros);
    return rc;
}

static int file_write_zeroes(struct file_at *at, const struct blk_req *r)
{
    int rc = -EOPNOTSUPP;

    if (r->flags & BLK_F_UNMAP)
        rc = file_fallocate(at->fd, FALLOC_FL_PUNCH_HOLE, r);
    if (rc)
        rc = file_fallocate(at->fd, FALLOC_FL_ZERO_RANGE, r);
    if (rc && rc != -ENOSPC && rc != -EIO)
        rc = file_write_zero_bytes(at, r);
    return !rc && (r->flags & BLK_F_FUA) ? file_flush(at->fd) : rc;
}

int file_sync(struct file_at *at, const struct blk_req *r)
{
    switch (r->op) {
    case BLK_READ:
    case BLK_WRITE:
        return file_rw(at, r);
    case BLK_FLUSH:
        return file_flush(at->fd);
    case BLK_DISCARD:
        return file_discard(at, r);
    case BLK_WRITE_ZEROES:
        return file_write_zeroes(at, r);
    }
    return -EINVAL;
}
