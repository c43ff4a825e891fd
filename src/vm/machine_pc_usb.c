/*
 * machine_pc_usb.c: USB of the `pc` machine: the controller and what is plugged into it. There is one if
 * somebody looks at the screen, whose pointer the tablet is, if a disk is a stick, or if it was asked for.
 */
#include "vm/machine_pc_priv.h"

#include <string.h>

#include "hw/uhci.h"
#include "hw/usb_hid.h"
#include "hw/usb_msc.h"
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

static bool pc_usb_is_uhci(const struct machine *m)
{
    return !strcmp(config_usb(m->vm->cfg), "uhci");
}

static int pc_usb_add_disk(struct machine *m, struct pc_usb *u, unsigned index, unsigned n,
                           struct err *e)
{
    const struct config_disk *d = &m->vm->cfg->disk[index];
    struct blk *disk = pc_open_disk(m, index, e);
    struct usb_dev *dev;
    bool uhci = pc_usb_is_uhci(m);

    if (!disk)
        return -e->code;
    dev = usb_msc_create(disk, d->cdrom, d->serial, index, uhci ? USB_FULL : USB_SUPER, e);
    if (!dev)
        blk_close(disk);
    if (uhci)
        pc_set_path(m, index, "/pci@i0cf8/usb@1,2/storage@%x/channel@0/disk@0,0", u->n + 1);
    else /* ports are counted for each protocol by itself */
        pc_set_path(m, index, "/pci@i0cf8/usb@%x/storage@%x/channel@0/disk@0,0", PC_USB_SLOT,
                    n + 1);
    return pc_usb_add(u, dev, e);
}

static int pc_usb_devices(struct machine *m, struct pc_usb *u, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    unsigned disks = 0;
    int rc = 0;

    if (config_usb_tablet(cfg))
        rc = pc_usb_add(u, usb_tablet_create(m->input, e), e);
    if (!rc && cfg->usb_keyboard)
        rc = pc_usb_add(u, usb_kbd_create(m->input, e), e);
    for (unsigned i = 0; !rc && i < cfg->n_disks; i++)
        if (config_disk_bus(&cfg->disk[i]) == CONFIG_BUS_USB)
            rc = pc_usb_add_disk(m, u, i, disks++, e);
    return rc;
}

int pc_create_usb(struct machine *m, struct err *e)
{
    struct pc_usb u = { .n = 0 };
    int rc;

    if (!config_usb(m->vm->cfg))
        return 0;
    rc = pc_usb_devices(m, &u, e);
    if (!rc && pc_usb_is_uhci(m))
        rc = uhci_create(m->vm, m->pci, PCI_DEVFN(1, 2), u.dev, u.n, e);
    else if (!rc)
        rc = xhci_create(m->vm, m->pci, PCI_DEVFN(PC_USB_SLOT, 0), u.dev, u.n, e);
    for (unsigned i = 0; rc && i < u.n; i++)
        usb_destroy(u.dev[i]);
    return rc;
}
