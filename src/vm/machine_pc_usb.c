/*
 * machine_pc_usb.c: USB of the `pc` machine: the controller and what is plugged into it. There is one if
 * somebody looks at the screen, whose pointer the tablet is, or if it was asked for.
 */
#include "vm/machine_pc_priv.h"

#include <string.h>

#include "hw/usb_hid.h"
#include "hw/xhci.h"

enum { PC_USB_MAX = XHCI_PORTS };

struct pc_usb { /* devices in their order, until the controller takes them */
    struct usb_dev *dev[PC_USB_MAX];
    unsigned n;
};

/* d may be NULL: it could not be made, as e says. */
static int pc_usb_add(struct pc_usb *u, struct usb_dev *d, struct err *e)
{
    if (!d)
        return -e->code;
    BUG_ON(u->n == PC_USB_MAX); /* config_check_usb() */
    u->dev[u->n++] = d;
    return 0;
}

static int pc_usb_devices(struct machine *m, struct pc_usb *u, struct err *e)
{
    int rc = pc_usb_add(u, usb_tablet_create(m->input, e), e);

    if (!rc && m->vm->cfg->usb_keyboard)
        rc = pc_usb_add(u, usb_kbd_create(m->input, e), e);
    return rc;
}

int pc_create_usb(struct machine *m, struct err *e)
{
    struct pc_usb u = { .n = 0 };
    int rc;

    if (!config_usb(m->vm->cfg))
        return 0;
    rc = pc_usb_devices(m, &u, e);
    if (!rc)
        rc = xhci_create(m->vm, m->pci, PCI_DEVFN(PC_USB_SLOT, 0), u.dev, u.n, e);
    for (unsigned i = 0; rc && i < u.n; i++)
        usb_destroy(u.dev[i]);
    return rc;
}
