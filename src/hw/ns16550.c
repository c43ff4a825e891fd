/*
 * ns16550.c: National PC16550D UART. The line has no speed: a byte leaves as soon as the character
 * device takes it. When that is full, bytes wait in the transmit FIFO and THRE stays clear until the
 * device has room, so a driver that waits for THRE loses nothing. Received bytes stay in the character
 * device until the FIFO has room. The receive time-out is immediate: between two bytes the line is idle.
 *
 * Not modelled: parity, framing and break errors, DMA mode.
 *
 * Locking: the device lock, taken in chardev callbacks.
 */
#include "hw/ns16550.h"

#include <string.h>

#include "chardev/chardev.h"
#include "state/state.h"

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { IER_RDA = BIT(0), IER_THRE = BIT(1), IER_RLS = BIT(2), IER_MS = BIT(3) };
enum {
    IIR_MS = 0x0,
    IIR_NONE = 0x1,
    IIR_THRE = 0x2,
    IIR_RDA = 0x4,
    IIR_RLS = 0x6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO = 0xc0,
};
enum { FCR_ENABLE = BIT(0), FCR_CLEAR_RX = BIT(1), FCR_CLEAR_TX = BIT(2) };
enum { LCR_DLAB = BIT(7) };
enum {
    MCR_DTR = BIT(0),
    MCR_RTS = BIT(1),
    MCR_OUT1 = BIT(2),
    MCR_OUT2 = BIT(3),
    MCR_LOOP = BIT(4)
};
enum { LSR_DR = BIT(0), LSR_OE = BIT(1), LSR_THRE = BIT(5), LSR_TEMT = BIT(6) };
enum { MSR_TERI = BIT(2), MSR_CTS = BIT(4), MSR_DSR = BIT(5), MSR_RI = BIT(6), MSR_DCD = BIT(7) };
enum { FIFO_LEN = 16, NS16550_LEN = 8 };

struct ns16550_fifo {
    uint8_t data[FIFO_LEN]; /* oldest first */
    uint8_t n;
};

struct ns16550 {
    struct device dev;
    /* wiring */
    struct irq irq;
    struct chardev *chr;
    /* guest-visible state */
    struct ns16550_fifo rx, tx;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint16_t divisor;
    bool overrun;
    bool thre_pending; /* the transmitter ran empty and nobody has been told */
};

static struct ns16550 *to_uart(struct device *d)
{
    return container_of(d, struct ns16550, dev);
}

static unsigned ns16550_depth(const struct ns16550 *u)
{
    return u->fcr & FCR_ENABLE ? FIFO_LEN : 1;
}

static unsigned ns16550_trigger(const struct ns16550 *u)
{
    static const uint8_t level[4] = { 1, 4, 8, 14 };

    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static void ns16550_drop(struct ns16550_fifo *f, size_t n)
{
    f->n = (uint8_t)(f->n - n);
    memmove(f->data, f->data + n, f->n);
}

/* The interrupt of highest priority, as IIR shows it. */
static uint8_t ns16550_cause(const struct ns16550 *u)
{
    if ((u->ier & IER_RLS) && u->overrun)
        return IIR_RLS;
    if ((u->ier & IER_RDA) && u->rx.n)
        return u->rx.n >= ns16550_trigger(u) ? IIR_RDA : IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_MS) && (u->msr & 0xf))
        return IIR_MS;
    return IIR_NONE;
}

/* OUT2 gates the interrupt on a PC's board. */
static void ns16550_update(struct ns16550 *u)
{
    irq_set(&u->irq, ns16550_cause(u) != IIR_NONE && (u->mcr & MCR_OUT2));
}

/* Fills the receive FIFO from the character device. */
static void ns16550_pull(struct ns16550 *u)
{
    if (u->chr && !(u->mcr & MCR_LOOP) && u->rx.n < ns16550_depth(u))
        u->rx.n += (uint8_t)chardev_read(u->chr, u->rx.data + u->rx.n, ns16550_depth(u) - u->rx.n);
}

/* Drains the transmit FIFO into the character device, as far as it takes it. */
static void ns16550_push(struct ns16550 *u)
{
    size_t taken = u->tx.n;

    if (!u->tx.n)
        return;
    if (u->chr)
        taken = chardev_write(u->chr, u->tx.data, u->tx.n);
    ns16550_drop(&u->tx, taken);
    if (!u->tx.n)
        u->thre_pending = true;
}

static void ns16550_readable(void *opaque)
{
    struct ns16550 *u = opaque;

    pthread_mutex_lock(&u->dev.lock);
    ns16550_pull(u);
    ns16550_update(u);
    pthread_mutex_unlock(&u->dev.lock);
}

static void ns16550_writable(void *opaque)
{
    struct ns16550 *u = opaque;

    pthread_mutex_lock(&u->dev.lock);
    ns16550_push(u);
    ns16550_update(u);
    pthread_mutex_unlock(&u->dev.lock);
}

static void ns16550_receive_loop(struct ns16550 *u, uint8_t byte)
{
    if (u->rx.n < ns16550_depth(u))
        u->rx.data[u->rx.n++] = byte;
    else
        u->overrun = true;
}

static void ns16550_write_thr(struct ns16550 *u, uint8_t byte)
{
    u->thre_pending = false;
    if (u->mcr & MCR_LOOP) {
        ns16550_receive_loop(u, byte);
        u->thre_pending = true;
        return;
    }
    if (u->tx.n ==
        FIFO_LEN) /* written without a look at THRE: the newest is lost, as in the chip */
        return;
    u->tx.data[u->tx.n++] = byte;
    ns16550_push(u);
}

static uint8_t ns16550_read_rbr(struct ns16550 *u)
{
    uint8_t byte = u->rx.n ? u->rx.data[0] : 0;

    if (u->rx.n)
        ns16550_drop(&u->rx, 1);
    if (!u->rx.n)
        ns16550_pull(u);
    return byte;
}

/* Lines in: from our own outputs in loop-back mode, else a terminal that is always there. */
static void ns16550_update_msr(struct ns16550 *u)
{
    uint8_t old = u->msr & 0xf0, now = MSR_DCD | MSR_DSR | MSR_CTS, delta;

    if (u->mcr & MCR_LOOP)
        now = (uint8_t)((u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_RTS ? MSR_CTS : 0) |
                        (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
    delta = (uint8_t)((old ^ now) >> 4);
    if ((delta & MSR_TERI) && (now & MSR_RI)) /* only the trailing edge of RI counts */
        delta &= (uint8_t)~MSR_TERI;
    u->msr = (uint8_t)(now | (u->msr & 0xf) | delta);
}

static void ns16550_write_fcr(struct ns16550 *u, uint8_t val)
{
    if ((val ^ u->fcr) & FCR_ENABLE)
        val |= FCR_CLEAR_RX | FCR_CLEAR_TX; /* the data sheet: a change empties both */
    if (val & FCR_CLEAR_RX)
        u->rx.n = 0;
    if ((val & FCR_CLEAR_TX) && u->tx.n) {
        u->tx.n = 0;
        u->thre_pending = true;
    }
    u->fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
    ns16550_pull(u);
}

static void ns16550_write_ier(struct ns16550 *u, uint8_t val)
{
    /* Enabling the interrupt with an empty transmitter raises it at once. */
    if ((val & ~u->ier & IER_THRE) && !u->tx.n)
        u->thre_pending = true;
    u->ier = val & 0xf;
}

static uint8_t ns16550_read_iir(struct ns16550 *u)
{
    uint8_t cause = ns16550_cause(u);

    if (cause == IIR_THRE)
        u->thre_pending = false;
    return (uint8_t)(cause | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0));
}

static uint8_t ns16550_read_lsr(struct ns16550 *u)
{
    uint8_t lsr = 0;

    if (u->rx.n)
        lsr |= LSR_DR;
    if (u->overrun)
        lsr |= LSR_OE;
    if (!u->tx.n)
        lsr |= LSR_THRE | LSR_TEMT;
    u->overrun = false;
    return lsr;
}

static uint8_t ns16550_read_msr(struct ns16550 *u)
{
    uint8_t msr = u->msr;

    u->msr &= 0xf0;
    return msr;
}

static uint8_t ns16550_read_reg(struct ns16550 *u, unsigned reg)
{
    if ((u->lcr & LCR_DLAB) && reg <= IER)
        return (uint8_t)(u->divisor >> (8 * reg));
    switch (reg) {
    case RBR:
        return ns16550_read_rbr(u);
    case IER:
        return u->ier;
    case IIR:
        return ns16550_read_iir(u);
    case LCR:
        return u->lcr;
    case MCR:
        return u->mcr;
    case LSR:
        return ns16550_read_lsr(u);
    case MSR:
        return ns16550_read_msr(u);
    default:
        return u->scr;
    }
}

static uint64_t ns16550_read(struct device *d, uint64_t off, unsigned size)
{
    uint8_t val = ns16550_read_reg(to_uart(d), (unsigned)off);

    (void)size;
    ns16550_update(to_uart(d));
    return val;
}

static void ns16550_write_reg(struct ns16550 *u, unsigned reg, uint8_t val)
{
    if ((u->lcr & LCR_DLAB) && reg <= IER) {
        u->divisor = (uint16_t)((u->divisor & ~(0xff << 8 * reg)) | val << 8 * reg);
        return;
    }
    switch (reg) {
    case THR:
        ns16550_write_thr(u, val);
        break;
    case IER:
        ns16550_write_ier(u, val);
        break;
    case FCR:
        ns16550_write_fcr(u, val);
        break;
    case LCR:
        u->lcr = val;
        break;
    case MCR:
        u->mcr = val & 0x1f;
        ns16550_update_msr(u);
        ns16550_pull(u);
        break;
    case SCR:
        u->scr = val;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}

static void ns16550_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    ns16550_write_reg(to_uart(d), (unsigned)off, (uint8_t)val);
    ns16550_update(to_uart(d));
}

static void ns16550_fifo_state(struct ns16550_fifo *f, struct state *s)
{
    state_u8(s, &f->n);
    state_require(s, f->n <= FIFO_LEN, "UART FIFO longer than it can be");
    if (state_error(s))
        f->n = 0;
    state_bytes(s, f->data, f->n);
}

static void ns16550_state(struct device *d, struct state *s)
{
    struct ns16550 *u = to_uart(d);

    ns16550_fifo_state(&u->rx, s);
    ns16550_fifo_state(&u->tx, s);
    state_u8(s, &u->ier);
    state_u8(s, &u->fcr);
    state_u8(s, &u->lcr);
    state_u8(s, &u->mcr);
    state_u8(s, &u->msr);
    state_u8(s, &u->scr);
    state_u16(s, &u->divisor);
    state_bool(s, &u->overrun);
    state_bool(s, &u->thre_pending);
    state_require(s, !(u->ier & 0xf0) && !(u->mcr & 0xe0), "UART registers out of range");
}

static void ns16550_sync(struct device *d)
{
    struct ns16550 *u = to_uart(d);

    ns16550_push(u);
    ns16550_pull(u);
    ns16550_update(u);
}

/* The character device outlives us: it must not call a UART that is gone. */
static void ns16550_destroy(struct device *d)
{
    static const struct chardev_ops nobody = { 0 };

    if (to_uart(d)->chr)
        chardev_attach(to_uart(d)->chr, &nobody, NULL);
    free(to_uart(d));
}

static const struct device_ops ns16550_ops = {
    .type = "ns16550",
    .version = 1,
    .state = ns16550_state,
    .sync = ns16550_sync,
    .destroy = ns16550_destroy,
};
static const struct io_ops ns16550_io = { ns16550_read, ns16550_write, 1, 1 };
static const struct chardev_ops ns16550_chardev = { ns16550_readable, ns16550_writable };

struct ns16550 *ns16550_create(struct vm *vm, const char *id, uint16_t base, struct irq irq,
                               struct chardev *chr, struct err *e)
{
    struct ns16550 *u = calloc(1, sizeof(*u));

    if (!u)
        return err_oom(e);
    *u = (struct ns16550){
        .dev = { .ops = &ns16550_ops, .vm = vm, .id = id },
        .irq = irq,
        .chr = chr,
        .divisor = 1,
        .msr = MSR_DCD | MSR_DSR | MSR_CTS,
    };
    if (bus_claim(vm_pio(vm), base, NS16550_LEN, &ns16550_io, &u->dev, e) ||
        device_add(vm, &u->dev, e)) {
        bus_release(vm_pio(vm), &u->dev);
        free(u);
        return NULL;
    }
    if (chr)
        chardev_attach(chr, &ns16550_chardev, u);
    return u;
}
