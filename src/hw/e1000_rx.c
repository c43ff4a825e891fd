/*
 * e1000_rx.c: the 82540EM's receive ring and filters. A frame waits in the backend until the ring has room for
 * all of it. A descriptor is 16 bytes:
 *
 *     63          48 47    40 39    32 31          16 15           0
 *     | address of the buffer                                      |
 *     | VLAN tag    | errors | status | checksum     | length      |
 *
 * Checksums of what comes are not looked at again: it comes from this host, not from a wire. Not modelled:
 * packet checksum, flexible filters, the delays of RDTR and RADV, bad frames.
 */
#include "hw/e1000_impl.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/endian.h"

enum {
    RX_LEN_MAX = 1522,
    RX_LEN_LONG = 16384,
    RX_DD = 0x01,
    RX_EOP = 0x02,
    RX_IXSM = 0x04,
    RX_VP = 0x08,
    RX_TCPCS = 0x20,
    RX_IPCS = 0x40,
};
#define RCTL_UPE   BIT(3)
#define RCTL_MPE   BIT(4)
#define RCTL_LPE   BIT(5)
#define RCTL_BAM   BIT(15)
#define RCTL_VFE   BIT(18)
#define RCTL_BSEX  BIT(25)
#define RCTL_SECRC BIT(26)

/* --- filters --- */

static bool e1000_rx_is_ours(struct e1000 *n, const uint8_t *addr)
{
    for (unsigned i = 0; i < E1000_RA_ENTRIES; i++) {
        uint32_t low = *e1000_reg(n, E1000_RA + 8 * i), high = *e1000_reg(n, E1000_RA + 8 * i + 4);

        if (high & E1000_RAH_AV && low == ld_le32(addr) && (high & 0xffff) == ld_le16(addr + 4))
            return true;
    }
    return false;
}

static bool e1000_rx_hashed(struct e1000 *n, const uint8_t *addr)
{
    static const uint8_t shifts[] = { 4, 3, 2, 0 };
    unsigned hash = ld_le16(addr + 4) >> shifts[*e1000_reg(n, E1000_RCTL) >> 12 & 3] & 0xfff;

    return *e1000_reg(n, E1000_MTA + hash / 32 * 4) >> hash % 32 & 1;
}

static bool e1000_rx_tagged(struct e1000 *n, const uint8_t *frame)
{
    return ld_be16(frame + 12) == (uint16_t)*e1000_reg(n, E1000_VET);
}

static bool e1000_rx_wanted(struct e1000 *n, const uint8_t *frame, size_t len)
{
    uint32_t rctl = *e1000_reg(n, E1000_RCTL);
    size_t max = rctl & RCTL_LPE ? RX_LEN_LONG : RX_LEN_MAX;

    if (len + NIC_CRC_LEN > max)
        return false;
    if (rctl & RCTL_VFE && e1000_rx_tagged(n, frame)) {
        unsigned vlan = ld_be16(frame + 14) & 0xfff;

        if (!(*e1000_reg(n, E1000_VFTA + vlan / 32 * 4) >> vlan % 32 & 1))
            return false;
    }
    if (nic_is_broadcast(frame) && rctl & RCTL_BAM)
        return true;
    if (rctl & (frame[0] & 1 ? RCTL_MPE : RCTL_UPE))
        return true;
    return e1000_rx_is_ours(n, frame) || (frame[0] & 1 && e1000_rx_hashed(n, frame));
}

/* --- the ring --- */

static uint32_t e1000_rx_size(struct e1000 *n)
{
    return *e1000_reg(n, E1000_RDLEN) / E1000_DESC_LEN;
}

static uint32_t e1000_rx_buffer(struct e1000 *n)
{
    uint32_t rctl = *e1000_reg(n, E1000_RCTL), size = 2048u >> (rctl >> 16 & 3);

    return rctl & RCTL_BSEX && size < 2048 ? size * 16 : size;
}

/* Descriptors that are the card's. */
static uint32_t e1000_rx_free(struct e1000 *n)
{
    uint32_t head = *e1000_reg(n, E1000_RDH), tail = *e1000_reg(n, E1000_RDT),
             size = e1000_rx_size(n);

    if (head >= size || tail >= size)
        return 0;
    return tail >= head ? tail - head : tail + size - head;
}

static uint32_t e1000_rx_needed(struct e1000 *n, size_t len)
{
    uint32_t buffer = e1000_rx_buffer(n);

    return ((uint32_t)len + NIC_CRC_LEN + buffer - 1) / buffer;
}

/* What the card found out about the checksums. */
static uint8_t e1000_rx_sums(struct e1000 *n, const uint8_t *frame, size_t len)
{
    uint32_t rxcsum = *e1000_reg(n, E1000_RXCSUM);
    uint8_t status = 0;

    if (ld_be16(frame + 12) != ETHERTYPE_IP || len < 34 || frame[14] >> 4 != 4)
        return RX_IXSM;
    if (rxcsum & E1000_RXCSUM_IPOFL)
        status |= RX_IPCS;
    if (rxcsum & E1000_RXCSUM_TUOFL && !(ld_be16(frame + 20) & 0x3fff) &&
        (frame[23] == IPPROTO_TCP || frame[23] == IPPROTO_UDP))
        status |= RX_TCPCS;
    return status ? status : RX_IXSM;
}

/* Takes the tag out of n->nic.frame, if the card is to. */
static uint16_t e1000_rx_untag(struct e1000 *n, size_t *len, uint8_t *status)
{
    uint8_t *frame = n->nic.frame;
    uint16_t tag;

    if (!(*e1000_reg(n, E1000_CTRL) & E1000_CTRL_VME) || !e1000_rx_tagged(n, frame))
        return 0;
    tag = ld_be16(frame + 14);
    *len -= NIC_VLAN_LEN;
    memmove(frame + 12, frame + 16, *len - 12);
    *status |= RX_VP;
    return tag;
}

/* One piece of the frame; a buffer that is nowhere swallows it. */
static void e1000_rx_fill(struct e1000 *n, const uint8_t *data, uint32_t len, uint64_t result)
{
    struct physmap *mem = vm_mem(n->pci.dev.vm);
    uint64_t base = (uint64_t)*e1000_reg(n, E1000_RDBAH) << 32 | *e1000_reg(n, E1000_RDBAL);
    uint32_t *head = e1000_reg(n, E1000_RDH);
    uint64_t at = base + (uint64_t)*head * E1000_DESC_LEN;
    uint8_t raw[8];
    bool ok = guest_read(mem, at, raw, sizeof(raw));

    ok = ok && ld_le64(raw) && guest_write(mem, ld_le64(raw), data, len);
    st_le64(raw, result | len);
    ok = guest_write(mem, at + 8, raw, sizeof(raw)) && ok;
    if (!ok)
        log_limited(&n->nic.log, LOG_WARN, "e1000", "a receive buffer is not in memory");
    *head = *head + 1 < e1000_rx_size(n) ? *head + 1 : 0;
}

/* The CRC's four bytes, which drivers cut off, are zero. */
static void e1000_rx_store(struct e1000 *n, size_t len)
{
    uint32_t buffer = e1000_rx_buffer(n), total, at = 0;
    uint8_t status = 0;
    uint16_t tag = e1000_rx_untag(n, &len, &status);

    status |= RX_DD | e1000_rx_sums(n, n->nic.frame, len);
    total = (uint32_t)len;
    if (!(*e1000_reg(n, E1000_RCTL) & RCTL_SECRC)) {
        memset(n->nic.frame + len, 0, NIC_CRC_LEN);
        total += NIC_CRC_LEN;
    }
    while (at < total) {
        uint32_t part = (uint32_t)min_u64(buffer, total - at);
        uint8_t end = at + part == total ? RX_EOP : 0;

        e1000_rx_fill(n, n->nic.frame + at, part,
                      (uint64_t)tag << 48 | (uint64_t)(status | end) << 32);
        at += part;
    }
}

static void e1000_rx_statistics(struct e1000 *n, size_t len)
{
    e1000_count(n, E1000_GPRC);
    e1000_count(n, E1000_TPR);
    e1000_count64(n, E1000_GORC, len + NIC_CRC_LEN);
    e1000_count64(n, E1000_TOR, len + NIC_CRC_LEN);
    if (nic_is_broadcast(n->nic.frame))
        e1000_count(n, E1000_BPRC);
    else if (n->nic.frame[0] & 1)
        e1000_count(n, E1000_MPRC);
}

/* The ring is emptier than the driver likes it. */
static uint32_t e1000_rx_low(struct e1000 *n)
{
    uint32_t limit = e1000_rx_size(n) >> ((*e1000_reg(n, E1000_RCTL) >> 8 & 3) + 1);

    return e1000_rx_free(n) <= limit ? E1000_ICR_RXDMT0 : 0;
}

bool e1000_rx_frame(struct e1000 *n, size_t len)
{
    if (!e1000_rx_wanted(n, n->nic.frame, len))
        return true;
    if (e1000_rx_needed(n, len) > e1000_rx_free(n))
        return false;
    e1000_rx_statistics(n, len);
    e1000_rx_store(n, len);
    e1000_raise(n, E1000_ICR_RXT0 | e1000_rx_low(n));
    return true;
}

/* A frame that never fits is taken, and lost. */
static bool e1000_rx_waits(struct e1000 *n, size_t len)
{
    uint32_t needed = e1000_rx_needed(n, len);

    return *e1000_reg(n, E1000_RCTL) & E1000_RCTL_EN && needed > e1000_rx_free(n) &&
           needed < e1000_rx_size(n);
}

void e1000_receive(struct nic *nic)
{
    struct e1000 *n = e1000_of_nic(nic);
    size_t len;

    if (!nic_active(nic))
        return;
    while ((len = nic_next_len(nic)) && !e1000_rx_waits(n, len)) {
        bool stored;

        len = nic_fetch(nic);
        if (!len || !(*e1000_reg(n, E1000_RCTL) & E1000_RCTL_EN) ||
            len + NIC_CRC_LEN > sizeof(nic->frame))
            continue;
        stored = e1000_rx_frame(n, len);
        (void)stored;
    }
}
