/*
 * ata_chs.c: the geometry of a disk. An image may have been made on a PC, or for a VMM, with another geometry
 * than the usual one. Boot sectors and DOS take it for granted, and partitions tell: they end at the end of a cylinder.
 */
#include "hw/ata_chs.h"

#include "base/endian.h"

enum {
    CHS_HEADS = 16,
    CHS_SECTORS = 63,
    CHS_CYLINDERS = 16383,
    CHS_BIOS_CYLINDERS = 1024,
    CHS_LARGE_TRACKS = 131072, /* 1024 cylinders of 128 heads: doubling the heads gets no further */
};
enum {
    MBR_ENTRY = 446,
    MBR_ENTRY_LEN = 16,
    MBR_ENTRIES = 4,
    MBR_SIGNATURE = 510,
    /* in an entry: the last head, the last sector, how many sectors */
    MBR_END_HEAD = 5,
    MBR_END_SECTOR = 6,
    MBR_LEN = 12,
};

struct ata_chs ata_chs_usual(uint64_t sectors)
{
    uint64_t n = sectors / (CHS_HEADS * CHS_SECTORS);

    return (struct ata_chs){ (uint16_t)min_u64(max_u64(n, 1), CHS_CYLINDERS), CHS_HEADS,
                             CHS_SECTORS };
}

/* heads: 1 to 256. False: none of the partitions tells. */
static bool chs_of_partitions(uint64_t total, const uint8_t *mbr, unsigned *heads,
                              unsigned *sectors, uint64_t *cylinders)
{
    if (ld_le16(mbr + MBR_SIGNATURE) != 0xaa55)
        return false;
    for (unsigned i = 0; i < MBR_ENTRIES; i++) {
        const uint8_t *p = mbr + MBR_ENTRY + i * MBR_ENTRY_LEN;

        *heads = p[MBR_END_HEAD] + 1u;
        *sectors = p[MBR_END_SECTOR] & 63;
        if (!ld_le32(p + MBR_LEN) || *heads == 1 || !*sectors)
            continue;
        *cylinders = total / (*heads * *sectors);
        if (*cylinders && *cylinders <= CHS_CYLINDERS)
            return true;
    }
    return false;
}

struct ata_chs ata_chs_guess(uint64_t sectors, const uint8_t *mbr, enum ata_translation *how)
{
    struct ata_chs chs = ata_chs_usual(sectors);
    unsigned heads, spt;
    uint64_t cylinders;

    *how = chs.cylinders <= CHS_BIOS_CYLINDERS ? ATA_TRANSLATE_NONE : ATA_TRANSLATE_LBA;
    if (!chs_of_partitions(sectors, mbr, &heads, &spt, &cylinders))
        return chs;
    if (heads > CHS_HEADS) { /* no drive has as many: firmware had translated */
        *how =
            chs.cylinders * chs.heads <= CHS_LARGE_TRACKS ? ATA_TRANSLATE_LARGE : ATA_TRANSLATE_LBA;
        return chs;
    }
    *how = ATA_TRANSLATE_NONE;
    return (struct ata_chs){ (uint16_t)cylinders, (uint8_t)heads, (uint8_t)spt };
}

void ata_chs_state(struct ata_chs *chs, struct state *s)
{
    state_u16(s, &chs->cylinders);
    state_u8(s, &chs->heads);
    state_u8(s, &chs->sectors);
    state_require(s, chs->heads <= CHS_HEADS && chs->sectors <= CHS_SECTORS, "no such geometry");
}
