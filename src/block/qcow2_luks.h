/*
 * qcow2_luks.h: encrypted images: a LUKS 1 header within the file, AES-XTS over the guest's clusters.
 */
#ifndef BLOCK_QCOW2_LUKS_H
#define BLOCK_QCOW2_LUKS_H

#include <sys/uio.h>

#include "base/err.h"

struct qcow2_luks;

/* Of a new header; zeros: what QEMU takes. */
struct qcow2_luks_params {
    uint32_t key_len; /* of both halves: 64 (aes-256) or 32 (aes-128) */
    const char *hash; /* OpenSSL's name; NULL: sha256 */
    uint64_t iter_ms; /* so long takes a try at the passphrase; 0: 2000 */
};

/* The bytes that a header takes. */
uint64_t qcow2_luks_header_len(const struct qcow2_luks_params *p);
/* A new one with a new key, into qcow2_luks_header_len() bytes. 0 or -errno with a sentence. */
must_check int qcow2_luks_format(const struct qcow2_luks_params *p, const char *passphrase,
                                 uint8_t *header, struct err *e);

/*
 * header: the bytes that the image's encryption header consists of. NULL with a sentence if they mean
 * something unknown, or if the passphrase is none of its keys (-EKEYREJECTED) or missing.
 */
struct qcow2_luks *qcow2_luks_open(const uint8_t *header, size_t len, const char *passphrase,
                                   const char *path, struct err *e);
void qcow2_luks_close(struct qcow2_luks *l); /* NULL is fine */
/*
 * In place; len is a multiple of 512. The sector number is that of the place in the file (host). Any thread.
 * 0 or -errno.
 */
must_check int qcow2_luks_encrypt(const struct qcow2_luks *l, uint64_t host, uint8_t *buf,
                                  uint64_t len);
must_check int qcow2_luks_decrypt(const struct qcow2_luks *l, uint64_t host,
                                  const struct iovec *iov, int niov, uint64_t len);

#endif
