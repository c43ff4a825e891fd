#include "image/create.h"

int image_create_empty(const struct blk_create_opts *o, struct err *e)
{
    return blk_create(o, e);
}
