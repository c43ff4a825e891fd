/*
 * nic.h: what the network cards of old have in common: the backend behind them and the scratch frame. A card
 * embeds it. Threads: a card's functions run with its device lock held, on vCPU threads or, for news from the
 * backend, on the loop thread.
 */
#ifndef HW_NIC_H
#define HW_NIC_H

#include "bus/pci.h"
#include "net/net.h"

struct vm_config;
struct nic_opts {
    const char *backend;         /* "user", as for net_open() */
    const struct vm_config *cfg; /* the backend's; NULL: defaults */
    uint8_t mac[6];
    uint8_t *rom; /* malloc'd expansion ROM, the card's once it is created; NULL: none */
    uint32_t rom_len;
};

enum { NIC_FRAME_MIN = 60, NIC_VLAN_LEN = 4, NIC_CRC_LEN = 4, NIC_PACKET_MAX = 17 * KIB };

struct nic {
    struct pci_dev *pci; /* NULL: not on the bus yet */
    struct net *net;
    uint8_t *rom;
    /* The card's: there may be frames to receive; the backend may take frames again. Lock held. */
    void (*receive)(struct nic *n);
    void (*transmit)(struct nic *n);
    bool quiesced; /* paused: leave guest memory alone until sync */
    struct log_limit log;
    uint8_t frame[NET_FRAME_MAX];   /* scratch: the frame under way */
    uint8_t packet[NIC_PACKET_MAX]; /* and a packet of a segment */
};

/*
 * On a zeroed struct with both functions set: opens the backend, then as pci_add(). 0: the ROM is the card's,
 * and from then on the backend calls. On failure nothing is left to undo.
 */
must_check int nic_add(struct nic *n, struct pci_bus *bus, struct pci_dev *p, unsigned devfn,
                       const struct nic_opts *o, struct err *e);
void nic_fini(struct nic *n);    /* after nic_add(), by the card's destroy() */
void nic_quiesce(struct nic *n); /* takes the device lock */
void nic_resume(struct nic *n);  /* from sync(): both functions are called */
/* May the card touch guest memory now? */
bool nic_active(const struct nic *n);

/* Sends n->frame. False: the backend wants no more until transmit() is called. */
must_check bool nic_send(struct nic *n, size_t len);
/* A TCP segment of any size in n->frame, of which the first `header` bytes are headers, in packets of mss bytes. */
must_check bool nic_send_segment(struct nic *n, size_t len, size_t header, size_t mss);
/* The next frame goes to n->frame, padded to NIC_FRAME_MIN; its length, 0: there is none. */
size_t nic_fetch(struct nic *n);
/* How long it will be. */
size_t nic_next_len(struct nic *n);

/* The CRC of an Ethernet address, as multicast filters take it, most significant bit first. */
uint32_t nic_hash(const uint8_t addr[6]);
bool nic_is_broadcast(const uint8_t addr[6]);

#endif
