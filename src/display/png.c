/* png.c: 8-bit RGB, no filters, one IDAT. */
#include "display/png.h"

#include <string.h>
#include <zlib.h>

#include "base/endian.h"

enum { CHUNK_EXTRA = 12, SIGNATURE = 8, IHDR_LEN = 13, PIXEL = 3 };

static uint8_t *png_chunk(uint8_t *to, const char *type, const uint8_t *data, size_t len)
{
    st_be32(to, (uint32_t)len);
    memcpy(to + 4, type, 4);
    if (len && data != to + 8)
        memcpy(to + 8, data, len);
    st_be32(to + 8 + len, (uint32_t)crc32(0, to + 4, (uInt)(len + 4)));
    return to + CHUNK_EXTRA + len;
}

/* Each line begins with the number of its filter: 0, none. */
static uint8_t *png_lines(const struct surface *s, size_t len)
{
    uint8_t *raw = malloc(len), *to = raw;

    for (unsigned y = 0; raw && y < s->height; y++) {
        *to++ = 0;
        for (unsigned x = 0; x < s->width; x++, to += PIXEL) {
            uint32_t rgb = s->pixels[(size_t)y * s->width + x];

            to[0] = (uint8_t)(rgb >> 16);
            to[1] = (uint8_t)(rgb >> 8);
            to[2] = (uint8_t)rgb;
        }
    }
    return raw;
}

uint8_t *png_encode(const struct surface *s, size_t *len)
{
    static const uint8_t signature[SIGNATURE] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    uint8_t header[IHDR_LEN] = { [8] = 8, 2 }; /* bits a component, RGB */
    size_t raw_len = ((size_t)s->width * PIXEL + 1) * s->height;
    uLongf packed = compressBound(raw_len);
    uint8_t *raw = png_lines(s, raw_len);
    uint8_t *png = malloc(SIGNATURE + IHDR_LEN + packed + 3 * (size_t)CHUNK_EXTRA), *to = png;

    if (!raw || !png) {
        free(raw);
        free(png);
        return NULL;
    }
    st_be32(header, s->width);
    st_be32(header + 4, s->height);
    memcpy(to, signature, SIGNATURE);
    to = png_chunk(to + SIGNATURE, "IHDR", header, sizeof(header));
    BUG_ON(compress2(to + 8, &packed, raw, raw_len, Z_BEST_SPEED) != Z_OK); /* it has the room */
    to = png_chunk(to, "IDAT", to + 8, packed);
    to = png_chunk(to, "IEND", NULL, 0);
    *len = (size_t)(to - png);
    free(raw);
    return png;
}
