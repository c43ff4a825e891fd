/*
 * usb_kbd.c: a keyboard with the boot protocol (HID 1.11, appendix B.1 and F): a report of 8 bytes, the
 * modifiers, nothing, and up to six keys that are down. Each key event is a report of its own, so that a
 * key that is pressed and released between two polls is seen.
 */
#include <string.h>

#include "hw/usb_hid.h"

enum {
    KBD_REPORT = HID_REPORT_MAX,
    KBD_KEYS = 6, /* that a report has room for */
    KBD_DOWN = 16,
    KBD_QUEUE = 128,
    KBD_ROLLOVER = 1, /* instead of every key: too many are down */
    KBD_MODIFIER = 0xe0,
    KBD_MODIFIERS = 8,
};

struct usb_kbd {
    struct usb_hid hid; /* first */
    /* guest-visible state: events to be reported, n of them, the oldest first: usage and whether it goes down */
    uint8_t usage[KBD_QUEUE], pressed[KBD_QUEUE];
    uint8_t n;
    bool lost; /* events: the next report lets go of everything */
    uint8_t modifiers, n_down, down[KBD_DOWN];
};

/* Usages of the keyboard page by key number (display/keymap.h); 0: there is no such key. */
static const uint8_t usb_kbd_usages[INPUT_KEYS] = {
    /* 00 */ 0x00, 0x29,          0x1e,          0x1f,          0x20,
    0x21,          0x22,          0x23,
    /* 08 */ 0x24, 0x25,          0x26,          0x27,          0x2d,
    0x2e,          0x2a,          0x2b,
    /* 10 */ 0x14, 0x1a,          0x08,          0x15,          0x17,
    0x1c,          0x18,          0x0c,
    /* 18 */ 0x12, 0x13,          0x2f,          0x30,          0x28,
    0xe0,          0x04,          0x16,
    /* 20 */ 0x07, 0x09,          0x0a,          0x0b,          0x0d,
    0x0e,          0x0f,          0x33,
    /* 28 */ 0x34, 0x35,          0xe1,          0x31,          0x1d,
    0x1b,          0x06,          0x19,
    /* 30 */ 0x05, 0x11,          0x10,          0x36,          0x37,
    0x38,          0xe5,          0x55,
    /* 38 */ 0xe2, 0x2c,          0x39,          0x3a,          0x3b,
    0x3c,          0x3d,          0x3e,
    /* 40 */ 0x3f, 0x40,          0x41,          0x42,          0x43,
    0x53,          0x47,          0x5f,
    /* 48 */ 0x60, 0x61,          0x56,          0x5c,          0x5d,
    0x5e,          0x57,          0x59,
    /* 50 */ 0x5a, 0x5b,          0x62,          0x63,          0x46,
    0x00,          0x64,          0x44,
    /* 58 */ 0x45, 0x67,          [0x70] = 0x88, [0x73] = 0x87, [0x79] = 0x8a,
    [0x7b] = 0x8b, [0x7d] = 0x89, /* Japanese */
    [0x9c] = 0x58, [0x9d] = 0xe4, [0xa0] = 0x7f, [0xae] = 0x81, [0xb0] = 0x80,
    [0xb5] = 0x54, [0xb7] = 0x46, [0xb8] = 0xe6, [0xc6] = 0x48, [0xc7] = 0x4a,
    [0xc8] = 0x52, [0xc9] = 0x4b, [0xcb] = 0x50, [0xcd] = 0x4f, [0xcf] = 0x4d,
    [0xd0] = 0x51, [0xd1] = 0x4e, [0xd2] = 0x49, [0xd3] = 0x4c, [0xdb] = 0xe3,
    [0xdc] = 0xe7, [0xdd] = 0x65, [0xde] = 0x66,
};
static const uint8_t usb_kbd_report_desc[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x06,       /* usage: keyboard */
    0xa1, 0x01,       /* collection: application */
    0x75, 0x01,       /*   fields of 1 bit */
    0x95, 0x08,       /*   8 of them */
    0x05, 0x07,       /*   usage page: keyboard */
    0x19, 0xe0,       /*   usages: left control */
    0x29, 0xe7,       /*   to right GUI */
    0x15, 0x00,       /*   logical minimum 0 */
    0x25, 0x01,       /*   maximum 1 */
    0x81, 0x02,       /*   input: data, variable, absolute */
    0x95, 0x01,       /*   1 field */
    0x75, 0x08,       /*   of 8 bits */
    0x81, 0x01,       /*   input: constant */
    0x95, 0x05,       /*   5 fields */
    0x75, 0x01,       /*   of 1 bit */
    0x05, 0x08,       /*   usage page: LEDs */
    0x19, 0x01,       /*   usages: num lock */
    0x29, 0x05,       /*   to kana */
    0x91, 0x02,       /*   output: data, variable, absolute */
    0x95, 0x01,       /*   1 field */
    0x75, 0x03,       /*   of 3 bits */
    0x91, 0x01,       /*   output: constant */
    0x95, 0x06,       /*   6 fields */
    0x75, 0x08,       /*   of 8 bits */
    0x15, 0x00,       /*   logical minimum 0 */
    0x26, 0xff, 0x00, /*   maximum 255 */
    0x05, 0x07,       /*   usage page: keyboard */
    0x19, 0x00,       /*   usages 0 */
    0x2a, 0xff, 0x00, /*   to 255 */
    0x81, 0x00,       /*   input: data, array */
    0xc0,             /* end of collection */
};
static const uint8_t usb_kbd_device[] = { HID_DEVICE(0x02) };
static const uint8_t usb_kbd_config[HID_CONFIG_LEN] = {
    HID_CONFIG,
    HID_INTERFACE(1, 1),
    HID_CLASS(sizeof(usb_kbd_report_desc)),
    HID_ENDPOINT(8),
};
static const char *const usb_kbd_strings[HID_STRINGS] = { "Ruche", "USB Keyboard", "1" };
static const struct usb_desc usb_kbd_desc = {
    .device = usb_kbd_device,
    .config = usb_kbd_config,
    .config_len = sizeof(usb_kbd_config),
    .strings = usb_kbd_strings,
    .n_strings = HID_STRINGS,
};

static struct usb_kbd *usb_kbd_of(struct usb_dev *d)
{
    return container_of(d, struct usb_kbd, hid.usb);
}

/* --- reports --- */

static unsigned usb_kbd_report(struct usb_hid *h, uint8_t *to)
{
    const struct usb_kbd *k = container_of(h, struct usb_kbd, hid);

    memset(to, 0, KBD_REPORT);
    to[0] = k->modifiers;
    if (k->n_down > KBD_KEYS)
        memset(to + 2, KBD_ROLLOVER, KBD_KEYS);
    else
        memcpy(to + 2, k->down, k->n_down);
    return KBD_REPORT;
}

static void usb_kbd_down(struct usb_kbd *k, uint8_t usage, bool down)
{
    unsigned i = 0;

    while (i < k->n_down && k->down[i] != usage)
        i++;
    if (down && i == k->n_down && i < KBD_DOWN) {
        k->down[k->n_down++] = usage;
    } else if (!down && i < k->n_down) {
        k->n_down--;
        memmove(k->down + i, k->down + i + 1, k->n_down - i);
    }
}

static void usb_kbd_apply(struct usb_kbd *k, uint8_t usage, bool down)
{
    if (usage < KBD_MODIFIER || usage >= KBD_MODIFIER + KBD_MODIFIERS)
        usb_kbd_down(k, usage, down);
    else if (down)
        k->modifiers |= (uint8_t)BIT(usage - KBD_MODIFIER);
    else
        k->modifiers &= (uint8_t)~BIT(usage - KBD_MODIFIER);
}

static unsigned usb_kbd_next(struct usb_hid *h, uint8_t *to)
{
    struct usb_kbd *k = container_of(h, struct usb_kbd, hid);

    if (k->lost) {
        k->modifiers = k->n_down = 0;
        k->lost = false;
    } else if (k->n) {
        usb_kbd_apply(k, k->usage[0], k->pressed[0]);
        k->n--;
        memmove(k->usage, k->usage + 1, k->n);
        memmove(k->pressed, k->pressed + 1, k->n);
    } else {
        return 0;
    }
    return usb_kbd_report(h, to);
}

static void usb_kbd_key(struct input_sink *s, uint8_t key, bool down)
{
    struct usb_kbd *k = container_of(s, struct usb_kbd, hid.sink);

    if (!usb_kbd_usages[key])
        return;
    usb_lock(&k->hid.usb);
    if (k->n == KBD_QUEUE) {
        k->n = 0;
        k->lost = true;
    } else {
        k->usage[k->n] = usb_kbd_usages[key];
        k->pressed[k->n++] = down;
    }
    usb_wake(&k->hid.usb, HID_EP, true);
    usb_unlock(&k->hid.usb);
}

static const struct input_sink_ops usb_kbd_sink = {
    .enabled = usb_hid_enabled,
    .key = usb_kbd_key,
};

/* --- the device --- */

static void usb_kbd_reset(struct usb_dev *d)
{
    struct usb_kbd *k = usb_kbd_of(d);

    usb_hid_reset(&k->hid);
    memset(k->usage, 0, sizeof(k->usage));
    memset(k->pressed, 0, sizeof(k->pressed));
    memset(k->down, 0, sizeof(k->down));
    k->n = k->modifiers = k->n_down = 0;
    k->lost = false;
}

static void usb_kbd_state(struct usb_dev *d, struct state *s)
{
    struct usb_kbd *k = usb_kbd_of(d);

    usb_hid_state(&k->hid, s);
    state_bytes(s, k->usage, sizeof(k->usage));
    state_bytes(s, k->pressed, sizeof(k->pressed));
    state_u8(s, &k->n);
    state_bool(s, &k->lost);
    state_u8(s, &k->modifiers);
    state_u8(s, &k->n_down);
    state_bytes(s, k->down, sizeof(k->down));
    state_require(s, k->n <= KBD_QUEUE && k->n_down <= KBD_DOWN, "too many keys");
    if (state_error(s))
        k->n = k->n_down = 0;
}

static const struct usb_dev_ops usb_kbd_ops = {
    .control = usb_hid_control,
    .in = usb_hid_in,
    .reset = usb_kbd_reset,
    .state = usb_kbd_state,
    .destroy = usb_hid_destroy,
};

static const struct usb_hid_type usb_kbd_type = {
    .id = "usb-kbd",
    .ops = &usb_kbd_ops,
    .desc = &usb_kbd_desc,
    .report_desc = usb_kbd_report_desc,
    .report_desc_len = sizeof(usb_kbd_report_desc),
    .sink = &usb_kbd_sink,
    .report = usb_kbd_report,
    .next = usb_kbd_next,
};

struct usb_dev *usb_kbd_create(struct input *in, struct err *e)
{
    struct usb_kbd *k = calloc(1, sizeof(*k));

    return k ? usb_hid_init(&k->hid, &usb_kbd_type, in) : err_oom(e);
}
