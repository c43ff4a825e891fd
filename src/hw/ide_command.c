/*
 * ide_command.c: carries out what an ATA command or a packet asks for, through the data port or by DMA, with
 * requests to the block layer.
 */
#include "hw/ide_impl.h"

#include <errno.h>
#include <string.h>

enum { ATAPI_DRQ_MAX = 0xfffe };

/* --- requests --- */

/* It has not happened: as it was before the request. */
static void ide_postpone(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;

    if (ch->req.op == BLK_FLUSH) {
        ch->again = IDE_AGAIN_FLUSH;
    } else if (x->phase == IDE_DMA_DISK) {
        ch->again = IDE_AGAIN_DMA;
        ch->bm.at = ch->seg[0];
    } else if (x->phase == IDE_PIO_IN) {
        ch->again = IDE_AGAIN_FILL;
        x->off -= x->len;
        x->left += x->len;
        x->len = 0;
    } else {
        ch->again = IDE_AGAIN_WRITE;
    }
}

bool ide_again_ok(const struct ide_channel *ch)
{
    const struct ide_xfer *x = &ch->x;

    switch (ch->again) {
    case IDE_AGAIN_NO:
        return true;
    case IDE_AGAIN_DMA:
        return x->phase == IDE_DMA_DISK;
    case IDE_AGAIN_FILL:
        return x->phase == IDE_PIO_IN && x->left;
    case IDE_AGAIN_WRITE:
        return x->phase == IDE_PIO_OUT && x->len && x->left >= x->len;
    case IDE_AGAIN_FLUSH:
        return ch->drive[x->unit].ata.disk;
    default:
        return false;
    }
}

static void ide_done(struct blk_req *req, int err)
{
    struct ide_channel *ch = container_of(req, struct ide_channel, req);
    struct device *dev = &ch->ide->pci.dev;

    pthread_mutex_lock(&dev->lock);
    if (err && err != -ECANCELED)
        log_limited(&dev->log, LOG_WARN, "ide", "%s of %llu bytes at %llu failed: %s",
                    req->op == BLK_READ ? "read" : "write", (unsigned long long)req->len,
                    (unsigned long long)req->off, strerror(-err));
    ch->in_flight = false;
    if (ch->reset_due)
        ide_channel_reset(ch);
    else if (ch->then && err == -ECANCELED)
        ide_postpone(ch);
    else if (ch->then)
        ch->then(ch, err);
    if (!ch->in_flight)
        ch->reset_due = false;
    pthread_mutex_unlock(&dev->lock);
}

void ide_submit(struct ide_channel *ch, enum blk_op op, uint64_t off, uint64_t len, int niov,
                void (*then)(struct ide_channel *ch, int err))
{
    ch->in_flight = true;
    ch->then = then;
    ch->req = (struct blk_req){
        .op = op,
        .flags = ch->x.fua && op == BLK_WRITE ? BLK_F_FUA : 0,
        .off = off,
        .len = len,
        .iov = ch->iov,
        .niov = niov,
        .done = ide_done,
    };
    blk_submit(ide_drive_of(ch)->ata.disk, &ch->req);
}

void ide_io_end(struct ide_channel *ch, int err)
{
    struct ide_drive *d = ide_drive_of(ch);

    if (!err) {
        ide_end(d);
    } else if (d->ata.cdrom) {
        cdrom_sense(&d->ata.cd, SENSE_READ_ERROR);
        ide_fail(d, atapi_error(&d->ata));
    } else {
        ide_fail(d, ch->x.write ? ATA_ABRT : ATA_UNC);
    }
}

/* --- commands --- */

static void ide_flush(struct ide_drive *d)
{
    d->ch->x.write = true;
    ide_submit(d->ch, BLK_FLUSH, 0, 0, 0, ide_io_end);
}

void ide_resume(struct ide_channel *ch)
{
    uint8_t again = ch->again;

    ch->again = IDE_AGAIN_NO;
    if (again == IDE_AGAIN_DMA)
        ide_dma_run(ch);
    else if (again == IDE_AGAIN_FILL)
        ide_pio_fill(ch);
    else if (again == IDE_AGAIN_WRITE)
        ide_pio_drain(ch);
    else if (again == IDE_AGAIN_FLUSH)
        ide_flush(ide_drive_of(ch));
}

static void ide_run(struct ide_drive *d, const struct ata_job *j)
{
    switch (j->act) {
    case ATA_SEND:
        ide_pio_send(d, (uint32_t)j->len, j->block);
        break;
    case ATA_READ:
    case ATA_WRITE:
        if (j->dma)
            ide_dma_disk(d, j->off, j->len, j->act == ATA_WRITE, j->fua);
        else if (j->act == ATA_WRITE)
            ide_pio_write(d, j->off, j->len, j->block, j->fua);
        else
            ide_pio_read(d, j->off, j->len, j->block);
        break;
    case ATA_FLUSH:
        ide_flush(d);
        break;
    case ATA_PACKET:
        d->packet = true;
        d->dma = j->dma;
        ide_pio_packet(d);
        break;
    case ATA_FAILED:
        ide_fail(d, j->error);
        break;
    default: /* nothing that only SATA has */
        ide_end(d);
        break;
    }
}

/* A command may change the device register, which both drives share. */
void ide_start(struct ide_drive *d, uint8_t command)
{
    struct ata_job j = { .buf = d->ch->buf };

    d->ata.device = d->ch->device;
    ata_command(&d->ata, command, &j);
    d->ch->device = d->ata.device;
    ide_run(d, &j);
}

/* --- packets --- */

/* How many bytes the host takes at a stretch: even, as it said in the byte count registers. */
static uint32_t ide_packet_limit(const struct ide_drive *d)
{
    uint32_t n = (uint32_t)d->ata.reg[ATA_LBA2] << 8 | d->ata.reg[ATA_LBA1];

    return n >= 2 ? n & ATAPI_DRQ_MAX : ATAPI_DRQ_MAX;
}

void ide_packet(struct ide_drive *d)
{
    uint8_t cdb[CDROM_PACKET_LEN];
    struct cdrom_job j = { 0 };

    memcpy(cdb, d->ch->buf, sizeof(cdb));
    switch (cdrom_packet(&d->ata.cd, cdb, d->ch->buf, &j)) {
    case CDROM_OK:
        ide_end(d);
        break;
    case CDROM_FAIL:
        ide_fail(d, atapi_error(&d->ata));
        break;
    case CDROM_REPLY:
        if (d->dma)
            ide_dma_send(d, (uint32_t)j.len);
        else
            ide_pio_send(d, (uint32_t)j.len, ide_packet_limit(d));
        break;
    case CDROM_READ:
        if (d->dma)
            ide_dma_disk(d, j.off, j.len, false, false);
        else
            ide_pio_read(d, j.off, j.len, ide_packet_limit(d));
        break;
    }
}
