/*
 * vnc_client.c: one viewer (RFC 6143): handshake, its messages, updates. Beyond the RFC: versions 3.3 and
 * 3.7, the QEMU extended key event, by which keys arrive as such and not as characters.
 */
#include "display/vnc_priv.h"

#include <string.h>

#include "base/endian.h"

enum { SECURITY_NONE = 1, SECURITY_VNC = 2, VERSION_LEN = 12 };
enum { ENC_RAW = 0, ENC_ZRLE = 16, ENC_DESKTOP_SIZE = -223, ENC_QEMU_KEY = -258 };
enum {
    MSG_FORMAT = 0,
    MSG_ENCODINGS = 2,
    MSG_REQUEST = 3,
    MSG_KEY = 4,
    MSG_POINTER = 5,
    MSG_CUT_TEXT = 6,
    MSG_QEMU = 255,
};
enum {
    POINTER_LEFT = BIT(0),
    POINTER_MIDDLE = BIT(1),
    POINTER_RIGHT = BIT(2),
    POINTER_UP = BIT(3),
    POINTER_DOWN = BIT(4)
};
enum { NAME_LEN = 5, FORMAT_LEN = 16 };

/* --- output --- */

uint8_t *vnc_buf_add(struct vnc_buf *b, size_t n)
{
    if (n > b->cap - b->len) {
        size_t cap = b->cap * 2 + n;
        uint8_t *data = realloc(b->data, cap);

        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    b->len += n;
    return b->data + b->len - n;
}

void vnc_put(struct vnc_buf *b, const void *bytes, size_t n)
{
    uint8_t *to = vnc_buf_add(b, n);

    if (to)
        memcpy(to, bytes, n);
}

void vnc_put_u8(struct vnc_buf *b, uint8_t val)
{
    vnc_put(b, &val, 1);
}

void vnc_put_u16(struct vnc_buf *b, uint16_t val)
{
    val = __builtin_bswap16(val);
    vnc_put(b, &val, sizeof(val));
}

void vnc_put_u32(struct vnc_buf *b, uint32_t val)
{
    val = __builtin_bswap32(val);
    vnc_put(b, &val, sizeof(val));
}

/* --- handshake --- */

void vnc_client_start(struct vnc_client *c, const uint8_t random[VNC_CHALLENGE])
{
    memcpy(c->challenge, random, VNC_CHALLENGE);
    c->format = (struct vnc_format){ 32, 24, false, { 255, 255, 255 }, { 16, 8, 0 } };
    vnc_put(&c->tx, "RFB 003.008\n", VERSION_LEN);
}

static void vnc_client_welcome(struct vnc_client *c)
{
    vnc_put_u32(&c->tx, 0);
    c->phase = VNC_INIT;
}

static void vnc_client_challenge(struct vnc_client *c)
{
    vnc_put(&c->tx, c->challenge, VNC_CHALLENGE);
    c->phase = VNC_AUTH;
}

static void vnc_client_version(struct vnc_client *c)
{
    uint8_t type = c->password ? SECURITY_VNC : SECURITY_NONE;

    if (memcmp(c->rx, "RFB 003.", 8) || c->rx[11] != '\n') {
        c->phase = VNC_ENDED;
        return;
    }
    c->minor = !memcmp(c->rx + 8, "008", 3) ? 8 : !memcmp(c->rx + 8, "007", 3) ? 7 : 3;
    if (c->minor == 3) {
        vnc_put_u32(&c->tx, type);
        c->phase = VNC_INIT;
        if (c->password)
            vnc_client_challenge(c);
        return;
    }
    vnc_put_u8(&c->tx, 1);
    vnc_put_u8(&c->tx, type);
    c->phase = VNC_SECURITY;
}

static void vnc_client_security(struct vnc_client *c)
{
    if (c->rx[0] != (c->password ? SECURITY_VNC : SECURITY_NONE))
        c->phase = VNC_ENDED;
    else if (c->password)
        vnc_client_challenge(c);
    else if (c->minor == 8)
        vnc_client_welcome(c);
    else
        c->phase = VNC_INIT;
}

static void vnc_client_auth(struct vnc_client *c)
{
    static const char why[] = "wrong password";
    uint8_t right[VNC_CHALLENGE] = { 0 }, differ = 0;

    if (!vnc_auth_response(c->password, c->challenge, right))
        differ = 1;
    for (unsigned i = 0; i < VNC_CHALLENGE; i++) /* takes as long, whatever is wrong */
        differ |= right[i] ^ c->rx[i];
    if (!differ) {
        vnc_client_welcome(c);
        return;
    }
    vnc_put_u32(&c->tx, 1);
    if (c->minor == 8) {
        vnc_put_u32(&c->tx, sizeof(why) - 1);
        vnc_put(&c->tx, why, sizeof(why) - 1);
    }
    c->phase = VNC_ENDED;
}

static void vnc_client_init(struct vnc_client *c)
{
    static const uint8_t format[FORMAT_LEN] = { 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0 };

    c->width = c->screen->width;
    c->height = c->screen->height;
    vnc_put_u16(&c->tx, (uint16_t)c->width);
    vnc_put_u16(&c->tx, (uint16_t)c->height);
    vnc_put(&c->tx, format, sizeof(format));
    vnc_put_u32(&c->tx, NAME_LEN);
    vnc_put(&c->tx, "ruche", NAME_LEN);
    vnc_client_mark_all(c);
    c->phase = VNC_NORMAL;
}

/* --- messages --- */

static void vnc_client_set_format(struct vnc_client *c)
{
    const uint8_t *p = c->rx + 4;
    struct vnc_format f = { .bpp = p[0], .depth = p[1], .big_endian = p[2] };

    for (unsigned i = 0; i < 3; i++) {
        f.max[i] = ld_be16(p + 4 + 2 * i);
        f.shift[i] = p[10 + i];
    }
    if (!p[3] || !vnc_format_valid(&f)) /* palettes are not offered */
        c->phase = VNC_ENDED;
    else
        c->format = f;
}

static void vnc_client_encoding(struct vnc_client *c, int32_t encoding)
{
    if (encoding == ENC_ZRLE)
        c->zrle = true;
    else if (encoding == ENC_DESKTOP_SIZE)
        c->resizes = true;
    else if (encoding == ENC_QEMU_KEY && !c->raw_keys)
        c->raw_keys = c->tell_keys = true;
}

static void vnc_client_key(struct vnc_client *c, uint8_t key, bool down)
{
    if (!key)
        return;
    if (down)
        c->pressed[key / 8] |= (uint8_t)BIT(key % 8);
    else
        c->pressed[key / 8] &= (uint8_t)~BIT(key % 8);
    input_key(c->source->input, key, down);
}

/* Buttons, and the wheel, whose steps come as buttons that are pressed and released. */
static void vnc_client_pointer(struct vnc_client *c, uint8_t mask, uint16_t x, uint16_t y)
{
    unsigned pressed = mask & ~c->pointer_mask, buttons = 0;

    if (mask & POINTER_LEFT)
        buttons |= INPUT_LEFT;
    if (mask & POINTER_MIDDLE)
        buttons |= INPUT_MIDDLE;
    if (mask & POINTER_RIGHT)
        buttons |= INPUT_RIGHT;
    c->pointer_mask = mask;
    c->pointer_x = x;
    c->pointer_y = y;
    input_point(c->source->input, x, y, c->width, c->height, buttons,
                !!(pressed & POINTER_UP) - !!(pressed & POINTER_DOWN));
}

/* What the viewer calls the rest of a message of this type; 0: it does not exist. */
static unsigned vnc_client_len(const struct vnc_client *c)
{
    switch (c->rx[0]) {
    case MSG_FORMAT:
        return 20;
    case MSG_ENCODINGS:
        return 4;
    case MSG_REQUEST:
        return 10;
    case MSG_KEY:
    case MSG_CUT_TEXT:
        return 8;
    case MSG_POINTER:
        return 6;
    case MSG_QEMU:
        return 12;
    default:
        return 0;
    }
}

static void vnc_client_message(struct vnc_client *c)
{
    switch (c->rx[0]) {
    case MSG_FORMAT:
        vnc_client_set_format(c);
        break;
    case MSG_ENCODINGS:
        c->encodings = ld_be16(c->rx + 2);
        c->zrle = c->resizes = false;
        break;
    case MSG_REQUEST:
        c->wants = true;
        if (!c->rx[1])
            vnc_client_mark_all(c);
        break;
    case MSG_KEY:
        vnc_client_key(c, keymap_key(ld_be32(c->rx + 4)), c->rx[1]);
        break;
    case MSG_POINTER:
        vnc_client_pointer(c, c->rx[1], ld_be16(c->rx + 2), ld_be16(c->rx + 4));
        break;
    case MSG_CUT_TEXT:
        c->skip = ld_be32(c->rx + 4);
        break;
    case MSG_QEMU:
        if (c->rx[1] == 0)
            vnc_client_key(c, (uint8_t)ld_be32(c->rx + 8), ld_be16(c->rx + 2));
        break;
    default:
        break;
    }
}

/* Bytes that the next step takes; 0: there is none. */
static unsigned vnc_client_need(const struct vnc_client *c)
{
    switch (c->phase) {
    case VNC_VERSION:
        return VERSION_LEN;
    case VNC_SECURITY:
    case VNC_INIT:
        return 1;
    case VNC_AUTH:
        return VNC_CHALLENGE;
    case VNC_NORMAL:
        if (c->encodings)
            return 4;
        return c->rx_len ? vnc_client_len(c) : 1;
    default:
        return 0;
    }
}

static void vnc_client_step(struct vnc_client *c)
{
    switch (c->phase) {
    case VNC_VERSION:
        vnc_client_version(c);
        break;
    case VNC_SECURITY:
        vnc_client_security(c);
        break;
    case VNC_AUTH:
        vnc_client_auth(c);
        break;
    case VNC_INIT:
        vnc_client_init(c);
        break;
    default:
        if (!c->encodings) {
            vnc_client_message(c);
            break;
        }
        c->encodings--;
        vnc_client_encoding(c, (int32_t)ld_be32(c->rx));
        break;
    }
    c->rx_len = 0;
}

size_t vnc_client_feed(struct vnc_client *c, const uint8_t *bytes, size_t n)
{
    size_t taken = 0;

    while (taken < n && !c->tx.len && c->phase != VNC_ENDED) {
        unsigned need;

        if (c->skip) {
            uint32_t len = (uint32_t)min_u64(c->skip, n - taken);

            c->skip -= len;
            taken += len;
            continue;
        }
        c->rx[c->rx_len++] = bytes[taken++];
        need = vnc_client_need(c);
        if (!need)
            c->phase = VNC_ENDED;
        else if (c->rx_len >= need)
            vnc_client_step(c);
    }
    return taken;
}

/* --- updates --- */

void vnc_client_mark(struct vnc_client *c, unsigned tile_x, unsigned tile_y)
{
    c->dirty[tile_y][tile_x / 8] |= (uint8_t)BIT(tile_x % 8);
}

void vnc_client_mark_all(struct vnc_client *c)
{
    memset(c->dirty, 0xff, sizeof(c->dirty));
}

static bool vnc_client_is_marked(const struct vnc_client *c, unsigned x, unsigned y)
{
    return c->dirty[y][x / 8] & BIT(x % 8);
}

/* Marked tiles of a line, those beside each other as one rectangle; how many rectangles. */
static unsigned vnc_client_line(struct vnc_client *c, unsigned y, unsigned w, unsigned h, bool send)
{
    unsigned columns = (w + VNC_TILE - 1) / VNC_TILE, rects = 0, from = 0;

    for (unsigned x = 0; x <= columns; x++) {
        bool marked = x < columns && vnc_client_is_marked(c, x, y);

        if (!marked && from < x) {
            unsigned left = from * VNC_TILE, right = (unsigned)min_u64(x * VNC_TILE, w);
            unsigned top = y * VNC_TILE;

            rects++;
            if (send)
                vnc_encode_rect(c, left, top, right - left, (unsigned)min_u64(VNC_TILE, h - top));
        }
        if (!marked)
            from = x + 1;
    }
    return rects;
}

static unsigned vnc_client_rects(struct vnc_client *c, bool send)
{
    unsigned w = (unsigned)min_u64(c->width, c->screen->width), rects = 0;
    unsigned h = (unsigned)min_u64(c->height, c->screen->height);

    for (unsigned y = 0; y * VNC_TILE < h; y++)
        rects += vnc_client_line(c, y, w, h, send);
    return rects;
}

void vnc_client_update(struct vnc_client *c)
{
    bool resize = c->width != c->screen->width || c->height != c->screen->height;
    unsigned rects;

    if (c->phase != VNC_NORMAL || !c->wants || c->tx.len)
        return;
    resize &= c->resizes;
    if (resize) {
        c->width = c->screen->width;
        c->height = c->screen->height;
        vnc_client_mark_all(c);
    }
    rects = vnc_client_rects(c, false) + resize + c->tell_keys;
    if (!rects)
        return;
    vnc_put_u16(&c->tx, 0); /* FramebufferUpdate, padding */
    vnc_put_u16(&c->tx, (uint16_t)rects);
    if (resize)
        vnc_rect_header(&c->tx, 0, 0, c->width, c->height, ENC_DESKTOP_SIZE);
    if (c->tell_keys)
        vnc_rect_header(&c->tx, 0, 0, c->width, c->height, ENC_QEMU_KEY);
    vnc_client_rects(c, true);
    memset(c->dirty, 0, sizeof(c->dirty));
    c->wants = c->tell_keys = false;
}

void vnc_client_fini(struct vnc_client *c)
{
    for (unsigned key = 0; key < KEYMAP_KEYS; key++)
        if (c->pressed[key / 8] & BIT(key % 8))
            vnc_client_key(c, (uint8_t)key, false);
    if (c->pointer_mask)
        vnc_client_pointer(c, 0, c->pointer_x, c->pointer_y);
    if (c->zlib_ready)
        deflateEnd(&c->zlib);
    free(c->tx.data);
    c->tx = (struct vnc_buf){ 0 };
}
