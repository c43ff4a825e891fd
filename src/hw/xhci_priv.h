/*
 * xhci_priv.h: between the files of the xHCI controller (Intel's specification, 1.0 and 1.1; section numbers
 * in the files are of 1.1).
 *
 *  xhci.c          the PCI function: create, state, interrupts, the run loop
 *  xhci_regs.c     registers
 *  xhci_port.c     port registers and events
 *  xhci_ring.c     transfer request blocks: reading rings, writing the event ring
 *  xhci_command.c  the command ring: slots and endpoints
 *  xhci_xfer.c     transfer rings
 *
 * How it runs: whatever may give it work (a doorbell, a device that has something, room in the event ring)
 * marks rings and calls xhci_run(), which goes on until every ring is empty, waits for its device, or the
 * event ring is full. Nothing happens by time. Rings are the guest's, and it may make them without an end:
 * after XHCI_BUDGET blocks in one run the controller dies of a host system error, as hardware may.
 *
 * A TRB, in guest memory:
 *     0  parameter (u64)   8  status (u32)   12  control (u32): bit 0 cycle, 10-15 type
 */
#ifndef HW_XHCI_PRIV_H
#define HW_XHCI_PRIV_H

#include "hw/xhci.h"

enum { XHCI_SLOTS = 32, XHCI_EPS = 32, XHCI_BUDGET = 16384, XHCI_LINKS = 16, XHCI_SEGMENTS = 16 };
enum { XHCI_TRB = 16, XHCI_CTX = 32 };

/* USBCMD, USBSTS */
enum {
    CMD_RUN = BIT(0),
    CMD_RESET = BIT(1),
    CMD_INTE = BIT(2),
    CMD_HSEE = BIT(3),
    CMD_LHCRST = BIT(7),
    CMD_SAVE = BIT(8),
    CMD_RESTORE = BIT(9),
    CMD_WRAP = BIT(10),
    STS_HALTED = BIT(0),
    STS_HSE = BIT(2),
    STS_EINT = BIT(3),
    STS_PCD = BIT(4),
    STS_SRE = BIT(10),
    IMAN_IP = BIT(0),
    IMAN_IE = BIT(1),
    ERDP_EHB = BIT(3),
};

/* PORTSC */
enum {
    PORT_CCS = BIT(0),
    PORT_PED = BIT(1),
    PORT_PR = BIT(4),
    PORT_PLS = 15u << 5,
    PORT_PP = BIT(9),
    PORT_SPEED_SHIFT = 10,
    PORT_PIC = 3u << 14,
    PORT_LWS = BIT(16),
    PORT_CSC = BIT(17),
    PORT_PEC = BIT(18),
    PORT_WRC = BIT(19),
    PORT_OCC = BIT(20),
    PORT_PRC = BIT(21),
    PORT_PLC = BIT(22),
    PORT_CEC = BIT(23),
    PORT_WAKE = 7u << 25,
    PORT_CHANGES = PORT_CSC | PORT_PEC | PORT_WRC | PORT_OCC | PORT_PRC | PORT_PLC | PORT_CEC,
};
#define PORT_WPR BIT(31)
enum xhci_link { PLS_U0 = 0, PLS_U3 = 3, PLS_RXDETECT = 5, PLS_POLLING = 7, PLS_RESUME = 15 };

/* Types of TRBs, and bits of their control words. */
enum {
    TRB_NORMAL = 1,
    TRB_SETUP = 2,
    TRB_DATA = 3,
    TRB_STATUS = 4,
    TRB_ISOCH = 5,
    TRB_LINK = 6,
    TRB_EVENT_DATA = 7,
    TRB_NOOP = 8,
    TRB_ENABLE_SLOT = 9,
    TRB_DISABLE_SLOT = 10,
    TRB_ADDRESS_DEVICE = 11,
    TRB_CONFIGURE_EP = 12,
    TRB_EVALUATE = 13,
    TRB_RESET_EP = 14,
    TRB_STOP_EP = 15,
    TRB_SET_DEQUEUE = 16,
    TRB_RESET_DEVICE = 17,
    TRB_COMMAND_NOOP = 23,
    TRB_EV_TRANSFER = 32,
    TRB_EV_COMMAND = 33,
    TRB_EV_PORT = 34,

    TRB_CYCLE = BIT(0),
    TRB_TOGGLE = BIT(1), /* of a link */
    TRB_ISP = BIT(2),
    TRB_EV_ED = BIT(2),
    TRB_CHAIN = BIT(4),
    TRB_IOC = BIT(5),
    TRB_IDT = BIT(6),
    TRB_BEI = BIT(9),
    TRB_BSR = BIT(9), /* of an address device command */
    TRB_DC = BIT(9),  /* of a configure endpoint command */
    TRB_DIR = BIT(16),
    TRB_TYPE_SHIFT = 10,
};

enum xhci_cc {
    CC_SUCCESS = 1,
    CC_DATA_BUFFER = 2,
    CC_TRANSACTION = 4,
    CC_TRB = 5,
    CC_STALL = 6,
    CC_NO_SLOTS = 9,
    CC_SLOT_OFF = 11,
    CC_EP_OFF = 12,
    CC_SHORT = 13,
    CC_PARAMETER = 17,
    CC_CONTEXT_STATE = 19,
    CC_RING_STOPPED = 24,
    CC_STOPPED = 26,
};

struct xhci_trb {
    uint64_t param;
    uint32_t status, control;
};
struct xhci_ring {
    uint64_t at; /* the next TRB */
    bool cycle;
};

/* States as in the contexts. */
enum xhci_ep_state { EP_OFF, EP_RUNNING, EP_HALTED, EP_STOPPED, EP_ERROR };
enum xhci_slot_state { SLOT_OFF, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED };
struct xhci_ep {
    uint8_t state;
    struct xhci_ring ring;
    uint32_t done;  /* bytes of the TRB at ring.at that have moved */
    uint32_t moved; /* bytes of the transfer (TD) since the last event data: EDTLA */
    bool in_td;     /* the TRB before was chained to the next one */
    bool in;        /* the data stage of a control transfer */
    bool cut, told; /* a short packet has ended this TD; and that was reported */
};
struct xhci_slot {
    bool enabled;
    uint8_t state;
    uint8_t port;     /* 1 to XHCI_PORTS; 0: no device yet */
    uint64_t context; /* the output context's address */
    struct xhci_ep
        ep[XHCI_EPS]; /* by device context index: 1 control, 2 ep 1 out, 3 ep 1 in, ... */
};
struct xhci_port {
    struct usb_dev *dev; /* NULL: nothing is plugged in */
    uint32_t sc;         /* PORTSC, but for what follows from dev */
};
/* Where the next event goes. */
struct xhci_event_at {
    uint32_t segment, index, len;
    uint64_t base;
};

struct xhci {
    struct pci_dev pci;
    struct usb_host host;
    struct loop_work work;
    /* guest-visible state */
    uint32_t cmd, sts, dnctrl, config;
    uint64_t dcbaap;
    struct xhci_ring commands;
    bool commands_running;
    uint32_t iman, imod, erstsz;
    uint64_t erstba, erdp;
    struct xhci_event_at event;
    bool event_ready;                /* event is set up from the segment table */
    bool event_cycle, event_pending; /* an interrupt waits for the last one's handler */
    bool saved;                      /* the save state command was given */
    struct xhci_port port[XHCI_PORTS];
    struct xhci_slot slot[XHCI_SLOTS + 1]; /* by slot id, 0 is not used */
    uint32_t ring_ready[XHCI_SLOTS + 1];   /* bit an endpoint: it may have something to do */
    uint8_t port_events;                   /* bit a port: a change was not told yet */
    /* not saved: what is under way */
    bool running, quiet;
    unsigned budget;
};

/* xhci.c */
void xhci_run(struct xhci *x);
void xhci_die(struct xhci *x, const char *why); /* host system error */
void xhci_interrupt(struct xhci *x);            /* makes the wires agree with the registers */
void xhci_reset(struct xhci *x);
static inline void xhci_ready(struct xhci *x, unsigned slot, unsigned ep)
{
    x->ring_ready[slot] |= BIT(ep);
}

/* xhci_regs.c: the registers in BAR 0 */
enum { XHCI_BAR_LEN = 0x4000 };
extern const struct io_ops xhci_io;

/* xhci_port.c; n: 0 to XHCI_PORTS - 1 */
void xhci_port_reset_all(struct xhci *x);
uint32_t xhci_port_read(const struct xhci *x, unsigned n);
void xhci_port_write(struct xhci *x, unsigned n, uint32_t val);
bool xhci_port_active(const struct xhci *x, unsigned n); /* packets pass */
void xhci_port_wake(struct xhci *x, unsigned n);         /* its device has something to say */

/* xhci_ring.c */
enum xhci_fetch { FETCH_OK, FETCH_EMPTY, FETCH_BAD };
/* The TRB at r->at, after links, which are followed. */
enum xhci_fetch xhci_ring_fetch(struct xhci *x, struct xhci_ring *r, struct xhci_trb *t);
static inline unsigned xhci_trb_type(const struct xhci_trb *t)
{
    return t->control >> TRB_TYPE_SHIFT & 63;
}
bool xhci_event_room(struct xhci *x); /* for all the events of one step */
void xhci_event(struct xhci *x, uint64_t param, uint32_t status, uint32_t control);

/* xhci_command.c: one command; false: the ring is empty */
bool xhci_command_step(struct xhci *x);
void xhci_slot_off(struct xhci *x, unsigned slot);
/* Its state in the output context. */
void xhci_ep_set_state(struct xhci *x, unsigned slot, unsigned ep, enum xhci_ep_state state);

/* xhci_xfer.c: one TRB; false: it is empty, waits for the device, or stopped */
bool xhci_xfer_step(struct xhci *x, unsigned slot, unsigned ep);
void xhci_xfer_event(struct xhci *x, unsigned slot, unsigned ep, const struct xhci_trb *t,
                     enum xhci_cc cc, uint32_t residue);

#endif
