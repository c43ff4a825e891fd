/*
 * fdc_cmd.c: the commands of the floppy disk controller (82078, chapter 5). Not modelled: SCAN, READ TRACK as
 * anything but a read that does not compare, and those that change the form of the media.
 */
#include "hw/fdc_impl.h"

#include <string.h>

enum { FDC_SENSE_INTERRUPT = 0x08 };
enum { FDC_VERSION_ENHANCED = 0x90, FDC_PART_ID = 0x41, FDC_UNIT = 3, FDC_SIDE = 4 };

struct fdc_command {
    uint8_t mask, code; /* of the first byte */
    uint8_t params;
    void (*run)(struct fdc *f);
};

static unsigned fdc_cmd_unit(const struct fdc *f)
{
    return f->cmd[1] & FDC_UNIT;
}

static void fdc_cmd_none(struct fdc *f)
{
    f->phase = FDC_IDLE;
}

static void fdc_cmd_invalid(struct fdc *f)
{
    const uint8_t st0 = FDC_ST0_INVALID;

    fdc_result(f, &st0, 1);
}

/* --- status --- */

static void fdc_cmd_specify(struct fdc *f)
{
    memcpy(f->specify, f->cmd + 1, sizeof(f->specify));
    fdc_cmd_none(f);
}

static void fdc_cmd_sense_drive(struct fdc *f)
{
    const struct fdc_drive *d = &f->drive[fdc_cmd_unit(f)];
    uint8_t st3 = (f->cmd[1] & (FDC_UNIT | FDC_SIDE)) | FDC_ST3_READY | FDC_ST3_TWO_SIDED;

    if (!d->cyl)
        st3 |= FDC_ST3_TRACK0;
    if (fdc_has_floppy(d) && d->disk->readonly)
        st3 |= FDC_ST3_WRITE_PROTECTED;
    fdc_result(f, &st3, 1);
}

/* After a reset there is one to ask for each of four drives, and one interrupt for all. */
static void fdc_cmd_sense_interrupt(struct fdc *f)
{
    uint8_t res[2];
    unsigned unit;

    if (f->polled) {
        unit = (unsigned)__builtin_ctz(f->polled);
        f->polled &= (uint8_t)(f->polled - 1);
        res[0] = (uint8_t)(FDC_ST0_POLLED | unit);
    } else if (f->seek_end) {
        unit = (unsigned)__builtin_ctz(f->seek_end);
        f->seek_end &= (uint8_t)(f->seek_end - 1);
        res[0] = f->seek_st0[unit];
    } else {
        fdc_cmd_invalid(f);
        return;
    }
    res[1] = f->drive[unit].cyl;
    fdc_set_intr(f, f->seek_end != 0);
    fdc_result(f, res, sizeof(res));
}

static void fdc_cmd_dumpreg(struct fdc *f)
{
    const uint8_t res[FDC_RESULT_MAX] = {
        f->drive[0].cyl, f->drive[1].cyl,
        f->drive[2].cyl, f->drive[3].cyl,
        f->specify[0],   f->specify[1],
        f->x.eot,        (uint8_t)(f->lock << 7 | (f->perpendicular & 0x3f)),
        f->config,       f->pretrk,
    };

    fdc_result(f, res, sizeof(res));
}

static void fdc_cmd_version(struct fdc *f)
{
    const uint8_t version = FDC_VERSION_ENHANCED;

    fdc_result(f, &version, 1);
}

static void fdc_cmd_part_id(struct fdc *f)
{
    const uint8_t id = FDC_PART_ID;

    fdc_result(f, &id, 1);
}

/* --- settings --- */

static void fdc_cmd_configure(struct fdc *f)
{
    f->config = f->cmd[2] & 0x7f;
    f->pretrk = f->cmd[3];
    fdc_cmd_none(f);
}

static void fdc_cmd_perpendicular(struct fdc *f)
{
    /* bit 7 says that the bits of the drives are meant, too */
    f->perpendicular = f->cmd[1] & 0x80 ? f->cmd[1] & 0x3f
                                        : (uint8_t)((f->perpendicular & 0x3c) | (f->cmd[1] & 3));
    fdc_cmd_none(f);
}

static void fdc_cmd_lock(struct fdc *f)
{
    uint8_t res;

    f->lock = f->cmd[0] & 0x80;
    res = (uint8_t)(f->lock << 4);
    fdc_result(f, &res, 1);
}

static void fdc_cmd_powerdown(struct fdc *f)
{
    fdc_result(f, &f->cmd[1], 1);
}

/* --- seeks --- */

/* Steps clear the change line, if there is a disk; it has a moment to do so. */
void fdc_seek_to(struct fdc *f, unsigned unit, uint8_t cyl)
{
    struct fdc_drive *d = &f->drive[unit];

    d->cyl = cyl;
    if (fdc_has_floppy(d))
        d->changed = false;
}

static void fdc_begin_seek(struct fdc *f, uint8_t cyl, bool recalibrate)
{
    unsigned unit = fdc_cmd_unit(f);
    bool lost = recalibrate && !f->drive[unit].disk; /* no track 0 where there is no drive */

    fdc_seek_to(f, unit, cyl);
    f->seek_st0[unit] =
        (uint8_t)(FDC_ST0_SEEK_END | (lost ? FDC_ST0_ABNORMAL | FDC_ST0_NO_TRACK0 : 0) |
                  (f->cmd[1] & (FDC_UNIT | (recalibrate ? 0 : FDC_SIDE))));
    f->seeking |= (uint8_t)BIT(unit);
    fdc_cmd_none(f);
    fdc_begin_later(f, FDC_LATER_SEEK);
}

static void fdc_cmd_recalibrate(struct fdc *f)
{
    fdc_begin_seek(f, 0, true);
}

static void fdc_cmd_seek(struct fdc *f)
{
    fdc_begin_seek(f, f->cmd[2], false);
}

static void fdc_cmd_relative_seek(struct fdc *f)
{
    int cyl = f->drive[fdc_cmd_unit(f)].cyl;

    cyl += f->cmd[0] & 0x40 ? f->cmd[2] : -f->cmd[2];
    fdc_begin_seek(f, (uint8_t)(cyl < 0 ? 0 : cyl > UINT8_MAX ? UINT8_MAX : cyl), false);
}

/* --- the media --- */

uint8_t fdc_unreadable(const struct fdc *f, unsigned unit)
{
    const struct fdc_drive *d = &f->drive[unit];

    if (!fdc_has_floppy(d) || !(d->format->rates & BIT(f->rate)) || d->cyl >= d->format->cyls)
        return FDC_ST1_NO_ADDRESS;
    return 0;
}

void fdc_data_result(struct fdc *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
    const uint8_t res[7] = {
        (uint8_t)(st0 | f->x.unit | (f->cmd[1] & FDC_SIDE)),
        st1,
        st2,
        f->x.c,
        f->x.h,
        f->x.r,
        f->x.n,
    };

    f->x.op = FDC_NONE;
    fdc_result(f, res, sizeof(res));
    f->data_intr = true;
    fdc_set_intr(f, true);
}

static void fdc_cmd_read_id(struct fdc *f)
{
    f->x = (struct fdc_xfer){ .unit = (uint8_t)fdc_cmd_unit(f), .eot = f->x.eot };
    f->phase = FDC_BUSY;
    fdc_begin_later(f, FDC_LATER_READ_ID);
}

void fdc_later_read_id(struct fdc *f)
{
    struct fdc_drive *d = &f->drive[f->x.unit];
    uint8_t bad = fdc_unreadable(f, f->x.unit);
    uint8_t side = f->cmd[1] & FDC_SIDE ? 1 : 0;

    if (bad || side >= d->format->heads) {
        fdc_data_result(f, FDC_ST0_ABNORMAL, FDC_ST1_NO_ADDRESS, 0);
        return;
    }
    d->next_id = (uint8_t)(d->next_id % d->format->spt + 1);
    f->x.c = d->cyl;
    f->x.h = side;
    f->x.r = d->next_id;
    f->x.n = FDC_SIZE_CODE;
    fdc_data_result(f, 0, 0, 0);
}

static void fdc_cmd_read(struct fdc *f)
{
    fdc_xfer_data(f, FDC_READ);
}

static void fdc_cmd_write(struct fdc *f)
{
    fdc_xfer_data(f, FDC_WRITE);
}

static void fdc_cmd_verify(struct fdc *f)
{
    fdc_xfer_data(f, FDC_VERIFY);
}

/* --- the FIFO's command --- */

static const struct fdc_command fdc_commands[] = {
    { 0x1f, 0x06, 8, fdc_cmd_read },            /* READ DATA */
    { 0x3f, 0x05, 8, fdc_cmd_write },           /* WRITE DATA */
    { 0x9f, 0x02, 8, fdc_cmd_read },            /* READ TRACK */
    { 0x1f, 0x0c, 8, fdc_cmd_read },            /* READ DELETED DATA */
    { 0x3f, 0x09, 8, fdc_cmd_write },           /* WRITE DELETED DATA */
    { 0x1f, 0x16, 8, fdc_cmd_verify },          /* VERIFY */
    { 0xbf, 0x0d, 5, fdc_xfer_format },         /* FORMAT TRACK */
    { 0xbf, 0x0a, 1, fdc_cmd_read_id },         /* READ ID */
    { 0xff, 0x07, 1, fdc_cmd_recalibrate },     /* RECALIBRATE */
    { 0xff, 0x0f, 2, fdc_cmd_seek },            /* SEEK */
    { 0xbf, 0x8f, 2, fdc_cmd_relative_seek },   /* RELATIVE SEEK */
    { 0xff, 0x08, 0, fdc_cmd_sense_interrupt }, /* SENSE INTERRUPT STATUS */
    { 0xff, 0x04, 1, fdc_cmd_sense_drive },     /* SENSE DRIVE STATUS */
    { 0xff, 0x03, 2, fdc_cmd_specify },         /* SPECIFY */
    { 0xff, 0x13, 3, fdc_cmd_configure },       /* CONFIGURE */
    { 0xff, 0x12, 1, fdc_cmd_perpendicular },   /* PERPENDICULAR MODE */
    { 0xff, 0x0e, 0, fdc_cmd_dumpreg },         /* DUMPREG */
    { 0xff, 0x10, 0, fdc_cmd_version },         /* VERSION */
    { 0xff, 0x18, 0, fdc_cmd_part_id },         /* PART ID */
    { 0x7f, 0x14, 0, fdc_cmd_lock },            /* LOCK */
    { 0xff, 0x17, 1, fdc_cmd_powerdown },       /* POWERDOWN MODE */
    { 0xff, 0x33, 1, fdc_cmd_none },            /* OPTION */
};

static const struct fdc_command *fdc_find_command(uint8_t first)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fdc_commands); i++)
        if ((first & fdc_commands[i].mask) == fdc_commands[i].code)
            return &fdc_commands[i];
    return NULL;
}

void fdc_command_byte(struct fdc *f, uint8_t val)
{
    const struct fdc_command *c;

    if (f->phase == FDC_IDLE) {
        /* Some know that they turned polling off, and do not ask after a reset. */
        if (f->polled && val != FDC_SENSE_INTERRUPT)
            fdc_set_intr(f, f->seek_end != 0);
        c = fdc_find_command(val);
        f->cmd_len = 0;
        f->cmd_need = c ? c->params + 1 : 1;
        f->phase = FDC_COMMAND;
    }
    f->cmd[f->cmd_len++] = val;
    if (f->cmd_len < f->cmd_need)
        return;
    c = fdc_find_command(f->cmd[0]);
    if (c)
        c->run(f);
    else
        fdc_cmd_invalid(f);
}
