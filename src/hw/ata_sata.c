/*
 * ata_sata.c: what only serial ATA drives have (ACS-3): the log of queued commands, and TRIM.
 */
#include "base/endian.h"
#include "hw/ata.h"

#include <string.h>

enum { LOG_DIRECTORY = 0x00, LOG_NCQ = 0x10, NCQ_NONE = 0x80 };
enum { TRIM_ENTRY = 8 };

void ata_read_log(struct ata_drive *d, struct ata_job *j)
{
    unsigned page = d->reg[ATA_LBA1] | (unsigned)d->hob[ATA_LBA1] << 8;
    unsigned count = d->reg[ATA_COUNT] | (unsigned)d->hob[ATA_COUNT] << 8;
    uint8_t log = d->reg[ATA_LBA0];

    if (page || count != 1 || (log != LOG_DIRECTORY && log != LOG_NCQ)) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    memset(j->buf, 0, ATA_SECTOR);
    if (log == LOG_DIRECTORY) {
        st_le16(j->buf, 1);               /* version */
        st_le16(j->buf + 2 * LOG_NCQ, 1); /* pages */
    } else {
        memcpy(j->buf, d->ncq_log, sizeof(d->ncq_log));
        ata_ncq_clear(d);
    }
    ata_send(j, ATA_SECTOR);
}

void ata_ncq_clear(struct ata_drive *d)
{
    memset(d->ncq_log, 0, sizeof(d->ncq_log));
    d->ncq_log[0] = NCQ_NONE;
}

void ata_ncq_failed(struct ata_drive *d, unsigned tag, uint64_t lba, uint8_t error)
{
    uint8_t *p = d->ncq_log, sum = 0;

    memset(p, 0, sizeof(d->ncq_log));
    d->status = ATA_READY | ATA_ERR;
    d->error = error;
    p[0] = (uint8_t)tag;
    p[2] = d->status;
    p[3] = d->error;
    for (unsigned i = 0; i < 3; i++) {
        p[4 + i] = (uint8_t)(lba >> (8 * i));
        p[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    p[7] = ATA_DEV_LBA;
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + p[i]);
    p[ATA_SECTOR - 1] = (uint8_t)-sum;
}

int ata_trim_next(const struct ata_drive *d, const uint8_t *ranges, uint32_t len, uint32_t *at,
                  uint64_t *off, uint64_t *bytes)
{
    while (*at + TRIM_ENTRY <= len) {
        uint64_t entry = ld_le64(ranges + *at), lba = entry & 0xffffffffffffull, n = entry >> 48;

        *at += TRIM_ENTRY;
        if (!n)
            continue;
        if (lba > d->max || n > d->max - lba)
            return -1;
        *off = lba * ATA_SECTOR;
        *bytes = n * ATA_SECTOR;
        return 1;
    }
    return 0;
}
