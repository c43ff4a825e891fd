/*
 * rtl8139_ring.c: the RTL8139's own way. To send, the driver writes a buffer's address and length to one of four
 * pairs of registers, in turn. What is received goes to a ring of bytes, each frame behind a header:
 *
 *     31           16 15  14  13  12        1  0
 *     | length + CRC | multicast, ours, broadcast | ok |
 *
 * and at the next multiple of four. CBR says how far the card has come, CAPR (less 16) how far the driver.
 */
#include "hw/rtl8139_impl.h"

enum {
    TSD_SIZE = 0x1fff,
    TSD_OWN = 0x2000,
    TSD_TOK = 0x8000,
    TSD_TABT = 0x40000000,
    TSD_MAX = 1792
};
enum { RX_HEADER = 4, RX_CAPR_LEAD = 16, RX_OK = 1, RX_LEN_SHIFT = 11, RX_NO_WRAP = 0x80 };

/* --- transmit --- */

static uint32_t rtl8139_ring_status(const struct rtl8139 *n, unsigned i)
{
    return ld_le32(n->reg + RTL_TSD + 4 * i);
}

/* OWN means that the card is done with it: a write that clears it starts the transmission. */
void rtl8139_ring_tsd(struct rtl8139 *n, unsigned i, uint32_t val)
{
    uint32_t kept =
        rtl8139_ring_status(n, i) & ~(uint32_t)(TSD_SIZE | TSD_OWN | TSD_TOK | TSD_TABT);

    st_le32(n->reg + RTL_TSD + 4 * i, kept | (val & (TSD_SIZE | TSD_OWN)));
    rtl8139_ring_transmit(n);
}

/* False: not now. A frame that does not exist is aborted. */
static bool rtl8139_ring_send(struct rtl8139 *n, unsigned i)
{
    uint32_t tsd = rtl8139_ring_status(n, i), len = tsd & TSD_SIZE;
    bool ok =
        len >= 14 && len <= TSD_MAX &&
        guest_read(vm_mem(n->pci.dev.vm), ld_le32(n->reg + RTL_TSAD + 4 * i), n->nic.frame, len);

    if (ok && !rtl8139_send(n, len))
        return false;
    st_le32(n->reg + RTL_TSD + 4 * i, tsd | TSD_OWN | (uint32_t)(ok ? TSD_TOK : TSD_TABT));
    n->tx_ok += ok;
    rtl8139_raise(n, RTL_ISR_TOK);
    return true;
}

void rtl8139_ring_transmit(struct rtl8139 *n)
{
    if (!nic_active(&n->nic) || !(n->reg[RTL_CR] & RTL_CR_TE))
        return;
    for (unsigned i = 0; i < RTL_TX_BUFFERS; i++) {
        if (rtl8139_ring_status(n, n->tx_buffer) & TSD_OWN || !rtl8139_ring_send(n, n->tx_buffer))
            return;
        n->tx_buffer = (uint8_t)((n->tx_buffer + 1) % RTL_TX_BUFFERS);
    }
}

uint16_t rtl8139_ring_summary(const struct rtl8139 *n)
{
    uint16_t all = 0;

    for (unsigned i = 0; i < RTL_TX_BUFFERS; i++) {
        uint32_t tsd = rtl8139_ring_status(n, i);

        all |= (uint16_t)((tsd & TSD_OWN ? 0x0001u << i : 0) | (tsd & TSD_TABT ? 0x0010u << i : 0) |
                          (tsd & TSD_TOK ? 0x1000u << i : 0));
    }
    return all;
}

/* --- receive --- */

static uint32_t rtl8139_ring_size(const struct rtl8139 *n)
{
    return 8192u << (ld_le32(n->reg + RTL_RCR) >> RX_LEN_SHIFT & 3);
}

static uint32_t rtl8139_ring_read_at(const struct rtl8139 *n)
{
    return (ld_le16(n->reg + RTL_CAPR) + (uint32_t)RX_CAPR_LEAD) % rtl8139_ring_size(n);
}

static uint32_t rtl8139_ring_write_at(const struct rtl8139 *n)
{
    return ld_le16(n->reg + RTL_CBR) % rtl8139_ring_size(n);
}

bool rtl8139_ring_empty(const struct rtl8139 *n)
{
    return rtl8139_ring_read_at(n) == rtl8139_ring_write_at(n);
}

static uint32_t rtl8139_ring_needed(size_t len)
{
    return (uint32_t)align_up(RX_HEADER + len + NIC_CRC_LEN, 4);
}

/* A full ring would look like an empty one. */
bool rtl8139_ring_waits(const struct rtl8139 *n, size_t len)
{
    uint32_t size = rtl8139_ring_size(n), used;

    used = (rtl8139_ring_write_at(n) + size - rtl8139_ring_read_at(n)) % size;
    return used && used + rtl8139_ring_needed(len) >= size;
}

/* Bytes at the ring's offset at; with the driver's consent they go on behind its end. */
static void rtl8139_ring_put(struct rtl8139 *n, uint32_t at, const uint8_t *data, uint32_t len)
{
    struct physmap *mem = vm_mem(n->pci.dev.vm);
    uint32_t rcr = ld_le32(n->reg + RTL_RCR), size = rtl8139_ring_size(n);
    uint64_t base = ld_le32(n->reg + RTL_RBSTART);
    bool wraps = !(rcr & RX_NO_WRAP) || size == 64 * KIB;
    uint32_t first = wraps ? (uint32_t)min_u64(len, size - at) : len;
    bool ok = guest_write(mem, base + at, data, first);

    ok = ok && (first == len || guest_write(mem, base, data + first, len - first));
    if (!ok)
        log_limited(&n->nic.log, LOG_WARN, "rtl8139", "the receive ring is not in memory");
}

void rtl8139_ring_store(struct rtl8139 *n, size_t len, uint16_t how)
{
    uint32_t at = rtl8139_ring_write_at(n), size = rtl8139_ring_size(n);
    uint8_t header[RX_HEADER];

    if (rtl8139_ring_needed(len) >= size)
        return;
    memset(n->nic.frame + len, 0, NIC_CRC_LEN);
    st_le16(header, how | RX_OK);
    st_le16(header + 2, (uint16_t)(len + NIC_CRC_LEN));
    rtl8139_ring_put(n, (at + RX_HEADER) % size, n->nic.frame, (uint32_t)len + NIC_CRC_LEN);
    rtl8139_ring_put(n, at, header, sizeof(header));
    st_le16(n->reg + RTL_CBR, (uint16_t)((at + rtl8139_ring_needed(len)) % size));
    rtl8139_count_rx(n, how);
    rtl8139_raise(n, RTL_ISR_ROK);
}
