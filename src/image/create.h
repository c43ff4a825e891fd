/*
 * create.h: new empty images in every format that can be written. Loop thread, blocking.
 */
#ifndef IMAGE_CREATE_H
#define IMAGE_CREATE_H

#include "block/block.h"

/* As blk_create(), and for the formats that are only written by conversions too. */
must_check int image_create_empty(const struct blk_create_opts *o, struct err *e);

#endif
