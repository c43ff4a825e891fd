/* picture.c: see picture.h. A pixel at a time, but for what nearly all systems use: 32 bits in memory in order. */
#include "display/picture.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

enum { CELL_BYTES = 4, CHAR_BYTES = 128, CELL_MAX = 32, UTF8_MAX = 3 };

/* Code page 437 outside of ASCII. */
static const uint16_t picture_cp437_low[32] = {
    0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
    0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
    0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t picture_cp437_high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef,
    0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa,
    0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
    0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
    0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4,
    0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

static uint8_t picture_byte(const struct picture *p, uint32_t at)
{
    return p->mem[at & (p->len - 1)];
}

/* --- text --- */

static uint16_t picture_font_line(const struct picture *p, uint8_t ch, uint8_t attr, unsigned line)
{
    uint32_t font = p->font[attr >> 3 & 1] + (uint32_t)ch * CHAR_BYTES + line * CELL_BYTES;
    uint16_t bits = (uint16_t)(picture_byte(p, font) << 1);

    if (p->line_graphics && (ch & 0xe0) == 0xc0)
        bits |= bits >> 1 & 1;
    return bits;
}

static void picture_cell(const struct picture *p, uint32_t at, uint32_t *to, unsigned width,
                         unsigned line)
{
    uint8_t ch = picture_byte(p, at), attr = picture_byte(p, at + 1);
    uint32_t fg = p->palette[attr & 0x0f], bg = p->palette[attr >> 4 & (p->blink ? 7 : 15)];
    uint16_t bits = picture_font_line(p, ch, attr, line);

    if (p->blink && (attr & 0x80) && p->blink_off)
        bits = 0;
    if (p->cursor && at == p->cursor_at && line >= p->cursor_first && line <= p->cursor_last)
        bits = 0x1ff;
    for (unsigned x = 0; x < width; x++)
        to[x] = bits >> (8 - (x & 15)) & 1 ? fg : bg;
}

static void picture_text_line(const struct picture *p, uint32_t row, unsigned line, uint32_t *to)
{
    for (unsigned x = 0; x < p->width; x += p->cell_width, row += CELL_BYTES)
        picture_cell(p, row & (p->len - 1), to + x, (unsigned)min_u64(p->cell_width, p->width - x),
                     line);
}

static void picture_draw_text(const struct picture *p, struct surface *s)
{
    for (unsigned y = 0; y < p->height; y++) {
        unsigned from = y >= p->split ? y - p->split : y;
        uint32_t row = (y >= p->split ? 0 : p->start) + from / p->cell_height * p->pitch;

        picture_text_line(p, row, from % p->cell_height, s->pixels + (size_t)y * s->width);
    }
}

/* --- graphics --- */

static void picture_planar(const struct picture *p, uint32_t row, uint32_t *to)
{
    for (unsigned x = 0; x < p->width; x++) {
        uint32_t at = row + (x + p->pan) / 8 * 4;
        unsigned bit = 7 - (x + p->pan) % 8, color = 0;

        for (unsigned plane = 0; plane < 4; plane++)
            color |= (picture_byte(p, at + plane) >> bit & 1u) << plane;
        to[x] = p->palette[color & p->planes];
    }
}

static void picture_pairs(const struct picture *p, uint32_t row, uint32_t *to)
{
    for (unsigned x = 0; x < p->width; x++) {
        uint32_t at = row + x / 8 * 4 + (x / 4 & 1);
        unsigned shift = 6 - 2 * (x % 4);
        unsigned color =
            (picture_byte(p, at) >> shift & 3u) | (picture_byte(p, at + 2) >> shift & 3u) << 2;

        to[x] = p->palette[color & p->planes];
    }
}

static void picture_index8(const struct picture *p, uint32_t row, uint32_t *to)
{
    for (unsigned x = 0; x < p->width; x++)
        to[x] = p->palette[picture_byte(p, row + x + p->pan)];
}

/* n bits as 8, so that all ones are all ones. */
static uint32_t picture_widen(uint32_t val, unsigned bits)
{
    val &= BIT(bits) - 1;
    return val << (8 - bits) | val >> (2 * bits - 8);
}

static uint32_t picture_pixel(const struct picture *p, uint32_t row, unsigned x)
{
    uint32_t at = row + x * ((p->bpp + 7) / 8), val = 0;

    for (unsigned i = 0; i < (p->bpp + 7) / 8; i++)
        val |= (uint32_t)picture_byte(p, at + i) << (8 * i);
    if (p->bpp == 15)
        return picture_widen(val >> 10, 5) << 16 | picture_widen(val >> 5, 5) << 8 |
               picture_widen(val, 5);
    if (p->bpp == 16)
        return picture_widen(val >> 11, 5) << 16 | picture_widen(val >> 5, 6) << 8 |
               picture_widen(val, 5);
    return val & 0xffffff;
}

static void picture_rgb(const struct picture *p, uint32_t row, uint32_t *to)
{
    row &= p->len - 1;
    if (p->bpp == 32 && row + (uint64_t)p->width * 4 <= p->len) { /* the common case */
        for (unsigned x = 0; x < p->width; x++)
            to[x] = ld_le32(p->mem + row + 4 * x) & 0xffffff;
        return;
    }
    for (unsigned x = 0; x < p->width; x++)
        to[x] = picture_pixel(p, row, x);
}

/* Where the bytes of line y of a graphics mode begin. */
static uint32_t picture_row(const struct picture *p, unsigned y)
{
    unsigned line = (y >= p->split ? y - p->split : y) / p->repeat, count = line;
    uint32_t row = y >= p->split ? 0 : p->start, extra = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(p->row_bits); i++) {
        if (!p->row_bits[i])
            continue;
        extra |= count & 1 ? p->row_bits[i] : 0;
        count >>= 1;
    }
    return row + count * p->pitch + extra;
}

static void picture_draw_graphics(const struct picture *p, struct surface *s)
{
    static void (*const draw[])(const struct picture *, uint32_t, uint32_t *) = {
        [PICTURE_PLANAR] = picture_planar,
        [PICTURE_PAIRS] = picture_pairs,
        [PICTURE_INDEX8] = picture_index8,
        [PICTURE_RGB] = picture_rgb,
    };

    for (unsigned y = 0; y < p->height; y++)
        draw[p->kind](p, picture_row(p, y), s->pixels + (size_t)y * s->width);
}

int picture_draw(const struct picture *p, struct surface *s)
{
    int rc = surface_resize(s, p->width, p->height);

    if (rc)
        return rc;
    if (p->kind == PICTURE_BLANK) {
        memset(s->pixels, 0, (size_t)s->width * s->height * sizeof(*s->pixels));
        return 0;
    }
    if (p->kind != PICTURE_TEXT)
        picture_draw_graphics(p, s);
    else if (p->cell_width && p->cell_height && p->cell_height <= CELL_MAX)
        picture_draw_text(p, s);
    else
        return -EINVAL;
    return 0;
}

/* --- text as text --- */

static size_t picture_utf8(uint8_t ch, char *to)
{
    unsigned c = ch < 32      ? picture_cp437_low[ch]
                 : ch >= 0x80 ? picture_cp437_high[ch - 0x80]
                 : ch == 0x7f ? 0x2302u
                              : ch;

    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    to[0] = (char)(0xe0 | c >> 12);
    to[1] = (char)(0x80 | (c >> 6 & 0x3f));
    to[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

char *picture_text(const struct picture *p)
{
    unsigned columns, rows;
    char *text, *to;

    if (p->kind != PICTURE_TEXT || !p->cell_width || !p->cell_height)
        return strdup("");
    columns = p->width / p->cell_width;
    rows = p->height / p->cell_height;
    text = to = malloc((size_t)rows * (columns * UTF8_MAX + 1) + 1);
    if (!text)
        return NULL;
    for (unsigned y = 0; y < rows; y++) {
        char *line = to;

        for (unsigned x = 0; x < columns; x++)
            to += picture_utf8(picture_byte(p, p->start + y * p->pitch + x * CELL_BYTES), to);
        while (to > line && to[-1] == ' ')
            to--;
        *to++ = '\n';
    }
    *to = '\0';
    return text;
}
