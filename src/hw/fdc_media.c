/*
 * fdc_media.c: which floppy is in a drive of the floppy disk controller: its format, what the drive takes, and the
 * change of floppies while the VM runs.
 */
#include "hw/fdc_impl.h"

#include <errno.h>

#include "block/drive.h"

enum {
    FDC_RATE_500 = BIT(0),
    FDC_RATE_300 = BIT(1),
    FDC_RATE_250 = BIT(2),
    FDC_RATE_1000 = BIT(3)
};
enum { FDC_CMOS_360K = 1, FDC_CMOS_1200K, FDC_CMOS_720K, FDC_CMOS_1440K, FDC_CMOS_2880K };

/* By size; what is not among them is the smallest of the last three that it fits on. */
static const struct fdc_format fdc_formats[] = {
    { 320, 40, 1, 8, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_360K },
    { 360, 40, 1, 9, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_360K },
    { 640, 40, 2, 8, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_360K },
    { 720, 40, 2, 9, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_360K },
    { 1280, 80, 2, 8, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_720K },
    { 1440, 80, 2, 9, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_720K },
    { 1600, 80, 2, 10, FDC_RATE_250 | FDC_RATE_300, FDC_CMOS_720K },
    { 2400, 80, 2, 15, FDC_RATE_500, FDC_CMOS_1200K },
    { 3200, 80, 2, 20, FDC_RATE_500, FDC_CMOS_1440K },
    { 3444, 82, 2, 21, FDC_RATE_500, FDC_CMOS_1440K },
    { 2880, 80, 2, 18, FDC_RATE_500, FDC_CMOS_1440K },
    { 3360, 80, 2, 21, FDC_RATE_500, FDC_CMOS_1440K },
    { 5760, 80, 2, 36, FDC_RATE_1000, FDC_CMOS_2880K },
};
enum { FDC_FIRST_GUESS = 10 };

/* Of an empty drive: of 1.44M. */
static const struct fdc_format *fdc_format_of(const struct blk *disk)
{
    uint64_t sectors = (disk->size + BLK_SECTOR - 1) / BLK_SECTOR;
    unsigned i = 0;

    while (i < ARRAY_SIZE(fdc_formats) && fdc_formats[i].sectors != sectors)
        i++;
    if (i == ARRAY_SIZE(fdc_formats))
        for (i = FDC_FIRST_GUESS;
             i + 1 < ARRAY_SIZE(fdc_formats) && fdc_formats[i].sectors < sectors;)
            i++;
    return &fdc_formats[i];
}

uint8_t fdc_cmos_type(const struct blk *disk)
{
    return disk ? fdc_format_of(disk)->cmos : 0;
}

/* --- change --- */

static int fdc_media_fits(void *opaque, const struct blk *medium, struct err *e)
{
    const struct fdc_drive *d = opaque;
    uint64_t most = (uint64_t)d->sectors * BLK_SECTOR;

    if (medium->size <= most)
        return 0;
    return err_set(
        e, EFBIG,
        "floppy '%s' has %llu KiB, and this drive takes %llu KiB at most: a drive's kind is that "
        "of the floppy that it starts with, or 1.44M if it starts empty",
        medium->path, (unsigned long long)(medium->size / KIB), (unsigned long long)(most / KIB));
}

/* A command that is in the midst of its data finds that there is no floppy under the head any more. */
static void fdc_media_changed(void *opaque)
{
    struct fdc_drive *d = opaque;
    struct fdc *f = d->fdc;

    d->changed = true;
    if (fdc_has_floppy(d))
        d->format = fdc_format_of(d->disk);
    if (f->x.op == FDC_NONE || d != &f->drive[f->x.unit])
        return;
    fdc_xfer_abort(f);
    fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_ADDRESS, 0);
}

void fdc_media_init(struct fdc *f, unsigned unit, struct blk *disk)
{
    static const struct drive_ops ops = { .fits = fdc_media_fits, .changed = fdc_media_changed };
    struct fdc_drive *d = &f->drive[unit];

    d->fdc = f;
    d->disk = disk;
    d->changed = true;
    if (!disk)
        return;
    d->format = fdc_format_of(disk);
    for (unsigned i = 0; i < ARRAY_SIZE(fdc_formats); i++)
        if (fdc_formats[i].cmos == d->format->cmos && fdc_formats[i].sectors > d->sectors)
            d->sectors = fdc_formats[i].sectors;
    drive_attach(disk, &ops, d);
}
