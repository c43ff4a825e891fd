/*
 * rbd_none.c: in place of rbd.c where librbd-dev was missing when Ruche was built.
 */
#include <errno.h>

#include "block/formats.h"

static int rbd_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)b;
    return err_set(
        e, ENOTSUP,
        "disk '%s': this build of Ruche has no RBD: install librbd-dev, and build it anew",
        o->path);
}

const struct blk_ops blk_rbd_ops = { .format = "rbd", .open = rbd_open };
