/*
 * scsi_disk.c: commands of a SCSI unit; see scsi_disk.h. Not modelled: reservations, protection information,
 * COMPARE AND WRITE, verification with data.
 *
 * A command that works on the disk in steps (UNMAP, WRITE SAME with a pattern) goes on from one completion to the
 * next; all that it needs is in the command, so completions take no lock.
 */
#include "hw/scsi_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/iov.h"

enum {
    UNMAP_HEAD = 8,
    UNMAP_RANGE = 16,
    UNMAP_LEN_MAX = UNMAP_HEAD + 255 * UNMAP_RANGE,
    PATTERN_LEN = 64 * KIB,
    MODE_LEN_MAX = 256,
    CDB_FUA = 0x08,
    SAME_UNMAP = 0x08,
    SAME_NO_DATA = 0x01,
    VERIFY_DATA = 0x06,
};

/* --- the result --- */

/* False, as scsi_disk_start() says it: the command is over. */
static bool scsi_good(struct scsi_command *c)
{
    c->status = SCSI_GOOD;
    return false;
}

static bool scsi_check(struct scsi_command *c, uint32_t sense)
{
    c->status = SCSI_CHECK_CONDITION;
    c->sense = sense;
    return false;
}

static void scsi_free_scratch(struct scsi_command *c)
{
    free(c->scratch);
    c->scratch = NULL;
}

static void scsi_done(struct scsi_command *c)
{
    scsi_free_scratch(c);
    c->done(c);
}

/* What the host says, as a disk says it. */
static uint32_t scsi_host_error(const struct blk_req *r, int err)
{
    if (r->op == BLK_READ)
        return SENSE_READ_ERROR;
    if (err == -ENOSPC || err == -EDQUOT)
        return SENSE_NO_SPACE;
    return err == -EROFS ? SENSE_PROTECTED : SENSE_WRITE_ERROR;
}

static void scsi_fail_io(struct scsi_command *c, int err)
{
    if (err == -ECANCELED)
        c->status = SCSI_BUSY; /* nothing has become of it yet: the initiator tries again */
    else
        scsi_check(c, scsi_host_error(&c->req, err));
    scsi_done(c);
}

void scsi_sense_bytes(uint32_t sense, uint8_t out[SCSI_SENSE_LEN])
{
    memset(out, 0, SCSI_SENSE_LEN);
    out[0] = 0x70; /* current error, fixed format */
    out[2] = scsi_sense_key(sense);
    out[7] = SCSI_SENSE_LEN - 8;
    out[12] = (uint8_t)(sense >> 8);
    out[13] = (uint8_t)sense;
}

/* --- the buffer --- */

/* Keeps only the first len bytes of the buffer. */
static void scsi_cut(struct scsi_command *c, uint64_t len)
{
    uint64_t kept = 0;
    int n = 0;

    for (; n < c->niov && kept < len; n++) {
        c->iov[n].iov_len = min_u64(c->iov[n].iov_len, len - kept);
        kept += c->iov[n].iov_len;
    }
    c->niov = n;
}

static bool scsi_reply(struct scsi_command *c, const uint8_t *data, uint32_t len)
{
    c->wanted = len;
    if (!c->to_disk)
        c->moved = iov_copy_to(c->iov, (unsigned)c->niov, 0, data, min_u64(len, c->len));
    return scsi_good(c);
}

/* len bytes of parameters into scratch; false: the command has failed. */
static bool scsi_take(struct scsi_command *c, uint32_t len)
{
    c->wanted = len;
    if (!c->to_disk || c->len < len)
        return scsi_check(c, SENSE_BAD_FIELD);
    c->scratch = malloc(max_u64(len, 1));
    if (!c->scratch) {
        c->status = SCSI_BUSY;
        return false;
    }
    c->scratch_len = len;
    c->moved = iov_copy_from(c->iov, (unsigned)c->niov, 0, c->scratch, len);
    return true;
}

/* --- requests --- */

static bool scsi_submit(struct scsi_command *c, enum blk_op op, uint64_t off, uint64_t len,
                        struct iovec *iov, int niov, void (*done)(struct blk_req *, int))
{
    c->req = (struct blk_req){
        .op = op,
        .flags = c->flags,
        .off = off,
        .len = len,
        .iov = iov,
        .niov = niov,
        .done = done,
    };
    blk_submit(c->unit->disk, &c->req);
    return true;
}

static void scsi_io_done(struct blk_req *r, int err)
{
    struct scsi_command *c = container_of(r, struct scsi_command, req);

    if (err) {
        scsi_fail_io(c, err);
        return;
    }
    c->moved = r->op == BLK_READ || r->op == BLK_WRITE ? r->len : c->moved;
    scsi_good(c);
    scsi_done(c);
}

/* As much of len bytes at off as the buffer has room for, in whole blocks. */
static bool scsi_move(struct scsi_command *c, bool write, uint64_t off, uint64_t len,
                      uint32_t block)
{
    uint64_t n = min_u64(len, c->len);

    c->wanted = len;
    n -= n % block;
    if (!len)
        return scsi_good(c);
    if (!n || c->to_disk != write)
        return scsi_check(c, SENSE_BAD_FIELD);
    scsi_cut(c, n);
    return scsi_submit(c, write ? BLK_WRITE : BLK_READ, off, n, c->iov, c->niov, scsi_io_done);
}

/* --- addresses --- */

struct scsi_range {
    uint64_t lba, n;
};

/* By the length of the CDB, which the group in its first byte tells. */
static struct scsi_range scsi_cdb_range(const uint8_t *cdb)
{
    switch (cdb[0] >> 5) {
    case 0:
        return (struct scsi_range){ ld_be32(cdb) & 0x1fffff, cdb[4] ? cdb[4] : 256 };
    case 4:
        return (struct scsi_range){ ld_be64(cdb + 2), ld_be32(cdb + 10) };
    case 5:
        return (struct scsi_range){ ld_be32(cdb + 2), ld_be32(cdb + 6) };
    default:
        return (struct scsi_range){ ld_be32(cdb + 2), ld_be16(cdb + 7) };
    }
}

static bool scsi_in_range(const struct scsi_disk *u, struct scsi_range r)
{
    return r.lba <= scsi_disk_blocks(u) && r.n <= scsi_disk_blocks(u) - r.lba;
}

/* --- commands --- */

static bool scsi_read_write(struct scsi_command *c, bool write)
{
    struct scsi_range r = scsi_cdb_range(c->cdb);
    bool fua = c->cdb[0] >= SCSI_READ10 && (c->cdb[1] & CDB_FUA);

    if (!scsi_in_range(c->unit, r))
        return scsi_check(c, SENSE_BAD_ADDRESS);
    if (write && c->unit->disk->readonly)
        return scsi_check(c, SENSE_PROTECTED);
    c->flags = write && (fua || !c->unit->write_cache) ? BLK_F_FUA : 0;
    return scsi_move(c, write, r.lba * SCSI_DISK_BLOCK, r.n * SCSI_DISK_BLOCK, SCSI_DISK_BLOCK);
}

static bool scsi_write_verify(struct scsi_command *c)
{
    c->cdb[1] |= CDB_FUA;
    return scsi_read_write(c, true);
}

static bool scsi_verify(struct scsi_command *c)
{
    if (c->cdb[1] & VERIFY_DATA)
        return scsi_check(c, SENSE_BAD_FIELD);
    if (!scsi_in_range(c->unit, scsi_cdb_range(c->cdb)))
        return scsi_check(c, SENSE_BAD_ADDRESS);
    return scsi_good(c);
}

/* The range that it may name is left alone: all of the cache is what a host can flush. */
static bool scsi_flush(struct scsi_command *c)
{
    return scsi_submit(c, BLK_FLUSH, 0, 0, NULL, 0, scsi_io_done);
}

/* --- UNMAP --- */

/* Submits the next range; false: that was all, or it has failed. */
static bool scsi_unmap_next(struct scsi_command *c, void (*done)(struct blk_req *, int))
{
    while (c->at + UNMAP_RANGE <= c->scratch_len) {
        const uint8_t *p = c->scratch + c->at;
        struct scsi_range r = { ld_be64(p), ld_be32(p + 8) };

        c->at += UNMAP_RANGE;
        if (!scsi_in_range(c->unit, r))
            return scsi_check(c, SENSE_BAD_ADDRESS);
        if (r.n)
            return scsi_submit(c, BLK_DISCARD, r.lba * SCSI_DISK_BLOCK, r.n * SCSI_DISK_BLOCK, NULL,
                               0, done);
    }
    return scsi_good(c);
}

static void scsi_unmapped(struct blk_req *r, int err)
{
    struct scsi_command *c = container_of(r, struct scsi_command, req);

    if (err)
        scsi_fail_io(c, err);
    else if (!scsi_unmap_next(c, scsi_unmapped))
        scsi_done(c);
}

static bool scsi_unmap(struct scsi_command *c)
{
    uint32_t len = ld_be16(c->cdb + 7), ranges;

    if (c->unit->disk->readonly)
        return scsi_check(c, SENSE_PROTECTED);
    if (!len)
        return scsi_good(c);
    if (len < UNMAP_HEAD || len > UNMAP_LEN_MAX)
        return scsi_check(c, SENSE_BAD_PARAMETER);
    if (!scsi_take(c, len))
        return false;
    ranges = ld_be16(c->scratch + 2);
    if (ranges % UNMAP_RANGE || ranges > len - UNMAP_HEAD)
        return scsi_check(c, SENSE_BAD_PARAMETER);
    c->scratch_len = UNMAP_HEAD + ranges;
    c->at = UNMAP_HEAD;
    return scsi_unmap_next(c, scsi_unmapped);
}

/* --- WRITE SAME --- */

/* The next stretch of the pattern; false: that was all. */
static bool scsi_same_next(struct scsi_command *c, void (*done)(struct blk_req *, int))
{
    uint64_t len = 0, off = c->off;
    int n = 0;

    for (; n < SCSI_OWN_SEGS && len < c->left; n++) {
        c->own[n] = (struct iovec){ c->scratch, min_u64(c->left - len, c->scratch_len) };
        len += c->own[n].iov_len;
    }
    c->off += len;
    c->left -= len;
    return len ? scsi_submit(c, BLK_WRITE, off, len, c->own, n, done) : scsi_good(c);
}

static void scsi_same_written(struct blk_req *r, int err)
{
    struct scsi_command *c = container_of(r, struct scsi_command, req);

    if (err)
        scsi_fail_io(c, err);
    else if (!scsi_same_next(c, scsi_same_written))
        scsi_done(c);
}

static bool scsi_same_pattern(struct scsi_command *c, const uint8_t *block, uint64_t len)
{
    c->scratch_len = (uint32_t)min_u64(len, PATTERN_LEN);
    c->scratch = malloc(c->scratch_len);
    if (!c->scratch) {
        c->status = SCSI_BUSY;
        return false;
    }
    for (uint32_t i = 0; i < c->scratch_len; i += SCSI_DISK_BLOCK)
        memcpy(c->scratch + i, block, SCSI_DISK_BLOCK);
    c->left = len;
    return scsi_same_next(c, scsi_same_written);
}

static bool scsi_write_same(struct scsi_command *c)
{
    static const uint8_t zeros[SCSI_DISK_BLOCK];
    bool no_data = c->cdb[0] == SCSI_WRITE_SAME16 && (c->cdb[1] & SAME_NO_DATA);
    uint8_t block[SCSI_DISK_BLOCK] = { 0 };
    struct scsi_range r = scsi_cdb_range(c->cdb);
    uint64_t len;

    if (c->unit->disk->readonly)
        return scsi_check(c, SENSE_PROTECTED);
    if (!scsi_in_range(c->unit, r))
        return scsi_check(c, SENSE_BAD_ADDRESS);
    if (!r.n || r.n > SCSI_SAME_MOST)
        return scsi_check(c, SENSE_BAD_FIELD);
    if (!no_data && (!c->to_disk || c->len < sizeof(block)))
        return scsi_check(c, SENSE_BAD_FIELD);
    if (!no_data)
        c->moved = c->wanted = iov_copy_from(c->iov, (unsigned)c->niov, 0, block, sizeof(block));
    c->off = r.lba * SCSI_DISK_BLOCK;
    len = r.n * SCSI_DISK_BLOCK;
    c->flags = c->unit->write_cache ? 0 : BLK_F_FUA;
    if (memcmp(block, zeros, sizeof(block)) != 0)
        return scsi_same_pattern(c, block, len);
    c->flags |= c->cdb[1] & SAME_UNMAP ? BLK_F_UNMAP : 0;
    return scsi_submit(c, BLK_WRITE_ZEROES, c->off, len, NULL, 0, scsi_io_done);
}

/* --- settings --- */

/* Only the write cache can be switched. What it holds is flushed before it is off. */
static bool scsi_set_cache(struct scsi_command *c, const uint8_t *page, uint32_t len)
{
    if (len < 20 || (page[0] & 0x3f) != 0x08 || page[1] != 18)
        return scsi_check(c, SENSE_BAD_PARAMETER);
    c->unit->write_cache = page[2] & 4;
    return c->unit->write_cache ? scsi_good(c) : scsi_flush(c);
}

static bool scsi_mode_select(struct scsi_command *c)
{
    bool ten = c->cdb[0] == SCSI_MODE_SELECT10;
    uint32_t len = ten ? ld_be16(c->cdb + 7) : c->cdb[4], head = ten ? 8 : 4, blocks;

    if (c->cdb[1] & 1) /* save */
        return scsi_check(c, SENSE_BAD_FIELD);
    if (!len)
        return scsi_good(c);
    if (len < head || len > MODE_LEN_MAX)
        return scsi_check(c, SENSE_BAD_PARAMETER);
    if (!scsi_take(c, len))
        return false;
    blocks = ten ? ld_be16(c->scratch + 6) : c->scratch[3];
    if (blocks > len - head)
        return scsi_check(c, SENSE_BAD_PARAMETER);
    if (blocks == len - head)
        return scsi_good(c);
    return scsi_set_cache(c, c->scratch + head + blocks, len - head - blocks);
}

static bool scsi_inform(struct scsi_command *c)
{
    uint8_t reply[SCSI_REPLY_MAX] = { 0 };
    uint32_t len = 0;

    switch (scsi_info(c->unit, c->cdb, reply, &len)) {
    case SCSI_INFO_REPLY:
        return scsi_reply(c, reply, len);
    case SCSI_INFO_BAD_FIELD:
        return scsi_check(c, SENSE_BAD_FIELD);
    default:
        return scsi_check(c, SENSE_BAD_COMMAND);
    }
}

static bool scsi_run_disk(struct scsi_command *c)
{
    switch (c->cdb[0]) {
    case SCSI_READ6:
    case SCSI_READ10:
    case SCSI_READ12:
    case SCSI_READ16:
        return scsi_read_write(c, false);
    case SCSI_WRITE6:
    case SCSI_WRITE10:
    case SCSI_WRITE12:
    case SCSI_WRITE16:
        return scsi_read_write(c, true);
    case SCSI_WRITE_VERIFY10:
    case SCSI_WRITE_VERIFY12:
    case SCSI_WRITE_VERIFY16:
        return scsi_write_verify(c);
    case SCSI_VERIFY10:
    case SCSI_VERIFY12:
    case SCSI_VERIFY16:
        return scsi_verify(c);
    case SCSI_SYNCHRONIZE_CACHE10:
    case SCSI_SYNCHRONIZE_CACHE16:
        return scsi_flush(c);
    case SCSI_UNMAP:
        return scsi_unmap(c);
    case SCSI_WRITE_SAME10:
    case SCSI_WRITE_SAME16:
        return scsi_write_same(c);
    case SCSI_MODE_SELECT6:
    case SCSI_MODE_SELECT10:
        return scsi_mode_select(c);
    case SCSI_TEST_UNIT_READY:
    case SCSI_START_STOP:
    case SCSI_PREVENT:
    case SCSI_SEND_DIAGNOSTIC:
    case SCSI_SEEK10:
    case SCSI_RESERVE6:
    case SCSI_RELEASE6:
        return scsi_good(c);
    default:
        return scsi_inform(c);
    }
}

static bool scsi_run_cdrom(struct scsi_command *c)
{
    uint8_t reply[CDROM_REPLY_MAX];
    struct cdrom *cd = &c->unit->cd;
    struct cdrom_job j = { 0 };

    if (scsi_info_for_cdrom(c->cdb))
        return scsi_inform(c);
    switch (cdrom_packet(cd, c->cdb, reply, &j)) {
    case CDROM_OK:
        return scsi_good(c);
    case CDROM_REPLY:
        return scsi_reply(c, reply, (uint32_t)j.len);
    case CDROM_READ:
        return scsi_move(c, false, j.off, j.len, CDROM_BLOCK);
    default:
        return scsi_check(c, (uint32_t)cd->sense_key << 16 | (uint32_t)cd->asc << 8 | cd->ascq);
    }
}

/* --- the unit --- */

/* A reset is told by the next command that can fail for it. */
static bool scsi_hears_attention(struct scsi_command *c)
{
    uint32_t sense = c->unit->attention;
    uint8_t op = c->cdb[0];

    if (!sense || op == SCSI_INQUIRY || op == SCSI_REPORT_LUNS || op == SCSI_REQUEST_SENSE)
        return false;
    c->unit->attention = SENSE_NONE;
    scsi_check(c, sense);
    return true;
}

bool scsi_disk_start(struct scsi_command *c)
{
    bool in_flight = false;

    c->status = SCSI_GOOD;
    c->sense = SENSE_NONE;
    if (!scsi_hears_attention(c))
        in_flight = c->unit->cdrom ? scsi_run_cdrom(c) : scsi_run_disk(c);
    if (in_flight)
        return true;
    scsi_free_scratch(c);
    if (c->cdb[0] != SCSI_REQUEST_SENSE)
        scsi_disk_keep_sense(c);
    return false;
}

void scsi_disk_keep_sense(struct scsi_command *c)
{
    c->unit->sense = c->sense;
    if (c->unit->cdrom)
        cdrom_sense(&c->unit->cd, c->sense);
}

void scsi_disk_power_on(struct scsi_disk *u)
{
    cdrom_power_on(&u->cd, u->disk, true);
    u->write_cache = true;
    u->sense = u->attention = SENSE_NONE;
}

void scsi_disk_init(struct scsi_disk *u, struct blk *disk, bool cdrom, const char *serial)
{
    *u =
        (struct scsi_disk){ .disk = disk, .cdrom = cdrom, .removable = cdrom, .write_cache = true };
    cdrom_power_on(&u->cd, disk, true);
    snprintf(u->serial, sizeof(u->serial), "%s", serial ? serial : "");
}

void scsi_disk_reset(struct scsi_disk *u)
{
    u->sense = SENSE_NONE;
    u->attention = SENSE_POWER_ON;
    u->cd.locked = false;
}

void scsi_disk_state(struct scsi_disk *u, struct state *s)
{
    uint64_t here = u->cdrom ? 0 : u->disk->size, size = here; /* media change */
    bool cdrom = u->cdrom;

    state_u64(s, &size);
    state_bool(s, &cdrom);
    state_require(s, (size == here || u->cdrom) && cdrom == u->cdrom, "there was another disk");
    cdrom_state(&u->cd, s);
    state_bool(s, &u->write_cache);
    state_u32(s, &u->sense);
    state_u32(s, &u->attention);
}
