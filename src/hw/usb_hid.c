/*
 * usb_hid.c: requests of the HID class (HID 1.11, 7). An idle rate is kept but means nothing: reports come
 * when something happens, so that nothing has to tick while nothing does.
 */
#include "hw/usb_hid.h"

#include <string.h>

enum {
    HID_GET_REPORT = 1,
    HID_GET_IDLE = 2,
    HID_GET_PROTOCOL = 3,
    HID_SET_REPORT = 9,
    HID_SET_IDLE = 10,
    HID_SET_PROTOCOL = 11,
};
enum { DESC_HID = 0x21, DESC_REPORT = 0x22, HID_DESC_AT = 18, HID_DESC_LEN = 9 };
enum { HID_INPUT_REPORT = 1, HID_REPORT_PROTOCOL = 1 };

static enum usb_result usb_hid_give(uint8_t *to, unsigned *len, const uint8_t *from, unsigned n)
{
    memcpy(to, from, n);
    *len = n;
    return USB_OK;
}

static enum usb_result usb_hid_descriptor(const struct usb_hid *h, unsigned type, uint8_t *data,
                                          unsigned *len)
{
    if (type == DESC_REPORT)
        return usb_hid_give(data, len, h->report_desc, h->report_desc_len);
    if (type == DESC_HID) /* it follows the configuration and the interface */
        return usb_hid_give(data, len, h->usb.desc->config + HID_DESC_AT, HID_DESC_LEN);
    return USB_STALL;
}

enum usb_result usb_hid_control(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                unsigned *len)
{
    struct usb_hid *h = container_of(d, struct usb_hid, usb);
    bool in = s->type & USB_TYPE_IN;

    if (s->type == (USB_TYPE_IN | USB_TYPE_INTERFACE) && s->request == USB_REQ_GET_DESCRIPTOR)
        return usb_hid_descriptor(h, s->value >> 8, data, len);
    if ((s->type & ~USB_TYPE_IN) != (USB_TYPE_CLASS | USB_TYPE_INTERFACE) ||
        in != (s->request < HID_SET_REPORT))
        return USB_STALL;
    switch (s->request) {
    case HID_GET_REPORT:
        *len = s->value >> 8 == HID_INPUT_REPORT ? h->report(h, data) : 0;
        return *len ? USB_OK : USB_STALL;
    case HID_GET_IDLE:
        return usb_hid_give(data, len, &h->idle, 1);
    case HID_GET_PROTOCOL:
        return usb_hid_give(data, len, &h->protocol, 1);
    case HID_SET_REPORT:
        h->leds = s->length ? data[0] : h->leds;
        return USB_OK;
    case HID_SET_IDLE:
        h->idle = (uint8_t)(s->value >> 8);
        return USB_OK;
    case HID_SET_PROTOCOL:
        h->protocol = s->value & 1;
        return USB_OK;
    default:
        return USB_STALL;
    }
}

void usb_hid_reset(struct usb_hid *h)
{
    h->idle = h->leds = 0;
    h->protocol = HID_REPORT_PROTOCOL;
}

void usb_hid_state(struct usb_hid *h, struct state *s)
{
    state_u8(s, &h->idle);
    state_u8(s, &h->protocol);
    state_u8(s, &h->leds);
}

bool usb_hid_enabled(struct usb_hid *h)
{
    bool enabled;

    usb_lock(&h->usb);
    enabled = h->usb.config && h->usb.polled;
    usb_unlock(&h->usb);
    return enabled;
}
