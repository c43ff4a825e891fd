/*
 * fdc.h: a floppy disk controller (82078) with up to two drives, A: and B:, whose type follows from the size of
 * the image in it.
 *
 * Threads: created before the vCPUs start; registers from any vCPU; the disk completes on the loop thread.
 */
#ifndef HW_FDC_H
#define HW_FDC_H

#include "block/block.h"
#include "hw/i8237.h"

enum { FDC_DRIVES = 2 };
struct fdc;
struct fdc_at {
    uint16_t
        base; /* of seven ports without the sixth, which is the hard disk's: base to base + 5, base + 7 */
    struct irq irq;
    struct i8237 *dma;
    unsigned channel;
};

/*
 * The controller owns the disks (NULL: no such drive; each at most FDC_IMAGE_MAX bytes) if it returns one; else NULL
 * with a sentence, and they stay the caller's.
 */
#define FDC_IMAGE_MAX 2949120u
struct fdc *fdc_create(struct vm *vm, const struct fdc_at *at, struct blk *const disk[FDC_DRIVES],
                       struct err *e);
/* The type of the drive for an image, as CMOS byte 0x10 has it; 0 for NULL. */
uint8_t fdc_cmos_type(const struct blk *disk);

#endif
