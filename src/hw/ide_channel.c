/*
 * ide_channel.c: the registers of an IDE channel (ATA/ATAPI-7 volume 2: registers, reset and interrupt
 * protocols). A write goes to the registers of both drives, a read comes from the selected one; a drive that
 * does not exist reads as zeros. Not modelled: overlapped and queued commands.
 */
#include "hw/ide_impl.h"

enum { IDE_RESET_OK = 1, ATAPI_DEVICE_RESET = 0x08, ATA_DIAGNOSE = 0x90 };

static struct ide_drive *ide_selected(struct ide_channel *ch)
{
    return &ch->drive[ch->device & ATA_DEV_UNIT ? 1 : 0];
}

struct ide_drive *ide_drive_of(struct ide_channel *ch)
{
    return &ch->drive[ch->x.unit];
}

/* --- interrupt --- */

void ide_channel_sync(struct ide_channel *ch)
{
    irq_set(&ch->irq, ch->intrq && !(ch->control & ATA_CTL_NIEN));
}

void ide_raise(struct ide_channel *ch)
{
    ch->intrq = true;
    if (!(ch->control & ATA_CTL_NIEN))
        ch->bm.status |= BM_INTR;
    ide_channel_sync(ch);
}

static void ide_lower(struct ide_channel *ch)
{
    ch->intrq = false;
    ide_channel_sync(ch);
}

/* --- the end of a command --- */

void ide_end(struct ide_drive *d)
{
    d->ch->x.phase = IDE_IDLE;
    d->ata.status = ATA_READY;
    if (d->packet)
        d->ata.reg[ATA_COUNT] = ATAPI_COD | ATAPI_IO;
    ide_raise(d->ch);
}

void ide_fail(struct ide_drive *d, uint8_t error)
{
    d->ata.error = error;
    ide_end(d);
    d->ata.status |= ATA_ERR;
}

/* --- reset --- */

/* A software reset keeps what SET FEATURES and the like have set. */
void ide_channel_reset(struct ide_channel *ch)
{
    ch->x = (struct ide_xfer){ 0 };
    ch->again = IDE_AGAIN_NO;
    ch->device = 0;
    ch->bm.status &= (uint8_t)~BM_ACTIVE;
    ch->bm.command &= (uint8_t)~BM_START;
    for (unsigned i = 0; i < IDE_UNITS; i++)
        ata_reset(&ch->drive[i].ata);
}

void ide_channel_power_on(struct ide_channel *ch)
{
    for (unsigned i = 0; i < IDE_UNITS; i++)
        if (ch->drive[i].ata.disk)
            ch->bm.status |= i ? BIT(6) : BIT(5);
    ide_channel_reset(ch);
}

/* The request in flight is not needed any more, but its memory is in use until it completes. */
static void ide_reset_when_idle(struct ide_channel *ch)
{
    ch->reset_due = ch->in_flight;
    if (ch->in_flight)
        ch->then = NULL;
    else
        ide_channel_reset(ch);
}

void ide_channel_control(struct ide_channel *ch, uint8_t val)
{
    uint8_t rising = (uint8_t)(val & ~ch->control);

    ch->control = val & (ATA_CTL_NIEN | ATA_CTL_SRST | ATA_CTL_HOB);
    if (rising & ATA_CTL_SRST) {
        ch->intrq = false;
        ide_reset_when_idle(ch);
    }
    ide_channel_sync(ch);
}

/* DEVICE RESET: only the drive, which is a CD-ROM drive; it stays selected, and there is no interrupt. */
static void ide_device_reset(struct ide_drive *d)
{
    if (d->ch->in_flight) {
        d->ch->then = NULL;
        d->ch->reset_due = true;
        return;
    }
    d->ch->x = (struct ide_xfer){ 0 };
    ata_reset(&d->ata);
}

/* --- registers --- */

static bool ide_busy(const struct ide_channel *ch)
{
    return ch->in_flight || ch->again || (ch->control & ATA_CTL_SRST);
}

uint8_t ide_channel_alt_status(const struct ide_channel *ch)
{
    const struct ide_drive *d = &ch->drive[ch->device & ATA_DEV_UNIT ? 1 : 0];

    if (!d->ata.disk)
        return 0;
    return ide_busy(ch) ? ATA_BSY : d->ata.status;
}

uint8_t ide_channel_read(struct ide_channel *ch, unsigned reg)
{
    const struct ide_drive *d = ide_selected(ch);
    bool any = ch->drive[0].ata.disk || ch->drive[1].ata.disk;

    if (reg == ATA_DEVICE)
        return any ? ch->device | 0xa0 : 0;
    if (!d->ata.disk)
        return 0;
    if (reg == ATA_COMMAND) {
        ide_lower(ch);
        return ide_channel_alt_status(ch);
    }
    if (reg == ATA_FEATURE)
        return d->ata.error;
    return ch->control & ATA_CTL_HOB ? d->ata.hob[reg] : d->ata.reg[reg];
}

static void ide_diagnose(struct ide_channel *ch)
{
    ide_channel_reset(ch);
    ide_raise(ch);
}

/* A drive that moves data hears no command; the other one's ends the transfer. */
static void ide_command(struct ide_channel *ch, uint8_t val)
{
    struct ide_drive *d = ide_selected(ch);

    if (d->ata.disk && d->ata.cdrom && val == ATAPI_DEVICE_RESET) {
        ide_device_reset(d);
        return;
    }
    if (ide_busy(ch) || (d->ata.status & ATA_DRQ))
        return;
    if (val == ATA_DIAGNOSE) {
        ide_diagnose(ch);
        return;
    }
    if (!d->ata.disk)
        return;
    ide_lower(ch);
    ide_drive_of(ch)->ata.status &= (uint8_t)~ATA_DRQ;
    ch->x = (struct ide_xfer){ .unit = d == &ch->drive[1] };
    d->packet = false;
    ide_start(d, val);
}

void ide_channel_write(struct ide_channel *ch, unsigned reg, uint8_t val)
{
    ch->control &= (uint8_t)~ATA_CTL_HOB;
    if (reg == ATA_COMMAND) {
        ide_command(ch, val);
        return;
    }
    if (ide_busy(ch))
        return;
    if (reg == ATA_DEVICE) {
        ch->device = val;
        return;
    }
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        ch->drive[i].ata.hob[reg] = ch->drive[i].ata.reg[reg];
        ch->drive[i].ata.reg[reg] = val;
    }
}

/* --- state --- */

static void ide_drive_state(struct ide_drive *d, struct state *s)
{
    ata_state(&d->ata, s);
    state_bool(s, &d->packet);
    state_bool(s, &d->dma);
}

static bool ide_xfer_ok(const struct ide_channel *ch)
{
    const struct ide_xfer *x = &ch->x;

    if (x->phase == IDE_IDLE)
        return x->unit < IDE_UNITS;
    return x->phase <= IDE_DMA_BUF && x->unit < IDE_UNITS && ch->drive[x->unit].ata.disk &&
           x->pos <= x->end && x->end <= x->len && (x->block || x->phase >= IDE_DMA_DISK);
}

static void ide_xfer_state(struct ide_channel *ch, struct state *s)
{
    struct ide_xfer *x = &ch->x;

    state_u8(s, &x->phase);
    state_u8(s, &x->unit);
    state_bool(s, &x->write);
    state_bool(s, &x->fua);
    state_u64(s, &x->off);
    state_u64(s, &x->left);
    state_u32(s, &x->block);
    state_u32(s, &x->pos);
    state_u32(s, &x->end);
    state_u32(s, &x->len);
    state_require(s, x->len <= IDE_BUF && ide_xfer_ok(ch), "transfer out of range");
    if (state_error(s))
        *x = (struct ide_xfer){ 0 };
    state_bytes(s, ch->buf, x->len);
}

static void ide_bm_state(struct ide_bm *bm, struct state *s)
{
    state_u8(s, &bm->command);
    state_u8(s, &bm->status);
    state_u32(s, &bm->table);
    state_u32(s, &bm->at.next);
    state_u32(s, &bm->at.gpa);
    state_u32(s, &bm->at.len);
    state_bool(s, &bm->at.last);
}

void ide_channel_state(struct ide_channel *ch, struct state *s)
{
    if (state_loading(s)) { /* only somebody who did not quiesce has one in flight */
        ch->then = NULL;
        ch->reset_due = false;
    }
    for (unsigned i = 0; i < IDE_UNITS; i++)
        ide_drive_state(&ch->drive[i], s);
    state_u8(s, &ch->device);
    state_u8(s, &ch->control);
    state_bool(s, &ch->intrq);
    ide_bm_state(&ch->bm, s);
    ide_xfer_state(ch, s);
    if (state_version(s) >= 2)
        state_u8(s, &ch->again);
    else if (state_loading(s))
        ch->again = IDE_AGAIN_NO;
    for (unsigned i = 0; state_version(s) >= 3 && i < IDE_UNITS; i++)
        ata_chs_state(&ch->drive[i].ata.chs, s);
    state_require(s, ide_again_ok(ch), "nothing that could be done again");
    if (state_error(s))
        ch->again = IDE_AGAIN_NO;
}
