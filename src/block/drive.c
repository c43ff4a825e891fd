/* drive.c: see drive.h. */
#include "block/drive.h"

#include <errno.h>

struct drive {
    const struct drive_ops *ops; /* NULL: nobody uses it yet */
    void *opaque;
};

static void drive_take_over(struct blk *b, struct blk *medium)
{
    b->child = medium;
    b->empty = !medium;
    b->size = medium ? atomic_load(&medium->size) : 0;
    b->readonly = !medium || medium->readonly;
    b->write_through = medium && medium->write_through;
}

static int drive_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)o;
    b->priv = calloc(1, sizeof(struct drive));
    if (!b->priv)
        return err_set(e, ENOMEM, "out of memory");
    drive_take_over(b, b->child);
    return 0;
}

static void drive_close(struct blk *b)
{
    free(b->priv);
}

/* What an empty drive is asked block.c answers. */
static void drive_submit(struct blk *b, struct blk_req *r)
{
    b->child->ops->submit(b->child, r);
}

static const struct blk_ops drive_blk_ops = {
    .format = "drive",
    .layer = true,
    .open = drive_open,
    .close = drive_close,
    .submit = drive_submit,
};

static struct drive *drive_of(const struct blk *b)
{
    return b->priv;
}

struct blk *drive_create(struct loop *l, const char *name, struct blk *medium, struct err *e)
{
    const struct blk_opts o = { .path = name, .loop = l };

    return blk_open_driver(&drive_blk_ops, medium, &o, e);
}

void drive_attach(struct blk *b, const struct drive_ops *ops, void *opaque)
{
    if (b && b->ops == &drive_blk_ops && drive_of(b)->opaque != opaque)
        *drive_of(b) = (struct drive){ ops, opaque };
}

struct blk *drive_medium(const struct blk *drive)
{
    return drive->child;
}

unsigned drive_tray(const struct blk *drive)
{
    const struct drive *d = drive_of(drive);

    return d->ops && d->ops->tray ? d->ops->tray(d->opaque) : 0;
}

int drive_fits(const struct blk *drive, const struct blk *medium, struct err *e)
{
    const struct drive *d = drive_of(drive);

    return d->ops && d->ops->fits ? d->ops->fits(d->opaque, medium, e) : 0;
}

void drive_change(struct blk *drive, struct blk *medium)
{
    const struct drive *d = drive_of(drive);
    struct blk *old = drive->child;

    BUG_ON(atomic_load(&drive->in_flight));
    drive_take_over(drive, medium);
    blk_close(old);
    if (d->ops)
        d->ops->changed(d->opaque);
}

void drive_ask(struct blk *drive)
{
    const struct drive *d = drive_of(drive);

    if (d->ops && d->ops->ask)
        d->ops->ask(d->opaque);
}
