/*
 * payload.c: one function a format, each from memory into a buffer of the size that the kernel's build
 * appended to the payload (scripts/Makefile.lib, size_append; gzip has it in its own trailer). Running
 * out of that buffer is damage, so that a bomb cannot grow.
 */
#include "boot/payload.h"

#include <bzlib.h>
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/endian.h"

enum {
    PAYLOAD_SIZE_LEN = 4,            /* the appended size */
    PAYLOAD_LZ4_BLOCK = 8 * MIB,     /* of the legacy frame format */
    PAYLOAD_LZMA_MEMORY = 256 * MIB, /* the largest dictionary and what goes with it */
};

static const struct payload_magic {
    enum payload_format format;
    const char *name;
    uint8_t len;
    uint8_t magic[6];
} payload_magics[] = {
    { PAYLOAD_PLAIN, "uncompressed", 4, { 0x7f, 'E', 'L', 'F' } },
    { PAYLOAD_GZIP, "gzip", 2, { 0x1f, 0x8b } },
    { PAYLOAD_BZIP2, "bzip2", 3, { 'B', 'Z', 'h' } },
    { PAYLOAD_LZMA, "lzma", 3, { 0x5d, 0, 0 } },
    { PAYLOAD_XZ, "xz", 6, { 0xfd, '7', 'z', 'X', 'Z', 0 } },
    { PAYLOAD_LZ4, "lz4", 4, { 0x02, 0x21, 0x4c, 0x18 } },
    { PAYLOAD_ZSTD, "zstd", 4, { 0x28, 0xb5, 0x2f, 0xfd } },
};

enum payload_format payload_format(const void *data, uint64_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(payload_magics); i++)
        if (len >= payload_magics[i].len &&
            !memcmp(data, payload_magics[i].magic, payload_magics[i].len))
            return payload_magics[i].format;
    return PAYLOAD_UNKNOWN;
}

const char *payload_format_name(enum payload_format format)
{
    for (size_t i = 0; i < ARRAY_SIZE(payload_magics); i++)
        if (payload_magics[i].format == format)
            return payload_magics[i].name;
    return "unknown";
}

/* One run of a decompressor: from in to out, which must become exactly full. */
struct payload_io {
    const uint8_t *in;
    uint64_t in_len;
    uint8_t *out;
    uint64_t out_len;
};

static bool payload_gzip(const struct payload_io *io)
{
    z_stream z = { .next_in = (uint8_t *)(uintptr_t)io->in,
                   .avail_in = (uInt)io->in_len,
                   .next_out = io->out,
                   .avail_out = (uInt)io->out_len };
    bool ok;

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return false;
    ok = inflate(&z, Z_FINISH) == Z_STREAM_END && !z.avail_out;
    inflateEnd(&z);
    return ok;
}

static bool payload_bzip2(const struct payload_io *io)
{
    unsigned out_len = (unsigned)io->out_len;

    return BZ2_bzBuffToBuffDecompress((char *)io->out, &out_len, (char *)(uintptr_t)io->in,
                                      (unsigned)io->in_len, 0, 0) == BZ_OK &&
           out_len == io->out_len;
}

static bool payload_lzma(const struct payload_io *io, bool xz)
{
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_ret ret = xz ? lzma_stream_decoder(&s, PAYLOAD_LZMA_MEMORY, 0)
                      : lzma_alone_decoder(&s, PAYLOAD_LZMA_MEMORY);

    s.next_in = io->in;
    s.avail_in = io->in_len;
    s.next_out = io->out;
    s.avail_out = io->out_len;
    /* Until it ends or says why not; with no room or input left the next call is LZMA_BUF_ERROR. */
    while (ret == LZMA_OK)
        ret = lzma_code(&s, LZMA_RUN);
    lzma_end(&s);
    return ret == LZMA_STREAM_END && !s.avail_out;
}

static bool payload_lz4(const struct payload_io *io)
{
    uint64_t at = 4, done = 0; /* after the magic */

    while (done < io->out_len) {
        int room = (int)min_u64(io->out_len - done, PAYLOAD_LZ4_BLOCK);
        uint32_t n;
        int got;

        if (io->in_len - at < 4)
            return false;
        n = ld_le32(io->in + at);
        at += 4;
        if (n > io->in_len - at || n > (uint32_t)LZ4_COMPRESSBOUND(PAYLOAD_LZ4_BLOCK))
            return false;
        got = LZ4_decompress_safe((const char *)io->in + at, (char *)io->out + done, (int)n, room);
        if (got <= 0)
            return false;
        at += n;
        done += (uint64_t)got;
    }
    return true;
}

static bool payload_zstd(const struct payload_io *io)
{
    size_t frame = ZSTD_findFrameCompressedSize(io->in, io->in_len);

    return !ZSTD_isError(frame) &&
           ZSTD_decompress(io->out, io->out_len, io->in, frame) == io->out_len;
}

static bool payload_run(enum payload_format format, const struct payload_io *io)
{
    switch (format) {
    case PAYLOAD_PLAIN:
        memcpy(io->out, io->in, io->out_len);
        return true;
    case PAYLOAD_GZIP:
        return payload_gzip(io);
    case PAYLOAD_BZIP2:
        return payload_bzip2(io);
    case PAYLOAD_LZMA:
        return payload_lzma(io, false);
    case PAYLOAD_XZ:
        return payload_lzma(io, true);
    case PAYLOAD_LZ4:
        return payload_lz4(io);
    case PAYLOAD_ZSTD:
        return payload_zstd(io);
    case PAYLOAD_UNKNOWN:
        break;
    }
    return false;
}

int payload_unpack(enum payload_format format, const void *data, uint64_t len, uint64_t max,
                   uint8_t **out, uint64_t *out_len, struct err *e)
{
    struct payload_io io = { .in = data, .in_len = len };

    if (len <= PAYLOAD_SIZE_LEN || len > UINT_MAX)
        return err_set(e, EINVAL, "it is damaged: its compressed part is cut short");
    io.out_len = format == PAYLOAD_PLAIN ? len : ld_le32(io.in + len - PAYLOAD_SIZE_LEN);
    if (!io.out_len)
        return err_set(e, EINVAL, "it is damaged: its compressed part claims to be empty");
    if (io.out_len > max)
        return err_set(
            e, E2BIG,
            "it unpacks to %llu MiB, but the guest has room for %llu MiB: give more --memory, "
            "if the file is not damaged",
            (unsigned long long)(io.out_len / MIB), (unsigned long long)(max / MIB));
    io.out = malloc(io.out_len);
    if (!io.out)
        return err_set(e, ENOMEM, "it does not fit into this host's memory while it is unpacked");
    if (!payload_run(format, &io)) {
        free(io.out);
        return err_set(e, EINVAL, "it is damaged: its %s-compressed part cannot be unpacked",
                       payload_format_name(format));
    }
    *out = io.out;
    *out_len = io.out_len;
    return 0;
}
