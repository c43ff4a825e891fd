/*
 * rtl8139_cplus.c: the RTL8139C+'s way: rings of up to 64 descriptors of 16 bytes,
 *
 *        31    30    29     28    27     26      16 15       0
 *     0  | own | end | first | last | large | MSS or sums | length |    sent
 *        | own | end | first | last | how, errors, sums | length |      received
 *     4  | VLAN tag and whether there is one                    |
 *     8  | address of the data, 64 bits                         |
 *
 * own: it is the card's. The driver gives receive descriptors back without a word, so that a frame that found none
 * is tried again a while later. Not modelled: the ring of high priority.
 */
#include "hw/rtl8139_impl.h"

#include <net/ethernet.h>
#include <netinet/in.h>

#include "net/offload.h"

enum { CP_DESC = 16, CP_DESCS = 64, CP_LEN_MASK = 0x1fff, CP_TX_LEN = 0xffff, CP_MSS_SHIFT = 16 };
enum { CP_MSS = 0x7ff, CP_RETRY_NS = 1000000, CP_DUMP = 0x08, CP_COUNTERS = 64 };
#define CP_OWN       BIT(31)
#define CP_END       BIT(30)
#define CP_FIRST     BIT(29)
#define CP_LAST      BIT(28)
#define CP_LARGE     BIT(27)
#define CP_TX_IP     BIT(18)
#define CP_TX_UDP    BIT(17)
#define CP_TX_TCP    BIT(16)
#define CP_TX_TAG    BIT(17) /* of the second word */
#define CP_RX_TAG    BIT(16)
#define CP_RX_MULTI  BIT(26)
#define CP_RX_OURS   BIT(25)
#define CP_RX_BROAD  BIT(24)
#define CP_RX_IS_TCP BIT(16)
#define CP_RX_IS_UDP BIT(17)

struct cplus_desc {
    uint64_t gpa, addr;
    uint32_t status, vlan;
};

static struct physmap *cplus_mem(const struct rtl8139 *n)
{
    return vm_mem(n->pci.dev.vm);
}

static bool cplus_read(const struct rtl8139 *n, unsigned base, unsigned at, struct cplus_desc *d)
{
    uint8_t raw[CP_DESC];

    d->gpa = (ld_le64(n->reg + base) & ~0xffull) + (uint64_t)at * CP_DESC;
    if (!guest_read(cplus_mem(n), d->gpa, raw, sizeof(raw)))
        return false;
    d->status = ld_le32(raw);
    d->vlan = ld_le32(raw + 4);
    d->addr = ld_le64(raw + 8);
    return true;
}

static uint16_t cplus_next(unsigned at, const struct cplus_desc *d)
{
    return (uint16_t)(d->status & CP_END ? 0 : (at + 1) % CP_DESCS);
}

/* --- transmit --- */

struct cplus_frame {
    struct cplus_desc first;
    size_t len;
    unsigned descs;
    bool bad;
};

/* Copies the frame that comes next. False: its last descriptor is not the card's yet. */
static bool cplus_gather(struct rtl8139 *n, struct cplus_frame *f)
{
    unsigned at = n->tx_desc;
    struct cplus_desc d;

    *f = (struct cplus_frame){ 0 };
    while (f->descs < CP_DESCS && cplus_read(n, RTL_TSAD, at, &d) && d.status & CP_OWN) {
        uint32_t len = d.status & CP_TX_LEN;
        size_t room = sizeof(n->nic.frame) - NIC_VLAN_LEN - f->len;

        if (!f->descs++)
            f->first = d;
        f->bad =
            f->bad || len > room || !guest_read(cplus_mem(n), d.addr, n->nic.frame + f->len, len);
        f->len += f->bad ? 0 : len;
        if (d.status & CP_LAST)
            return true;
        at = cplus_next(at, &d);
    }
    f->bad = true;
    return f->descs == CP_DESCS; /* a ring without an end */
}

/* Gives the frame's descriptors back. */
static void cplus_retire(struct rtl8139 *n, unsigned count)
{
    struct cplus_desc d;

    for (; count && cplus_read(n, RTL_TSAD, n->tx_desc, &d); count--) {
        uint8_t raw[4];
        bool ok;

        st_le32(raw, d.status & (CP_END | CP_FIRST | CP_LAST | CP_TX_LEN)); /* and no errors */
        ok = guest_write(cplus_mem(n), d.gpa, raw, sizeof(raw));
        (void)ok; /* read-only memory: it stays as it is */
        n->tx_desc = cplus_next(n->tx_desc, &d);
    }
}

/* Length of the headers of a TCP segment over IPv4; 0: it is none. */
static size_t cplus_headers(const uint8_t *frame, size_t len)
{
    size_t ip = ETHER_HDR_LEN, tcp;

    if (len < ip + 20 || ld_be16(frame + 12) != ETHERTYPE_IP)
        return 0;
    tcp = ip + (frame[ip] & 15u) * 4u;
    return len < tcp + 20 ? 0 : tcp + (frame[tcp + 12] >> 4) * 4u;
}

static size_t cplus_tag(struct rtl8139 *n, const struct cplus_frame *f)
{
    uint8_t *frame = n->nic.frame;

    if (!(f->first.vlan & CP_TX_TAG))
        return 0;
    memmove(frame + 16, frame + 12, f->len - 12);
    st_be16(frame + 12, ETHERTYPE_VLAN);
    st_be16(frame + 14, __builtin_bswap16((uint16_t)f->first.vlan));
    return NIC_VLAN_LEN;
}

/* False: not now. */
static bool cplus_send(struct rtl8139 *n, const struct cplus_frame *f)
{
    uint32_t status = f->first.status;
    size_t header, tag;

    if (f->bad || f->len < ETHER_HDR_LEN)
        return true;
    if (status & CP_LARGE) {
        header = cplus_headers(n->nic.frame, f->len);
        tag = cplus_tag(n, f);
        return nic_send_segment(&n->nic, f->len + tag, header + tag,
                                status >> CP_MSS_SHIFT & CP_MSS);
    }
    if (status & (CP_TX_IP | CP_TX_TCP | CP_TX_UDP)) {
        bool ok = offload_ip4_sums(n->nic.frame, f->len, status & CP_TX_IP,
                                   status & (CP_TX_TCP | CP_TX_UDP));

        (void)ok; /* nonsense goes out as it is */
    }
    tag = cplus_tag(n, f);
    return rtl8139_send(n, f->len + tag);
}

void rtl8139_cplus_transmit(struct rtl8139 *n)
{
    struct cplus_frame f;
    uint16_t causes = 0;

    if (!nic_active(&n->nic) || !(n->reg[RTL_CR] & RTL_CR_TE))
        return;
    /* Bounded by the ring: what was given back is not taken again. */
    for (unsigned i = 0; i < CP_DESCS && cplus_gather(n, &f); i++) {
        if (!cplus_send(n, &f))
            break;
        cplus_retire(n, f.descs);
        n->tx_ok++;
        causes = RTL_ISR_TOK | RTL_ISR_TDU;
    }
    if (causes)
        rtl8139_raise(n, causes);
}

/* --- receive --- */

bool rtl8139_cplus_waits(const struct rtl8139 *n)
{
    struct cplus_desc d;

    return cplus_read(n, RTL_RDSAR, n->rx_desc, &d) && !(d.status & CP_OWN);
}

/* What the card found out about the checksums: all are right. */
static uint32_t cplus_rx_sums(const struct rtl8139 *n, const uint8_t *frame, size_t len)
{
    if (!(ld_le16(n->reg + RTL_CPCR) & RTL_CPCR_SUMS) || len < 34 ||
        ld_be16(frame + 12) != ETHERTYPE_IP || ld_be16(frame + 20) & 0x3fff)
        return 0;
    return frame[23] == IPPROTO_TCP   ? CP_RX_IS_TCP
           : frame[23] == IPPROTO_UDP ? CP_RX_IS_UDP
                                      : CP_RX_IS_TCP | CP_RX_IS_UDP; /* IP alone */
}

/* Takes the tag out of the frame, if the card is to: the descriptor's second word. */
static uint32_t cplus_rx_untag(struct rtl8139 *n, size_t *len)
{
    uint8_t *frame = n->nic.frame;
    uint32_t vlan;

    if (!(ld_le16(n->reg + RTL_CPCR) & RTL_CPCR_VLAN) || ld_be16(frame + 12) != ETHERTYPE_VLAN)
        return 0;
    vlan = CP_RX_TAG | ld_le16(frame + 14);
    *len -= NIC_VLAN_LEN;
    memmove(frame + 12, frame + 16, *len - 12);
    return vlan;
}

/* A frame that does not fit into the buffer is lost. */
void rtl8139_cplus_store(struct rtl8139 *n, size_t len, uint16_t how)
{
    uint32_t vlan = cplus_rx_untag(n, &len), status;
    struct cplus_desc d;
    uint8_t raw[8];
    bool ok;

    if (!cplus_read(n, RTL_RDSAR, n->rx_desc, &d) || !(d.status & CP_OWN) ||
        len + NIC_CRC_LEN > (d.status & CP_LEN_MASK)) {
        n->rx_missed++;
        return;
    }
    memset(n->nic.frame + len, 0, NIC_CRC_LEN);
    ok = guest_write(cplus_mem(n), d.addr, n->nic.frame, len + NIC_CRC_LEN);
    status = (d.status & CP_END) | CP_FIRST | CP_LAST | cplus_rx_sums(n, n->nic.frame, len) |
             (uint32_t)(len + NIC_CRC_LEN);
    status |= (how & RTL_RX_MULTICAST ? CP_RX_MULTI : 0) | (how & RTL_RX_OURS ? CP_RX_OURS : 0) |
              (how & RTL_RX_BROADCAST ? CP_RX_BROAD : 0);
    st_le32(raw, status);
    st_le32(raw + 4, vlan);
    ok = guest_write(cplus_mem(n), d.gpa + 4, raw + 4, 4) && ok;
    ok = guest_write(cplus_mem(n), d.gpa, raw, 4) && ok; /* the driver waits for this word */
    if (!ok)
        log_limited(&n->nic.log, LOG_WARN, "rtl8139", "a receive buffer is not in memory");
    n->rx_desc = cplus_next(n->rx_desc, &d);
    rtl8139_count_rx(n, how);
    rtl8139_raise(n, RTL_ISR_ROK);
}

/* --- counters --- */

void rtl8139_cplus_dump(struct rtl8139 *n)
{
    uint64_t at = ld_le64(n->reg + RTL_TSD) & ~0x3full;
    uint8_t raw[CP_COUNTERS] = { 0 };
    bool ok;

    st_le64(raw, n->tx_ok);
    st_le64(raw + 8, n->rx_ok);
    st_le16(raw + 28, n->rx_missed);
    st_le64(raw + 40, n->rx_ok_own);
    st_le64(raw + 48, n->rx_ok_broadcast);
    st_le32(raw + 56, n->rx_ok_multicast);
    ok = guest_write(cplus_mem(n), at, raw, sizeof(raw));
    (void)ok;
    n->reg[RTL_TSD] &= (uint8_t)~CP_DUMP; /* done */
}
