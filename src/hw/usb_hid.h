/*
 * usb_hid.h: human interface devices (HID 1.11): a tablet, which is an absolute pointer with a wheel, and a
 * keyboard with the boot protocol.
 */
#ifndef HW_USB_HID_H
#define HW_USB_HID_H

#include "display/input.h"
#include "hw/usb.h"

/* To be plugged into a controller, which owns it then; in (NULL: nobody) feeds it. NULL with a sentence. */
struct usb_dev *usb_tablet_create(struct input *in, struct err *e);
struct usb_dev *usb_kbd_create(struct input *in, struct err *e);

/* --- for the devices themselves --- */

enum { HID_EP = 1 };
struct usb_hid { /* what all have, first member */
    struct usb_dev usb;
    const uint8_t *report_desc;
    uint16_t report_desc_len;
    /* the report as it is now; the number of its bytes */
    unsigned (*report)(struct usb_hid *h, uint8_t *to);
    /* guest-visible state */
    uint8_t idle, protocol, leds;
};

/* usb_dev_ops.control */
enum usb_result usb_hid_control(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                unsigned *len);
void usb_hid_reset(struct usb_hid *h);
void usb_hid_state(struct usb_hid *h, struct state *s);
/* Of a sink: does the guest poll it? Takes the lock. */
bool usb_hid_enabled(struct usb_hid *h);

#endif
