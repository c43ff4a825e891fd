/*
 * ata_chs.h: by which cylinders, heads and sectors systems of the time before LBA address a disk. Pure functions.
 */
#ifndef HW_ATA_CHS_H
#define HW_ATA_CHS_H

#include "state/state.h"

struct ata_chs {
    uint16_t cylinders;
    uint8_t heads, sectors; /* 0: not known */
};

/* How firmware fits a disk's cylinders into the 10 bits of INT 13h; numbers of CMOS byte 0x39. */
enum ata_translation { ATA_TRANSLATE_NONE, ATA_TRANSLATE_LBA, ATA_TRANSLATE_LARGE };

/* What drives say of themselves: 16 heads, 63 sectors. */
struct ata_chs ata_chs_usual(uint64_t sectors);
/*
 * The geometry that a disk of `sectors` was partitioned for, as its first sector (ATA_SECTOR bytes, the
 * guest's) tells; else the usual one. *how: what firmware has to do then.
 */
struct ata_chs ata_chs_guess(uint64_t sectors, const uint8_t *mbr, enum ata_translation *how);
void ata_chs_state(struct ata_chs *chs, struct state *s);

#endif
