/* The control pipe, and tablet and keyboard, as a controller uses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "hw/usb_hid.h"

enum { PACKET = 8, IN = 0x80 };

struct fixture {
    struct device controller;
    struct usb_host host;
    struct input *in;
    struct usb_dev *dev;
    unsigned wakes;
};

static void wake(struct usb_host *h, struct usb_dev *d, unsigned ep, bool in)
{
    (void)d;
    assert_int_equal(ep, 1);
    assert_true(in);
    container_of(h, struct fixture, host)->wakes++;
}

static void create(struct fixture *f, struct usb_dev *(*make)(struct input *in, struct err *e))
{
    f->dev = make(f->in, NULL);
    assert_non_null(f->dev);
    usb_plug(f->dev, &f->host);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    pthread_mutex_init(&f->controller.lock, NULL);
    f->host = (struct usb_host){ &f->controller, wake };
    f->in = input_create(NULL);
    assert_non_null(f->in);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    usb_destroy(f->dev);
    input_destroy(f->in);
    pthread_mutex_destroy(&f->controller.lock);
    free(f);
    return 0;
}

static void setup(struct fixture *f, uint8_t type, uint8_t request, uint16_t value, uint16_t index,
                  uint16_t len)
{
    uint8_t raw[8] = { type, request };

    st_le16(raw + 2, value);
    st_le16(raw + 4, index);
    st_le16(raw + 6, len);
    usb_setup(f->dev, raw);
}

/* A request without data; its result. */
static enum usb_result request(struct fixture *f, uint8_t type, uint8_t req, uint16_t value,
                               uint16_t index)
{
    uint32_t done;
    bool end;

    setup(f, type, req, value, index, 0);
    return usb_in(f->dev, 0, NULL, 0, &done, &end);
}

/* What a request gives, in packets of 8 bytes; the length, or -1. */
static int get(struct fixture *f, uint8_t type, uint8_t req, uint16_t value, uint16_t index,
               uint16_t len, uint8_t *data)
{
    uint32_t done = PACKET, n = 0;
    bool end = false;

    setup(f, type, req, value, index, len);
    while (!end && done == PACKET && n < len) {
        if (usb_in(f->dev, 0, data + n, PACKET, &done, &end) != USB_OK)
            return -1;
        n += done;
    }
    assert_int_equal(usb_out(f->dev, 0, NULL, 0, &done), USB_OK);
    return (int)n;
}

static void test_descriptors(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[256];

    create(f, usb_tablet_create);
    assert_int_equal(get(f, IN, 6, 0x100, 0, 64, data), 18);
    assert_int_equal(data[0], 18);
    assert_int_equal(ld_le16(data + 8), 0x0627);
    assert_int_equal(get(f, IN, 6, 0x200, 0, 9, data), 9);
    assert_int_equal(ld_le16(data + 2), 34);
    assert_int_equal(get(f, IN, 6, 0x200, 0, 255, data), 34);
    assert_int_equal(get(f, IN, 6, 0x300, 0, 255, data), 4);
    assert_int_equal(get(f, IN, 6, 0x301, 0x409, 255, data), 12);
    assert_memory_equal(data + 2, "R\0u\0c\0h\0e\0", 10);
    assert_int_equal(get(f, IN, 6, 0x309, 0x409, 255, data), -1);
    assert_int_equal(get(f, IN, 6, 0x600, 0, 10, data), -1);       /* no high speed */
    assert_int_equal(get(f, IN | 1, 6, 0x2200, 0, 255, data), 72); /* the report descriptor */
    assert_int_equal(get(f, IN | 1, 6, 0x2100, 0, 255, data), 9);
    assert_int_equal(ld_le16(data + 7), 72);
}

static void test_states(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[8];
    uint32_t done;
    bool end;

    create(f, usb_tablet_create);
    assert_int_equal(request(f, 0, 5, 77, 0), USB_OK);
    assert_int_equal(f->dev->address, 77);
    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_STALL); /* not configured */
    assert_int_equal(request(f, 0, 9, 2, 0), USB_STALL);
    assert_int_equal(request(f, 0, 9, 1, 0), USB_OK);
    assert_int_equal(get(f, IN, 8, 0, 0, 1, data), 1);
    assert_int_equal(data[0], 1);
    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_NAK);
    assert_int_equal(request(f, 2, 3, 0, 0x81), USB_OK); /* halted */
    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_STALL);
    assert_int_equal(get(f, IN | 2, 0, 0, 0x81, 2, data), 2);
    assert_int_equal(data[0], 1);
    assert_int_equal(request(f, 2, 1, 0, 0x81), USB_OK);
    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_NAK);
    assert_int_equal(request(f, 0, 3, 1, 0), USB_OK); /* remote wake-up */
    assert_true(f->dev->remote_wakeup);
    usb_reset(f->dev);
    assert_int_equal(f->dev->address, 0);
    assert_false(f->dev->remote_wakeup);
}

static void report(struct fixture *f, const char *want, uint32_t len)
{
    uint8_t data[8];
    uint32_t done;
    bool end;

    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_OK);
    assert_true(end);
    assert_int_equal(done, len);
    assert_memory_equal(data, want, len);
}

static void nothing(struct fixture *f)
{
    uint8_t data[8];
    uint32_t done;
    bool end;

    assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_NAK);
}

static void test_tablet(void **ctx)
{
    struct fixture *f = *ctx;

    create(f, usb_tablet_create);
    input_point(f->in, 5, 5, 100, 100, 0, 0); /* nobody listens */
    assert_int_equal(request(f, 0, 9, 1, 0), USB_OK);
    nothing(f);
    input_point(f->in, 0, 0, 3, 3, 0, 0);
    input_point(f->in, 1, 2, 3, 3, 0, 1); /* overtakes it */
    input_point(f->in, 1, 2, 3, 3, INPUT_LEFT, 0);
    input_point(f->in, 1, 2, 3, 3, 0, 0);
    assert_int_equal(f->wakes, 4);
    report(f, "\0\xff\x3f\xff\x7f\1", 6);
    report(f, "\1\xff\x3f\xff\x7f\0", 6);
    report(f, "\0\xff\x3f\xff\x7f\0", 6);
    nothing(f);
    for (unsigned i = 0; i < 100; i++) /* more than are kept: the last ones count */
        input_point(f->in, 0, 0, 3, 3, i & 1, 1);
    for (unsigned i = 0; i < 15; i++)
        report(f, i & 1 ? "\1\0\0\0\0\1" : "\0\0\0\0\0\1", 6);
    report(f, "\1\0\0\0\0\x55", 6);
    nothing(f);
}

static void test_keyboard(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[8];
    uint32_t done;
    bool end;

    create(f, usb_kbd_create);
    assert_int_equal(request(f, 0, 9, 1, 0), USB_OK);
    assert_int_equal(request(f, 0x21, 11, 0, 0), USB_OK); /* the boot protocol */
    nothing(f);
    input_key(f->in, 0x2a, true); /* shift, a */
    input_key(f->in, 0x1e, true);
    input_key(f->in, 0x1e, false);
    input_key(f->in, 0x2a, false);
    input_key(f->in, 0x55, true); /* no such key */
    report(f, "\2\0\0\0\0\0\0\0", 8);
    report(f, "\2\0\4\0\0\0\0\0", 8);
    report(f, "\2\0\0\0\0\0\0\0", 8);
    report(f, "\0\0\0\0\0\0\0\0", 8);
    nothing(f);
    for (uint8_t i = 0; i < 7; i++)
        input_key(f->in, 0x10 + i, true);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(usb_in(f->dev, 1, data, 8, &done, &end), USB_OK);
    report(f, "\0\0\1\1\1\1\1\1", 8); /* too many at once */
    setup(f, 0x21, 9, 0x200, 0, 1);   /* LEDs */
    data[0] = 2;
    assert_int_equal(usb_out(f->dev, 0, data, 1, &done), USB_OK);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    assert_int_equal(container_of(f->dev, struct usb_hid, usb)->leds, 2);
}

/* Events that nobody fetches: in the end no key is stuck. */
static void test_keyboard_overflow(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[8];
    uint32_t done;
    bool end;

    create(f, usb_kbd_create);
    assert_int_equal(request(f, 0, 9, 1, 0), USB_OK);
    nothing(f);
    for (unsigned i = 0; i < 200; i++)
        input_key(f->in, 0x1e, !(i & 1));
    while (usb_in(f->dev, 1, data, 8, &done, &end) == USB_OK)
        ;
    assert_int_equal(data[2], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_descriptors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tablet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keyboard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keyboard_overflow, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
