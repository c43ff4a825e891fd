/*
 * xhci_port.c: ports of the root hub (4.19, 5.4.8). A reset or a change of the link takes no time. A USB 3
 * port with a device trains by itself; a USB 2 one is enabled by its reset.
 */
#include "hw/xhci_priv.h"

static bool xhci_port_is_usb3(unsigned n)
{
    return n < XHCI_PORTS_USB3; /* firmware counts on them being the first */
}

static enum xhci_link xhci_port_link(const struct xhci_port *p)
{
    return (enum xhci_link)((p->sc & PORT_PLS) >> 5);
}

static void xhci_port_set_link(struct xhci_port *p, enum xhci_link link)
{
    p->sc = (p->sc & ~(uint32_t)PORT_PLS) | (uint32_t)link << 5;
}

static void xhci_port_changed(struct xhci *x, unsigned n, uint32_t bits)
{
    x->port[n].sc |= bits;
    x->port_events |= (uint8_t)BIT(n);
}

void xhci_port_reset_all(struct xhci *x)
{
    x->port_events = 0;
    for (unsigned n = 0; n < XHCI_PORTS; n++) {
        struct xhci_port *p = &x->port[n];

        p->sc = PORT_PP;
        if (!p->dev) {
            xhci_port_set_link(p, PLS_RXDETECT);
            continue;
        }
        usb_reset(p->dev);
        xhci_port_set_link(p, xhci_port_is_usb3(n) ? PLS_U0 : PLS_POLLING);
        if (xhci_port_is_usb3(n))
            p->sc |= PORT_PED;
        xhci_port_changed(x, n, PORT_CSC);
    }
}

uint32_t xhci_port_read(const struct xhci *x, unsigned n)
{
    const struct xhci_port *p = &x->port[n];
    uint32_t val = p->sc;

    if (p->dev) {
        val |= PORT_CCS;
        if (xhci_port_is_usb3(n) || (val & PORT_PED)) /* known only after a reset */
            val |= (uint32_t)p->dev->speed << PORT_SPEED_SHIFT;
    }
    return val;
}

bool xhci_port_active(const struct xhci *x, unsigned n)
{
    const struct xhci_port *p = &x->port[n];

    return p->dev && (p->sc & PORT_PED) && xhci_port_link(p) == PLS_U0;
}

static void xhci_port_reset(struct xhci *x, unsigned n, uint32_t changes)
{
    struct xhci_port *p = &x->port[n];

    if (!p->dev)
        return;
    usb_reset(p->dev);
    xhci_port_set_link(p, PLS_U0);
    p->sc |= PORT_PED;
    xhci_port_changed(x, n, changes);
}

/* Rings that waited for the link go on. */
static void xhci_port_resumed(struct xhci *x, unsigned n)
{
    xhci_port_set_link(&x->port[n], PLS_U0);
    for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++)
        if (x->slot[slot].enabled && x->slot[slot].port == n + 1)
            x->ring_ready[slot] = UINT32_MAX & ~1u;
}

static void xhci_port_write_link(struct xhci *x, unsigned n, enum xhci_link link)
{
    struct xhci_port *p = &x->port[n];
    enum xhci_link was = xhci_port_link(p);

    if (!p->dev || !(p->sc & PORT_PED))
        return;
    if (link == PLS_U3 && was < PLS_U3) {
        xhci_port_set_link(p, PLS_U3);
    } else if (link == PLS_RESUME && was == PLS_U3 && !xhci_port_is_usb3(n)) {
        xhci_port_set_link(p, PLS_RESUME); /* until the guest ends it */
    } else if (link == PLS_U0 && (was == PLS_U3 || was == PLS_RESUME)) {
        xhci_port_resumed(x, n);
        xhci_port_changed(x, n, PORT_PLC);
    }
}

/* 4.15.2.3: a device that may does so. The guest ends the resume of a USB 2 link. */
void xhci_port_wake(struct xhci *x, unsigned n)
{
    struct xhci_port *p = &x->port[n];

    if (!p->dev->remote_wakeup || xhci_port_link(p) != PLS_U3)
        return;
    if (xhci_port_is_usb3(n))
        xhci_port_resumed(x, n);
    else
        xhci_port_set_link(p, PLS_RESUME);
    xhci_port_changed(x, n, PORT_PLC);
}

void xhci_port_write(struct xhci *x, unsigned n, uint32_t val)
{
    struct xhci_port *p = &x->port[n];

    p->sc &= ~(val & PORT_CHANGES);
    p->sc = (p->sc & ~(uint32_t)(PORT_WAKE | PORT_PIC)) | (val & (PORT_WAKE | PORT_PIC));
    if (val & PORT_WPR && xhci_port_is_usb3(n)) {
        xhci_port_reset(x, n, PORT_PRC | PORT_WRC);
    } else if (val & PORT_PR) {
        xhci_port_reset(x, n, PORT_PRC);
    } else if (val & PORT_PED && p->sc & PORT_PED) { /* writing a 1 disables */
        p->sc &= ~(uint32_t)PORT_PED;
        xhci_port_set_link(p, xhci_port_is_usb3(n) ? PLS_RXDETECT : PLS_POLLING);
    } else if (val & PORT_LWS) {
        xhci_port_write_link(x, n, (enum xhci_link)((val & PORT_PLS) >> 5));
    }
}
