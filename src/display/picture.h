/*
 * picture.h: what a graphics adapter shows, told without its registers, and drawn to a surface or read as
 * text. Any thread; the memory is the guest's and may change meanwhile.
 */
#ifndef DISPLAY_PICTURE_H
#define DISPLAY_PICTURE_H

#include "display/surface.h"

enum picture_kind {
    PICTURE_BLANK,
    PICTURE_TEXT,   /* cells of {character, attribute, font, -}, 4 bytes each */
    PICTURE_PLANAR, /* 8 pixels in 4 bytes, a byte a plane */
    PICTURE_PAIRS, /* CGA: 8 pixels of 2 bits in bytes 0 and 1 of 4; bytes 2 and 3 have the upper bits */
    PICTURE_INDEX8, /* a byte is an index into the palette */
    PICTURE_RGB,    /* by bpp: 15, 16, 24, 32 */
};
struct picture {
    enum picture_kind kind;
    unsigned width, height; /* of the surface, pixels */
    const uint8_t *mem;     /* accesses wrap around at len, a power of two */
    uint32_t len;
    uint32_t start, pitch; /* of the first line or row, in bytes; from one to the next */
    unsigned split;        /* from this line on it starts at 0 again; >= height: never */
    unsigned pan;          /* pixels cut off at the left */
    unsigned repeat;       /* lines that show the same bytes, at least 1 */
    uint32_t row_bits[2];  /* address bits that count lines (CGA, Hercules); 0: none */
    unsigned bpp;          /* RGB */
    uint32_t palette[256]; /* 00RRGGBB; text and planar: the first 16 */
    uint8_t planes;        /* planar: those that count */
    /* text */
    unsigned cell_width, cell_height;
    uint32_t font
        [2]; /* address of character 0's first line, 128 bytes a character; by attribute bit 3 */
    bool blink, blink_off; /* attribute bit 7 blinks, and such characters are off right now */
    bool line_graphics;    /* of 9 columns, c0 to df repeat their 8th */
    bool cursor;
    uint32_t cursor_at;                 /* address of its cell */
    unsigned cursor_first, cursor_last; /* lines in the cell */
};

/* Resizes s. 0 or -errno: a size that no surface has. */
must_check int picture_draw(const struct picture *p, struct surface *s);
/* Text mode's characters in UTF-8 (code page 437), a line each; malloc'd. "" in any other mode. */
char *picture_text(const struct picture *p);

#endif
