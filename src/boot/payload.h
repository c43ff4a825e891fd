/*
 * payload.h: the compressed vmlinux inside a bzImage, decompressed natively. Hostile bytes. Single thread.
 */
#ifndef BOOT_PAYLOAD_H
#define BOOT_PAYLOAD_H

#include "base/err.h"

enum payload_format {
    PAYLOAD_UNKNOWN, /* lzo or something newer: the kernel's own code must unpack it */
    PAYLOAD_PLAIN,   /* an ELF file as it is */
    PAYLOAD_GZIP,
    PAYLOAD_BZIP2,
    PAYLOAD_LZMA,
    PAYLOAD_XZ,
    PAYLOAD_LZ4,
    PAYLOAD_ZSTD,
};

enum payload_format payload_format(const void *data, uint64_t len);
const char *payload_format_name(enum payload_format format);

/*
 * Unpacks data as the kernel's build packed it: the last four bytes tell the size. *out is malloc'd.
 * 0; -EINVAL (damaged), -E2BIG (more than max), -ENOMEM, with a sentence about "it".
 */
must_check int payload_unpack(enum payload_format format, const void *data, uint64_t len,
                              uint64_t max, uint8_t **out, uint64_t *out_len, struct err *e);

#endif
