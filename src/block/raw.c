/*
 * raw.c: the bytes of the file are the bytes of the disk. A file whose size is no multiple of a sector is
 * a disk rounded up to one: file.c reads zeros beyond the end and lets a write there extend the file.
 */
#include "block/formats.h"

static int raw_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)o;
    (void)e;
    b->size = align_up(b->child->size, BLK_SECTOR);
    return 0;
}

static void raw_submit(struct blk *b, struct blk_req *r)
{
    b->child->ops->submit(b->child, r);
}

const struct blk_ops blk_raw_ops = {
    .format = "raw",
    .open = raw_open,
    .submit = raw_submit,
};
