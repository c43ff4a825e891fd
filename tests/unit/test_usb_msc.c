/* The bulk-only transport, as a controller uses it, with a disk of two sectors behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "hw/usb_msc.h"

enum { EP_IN = 1, EP_OUT = 2, CBW = 31, CSW = 13, DISK = 1024 };

struct fixture {
    struct loop *loop;
    struct device controller;
    struct usb_host host;
    struct usb_dev *dev;
    unsigned wakes;
    uint32_t tag;
};

static void wake(struct usb_host *h, struct usb_dev *d, unsigned ep, bool in)
{
    (void)d;
    (void)ep;
    (void)in;
    container_of(h, struct fixture, host)->wakes++;
}

static void clear_attention(struct fixture *f);

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char path[] = "/tmp/ruche-msc-XXXXXX";
    int fd = mkstemp(path);
    struct blk_opts o = { .path = path, .format = "raw" };
    static const uint8_t config[8] = { 0, 9, 1 };
    uint32_t done;
    struct blk *disk;
    bool end;

    assert_non_null(f);
    assert_int_equal(ftruncate(fd, DISK), 0);
    close(fd);
    pthread_mutex_init(&f->controller.lock, NULL);
    f->host = (struct usb_host){ &f->controller, wake };
    f->loop = o.loop = loop_create(NULL);
    assert_non_null(f->loop);
    disk = blk_open(&o, NULL);
    unlink(path);
    assert_non_null(disk);
    f->dev = usb_msc_create(disk, false, NULL, 0, USB_SUPER, NULL);
    assert_non_null(f->dev);
    usb_plug(f->dev, &f->host);
    usb_setup(f->dev, config);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    clear_attention(f);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    usb_destroy(f->dev);
    loop_destroy(f->loop);
    pthread_mutex_destroy(&f->controller.lock);
    free(f);
    return 0;
}

static void locked(struct fixture *f)
{
    pthread_mutex_lock(&f->controller.lock);
}

static void unlocked(struct fixture *f)
{
    pthread_mutex_unlock(&f->controller.lock);
}

static enum usb_result in(struct fixture *f, void *buf, uint32_t len, uint32_t *done, bool *end)
{
    enum usb_result r;

    for (unsigned i = 0; i < 1000; i++) {
        locked(f);
        r = usb_in(f->dev, EP_IN, buf, len, done, end);
        unlocked(f);
        if (r != USB_NAK)
            return r;
        loop_poll(f->loop, 10);
    }
    return USB_NAK;
}

static enum usb_result out(struct fixture *f, const void *buf, uint32_t len, uint32_t *done)
{
    enum usb_result r;

    locked(f);
    r = usb_out(f->dev, EP_OUT, buf, len, done);
    unlocked(f);
    return r;
}

static void command(struct fixture *f, uint32_t len, bool to_host, const void *cdb, uint8_t cdb_len)
{
    uint8_t cbw[CBW] = "USBC";
    uint32_t done;

    st_le32(cbw + 4, ++f->tag);
    st_le32(cbw + 8, len);
    cbw[12] = to_host ? 0x80 : 0;
    cbw[14] = cdb_len;
    memcpy(cbw + 15, cdb, cdb_len);
    assert_int_equal(out(f, cbw, sizeof(cbw), &done), USB_OK);
    assert_int_equal(done, CBW);
}

static uint8_t status(struct fixture *f, uint32_t residue)
{
    uint8_t csw[CSW];
    uint32_t done;
    bool end;

    assert_int_equal(in(f, csw, sizeof(csw), &done, &end), USB_OK);
    assert_int_equal(done, CSW);
    assert_true(end);
    assert_memory_equal(csw, "USBS", 4);
    assert_int_equal(ld_le32(csw + 4), f->tag);
    assert_int_equal(ld_le32(csw + 8), residue);
    return csw[12];
}

static void clear_attention(struct fixture *f)
{
    command(f, 0, false, "\0\0\0\0\0\0", 6);
    status(f, 0);
}

static void test_inquiry(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[64];
    uint32_t done;
    bool end;

    command(f, 36, true, "\x12\0\0\0\x24\0", 6);
    assert_int_equal(in(f, data, 16, &done, &end), USB_OK); /* in pieces */
    assert_int_equal(done, 16);
    assert_false(end);
    assert_int_equal(in(f, data + 16, 48, &done, &end), USB_OK);
    assert_int_equal(done, 20);
    assert_true(end);
    assert_memory_equal(data + 8, "RUCHE   ", 8);
    assert_int_equal(status(f, 0), 0);
}

static void test_short_data(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[64];
    uint32_t done;
    bool end;

    command(f, 64, true, "\x25\0\0\0\0\0\0\0\0\0", 10); /* the capacity has 8 bytes */
    memset(data, 0xff, sizeof(data));
    assert_int_equal(in(f, data, 64, &done, &end), USB_OK);
    assert_int_equal(done, 64);
    assert_memory_equal(data, "\0\0\0\1\0\0\2\0\0\0", 10);
    assert_int_equal(status(f, 56), 0);
}

static void test_write_and_read(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[512], back[512];
    uint32_t done;
    bool end;

    memset(data, 0x5a, sizeof(data));
    command(f, 512, false, "\x2a\0\0\0\0\1\0\0\1\0", 10);
    assert_int_equal(out(f, data, 100, &done), USB_OK);
    assert_int_equal(out(f, data + 100, 412, &done), USB_OK);
    assert_int_equal(status(f, 0), 0);
    command(f, 512, true, "\x28\0\0\0\0\1\0\0\1\0", 10);
    assert_int_equal(in(f, back, 512, &done, &end), USB_OK);
    assert_memory_equal(back, data, sizeof(data));
    assert_int_equal(status(f, 0), 0);
}

static void test_failure_and_sense(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[512];
    uint32_t done;
    bool end;

    command(f, 512, true, "\x28\0\0\0\0\2\0\0\1\0", 10); /* there are two sectors */
    assert_int_equal(in(f, data, 512, &done, &end), USB_OK);
    assert_int_equal(done, 512); /* filled up */
    assert_int_equal(status(f, 512), 1);
    command(f, 18, true, "\x03\0\0\0\x12\0", 6);
    assert_int_equal(in(f, data, 18, &done, &end), USB_OK);
    assert_int_equal(data[2], 5);
    assert_int_equal(data[12], 0x21);
    assert_int_equal(status(f, 0), 0);
}

/* Nonsense stalls both ways until the class's reset. */
static void test_nonsense(void **ctx)
{
    static const uint8_t reset[8] = { 0x21, 0xff }, clear_in[8] = { 2, 1, 0, 0, 0x81 },
                         clear_out[8] = { 2, 1, 0, 0, 2 };
    struct fixture *f = *ctx;
    uint8_t cbw[CBW] = "USBX";
    uint32_t done;
    bool end;

    assert_int_equal(out(f, cbw, sizeof(cbw), &done), USB_OK);
    assert_int_equal(out(f, cbw, sizeof(cbw), &done), USB_STALL);
    usb_setup(f->dev, clear_out);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    assert_int_equal(out(f, cbw, sizeof(cbw), &done), USB_STALL);
    usb_setup(f->dev, reset);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    usb_setup(f->dev, clear_in);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    usb_setup(f->dev, clear_out);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    command(f, 0, false, "\0\0\0\0\0\0", 6);
    assert_int_equal(status(f, 0), 0);
}

/* The bus is reset while the disk works: its answer is not taken for the next command's. */
static void test_reset_in_flight(void **ctx)
{
    static const uint8_t config[8] = { 0, 9, 1 };
    struct fixture *f = *ctx;
    uint8_t cbw[CBW] = "USBC";
    uint32_t done;
    bool end;

    command(f, 512, true, "\x28\0\0\0\0\0\0\0\1\0", 10);
    locked(f);
    usb_reset(f->dev);
    usb_setup(f->dev, config);
    assert_int_equal(usb_in(f->dev, 0, NULL, 0, &done, &end), USB_OK);
    unlocked(f);
    cbw[14] = 6;
    for (unsigned i = 0; i < 1000 && out(f, cbw, sizeof(cbw), &done) == USB_NAK; i++)
        loop_poll(f->loop, 10);
    assert_int_equal(done, CBW);
    f->tag = 0;
    status(f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_inquiry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_short_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write_and_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure_and_sense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_in_flight, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
