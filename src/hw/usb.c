/*
 * usb.c: the control pipe and the standard requests of every device (USB 2.0, 8.5.3 and 9.4; USB 3.1, 9.4).
 * Not modelled: test modes, alternate settings, more than one configuration.
 */
#include "hw/usb.h"

#include <string.h>

#include "base/endian.h"

enum {
    REQ_GET_STATUS = 0,
    REQ_CLEAR_FEATURE = 1,
    REQ_SET_FEATURE = 3,
    REQ_SET_ADDRESS = 5,
    REQ_GET_CONFIGURATION = 8,
    REQ_SET_CONFIGURATION = 9,
    REQ_GET_INTERFACE = 10,
    REQ_SET_INTERFACE = 11,
    REQ_SET_SEL = 0x30,
    REQ_ISOCH_DELAY = 0x31,
};
enum { DESC_DEVICE = 1, DESC_CONFIG = 2, DESC_STRING = 3, DESC_BOS = 15 };
enum {
    FEATURE_HALT = 0,
    FEATURE_SUSPEND = 0, /* of an interface */
    FEATURE_WAKEUP = 1,
    FEATURE_U1 = 48,
    FEATURE_LTM = 50,
    STATUS_WAKEUP = 2,
    DEVICE_DESC_LEN = 18,
    CONFIG_VALUE = 5, /* where the configuration's number is in its descriptor */
    ADDRESS_MAX = 127,
    ENGLISH = 0x0409,
    TYPE_MASK = 0x60,
};

void usb_plug(struct usb_dev *d, struct usb_host *h)
{
    d->host = h;
}

void usb_reset(struct usb_dev *d)
{
    d->address = d->config = 0;
    d->remote_wakeup = d->polled = false;
    d->halted_in = d->halted_out = 0;
    d->stage = USB_IDLE;
    memset(d->request, 0, sizeof(d->request));
    memset(d->control, 0, sizeof(d->control));
    d->control_len = d->control_at = 0;
    d->ops->reset(d);
}

void usb_wake(struct usb_dev *d, unsigned ep, bool in)
{
    d->host->wake(d->host, d, ep, in);
}

void usb_lock(struct usb_dev *d)
{
    pthread_mutex_lock(&d->host->dev->lock);
}

void usb_unlock(struct usb_dev *d)
{
    pthread_mutex_unlock(&d->host->dev->lock);
}

void usb_resume(struct usb_dev *d)
{
    if (d && d->ops->resume)
        d->ops->resume(d);
}

void usb_quiesce(struct usb_dev *d)
{
    if (d && d->ops->quiesce)
        d->ops->quiesce(d);
}

void usb_destroy(struct usb_dev *d)
{
    if (d)
        d->ops->destroy(d);
}

void usb_halt(struct usb_dev *d, unsigned ep, bool in)
{
    if (in)
        d->halted_in |= (uint16_t)BIT(ep);
    else
        d->halted_out |= (uint16_t)BIT(ep);
}

/* --- standard requests --- */

static enum usb_result usb_give(uint8_t *to, unsigned *len, const uint8_t *from, unsigned n)
{
    if (!from)
        return USB_STALL;
    memcpy(to, from, n);
    *len = n;
    return USB_OK;
}

/* String 0 tells the languages; the others are ASCII here, UTF-16 there. */
static enum usb_result usb_get_string(const struct usb_dev *d, unsigned index, uint8_t *data,
                                      unsigned *len)
{
    const char *text;

    if (index > d->desc->n_strings)
        return USB_STALL;
    data[1] = DESC_STRING;
    *len = 2;
    if (!index) {
        st_le16(data + 2, ENGLISH);
        *len = 4;
    } else {
        for (text = d->desc->strings[index - 1]; *text && *len < UINT8_MAX - 1; text++, *len += 2)
            st_le16(data + *len, (uint8_t)*text);
    }
    data[0] = (uint8_t)*len;
    return USB_OK;
}

static enum usb_result usb_get_descriptor(const struct usb_dev *d, const struct usb_setup *s,
                                          uint8_t *data, unsigned *len)
{
    switch (s->value >> 8) {
    case DESC_DEVICE:
        return usb_give(data, len, d->desc->device, DEVICE_DESC_LEN);
    case DESC_CONFIG:
        return usb_give(data, len, d->desc->config, d->desc->config_len);
    case DESC_STRING:
        return usb_get_string(d, s->value & 0xff, data, len);
    case DESC_BOS:
        return usb_give(data, len, d->desc->bos, d->desc->bos_len);
    default:
        return USB_STALL;
    }
}

static uint16_t *usb_halted(struct usb_dev *d, const struct usb_setup *s)
{
    return s->index & USB_TYPE_IN ? &d->halted_in : &d->halted_out;
}

static enum usb_result usb_get_status(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                      unsigned *len)
{
    uint16_t status = 0;

    switch (s->type & USB_TYPE_RECIPIENT) {
    case 0:
        status = d->remote_wakeup ? STATUS_WAKEUP : 0;
        break;
    case USB_TYPE_ENDPOINT:
        status = *usb_halted(d, s) >> (s->index % USB_ENDPOINTS) & 1;
        break;
    default:
        break;
    }
    st_le16(data, status);
    *len = sizeof(status);
    return USB_OK;
}

static enum usb_result usb_endpoint_feature(struct usb_dev *d, const struct usb_setup *s, bool set)
{
    unsigned ep = s->index % USB_ENDPOINTS;

    if (s->value != FEATURE_HALT)
        return USB_STALL;
    if (set) {
        usb_halt(d, ep, s->index & USB_TYPE_IN);
        return USB_OK;
    }
    *usb_halted(d, s) &= (uint16_t)~BIT(ep);
    if (d->ops->unhalted)
        d->ops->unhalted(d, ep, s->index & USB_TYPE_IN);
    return USB_OK;
}

static enum usb_result usb_feature(struct usb_dev *d, const struct usb_setup *s, bool set)
{
    switch (s->type & USB_TYPE_RECIPIENT) {
    case 0:
        if (s->value == FEATURE_WAKEUP)
            d->remote_wakeup = set;
        else if (d->speed != USB_SUPER || s->value < FEATURE_U1 || s->value > FEATURE_LTM)
            return USB_STALL;
        return USB_OK;
    case USB_TYPE_INTERFACE: /* super speed has the wake-up here: bit 1 of the high byte */
        if (d->speed != USB_SUPER || s->value != FEATURE_SUSPEND)
            return USB_STALL;
        d->remote_wakeup = set && (s->index >> 8 & 2);
        return USB_OK;
    default:
        return usb_endpoint_feature(d, s, set);
    }
}

static enum usb_result usb_set_configuration(struct usb_dev *d, unsigned value)
{
    if (value && value != d->desc->config[CONFIG_VALUE])
        return USB_STALL;
    d->config = (uint8_t)value;
    d->halted_in = d->halted_out = 0;
    d->polled = false;
    d->ops->reset(d);
    return USB_OK;
}

static enum usb_result usb_standard(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                    unsigned *len)
{
    switch (s->request) {
    case REQ_GET_STATUS:
        return usb_get_status(d, s, data, len);
    case REQ_CLEAR_FEATURE:
    case REQ_SET_FEATURE:
        return usb_feature(d, s, s->request == REQ_SET_FEATURE);
    case REQ_SET_ADDRESS:
        if (s->value > ADDRESS_MAX)
            return USB_STALL;
        d->address = (uint8_t)s->value;
        return USB_OK;
    case USB_REQ_GET_DESCRIPTOR:
        return usb_get_descriptor(d, s, data, len);
    case REQ_GET_CONFIGURATION:
        return usb_give(data, len, &d->config, 1);
    case REQ_SET_CONFIGURATION:
        return usb_set_configuration(d, s->value);
    case REQ_GET_INTERFACE:
        return usb_give(data, len, (const uint8_t[]){ 0 }, 1);
    case REQ_SET_INTERFACE:
        return s->value ? USB_STALL : USB_OK;
    case REQ_SET_SEL:
    case REQ_ISOCH_DELAY:
        return d->speed == USB_SUPER ? USB_OK : USB_STALL;
    default:
        return USB_STALL;
    }
}

/* --- the control pipe --- */

/* An interface's descriptors are those of its class. */
static bool usb_is_standard(const struct usb_setup *s)
{
    return !(s->type & TYPE_MASK) && !((s->type & USB_TYPE_RECIPIENT) == USB_TYPE_INTERFACE &&
                                       s->request == USB_REQ_GET_DESCRIPTOR);
}

/* len: 0, becomes how many bytes the answer has. */
static enum usb_result usb_execute(struct usb_dev *d, unsigned *len)
{
    const struct usb_setup s = {
        .type = d->request[0],
        .request = d->request[1],
        .value = ld_le16(d->request + 2),
        .index = ld_le16(d->request + 4),
        .length = ld_le16(d->request + 6),
    };

    return usb_is_standard(&s) ? usb_standard(d, &s, d->control, len)
                               : d->ops->control(d, &s, d->control, len);
}

void usb_setup(struct usb_dev *d, const uint8_t bytes[8])
{
    unsigned want = ld_le16(bytes + 6), len = 0;

    memcpy(d->request, bytes, sizeof(d->request));
    d->control_at = d->control_len = 0;
    if (!want) {
        d->stage = USB_STATUS;
    } else if (bytes[0] & USB_TYPE_IN) {
        memset(d->control, 0, sizeof(d->control));
        d->stage = usb_execute(d, &len) == USB_OK ? USB_DATA_IN : USB_REFUSED;
        d->control_len = (uint16_t)min_u64(len, want);
    } else {
        d->control_len = (uint16_t)min_u64(want, USB_CONTROL_MAX);
        d->stage = want <= USB_CONTROL_MAX ? USB_DATA_OUT : USB_REFUSED;
    }
}

/* The last stage of a request to the device: only now is it carried out. */
static enum usb_result usb_status_in(struct usb_dev *d)
{
    unsigned len = 0;
    bool complete = d->control_at == d->control_len;

    d->stage = USB_IDLE;
    return complete ? usb_execute(d, &len) : USB_STALL;
}

static enum usb_result usb_control_in(struct usb_dev *d, uint8_t *buf, uint32_t len, uint32_t *done,
                                      bool *end)
{
    switch (d->stage) {
    case USB_DATA_IN:
        *done = (uint32_t)min_u64(len, d->control_len - d->control_at);
        if (*done)
            memcpy(buf, d->control + d->control_at, *done);
        d->control_at = (uint16_t)(d->control_at + *done);
        *end = d->control_at == d->control_len;
        return USB_OK;
    case USB_DATA_OUT:
    case USB_STATUS:
        *end = true;
        return usb_status_in(d);
    default:
        return USB_STALL;
    }
}

static enum usb_result usb_control_out(struct usb_dev *d, const uint8_t *buf, uint32_t len,
                                       uint32_t *done)
{
    switch (d->stage) {
    case USB_DATA_OUT:
        if (len > (uint32_t)(d->control_len - d->control_at))
            return USB_STALL;
        if (len)
            memcpy(d->control + d->control_at, buf, len);
        d->control_at = (uint16_t)(d->control_at + len);
        *done = len;
        return USB_OK;
    case USB_DATA_IN: /* the status */
        d->stage = USB_IDLE;
        *done = len;
        return USB_OK;
    default:
        return USB_STALL;
    }
}

enum usb_result usb_in(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len, uint32_t *done,
                       bool *end)
{
    *done = 0;
    *end = false;
    if (!ep)
        return usb_control_in(d, buf, len, done, end);
    if (!d->config || d->halted_in & BIT(ep % USB_ENDPOINTS))
        return USB_STALL;
    d->polled = true;
    return d->ops->in(d, ep, buf, len, done, end);
}

enum usb_result usb_out(struct usb_dev *d, unsigned ep, const uint8_t *buf, uint32_t len,
                        uint32_t *done)
{
    *done = 0;
    if (!ep)
        return usb_control_out(d, buf, len, done);
    if (!d->config || d->halted_out & BIT(ep % USB_ENDPOINTS) || !d->ops->out)
        return USB_STALL;
    return d->ops->out(d, ep, buf, len, done);
}

void usb_state(struct usb_dev *d, struct state *s)
{
    state_u8(s, &d->address);
    state_u8(s, &d->config);
    state_bool(s, &d->remote_wakeup);
    state_bool(s, &d->polled);
    state_u16(s, &d->halted_in);
    state_u16(s, &d->halted_out);
    state_u8(s, &d->stage);
    state_bytes(s, d->request, sizeof(d->request));
    state_u16(s, &d->control_len);
    state_u16(s, &d->control_at);
    state_bytes(s, d->control, sizeof(d->control));
    state_require(s,
                  d->stage <= USB_REFUSED && d->control_len <= USB_CONTROL_MAX &&
                      d->control_at <= d->control_len,
                  "control pipe out of range");
    if (state_error(s))
        d->stage = USB_IDLE, d->control_len = d->control_at = 0;
    d->ops->state(d, s);
}
