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

enum { HID_EP = 1, HID_CONFIG_LEN = 34, HID_REPORT_MAX = 8, HID_STRINGS = 3 };

/* What fills a device descriptor: full speed; strings 1 to 3 are maker, product and serial number. */
#define HID_DEVICE(product)                                                                        \
    18, 1, 0x00, 0x02, 0, 0, 0, 8, 0x27, 0x06, (product), 0x00, 0x00, 0x00, 1, 2, 3, 1
/*
 * What fills a configuration, together: powered from the bus, remote wake-up, 100 mA; one interface (subclass 1:
 * with the boot protocol of that number); HID 1.11 with one report descriptor of so many bytes; an interrupt
 * endpoint in, HID_REPORT_MAX bytes every so many ms.
 */
#define HID_CONFIG                        9, 2, HID_CONFIG_LEN, 0, 1, 1, 0, 0xa0, 50
#define HID_INTERFACE(subclass, protocol) 9, 4, 0, 0, 1, 3, (subclass), (protocol), 0
#define HID_CLASS(report_len)             9, 0x21, 0x11, 0x01, 0, 1, 0x22, (report_len), 0
#define HID_ENDPOINT(interval)            7, 5, 0x80 | HID_EP, 3, HID_REPORT_MAX, 0, (interval)

struct usb_hid;
struct usb_hid_type { /* constant */
    const char *id;   /* for the log */
    const struct usb_dev_ops *ops;
    const struct usb_desc *desc;
    const uint8_t *report_desc;
    uint16_t report_desc_len;
    const struct input_sink_ops *sink;
    /* These write a report, at most HID_REPORT_MAX bytes, and return how many: how things are now, */
    unsigned (*report)(struct usb_hid *h, uint8_t *to);
    /* and the next one that the guest has not seen, which it is told now; 0: there is none. */
    unsigned (*next)(struct usb_hid *h, uint8_t *to);
};
struct usb_hid { /* what all have, first member */
    struct usb_dev usb;
    const struct usb_hid_type *type;
    struct input_sink sink;
    /* guest-visible state */
    uint8_t idle, protocol, leds;
};

/* h, zeros at the start of memory of malloc(), becomes a device after power-on; in (NULL: nobody) feeds it. */
struct usb_dev *usb_hid_init(struct usb_hid *h, const struct usb_hid_type *type, struct input *in);
/* usb_dev_ops.control, in, destroy */
enum usb_result usb_hid_control(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                unsigned *len);
enum usb_result usb_hid_in(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len,
                           uint32_t *done, bool *end);
void usb_hid_destroy(struct usb_dev *d);
/* input_sink_ops.enabled: does the guest poll it? Takes the lock. */
bool usb_hid_enabled(struct input_sink *s);
/* Of what is in struct usb_hid. */
void usb_hid_reset(struct usb_hid *h);
void usb_hid_state(struct usb_hid *h, struct state *s);

#endif
