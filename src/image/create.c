#include "image/create.h"

#include <errno.h>

#include "block/formats.h"
#include "image/out.h"

int image_create_empty(const struct blk_create_opts *o, struct err *e)
{
    const struct blk_ops *ops = blk_format_find(o->format ? o->format : "raw");
    struct out_opts opts = {
        .path = o->path, .format = o->format, .size = o->size, .options = o->options
    };
    struct out *out;
    int rc;

    if (!ops || ops->create)
        return blk_create(o, e);
    if (o->backing)
        return err_set(e, EINVAL,
                       "image '%s': %s images are made without a backing file; -f qcow2 "
                       "can have one",
                       o->path, o->format);
    out = out_open(&opts, NULL, e);
    rc = out ? out_finish(out, e) : -EINVAL;
    out_close(out);
    return rc;
}
