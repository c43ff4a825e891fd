/*
 * uhci_priv.h: between the files of the UHCI controller (Universal Host Controller Interface, revision 1.1).
 *
 *  uhci.c           the PCI function: registers, ports, the frame timer, state
 *  uhci_schedule.c  one frame: queues and transfer descriptors in guest memory
 */
#ifndef HW_UHCI_PRIV_H
#define HW_UHCI_PRIV_H

#include "hw/uhci.h"

enum { UHCI_FRAMES = 1024 };
/* USBCMD, USBSTS, USBINTR, PORTSC */
enum {
    CMD_RUN = BIT(0),
    CMD_HCRESET = BIT(1),
    CMD_GRESET = BIT(2),
    CMD_SUSPEND = BIT(3),
    STS_INT = BIT(0),
    STS_ERROR = BIT(1),
    STS_RESUME = BIT(2),
    STS_HOST = BIT(3),
    STS_PROCESS = BIT(4),
    STS_HALTED = BIT(5),
    INTR_ERROR = BIT(0),
    INTR_RESUME = BIT(1),
    INTR_IOC = BIT(2),
    INTR_SHORT = BIT(3),
    PORT_CCS = BIT(0),
    PORT_CSC = BIT(1),
    PORT_PED = BIT(2),
    PORT_PEDC = BIT(3),
    PORT_RD = BIT(6),
    PORT_ONE = BIT(7), /* always set */
    PORT_LOW = BIT(8),
    PORT_RESET = BIT(9),
    PORT_SUSPEND = BIT(12),
};

struct uhci {
    struct pci_dev pci;
    struct usb_host host;
    struct clock_timer timer;
    struct loop_work work;
    struct usb_dev *dev[UHCI_PORTS]; /* NULL: nothing is plugged in */
    /* guest-visible state */
    uint16_t cmd, sts, intr, port[UHCI_PORTS];
    uint8_t causes; /* of STS_INT: INTR_IOC, INTR_SHORT */
    uint8_t sofmod;
    uint32_t base;     /* of the frame list */
    uint16_t frame;    /* the next one to be carried out, */
    uint64_t frame_ns; /* and when it begins */
    uint32_t idle;     /* frames in a row in which nothing moved */
    bool quiet;        /* not saved: the VM is stopping */
};

/* The frame of this number. True: something moved, or the guest is to hear of something. */
bool uhci_frame(struct uhci *u, unsigned frame);

#endif
