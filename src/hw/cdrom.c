/*
 * cdrom.c: packets of a CD-ROM drive that use the medium or the tray; see cdrom.h. Not modelled: audio,
 * writing, changers.
 */
#include "hw/cdrom.h"

#include "base/endian.h"
#include "block/drive.h"

/* --- the drive, as the host sees it --- */

/* A tray that the host has emptied is open; to put a medium in closes it. */
static void cdrom_medium_changed(void *opaque)
{
    struct cdrom *cd = opaque;
    bool empty = cd->disk->empty;

    cd->open = empty;
    cd->changed = !empty;
    cd->event = empty ? CDROM_REMOVED : CDROM_NEW_MEDIUM;
}

static unsigned cdrom_tray(void *opaque)
{
    const struct cdrom *cd = opaque;

    return (cd->open ? (unsigned)DRIVE_OPEN : 0u) | (cd->locked ? (unsigned)DRIVE_LOCKED : 0u);
}

static void cdrom_ask(void *opaque)
{
    ((struct cdrom *)opaque)->event = CDROM_EJECT_WANTED;
}

void cdrom_power_on(struct cdrom *cd, struct blk *disk, bool spc)
{
    static const struct drive_ops ops = {
        .changed = cdrom_medium_changed,
        .tray = cdrom_tray,
        .ask = cdrom_ask,
    };

    cd->disk = disk;
    cd->spc = spc;
    cdrom_sense(cd, SENSE_NONE);
    cd->locked = cd->open = false;
    cd->changed = false;
    cd->event = CDROM_NO_EVENT;
    drive_attach(disk, &ops, cd);
}

void cdrom_sense(struct cdrom *cd, uint32_t sense)
{
    cd->sense_key = scsi_sense_key(sense);
    cd->asc = (uint8_t)(sense >> 8);
    cd->ascq = (uint8_t)sense;
}

static enum cdrom_act cdrom_fail(struct cdrom *cd, uint32_t sense)
{
    cdrom_sense(cd, sense);
    return CDROM_FAIL;
}

/* --- the medium --- */

static enum cdrom_act cdrom_read(struct cdrom *cd, uint32_t lba, uint32_t n, struct cdrom_job *job)
{
    if (lba > cdrom_blocks(cd) || n > cdrom_blocks(cd) - lba)
        return cdrom_fail(cd, SENSE_BAD_ADDRESS);
    job->off = (uint64_t)lba * CDROM_BLOCK;
    job->len = (uint64_t)n * CDROM_BLOCK;
    return n ? CDROM_READ : CDROM_OK;
}

/* Only the 2048 bytes of user data, or nothing. */
static enum cdrom_act cdrom_read_cd(struct cdrom *cd, const uint8_t *cdb, struct cdrom_job *job)
{
    uint32_t n = (uint32_t)cdb[6] << 16 | (uint32_t)cdb[7] << 8 | cdb[8];

    if ((cdb[9] & 0xf8) == 0x10)
        return cdrom_read(cd, ld_be32(cdb + 2), n, job);
    return cdb[9] & 0xf8 ? cdrom_fail(cd, SENSE_BAD_FIELD) : CDROM_OK;
}

static enum cdrom_act cdrom_start_stop(struct cdrom *cd, uint8_t what)
{
    bool eject = (what & 3) == 2, load = (what & 3) == 3;

    if (eject && cd->locked)
        return cdrom_fail(cd, SENSE_LOCKED);
    if (load && cd->open && !cd->disk->empty) {
        cd->changed = true;
        cd->event = CDROM_NEW_MEDIUM;
    } else if (eject && cdrom_has_medium(cd)) {
        cd->changed = false;
        cd->event = CDROM_REMOVED;
    }
    cd->open = (cd->open || eject) && !load;
    return CDROM_OK;
}

/* --- packets --- */

static bool cdrom_any_time(uint8_t op)
{
    return op == SCSI_REQUEST_SENSE || op == SCSI_INQUIRY || op == SCSI_GET_CONFIGURATION ||
           op == SCSI_GET_EVENT || op == SCSI_START_STOP || op == SCSI_PREVENT ||
           op == SCSI_MECHANISM || op == SCSI_SET_SPEED || op == SCSI_MODE_SENSE6 ||
           op == SCSI_MODE_SENSE10;
}

/* SENSE_NONE: the medium is there, as the host knows it. */
static uint32_t cdrom_not_ready(struct cdrom *cd, uint8_t op)
{
    bool changed = cd->changed;

    if (cdrom_any_time(op) || (!cd->changed && cdrom_has_medium(cd)))
        return SENSE_NONE;
    cd->changed = false;
    if (changed)
        return SENSE_CHANGED;
    return cd->open ? SENSE_TRAY_OPEN : SENSE_NO_MEDIUM;
}

static enum cdrom_act cdrom_inform(struct cdrom *cd, const uint8_t *cdb, uint8_t *reply,
                                   struct cdrom_job *job)
{
    uint32_t len = 0, sense = cdrom_info(cd, cdb, reply, &len);

    if (sense)
        return cdrom_fail(cd, sense);
    job->len = len;
    return len ? CDROM_REPLY : CDROM_OK;
}

enum cdrom_act cdrom_packet(struct cdrom *cd, const uint8_t *cdb, uint8_t *reply,
                            struct cdrom_job *job)
{
    uint32_t sense;

    if (cdb[0] != SCSI_REQUEST_SENSE)
        cdrom_sense(cd, SENSE_NONE);
    sense = cdrom_not_ready(cd, cdb[0]);
    if (sense)
        return cdrom_fail(cd, sense);
    switch (cdb[0]) {
    case SCSI_TEST_UNIT_READY:
    case SCSI_SEEK10:
    case SCSI_VERIFY10:
    case SCSI_SET_SPEED:
        return CDROM_OK;
    case SCSI_START_STOP:
        return cdrom_start_stop(cd, cdb[4]);
    case SCSI_PREVENT:
        cd->locked = cdb[4] & 1;
        return CDROM_OK;
    case SCSI_READ10:
        return cdrom_read(cd, ld_be32(cdb + 2), ld_be16(cdb + 7), job);
    case SCSI_READ12:
        return cdrom_read(cd, ld_be32(cdb + 2), ld_be32(cdb + 6), job);
    case SCSI_READ_CD:
        return cdrom_read_cd(cd, cdb, job);
    default:
        return cdrom_inform(cd, cdb, reply, job);
    }
}

void cdrom_state(struct cdrom *cd, struct state *s)
{
    bool locked = cd->locked, open = cd->open;
    uint8_t news = (uint8_t)(cd->changed | cd->event << 1); /* the event was not always there */

    state_u8(s, &cd->sense_key);
    state_u8(s, &cd->asc);
    state_u8(s, &cd->ascq);
    state_bool(s, &locked);
    state_bool(s, &open);
    state_u8(s, &news);
    state_require(s, news >> 1 <= CDROM_REMOVED, "an event that no CD-ROM drive has");
    cd->locked = locked;
    cd->open = open;
    cd->changed = news & 1;
    cd->event = news >> 1 & 3;
}
