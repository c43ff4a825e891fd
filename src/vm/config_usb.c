/* config_usb.c: which USB controller there is, and what does not fit into it. */
#include <errno.h>
#include <string.h>

#include "vm/config.h"

enum { USB_XHCI_PORTS = 4, USB_UHCI_PORTS = 2 };

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

int config_check_usb(const struct vm_config *c, struct err *e)
{
    if (c->usb && strcmp(c->usb, "none") && strcmp(c->usb, "xhci"))
        return err_set(e, EINVAL, "--usb %s: there is no such controller; known: none, xhci",
                       c->usb);
    if (config_usb_disks(c) && !config_usb(c))
        return err_set(e, EINVAL, "a disk at the bus usb needs a controller: leave --usb none out");
    if (config_usb_disks(c) > USB_XHCI_PORTS)
        return err_set(e, EINVAL,
                       "%u disks and CDs at the bus usb are too many; it has room for %d",
                       config_usb_disks(c), USB_XHCI_PORTS);
    if (c->usb_keyboard && !config_usb(c))
        return err_set(e, EINVAL, "a USB keyboard needs a controller: leave --usb none out");
    return 0;
}
