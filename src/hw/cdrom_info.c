/*
 * cdrom_info.c: what a CD-ROM drive says about itself and its medium: replies of packet commands (MMC-4 6,
 * SPC-3 6). One session with one data track from block 0.
 */
#include "hw/cdrom.h"

#include <string.h>

#include "base/endian.h"

enum {
    CD_BLOCKS_MAX = 360000, /* of 80 minutes; more is a DVD */
    PROFILE_CD = 0x08,
    PROFILE_DVD = 0x10,
    FEATURE_CURRENT = BIT(0),
    FEATURE_PERSISTENT = BIT(1),
    TRACK_DATA = 0x14,
    TRACK_LEADOUT = 0xaa,
    MSF_START = 150, /* frames before block 0 */
    MSF_FRAMES = 75,
    EVENT_MEDIA = 4,
    MEDIUM_DATA = 0x01, /* types of MODE SENSE */
    MEDIUM_NONE = 0x70,
    MEDIUM_TRAY_OPEN = 0x71,
};

struct info_op {
    uint8_t op;
    uint8_t alloc_at, alloc_len; /* where in the packet the host says how much it takes */
    /* Fills out, which is zero; the reply's length, or 0: the packet asks for what there is not. */
    uint32_t (*build)(struct cdrom *cd, const uint8_t *cdb, uint8_t *out);
};

static uint32_t info_inquiry(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    static const uint8_t names[28] = "RUCHE   CD-ROM          1.0 "; /* vendor, product, revision */

    if (cdb[1] & 1) /* vital product data */
        return 0;
    out[0] = 5;    /* CD-ROM */
    out[1] = 0x80; /* removable */
    out[2] = cd->spc ? 5 : 0;
    out[3] = cd->spc ? 2 : 0x21; /* response format; of 1 for ATAPI */
    out[4] = 31;                 /* more bytes */
    memcpy(out + 8, names, sizeof(names));
    return 36;
}

/* Fixed format; to ask is to be told once. */
static uint32_t info_request_sense(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    (void)cdb;
    out[0] = 0x70;
    out[2] = cd->sense_key;
    out[7] = 10;
    out[12] = cd->asc;
    out[13] = cd->ascq;
    cd->sense_key = cd->asc = cd->ascq = 0;
    return 18;
}

static uint32_t info_capacity(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    uint32_t n = cdrom_blocks(cd);

    (void)cdb;
    st_be32(out, n ? n - 1 : 0);
    st_be32(out + 4, CDROM_BLOCK);
    return 8;
}

/* --- table of contents --- */

static void info_address(uint8_t *out, uint32_t lba, bool msf)
{
    uint32_t frames = lba + MSF_START;

    if (!msf) {
        st_be32(out, lba);
        return;
    }
    out[0] = 0;
    out[1] = (uint8_t)min_u64(frames / MSF_FRAMES / 60, UINT8_MAX);
    out[2] = (uint8_t)(frames / MSF_FRAMES % 60);
    out[3] = (uint8_t)(frames % MSF_FRAMES);
}

static void info_track(uint8_t *out, uint8_t track, uint32_t lba, bool msf)
{
    out[1] = TRACK_DATA;
    out[2] = track;
    info_address(out + 4, lba, msf);
}

/* An entry of the raw form, whose addresses are always minutes, seconds and frames. */
static void info_raw(uint8_t *out, uint8_t point, uint8_t m, uint8_t s, uint8_t f)
{
    out[0] = 1; /* session */
    out[1] = TRACK_DATA;
    out[3] = point;
    out[8] = m;
    out[9] = s;
    out[10] = f;
}

static uint32_t info_raw_toc(const struct cdrom *cd, uint8_t *out)
{
    uint8_t end[4];

    info_address(end, cdrom_blocks(cd), true);
    info_raw(out + 4, 0xa0, 1, 0, 0); /* first track */
    info_raw(out + 15, 0xa1, 1, 0, 0);
    info_raw(out + 26, 0xa2, end[1], end[2], end[3]);
    info_raw(out + 37, 1, 0, 2, 0);
    return 48;
}

static uint32_t info_toc(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    unsigned format = cdb[2] & 15 ? cdb[2] & 15 : cdb[9] >> 6; /* the latter of old */
    bool msf = cdb[1] & 2;
    uint32_t len = 12;

    if (format > 2 || (format == 0 && cdb[6] > 1 && cdb[6] != TRACK_LEADOUT))
        return 0;
    if (format == 2) {
        len = info_raw_toc(cd, out);
    } else if (format == 1) {
        info_track(out + 4, 1, 0, msf);
    } else {
        if (cdb[6] <= 1) {
            info_track(out + 4, 1, 0, msf);
            len += 8;
        }
        info_track(out + len - 8, TRACK_LEADOUT, cdrom_blocks(cd), msf);
    }
    st_be16(out, (uint16_t)(len - 2));
    out[2] = out[3] = 1; /* first and last track, or session */
    return len;
}

static uint32_t info_disc(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    (void)cd;
    if (cdb[1] & 7)
        return 0;
    st_be16(out, 32);
    out[2] = 0x0e;                         /* complete, and so is its last session */
    out[3] = out[4] = out[5] = out[6] = 1; /* tracks and sessions */
    out[7] = 0x20;
    return 34;
}

/* --- the drive --- */

static uint32_t info_page_error(uint8_t *out)
{
    out[0] = 0x01;
    out[1] = 6;
    out[3] = 5; /* retries */
    return 8;
}

static uint32_t info_page_capabilities(const struct cdrom *cd, uint8_t *out)
{
    out[0] = 0x2a;
    out[1] = 18;
    out[2] = 0x3b;                                   /* reads CD-R, CD-RW, DVD */
    out[4] = 0x70;                                   /* multiple sessions, mode 2 */
    out[6] = (uint8_t)(0x29 | (cd->locked ? 2 : 0)); /* a tray; can lock and eject */
    st_be16(out + 8, 7056);                          /* KB/s */
    st_be16(out + 10, 2);
    st_be16(out + 12, 512); /* KiB of buffer */
    st_be16(out + 14, 7056);
    return 20;
}

/* 0: there is no such page. */
static uint32_t info_pages(const struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    unsigned page = cdb[2] & 0x3f;
    uint32_t len = 0;

    if (cdb[2] >> 6 == 3) /* saved values */
        return 0;
    if (page == 0x01 || page == 0x3f)
        len += info_page_error(out);
    if (page == 0x2a || page == 0x3f)
        len += info_page_capabilities(cd, out + len);
    return len;
}

static uint8_t info_medium_type(const struct cdrom *cd)
{
    if (cd->open)
        return MEDIUM_TRAY_OPEN;
    return cd->disk->empty ? MEDIUM_NONE : MEDIUM_DATA;
}

static uint32_t info_mode6(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    uint32_t len = info_pages(cd, cdb, out + 4);

    if (!len)
        return 0;
    out[0] = (uint8_t)(len + 3);
    out[1] = info_medium_type(cd);
    return len + 4;
}

static uint32_t info_mode10(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    uint32_t len = info_pages(cd, cdb, out + 8);

    if (!len)
        return 0;
    st_be16(out, (uint16_t)(len + 6));
    out[2] = info_medium_type(cd);
    return len + 8;
}

static uint32_t info_mechanism(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    (void)cdb;
    out[1] = cd->open ? 0x10 : 0;
    out[5] = 1; /* slot */
    return 8;
}

static uint32_t info_event(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    if (!(cdb[1] & 1)) /* only polled */
        return 0;
    out[3] = BIT(EVENT_MEDIA);
    if (!(cdb[4] & BIT(EVENT_MEDIA))) {
        out[1] = 2;
        out[2] = 0x80; /* none of those asked for */
        return 4;
    }
    out[1] = 6;
    out[2] = EVENT_MEDIA;
    out[4] = cd->event;
    out[5] = (uint8_t)((cd->open ? 1 : 0) | (cdrom_has_medium(cd) ? 2 : 0));
    cd->event = CDROM_NO_EVENT; /* is told once */
    return 8;
}

/* --- features --- */

/* Appends a feature that the packet asks for; returns the reply's length then. */
static uint32_t info_feature(const uint8_t *cdb, uint8_t *out, uint32_t at, uint16_t code,
                             uint8_t flags, const uint8_t *data, uint8_t len)
{
    unsigned type = cdb[1] & 3, start = ld_be16(cdb + 2);

    if (code < start || (type == 2 && code != start) || (type == 1 && !(flags & FEATURE_CURRENT)))
        return at;
    st_be16(out + at, code);
    out[at + 2] = flags;
    out[at + 3] = len;
    memcpy(out + at + 4, data, len);
    return at + 4 + len;
}

static uint32_t info_configuration(struct cdrom *cd, const uint8_t *cdb, uint8_t *out)
{
    static const uint8_t core[8] = { 0, 0, 0, 2, 1 }, tray[4] = { 0x29 }, none[4];
    static const uint8_t readable[8] = { 0, 0, CDROM_BLOCK >> 8, 0, 0, 16, 0, 0 };
    bool dvd = cdrom_blocks(cd) > CD_BLOCKS_MAX, in = cdrom_has_medium(cd);
    const uint8_t profiles[8] = { 0, PROFILE_DVD, in && dvd, 0, 0, PROFILE_CD, in && !dvd, 0 };
    const uint8_t always = FEATURE_PERSISTENT | FEATURE_CURRENT;
    uint32_t at = 8;

    at = info_feature(cdb, out, at, 0x0000, always, profiles, sizeof(profiles));
    at = info_feature(cdb, out, at, 0x0001, 2 << 2 | always, core, sizeof(core));
    at = info_feature(cdb, out, at, 0x0003, always, tray, sizeof(tray));
    at = info_feature(cdb, out, at, 0x0010, in, readable, sizeof(readable));
    at = info_feature(cdb, out, at, 0x001e, in && !dvd, none, sizeof(none));
    at = info_feature(cdb, out, at, 0x001f, in && dvd, none, sizeof(none));
    st_be32(out, at - 4);
    if (in)
        out[7] = dvd ? PROFILE_DVD : PROFILE_CD;
    return at;
}

static const struct info_op info_ops[] = {
    { SCSI_REQUEST_SENSE, 4, 1, info_request_sense },
    { SCSI_INQUIRY, 3, 2, info_inquiry },
    { SCSI_MODE_SENSE6, 4, 1, info_mode6 },
    { SCSI_READ_CAPACITY10, 0, 0, info_capacity },
    { SCSI_READ_TOC, 7, 2, info_toc },
    { SCSI_GET_CONFIGURATION, 7, 2, info_configuration },
    { SCSI_GET_EVENT, 7, 2, info_event },
    { SCSI_READ_DISC, 7, 2, info_disc },
    { SCSI_MODE_SENSE10, 7, 2, info_mode10 },
    { SCSI_MECHANISM, 8, 2, info_mechanism },
};

uint32_t cdrom_info(struct cdrom *cd, const uint8_t *cdb, uint8_t *reply, uint32_t *len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(info_ops); i++) {
        const struct info_op *op = &info_ops[i];

        if (op->op != cdb[0])
            continue;
        memset(reply, 0, CDROM_REPLY_MAX);
        *len = op->build(cd, cdb, reply);
        if (!*len)
            return SENSE_BAD_FIELD;
        if (op->alloc_len)
            *len = (uint32_t)min_u64(*len, scsi_be(cdb + op->alloc_at, op->alloc_len));
        return SENSE_NONE;
    }
    return SENSE_BAD_COMMAND;
}
