/*
 * qcow2_resize.c: another size, and space that is taken in advance.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_priv.h"

int qcow2_preallocate(struct blk *b, uint64_t from, enum blk_prealloc mode, struct err *e)
{
    (void)from;
    (void)mode;
    return err_set(e, ENOTSUP, "disk '%s': not yet", b->path);
}
int qcow2_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *e)
{
    (void)fix;
    (void)c;
    return err_set(e, ENOTSUP, "disk '%s': not yet", b->path);
}
