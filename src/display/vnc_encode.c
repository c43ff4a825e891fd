/*
 * vnc_encode.c: rectangles, raw (RFC 6143, 7.7.1) or ZRLE (7.7.6). Of ZRLE's tile types those of one colour
 * and of raw pixels are used: zlib finds what repeats.
 */
#include "display/vnc_priv.h"

#include <string.h>

#include "base/endian.h"

enum { ENCODING_RAW = 0, ENCODING_ZRLE = 16, ZRLE_TILE = 64, ZRLE_RAW = 0, ZRLE_SOLID = 1 };
enum { PIXEL_MAX = 4, ZLIB_ROOM = 64 };

bool vnc_format_valid(const struct vnc_format *f)
{
    for (unsigned i = 0; i < 3; i++)
        if (!is_pow2((uint64_t)f->max[i] + 1) || f->shift[i] >= f->bpp)
            return false;
    return f->bpp == 8 || f->bpp == 16 || f->bpp == 32;
}

static uint32_t vnc_pixel(const struct vnc_format *f, uint32_t rgb)
{
    uint32_t val = 0;

    for (unsigned i = 0; i < 3; i++) {
        uint32_t c = rgb >> (16 - 8 * i) & 0xff;

        val |= (c * f->max[i] + 127) / 255 << f->shift[i];
    }
    return val;
}

/* How a pixel lies in a stream: bytes of a 32-bit number from the given one on. */
struct vnc_layout {
    unsigned bytes, first;
};

/* ZRLE leaves the byte out that a 32-bit pixel of 24 bits does not use. */
static struct vnc_layout vnc_layout(const struct vnc_format *f, bool compressed)
{
    struct vnc_layout l = { f->bpp / 8u, 0 };
    uint32_t used = 0;

    for (unsigned i = 0; i < 3; i++)
        used |= (uint32_t)f->max[i] << f->shift[i];
    if (!compressed || f->bpp != 32 || f->depth > 24)
        return l;
    if (!(used >> 24))
        l = (struct vnc_layout){ 3, f->big_endian ? 1 : 0 };
    else if (!(used & 0xff))
        l = (struct vnc_layout){ 3, f->big_endian ? 0 : 1 };
    return l;
}

static void vnc_store(const struct vnc_format *f, struct vnc_layout l, uint32_t rgb, uint8_t *to)
{
    uint32_t val = vnc_pixel(f, rgb);
    uint8_t bytes[PIXEL_MAX];

    if (f->big_endian)
        st_be32(bytes, val << (32 - f->bpp));
    else
        st_le32(bytes, val);
    memcpy(to, bytes + l.first, l.bytes);
}

static const uint32_t *vnc_at(const struct surface *s, unsigned x, unsigned y)
{
    return s->pixels + (size_t)y * s->width + x;
}

static uint8_t *vnc_store_area(const struct vnc_client *c, struct vnc_layout l,
                               const unsigned at[2], unsigned w, unsigned h, uint8_t *to)
{
    for (unsigned j = 0; j < h; j++) {
        const uint32_t *from = vnc_at(c->screen, at[0], at[1] + j);

        for (unsigned i = 0; i < w; i++, to += l.bytes)
            vnc_store(&c->format, l, from[i], to);
    }
    return to;
}

static bool vnc_solid(const struct surface *s, const unsigned at[2], unsigned w, unsigned h)
{
    uint32_t color = *vnc_at(s, at[0], at[1]);

    for (unsigned j = 0; j < h; j++)
        for (unsigned i = 0; i < w; i++)
            if (vnc_at(s, at[0], at[1] + j)[i] != color)
                return false;
    return true;
}

static uint8_t *vnc_zrle_tile(const struct vnc_client *c, struct vnc_layout l, const unsigned at[2],
                              unsigned w, unsigned h, uint8_t *to)
{
    if (vnc_solid(c->screen, at, w, h)) {
        *to++ = ZRLE_SOLID;
        vnc_store(&c->format, l, *vnc_at(c->screen, at[0], at[1]), to);
        return to + l.bytes;
    }
    *to++ = ZRLE_RAW;
    return vnc_store_area(c, l, at, w, h, to);
}

/* All of in through the viewer's zlib stream, after its length. */
static void vnc_deflate(struct vnc_client *c, uint8_t *in, size_t len)
{
    size_t room = deflateBound(&c->zlib, len) + ZLIB_ROOM, at = c->tx.len;
    uint8_t *to = vnc_buf_add(&c->tx, 4 + room);

    if (!to)
        return;
    c->zlib.next_in = in;
    c->zlib.avail_in = (uInt)len;
    c->zlib.next_out = to + 4;
    c->zlib.avail_out = (uInt)room;
    if (deflate(&c->zlib, Z_SYNC_FLUSH) != Z_OK || c->zlib.avail_in) {
        c->tx.failed = true;
        return;
    }
    st_be32(to, (uint32_t)(room - c->zlib.avail_out));
    c->tx.len = at + 4 + room - c->zlib.avail_out;
}

static void vnc_zrle(struct vnc_client *c, unsigned x, unsigned y, unsigned w, unsigned h)
{
    struct vnc_layout l = vnc_layout(&c->format, true);
    size_t tiles = (size_t)(w / ZRLE_TILE + 1) * (h / ZRLE_TILE + 1);
    uint8_t *plain = malloc((size_t)w * h * PIXEL_MAX + tiles * (1 + PIXEL_MAX)), *to = plain;

    if (!plain) {
        c->tx.failed = true;
        return;
    }
    for (unsigned j = 0; j < h; j += ZRLE_TILE)
        for (unsigned i = 0; i < w; i += ZRLE_TILE) {
            const unsigned at[2] = { x + i, y + j };

            to = vnc_zrle_tile(c, l, at, (unsigned)min_u64(ZRLE_TILE, w - i),
                               (unsigned)min_u64(ZRLE_TILE, h - j), to);
        }
    vnc_deflate(c, plain, (size_t)(to - plain));
    free(plain);
}

void vnc_rect_header(struct vnc_buf *b, unsigned x, unsigned y, unsigned w, unsigned h,
                     int32_t encoding)
{
    vnc_put_u16(b, (uint16_t)x);
    vnc_put_u16(b, (uint16_t)y);
    vnc_put_u16(b, (uint16_t)w);
    vnc_put_u16(b, (uint16_t)h);
    vnc_put_u32(b, (uint32_t)encoding);
}

void vnc_encode_rect(struct vnc_client *c, unsigned x, unsigned y, unsigned w, unsigned h)
{
    struct vnc_layout l = vnc_layout(&c->format, false);
    const unsigned at[2] = { x, y };
    uint8_t *to;

    BUG_ON(x + w > c->screen->width || y + h > c->screen->height);
    if (c->zrle && !c->zlib_ready)
        c->zlib_ready = deflateInit(&c->zlib, Z_BEST_SPEED) == Z_OK;
    vnc_rect_header(&c->tx, x, y, w, h, c->zrle && c->zlib_ready ? ENCODING_ZRLE : ENCODING_RAW);
    if (c->zrle && c->zlib_ready) {
        vnc_zrle(c, x, y, w, h);
        return;
    }
    to = vnc_buf_add(&c->tx, (size_t)w * h * l.bytes);
    if (to)
        vnc_store_area(c, l, at, w, h, to);
}
