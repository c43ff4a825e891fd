/*
 * file_map.c: which parts of a file there are, and making it longer or shorter.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_impl.h"

enum { FILE_ZERO_CHUNK = 64 * KIB };

/* The position of the hole or data at or behind off; -ENXIO: there is none. */
static int64_t file_map_seek(int fd, uint64_t off, int whence)
{
    off_t pos = lseek(fd, (off_t)off, whence);

    return pos < 0 ? -errno : pos;
}

int file_map_status(int fd, uint64_t off, uint64_t len, struct blk_extent *x)
{
    int64_t data = file_map_seek(fd, off, SEEK_DATA), hole;

    x->flags = BLK_X_ALLOCATED | BLK_X_OFFSET;
    x->host_off = off;
    x->len = len;
    if (data == -ENXIO || data > (int64_t)off) { /* a hole, to the end or to the next data */
        x->flags |= BLK_X_ZERO;
        if (data > 0)
            x->len = min_u64(len, align_down((uint64_t)data, BLK_SECTOR) - off);
        if (x->len)
            return 0;
        x->flags = BLK_X_ALLOCATED | BLK_X_OFFSET;
        x->len = len;
    }
    x->flags |= BLK_X_DATA; /* also where the file system cannot tell */
    hole = data < 0 ? data : file_map_seek(fd, max_u64((uint64_t)data, off), SEEK_HOLE);
    if (hole > (int64_t)off)
        x->len = min_u64(len, align_up((uint64_t)hole, BLK_SECTOR) - off);
    return 0;
}

static int file_map_write_zeros(int fd, uint64_t from, uint64_t to)
{
    static const char zeros[FILE_ZERO_CHUNK];

    while (from < to) {
        ssize_t n = pwrite(fd, zeros, min_u64(sizeof(zeros), to - from), (off_t)from);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENOSPC;
        from += (uint64_t)n;
    }
    return 0;
}

int file_map_resize(int fd, uint64_t from, uint64_t to, enum blk_prealloc prealloc)
{
    struct stat st;

    if (fstat(fd, &st))
        return -errno;
    if (S_ISBLK(st.st_mode)) {
        off_t end = lseek(fd, 0, SEEK_END);

        return end < 0 ? -errno : (uint64_t)end < to ? -ENOSPC : 0;
    }
    if (ftruncate(fd, (off_t)to))
        return -errno;
    if (to <= from || prealloc < BLK_PREALLOC_FALLOC)
        return 0;
    if (prealloc == BLK_PREALLOC_FALLOC)
        return -posix_fallocate(fd, (off_t)from, (off_t)(to - from));
    return file_map_write_zeros(fd, from, to);
}
