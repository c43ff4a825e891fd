/*
 * ide_pio.c: transfers through the data port (ATA/ATAPI-7 volume 2: PIO data-in, data-out and PACKET
 * protocols). The disk is read and written in pieces of up to a buffer; the host moves each in stretches (DRQ
 * blocks), an interrupt a stretch; a packet command tells the length of each.
 */
#include "hw/ide_impl.h"

#include <string.h>

static void ide_pio_start(struct ide_drive *d, enum ide_phase phase, uint32_t block)
{
    struct ide_xfer *x = &d->ch->x;

    *x = (struct ide_xfer){ .phase = (uint8_t)phase, .unit = x->unit, .block = block };
}

/* The host's turn. */
static void ide_pio_offer(struct ide_channel *ch, bool interrupt)
{
    struct ide_xfer *x = &ch->x;
    struct ide_drive *d = ide_drive_of(ch);

    x->end = x->pos + (uint32_t)min_u64(x->block, x->len - x->pos);
    d->ata.status = ATA_READY | ATA_DRQ;
    if (x->phase == IDE_PIO_IN && d->packet) {
        d->ata.reg[ATA_COUNT] = ATAPI_IO;
        d->ata.reg[ATA_LBA1] = (uint8_t)(x->end - x->pos);
        d->ata.reg[ATA_LBA2] = (uint8_t)((x->end - x->pos) >> 8);
    }
    if (interrupt)
        ide_raise(ch);
}

/* --- to the host --- */

static void ide_pio_filled(struct ide_channel *ch, int err)
{
    if (err)
        ide_io_end(ch, err);
    else
        ide_pio_offer(ch, true);
}

void ide_pio_fill(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;
    uint64_t off = x->off;

    x->pos = x->end = 0;
    x->len = (uint32_t)min_u64(x->left, IDE_BUF);
    x->off += x->len;
    x->left -= x->len;
    ch->iov[0] = (struct iovec){ ch->buf, x->len };
    ide_submit(ch, BLK_READ, off, x->len, 1, ide_pio_filled);
}

void ide_pio_send(struct ide_drive *d, uint32_t len, uint32_t block)
{
    ide_pio_start(d, IDE_PIO_IN, block);
    d->ch->x.len = len;
    ide_pio_offer(d->ch, true);
}

void ide_pio_read(struct ide_drive *d, uint64_t off, uint64_t len, uint32_t block)
{
    ide_pio_start(d, IDE_PIO_IN, block);
    d->ch->x.off = off;
    d->ch->x.left = len;
    ide_pio_fill(d->ch);
}

/* There is no interrupt after the last stretch, but for a packet's status phase. */
static void ide_pio_sent(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;
    struct ide_drive *d = ide_drive_of(ch);

    if (x->pos < x->len) {
        ide_pio_offer(ch, true);
    } else if (x->left) {
        ide_pio_fill(ch);
    } else if (d->packet) {
        ide_end(d);
    } else {
        x->phase = IDE_IDLE;
        d->ata.status = ATA_READY;
    }
}

uint32_t ide_pio_data_read(struct ide_channel *ch, unsigned size)
{
    struct ide_xfer *x = &ch->x;
    uint32_t val = 0, n = (uint32_t)min_u64(size, x->end - x->pos);

    if (ch->in_flight || x->phase != IDE_PIO_IN || x->pos == x->end)
        return 0;
    memcpy(&val, ch->buf + x->pos, n);
    x->pos += n;
    if (x->pos == x->end)
        ide_pio_sent(ch);
    return val;
}

/* --- from the host --- */

static void ide_pio_collect(struct ide_channel *ch, bool interrupt)
{
    struct ide_xfer *x = &ch->x;

    x->pos = 0;
    x->len = (uint32_t)min_u64(x->left, IDE_BUF);
    ide_pio_offer(ch, interrupt);
}

static void ide_pio_written(struct ide_channel *ch, int err)
{
    struct ide_xfer *x = &ch->x;

    x->off += x->len;
    x->left -= x->len;
    if (err || !x->left)
        ide_io_end(ch, err);
    else
        ide_pio_collect(ch, true);
}

void ide_pio_write(struct ide_drive *d, uint64_t off, uint64_t len, uint32_t block, bool fua)
{
    struct ide_xfer *x = &d->ch->x;

    ide_pio_start(d, IDE_PIO_OUT, block);
    x->write = true;
    x->fua = fua;
    x->off = off;
    x->left = len;
    ide_pio_collect(d->ch, false);
}

void ide_pio_packet(struct ide_drive *d)
{
    struct ide_xfer *x = &d->ch->x;

    ide_pio_start(d, IDE_PACKET, CDROM_PACKET_LEN);
    x->len = CDROM_PACKET_LEN;
    d->ata.reg[ATA_COUNT] = ATAPI_COD;
    ide_pio_offer(d->ch, false);
}

void ide_pio_drain(struct ide_channel *ch)
{
    ch->iov[0] = (struct iovec){ ch->buf, ch->x.len };
    ide_submit(ch, BLK_WRITE, ch->x.off, ch->x.len, 1, ide_pio_written);
}

static void ide_pio_received(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;

    if (x->phase == IDE_PACKET) {
        ide_packet(ide_drive_of(ch));
    } else if (x->pos < x->len) {
        ide_pio_offer(ch, true);
    } else {
        ide_pio_drain(ch);
    }
}

void ide_pio_data_write(struct ide_channel *ch, unsigned size, uint32_t val)
{
    struct ide_xfer *x = &ch->x;
    uint32_t n = (uint32_t)min_u64(size, x->end - x->pos);

    if (ch->in_flight || (x->phase != IDE_PIO_OUT && x->phase != IDE_PACKET) || x->pos == x->end)
        return;
    memcpy(ch->buf + x->pos, &val, n);
    x->pos += n;
    if (x->pos == x->end)
        ide_pio_received(ch);
}
