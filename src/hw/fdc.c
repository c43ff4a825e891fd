/*
 * fdc.c: the floppy disk controller (see fdc_impl.h): its ports, reset, interrupt, and what happens a moment
 * later than the write that starts it. Not modelled: tape drives, the FIFO's threshold, real speed.
 *
 * Locking: the device lock guards everything; the disk's completion, the timer and the DMA controller's news
 * take it on the loop thread.
 */
#include "hw/fdc_impl.h"

#include <errno.h>
#include <string.h>

enum { /* ports */
       FDC_SRA,
       FDC_SRB,
       FDC_DOR,
       FDC_TDR,
       FDC_MSR, /* written: DSR */
       FDC_FIFO,
       FDC_PORTS,
       FDC_DIR = 7, /* written: CCR */
};
enum {
    FDC_DOR_RUN = 0x04, /* not reset */
    FDC_DOR_GATE = 0x08,
    FDC_DSR_RESET = 0x80,
    FDC_DIR_CHANGED = 0x80,
    FDC_MSR_RQM = 0x80,
    FDC_MSR_DIO = 0x40, /* to be read */
    FDC_MSR_NON_DMA = 0x20,
    FDC_MSR_BUSY = 0x10,
    FDC_ALL_UNITS = 0x0f,
    FDC_LATER_NS = 200000,
};

static struct fdc *fdc_of(struct device *d)
{
    return container_of(d, struct fdc, dev);
}

/* --- interrupt and time --- */

static void fdc_drive_irq(struct fdc *f)
{
    irq_set(&f->irq, f->intr && f->dor & FDC_DOR_GATE);
}

void fdc_set_intr(struct fdc *f, bool on)
{
    f->intr = on;
    fdc_drive_irq(f);
}

void fdc_begin_later(struct fdc *f, uint8_t what)
{
    f->later_what |= what;
    f->later_ns = clock_now_ns(vm_clock(f->dev.vm)) + FDC_LATER_NS;
    clock_timer_set(&f->later, f->later_ns);
}

static void fdc_later_reset(struct fdc *f)
{
    f->polled = FDC_ALL_UNITS;
    fdc_set_intr(f, true);
}

static void fdc_later_seek(struct fdc *f)
{
    f->seek_end |= f->seeking;
    f->seeking = 0;
    fdc_set_intr(f, true);
}

static void fdc_later_over(struct clock_timer *t)
{
    struct fdc *f = container_of(t, struct fdc, later);
    uint8_t what;

    pthread_mutex_lock(&f->dev.lock);
    what = f->later_ns <= clock_now_ns(vm_clock(f->dev.vm)) ? f->later_what : 0;
    f->later_what &= (uint8_t)~what;
    if (what & FDC_LATER_RESET)
        fdc_later_reset(f);
    if (what & FDC_LATER_SEEK)
        fdc_later_seek(f);
    if (what & FDC_LATER_READ_ID)
        fdc_later_read_id(f);
    pthread_mutex_unlock(&f->dev.lock);
}

static void fdc_dma_ready(struct loop_work *w)
{
    struct fdc *f = container_of(w, struct fdc, dma_ready);

    pthread_mutex_lock(&f->dev.lock);
    fdc_xfer_go(f);
    pthread_mutex_unlock(&f->dev.lock);
}

/* --- reset --- */

/* Of the controller: a locked configuration stays. */
static void fdc_clear(struct fdc *f)
{
    fdc_xfer_abort(f);
    f->phase = FDC_IDLE;
    f->polled = f->seeking = f->seek_end = 0;
    f->later_what = 0;
    if (!f->lock)
        f->config = f->pretrk = 0;
    f->perpendicular &= 0x3c;
    f->data_intr = false;
    fdc_set_intr(f, false);
}

static void fdc_write_dor(struct fdc *f, uint8_t val)
{
    uint8_t rising = (uint8_t)(val & ~f->dor);

    f->dor = val;
    if (!(val & FDC_DOR_RUN))
        fdc_clear(f);
    else if (rising & FDC_DOR_RUN)
        fdc_begin_later(f, FDC_LATER_RESET);
    fdc_drive_irq(f);
}

static void fdc_write_dsr(struct fdc *f, uint8_t val)
{
    f->rate = val & 3;
    if (!(val & FDC_DSR_RESET) || !(f->dor & FDC_DOR_RUN))
        return;
    fdc_clear(f);
    fdc_begin_later(f, FDC_LATER_RESET);
}

/* --- ports --- */

void fdc_result(struct fdc *f, const uint8_t *res, uint8_t len)
{
    memcpy(f->res, res, len);
    f->res_len = len;
    f->res_pos = 0;
    f->phase = FDC_RESULT;
}

static uint8_t fdc_msr(const struct fdc *f)
{
    uint8_t val = f->seeking;

    if (!(f->dor & FDC_DOR_RUN))
        return 0;
    switch (f->phase) {
    case FDC_IDLE:
        return val | FDC_MSR_RQM;
    case FDC_COMMAND:
        return val | FDC_MSR_RQM | FDC_MSR_BUSY;
    case FDC_DATA:
        return (uint8_t)(val | FDC_MSR_RQM | FDC_MSR_NON_DMA | FDC_MSR_BUSY |
                         (f->x.op == FDC_READ ? FDC_MSR_DIO : 0));
    case FDC_RESULT:
        return val | FDC_MSR_RQM | FDC_MSR_DIO | FDC_MSR_BUSY;
    default:
        return val | FDC_MSR_BUSY;
    }
}

/* Data commands interrupt with their result, which takes the interrupt back. */
static uint8_t fdc_read_fifo(struct fdc *f)
{
    uint8_t val;

    if (f->phase == FDC_DATA && f->x.op == FDC_READ)
        return fdc_fifo_get(f);
    if (f->phase != FDC_RESULT)
        return 0xff;
    if (f->data_intr) {
        f->data_intr = false;
        fdc_set_intr(f, f->seek_end != 0);
    }
    val = f->res[f->res_pos++];
    if (f->res_pos == f->res_len)
        f->phase = FDC_IDLE;
    return val;
}

static void fdc_write_fifo(struct fdc *f, uint8_t val)
{
    if (!(f->dor & FDC_DOR_RUN))
        return;
    if (f->phase == FDC_IDLE || f->phase == FDC_COMMAND)
        fdc_command_byte(f, val);
    else if (f->phase == FDC_DATA && f->x.op != FDC_READ)
        fdc_fifo_put(f, val);
}

static uint64_t fdc_read(struct device *d, uint64_t off, unsigned size)
{
    struct fdc *f = fdc_of(d);

    (void)size; /* 1, by fdc_io */
    switch (off) {
    case FDC_SRA:
        return f->intr ? 0x80 : 0;
    case FDC_SRB:
        return 0xc0 | (f->dor >> 4 & 3);
    case FDC_DOR:
        return f->dor;
    case FDC_TDR:
        return f->tdr;
    case FDC_MSR:
        return fdc_msr(f);
    default:
        return fdc_read_fifo(f);
    }
}

static void fdc_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct fdc *f = fdc_of(d);

    (void)size;
    switch (off) {
    case FDC_DOR:
        fdc_write_dor(f, (uint8_t)val);
        break;
    case FDC_TDR:
        f->tdr = val & 3;
        break;
    case FDC_MSR:
        fdc_write_dsr(f, (uint8_t)val);
        break;
    case FDC_FIFO:
        fdc_write_fifo(f, (uint8_t)val);
        break;
    default:
        break;
    }
}

/* The change line is the selected drive's, while its motor runs. */
static uint64_t fdc_read_dir(struct device *d, uint64_t off, unsigned size)
{
    const struct fdc *f = fdc_of(d);
    unsigned unit = f->dor & 3;

    (void)off;
    (void)size;
    return f->dor & 0x10 << unit && f->drive[unit].changed ? FDC_DIR_CHANGED : 0;
}

static void fdc_write_ccr(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    fdc_of(d)->rate = val & 3;
}

static const struct io_ops fdc_io = { fdc_read, fdc_write, 1, 1 };
static const struct io_ops fdc_dir_io = { fdc_read_dir, fdc_write_ccr, 1, 1 };

/* --- the device --- */

static void fdc_xfer_state(struct fdc *f, struct state *s)
{
    struct fdc_xfer *x = &f->x;

    state_u8(s, &x->op);
    state_u8(s, &x->unit);
    state_bool(s, &x->mt);
    state_u8(s, &x->c);
    state_u8(s, &x->h);
    state_u8(s, &x->r);
    state_u8(s, &x->n);
    state_u8(s, &x->eot);
    state_u8(s, &x->count);
    state_u8(s, &x->filler);
    state_u32(s, &x->pos);
    state_u32(s, &x->len);
    state_bool(s, &x->ended);
    state_require(s,
                  x->op <= FDC_FORMAT && x->unit < FDC_UNITS && x->len <= sizeof(f->buf) &&
                      x->pos <= x->len,
                  "an impossible transfer of the floppy");
    if (state_loading(s) && state_error(s))
        return;
    state_bytes(s, f->buf, x->len);
    if (x->op != FDC_NONE) /* its places are used without another look */
        state_require(s,
                      f->drive[x->unit].disk && x->r && x->r <= f->drive[x->unit].format->spt &&
                          x->h < f->drive[x->unit].format->heads &&
                          x->c < f->drive[x->unit].format->cyls,
                      "a transfer of the floppy that this disk has not");
    state_require(
        s, f->phase != FDC_DATA || (x->op != FDC_NONE && x->op != FDC_VERIFY && x->pos < x->len),
        "an impossible transfer of the floppy");
}

static void fdc_command_state(struct fdc *f, struct state *s)
{
    state_u8(s, &f->phase);
    state_bytes(s, f->cmd, sizeof(f->cmd));
    state_u8(s, &f->cmd_len);
    state_u8(s, &f->cmd_need);
    state_bytes(s, f->res, sizeof(f->res));
    state_u8(s, &f->res_len);
    state_u8(s, &f->res_pos);
    state_require(
        s, f->phase <= FDC_RESULT && f->res_len <= FDC_RESULT_MAX && f->res_pos <= f->res_len,
        "an impossible phase of the floppy");
    state_require(s,
                  f->cmd_need <= FDC_COMMAND_MAX && f->cmd_len <= f->cmd_need &&
                      (f->phase != FDC_COMMAND || f->cmd_len < f->cmd_need) &&
                      (f->phase != FDC_RESULT || f->res_pos < f->res_len),
                  "an impossible command of the floppy");
}

static void fdc_state(struct device *d, struct state *s)
{
    struct fdc *f = fdc_of(d);

    for (unsigned i = 0; i < FDC_UNITS; i++) {
        state_u8(s, &f->drive[i].cyl);
        state_u8(s, &f->drive[i].next_id);
        state_bool(s, &f->drive[i].changed);
        state_u8(s, &f->seek_st0[i]);
    }
    state_u8(s, &f->dor);
    state_u8(s, &f->tdr);
    state_u8(s, &f->rate);
    state_bytes(s, f->specify, sizeof(f->specify));
    state_u8(s, &f->config);
    state_u8(s, &f->pretrk);
    state_u8(s, &f->perpendicular);
    state_bool(s, &f->lock);
    state_bool(s, &f->intr);
    state_bool(s, &f->data_intr);
    state_u8(s, &f->polled);
    state_u8(s, &f->seeking);
    state_u8(s, &f->seek_end);
    state_u8(s, &f->later_what);
    state_u64(s, &f->later_ns);
    state_require(s, f->rate <= 3 && (f->polled | f->seeking | f->seek_end) <= FDC_ALL_UNITS,
                  "an impossible state of the floppy");
    fdc_command_state(f, s);
    fdc_xfer_state(f, s);
    if (state_loading(s)) /* a request in flight is that of somebody who did not quiesce */
        f->stale = f->in_flight;
}

static void fdc_sync(struct device *d)
{
    struct fdc *f = fdc_of(d);

    clock_timer_cancel(&f->later);
    if (f->later_what)
        clock_timer_set(&f->later, f->later_ns);
    fdc_drive_irq(f);
    loop_post(vm_loop(d->vm), &f->dma_ready);
}

static void fdc_quiesce(struct device *d)
{
    for (unsigned i = 0; i < FDC_DRIVES; i++)
        if (fdc_of(d)->drive[i].disk)
            blk_drain(fdc_of(d)->drive[i].disk);
}

static void fdc_destroy(struct device *d)
{
    struct fdc *f = fdc_of(d);

    clock_timer_cancel(&f->later);
    for (unsigned i = 0; i < FDC_DRIVES; i++)
        blk_close(f->drive[i].disk);
    loop_unpost(vm_loop(d->vm), &f->dma_ready);
    free(f);
}

static const struct device_ops fdc_ops = {
    .type = "fdc",
    .version = 1,
    .state = fdc_state,
    .sync = fdc_sync,
    .quiesce = fdc_quiesce,
    .destroy = fdc_destroy,
};

static void fdc_power_on(struct fdc *f, struct blk *const disk[FDC_DRIVES])
{
    for (unsigned i = 0; i < FDC_UNITS; i++)
        fdc_media_init(f, i, i < FDC_DRIVES ? disk[i] : NULL);
    f->dor = FDC_DOR_RUN | FDC_DOR_GATE;
    f->rate = 2;
    f->specify[0] = 0xaf;
    f->specify[1] = 0x02;
}

struct fdc *fdc_create(struct vm *vm, const struct fdc_at *at, struct blk *const disk[FDC_DRIVES],
                       struct err *e)
{
    struct fdc *f = calloc(1, sizeof(*f));
    struct bus *pio = vm_pio(vm);

    if (!f)
        return err_oom(e);
    f->dev = (struct device){ .ops = &fdc_ops, .vm = vm, .id = "floppy" };
    f->irq = at->irq;
    f->dma = at->dma;
    f->channel = at->channel;
    f->dma_ready.call = fdc_dma_ready;
    clock_timer_init(vm_clock(vm), &f->later, fdc_later_over);
    fdc_power_on(f, disk);
    if (bus_claim(pio, at->base, FDC_PORTS, &fdc_io, &f->dev, e) ||
        bus_claim(pio, at->base + FDC_DIR, 1, &fdc_dir_io, &f->dev, e) ||
        device_add(vm, &f->dev, e)) {
        bus_release(pio, &f->dev);
        free(f);
        return NULL;
    }
    i8237_connect(f->dma, f->channel, &f->dma_ready);
    return f;
}
