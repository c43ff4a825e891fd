/*
 * usb_tablet.c: an absolute pointer: x and y of 16 bits, three buttons, a wheel. Its ids are those of the
 * tablet that other machines have: systems know not to accelerate it, and to let it sleep.
 *
 * A report, 6 bytes: buttons, x, y (little-endian), wheel.
 */
#include <string.h>

#include "base/endian.h"
#include "hw/usb_hid.h"

enum { TABLET_REPORT = 6, TABLET_QUEUE = 16, TABLET_WHEEL_MAX = 127 };

struct usb_tablet_event {
    uint16_t x, y;
    uint8_t buttons;
    int8_t wheel;
};
struct usb_tablet {
    struct usb_hid hid; /* first */
    /* guest-visible state: what has not been reported yet, n of them, the oldest first; what was last */
    struct usb_tablet_event queue[TABLET_QUEUE], last;
    uint8_t n;
};

static const uint8_t usb_tablet_report_desc[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x02,       /* usage: mouse */
    0xa1, 0x01,       /* collection: application */
    0x09, 0x01,       /*   usage: pointer */
    0xa1, 0x00,       /*   collection: physical */
    0x05, 0x09,       /*     usage page: buttons */
    0x19, 0x01,       /*     usages 1 */
    0x29, 0x03,       /*     to 3 */
    0x15, 0x00,       /*     logical minimum 0 */
    0x25, 0x01,       /*     maximum 1 */
    0x95, 0x03,       /*     3 fields */
    0x75, 0x01,       /*     of 1 bit */
    0x81, 0x02,       /*     input: data, variable, absolute */
    0x95, 0x01,       /*     1 field */
    0x75, 0x05,       /*     of 5 bits */
    0x81, 0x01,       /*     input: constant */
    0x05, 0x01,       /*     usage page: generic desktop */
    0x09, 0x30,       /*     usage: x */
    0x09, 0x31,       /*     usage: y */
    0x15, 0x00,       /*     logical minimum 0 */
    0x26, 0xff, 0x7f, /*     maximum 0x7fff */
    0x35, 0x00,       /*     physical minimum 0 */
    0x46, 0xff, 0x7f, /*     maximum 0x7fff */
    0x75, 0x10,       /*     fields of 16 bits */
    0x95, 0x02,       /*     2 of them */
    0x81, 0x02,       /*     input: data, variable, absolute */
    0x09, 0x38,       /*     usage: wheel */
    0x15, 0x81,       /*     logical minimum -127 */
    0x25, 0x7f,       /*     maximum 127 */
    0x35, 0x00,       /*     physical minimum: as the logical one */
    0x45, 0x00,       /*     and maximum */
    0x75, 0x08,       /*     a field of 8 bits */
    0x95, 0x01,       /*     1 of it */
    0x81, 0x06,       /*     input: data, variable, relative */
    0xc0,             /*   end of collection */
    0xc0,             /* end of collection */
};
static const uint8_t usb_tablet_device[] = { HID_DEVICE(0x01) };
static const uint8_t usb_tablet_config[HID_CONFIG_LEN] = {
    HID_CONFIG,
    HID_INTERFACE(0, 0),
    HID_CLASS(sizeof(usb_tablet_report_desc)),
    HID_ENDPOINT(4),
};
static const char *const usb_tablet_strings[HID_STRINGS] = { "Ruche", "USB Tablet", "1" };
static const struct usb_desc usb_tablet_desc = {
    .device = usb_tablet_device,
    .config = usb_tablet_config,
    .config_len = sizeof(usb_tablet_config),
    .strings = usb_tablet_strings,
    .n_strings = HID_STRINGS,
};

static struct usb_tablet *usb_tablet_of(struct usb_dev *d)
{
    return container_of(d, struct usb_tablet, hid.usb);
}

/* --- reports --- */

static unsigned usb_tablet_encode(const struct usb_tablet_event *v, uint8_t to[TABLET_REPORT])
{
    to[0] = v->buttons;
    st_le16(to + 1, v->x);
    st_le16(to + 3, v->y);
    to[5] = (uint8_t)v->wheel;
    return TABLET_REPORT;
}

static unsigned usb_tablet_report(struct usb_hid *h, uint8_t *to)
{
    struct usb_tablet_event now = container_of(h, struct usb_tablet, hid)->last;

    now.wheel = 0;
    return usb_tablet_encode(&now, to);
}

static unsigned usb_tablet_next(struct usb_hid *h, uint8_t *to)
{
    struct usb_tablet *t = container_of(h, struct usb_tablet, hid);

    if (!t->n)
        return 0;
    t->last = t->queue[0];
    t->n--;
    memmove(t->queue, t->queue + 1, t->n * sizeof(t->queue[0]));
    return usb_tablet_encode(&t->last, to);
}

static int8_t usb_tablet_clamp(int wheel)
{
    if (wheel > TABLET_WHEEL_MAX)
        return TABLET_WHEEL_MAX;
    return (int8_t)(wheel < -TABLET_WHEEL_MAX ? -TABLET_WHEEL_MAX : wheel);
}

/* Motion that the guest has not fetched yet is overtaken by what follows; presses and releases are not. */
static void usb_tablet_add(struct usb_tablet *t, const struct usb_tablet_event *v)
{
    struct usb_tablet_event *tail = t->n ? &t->queue[t->n - 1] : NULL;

    if (tail && (tail->buttons == v->buttons || t->n == TABLET_QUEUE)) {
        int8_t wheel = usb_tablet_clamp((int)v->wheel + tail->wheel);

        *tail = *v;
        tail->wheel = wheel;
    } else {
        t->queue[t->n++] = *v;
    }
}

static void usb_tablet_absolute(struct input_sink *s, unsigned x, unsigned y, unsigned buttons,
                                int wheel)
{
    struct usb_tablet *t = container_of(s, struct usb_tablet, hid.sink);
    const struct usb_tablet_event v = {
        .x = (uint16_t)min_u64(x, INPUT_AXIS_MAX),
        .y = (uint16_t)min_u64(y, INPUT_AXIS_MAX),
        .buttons = (uint8_t)(buttons & (INPUT_LEFT | INPUT_RIGHT | INPUT_MIDDLE)),
        .wheel = usb_tablet_clamp(wheel),
    };

    usb_lock(&t->hid.usb);
    usb_tablet_add(t, &v);
    usb_wake(&t->hid.usb, HID_EP, true);
    usb_unlock(&t->hid.usb);
}

static const struct input_sink_ops usb_tablet_sink = {
    .enabled = usb_hid_enabled,
    .absolute = usb_tablet_absolute,
};

/* --- the device --- */

static void usb_tablet_reset(struct usb_dev *d)
{
    struct usb_tablet *t = usb_tablet_of(d);

    usb_hid_reset(&t->hid);
    memset(t->queue, 0, sizeof(t->queue));
    t->last = (struct usb_tablet_event){ 0 };
    t->n = 0;
}

static void usb_tablet_event_state(struct usb_tablet_event *v, struct state *s)
{
    uint8_t wheel = (uint8_t)v->wheel;

    state_u16(s, &v->x);
    state_u16(s, &v->y);
    state_u8(s, &v->buttons);
    state_u8(s, &wheel);
    v->wheel = (int8_t)wheel;
}

static void usb_tablet_state(struct usb_dev *d, struct state *s)
{
    struct usb_tablet *t = usb_tablet_of(d);

    usb_hid_state(&t->hid, s);
    state_u8(s, &t->n);
    usb_tablet_event_state(&t->last, s);
    for (unsigned i = 0; i < TABLET_QUEUE; i++)
        usb_tablet_event_state(&t->queue[i], s);
    state_require(s, t->n <= TABLET_QUEUE, "too many pointer events");
    if (t->n > TABLET_QUEUE)
        t->n = 0;
}

static const struct usb_dev_ops usb_tablet_ops = {
    .control = usb_hid_control,
    .in = usb_hid_in,
    .reset = usb_tablet_reset,
    .state = usb_tablet_state,
    .destroy = usb_hid_destroy,
};

static const struct usb_hid_type usb_tablet_type = {
    .id = "usb-tablet",
    .ops = &usb_tablet_ops,
    .desc = &usb_tablet_desc,
    .report_desc = usb_tablet_report_desc,
    .report_desc_len = sizeof(usb_tablet_report_desc),
    .sink = &usb_tablet_sink,
    .report = usb_tablet_report,
    .next = usb_tablet_next,
};

struct usb_dev *usb_tablet_create(struct input *in, struct err *e)
{
    struct usb_tablet *t = calloc(1, sizeof(*t));

    return t ? usb_hid_init(&t->hid, &usb_tablet_type, in) : err_oom(e);
}
