/*
 * rtl8139.c: Realtek RTL8139C and C+ (see rtl8139_impl.h): PCI function, registers, EEPROM, PHY, timer,
 * interrupt. Registers are kept as the bytes that the guest sees; what the guest cannot write is made up when it is
 * read. Not modelled: wake-up, boot ROM by registers, early receive, twister.
 *
 * Locking: the device lock guards everything.
 */
#include "hw/rtl8139_impl.h"

#include <errno.h>

enum { RTL_REVISION_C = 0x10, RTL_REVISION_CPLUS = 0x20, RTL_RETRY_NS = 500000, RTL_TICK_NS = 30 };
enum { RTL_LEN_MAX = 1792, RTL_EEPROM_ID = 0x8129, RTL_EEPROM_MAC = 7 };
enum { /* 9346CR */
       RTL_EE_DO = 0x01,
       RTL_EE_DI = 0x02,
       RTL_EE_SK = 0x04,
       RTL_EE_CS = 0x08,
       RTL_EE_MODE = 0xc0,
       RTL_EE_AUTOLOAD = 0x40,
       RTL_EE_PROGRAM = 0x80,
};
enum { /* RCR */
       RTL_RCR_ALL = 0x01,
       RTL_RCR_OURS = 0x02,
       RTL_RCR_MULTICAST = 0x04,
       RTL_RCR_BROADCAST = 0x08,
};
enum { RTL_BMCR_RESET = 0x80, RTL_BMCR_RESTART = 0x02 }; /* of its high byte */
#define RTL_VERSION_C     0x74000000u
#define RTL_VERSION_CPLUS 0x74800000u

static struct rtl8139 *rtl8139_of(struct device *d)
{
    return container_of(d, struct rtl8139, pci.dev);
}

struct rtl8139 *rtl8139_of_nic(struct nic *nic)
{
    return container_of(nic, struct rtl8139, nic);
}

/* --- interrupt and timer --- */

static void rtl8139_update_irq(struct rtl8139 *n)
{
    pci_set_intx(&n->pci, ld_le16(n->reg + RTL_ISR) & ld_le16(n->reg + RTL_IMR));
}

void rtl8139_raise(struct rtl8139 *n, uint16_t causes)
{
    st_le16(n->reg + RTL_ISR, ld_le16(n->reg + RTL_ISR) | causes);
    rtl8139_update_irq(n);
}

/* TCTR counts PCI clocks; TIMERINT, unless it is 0, is where it interrupts. */
static void rtl8139_arm_timer(struct rtl8139 *n)
{
    uint64_t at = n->timer_ns + (uint64_t)ld_le32(n->reg + RTL_TIMERINT) * RTL_TICK_NS;

    clock_timer_cancel(&n->timer);
    if (ld_le32(n->reg + RTL_TIMERINT) && at > clock_now_ns(vm_clock(n->pci.dev.vm)))
        clock_timer_set(&n->timer, at);
}

static void rtl8139_timer_over(struct clock_timer *t)
{
    struct rtl8139 *n = container_of(t, struct rtl8139, timer);

    pthread_mutex_lock(&n->pci.dev.lock);
    if (ld_le32(n->reg + RTL_TIMERINT))
        rtl8139_raise(n, RTL_ISR_TIMEOUT);
    pthread_mutex_unlock(&n->pci.dev.lock);
}

/* --- frames --- */

bool rtl8139_is_cplus(const struct rtl8139 *n, uint16_t direction)
{
    return n->cplus && ld_le16(n->reg + RTL_CPCR) & direction;
}

uint16_t rtl8139_filter(const struct rtl8139 *n, size_t len)
{
    uint32_t rcr = ld_le32(n->reg + RTL_RCR), hash = nic_hash(n->nic.frame) >> 26;
    const uint8_t *addr = n->nic.frame;

    if (len > RTL_LEN_MAX)
        return 0;
    if (nic_is_broadcast(addr))
        return rcr & RTL_RCR_BROADCAST ? RTL_RX_BROADCAST : 0;
    if (addr[0] & 1)
        return rcr & RTL_RCR_MULTICAST && n->reg[RTL_MAR + hash / 8] >> hash % 8 & 1
                   ? RTL_RX_MULTICAST
                   : 0;
    if (!memcmp(addr, n->reg + RTL_IDR, 6))
        return rcr & (RTL_RCR_OURS | RTL_RCR_ALL) ? RTL_RX_OURS : 0;
    return rcr & RTL_RCR_ALL ? RTL_RX_OURS : 0;
}

void rtl8139_count_rx(struct rtl8139 *n, uint16_t how)
{
    n->rx_ok++;
    n->rx_ok_own += how == RTL_RX_OURS;
    n->rx_ok_broadcast += how == RTL_RX_BROADCAST;
    n->rx_ok_multicast += how == RTL_RX_MULTICAST;
}

static bool rtl8139_waits(const struct rtl8139 *n, size_t len)
{
    if (!(n->reg[RTL_CR] & RTL_CR_RE))
        return false;
    return rtl8139_is_cplus(n, RTL_CPCR_RX) ? rtl8139_cplus_waits(n) : rtl8139_ring_waits(n, len);
}

/* n->nic.frame comes in. */
static void rtl8139_rx_frame(struct rtl8139 *n, size_t len)
{
    uint16_t how = n->reg[RTL_CR] & RTL_CR_RE ? rtl8139_filter(n, len) : 0;

    if (!how)
        return;
    if (rtl8139_is_cplus(n, RTL_CPCR_RX))
        rtl8139_cplus_store(n, len, how);
    else
        rtl8139_ring_store(n, len, how);
}

bool rtl8139_send(struct rtl8139 *n, size_t len)
{
    if ((ld_le32(n->reg + RTL_TCR) & RTL_TCR_LOOPBACK) != RTL_TCR_LOOPBACK)
        return nic_send(&n->nic, len);
    if (!rtl8139_waits(n, len))
        rtl8139_rx_frame(n, len);
    return true;
}

static void rtl8139_retry_later(struct rtl8139 *n)
{
    if (!n->retry.armed)
        clock_timer_set(&n->retry, clock_now_ns(vm_clock(n->pci.dev.vm)) + RTL_RETRY_NS);
}

/*
 * Frames are in the ring, and the driver has acknowledged their interrupt. Linux' 8139too may then leave them there
 * until another frame comes; on a wire it would, soon, but here the sender may be waiting for the answer.
 */
static bool rtl8139_is_forgotten(const struct rtl8139 *n)
{
    return n->reg[RTL_CR] & RTL_CR_RE && !rtl8139_is_cplus(n, RTL_CPCR_RX) &&
           !(n->reg[RTL_ISR] & RTL_ISR_ROK) && !rtl8139_ring_empty(n);
}

static void rtl8139_receive(struct nic *nic)
{
    struct rtl8139 *n = rtl8139_of_nic(nic);
    size_t len;

    if (!nic_active(nic))
        return;
    while ((len = nic_next_len(nic)) && !rtl8139_waits(n, len)) {
        len = nic_fetch(nic);
        if (len)
            rtl8139_rx_frame(n, len);
    }
    if (len && rtl8139_is_cplus(n, RTL_CPCR_RX))
        rtl8139_retry_later(n);
}

static void rtl8139_retry_over(struct clock_timer *t)
{
    struct rtl8139 *n = container_of(t, struct rtl8139, retry);

    pthread_mutex_lock(&n->pci.dev.lock);
    rtl8139_receive(&n->nic);
    if (rtl8139_is_forgotten(n))
        rtl8139_raise(n, RTL_ISR_ROK);
    pthread_mutex_unlock(&n->pci.dev.lock);
}

static void rtl8139_transmit(struct nic *nic)
{
    struct rtl8139 *n = rtl8139_of_nic(nic);

    if (rtl8139_is_cplus(n, RTL_CPCR_TX))
        rtl8139_cplus_transmit(n);
    else
        rtl8139_ring_transmit(n);
}

/* --- registers --- */

struct rtl8139_range {
    uint8_t off, len;
    uint8_t mask; /* what the guest can write of each byte */
};
static const struct rtl8139_range rtl8139_ranges[] = {
    { RTL_IDR, 6, 0xff },      { RTL_MAR, 8, 0xff },      { RTL_TSAD, 16, 0xff },
    { RTL_RBSTART, 4, 0xff },  { RTL_CR, 1, 0x0c },       { RTL_CAPR, 2, 0xff },
    { RTL_IMR, 2, 0xff },      { RTL_TCR, 1, 0xf0 },      { RTL_TCR + 1, 1, 0x07 },
    { RTL_TCR + 2, 1, 0x07 },  { RTL_TCR + 3, 1, 0x03 },  { RTL_RCR, 1, 0xbf },
    { RTL_RCR + 1, 3, 0xff },  { RTL_9346CR, 1, 0xce },   { RTL_CONFIG1, 1, 0xff },
    { RTL_TIMERINT, 4, 0xff }, { RTL_MSR, 1, 0xc0 },      { RTL_CONFIG3, 2, 0xff },
    { 0x5c, 2, 0xff }, /* MULINT */
    { RTL_BMCR, 1, 0xff },     { RTL_BMCR + 1, 1, 0x7d }, { RTL_ANAR, 2, 0xff },
    { 0x70, 2, 0xff },                             /* NWAYTR */
    { RTL_CSCR, 2, 0xff },     { 0x78, 12, 0xff }, /* tuning of the PHY */
    { 0xd8, 1, 0xff },                             /* CONFIG5 */
};
/* Of the C+ alone, beginning at TPPOLL. */
static const struct rtl8139_range rtl8139_cplus_ranges[] = {
    { RTL_CPCR, 2, 0xff },
    { 0xe2, 2, 0xff }, /* interrupt mitigation: kept only */
    { RTL_RDSAR + 1, 7, 0xff },
    { 0xec, 1, 0xff }, /* early transmit threshold */
};

static uint8_t rtl8139_mask_in(const struct rtl8139_range *r, unsigned n, unsigned off)
{
    for (unsigned i = 0; i < n; i++)
        if (off >= r[i].off && off < (unsigned)r[i].off + r[i].len)
            return r[i].mask;
    return 0;
}

static uint8_t rtl8139_mask(const struct rtl8139 *n, unsigned off)
{
    uint8_t mask = rtl8139_mask_in(rtl8139_ranges, ARRAY_SIZE(rtl8139_ranges), off);

    if (n->cplus && off >= RTL_TPPOLL)
        mask |= rtl8139_mask_in(rtl8139_cplus_ranges, ARRAY_SIZE(rtl8139_cplus_ranges), off);
    if (n->cplus && off >= RTL_TSD && off < RTL_TSD + 8 && rtl8139_is_cplus(n, RTL_CPCR_TX))
        mask = 0xff; /* where the counters go */
    return mask;
}

static void rtl8139_power_on(struct rtl8139 *n)
{
    memset(n->reg, 0, sizeof(n->reg));
    for (unsigned i = 0; i < 3; i++)
        st_le16(n->reg + RTL_IDR + 2 * i, n->eeprom.word[RTL_EEPROM_MAC + i]);
    for (unsigned i = 0; i < RTL_TX_BUFFERS; i++)
        st_le32(n->reg + RTL_TSD + 4 * i, 0x2000); /* nothing to send */
    st_le16(n->reg + RTL_CAPR, 0xfff0);
    st_le32(n->reg + RTL_TCR, n->cplus ? RTL_VERSION_CPLUS : RTL_VERSION_C);
    n->reg[RTL_CONFIG1] = 0x0c;         /* registers by I/O and memory */
    st_le16(n->reg + RTL_BMCR, 0x3100); /* 100 Mbit/s, full duplex, by negotiation */
    st_le16(n->reg + RTL_BMSR, 0x782d); /* done, link up */
    st_le16(n->reg + RTL_ANAR, 0x05e1);
    st_le16(n->reg + RTL_ANLPAR, 0x05e1); /* the partner can do everything */
    st_le16(n->reg + RTL_ANER, 0x0001);
    st_le16(n->reg + RTL_CSCR, 0x03c8);
    n->tx_buffer = 0;
    n->tx_desc = n->rx_desc = 0;
}

/* The address filter and the PHY stay as they are. */
static void rtl8139_soft_reset(struct rtl8139 *n)
{
    uint8_t id[RTL_TSD], phy[RTL_CSCR + 2 - RTL_BMCR];

    memcpy(id, n->reg, sizeof(id));
    memcpy(phy, n->reg + RTL_BMCR, sizeof(phy));
    rtl8139_power_on(n);
    memcpy(n->reg, id, sizeof(id));
    memcpy(n->reg + RTL_BMCR, phy, sizeof(phy));
    rtl8139_arm_timer(n);
    rtl8139_update_irq(n);
}

static uint32_t rtl8139_ticks(const struct rtl8139 *n)
{
    return (uint32_t)((clock_now_ns(vm_clock(n->pci.dev.vm)) - n->timer_ns) / RTL_TICK_NS);
}

/* Brings the bytes up to date that the guest is about to read. */
static void rtl8139_refresh(struct rtl8139 *n)
{
    st_le16(n->reg + RTL_TSAD_ALL, rtl8139_ring_summary(n));
    n->reg[RTL_CR] &= (uint8_t)~RTL_CR_EMPTY;
    if (rtl8139_ring_empty(n))
        n->reg[RTL_CR] |= RTL_CR_EMPTY;
    n->reg[RTL_9346CR] &= (uint8_t)~RTL_EE_DO;
    if ((n->reg[RTL_9346CR] & RTL_EE_MODE) == RTL_EE_PROGRAM && n->eeprom.out)
        n->reg[RTL_9346CR] |= RTL_EE_DO;
}

static uint64_t rtl8139_read(struct device *d, uint64_t off, unsigned size)
{
    struct rtl8139 *n = rtl8139_of(d);
    uint64_t val = 0;

    if (off >= RTL_TCTR && off < RTL_TCTR + 4)
        return rtl8139_ticks(n) >> (8 * (off - RTL_TCTR));
    rtl8139_refresh(n);
    for (unsigned i = 0; i < size && off + i < RTL_SPACE; i++)
        val |= (uint64_t)n->reg[off + i] << (8 * i);
    return val;
}

static void rtl8139_write_9346(struct rtl8139 *n, uint8_t val)
{
    bool program = (val & RTL_EE_MODE) == RTL_EE_PROGRAM;

    if ((val & RTL_EE_MODE) == RTL_EE_AUTOLOAD) {
        rtl8139_power_on(n);
        rtl8139_arm_timer(n);
        rtl8139_update_irq(n);
        return;
    }
    eeprom93c46_wires(&n->eeprom, program && val & RTL_EE_CS, val & RTL_EE_SK, val & RTL_EE_DI);
}

static void rtl8139_write_cr(struct rtl8139 *n, uint8_t val)
{
    if (val & RTL_CR_RST)
        rtl8139_soft_reset(n);
    rtl8139_transmit(&n->nic);
    rtl8139_receive(&n->nic);
}

static void rtl8139_write_poll(struct rtl8139 *n, uint8_t val)
{
    if (!n->cplus)
        return;
    if (val & RTL_TPPOLL_SWINT)
        rtl8139_raise(n, RTL_ISR_SWINT);
    if (val & RTL_TPPOLL_NORMAL)
        rtl8139_transmit(&n->nic);
}

/* What a write to the byte at off does beyond being kept. */
static void rtl8139_written(struct rtl8139 *n, unsigned off, uint8_t val)
{
    switch (off) {
    case RTL_CR:
        rtl8139_write_cr(n, val);
        break;
    case RTL_TSD:
        if (rtl8139_is_cplus(n, RTL_CPCR_TX) && val & 0x08)
            rtl8139_cplus_dump(n);
        break;
    case RTL_ISR: /* write 1 to clear */
    case RTL_ISR + 1:
        n->reg[off] &= (uint8_t)~val;
        fallthrough;
    case RTL_IMR:
    case RTL_IMR + 1: /* drivers have made room when they write these */
    case RTL_CAPR + 1:
        rtl8139_update_irq(n);
        rtl8139_receive(&n->nic);
        if (rtl8139_is_forgotten(n))
            rtl8139_retry_later(n);
        break;
    case RTL_9346CR:
        rtl8139_write_9346(n, val);
        break;
    case RTL_BMCR + 1: /* reset and negotiation are over at once */
        if (val & RTL_BMCR_RESET)
            st_le16(n->reg + RTL_BMCR, 0x3100);
        break;
    case RTL_CPCR: /* a ring is begun anew when it is turned on */
        n->tx_desc = val & RTL_CPCR_TX ? n->tx_desc : 0;
        n->rx_desc = val & RTL_CPCR_RX ? n->rx_desc : 0;
        break;
    case RTL_TSAD: /* and when it is somewhere else */
        n->tx_desc = 0;
        break;
    case RTL_RDSAR + 1:
        n->rx_desc = 0;
        break;
    case RTL_TPPOLL:
        rtl8139_write_poll(n, val);
        break;
    default:
        break;
    }
}

static void rtl8139_write_timer(struct rtl8139 *n, uint64_t off)
{
    if (off == RTL_TCTR)
        n->timer_ns = clock_now_ns(vm_clock(n->pci.dev.vm));
    rtl8139_arm_timer(n);
}

static void rtl8139_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct rtl8139 *n = rtl8139_of(d);

    if (off >= RTL_TSD && off < RTL_TSAD && !rtl8139_is_cplus(n, RTL_CPCR_TX)) {
        if (size == 4 && off % 4 == 0)
            rtl8139_ring_tsd(n, (unsigned)(off - RTL_TSD) / 4, (uint32_t)val);
        return;
    }
    for (unsigned i = 0; i < size && off + i < RTL_SPACE; i++) {
        uint8_t mask = rtl8139_mask(n, (unsigned)off + i), *reg = &n->reg[off + i];

        *reg = (uint8_t)((*reg & ~mask) | (val >> (8 * i) & mask));
    }
    for (unsigned i = 0; i < size && off + i < RTL_SPACE; i++)
        rtl8139_written(n, (unsigned)off + i, (uint8_t)(val >> (8 * i)));
    if (off == RTL_TCTR || (off >= RTL_TIMERINT && off < RTL_TIMERINT + 4))
        rtl8139_write_timer(n, off);
}

static const struct io_ops rtl8139_io = { rtl8139_read, rtl8139_write, 1, 4 };

/* --- the device --- */

static void rtl8139_state(struct device *d, struct state *s)
{
    struct rtl8139 *n = rtl8139_of(d);

    pci_state(&n->pci, s);
    if (s->saving)
        rtl8139_refresh(n);
    state_bytes(s, n->reg, sizeof(n->reg));
    eeprom93c46_state(&n->eeprom, s);
    state_u8(s, &n->tx_buffer);
    state_u16(s, &n->tx_desc);
    state_u16(s, &n->rx_desc);
    state_u64(s, &n->timer_ns);
    state_u64(s, &n->tx_ok);
    state_u64(s, &n->rx_ok);
    state_u64(s, &n->rx_ok_own);
    state_u64(s, &n->rx_ok_broadcast);
    state_u32(s, &n->rx_ok_multicast);
    state_u16(s, &n->rx_missed);
    state_require(s, n->tx_buffer < RTL_TX_BUFFERS, "no such transmit buffer");
}

static void rtl8139_sync(struct device *d)
{
    struct rtl8139 *n = rtl8139_of(d);

    pci_sync(&n->pci);
    rtl8139_arm_timer(n);
    rtl8139_update_irq(n);
    nic_resume(&n->nic);
    if (rtl8139_is_forgotten(n))
        rtl8139_retry_later(n);
}

static void rtl8139_quiesce(struct device *d)
{
    nic_quiesce(&rtl8139_of(d)->nic);
}

static void rtl8139_destroy(struct device *d)
{
    struct rtl8139 *n = rtl8139_of(d);

    clock_timer_cancel(&n->timer);
    clock_timer_cancel(&n->retry);
    nic_fini(&n->nic);
    free(n);
}

static const struct device_ops rtl8139_ops = {
    .type = "rtl8139",
    .version = 1,
    .state = rtl8139_state,
    .sync = rtl8139_sync,
    .quiesce = rtl8139_quiesce,
    .destroy = rtl8139_destroy,
};

static void rtl8139_eeprom_init(struct rtl8139 *n, const uint8_t mac[6])
{
    uint16_t *word = n->eeprom.word;

    word[0] = RTL_EEPROM_ID;
    word[1] = 0x10ec;
    word[2] = 0x8139;
    word[3] = 0x10ec; /* subsystem */
    word[4] = 0x8139;
    for (unsigned i = 0; i < 3; i++)
        word[RTL_EEPROM_MAC + i] = ld_le16(mac + 2 * i);
    n->eeprom.out = true;
}

static int rtl8139_create_chip(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                               const struct nic_opts *o, bool cplus, struct err *e)
{
    struct rtl8139 *n = calloc(1, sizeof(*n));
    int rc;

    if (!n) {
        err_oom(e);
        return -ENOMEM;
    }
    n->cplus = cplus;
    n->nic.receive = rtl8139_receive;
    n->nic.transmit = rtl8139_transmit;
    pci_init(&n->pci, &rtl8139_ops, vm, id, 0x10ec, 0x8139, 0x020000,
             cplus ? RTL_REVISION_CPLUS : RTL_REVISION_C);
    pci_set_subsystem(&n->pci, 0x10ec, 0x8139);
    pci_add_bar(&n->pci, 0, RTL_SPACE, true, false, &rtl8139_io);
    pci_add_bar(&n->pci, 1, RTL_SPACE, false, false, &rtl8139_io);
    pci_add_intx(&n->pci);
    clock_timer_init(vm_clock(vm), &n->timer, rtl8139_timer_over);
    clock_timer_init(vm_clock(vm), &n->retry, rtl8139_retry_over);
    rtl8139_eeprom_init(n, o->mac);
    rtl8139_power_on(n);
    rc = nic_add(&n->nic, bus, &n->pci, devfn, o, e);
    if (rc)
        free(n);
    return rc;
}

int rtl8139_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                   const struct nic_opts *o, struct err *e)
{
    return rtl8139_create_chip(vm, bus, devfn, id, o, true, e);
}

int rtl8139c_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                    const struct nic_opts *o, struct err *e)
{
    return rtl8139_create_chip(vm, bus, devfn, id, o, false, e);
}
