/*
 * ide_impl.h: between the files of the IDE controller.
 *
 *  ide.c           the PCI function: ports, configuration space, state
 *  ide_channel.c   a channel: its registers, reset, interrupt
 *  ide_command.c   carries out what a command asks for; requests to the block layer
 *  ide_pio.c       transfers through the data port
 *  ide_dma.c       bus mastering: PRD tables
 *
 * What commands and packets mean is ata.h's and cdrom.h's.
 *
 * Everything here runs with the controller's device lock held. A channel carries out one command at a time;
 * while the block layer has a request of it, it is busy and hears only resets, which take effect when the
 * request has completed. What to do then is `then`, which is no state: nothing is in flight when it is saved.
 */
#ifndef HW_IDE_IMPL_H
#define HW_IDE_IMPL_H

#include "hw/ata.h"
#include "hw/ide.h"

enum { ATA_CTL_NIEN = BIT(1), ATA_CTL_SRST = BIT(2), ATA_CTL_HOB = BIT(7) };
enum { BM_START = BIT(0), BM_READ = BIT(3) }; /* bus master command */
enum { BM_ACTIVE = BIT(0), BM_ERROR = BIT(1), BM_INTR = BIT(2), BM_CAPABLE = BIT(5) | BIT(6) };
enum { IDE_BUF = 64 * KIB, IDE_SEGS = 256 };

enum ide_phase { IDE_IDLE, IDE_PIO_IN, IDE_PIO_OUT, IDE_PACKET, IDE_DMA_DISK, IDE_DMA_BUF };

enum { IDE_AGAIN_NO, IDE_AGAIN_DMA, IDE_AGAIN_FILL, IDE_AGAIN_WRITE, IDE_AGAIN_FLUSH };

struct ide_channel;
struct ide_drive {
    struct ata_drive ata; /* its disk is owned */
    struct ide_channel *ch;

    /* guest-visible state */
    bool packet; /* the command is a packet */
    bool dma;    /* whose data goes by DMA */
};

/* The command's data: a part is in buf, the rest on the disk. */
struct ide_xfer {
    uint8_t phase;
    uint8_t unit;       /* whose */
    bool write;         /* to the drive */
    bool fua;           /* on stable storage before it is done */
    uint64_t off, left; /* on the disk: what is to be moved yet, but for buf */
    uint32_t block;     /* bytes that the host moves at a stretch (a DRQ block) */
    uint32_t pos, end,
        len; /* of buf: next byte; end of the stretch; of what is, or shall be, in it */
};

struct ide_cursor {    /* where in a PRD table */
    uint32_t next;     /* address of the next entry */
    uint32_t gpa, len; /* what the last one has left */
    bool last;         /* it said that it is the last one */
};
struct ide_bm {
    uint8_t command, status;
    uint32_t table;
    struct ide_cursor at;
};

struct ide_channel {
    struct ide *ide;
    struct irq irq;
    struct ide_drive drive[IDE_UNITS];

    /* guest-visible state */
    uint8_t device, control;
    bool intrq;
    struct ide_bm bm;
    struct ide_xfer x;
    uint8_t buf[IDE_BUF];
    uint8_t again; /* what the host could not do before the VM was stopped: IDE_AGAIN_* */

    /* the request in flight */
    bool in_flight, reset_due;
    void (*then)(struct ide_channel *ch, int err); /* NULL: nobody waits for it any more */
    struct blk_req req;
    struct iovec iov[IDE_SEGS];
    struct ide_cursor seg[IDE_SEGS]; /* where each of iov began */
    unsigned n_segs;
};

struct ide {
    struct pci_dev pci;
    struct ide_channel ch[IDE_CHANNELS];
};

/* --- ide_channel.c --- */
void ide_channel_power_on(struct ide_channel *ch);
void ide_channel_reset(struct ide_channel *ch);                 /* no request in flight */
uint8_t ide_channel_read(struct ide_channel *ch, unsigned reg); /* not IDE_DATA */
void ide_channel_write(struct ide_channel *ch, unsigned reg, uint8_t val);
uint8_t ide_channel_alt_status(const struct ide_channel *ch);
void ide_channel_control(struct ide_channel *ch, uint8_t val);
void ide_channel_state(struct ide_channel *ch, struct state *s);
void ide_channel_sync(struct ide_channel *ch);
struct ide_drive *ide_drive_of(struct ide_channel *ch); /* whose transfer it is */
void ide_raise(struct ide_channel *ch);                 /* INTRQ */
/* The command is over, with the interrupt. error: ATA_ABRT, ... */
void ide_end(struct ide_drive *d);
void ide_fail(struct ide_drive *d, uint8_t error);
/* --- ide_command.c --- */
void ide_start(struct ide_drive *d, uint8_t command); /* the task file is in place */
/* Hands ch->req to the block layer (op, off and len; iov[0..niov) is filled in); `then` runs at its end. */
void ide_submit(struct ide_channel *ch, enum blk_op op, uint64_t off, uint64_t len, int niov,
                void (*then)(struct ide_channel *ch, int err));
void ide_resume(struct ide_channel *ch); /* begins anew what is to be done again */
bool ide_again_ok(const struct ide_channel *ch);
void ide_packet(struct ide_drive *d); /* carries out the one that is in buf */
/* The drive's command is over, or has failed as a disk or a CD-ROM drive fails. For `then`. */
void ide_io_end(struct ide_channel *ch, int err);

/* --- ide_pio.c --- */
/* len bytes of buf, or of the disk from off, to the host, in stretches of block bytes. */
void ide_pio_send(struct ide_drive *d, uint32_t len, uint32_t block);
void ide_pio_read(struct ide_drive *d, uint64_t off, uint64_t len, uint32_t block);
void ide_pio_write(struct ide_drive *d, uint64_t off, uint64_t len, uint32_t block, bool fua);
void ide_pio_packet(struct ide_drive *d);   /* collects a packet for ide_packet() */
void ide_pio_fill(struct ide_channel *ch);  /* the buffer, from the disk */
void ide_pio_drain(struct ide_channel *ch); /* the other way */
uint32_t ide_pio_data_read(struct ide_channel *ch, unsigned size);
void ide_pio_data_write(struct ide_channel *ch, unsigned size, uint32_t val);

/* --- ide_dma.c --- */
/* They wait for the host to start the bus master, if it has not. */
void ide_dma_disk(struct ide_drive *d, uint64_t off, uint64_t len, bool write, bool fua);
void ide_dma_send(struct ide_drive *d, uint32_t len); /* len bytes of buf */
void ide_dma_run(struct ide_channel *ch);             /* as far as both sides want it */
uint8_t ide_bm_read(const struct ide_channel *ch, unsigned reg);
void ide_bm_write(struct ide_channel *ch, unsigned reg, uint8_t val);

#endif
