/*
 * ata_identify.c: IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA/ATAPI-7 volume 1, 6.17 and 6.18): 256
 * words. Text is in big-endian words, padded with blanks.
 */
#include "hw/ata.h"

#include <string.h>

#include "base/endian.h"

enum { ID_BYTES = 512 };
#define ID_MAX28 0x0fffffffu

static void ata_word(uint8_t *out, unsigned n, uint16_t val)
{
    st_le16(out + 2 * n, val);
}

static void ata_text(uint8_t *out, unsigned first, unsigned words, const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < 2 * (size_t)words; i++)
        out[2 * first + (i ^ 1)] = i < len ? (uint8_t)text[i] : ' ';
}

/* Modes of transfers: all up to PIO 4, multiword DMA 2, Ultra DMA 5; the high bytes say which is set. */
static void ata_identify_modes(const struct ata_drive *d, uint8_t *out)
{
    uint16_t selected = (uint16_t)(BIT(d->mode & 7) << 8);

    ata_word(out, 53, 7);
    ata_word(out, 63, (uint16_t)(7 | (d->mode >> 3 == 4 ? selected : 0)));
    ata_word(out, 64, 3);
    for (unsigned i = 65; i <= 68; i++)
        ata_word(out, i, 120); /* ns a cycle */
    ata_word(out, 88, (uint16_t)(0x3f | (d->mode >> 3 == 8 ? selected : 0)));
}

static void ata_identify_chs(const struct ata_drive *d, uint8_t *out)
{
    uint64_t total = min_u64(d->max, ID_MAX28), current;

    ata_word(out, 1, d->chs.cylinders);
    ata_word(out, 3, d->chs.heads);
    ata_word(out, 4, (uint16_t)(BLK_SECTOR * d->chs.sectors)); /* unformatted bytes, of old */
    ata_word(out, 5, BLK_SECTOR);
    ata_word(out, 6, d->chs.sectors);
    current = min_u64(d->max / ((uint64_t)d->heads * d->sectors), UINT16_MAX);
    ata_word(out, 54, (uint16_t)current);
    ata_word(out, 55, d->heads);
    ata_word(out, 56, d->sectors);
    st_le32(out + 2 * 57, (uint32_t)(current * d->heads * d->sectors));
    st_le32(out + 2 * 60, (uint32_t)total);
    st_le64(out + 2 * 100, d->max);
}

static void ata_identify_disk(const struct ata_drive *d, uint8_t *out)
{
    ata_word(out, 0, 0x0040); /* fixed */
    ata_identify_chs(d, out);
    ata_text(out, 27, 20, "RUCHE HARDDISK");
    ata_word(out, 47, 0x8000 | ATA_MAX_MULTIPLE);
    ata_word(out, 59, d->multiple ? 0x100 | d->multiple : 0);
    ata_word(out, 80, 0x00f0); /* ATA-4 to 7 */
    ata_word(out, 82, 0x4421); /* NOP, host protected area, write cache, SMART */
    ata_word(out, 83, 0x7400); /* FLUSH CACHE, and EXT; 48-bit addresses */
    ata_word(out, 84, 0x4040); /* WRITE DMA FUA EXT */
    ata_word(out, 85, (uint16_t)(0x4400 | (d->write_cache ? 0x20 : 0) | d->smart));
    ata_word(out, 86, 0x3400);
    ata_word(out, 87, 0x4040);
    ata_word(out, 93, 0x6001);  /* 80 wires */
    ata_word(out, 106, 0x6003); /* 8 logical sectors in a physical one */
    ata_word(out, 217, 1);      /* does not rotate */
}

/* What is different, and what is more, at a serial link. */
static void ata_identify_sata(const struct ata_drive *d, uint8_t *out)
{
    ata_word(out, 76, d->cdrom ? 0x000e : 0x010e); /* all speeds; queued commands */
    ata_word(out, 80, 0x03f0);                     /* to ATA/ATAPI-8 and ACS-2 */
    ata_word(out, 93, 0);
    ata_word(out, 222, 0x1020); /* serial, SATA 2.6 */
    if (d->cdrom)
        return;
    ata_word(out, 75, ATA_NCQ_DEPTH - 1);
    ata_word(out, 84, 0x4060); /* and logs */
    ata_word(out, 87, 0x4060);
    ata_word(out, 105, ATA_TRIM_SECTORS);
    ata_word(out, 119, 0x4008); /* READ LOG DMA EXT */
    ata_word(out, 120, 0x4008);
    ata_word(out, 86, 0xb400); /* words 119 and 120 are valid */
    ata_word(out, 169, 1);     /* TRIM */
}

static void ata_identify_cdrom(uint8_t *out)
{
    ata_word(out, 0, 0x85c0); /* ATAPI, CD-ROM, removable, quick to take packets of 12 bytes */
    ata_text(out, 27, 20, "RUCHE CD-ROM");
    ata_word(out, 80, 0x00f0);
    ata_word(out, 82, 0x4210); /* NOP, DEVICE RESET, packets */
    ata_word(out, 83, 0x4000);
    ata_word(out, 84, 0x4000);
    ata_word(out, 85, 0x4210);
    ata_word(out, 87, 0x4000);
}

void ata_identify(const struct ata_drive *d, uint8_t *out)
{
    memset(out, 0, ID_BYTES);
    ata_text(out, 10, 10, d->serial);
    ata_text(out, 23, 4, "1.0");
    ata_word(out, 48, 1);      /* 32-bit accesses */
    ata_word(out, 49, 0x0f00); /* IORDY, LBA, DMA */
    ata_word(out, 50, 0x4000);
    ata_identify_modes(d, out);
    if (d->cdrom)
        ata_identify_cdrom(out);
    else
        ata_identify_disk(d, out);
    if (d->sata)
        ata_identify_sata(d, out);
}
