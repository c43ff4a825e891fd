/*
 * usb.h: USB devices as a host controller sees them, and host controllers as a device sees them (USB 2.0,
 * 3.1). Nothing in here knows which controller it is. A controller asks for data whenever the guest has
 * room for it; a device that has none answers NAK and calls usb_wake() when it has: nobody polls.
 *
 * Locking: a device has no lock of its own. All calls hold its controller's device lock, but for quiesce and
 * destroy.
 */
#ifndef HW_USB_H
#define HW_USB_H

#include "bus/device.h"

enum { USB_ENDPOINTS = 16, USB_CONTROL_MAX = 512 };
enum usb_speed {
    USB_FULL = 1,
    USB_LOW = 2,
    USB_HIGH = 3,
    USB_SUPER = 4
}; /* as xHCI numbers them */
enum usb_result { USB_OK, USB_NAK, USB_STALL };

/* Standard requests and types, as far as others need them. */
enum {
    USB_TYPE_IN = 0x80,
    USB_TYPE_CLASS = 0x20,
    USB_TYPE_INTERFACE = 0x01,
    USB_TYPE_ENDPOINT = 0x02,
    USB_TYPE_RECIPIENT = 0x1f,
    USB_REQ_GET_DESCRIPTOR = 6,
};

struct usb_setup {
    uint8_t type, request;
    uint16_t value, index, length;
};
/* What a device says of itself; constant. */
struct usb_desc {
    const uint8_t *device; /* 18 bytes */
    const uint8_t *config,
        *bos; /* config with all that belongs to it; bos: NULL, or super speed's */
    uint16_t config_len, bos_len;
    const char *const *strings; /* the first one is string 1 */
    unsigned n_strings;
};

struct usb_dev;
struct usb_dev_ops {
    /*
     * A request that is not a standard one of the device. data: what came with it, s->length bytes, or room for
     * as many (at most USB_CONTROL_MAX) and *len, 0, becomes how many there are. Not USB_NAK.
     */
    enum usb_result (*control)(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                               unsigned *len);
    /*
     * Moves up to len bytes and sets *done, 0. USB_NAK: the rest may come later. in: *end, false: these bytes
     * end the transfer, although there may be room for more.
     */
    enum usb_result (*in)(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len,
                          uint32_t *done, bool *end);
    enum usb_result (*out)(struct usb_dev *d, unsigned ep, const uint8_t *buf, uint32_t len,
                           uint32_t *done); /* NULL: there is no such endpoint */
    void (*reset)(struct usb_dev *d); /* as after power-on, or another configuration was set */
    void (*unhalted)(struct usb_dev *d, unsigned ep, bool in); /* optional: the halt was cleared */
    void (*state)(struct usb_dev *d, struct state *s);
    void (*resume)(struct usb_dev *d);  /* optional: the VM runs again */
    void (*quiesce)(struct usb_dev *d); /* optional; as device_ops */
    void (*destroy)(struct usb_dev *d);
};
/* A controller's side; lock held. */
struct usb_host {
    struct device *dev;
    /* d has something for the endpoint, or is done with what it had. */
    void (*wake)(struct usb_host *h, struct usb_dev *d, unsigned ep, bool in);
};

enum usb_stage { USB_IDLE, USB_DATA_IN, USB_DATA_OUT, USB_STATUS, USB_REFUSED };
struct usb_dev {
    const struct usb_dev_ops *ops;
    const struct usb_desc *desc;
    enum usb_speed speed;
    struct usb_host *host; /* usb_plug() */
    const char *id;        /* for the log */

    /* guest-visible state */
    uint8_t address, config;
    bool remote_wakeup;
    bool polled; /* the guest has asked for input since it configured the device */
    uint16_t halted_in, halted_out; /* bit an endpoint */
    uint8_t stage;                  /* of the control pipe: enum usb_stage */
    uint8_t request[8];
    uint16_t control_len, control_at;
    uint8_t control[USB_CONTROL_MAX];
};

/* d belongs to the host from now on. */
void usb_plug(struct usb_dev *d, struct usb_host *h);
void usb_reset(struct usb_dev *d); /* the bus reset; also the power-on state */
/* For the controller: tokens. *done is set, to 0 as well; buf is a copy, or may change meanwhile. */
void usb_setup(struct usb_dev *d, const uint8_t bytes[8]);
enum usb_result usb_in(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len, uint32_t *done,
                       bool *end);
enum usb_result usb_out(struct usb_dev *d, unsigned ep, const uint8_t *buf, uint32_t len,
                        uint32_t *done);
void usb_state(struct usb_dev *d, struct state *s);
/* NULL is fine for these. */
void usb_resume(struct usb_dev *d);
void usb_quiesce(struct usb_dev *d);
void usb_destroy(struct usb_dev *d);

/* For devices. */
void usb_wake(struct usb_dev *d, unsigned ep, bool in);
void usb_lock(struct usb_dev *d); /* from callbacks of the loop */
void usb_unlock(struct usb_dev *d);
void usb_halt(struct usb_dev *d, unsigned ep, bool in); /* it stalls until the guest clears that */

#endif
