/*
 * e1000_tx.c: the 82540EM's transmit ring. A descriptor is 16 bytes:
 *
 *            63      56 55      48 47      40 39      36 35      32 31      24 23      20 19 16 15       0
 *  any       | address of the data                                                                        |
 *  legacy    | special (VLAN)     | CSS      | status               | command  | CSO           | length    |
 *  data      | special (VLAN)     | POPTS    | status               | command  | type 1   | length         |
 *  context   | MSS                | HDRLEN   | status               | command  | type 0   | payload length |
 *
 * (and a context has eight bytes of checksum offsets for an address). A frame is sent once all of its
 * descriptors are there: until then nothing is kept but the ring's head, before its first one. Not modelled: the
 * delays of TIDV and TADV; fragmentation of UDP.
 */
#include "hw/e1000_impl.h"

#include <string.h>

#include "base/endian.h"
#include "net/offload.h"

enum { TX_DESCS_MAX = 4096 }; /* of one frame */
enum { TX_TYPE_CONTEXT, TX_TYPE_DATA, TX_TYPE_LEGACY };
enum { /* command byte */
       TX_EOP = 0x01,
       TX_IC = 0x04,  /* legacy: insert the checksum */
       TX_TSE = 0x04, /* data, context: segmentation */
       TX_RS = 0x08,
       TX_RPS = 0x10,
       TX_DEXT = 0x20,
       TX_VLE = 0x40,
       TX_CONTEXT_TCP = 0x01,
};
enum { TX_POPTS_IP = 0x01, TX_POPTS_TCP = 0x02, TX_STATUS_AT = 12, TX_DONE = 0x01 };

struct e1000_tx_desc {
    uint64_t addr, word;
    unsigned type, len;
    uint8_t command;
};
/* A frame on its way from the ring: data of n->nic.frame, what its descriptors ask for. */
struct e1000_tx_frame {
    struct e1000_tx_desc first, last;
    size_t len;
    unsigned descs;
    bool bad; /* too long, or data where there is no memory */
};

/* --- the ring --- */

static uint64_t e1000_tx_base(struct e1000 *n)
{
    return (uint64_t)*e1000_reg(n, E1000_TDBAH) << 32 | *e1000_reg(n, E1000_TDBAL);
}

static uint32_t e1000_tx_size(struct e1000 *n)
{
    return *e1000_reg(n, E1000_TDLEN) / E1000_DESC_LEN;
}

static uint32_t e1000_tx_next(struct e1000 *n, uint32_t at)
{
    return at + 1 < e1000_tx_size(n) ? at + 1 : 0;
}

static void e1000_tx_parse(const uint8_t raw[E1000_DESC_LEN], struct e1000_tx_desc *d)
{
    d->addr = ld_le64(raw);
    d->word = ld_le64(raw + 8);
    d->command = (uint8_t)(d->word >> 24);
    if (!(d->command & TX_DEXT)) {
        d->type = TX_TYPE_LEGACY;
        d->len = d->word & 0xffff;
    } else {
        d->type = d->word >> 20 & 15 ? TX_TYPE_DATA : TX_TYPE_CONTEXT;
        d->len = d->word & 0xfffff;
    }
}

static bool e1000_tx_read(struct e1000 *n, uint32_t at, struct e1000_tx_desc *d)
{
    uint8_t raw[E1000_DESC_LEN];

    if (!guest_read(vm_mem(n->pci.dev.vm), e1000_tx_base(n) + (uint64_t)at * E1000_DESC_LEN, raw,
                    sizeof(raw)))
        return false;
    e1000_tx_parse(raw, d);
    return true;
}

/* The head goes past `count` descriptors; those that want it are told done. The causes that come of it. */
static uint32_t e1000_tx_retire(struct e1000 *n, unsigned count)
{
    uint32_t *head = e1000_reg(n, E1000_TDH), causes = 0;

    for (; count; count--, *head = e1000_tx_next(n, *head)) {
        uint64_t at = e1000_tx_base(n) + (uint64_t)*head * E1000_DESC_LEN;
        uint8_t command, done;

        if (!guest_read(vm_mem(n->pci.dev.vm), at + 11, &command, 1) ||
            !(command & (TX_RS | TX_RPS)) ||
            !guest_read(vm_mem(n->pci.dev.vm), at + TX_STATUS_AT, &done, 1))
            continue;
        done |= TX_DONE;
        if (guest_write(vm_mem(n->pci.dev.vm), at + TX_STATUS_AT, &done, 1))
            causes |= E1000_ICR_TXDW;
    }
    if (*head == *e1000_reg(n, E1000_TDT))
        causes |= E1000_ICR_TXQE;
    return causes;
}

/* --- one frame --- */

static void e1000_tx_context(struct e1000 *n, const struct e1000_tx_desc *d)
{
    struct e1000_context *c = d->command & TX_TSE ? &n->tso : &n->plain;

    *c = (struct e1000_context){
        .ipcss = (uint8_t)d->addr,
        .ipcso = (uint8_t)(d->addr >> 8),
        .ipcse = (uint16_t)(d->addr >> 16),
        .tucss = (uint8_t)(d->addr >> 32),
        .tucso = (uint8_t)(d->addr >> 40),
        .tucse = (uint16_t)(d->addr >> 48),
        .header = (uint8_t)(d->word >> 40),
        .mss = (uint16_t)(d->word >> 48),
        .tcp = d->command & TX_CONTEXT_TCP,
    };
}

static void e1000_tx_append(struct e1000 *n, struct e1000_tx_frame *f,
                            const struct e1000_tx_desc *d)
{
    size_t room = sizeof(n->nic.frame) - NIC_VLAN_LEN - f->len;

    if (!f->bad && d->len <= room &&
        guest_read(vm_mem(n->pci.dev.vm), d->addr, n->nic.frame + f->len, d->len))
        f->len += d->len;
    else
        f->bad = d->len > 0 || f->bad;
}

/* Copies the frame at the ring's head. False: its end is not in the ring yet, or it is no frame. */
static bool e1000_tx_gather(struct e1000 *n, struct e1000_tx_frame *f)
{
    uint32_t at = *e1000_reg(n, E1000_TDH);
    struct e1000_tx_desc d;

    *f = (struct e1000_tx_frame){ 0 };
    while (at != *e1000_reg(n, E1000_TDT) && f->descs < TX_DESCS_MAX && e1000_tx_read(n, at, &d)) {
        at = e1000_tx_next(n, at);
        f->descs++;
        if (d.type == TX_TYPE_CONTEXT) {
            e1000_tx_context(n, &d);
            if (f->descs == 1)
                return true; /* by itself */
            continue;
        }
        if (!f->len && !f->bad)
            f->first = d; /* its options are the frame's */
        e1000_tx_append(n, f, &d);
        f->last = d;
        if (d.command & TX_EOP)
            return true;
    }
    f->bad = true;
    return f->descs == TX_DESCS_MAX;
}

static void e1000_tx_sum(struct e1000 *n, size_t len, unsigned start, unsigned at, unsigned end)
{
    bool ok;

    if (end && end < len)
        len = end + 1u;
    ok = at >= start && offload_checksum(n->nic.frame, len, start, at - start);
    (void)ok; /* nonsense: nothing is inserted */
}

static void e1000_tx_sums(struct e1000 *n, const struct e1000_tx_frame *f)
{
    const struct e1000_context *c = &n->plain;
    uint8_t popts = (uint8_t)(f->first.word >> 40);

    if (f->first.type == TX_TYPE_LEGACY) {
        if (f->first.command & TX_IC)
            e1000_tx_sum(n, f->len, popts, (uint8_t)(f->first.word >> 16), 0);
        return;
    }
    if (popts & TX_POPTS_IP)
        e1000_tx_sum(n, f->len, c->ipcss, c->ipcso, c->ipcse);
    if (popts & TX_POPTS_TCP)
        e1000_tx_sum(n, f->len, c->tucss, c->tucso, c->tucse);
}

/* The last descriptor asks for a tag, and has it. */
static size_t e1000_tx_tag(struct e1000 *n, const struct e1000_tx_frame *f)
{
    uint8_t *frame = n->nic.frame;

    if (!(*e1000_reg(n, E1000_CTRL) & E1000_CTRL_VME) || !(f->last.command & TX_VLE))
        return 0;
    memmove(frame + 16, frame + 12, f->len - 12);
    st_be16(frame + 12, (uint16_t)*e1000_reg(n, E1000_VET));
    st_be16(frame + 14, (uint16_t)(f->last.word >> 48));
    return NIC_VLAN_LEN;
}

static void e1000_tx_statistics(struct e1000 *n, size_t len)
{
    e1000_count(n, E1000_GPTC);
    e1000_count(n, E1000_TPT);
    e1000_count64(n, E1000_GOTC, len + NIC_CRC_LEN);
    e1000_count64(n, E1000_TOT, len + NIC_CRC_LEN);
    if (nic_is_broadcast(n->nic.frame))
        e1000_count(n, E1000_BPTC);
    else if (n->nic.frame[0] & 1)
        e1000_count(n, E1000_MPTC);
}

/* False: not now. */
static bool e1000_tx_send(struct e1000 *n, const struct e1000_tx_frame *f)
{
    size_t len = f->len, tag;

    if (f->bad || len < 14)
        return true; /* as hardware does with nonsense, more or less */
    if (f->first.type == TX_TYPE_DATA && f->first.command & TX_TSE) {
        tag = e1000_tx_tag(n, f);
        if (!n->tso.tcp || !nic_send_segment(&n->nic, len + tag, n->tso.header + tag, n->tso.mss))
            return !n->tso.tcp;
        e1000_count(n, E1000_TSCTC);
    } else {
        e1000_tx_sums(n, f);
        len += e1000_tx_tag(n, f);
        if (n->phy[E1000_PHY_CTRL] & E1000_PHY_LOOPBACK ||
            *e1000_reg(n, E1000_RCTL) & E1000_RCTL_LBM) {
            bool room = e1000_rx_frame(n, len);

            (void)room; /* else it is lost */
        } else if (!nic_send(&n->nic, len)) {
            return false;
        }
    }
    e1000_tx_statistics(n, len);
    return true;
}

void e1000_transmit(struct nic *nic)
{
    struct e1000 *n = e1000_of_nic(nic);
    struct e1000_tx_frame f;
    uint32_t causes = 0;

    if (!nic_active(nic) || !(*e1000_reg(n, E1000_TCTL) & E1000_TCTL_EN))
        return;
    if (*e1000_reg(n, E1000_TDH) >= e1000_tx_size(n) ||
        *e1000_reg(n, E1000_TDT) >= e1000_tx_size(n))
        return;
    /* Bounded: each round takes something out of the ring, and nobody puts anything in meanwhile. */
    while (*e1000_reg(n, E1000_TDH) != *e1000_reg(n, E1000_TDT) && e1000_tx_gather(n, &f)) {
        if (f.len && !e1000_tx_send(n, &f))
            break;
        causes |= e1000_tx_retire(n, f.descs);
    }
    if (causes)
        e1000_raise(n, causes);
}
