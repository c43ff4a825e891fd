/*
 * rtl8139_impl.h: between the files of the RTL8139 (datasheets RTL8139C 1.4 and RTL8139C+ 1.6).
 *
 *  rtl8139.c        the device: PCI, registers, EEPROM, PHY, timer, interrupt
 *  rtl8139_ring.c   the 8139's way: four transmit buffers, one ring of received bytes
 *  rtl8139_cplus.c  the C+'s way: rings of descriptors
 */
#ifndef HW_RTL8139_IMPL_H
#define HW_RTL8139_IMPL_H

#include "base/endian.h"
#include "hw/eeprom93c46.h"
#include "hw/rtl8139.h"

enum { /* registers */
       RTL_IDR = 0x00,
       RTL_MAR = 0x08,
       RTL_TSD = 0x10,  /* four of 32 bits; C+: address of the counters' dump */
       RTL_TSAD = 0x20, /* four of 32 bits; C+: address of the ring of transmit descriptors */
       RTL_RBSTART = 0x30,
       RTL_CR = 0x37,
       RTL_CAPR = 0x38,
       RTL_CBR = 0x3a,
       RTL_IMR = 0x3c,
       RTL_ISR = 0x3e,
       RTL_TCR = 0x40,
       RTL_RCR = 0x44,
       RTL_TCTR = 0x48,
       RTL_MPC = 0x4c,
       RTL_9346CR = 0x50,
       RTL_CONFIG1 = 0x52,
       RTL_TIMERINT = 0x54,
       RTL_MSR = 0x58,
       RTL_CONFIG3 = 0x59,
       RTL_TSAD_ALL = 0x60,
       RTL_BMCR = 0x62,
       RTL_BMSR = 0x64,
       RTL_ANAR = 0x66,
       RTL_ANLPAR = 0x68,
       RTL_ANER = 0x6a,
       RTL_CSCR = 0x74,
       RTL_TPPOLL = 0xd9,
       RTL_CPCR = 0xe0,
       RTL_RDSAR = 0xe4,
       RTL_SPACE = 0x100,
};
enum {
    RTL_CR_EMPTY = 0x01,
    RTL_CR_TE = 0x04,
    RTL_CR_RE = 0x08,
    RTL_CR_RST = 0x10,
    RTL_ISR_ROK = 0x0001,
    RTL_ISR_TOK = 0x0004,
    RTL_ISR_RXOVW = 0x0010,
    RTL_ISR_TDU = 0x0080,
    RTL_ISR_SWINT = 0x0100,
    RTL_ISR_TIMEOUT = 0x4000,
    RTL_TPPOLL_NORMAL = 0x40,
    RTL_TPPOLL_SWINT = 0x01,
    RTL_CPCR_TX = 0x01,
    RTL_CPCR_RX = 0x02,
    RTL_CPCR_SUMS = 0x20,
    RTL_CPCR_VLAN = 0x40,
    RTL_TCR_LOOPBACK = 0x60000,
    RTL_TX_BUFFERS = 4,
};
/* How a received frame was addressed; the bits of the 8139's header. */
enum { RTL_RX_BROADCAST = 0x2000, RTL_RX_OURS = 0x4000, RTL_RX_MULTICAST = 0x8000 };

struct rtl8139 {
    struct pci_dev pci; /* first */
    struct nic nic;
    struct clock_timer timer; /* TIMERINT's */
    struct clock_timer
        retry;  /* looks for descriptors that came back without a word, and forgotten frames */
    bool cplus; /* the chip has that mode */
    uint8_t mac[6];
    /* guest-visible state */
    uint8_t reg[RTL_SPACE];
    struct eeprom93c46 eeprom;
    uint8_t tx_buffer;         /* the one that is sent next */
    uint16_t tx_desc, rx_desc; /* and the descriptors */
    uint64_t timer_ns;         /* when TCTR was 0 */
    uint64_t tx_ok, rx_ok, rx_ok_own, rx_ok_broadcast;
    uint32_t rx_ok_multicast;
    uint16_t rx_missed;
};

/* rtl8139.c */
struct rtl8139 *rtl8139_of_nic(struct nic *nic);
void rtl8139_raise(struct rtl8139 *n, uint16_t causes);
/* Sends n->nic.frame, or has it come back. False: not now. */
bool rtl8139_send(struct rtl8139 *n, size_t len);
/* RTL_RX_*; 0: the frame in n->nic.frame is not for this card. */
uint16_t rtl8139_filter(const struct rtl8139 *n, size_t len);
void rtl8139_count_rx(struct rtl8139 *n, uint16_t how);
/* Is the chip in C+ mode, for this direction (RTL_CPCR_*)? */
bool rtl8139_is_cplus(const struct rtl8139 *n, uint16_t direction);

/* rtl8139_ring.c */
void rtl8139_ring_tsd(struct rtl8139 *n, unsigned i, uint32_t val); /* TSDi is written */
void rtl8139_ring_transmit(struct rtl8139 *n);
uint16_t rtl8139_ring_summary(const struct rtl8139 *n);
bool rtl8139_ring_empty(const struct rtl8139 *n);
/* Is there no room for a frame of len bytes now, but some time? */
bool rtl8139_ring_waits(const struct rtl8139 *n, size_t len);
void rtl8139_ring_store(struct rtl8139 *n, size_t len, uint16_t how);

/* rtl8139_cplus.c */
void rtl8139_cplus_transmit(struct rtl8139 *n);
bool rtl8139_cplus_waits(const struct rtl8139 *n);
void rtl8139_cplus_store(struct rtl8139 *n, size_t len, uint16_t how);
void rtl8139_cplus_dump(struct rtl8139 *n); /* the counters */

#endif
