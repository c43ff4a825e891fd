/*
 * surface.h: a picture as pixels, 00RRGGBB each, without gaps between its lines. Its owner's thread only.
 */
#ifndef DISPLAY_SURFACE_H
#define DISPLAY_SURFACE_H

#include "base/err.h"

enum { SURFACE_MAX = 4096 }; /* pixels in either direction */

struct surface {
    unsigned width, height; /* 0: nothing yet */
    uint32_t *pixels;       /* width * height; owned */
};

/* Contents are undefined afterwards if the size changes. 0, -EINVAL (0 or over SURFACE_MAX), -ENOMEM. */
must_check int surface_resize(struct surface *s, unsigned width, unsigned height);
void surface_fini(struct surface *s);

#endif
