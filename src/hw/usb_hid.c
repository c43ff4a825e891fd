/*
 * usb_hid.c: what devices of the HID class share: its requests (HID 1.11, 7) and how reports are sent. An idle
 * rate is kept but means nothing: reports come when something happens, so that nothing has to tick while
 * nothing does.
 */
#include "hw/usb_hid.h"

#include <stdlib.h>
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
        return usb_hid_give(data, len, h->type->report_desc, h->type->report_desc_len);
    if (type == DESC_HID) /* it follows the configuration and the interface */
        return usb_hid_give(data, len, h->usb.desc->config + HID_DESC_AT, HID_DESC_LEN);
    return USB_STALL;
}

static struct usb_hid *usb_hid_of(struct usb_dev *d)
{
    return container_of(d, struct usb_hid, usb);
}

enum usb_result usb_hid_control(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                unsigned *len)
{
    struct usb_hid *h = usb_hid_of(d);
    bool in = s->type & USB_TYPE_IN;

    if (s->type == (USB_TYPE_IN | USB_TYPE_INTERFACE) && s->request == USB_REQ_GET_DESCRIPTOR)
        return usb_hid_descriptor(h, s->value >> 8, data, len);
    if ((s->type & ~USB_TYPE_IN) != (USB_TYPE_CLASS | USB_TYPE_INTERFACE) ||
        in != (s->request < HID_SET_REPORT))
        return USB_STALL;
    switch (s->request) {
    case HID_GET_REPORT:
        *len = s->value >> 8 == HID_INPUT_REPORT ? h->type->report(h, data) : 0;
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

enum usb_result usb_hid_in(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len,
                           uint32_t *done, bool *end)
{
    struct usb_hid *h = usb_hid_of(d);
    uint8_t report[HID_REPORT_MAX];
    unsigned n;

    if (ep != HID_EP)
        return USB_STALL;
    n = h->type->next(h, report);
    if (!n)
        return USB_NAK;
    *done = (uint32_t)min_u64(len, n);
    memcpy(buf, report, *done);
    *end = true;
    return USB_OK;
}

bool usb_hid_enabled(struct input_sink *s)
{
    struct usb_dev *d = &container_of(s, struct usb_hid, sink)->usb;
    bool enabled;

    usb_lock(d);
    enabled = d->config && d->polled;
    usb_unlock(d);
    return enabled;
}

struct usb_dev *usb_hid_init(struct usb_hid *h, const struct usb_hid_type *type, struct input *in)
{
    h->type = type;
    h->usb.ops = type->ops;
    h->usb.desc = type->desc;
    h->usb.speed = USB_FULL;
    h->usb.id = type->id;
    h->sink.ops = type->sink;
    usb_reset(&h->usb);
    if (in)
        input_add(in, &h->sink);
    return &h->usb;
}

void usb_hid_destroy(struct usb_dev *d)
{
    struct usb_hid *h = usb_hid_of(d);

    input_remove(&h->sink);
    free(h);
}
