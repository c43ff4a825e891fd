/*
 * nbd_none.c: in place of nbd.c where libnbd-dev was missing when Ruche was built.
 */
#include <errno.h>

#include "block/formats.h"

static int nbd_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)b;
    return err_set(
        e, ENOTSUP,
        "disk '%s': this build of Ruche has no NBD: install libnbd-dev, and build it anew",
        o->path);
}

const struct blk_ops blk_nbd_ops = { .format = "nbd", .open = nbd_open };
