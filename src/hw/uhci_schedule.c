/*
 * uhci_schedule.c: a frame's work (UHCI 1.1, 3): the frame list names a chain of queue heads (QH) and transfer
 * descriptors (TD). A queue's first TD is carried out; if it is done, the queue moves on to the next one.
 *
 *     link: 31-4 address, 2 depth first, 1 it is a QH, 0 the end
 *     QH:   0 link to the side   4 link to its first TD
 *     TD:   0 link   4 status: 29 stop at a short packet, 24 interrupt, 23 active, 22 stalled, 19 NAK, 18 timeout,
 *           10-0 length - 1      8 token: 31-21 length - 1, 18-15 endpoint, 14-8 address, 7-0 PID   12 buffer
 *
 * The guest makes these lists, in circles if it likes, which drivers do to use up a frame's time: a frame ends
 * after so many bytes, after so many links, or where a circle is closed in which nothing moved. More bytes fit
 * into a frame than on the wire.
 */
#include "base/endian.h"
#include "hw/uhci_priv.h"

enum { LINK_END = 1, LINK_QH = 2, LINK_DEPTH = 4 };
enum { FRAME_BYTES = 16 * KIB, FRAME_LINKS = 512, FRAME_SEEN = 64, PACKET_MAX = 1280 };
enum { PID_IN = 0x69, PID_OUT = 0xe1, PID_SETUP = 0x2d, SETUP_LEN = 8 };
enum {
    TD_LENGTH = 0x7ff,
    TD_TIMEOUT = BIT(18),
    TD_NAK = BIT(19),
    TD_STALLED = BIT(22),
    TD_ACTIVE = BIT(23),
    TD_IOC = BIT(24),
    TD_SHORT = BIT(29),
    TD_STATUS = 0x7e0000, /* all that says how it went */
};

struct uhci_td {
    uint32_t at, link, status, token, buffer;
};
enum uhci_outcome { TD_DONE, TD_WAITS, TD_ENDS_QUEUE, TD_FATAL };
struct uhci_walk {
    struct uhci *u;
    unsigned bytes, links;
    uint32_t seen[FRAME_SEEN]; /* links, since something moved */
    unsigned n_seen;
    bool moved;
};

static struct physmap *uhci_mem(struct uhci *u)
{
    return vm_mem(u->pci.dev.vm);
}

static bool uhci_load(struct uhci *u, uint32_t at, uint8_t *raw, size_t len)
{
    if (guest_read(uhci_mem(u), at, raw, len))
        return true;
    u->sts |= STS_HOST;
    return false;
}

static struct usb_dev *uhci_find(struct uhci *u, unsigned address)
{
    for (unsigned i = 0; i < UHCI_PORTS; i++)
        if (u->dev[i] && u->dev[i]->address == address &&
            (u->port[i] & (PORT_PED | PORT_SUSPEND)) == PORT_PED)
            return u->dev[i];
    return NULL;
}

/* --- one packet --- */

static enum usb_result uhci_packet_in(struct uhci *u, struct usb_dev *d, const struct uhci_td *td,
                                      uint32_t len, uint32_t *done)
{
    uint8_t packet[PACKET_MAX] = { 0 };
    bool end;
    enum usb_result r = usb_in(d, td->token >> 15 & 15, packet, len, done, &end);

    if (*done && !guest_write(uhci_mem(u), td->buffer, packet, *done))
        u->sts |= STS_HOST;
    return r;
}

static enum usb_result uhci_packet_out(struct uhci *u, struct usb_dev *d, const struct uhci_td *td,
                                       uint32_t len, uint32_t *done)
{
    uint8_t packet[PACKET_MAX];

    *done = 0;
    if (len && !uhci_load(u, td->buffer, packet, len))
        return USB_NAK;
    if ((td->token & 0xff) == PID_OUT)
        return usb_out(d, td->token >> 15 & 15, packet, len, done);
    if (len != SETUP_LEN)
        return USB_STALL;
    usb_setup(d, packet);
    *done = len;
    return USB_OK;
}

/* 3.2.2: how a packet went; what cannot be is a process error. */
static enum uhci_outcome uhci_finish(struct uhci *u, struct uhci_td *td, enum usb_result r,
                                     uint32_t len, uint32_t done)
{
    td->status &= ~(uint32_t)TD_STATUS;
    if (r == USB_NAK && !done) {
        td->status |= TD_ACTIVE | TD_NAK;
        return TD_WAITS;
    }
    td->status = (td->status & ~(uint32_t)(TD_LENGTH | TD_ACTIVE)) | ((done - 1) & TD_LENGTH);
    if (r == USB_STALL) {
        td->status |= TD_STALLED;
        u->sts |= STS_ERROR;
        return TD_ENDS_QUEUE;
    }
    if (td->status & TD_IOC)
        u->causes |= INTR_IOC;
    if (done < len && (td->token & 0xff) == PID_IN && td->status & TD_SHORT) {
        u->causes |= INTR_SHORT;
        return TD_ENDS_QUEUE;
    }
    return TD_DONE;
}

static enum uhci_outcome uhci_execute(struct uhci *u, struct uhci_td *td, unsigned *bytes)
{
    uint32_t len = ((td->token >> 21) + 1) & TD_LENGTH, done = 0;
    uint8_t pid = td->token & 0xff;
    struct usb_dev *d = uhci_find(u, td->token >> 8 & 0x7f);
    enum usb_result r;

    if (len > PACKET_MAX || (pid != PID_IN && pid != PID_OUT && pid != PID_SETUP)) {
        u->sts |= STS_PROCESS;
        return TD_FATAL;
    }
    if (!d) {
        td->status = (td->status & ~(uint32_t)(TD_STATUS | TD_ACTIVE)) | TD_TIMEOUT | TD_STALLED;
        u->sts |= STS_ERROR;
        return TD_ENDS_QUEUE;
    }
    r = pid == PID_IN ? uhci_packet_in(u, d, td, len, &done)
                      : uhci_packet_out(u, d, td, len, &done);
    *bytes += done;
    return uhci_finish(u, td, r, len, done);
}

/* A TD that is not active may ask for an interrupt, too. */
static enum uhci_outcome uhci_td(struct uhci_walk *w, struct uhci_td *td)
{
    struct uhci *u = w->u;
    enum uhci_outcome o;
    uint8_t raw[4];

    if (!(td->status & TD_ACTIVE)) {
        if (td->status & TD_IOC)
            u->causes |= INTR_IOC;
        w->moved |= (td->status & TD_IOC) != 0;
        return TD_WAITS;
    }
    o = uhci_execute(u, td, &w->bytes);
    if (o == TD_FATAL)
        return o;
    st_le32(raw, td->status);
    if (!guest_write(uhci_mem(u), td->at + 4, raw, sizeof(raw)))
        u->sts |= STS_HOST;
    if (o != TD_WAITS) {
        w->moved = true;
        w->n_seen = 0;
    }
    return o;
}

/* --- the lists --- */

static bool uhci_td_load(struct uhci *u, uint32_t link, struct uhci_td *td)
{
    uint8_t raw[16];

    td->at = link & ~15u;
    if (!uhci_load(u, td->at, raw, sizeof(raw)))
        return false;
    td->link = ld_le32(raw);
    td->status = ld_le32(raw + 4);
    td->token = ld_le32(raw + 8);
    td->buffer = ld_le32(raw + 12);
    return true;
}

/* Has the walk come by here since something moved? */
static bool uhci_been_here(struct uhci_walk *w, uint32_t link)
{
    for (unsigned i = 0; i < w->n_seen; i++)
        if (w->seen[i] == link)
            return true;
    if (w->n_seen == FRAME_SEEN)
        return true;
    w->seen[w->n_seen++] = link;
    return false;
}

static bool uhci_goes_on(struct uhci_walk *w, enum uhci_outcome o)
{
    return o != TD_FATAL && !(w->u->sts & (STS_HOST | STS_PROCESS)) && w->bytes < FRAME_BYTES &&
           ++w->links < FRAME_LINKS;
}

/* A queue's TDs, one, or more where their links say so. Returns the last outcome. */
static enum uhci_outcome uhci_queue(struct uhci_walk *w, uint32_t at, uint32_t element)
{
    enum uhci_outcome o = TD_WAITS;
    struct uhci_td td;
    uint8_t raw[4];

    while (!(element & (LINK_END | LINK_QH)) && uhci_td_load(w->u, element, &td)) {
        o = uhci_td(w, &td);
        if (o != TD_DONE)
            break;
        element = td.link;
        st_le32(raw, element);
        if (!guest_write(uhci_mem(w->u), at + 4, raw, sizeof(raw)))
            w->u->sts |= STS_HOST;
        if (!(td.link & LINK_DEPTH) || !uhci_goes_on(w, o))
            break;
    }
    return o;
}

bool uhci_frame(struct uhci *u, unsigned frame)
{
    struct uhci_walk w = { .u = u };
    enum uhci_outcome o = TD_WAITS;
    uint8_t raw[8];
    uint32_t link;

    if (!uhci_load(u, u->base + 4 * (frame % UHCI_FRAMES), raw, 4))
        return true;
    link = ld_le32(raw);
    while (!(link & LINK_END) && uhci_goes_on(&w, o)) {
        uint32_t at = link & ~15u, element;
        struct uhci_td td;

        if (uhci_been_here(&w, link))
            break;
        if (!(link & LINK_QH)) {
            if (!uhci_td_load(u, link, &td))
                break;
            o = uhci_td(&w, &td);
            link = td.link;
            continue;
        }
        if (!uhci_load(u, at, raw, sizeof(raw)))
            break;
        link = ld_le32(raw);
        element = ld_le32(raw + 4);
        if ((element & (LINK_END | LINK_QH)) == LINK_QH) /* a queue of queues */
            link = element;
        else
            o = uhci_queue(&w, at, element);
    }
    if (u->causes)
        u->sts |= STS_INT;
    return w.moved || (u->sts & (STS_HOST | STS_PROCESS));
}
