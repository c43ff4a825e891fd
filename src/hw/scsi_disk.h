/*
 * scsi_disk.h: a SCSI logical unit: a hard disk (SPC-4, SBC-3) or a CD-ROM drive (MMC-4, by cdrom.h). Whatever
 * brings the commands (virtio-scsi, USB mass storage) fills in a struct scsi_command and starts it.
 *
 * Threads: the lock of the controller that it is in; done() on the loop thread with no lock held.
 */
#ifndef HW_SCSI_DISK_H
#define HW_SCSI_DISK_H

#include "hw/cdrom.h"

enum {
    SCSI_SERIAL_MAX = 36,
    SCSI_SENSE_LEN = 18,
    SCSI_DISK_BLOCK = BLK_SECTOR,
    SCSI_REPLY_MAX = CDROM_REPLY_MAX,
    SCSI_OWN_SEGS = 16,
    SCSI_SAME_MOST = 1 << 17, /* blocks of a WRITE SAME */
};

struct scsi_disk {
    /* wiring and configuration */
    struct blk *disk; /* not owned */
    bool cdrom, removable;
    char serial[SCSI_SERIAL_MAX + 1];

    /* guest-visible state */
    struct cdrom cd;
    bool write_cache;
    uint32_t sense;     /* for REQUEST SENSE: SENSE_* */
    uint32_t attention; /* what the next command hears instead of being carried out; SENSE_NONE */
};

struct scsi_command {
    /* the initiator's, who fills it in; the rest is zero */
    struct scsi_disk *unit;
    uint8_t cdb[SCSI_CDB_MAX];
    bool to_disk; /* the direction of the buffer */
    struct iovec
        *iov; /* the buffer, len bytes; the array is cut to what is moved. Valid until the end */
    int niov; /* at most BLK_MAX_SEGS */
    uint64_t len;
    void (*done)(struct scsi_command *c);

    /* the result */
    uint8_t status;  /* SCSI_GOOD, SCSI_CHECK_CONDITION, SCSI_BUSY (try again) */
    uint32_t sense;  /* SENSE_*; SENSE_NONE unless CHECK CONDITION */
    uint64_t wanted; /* bytes of data that the command has */
    uint64_t moved;  /* and how much of it went through the buffer */

    /* the unit's */
    struct blk_req req;
    unsigned flags;   /* BLK_F_* */
    uint8_t *scratch; /* ranges, or a pattern */
    uint32_t scratch_len, at;
    uint64_t off, left; /* bytes of the disk still to be written with the pattern */
    struct iovec own[SCSI_OWN_SEGS];
};

/* serial: NULL: none; longer ones are cut. */
void scsi_disk_init(struct scsi_disk *u, struct blk *disk, bool cdrom, const char *serial);
/*
 * True: it is in flight, and done() will be called once. False: it is over already, and done() is not called.
 */
must_check bool scsi_disk_start(struct scsi_command *c);
/* Of a bus without autosense: after done(), with the lock: REQUEST SENSE tells of this command. */
void scsi_disk_keep_sense(struct scsi_command *c);
/* Guest-visible state as it was in the beginning. Nothing is in flight. */
void scsi_disk_power_on(struct scsi_disk *u);
/* Resets of the bus or the unit; nothing is in flight. */
void scsi_disk_reset(struct scsi_disk *u);
void scsi_disk_state(struct scsi_disk *u, struct state *s);
/* In the fixed format. */
void scsi_sense_bytes(uint32_t sense, uint8_t out[SCSI_SENSE_LEN]);

static inline uint64_t scsi_disk_blocks(const struct scsi_disk *u)
{
    return u->disk->size / SCSI_DISK_BLOCK;
}

/* scsi_info.c: what a unit says about itself. */
enum scsi_info { SCSI_INFO_REPLY, SCSI_INFO_BAD_FIELD, SCSI_INFO_UNKNOWN };
/* The reply into out (SCSI_REPLY_MAX bytes, zeros), and in *len how much of it the initiator wants. */
enum scsi_info scsi_info(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out, uint32_t *len);
/* What else than the CD-ROM drive's packets a unit at a SCSI bus has: pages of vital product data. */
bool scsi_info_for_cdrom(const uint8_t *cdb);

#endif
