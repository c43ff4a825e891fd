/* config_usb.c: which USB controller there is, and what does not fit into it. */
#include <errno.h>
#include <string.h>

#include "vm/config.h"

enum { USB_XHCI_PORTS = 4, USB_UHCI_PORTS = 2 };

bool config_has_viewers(const struct vm_config *c)
{
    return c->display && strcmp(c->display, "none") != 0;
}

/* A pointer for viewers is what asks for one by itself. */
const char *config_usb(const struct vm_config *c)
{
    if (c->usb)
        return strcmp(c->usb, "none") != 0 ? c->usb : NULL;
    return config_has_viewers(c) || c->usb_keyboard ? "xhci" : NULL;
}

int config_check_usb(const struct vm_config *c, struct err *e)
{
    if (c->usb && strcmp(c->usb, "none") && strcmp(c->usb, "xhci"))
        return err_set(e, EINVAL, "--usb %s: there is no such controller; known: none, xhci",
                       c->usb);
    if (c->usb_keyboard && !config_usb(c))
        return err_set(e, EINVAL, "a USB keyboard needs a controller: leave --usb none out");
    return 0;
}
