/*
 * atapi.c: the ATA commands of a CD-ROM drive (ATA/ATAPI-7 volume 1, 6): what is not a packet.
 */
#include "hw/ata.h"

enum { ATAPI_DMA = BIT(0), ATAPI_ID_LEN = 512 };
enum {
    ATA_READ_SECTORS = 0x20,
    ATAPI_PACKET = 0xa0,
    ATAPI_IDENTIFY = 0xa1,
    ATA_STANDBY_NOW = 0xe0,
    ATA_IDLE_NOW = 0xe1,
    ATA_CHECK_POWER = 0xe5,
    ATA_SLEEP = 0xe6,
    ATA_IDENTIFY = 0xec,
    ATA_SET_FEATURES = 0xef,
};

void atapi_command(struct ata_drive *d, uint8_t command, struct ata_job *j)
{
    switch (command) {
    case ATAPI_PACKET:
        j->act = ATA_PACKET;
        j->dma = d->reg[ATA_FEATURE] & ATAPI_DMA;
        break;
    case ATAPI_IDENTIFY:
        ata_identify(d, j->buf);
        ata_send(j, ATAPI_ID_LEN);
        break;
    case ATA_READ_SECTORS:
    case ATA_IDENTIFY: /* a disk's: they end with what tells that this is none */
        ata_signature(d);
        ata_fail(j, ATA_ABRT);
        break;
    case ATA_SET_FEATURES:
    case ATA_STANDBY_NOW:
    case ATA_IDLE_NOW:
    case ATA_CHECK_POWER:
    case ATA_SLEEP:
        ata_disk_command(d, command, j);
        break;
    default:
        ata_fail(j, ATA_ABRT);
        break;
    }
}
