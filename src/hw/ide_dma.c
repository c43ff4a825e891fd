/*
 * ide_dma.c: the bus master of a channel (Programming Interface for Bus Master IDE Controller, 1.0). The guest
 * lists areas of its memory in a table of physical region descriptors:
 *
 *     31                16 15             0
 *     | address                           |
 *     | last | reserved   | bytes, 0: 64K |   an even number
 *
 * An entry is copied before it is used. Disk and guest memory exchange data without a copy between, in requests
 * of at most IDE_SEGS pieces and of whole sectors; what an entry has left waits in the cursor. A table that
 * ends early leaves the drive waiting for its data, as hardware does; memory that does not exist is an error.
 */
#include "hw/ide_impl.h"

#include <string.h>

#include "base/endian.h"

enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4 };
enum { PRD_LEN = 8, PRD_BYTES = 64 * KIB, PRD_EVEN = 0xfffe };
#define PRD_LAST   BIT(31)
#define PRD_WINDOW 0xffffu /* a table does not cross 64 KiB */

static struct physmap *ide_mem(struct ide_channel *ch)
{
    return vm_mem(ch->ide->pci.dev.vm);
}

/* --- the table --- */

/* False: there is no memory where the table should be. */
static bool ide_prd_next(struct ide_channel *ch, struct ide_cursor *at)
{
    uint8_t entry[PRD_LEN];
    uint32_t word;

    if (!guest_read(ide_mem(ch), at->next, entry, sizeof(entry)))
        return false;
    word = ld_le32(entry + 4);
    at->next = (at->next & ~PRD_WINDOW) | ((at->next + PRD_LEN) & PRD_WINDOW);
    at->gpa = ld_le32(entry) & ~1u;
    at->len = word & PRD_EVEN ? word & PRD_EVEN : PRD_BYTES;
    at->last = word & PRD_LAST;
    return true;
}

/* The next piece of at most max bytes, in one region of memory, as another element of iov. */
static bool ide_prd_piece(struct ide_channel *ch, struct ide_cursor *at, uint64_t max,
                          bool to_memory)
{
    const struct ram_region *r = physmap_find(ide_mem(ch), at->gpa);
    uint64_t n;
    void *p;

    if (!r)
        return false;
    n = min_u64(min_u64(at->len, max), r->gpa + r->len - at->gpa);
    p = guest_ptr(ide_mem(ch), at->gpa, n, to_memory);
    if (!p)
        return false;
    ch->seg[ch->n_segs] = *at;
    ch->iov[ch->n_segs++] = (struct iovec){ p, n };
    at->gpa += (uint32_t)n;
    at->len -= (uint32_t)n;
    return true;
}

/* Fills iov with pieces of up to max bytes in all; *len: how many these are. False: bus error. */
static bool ide_prd_gather(struct ide_channel *ch, uint64_t max, bool to_memory, uint64_t *len)
{
    struct ide_cursor *at = &ch->bm.at;

    *len = 0;
    ch->n_segs = 0;
    while (*len < max && ch->n_segs < IDE_SEGS) {
        if (!at->len && at->last)
            break;
        if (!at->len && !ide_prd_next(ch, at))
            return false;
        if (!ide_prd_piece(ch, at, max - *len, to_memory))
            return false;
        *len += ch->iov[ch->n_segs - 1].iov_len;
    }
    return true;
}

/* The last n bytes that were gathered go back to the table. */
static void ide_prd_give_back(struct ide_channel *ch, uint64_t n)
{
    while (n) {
        struct iovec *last = &ch->iov[ch->n_segs - 1];
        uint32_t back = (uint32_t)min_u64(n, last->iov_len), kept = (uint32_t)last->iov_len - back;

        ch->bm.at = ch->seg[ch->n_segs - 1];
        ch->bm.at.gpa += kept;
        ch->bm.at.len -= kept;
        last->iov_len = kept;
        ch->n_segs -= !kept;
        n -= back;
    }
}

/* --- the transfer --- */

/* If the command is over but not the table, the bus master stays active. */
static void ide_bm_settle(struct ide_channel *ch)
{
    if (!ch->bm.at.len && ch->bm.at.last)
        ch->bm.status &= (uint8_t)~BM_ACTIVE;
}

static void ide_dma_abort(struct ide_channel *ch)
{
    ch->bm.status = (uint8_t)((ch->bm.status & ~BM_ACTIVE) | BM_ERROR);
    ide_fail(ide_drive_of(ch), ATA_ABRT);
}

static void ide_dma_done(struct ide_channel *ch, int err)
{
    struct ide_xfer *x = &ch->x;

    for (unsigned i = 0; !x->write && i < ch->n_segs; i++)
        guest_written(ide_mem(ch), ch->seg[i].gpa, ch->iov[i].iov_len);
    x->off += ch->req.len;
    x->left -= ch->req.len;
    if (!err && x->left) {
        ide_dma_run(ch);
        return;
    }
    ide_bm_settle(ch);
    ide_io_end(ch, err);
}

static void ide_dma_run_disk(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;
    uint64_t len;

    if (!ide_prd_gather(ch, x->left, !x->write, &len)) {
        ide_dma_abort(ch);
        return;
    }
    ide_prd_give_back(ch, len % BLK_SECTOR);
    len -= len % BLK_SECTOR;
    if (len)
        ide_submit(ch, x->write ? BLK_WRITE : BLK_READ, x->off, len, (int)ch->n_segs, ide_dma_done);
    else
        ch->bm.status &= (uint8_t)~BM_ACTIVE;
}

/* Each round moves at least two bytes. */
static void ide_dma_run_buf(struct ide_channel *ch)
{
    struct ide_xfer *x = &ch->x;

    while (x->pos < x->len) {
        uint64_t len;

        if (!ide_prd_gather(ch, x->len - x->pos, true, &len)) {
            ide_dma_abort(ch);
            return;
        }
        if (!len) {
            ch->bm.status &= (uint8_t)~BM_ACTIVE;
            return;
        }
        for (unsigned i = 0; i < ch->n_segs; i++) {
            memcpy(ch->iov[i].iov_base, ch->buf + x->pos, ch->iov[i].iov_len);
            x->pos += (uint32_t)ch->iov[i].iov_len;
        }
        x->end = x->pos;
    }
    ide_bm_settle(ch);
    ide_end(ide_drive_of(ch));
}

/* Both have to want it: the host that started the bus master, the drive that has a command. */
void ide_dma_run(struct ide_channel *ch)
{
    if (ch->in_flight || ch->again || !(ch->bm.command & BM_START) || !(ch->bm.status & BM_ACTIVE))
        return;
    if (ch->x.phase == IDE_DMA_DISK)
        ide_dma_run_disk(ch);
    else if (ch->x.phase == IDE_DMA_BUF)
        ide_dma_run_buf(ch);
}

void ide_dma_disk(struct ide_drive *d, uint64_t off, uint64_t len, bool write, bool fua)
{
    d->ch->x = (struct ide_xfer){
        .phase = IDE_DMA_DISK,
        .unit = d->ch->x.unit,
        .write = write,
        .fua = fua,
        .off = off,
        .left = len,
    };
    d->ata.status = ATA_READY | ATA_DRQ;
    ide_dma_run(d->ch);
}

void ide_dma_send(struct ide_drive *d, uint32_t len)
{
    d->ch->x = (struct ide_xfer){ .phase = IDE_DMA_BUF, .unit = d->ch->x.unit, .len = len };
    d->ata.status = ATA_READY | ATA_DRQ;
    ide_dma_run(d->ch);
}

/* --- registers --- */

uint8_t ide_bm_read(const struct ide_channel *ch, unsigned reg)
{
    switch (reg) {
    case BM_COMMAND:
        return ch->bm.command;
    case BM_STATUS:
        return ch->bm.status;
    case BM_TABLE:
    case BM_TABLE + 1:
    case BM_TABLE + 2:
    case BM_TABLE + 3:
        return (uint8_t)(ch->bm.table >> (8 * (reg - BM_TABLE)));
    default:
        return 0;
    }
}

static void ide_bm_command(struct ide_channel *ch, uint8_t val)
{
    uint8_t rising = (uint8_t)(val & ~ch->bm.command);

    ch->bm.command = val & (BM_START | BM_READ);
    if (rising & BM_START) {
        ch->bm.at = (struct ide_cursor){ .next = ch->bm.table };
        ch->bm.status |= BM_ACTIVE;
        ide_dma_run(ch);
    } else if (!(val & BM_START)) {
        ch->bm.status &= (uint8_t)~BM_ACTIVE; /* a request in flight is the last one */
    }
}

void ide_bm_write(struct ide_channel *ch, unsigned reg, uint8_t val)
{
    unsigned shift = 8 * (reg - BM_TABLE);

    if (reg == BM_COMMAND) {
        ide_bm_command(ch, val);
    } else if (reg == BM_STATUS) { /* error and interrupt: write 1 to clear */
        ch->bm.status &= (uint8_t) ~(val & (BM_ERROR | BM_INTR));
        ch->bm.status = (uint8_t)((ch->bm.status & ~BM_CAPABLE) | (val & BM_CAPABLE));
    } else if (reg >= BM_TABLE) {
        ch->bm.table = (ch->bm.table & ~(0xffu << shift)) | (uint32_t)val << shift;
        ch->bm.table &= ~3u;
    }
}
