/*
 * e1000_impl.h: between the files of the 82540EM (PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual, rev. 4.0).
 *
 *  e1000.c       the device: PCI, register window, interrupts, state
 *  e1000_regs.c  which registers there are
 *  e1000_phy.c   EEPROM and PHY
 *  e1000_tx.c    transmit ring
 *  e1000_rx.c    receive ring and filters
 */
#ifndef HW_E1000_IMPL_H
#define HW_E1000_IMPL_H

#include "hw/e1000.h"
#include "hw/eeprom93c46.h"

enum { /* registers */
       E1000_CTRL = 0x0000,
       E1000_STATUS = 0x0008,
       E1000_EECD = 0x0010,
       E1000_EERD = 0x0014,
       E1000_CTRL_EXT = 0x0018,
       E1000_MDIC = 0x0020,
       E1000_FCAL = 0x0028,
       E1000_FCAH = 0x002c,
       E1000_FCT = 0x0030,
       E1000_VET = 0x0038,
       E1000_ICR = 0x00c0,
       E1000_ITR = 0x00c4,
       E1000_ICS = 0x00c8,
       E1000_IMS = 0x00d0,
       E1000_IMC = 0x00d8,
       E1000_RCTL = 0x0100,
       E1000_TCTL = 0x0400,
       E1000_LEDCTL = 0x0e00,
       E1000_PBA = 0x1000,
       E1000_RDBAL = 0x2800,
       E1000_RDBAH = 0x2804,
       E1000_RDLEN = 0x2808,
       E1000_RDH = 0x2810,
       E1000_RDT = 0x2818,
       E1000_TDBAL = 0x3800,
       E1000_TDBAH = 0x3804,
       E1000_TDLEN = 0x3808,
       E1000_TDH = 0x3810,
       E1000_TDT = 0x3818,
       E1000_STATS = 0x4000,
       E1000_STATS_END = 0x4100,
       E1000_BPRC = 0x4078,
       E1000_MPRC = 0x407c,
       E1000_GPRC = 0x4074,
       E1000_GPTC = 0x4080,
       E1000_GORC = 0x4088, /* 64 bits, like the next three */
       E1000_GOTC = 0x4090,
       E1000_TOR = 0x40c0,
       E1000_TOT = 0x40c8,
       E1000_TPR = 0x40d0,
       E1000_TPT = 0x40d4,
       E1000_MPTC = 0x40f0,
       E1000_BPTC = 0x40f4,
       E1000_TSCTC = 0x40f8,
       E1000_RXCSUM = 0x5000,
       E1000_MTA = 0x5200,
       E1000_RA = 0x5400,
       E1000_VFTA = 0x5600,
       E1000_SPACE = 0x6000, /* all that is modelled lies below */
};
#define E1000_CTRL_RST     BIT(26)
#define E1000_CTRL_VME     BIT(30)
#define E1000_CTRL_PHY_RST BIT(31)
#define E1000_ICR_TXDW     BIT(0)
#define E1000_ICR_TXQE     BIT(1)
#define E1000_ICR_LSC      BIT(2)
#define E1000_ICR_RXDMT0   BIT(4)
#define E1000_ICR_RXT0     BIT(7)
#define E1000_ICR_MDAC     BIT(9)
#define E1000_RCTL_EN      BIT(1)
#define E1000_RCTL_LBM     (3u << 6)
#define E1000_TCTL_EN      BIT(1)
#define E1000_RAH_AV       BIT(31)
#define E1000_RXCSUM_IPOFL BIT(8)
#define E1000_RXCSUM_TUOFL BIT(9)
#define E1000_PHY_LOOPBACK BIT(14)

enum { E1000_DESC_LEN = 16, E1000_RA_ENTRIES = 16, E1000_PHY_REGS = 32, E1000_PHY_CTRL = 0 };

/* What a context descriptor says, kept for segmentation and for plain checksums apart. */
struct e1000_context {
    uint8_t ipcss, ipcso, tucss, tucso;
    uint16_t ipcse, tucse, mss;
    uint8_t header;
    bool tcp;
};

struct e1000 {
    struct pci_dev pci; /* first */
    struct nic nic;
    struct clock_timer throttle;
    uint8_t mac[6];
    /* guest-visible state */
    uint32_t reg[E1000_SPACE / 4];
    uint16_t phy[E1000_PHY_REGS];
    struct eeprom93c46 eeprom;
    struct e1000_context plain, tso;
    uint32_t io_addr;
    bool asserted;         /* the interrupt pin */
    uint64_t next_intr_ns; /* not before, by ITR */
};

static inline uint32_t *e1000_reg(struct e1000 *n, unsigned off)
{
    return &n->reg[off / 4];
}

/* e1000.c */
void e1000_raise(struct e1000 *n, uint32_t causes);
void e1000_count(struct e1000 *n, unsigned off);                    /* one more; stays at the top */
void e1000_count64(struct e1000 *n, unsigned off, uint64_t amount); /* low and high register */

/* e1000_regs.c: a run of plain registers, of which the guest can write the bits of mask. */
struct e1000_range {
    uint16_t off, count;
    uint32_t mask;
};
extern const struct e1000_range e1000_ranges[];
extern const unsigned e1000_n_ranges;
const struct e1000_range *e1000_range(unsigned off); /* NULL: there is no such register */
unsigned e1000_unalias(unsigned off); /* where a register of the 82542's layout is now */

/* e1000_phy.c */
void e1000_eeprom_init(struct e1000 *n);
void e1000_phy_reset(struct e1000 *n);
void e1000_eecd_write(struct e1000 *n, uint32_t val);
uint32_t e1000_eecd_read(struct e1000 *n);
void e1000_eerd_write(struct e1000 *n, uint32_t val);
void e1000_mdic_write(struct e1000 *n, uint32_t val);

/* e1000_tx.c, e1000_rx.c */
void e1000_transmit(struct nic *nic);
void e1000_receive(struct nic *nic);
/* The frame of len bytes in n->nic.frame comes back. False: there is no room for it in the ring now. */
bool e1000_rx_frame(struct e1000 *n, size_t len);
struct e1000 *e1000_of_nic(struct nic *nic);

#endif
