/*
 * ata.h: a drive as ATA commands see it: a hard disk, or the ATA side of a CD-ROM drive. It is behind an IDE
 * channel or an AHCI port, which give it the task file and carry out what the command asks for:
 *
 *  ata.c           commands of a hard disk (ata_identify.c: what drives say about themselves;
 *                  ata_sata.c: what only SATA has)
 *  atapi.c         commands of a CD-ROM drive; its packets are cdrom.h's
 *
 * Threads: the lock of the controller that it is in.
 */
#ifndef HW_ATA_H
#define HW_ATA_H

#include "hw/ata_chs.h"
#include "hw/cdrom.h"

enum { /* command block registers; read: FEATURE is Error, COMMAND is Status */
       ATA_DATA = 0,
       ATA_FEATURE,
       ATA_COUNT,
       ATA_LBA0,
       ATA_LBA1,
       ATA_LBA2,
       ATA_DEVICE,
       ATA_COMMAND,
};
enum { /* Status */
       ATA_ERR = BIT(0),
       ATA_DRQ = BIT(3),
       ATA_DSC = BIT(4),
       ATA_DF = BIT(5),
       ATA_DRDY = BIT(6),
       ATA_BSY = BIT(7),
       ATA_READY = ATA_DRDY | ATA_DSC
};
enum { ATA_ABRT = BIT(2), ATA_IDNF = BIT(4), ATA_UNC = BIT(6) };            /* Error */
enum { ATA_DEV_UNIT = BIT(4), ATA_DEV_LBA = BIT(6), ATA_DEV_FUA = BIT(7) }; /* Device */
enum { ATAPI_COD = BIT(0), ATAPI_IO = BIT(1) };                             /* a packet's Count */
enum {
    ATA_SECTOR = BLK_SECTOR,
    ATA_SERIAL_MAX = 20,
    ATA_MAX_MULTIPLE = 16,
    ATA_REPLY_MAX = 512, /* what a command sends to the host from the controller's buffer */
    ATA_NCQ_DEPTH = 32,
    ATA_TRIM_SECTORS = 8, /* of ranges in a command */
};

struct ata_drive {
    /* wiring and configuration */
    struct blk *disk; /* the controller's; NULL: no drive */
    bool cdrom;
    bool sata; /* queued commands, TRIM, logs */
    char serial[ATA_SERIAL_MAX + 1];
    struct ata_chs chs; /* 0 heads: ata_power_on() fills in the usual */

    /* guest-visible state */
    uint8_t reg[ATA_DEVICE], hob[ATA_DEVICE]; /* FEATURE to LBA2, and what they held before */
    uint8_t device;
    uint8_t status, error;  /* status: without BSY */
    uint8_t multiple;       /* sectors; 0: off */
    uint8_t mode;           /* of transfers, as SET FEATURES has it */
    uint8_t heads, sectors; /* for addresses by cylinder, head and sector */
    bool write_cache, smart;
    uint64_t max; /* sectors that the host area leaves */
    struct cdrom cd;
    uint8_t ncq_log[ATA_SECTOR]; /* of the queued command that failed last */
};

enum ata_act { /* what the command asks of the controller */
               ATA_DONE,
               ATA_FAILED, /* with error */
               ATA_SEND,   /* len bytes of the buffer go to the host */
               ATA_READ,   /* and so do len bytes of the disk, from off */
               ATA_WRITE,  /* the other way */
               ATA_FLUSH,  /* the disk's cache */
               ATA_PACKET, /* takes a packet from the host, for cdrom_packet() */
               ATA_TRIM    /* takes len bytes of ranges for ata_trim_next() */
};
struct ata_job {
    enum ata_act act;
    uint8_t error;
    bool dma;       /* the data goes by DMA, not through the data port */
    bool fua;       /* on stable storage before it is done */
    uint32_t block; /* bytes that go through the data port at a stretch */
    uint64_t off, len;
    uint8_t *buf; /* the controller's, of ATA_REPLY_MAX; set before */
};

/* Settings and registers as after power-on, or as after a reset that keeps settings. */
void ata_power_on(struct ata_drive *d, struct blk *disk, bool cdrom);
void ata_reset(struct ata_drive *d);
/* What tells a disk from a CD-ROM drive after a reset. */
void ata_signature(struct ata_drive *d);
/* The task file is in place; *j is zero but for buf. It may change the task file. */
void ata_command(struct ata_drive *d, uint8_t command, struct ata_job *j);
void ata_state(struct ata_drive *d, struct state *s);
/* The Error register after a packet that failed. */
static inline uint8_t atapi_error(const struct ata_drive *d)
{
    return (uint8_t)(d->cd.sense_key << 4 | ATA_ABRT);
}

static inline bool ata_is_queued(uint8_t command) /* many of them at a time, each with its tag */
{
    return command == 0x60 || command == 0x61;
}
/* The queued command at lba has failed: status, error, and the log that tells it. */
void ata_ncq_failed(struct ata_drive *d, unsigned tag, uint64_t lba, uint8_t error);
/* The next of the ranges that a job of ATA_TRIM has taken: 1; 0: that was all; -1: not on the disk. */
must_check int ata_trim_next(const struct ata_drive *d, const uint8_t *ranges, uint32_t len,
                             uint32_t *at, uint64_t *off, uint64_t *bytes);

/* --- between the files --- */
void atapi_command(struct ata_drive *d, uint8_t command, struct ata_job *j);
void ata_disk_command(struct ata_drive *d, uint8_t command, struct ata_job *j);
void ata_read_log(struct ata_drive *d, struct ata_job *j);
void ata_ncq_clear(struct ata_drive *d);
void ata_fail(struct ata_job *j, uint8_t error);
void ata_send(struct ata_job *j, uint32_t len);
void ata_identify(const struct ata_drive *d, uint8_t *out); /* 512 bytes; of both kinds of drive */

#endif
