#include "base/iov.h"

#include <string.h>

size_t iov_size(const struct iovec *iov, unsigned n)
{
    size_t size = 0;

    for (unsigned i = 0; i < n; i++)
        size += iov[i].iov_len;
    return size;
}

/* The part of iov that lies in bytes [*off, *off + *len), and what remains of these. */
static struct iovec iov_piece(const struct iovec *iov, size_t *off, size_t *len)
{
    size_t skip = min_u64(*off, iov->iov_len), take = min_u64(*len, iov->iov_len - skip);

    *off -= skip;
    *len -= take;
    return (struct iovec){ (char *)iov->iov_base + skip, take };
}

size_t iov_copy_from(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len)
{
    char *to = buf;

    for (unsigned i = 0; i < n && len; i++) {
        struct iovec piece = iov_piece(&iov[i], &off, &len);

        memcpy(to, piece.iov_base, piece.iov_len);
        to += piece.iov_len;
    }
    return (size_t)(to - (char *)buf);
}

size_t iov_copy_to(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len)
{
    const char *from = buf;

    for (unsigned i = 0; i < n && len; i++) {
        struct iovec piece = iov_piece(&iov[i], &off, &len);

        memcpy(piece.iov_base, from, piece.iov_len);
        from += piece.iov_len;
    }
    return (size_t)(from - (const char *)buf);
}

unsigned iov_slice(struct iovec *dst, const struct iovec *iov, unsigned n, size_t off, size_t len)
{
    unsigned out = 0;

    for (unsigned i = 0; i < n && len; i++) {
        struct iovec piece = iov_piece(&iov[i], &off, &len);

        if (piece.iov_len)
            dst[out++] = piece;
    }
    return out;
}
