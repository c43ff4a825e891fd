/*
 * fdc_impl.h: between the files of the floppy disk controller (Intel 82078, 290475).
 *
 *  fdc.c       the device: ports, interrupt, reset, state
 *  fdc_cmd.c   commands
 *  fdc_xfer.c  those that move data
 *  fdc_media.c which floppy is in a drive, and what becomes of it when another one is put in
 *
 * A command is written to the FIFO byte by byte, is executed, and leaves its result there. While it is executed
 * it waits for time, for the disk, or for the DMA controller; or the FIFO carries its data.
 */
#ifndef HW_FDC_IMPL_H
#define HW_FDC_IMPL_H

#include "hw/fdc.h"

enum {
    FDC_UNITS = 4, /* that a command can name */
    FDC_COMMAND_MAX = 9,
    FDC_RESULT_MAX = 10,
    FDC_TRACK_SECTORS = 36,
    FDC_BUF = FDC_TRACK_SECTORS * BLK_SECTOR,
    FDC_SIZE_CODE = 2, /* of sectors of 512 bytes */
};
enum fdc_phase { FDC_IDLE, FDC_COMMAND, FDC_BUSY, FDC_DATA, FDC_RESULT };
enum fdc_op { FDC_NONE, FDC_READ, FDC_WRITE, FDC_VERIFY, FDC_FORMAT };
enum { /* what happens a while later; a bit each */
       FDC_LATER_RESET = 1,
       FDC_LATER_SEEK = 2,
       FDC_LATER_READ_ID = 4,
};
enum { /* status registers, as far as they are used */
       FDC_ST0_ABNORMAL = 0x40,
       FDC_ST0_INVALID = 0x80,
       FDC_ST0_POLLED = 0xc0,
       FDC_ST0_SEEK_END = 0x20,
       FDC_ST0_NO_TRACK0 = 0x10,
       FDC_ST1_NO_ADDRESS = 0x01,
       FDC_ST1_NOT_WRITABLE = 0x02,
       FDC_ST1_NO_DATA = 0x04,
       FDC_ST1_DATA_ERROR = 0x20,
       FDC_ST1_END = 0x80,
       FDC_ST2_WRONG_CYLINDER = 0x10,
       FDC_ST2_DATA_ERROR = 0x20,
       FDC_ST3_WRITE_PROTECTED = 0x40,
       FDC_ST3_READY = 0x20,
       FDC_ST3_TRACK0 = 0x10,
       FDC_ST3_TWO_SIDED = 0x08,
};
enum { FDC_CONFIG_IMPLIED_SEEK = 0x40, FDC_SPECIFY_NO_DMA = 0x01 };

struct fdc_format {
    uint32_t sectors;
    uint8_t cyls, heads, spt;
    uint8_t rates; /* a bit for each data rate by which it can be read */
    uint8_t cmos;
};
struct fdc_drive {
    struct fdc *fdc;                 /* wiring */
    struct blk *disk;                /* NULL: there is no such drive. May be one of block/drive.h */
    uint32_t sectors;                /* of the largest floppy that it takes */
    const struct fdc_format *format; /* of what is in it, or was */
    uint8_t cyl;
    uint8_t next_id; /* the sector that comes past the head next */
    bool changed;    /* the disk change line */
};
struct fdc_xfer {
    uint8_t op, unit;
    bool mt;            /* goes on with the other side */
    uint8_t c, h, r, n; /* of the sector under way */
    uint8_t eot;
    uint8_t count, filler; /* sectors: of FORMAT, and of VERIFY if not 0 */
    uint32_t pos, len;     /* of buf */
    bool ended;            /* terminal count: this chunk is the last */
};
struct fdc {
    struct device dev;
    struct irq irq; /* wiring */
    struct i8237 *dma;
    unsigned channel;
    struct loop_work dma_ready;
    struct clock_timer later;
    struct blk_req req;
    struct iovec iov;
    bool in_flight, stale; /* a request; its command is no more */
    bool waiting;          /* for a stale request, before it touches buf */
    /* guest-visible state */
    struct fdc_drive drive[FDC_UNITS];
    uint8_t dor, tdr, rate, specify[2], config, pretrk, perpendicular;
    bool lock;
    bool intr;        /* the pin, before DOR's gate */
    bool data_intr;   /* it is a data command's, whose result has not been read */
    uint8_t polled;   /* drives whose status after a reset has not been asked for */
    uint8_t seeking;  /* units on their way */
    uint8_t seek_end; /* units that have arrived, and nobody has asked yet */
    uint8_t seek_st0[FDC_UNITS];
    uint8_t phase;
    uint8_t cmd[FDC_COMMAND_MAX], cmd_len, cmd_need;
    uint8_t res[FDC_RESULT_MAX], res_len, res_pos;
    uint8_t later_what;
    uint64_t later_ns;
    struct fdc_xfer x;
    uint8_t buf[FDC_BUF];
};

/* fdc.c */
void fdc_set_intr(struct fdc *f, bool on);
void fdc_result(struct fdc *f, const uint8_t *res, uint8_t len);
void fdc_begin_later(struct fdc *f, uint8_t what);

/* fdc_cmd.c */
void fdc_command_byte(struct fdc *f, uint8_t val);
void fdc_later_read_id(struct fdc *f);
void fdc_seek_to(struct fdc *f, unsigned unit, uint8_t cyl);
/* The seven bytes of a data command's result, and the interrupt. The unit and side are put in. */
void fdc_data_result(struct fdc *f, uint8_t st0, uint8_t st1, uint8_t st2);
/* Why the unit's disk cannot be read now, as a status 1; 0: it can. */
uint8_t fdc_unreadable(const struct fdc *f, unsigned unit);

/* fdc_media.c */
/* What follows from the disk in the drive when the machine is made. */
void fdc_media_init(struct fdc *f, unsigned unit, struct blk *disk);
static inline bool fdc_has_floppy(const struct fdc_drive *d)
{
    return d->disk && !d->disk->empty;
}

/* fdc_xfer.c */
void fdc_xfer_data(struct fdc *f, enum fdc_op op);
void fdc_xfer_format(struct fdc *f);
void fdc_xfer_go(struct fdc *f); /* what waited for the DMA controller may go on */
void fdc_xfer_abort(struct fdc *f);
uint8_t fdc_fifo_get(struct fdc *f);
void fdc_fifo_put(struct fdc *f, uint8_t val);

#endif
