/*
 * xhci_regs.c: registers (5). Accesses are of 32 bits; a register of 64 is two.
 *
 *     0x0000 capabilities   0x0800 extended capabilities
 *     0x0040 operational    0x0440 ports, 16 bytes each
 *     0x1000 runtime        0x1020 interrupter 0
 *     0x2000 doorbells, 4 bytes each
 */
#include "hw/xhci_priv.h"

enum {
    AT_OPERATIONAL = 0x40,
    AT_PORTS = 0x440,
    AT_PORTS_END = AT_PORTS + 16 * XHCI_PORTS,
    AT_EXTENDED = 0x800,
    AT_RUNTIME = 0x1000,
    AT_INTERRUPTER = 0x1020,
    AT_DOORBELLS = 0x2000,
    AT_DOORBELLS_END = AT_DOORBELLS + 4 * (XHCI_SLOTS + 1),
};
enum {
    OP_USBCMD = 0x00,
    OP_USBSTS = 0x04,
    OP_PAGESIZE = 0x08,
    OP_DNCTRL = 0x14,
    OP_CRCR = 0x18,
    OP_DCBAAP = 0x30,
    OP_CONFIG = 0x38,
};
enum {
    IR_IMAN = 0x00,
    IR_IMOD = 0x04,
    IR_ERSTSZ = 0x08,
    IR_ERSTBA = 0x10,
    IR_ERDP = 0x18,
};
enum { CRCR_RCS = BIT(0), CRCR_STOP = BIT(1), CRCR_ABORT = BIT(2), CRCR_RUNNING = BIT(3) };
enum { MICROFRAME_NS = 125000, MICROFRAMES = 0x3fff };
enum { HCIVERSION = 0x0100, ERST_MAX_LOG2 = 4, NAME_USB = 0x20425355 };

static struct xhci *xhci_regs_of(struct device *d)
{
    return container_of(d, struct xhci, pci.dev);
}

static uint32_t xhci_half(uint64_t reg, uint32_t off)
{
    return (uint32_t)(off & 4 ? reg >> 32 : reg);
}

static void xhci_set_half(uint64_t *reg, uint32_t off, uint32_t val)
{
    if (off & 4)
        *reg = (uint32_t)*reg | (uint64_t)val << 32;
    else
        *reg = (*reg & ~0xffffffffull) | val;
}

/* --- capabilities --- */

static uint32_t xhci_read_capability(uint32_t off)
{
    switch (off) {
    case 0x00: /* CAPLENGTH, HCIVERSION */
        return AT_OPERATIONAL | HCIVERSION << 16;
    case 0x04: /* HCSPARAMS1: slots, interrupters, ports */
        return XHCI_SLOTS | 1 << 8 | (uint32_t)XHCI_PORTS << 24;
    case 0x08: /* HCSPARAMS2: no isochronous threshold, segments of the event ring */
        return ERST_MAX_LOG2 << 4;
    case 0x10: /* HCCPARAMS1: 64-bit addresses, extended capabilities */
        return 1 | (uint32_t)(AT_EXTENDED / 4) << 16;
    case 0x14: /* DBOFF */
        return AT_DOORBELLS;
    case 0x18: /* RTSOFF */
        return AT_RUNTIME;
    default:
        return 0;
    }
}

/* 7.2: which ports speak which protocol; the default speeds. */
static uint32_t xhci_read_extended(uint32_t off)
{
    static const uint32_t words[] = {
        2 | 4 << 8 | 3u << 24,
        NAME_USB,
        1 | XHCI_PORTS_USB3 << 8,
        0,
        2 | 0 << 8 | 2u << 24,
        NAME_USB,
        (1 + XHCI_PORTS_USB3) | XHCI_PORTS_USB2 << 8,
        0,
    };

    return off / 4 < ARRAY_SIZE(words) ? words[off / 4] : 0;
}

/* --- operational registers --- */

static uint32_t xhci_read_operational(const struct xhci *x, uint32_t off)
{
    switch (off) {
    case OP_USBCMD:
        return x->cmd;
    case OP_USBSTS:
        return x->sts;
    case OP_PAGESIZE:
        return 1; /* 4 KiB */
    case OP_DNCTRL:
        return x->dnctrl;
    case OP_CRCR:
        return x->commands_running ? CRCR_RUNNING : 0;
    case OP_DCBAAP:
    case OP_DCBAAP + 4:
        return xhci_half(x->dcbaap, off);
    case OP_CONFIG:
        return x->config;
    default:
        return 0;
    }
}

static void xhci_start_stop(struct xhci *x, uint32_t val)
{
    bool run = val & CMD_RUN;

    x->cmd = val & (CMD_RUN | CMD_INTE | CMD_HSEE | CMD_WRAP);
    if (x->sts & STS_HSE) { /* only a reset helps */
        x->cmd &= ~(uint32_t)CMD_RUN;
        run = false;
    }
    if (run) {
        x->sts &= ~(uint32_t)STS_HALTED;
        return;
    }
    x->sts |= STS_HALTED;
    x->commands_running = false;
    for (unsigned i = 0; i < XHCI_PORTS; i++)
        if (x->port[i].dev)
            x->port[i].dev->polled = false;
}

static void xhci_write_command(struct xhci *x, uint32_t val)
{
    if (val & CMD_RESET) {
        xhci_reset(x);
        return;
    }
    if (val & CMD_SAVE)
        x->saved = true; /* all of it: nothing is lost */
    if ((val & CMD_RESTORE) && !x->saved)
        x->sts |= STS_SRE; /* there was a reset in between */
    xhci_start_stop(x, val);
}

/* 5.4.5: the pointer is taken only while the ring is stopped. */
static void xhci_write_crcr(struct xhci *x, uint32_t off, uint32_t val)
{
    if (x->commands_running) {
        if (!(off & 4) && (val & (CRCR_STOP | CRCR_ABORT))) {
            x->commands_running = false;
            if (xhci_event_room(x))
                xhci_event(x, x->commands.at, (uint32_t)CC_RING_STOPPED << 24,
                           TRB_EV_COMMAND << TRB_TYPE_SHIFT);
        }
        return;
    }
    xhci_set_half(&x->commands.at, off, off & 4 ? val : val & ~63u);
    if (!(off & 4))
        x->commands.cycle = val & CRCR_RCS;
}

static void xhci_write_operational(struct xhci *x, uint32_t off, uint32_t val)
{
    switch (off) {
    case OP_USBCMD:
        xhci_write_command(x, val);
        break;
    case OP_USBSTS:
        x->sts &= ~(val & (STS_EINT | STS_PCD | STS_SRE));
        break;
    case OP_DNCTRL:
        x->dnctrl = val & 0xffff;
        break;
    case OP_CRCR:
    case OP_CRCR + 4:
        xhci_write_crcr(x, off, val);
        break;
    case OP_DCBAAP:
    case OP_DCBAAP + 4:
        xhci_set_half(&x->dcbaap, off, off & 4 ? val : val & ~63u);
        break;
    case OP_CONFIG:
        x->config = val & 0x3ff;
        break;
    default:
        break;
    }
}

/* --- runtime registers --- */

static uint32_t xhci_read_runtime(struct xhci *x, uint32_t off)
{
    if (off == AT_RUNTIME) /* MFINDEX */
        return (uint32_t)(clock_now_ns(vm_clock(x->pci.dev.vm)) / MICROFRAME_NS) & MICROFRAMES;
    switch (off - AT_INTERRUPTER) {
    case IR_IMAN:
        return x->iman;
    case IR_IMOD:
        return x->imod;
    case IR_ERSTSZ:
        return x->erstsz;
    case IR_ERSTBA:
    case IR_ERSTBA + 4:
        return xhci_half(x->erstba, off);
    case IR_ERDP:
    case IR_ERDP + 4:
        return xhci_half(x->erdp, off);
    default:
        return 0;
    }
}

/* The handler is done with what it has seen; what came meanwhile interrupts anew. */
static void xhci_write_erdp(struct xhci *x, uint32_t off, uint32_t val)
{
    uint32_t busy = (uint32_t)x->erdp & ERDP_EHB;

    if (!(off & 4))
        val = (val & ~(uint32_t)ERDP_EHB) | (val & ERDP_EHB ? 0 : busy);
    xhci_set_half(&x->erdp, off, val);
    if (x->event_ready && (x->erdp & ~15ull) != x->event.base + (uint64_t)x->event.index * XHCI_TRB)
        x->event_pending = true;
    else
        x->event_pending = false;
}

static void xhci_write_runtime(struct xhci *x, uint32_t off, uint32_t val)
{
    switch (off - AT_INTERRUPTER) {
    case IR_IMAN:
        x->iman = (x->iman & ~(val & IMAN_IP) & ~(uint32_t)IMAN_IE) | (val & IMAN_IE);
        break;
    case IR_IMOD:
        x->imod = val;
        break;
    case IR_ERSTSZ:
        x->erstsz = val & 0xffff;
        x->event_ready = false;
        break;
    case IR_ERSTBA:
    case IR_ERSTBA + 4:
        xhci_set_half(&x->erstba, off, off & 4 ? val : val & ~63u);
        x->event_ready = false;
        break;
    case IR_ERDP:
    case IR_ERDP + 4:
        xhci_write_erdp(x, off, val);
        break;
    default:
        break;
    }
}

/* 4.7: of slot 0 it is the command ring's. */
static void xhci_doorbell(struct xhci *x, unsigned slot, uint32_t val)
{
    unsigned ep = val & 0xff;

    if (!(x->cmd & CMD_RUN))
        return;
    if (!slot)
        x->commands_running |= ep == 0;
    else if (x->slot[slot].enabled && ep && ep < XHCI_EPS) {
        if (x->slot[slot].ep[ep].state == EP_STOPPED)
            xhci_ep_set_state(x, slot, ep, EP_RUNNING);
        xhci_ready(x, slot, ep);
    }
}

/* --- the BAR --- */

static uint64_t xhci_read(struct device *d, uint64_t off64, unsigned size)
{
    struct xhci *x = xhci_regs_of(d);
    uint32_t off = (uint32_t)off64;

    (void)size;
    if (off < AT_OPERATIONAL)
        return xhci_read_capability(off);
    if (off < AT_PORTS)
        return xhci_read_operational(x, off - AT_OPERATIONAL);
    if (off < AT_PORTS_END)
        return off % 16 ? 0 : xhci_port_read(x, (off - AT_PORTS) / 16);
    if (off >= AT_EXTENDED && off < AT_RUNTIME)
        return xhci_read_extended(off - AT_EXTENDED);
    if (off >= AT_RUNTIME && off < AT_DOORBELLS)
        return xhci_read_runtime(x, off);
    return 0;
}

static void xhci_write(struct device *d, uint64_t off64, unsigned size, uint64_t val64)
{
    struct xhci *x = xhci_regs_of(d);
    uint32_t off = (uint32_t)off64, val = (uint32_t)val64;

    (void)size;
    if (off >= AT_OPERATIONAL && off < AT_PORTS)
        xhci_write_operational(x, off - AT_OPERATIONAL, val);
    else if (off >= AT_PORTS && off < AT_PORTS_END && off % 16 == 0)
        xhci_port_write(x, (off - AT_PORTS) / 16, val);
    else if (off >= AT_INTERRUPTER && off < AT_DOORBELLS)
        xhci_write_runtime(x, off, val);
    else if (off >= AT_DOORBELLS && off < AT_DOORBELLS_END)
        xhci_doorbell(x, (off - AT_DOORBELLS) / 4, val);
    xhci_run(x);
    xhci_interrupt(x);
}

const struct io_ops xhci_io = { xhci_read, xhci_write, 4, 4 };
