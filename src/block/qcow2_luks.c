/*
 * qcow2_luks.c: see qcow2_luks.h.
 */
#include "block/qcow2_luks.h"

#include <errno.h>

struct qcow2_luks *qcow2_luks_open(const uint8_t *header, size_t len, const char *passphrase,
                                   const char *path, struct err *e)
{
    (void)header;
    (void)len;
    (void)passphrase;
    err_set(e, ENOTSUP, "disk '%s' is encrypted, which cannot be used yet", path);
    return NULL;
}

void qcow2_luks_close(struct qcow2_luks *l)
{
    (void)l;
}

int qcow2_luks_encrypt(const struct qcow2_luks *l, uint64_t host, uint8_t *buf, uint64_t len)
{
    (void)l;
    (void)host;
    (void)buf;
    (void)len;
    return -ENOTSUP;
}

int qcow2_luks_decrypt(const struct qcow2_luks *l, uint64_t host, const struct iovec *iov, int niov,
                       uint64_t len)
{
    (void)l;
    (void)host;
    (void)iov;
    (void)niov;
    (void)len;
    return -ENOTSUP;
}
