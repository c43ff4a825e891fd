#include "display/surface.h"

#include <errno.h>

int surface_resize(struct surface *s, unsigned width, unsigned height)
{
    uint32_t *pixels;

    if (!width || !height || width > SURFACE_MAX || height > SURFACE_MAX)
        return -EINVAL;
    if (s->width == width && s->height == height)
        return 0;
    pixels = calloc((size_t)width * height, sizeof(*pixels));
    if (!pixels)
        return -ENOMEM;
    free(s->pixels);
    s->width = width;
    s->height = height;
    s->pixels = pixels;
    return 0;
}

void surface_fini(struct surface *s)
{
    free(s->pixels);
    *s = (struct surface){ 0 };
}
