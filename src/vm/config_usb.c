/* config_usb.c: which USB controller there is, and what does not fit into it. */
#include <errno.h>
#include <string.h>

#include "vm/config.h"

enum { XHCI_DISKS = 4, UHCI_DEVICES = 2 };

bool config_has_viewers(const struct vm_config *c)
{
    return c->display && strcmp(c->display, "none") != 0;
}

static unsigned config_usb_disks(const struct vm_config *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n_disks; i++)
        n += config_disk_bus(&c->disk[i]) == CONFIG_BUS_USB;
    return n;
}

/* Disks ask for one, and the pointer for viewers does. */
const char *config_usb(const struct vm_config *c)
{
    if (c->usb)
        return strcmp(c->usb, "none") != 0 ? c->usb : NULL;
    return config_has_viewers(c) || c->usb_keyboard || config_usb_disks(c) ? "xhci" : NULL;
}

bool config_usb_tablet(const struct vm_config *c)
{
    return config_usb(c) && (c->usb || config_has_viewers(c));
}

static int config_check_usb_room(const struct vm_config *c, struct err *e)
{
    unsigned disks = config_usb_disks(c), all = disks + config_usb_tablet(c) + c->usb_keyboard;

    if (c->usb && !strcmp(c->usb, "uhci") && all > UHCI_DEVICES)
        return err_set(e, EINVAL,
                       "%u USB devices (the tablet among them) are too many: uhci has %d ports; "
                       "--usb xhci has more",
                       all, UHCI_DEVICES);
    if (disks > XHCI_DISKS)
        return err_set(e, EINVAL,
                       "%u disks and CDs at the bus usb are too many; it has room for %d", disks,
                       XHCI_DISKS);
    return 0;
}

int config_check_usb(const struct vm_config *c, struct err *e)
{
    if (c->usb && strcmp(c->usb, "none") && strcmp(c->usb, "xhci") && strcmp(c->usb, "uhci"))
        return err_set(e, EINVAL, "--usb %s: there is no such controller; known: none, xhci, uhci",
                       c->usb);
    if (config_usb_disks(c) && !config_usb(c))
        return err_set(e, EINVAL, "a disk at the bus usb needs a controller: leave --usb none out");
    if (c->usb_keyboard && !config_usb(c))
        return err_set(e, EINVAL, "a USB keyboard needs a controller: leave --usb none out");
    return config_check_usb_room(c, e);
}
