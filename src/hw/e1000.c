/*
 * e1000.c: Intel 82540EM (see e1000_impl.h): PCI function, register window by memory and by I/O, interrupts.
 * Not modelled: wake-up, management, flow control (the backend has its own), flash.
 *
 * Locking: the device lock guards everything.
 */
#include "hw/e1000_impl.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

enum { E1000_MMIO_LEN = 128 * KIB, E1000_IO_LEN = 64, E1000_IO_ADDR = 0, E1000_IO_DATA = 4 };
enum { E1000_STATUS_UP = 0x283 }; /* full duplex, link up, 1000 Mbit/s */
enum { E1000_ITR_NS = 256, E1000_CAUSES = 0x1fbff };

static struct e1000 *e1000_of(struct device *d)
{
    return container_of(d, struct e1000, pci.dev);
}

struct e1000 *e1000_of_nic(struct nic *nic)
{
    return container_of(nic, struct e1000, nic);
}

/* --- interrupts --- */

/*
 * The pin follows the causes, but once it has been raised it is not again before ITR's time is over: then the
 * timer looks.
 */
static void e1000_update_irq(struct e1000 *n)
{
    bool want = *e1000_reg(n, E1000_ICR) & *e1000_reg(n, E1000_IMS);
    uint64_t now = clock_now_ns(vm_clock(n->pci.dev.vm));

    if (want && !n->asserted) {
        if (now < n->next_intr_ns) {
            clock_timer_set(&n->throttle, n->next_intr_ns);
            return;
        }
        n->next_intr_ns = now + (uint64_t)*e1000_reg(n, E1000_ITR) * E1000_ITR_NS;
    }
    n->asserted = want;
    pci_set_intx(&n->pci, want);
}

static void e1000_throttle_over(struct clock_timer *t)
{
    struct e1000 *n = container_of(t, struct e1000, throttle);

    pthread_mutex_lock(&n->pci.dev.lock);
    if (!n->nic.quiesced)
        e1000_update_irq(n);
    pthread_mutex_unlock(&n->pci.dev.lock);
}

void e1000_raise(struct e1000 *n, uint32_t causes)
{
    *e1000_reg(n, E1000_ICR) |= causes;
    e1000_update_irq(n);
}

/* --- registers --- */

void e1000_count(struct e1000 *n, unsigned off)
{
    uint32_t *r = e1000_reg(n, off);

    *r += *r != UINT32_MAX;
}

void e1000_count64(struct e1000 *n, unsigned off, uint64_t amount)
{
    uint64_t sum = (uint64_t)*e1000_reg(n, off + 4) << 32 | *e1000_reg(n, off);

    if (ckd_add(&sum, sum, amount))
        sum = UINT64_MAX;
    *e1000_reg(n, off) = (uint32_t)sum;
    *e1000_reg(n, off + 4) = (uint32_t)(sum >> 32);
}

static void e1000_power_on(struct e1000 *n)
{
    memset(n->reg, 0, sizeof(n->reg));
    *e1000_reg(n, E1000_CTRL) = 0x00000201; /* full duplex, 1000 Mbit/s */
    *e1000_reg(n, E1000_STATUS) = E1000_STATUS_UP;
    *e1000_reg(n, E1000_VET) = 0x8100;
    *e1000_reg(n, E1000_LEDCTL) = 0x07061302;
    *e1000_reg(n, E1000_PBA) = 0x00100030;
    *e1000_reg(n, E1000_RXCSUM) = 0;
    *e1000_reg(n, E1000_RA) = ld_le16(n->mac) | (uint32_t)ld_le16(n->mac + 2) << 16;
    *e1000_reg(n, E1000_RA + 4) = ld_le16(n->mac + 4) | E1000_RAH_AV;
    n->plain = n->tso = (struct e1000_context){ 0 };
    n->next_intr_ns = 0;
}

/* The address is read from the EEPROM again. */
static void e1000_soft_reset(struct e1000 *n)
{
    e1000_power_on(n);
    *e1000_reg(n, E1000_RA) = n->eeprom.word[0] | (uint32_t)n->eeprom.word[1] << 16;
    *e1000_reg(n, E1000_RA + 4) = n->eeprom.word[2] | E1000_RAH_AV;
    e1000_phy_reset(n);
    clock_timer_cancel(&n->throttle);
    e1000_update_irq(n);
}

static uint32_t e1000_read_reg(struct e1000 *n, unsigned off)
{
    uint32_t val;

    off = e1000_unalias(off);
    if (!e1000_range(off))
        return 0;
    val = *e1000_reg(n, off);
    if (off == E1000_EECD)
        return e1000_eecd_read(n);
    if (off == E1000_ICR || (off >= E1000_STATS && off < E1000_STATS_END)) {
        *e1000_reg(n, off) = 0; /* read to clear */
        if (off == E1000_ICR)
            e1000_update_irq(n);
    }
    return val;
}

static void e1000_write_ctrl(struct e1000 *n, uint32_t val)
{
    if (val & E1000_CTRL_RST)
        e1000_soft_reset(n);
    else if (val & E1000_CTRL_PHY_RST)
        e1000_phy_reset(n);
}

/* What a write does beyond being kept. */
static void e1000_written(struct e1000 *n, unsigned off, uint32_t val)
{
    switch (off) {
    case E1000_CTRL:
        e1000_write_ctrl(n, val);
        break;
    case E1000_EECD:
        e1000_eecd_write(n, val);
        break;
    case E1000_EERD:
        e1000_eerd_write(n, val);
        break;
    case E1000_MDIC:
        e1000_mdic_write(n, val);
        break;
    case E1000_ICR: /* write 1 to clear */
        *e1000_reg(n, E1000_ICR) &= ~val;
        e1000_update_irq(n);
        break;
    case E1000_ICS:
        e1000_raise(n, val & E1000_CAUSES);
        break;
    case E1000_IMS:
        *e1000_reg(n, E1000_IMS) |= val & E1000_CAUSES;
        e1000_update_irq(n);
        break;
    case E1000_IMC:
        *e1000_reg(n, E1000_IMS) &= ~val;
        e1000_update_irq(n);
        break;
    case E1000_RCTL:
    case E1000_RDT:
        e1000_receive(&n->nic);
        break;
    case E1000_TCTL:
    case E1000_TDT:
        e1000_transmit(&n->nic);
        break;
    default:
        break;
    }
}

static void e1000_write_reg(struct e1000 *n, unsigned off, uint32_t val)
{
    const struct e1000_range *r;

    off = e1000_unalias(off);
    r = e1000_range(off);
    if (r) {
        uint32_t *reg = e1000_reg(n, off);

        *reg = (*reg & ~r->mask) | (val & r->mask);
    }
    e1000_written(n, off, val);
}

static uint64_t e1000_mmio_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size; /* 4, by e1000_mmio */
    return e1000_read_reg(e1000_of(d), (unsigned)off & ~3u);
}

static void e1000_mmio_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    e1000_write_reg(e1000_of(d), (unsigned)off & ~3u, (uint32_t)val);
}

static uint64_t e1000_io_read(struct device *d, uint64_t off, unsigned size)
{
    struct e1000 *n = e1000_of(d);

    (void)size;
    if (off == E1000_IO_ADDR)
        return n->io_addr;
    return off == E1000_IO_DATA ? e1000_read_reg(n, n->io_addr) : 0;
}

static void e1000_io_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct e1000 *n = e1000_of(d);

    (void)size;
    if (off == E1000_IO_ADDR)
        n->io_addr = (uint32_t)val & (E1000_MMIO_LEN - 4);
    else if (off == E1000_IO_DATA)
        e1000_write_reg(n, n->io_addr, (uint32_t)val);
}

static const struct io_ops e1000_mmio = { e1000_mmio_read, e1000_mmio_write, 4, 4 };
static const struct io_ops e1000_io = { e1000_io_read, e1000_io_write, 4, 4 };

/* --- the device --- */

static void e1000_context_state(struct e1000_context *c, struct state *s)
{
    state_u8(s, &c->ipcss);
    state_u8(s, &c->ipcso);
    state_u16(s, &c->ipcse);
    state_u8(s, &c->tucss);
    state_u8(s, &c->tucso);
    state_u16(s, &c->tucse);
    state_u8(s, &c->header);
    state_u16(s, &c->mss);
    state_bool(s, &c->tcp);
}

static void e1000_state(struct device *d, struct state *s)
{
    struct e1000 *n = e1000_of(d);

    pci_state(&n->pci, s);
    for (unsigned i = 0; i < e1000_n_ranges; i++)
        for (unsigned j = 0; j < e1000_ranges[i].count; j++)
            state_u32(s, e1000_reg(n, e1000_ranges[i].off + 4 * j));
    for (unsigned i = 0; i < E1000_PHY_REGS; i++)
        state_u16(s, &n->phy[i]);
    eeprom93c46_state(&n->eeprom, s);
    e1000_context_state(&n->plain, s);
    e1000_context_state(&n->tso, s);
    state_u32(s, &n->io_addr);
    state_bool(s, &n->asserted);
    state_u64(s, &n->next_intr_ns);
    state_require(s, n->io_addr < E1000_MMIO_LEN && n->io_addr % 4 == 0,
                  "an address outside of the card");
}

static void e1000_sync(struct device *d)
{
    struct e1000 *n = e1000_of(d);

    pci_sync(&n->pci);
    pci_set_intx(&n->pci, n->asserted);
    clock_timer_cancel(&n->throttle);
    e1000_update_irq(n);
    nic_resume(&n->nic);
}

static void e1000_quiesce(struct device *d)
{
    nic_quiesce(&e1000_of(d)->nic);
}

static void e1000_destroy(struct device *d)
{
    struct e1000 *n = e1000_of(d);

    clock_timer_cancel(&n->throttle);
    nic_fini(&n->nic);
    free(n);
}

static const struct device_ops e1000_ops = {
    .type = "e1000",
    .version = 1,
    .state = e1000_state,
    .sync = e1000_sync,
    .quiesce = e1000_quiesce,
    .destroy = e1000_destroy,
};

int e1000_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                 const struct nic_opts *o, struct err *e)
{
    struct e1000 *n = calloc(1, sizeof(*n));
    int rc;

    if (!n) {
        err_oom(e);
        return -ENOMEM;
    }
    memcpy(n->mac, o->mac, sizeof(n->mac));
    n->nic.receive = e1000_receive;
    n->nic.transmit = e1000_transmit;
    pci_init(&n->pci, &e1000_ops, vm, id, 0x8086, 0x100e, 0x020000, 3);
    pci_set_subsystem(&n->pci, 0x8086, 0x001e);
    pci_add_bar(&n->pci, 0, E1000_MMIO_LEN, false, false, &e1000_mmio);
    pci_add_bar(&n->pci, 1, E1000_IO_LEN, true, false, &e1000_io);
    pci_add_intx(&n->pci);
    clock_timer_init(vm_clock(vm), &n->throttle, e1000_throttle_over);
    e1000_power_on(n);
    e1000_eeprom_init(n);
    e1000_phy_reset(n);
    n->eeprom.out = true;
    rc = nic_add(&n->nic, bus, &n->pci, devfn, o, e);
    if (rc)
        free(n);
    return rc;
}
