/*
 * tail_file.c: see tail_file.h. Only pread, pwrite and ftruncate: what a vCPU thread's sandbox allows.
 */
#include "base/tail_file.h"

#include <errno.h>
#include <unistd.h>

void tail_file_init(struct tail_file *f, int fd, uint64_t max)
{
    BUG_ON(max < 2 || max % 2);
    *f = (struct tail_file){ .fd = fd, .max = max };
    pthread_mutex_init(&f->lock, NULL);
}

void tail_file_fini(struct tail_file *f)
{
    pthread_mutex_destroy(&f->lock);
}

static int tail_file_pwrite(int fd, const char *buf, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, buf, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        buf += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Moves what follows the older half to the front. */
static int tail_file_drop(struct tail_file *f)
{
    uint64_t from = f->max / 2, to = 0;
    char buf[4096];
    int rc = 0;

    while (!rc && from < f->len) {
        ssize_t n = pread(f->fd, buf, sizeof(buf), (off_t)from);

        if (n <= 0)
            return n ? -errno : -EIO;
        rc = tail_file_pwrite(f->fd, buf, (size_t)n, to);
        from += (uint64_t)n;
        to += (uint64_t)n;
    }
    if (!rc && ftruncate(f->fd, (off_t)to))
        rc = -errno;
    if (!rc)
        f->len = to;
    return rc;
}

int tail_file_write(struct tail_file *f, const void *buf, size_t len)
{
    const char *p = buf;
    int rc = 0;

    pthread_mutex_lock(&f->lock);
    while (!rc && len) {
        size_t n = (size_t)min_u64(len, f->max - f->len);

        if (n)
            rc = tail_file_pwrite(f->fd, p, n, f->len);
        if (!rc) {
            f->len += n;
            p += n;
            len -= n;
        }
        if (!rc && len)
            rc = tail_file_drop(f);
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}
