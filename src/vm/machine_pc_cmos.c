/*
 * machine_pc_cmos.c: what the CMOS of a PC says of the disks at its IDE controller: SeaBIOS reads there how it is to
 * translate cylinders, and systems that do without the BIOS the geometries of the first two (type 47 of the AT).
 */
#include "vm/machine_pc_priv.h"

#include <string.h>

#include "hw/mc146818.h"

enum {
    CMOS_DISK_TYPES = 0x12,  /* bits 7 to 4: of the first, 3 to 0: of the second; 15: see there */
    CMOS_DISK_TYPE = 0x19,   /* of the first; of the second behind it */
    CMOS_DISK_PARAMS = 0x1b, /* of the first; of the second behind them */
    CMOS_TRANSLATION = 0x39, /* two bits for each of four */
    CMOS_DISKS = 2,
    CMOS_TYPE_USER = 47,
};

static void cmos_disk_params(struct machine *m, unsigned n, const struct ata_chs *chs)
{
    const uint8_t low = (uint8_t)chs->cylinders, high = (uint8_t)(chs->cylinders >> 8);
    const uint8_t control = chs->heads > 8 ? 0xc8 : 0xc0;
    /* cylinders, heads, no write precompensation, control, landing zone, sectors */
    const uint8_t params[] = {
        low, high, chs->heads, 0xff, 0xff, control, low, high, chs->sectors
    };
    const uint8_t at = (uint8_t)(CMOS_DISK_PARAMS + n * sizeof(params));

    mc146818_set_cmos(m->rtc, (uint8_t)(CMOS_DISK_TYPE + n), CMOS_TYPE_USER);
    for (unsigned i = 0; i < sizeof(params); i++)
        mc146818_set_cmos(m->rtc, (uint8_t)(at + i), params[i]);
}

/* A disk that cannot be read is left to the guest to find out. */
static enum ata_translation cmos_look_at_disk(struct ide_media *disk)
{
    uint8_t mbr[BLK_SECTOR] = { 0 };
    enum ata_translation how;

    if (disk->disk->size < sizeof(mbr) || blk_read_sync(disk->disk, 0, mbr, sizeof(mbr)))
        memset(mbr, 0, sizeof(mbr));
    disk->chs = ata_chs_guess(disk->disk->size / BLK_SECTOR, mbr, &how);
    return how;
}

void pc_ide_geometry(struct machine *m, struct ide_media media[IDE_DRIVES])
{
    unsigned translation = 0, types = 0;

    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        if (!media[i].disk || media[i].cdrom)
            continue;
        translation |= (unsigned)cmos_look_at_disk(&media[i]) << 2 * i;
        if (i < CMOS_DISKS) {
            cmos_disk_params(m, i, &media[i].chs);
            types |= 0xf0u >> 4 * i;
        }
    }
    mc146818_set_cmos(m->rtc, CMOS_DISK_TYPES, (uint8_t)types);
    mc146818_set_cmos(m->rtc, CMOS_TRANSLATION, (uint8_t)translation);
}
