/*
 * cdrom.h: a CD-ROM drive as packets with SCSI commands see it (MMC-4, SPC-3), whatever brings them: an IDE
 * channel, an AHCI port, a SCSI bus. The medium is one data track of 2048-byte blocks.
 *
 * Threads: the lock of the controller that it is in.
 */
#ifndef HW_CDROM_H
#define HW_CDROM_H

#include "block/block.h"
#include "hw/scsi.h"
#include "state/state.h"

enum { CDROM_BLOCK = 2048, CDROM_PACKET_LEN = 12, CDROM_REPLY_MAX = 512 };

struct cdrom {
    struct blk *disk; /* the medium, or a drive for media (block/drive.h); not owned */
    bool spc;         /* at a SCSI bus: it says so in INQUIRY */

    /* guest-visible state */
    uint8_t sense_key, asc, ascq;
    atomic_bool locked, open; /* the tray; read by any thread */
    bool changed;             /* the medium: the next command that uses it hears so */
    uint8_t event;            /* CDROM_*: what it is told when it asks for events */
};
enum {
    CDROM_NO_EVENT,
    CDROM_EJECT_WANTED,
    CDROM_NEW_MEDIUM,
    CDROM_REMOVED
}; /* as MMC-4 has them */

enum cdrom_act { /* what the packet asks of the controller */
                 CDROM_OK,
                 CDROM_FAIL,  /* the sense says why */
                 CDROM_REPLY, /* len bytes of the reply go to the host */
                 CDROM_READ   /* and so do len bytes of the medium, from off */
};
struct cdrom_job {
    uint64_t off, len;
};

/* As after power-on. The drive of disk, if it is one, tells it of changes from then on. */
void cdrom_power_on(struct cdrom *cd, struct blk *disk, bool spc);
/* cdb: CDROM_PACKET_LEN bytes; reply: room for CDROM_REPLY_MAX. */
must_check enum cdrom_act cdrom_packet(struct cdrom *cd, const uint8_t *cdb, uint8_t *reply,
                                       struct cdrom_job *job);
void cdrom_sense(struct cdrom *cd, uint32_t sense); /* of the last packet, SENSE_* */
void cdrom_state(struct cdrom *cd, struct state *s);
/* Is there a medium that can be read? */
static inline bool cdrom_has_medium(const struct cdrom *cd)
{
    return !cd->open && !cd->disk->empty;
}

static inline uint32_t cdrom_blocks(const struct cdrom *cd)
{
    return (uint32_t)min_u64(cd->disk->size / CDROM_BLOCK, UINT32_MAX);
}

/*
 * cdrom_info.c's: a packet that asks for information: the reply, and in *len how much of it the host wants.
 * SENSE_NONE, or why not.
 */
uint32_t cdrom_info(struct cdrom *cd, const uint8_t *cdb, uint8_t *reply, uint32_t *len);

#endif
