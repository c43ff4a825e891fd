/*
 * atapi.c: a CD-ROM drive: ATAPI commands (ATA/ATAPI-7 volume 1, 6), and packets with SCSI commands (MMC-4,
 * SPC-3). The medium is one data track of 2048-byte blocks. Not modelled: audio, writing, changers.
 */
#include "hw/ide_impl.h"

#include <string.h>

#include "base/endian.h"

enum { ATAPI_DMA = BIT(0), ATAPI_DRQ_MAX = 0xfffe, ATAPI_ID_LEN = 512 };
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
enum { /* sense keys with their codes: key << 16 | asc << 8 | ascq */
       SENSE_NONE = 0,
       SENSE_NO_MEDIUM = 0x023a00,
       SENSE_BAD_COMMAND = 0x052000,
       SENSE_BAD_ADDRESS = 0x052100,
       SENSE_BAD_FIELD = 0x052400,
       SENSE_LOCKED = 0x055302,
       SENSE_CHANGED = 0x062800,
};
enum {
    SCSI_TEST_UNIT_READY = 0x00,
    SCSI_REQUEST_SENSE = 0x03,
    SCSI_INQUIRY = 0x12,
    SCSI_START_STOP = 0x1b,
    SCSI_PREVENT = 0x1e,
    SCSI_READ10 = 0x28,
    SCSI_SEEK10 = 0x2b,
    SCSI_VERIFY10 = 0x2f,
    SCSI_GET_CONFIGURATION = 0x46,
    SCSI_GET_EVENT = 0x4a,
    SCSI_MODE_SENSE6 = 0x1a,
    SCSI_MODE_SENSE10 = 0x5a,
    SCSI_READ12 = 0xa8,
    SCSI_SET_SPEED = 0xbb,
    SCSI_MECHANISM = 0xbd,
    SCSI_READ_CD = 0xbe,
};

static void atapi_sense(struct ide_drive *d, uint32_t sense)
{
    d->sense_key = (uint8_t)(sense >> 16);
    d->asc = (uint8_t)(sense >> 8);
    d->ascq = (uint8_t)sense;
}

static void atapi_fail(struct ide_drive *d, uint32_t sense)
{
    atapi_sense(d, sense);
    ide_fail(d, (uint8_t)(d->sense_key << 4 | ATA_ABRT));
}

/* How many bytes the host takes at a stretch: even, as it said in the byte count registers. */
static uint32_t atapi_limit(const struct ide_drive *d)
{
    uint32_t n = (uint32_t)d->reg[IDE_LBA2] << 8 | d->reg[IDE_LBA1];

    return n >= 2 ? n & ATAPI_DRQ_MAX : ATAPI_DRQ_MAX;
}

static void atapi_reply(struct ide_drive *d, uint32_t len)
{
    if (!len)
        ide_end(d);
    else if (d->dma)
        ide_dma_send(d, len);
    else
        ide_pio_send(d, len, atapi_limit(d));
}

/* --- the medium --- */

static void atapi_read(struct ide_drive *d, uint32_t lba, uint32_t n)
{
    uint64_t off = (uint64_t)lba * ATAPI_BLOCK, len = (uint64_t)n * ATAPI_BLOCK;

    if (lba > atapi_blocks(d) || n > atapi_blocks(d) - lba)
        atapi_fail(d, SENSE_BAD_ADDRESS);
    else if (!n)
        ide_end(d);
    else if (d->dma)
        ide_dma_disk(d, off, len, false, false);
    else
        ide_pio_read(d, off, len, atapi_limit(d));
}

/* Only the 2048 bytes of user data, or nothing. */
static void atapi_read_cd(struct ide_drive *d, const uint8_t *cdb)
{
    uint32_t n = (uint32_t)cdb[6] << 16 | (uint32_t)cdb[7] << 8 | cdb[8];

    if ((cdb[9] & 0xf8) == 0x10)
        atapi_read(d, ld_be32(cdb + 2), n);
    else if (cdb[9] & 0xf8)
        atapi_fail(d, SENSE_BAD_FIELD);
    else
        ide_end(d);
}

static void atapi_start_stop(struct ide_drive *d, uint8_t what)
{
    bool eject = (what & 3) == 2, load = (what & 3) == 3;

    if (eject && d->locked) {
        atapi_fail(d, SENSE_LOCKED);
        return;
    }
    d->changed = d->changed || (load && d->open);
    d->open = (d->open || eject) && !load;
    ide_end(d);
}

/* --- packets --- */

static bool atapi_any_time(uint8_t op)
{
    return op == SCSI_REQUEST_SENSE || op == SCSI_INQUIRY || op == SCSI_GET_CONFIGURATION ||
           op == SCSI_GET_EVENT || op == SCSI_START_STOP || op == SCSI_PREVENT ||
           op == SCSI_MECHANISM || op == SCSI_SET_SPEED || op == SCSI_MODE_SENSE6 ||
           op == SCSI_MODE_SENSE10;
}

/* True: the packet has failed because of the medium. */
static bool atapi_not_ready(struct ide_drive *d, uint8_t op)
{
    bool changed = d->changed;

    if (atapi_any_time(op) || (!d->changed && !d->open))
        return false;
    d->changed = false;
    atapi_fail(d, changed ? SENSE_CHANGED : SENSE_NO_MEDIUM);
    return true;
}

static void atapi_inform(struct ide_drive *d, const uint8_t *cdb)
{
    uint32_t len = 0;
    enum atapi_answer answer = atapi_info(d, cdb, &len);

    if (answer == ATAPI_REPLY)
        atapi_reply(d, len);
    else
        atapi_fail(d, answer == ATAPI_BAD_FIELD ? SENSE_BAD_FIELD : SENSE_BAD_COMMAND);
}

static void atapi_run(struct ide_drive *d, const uint8_t *cdb)
{
    switch (cdb[0]) {
    case SCSI_TEST_UNIT_READY:
    case SCSI_SEEK10:
    case SCSI_VERIFY10:
    case SCSI_SET_SPEED:
        ide_end(d);
        break;
    case SCSI_START_STOP:
        atapi_start_stop(d, cdb[4]);
        break;
    case SCSI_PREVENT:
        d->locked = cdb[4] & 1;
        ide_end(d);
        break;
    case SCSI_READ10:
        atapi_read(d, ld_be32(cdb + 2), ld_be16(cdb + 7));
        break;
    case SCSI_READ12:
        atapi_read(d, ld_be32(cdb + 2), ld_be32(cdb + 6));
        break;
    case SCSI_READ_CD:
        atapi_read_cd(d, cdb);
        break;
    default:
        atapi_inform(d, cdb);
        break;
    }
}

void atapi_packet(struct ide_drive *d)
{
    uint8_t cdb[ATAPI_PACKET_LEN];

    memcpy(cdb, d->ch->buf, sizeof(cdb));
    if (cdb[0] != SCSI_REQUEST_SENSE)
        atapi_sense(d, SENSE_NONE);
    if (atapi_not_ready(d, cdb[0]))
        return;
    atapi_run(d, cdb);
}

/* --- ATA commands --- */

/* A disk's commands end with what tells that this is none. */
static void atapi_not_a_disk(struct ide_drive *d)
{
    ide_signature(d);
    ide_fail(d, ATA_ABRT);
}

void atapi_command(struct ide_drive *d, uint8_t command)
{
    switch (command) {
    case ATAPI_PACKET:
        d->packet = true;
        d->dma = d->reg[IDE_FEATURE] & ATAPI_DMA;
        ide_pio_packet(d);
        break;
    case ATAPI_IDENTIFY:
        ata_identify(d, d->ch->buf);
        ide_pio_send(d, ATAPI_ID_LEN, ATAPI_ID_LEN);
        break;
    case ATA_READ_SECTORS:
    case ATA_IDENTIFY:
        atapi_not_a_disk(d);
        break;
    case ATA_SET_FEATURES:
    case ATA_STANDBY_NOW:
    case ATA_IDLE_NOW:
    case ATA_CHECK_POWER:
    case ATA_SLEEP:
        ata_command(d, command);
        break;
    default:
        ide_fail(d, ATA_ABRT);
        break;
    }
}
