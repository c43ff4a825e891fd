/* fuzz_media.c: see fuzz_media.h. */
#include "fuzz_media.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEDIA_STEP = 90 * KIB };

struct blk *fuzz_media_open(struct vm *vm, uint64_t size, bool readonly)
{
    struct blk_opts o = {
        .path = "medium", .format = "raw", .loop = vm_loop(vm), .readonly = readonly
    };
    struct blk *disk;

    o.fd = memfd_create("medium", MFD_CLOEXEC);
    BUG_ON(o.fd <= 0 || ftruncate(o.fd, (off_t)size) != 0);
    disk = blk_open(&o, NULL);
    BUG_ON(!disk);
    close(o.fd);
    return disk;
}

struct blk *fuzz_media_drive(struct vm *vm, uint64_t size, bool readonly)
{
    struct blk *drive =
        drive_create(vm_loop(vm), "drive", fuzz_media_open(vm, size, readonly), NULL);

    BUG_ON(!drive);
    return drive;
}

void fuzz_media_restore(struct vm *vm, struct blk *drive, uint64_t size, bool readonly)
{
    if (drive->empty || drive->size != size || drive->readonly != readonly)
        drive_change(drive, fuzz_media_open(vm, size, readonly));
}

void fuzz_media_op(struct vm *vm, struct blk *drive, struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in);
    struct blk *medium = NULL;

    device_quiesce_all(*vm_devices(vm));
    if (what & 1)
        medium = fuzz_media_open(vm, (uint64_t)((what >> 2) + 1) * MEDIA_STEP, what & 2);
    if (medium && drive_fits(drive, medium, NULL)) {
        blk_close(medium);
        medium = NULL;
    }
    if (!medium && what & 2)
        drive_ask(drive);
    else
        drive_change(drive, medium);
    device_sync_all(*vm_devices(vm));
}
