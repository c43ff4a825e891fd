/*
 * png.h: a surface as a PNG file (PNG specification, second edition). Any thread.
 */
#ifndef DISPLAY_PNG_H
#define DISPLAY_PNG_H

#include "display/surface.h"

/* malloc'd, *len bytes; NULL: out of memory. s has a size. */
uint8_t *png_encode(const struct surface *s, size_t *len);

#endif
