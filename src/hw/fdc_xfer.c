/*
 * fdc_xfer.c: commands of the floppy disk controller that move data. It goes through buf in chunks, the rest of a
 * track each: one request to the disk, and as many moves by the DMA controller as that wants. Without DMA the
 * bytes go through the FIFO with an interrupt each.
 *
 * An image may be shorter than its format (a boot sector alone, say): what is missing reads as zeros, and cannot be
 * written.
 */
#include "hw/fdc_impl.h"

#include <errno.h>
#include <string.h>

enum {
    FDC_SIDE_BIT = 4,
    FDC_UNIT_BITS = 3,
    FDC_MT = 0x80,
    FDC_FORMAT_ID = 4,
    FDC_VERIFY_EC = 0x80
};
/* --- the disk --- */

static struct fdc_drive *fdc_xfer_drive(struct fdc *f)
{
    return &f->drive[f->x.unit];
}

/* Where the sector under way is; checked by fdc_xfer_check(). */
static uint64_t fdc_xfer_off(struct fdc *f)
{
    const struct fdc_format *t = fdc_xfer_drive(f)->format;

    return (((uint64_t)f->x.c * t->heads + f->x.h) * t->spt + f->x.r - 1u) * BLK_SECTOR;
}

/* The last sector of the side that the command reaches. */
static unsigned fdc_xfer_last(struct fdc *f)
{
    return (unsigned)min_u64(f->x.eot, fdc_xfer_drive(f)->format->spt);
}

/*
 * A transfer of both sides to a sector that no track has: a BIOS passes on what loaders ask of it, which can be more
 * than a track. A real drive would not find the sector; loaders that only VMMs have seen rely on the next track.
 */
static bool fdc_xfer_flows(struct fdc *f)
{
    return f->x.mt && f->x.eot > fdc_xfer_drive(f)->format->spt;
}

static void fdc_chunk_moved(struct fdc *f, int err);

static void fdc_req_done(struct blk_req *r, int err)
{
    struct fdc *f = container_of(r, struct fdc, req);
    bool stale;

    pthread_mutex_lock(&f->dev.lock);
    stale = f->stale;
    f->in_flight = f->stale = false;
    if (!stale)
        fdc_chunk_moved(f, err);
    else if (f->waiting)
        fdc_xfer_go(f);
    pthread_mutex_unlock(&f->dev.lock);
}

/* len bytes of buf, as far as the image goes. */
static void fdc_submit(struct fdc *f, enum blk_op op, uint64_t off, uint32_t len)
{
    struct blk *disk = fdc_xfer_drive(f)->disk;
    uint64_t size = align_down(disk->size, BLK_SECTOR);
    uint64_t there = off < size ? min_u64(len, size - off) : 0;

    if (op == BLK_READ)
        memset(f->buf + there, 0, len - there);
    if (!there || (op == BLK_WRITE && there < len)) {
        fdc_chunk_moved(f, op == BLK_READ ? 0 : -ENOSPC);
        return;
    }
    f->iov = (struct iovec){ f->buf, there };
    f->req = (struct blk_req){
        .op = op, .off = off, .len = there, .iov = &f->iov, .niov = 1, .done = fdc_req_done
    };
    f->in_flight = true;
    blk_submit(disk, &f->req);
}

/* --- moving on --- */

/* The sector after the last one: what the result names. */
static void fdc_xfer_advance(struct fdc *f, uint32_t sectors)
{
    struct fdc_xfer *x = &f->x;

    x->r = (uint8_t)(x->r + sectors);
    if (x->r <= (fdc_xfer_flows(f) ? fdc_xfer_last(f) : x->eot))
        return;
    x->r = 1;
    if (!x->mt || x->h)
        x->c++;
    if (x->mt)
        x->h ^= 1;
    if (fdc_xfer_flows(f) && x->c < fdc_xfer_drive(f)->format->cyls)
        fdc_xfer_drive(f)->cyl = x->c;
}

/* False: the command has ended with an error. */
static bool fdc_xfer_check(struct fdc *f)
{
    const struct fdc_drive *d = fdc_xfer_drive(f);
    uint8_t bad = fdc_unreadable(f, f->x.unit);
    bool writes = f->x.op == FDC_WRITE || f->x.op == FDC_FORMAT;

    if (bad) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, bad, 0);
    } else if (writes && d->disk->readonly) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NOT_WRITABLE, 0);
    } else if (f->x.c != d->cyl) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, FDC_ST2_WRONG_CYLINDER);
    } else if (f->x.h >= d->format->heads || !f->x.r || f->x.r > d->format->spt ||
               f->x.n != FDC_SIZE_CODE) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, 0);
    } else {
        return true;
    }
    return false;
}

/* The data of a format command is the list of its sectors. */
static void fdc_format_track(struct fdc *f)
{
    const struct fdc_format *t = fdc_xfer_drive(f)->format;
    uint32_t len = (uint32_t)t->spt * BLK_SECTOR;

    for (uint32_t i = 0; i + FDC_FORMAT_ID <= f->x.len; i += FDC_FORMAT_ID)
        if (f->buf[i] != f->x.c || f->buf[i + 1] != f->x.h || !f->buf[i + 2] ||
            f->buf[i + 2] > t->spt || f->buf[i + 3] != FDC_SIZE_CODE) {
            fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_ADDRESS, 0); /* no disk holds it */
            return;
        }
    memset(f->buf, f->x.filler, len);
    fdc_submit(f, BLK_WRITE, fdc_xfer_off(f), len);
}

/* buf is full, or its data is at an end. */
static void fdc_buf_filled(struct fdc *f)
{
    uint32_t len = (uint32_t)align_up(f->x.pos, BLK_SECTOR);

    f->phase = FDC_BUSY;
    if (f->x.op == FDC_FORMAT) {
        fdc_format_track(f);
        return;
    }
    memset(f->buf + f->x.pos, 0, len - f->x.pos);
    fdc_submit(f, BLK_WRITE, fdc_xfer_off(f), len);
}

static void fdc_next_chunk(struct fdc *f);

/* All of a chunk is where it should be. */
static void fdc_chunk_end(struct fdc *f)
{
    struct fdc_xfer *x = &f->x;
    uint32_t sectors = (x->pos + BLK_SECTOR - 1) / BLK_SECTOR;
    bool flows = fdc_xfer_flows(f), last, more;

    if (x->op == FDC_FORMAT) {
        fdc_data_result(f, 0, 0, 0);
        return;
    }
    last = x->r + sectors > x->eot;
    more = flows || (x->mt && !x->h);
    if (x->op == FDC_VERIFY && x->count) {
        x->count = (uint8_t)(x->count - min_u64(sectors, x->count));
        x->ended = !x->count;
    }
    fdc_xfer_advance(f, sectors);
    if (x->ended)
        fdc_data_result(f, 0, 0, 0);
    else if (!last || more)
        fdc_next_chunk(f);
    else if (x->op == FDC_VERIFY)
        fdc_data_result(f, 0, 0, 0);
    else
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_END, 0); /* nobody said that it was enough */
}

/* The disk is done. */
static void fdc_chunk_moved(struct fdc *f, int err)
{
    if (err)
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_DATA_ERROR, FDC_ST2_DATA_ERROR);
    else if (f->x.op == FDC_READ)
        fdc_xfer_go(f);
    else
        fdc_chunk_end(f);
}

static void fdc_next_chunk(struct fdc *f)
{
    struct fdc_xfer *x = &f->x;

    f->phase = FDC_BUSY;
    if (!fdc_xfer_check(f))
        return;
    x->pos = 0;
    x->len = x->op == FDC_FORMAT ? (uint32_t)x->count * FDC_FORMAT_ID
                                 : (fdc_xfer_last(f) - x->r + 1) * BLK_SECTOR;
    if (x->op == FDC_VERIFY) {
        if (x->count)
            x->len = (uint32_t)min_u64(x->len, (uint32_t)x->count * BLK_SECTOR);
        x->pos = x->len; /* nobody takes it away */
    }
    if (x->op == FDC_READ || x->op == FDC_VERIFY)
        fdc_submit(f, BLK_READ, fdc_xfer_off(f), x->len);
    else
        fdc_xfer_go(f);
}

/* Between buf and whoever has the data: DMA controller or FIFO. */
void fdc_xfer_go(struct fdc *f)
{
    struct fdc_xfer *x = &f->x;
    bool reads = x->op == FDC_READ;

    if (f->phase != FDC_BUSY || x->op == FDC_NONE)
        return;
    if (f->in_flight) {
        f->waiting = f->stale; /* buf is another command's still */
        return;
    }
    if (f->waiting) {
        f->waiting = false;
        fdc_next_chunk(f);
        return;
    }
    if (f->specify[1] & FDC_SPECIFY_NO_DMA) {
        f->phase = FDC_DATA;
        fdc_set_intr(f, true);
        return;
    }
    x->pos +=
        i8237_transfer(f->dma, f->channel, f->buf + x->pos, x->len - x->pos, reads, &x->ended);
    if (x->pos < x->len && !x->ended)
        return; /* until the channel is ready */
    if (reads)
        fdc_chunk_end(f);
    else
        fdc_buf_filled(f);
}

uint8_t fdc_fifo_get(struct fdc *f)
{
    uint8_t val = f->buf[f->x.pos++];

    if (f->x.pos == f->x.len) {
        fdc_set_intr(f, false);
        fdc_chunk_end(f);
    }
    return val;
}

void fdc_fifo_put(struct fdc *f, uint8_t val)
{
    f->buf[f->x.pos++] = val;
    if (f->x.pos == f->x.len) {
        fdc_set_intr(f, false);
        fdc_buf_filled(f);
    }
}

/* --- commands --- */

/* Of a stale request's buffer nothing may be used before it is back. */
static void fdc_xfer_begin(struct fdc *f)
{
    if (f->config & FDC_CONFIG_IMPLIED_SEEK)
        fdc_seek_to(f, f->x.unit, f->x.c);
    f->phase = FDC_BUSY;
    if (!fdc_xfer_check(f))
        return;
    f->waiting = f->in_flight;
    if (!f->waiting)
        fdc_next_chunk(f);
}

void fdc_xfer_data(struct fdc *f, enum fdc_op op)
{
    const uint8_t *c = f->cmd;

    f->x = (struct fdc_xfer){
        .op = (uint8_t)op,
        .unit = c[1] & FDC_UNIT_BITS,
        .mt = c[0] & FDC_MT,
        .c = c[2],
        .h = c[3],
        .r = c[4],
        .n = c[5],
        .eot = c[6],
        .count = op == FDC_VERIFY && c[1] & FDC_VERIFY_EC ? c[8] : 0,
    };
    if (f->x.r > f->x.eot)
        f->x.eot = f->x.r; /* hardware reads that one sector, too */
    fdc_xfer_begin(f);
}

void fdc_xfer_format(struct fdc *f)
{
    const uint8_t *c = f->cmd;

    f->x = (struct fdc_xfer){
        .op = FDC_FORMAT,
        .unit = c[1] & FDC_UNIT_BITS,
        .c = f->drive[c[1] & FDC_UNIT_BITS].cyl,
        .h = c[1] & FDC_SIDE_BIT ? 1 : 0,
        .r = 1,
        .n = c[2],
        .eot = c[3],
        .count = c[3],
        .filler = c[5],
    };
    if (!c[3] || c[3] > FDC_TRACK_SECTORS) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_ADDRESS, 0);
        return;
    }
    fdc_xfer_begin(f);
}

void fdc_xfer_abort(struct fdc *f)
{
    f->x.op = FDC_NONE;
    f->x.pos = f->x.len = 0;
    f->stale = f->in_flight;
    f->waiting = false;
}
