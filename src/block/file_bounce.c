/*
 * file_bounce.c: O_DIRECT takes only whole blocks of the device and aligned memory. What is not goes through
 * memory of our own, piece by piece; a write that covers a block in part reads it before, and holds a lock
 * so that two such writes to one block do not undo each other.
 *
 *      off        off + len
 *       v             v
 *    |..xx|xxxx|xxxx|x...|      from, to: the whole blocks around it
 *    ^                   ^
 *   from                 to
 */
#include <errno.h>
#include <unistd.h>

#include "base/iov.h"
#include "block/file_impl.h"

enum { BOUNCE_CHUNK = MIB, BOUNCE_MEM_ALIGN = PAGE_SIZE, BOUNCE_PROBE_MIN = 512 };

bool file_bounce_needed(const struct file_at *at, const struct blk_req *r)
{
    uint64_t bits = r->off | r->len;

    if (at->align == 1)
        return false;
    if (bits & (at->align - 1))
        return true;
    for (int i = 0; i < r->niov; i++)
        if (((uintptr_t)r->iov[i].iov_base & (at->mem_align - 1)) ||
            (r->iov[i].iov_len & (at->align - 1)))
            return true;
    return false;
}

/* The blocks at the ends that the write covers in part. */
static int file_bounce_edges(struct file_at *at, char *buf, uint64_t from, uint64_t to,
                             uint64_t off, uint64_t end)
{
    uint64_t last = to - at->align;
    int rc = 0;

    if (from != off)
        rc = file_sync_piece(at, false, buf, at->align, from);
    if (!rc && end != to && (last != from || from == off))
        rc = file_sync_piece(at, false, buf + (last - from), at->align, last);
    return rc;
}

/* Bytes [off, end) of the request, which start at `done` in its vector and fit into buf with their blocks. */
static int file_bounce_piece(struct file_at *at, const struct blk_req *r, char *buf, uint64_t off,
                             uint64_t end)
{
    uint64_t from = align_down(off, at->align), to = align_up(end, at->align);
    size_t done = off - r->off, len = end - off;
    bool partial = from != off || to != end;
    int rc = 0;

    if (r->op == BLK_READ) {
        rc = file_sync_piece(at, false, buf, to - from, from);
        if (!rc)
            iov_copy_to(r->iov, (unsigned)r->niov, done, buf + (off - from), len);
        return rc;
    }
    if (partial) {
        pthread_mutex_lock(&at->edges);
        rc = file_bounce_edges(at, buf, from, to, off, end);
    }
    if (!rc) {
        iov_copy_from(r->iov, (unsigned)r->niov, done, buf + (off - from), len);
        rc = file_sync_piece(at, true, buf, to - from, from);
    }
    if (partial)
        pthread_mutex_unlock(&at->edges);
    return rc;
}

int file_bounce(struct file_at *at, const struct blk_req *r)
{
    uint64_t off = r->off, end = r->off + r->len;
    uint64_t size = min_u64(BOUNCE_CHUNK, align_up(r->len, at->align)) + 2ull * at->align;
    char *buf = aligned_alloc(BOUNCE_MEM_ALIGN, align_up(size, BOUNCE_MEM_ALIGN));
    int rc = buf ? 0 : -ENOMEM;

    while (!rc && off < end) {
        uint64_t stop = min_u64(align_down(off + BOUNCE_CHUNK, at->align), end);

        rc = file_bounce_piece(at, r, buf, off, stop);
        off = stop;
    }
    free(buf);
    if (!rc && r->op == BLK_WRITE && (r->flags & BLK_F_FUA) && fdatasync(at->fd))
        rc = -errno;
    return rc;
}

static bool file_bounce_works(int fd, char *mem, size_t n)
{
    return pread(fd, mem, n, 0) >= 0 || errno != EINVAL;
}

int file_bounce_probe(struct file_at *at)
{
    char *buf = aligned_alloc(BOUNCE_MEM_ALIGN, 2 * BOUNCE_MEM_ALIGN);
    uint32_t n;

    if (!buf)
        return -ENOMEM;
    for (n = BOUNCE_PROBE_MIN; n < BOUNCE_MEM_ALIGN && !file_bounce_works(at->fd, buf, n);)
        n *= 2;
    at->align = n;
    for (n = BOUNCE_PROBE_MIN;
         n < BOUNCE_MEM_ALIGN && !file_bounce_works(at->fd, buf + n, at->align);)
        n *= 2;
    at->mem_align = n;
    n = file_bounce_works(at->fd, buf, at->align);
    free(buf);
    return n ? 0 : -EINVAL;
}
