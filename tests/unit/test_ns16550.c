#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "chardev/chardev.h"
#include "hw/ns16550.h"
#include "testvm.h"

enum { BASE = 0x3f8, RBR = BASE, IER = BASE + 1, IIR = BASE + 2, FCR = BASE + 2, LCR = BASE + 3 };
enum { MCR = BASE + 4, LSR = BASE + 5, MSR = BASE + 6, SCR = BASE + 7 };

struct fixture {
    struct testvm *t;
    struct loop *loop; /* the character device's */
    struct chardev *chr;
    int peer; /* the other end of the line */
    bool irq;
    char dir[32], path[64];
};

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct err e = { 0 };
    char spec[72];

    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "/tmp/uart.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/line", f->dir);
    snprintf(spec, sizeof(spec), "unix:%s", f->path);
    f->t = testvm_create(0);
    f->loop = loop_create(&e);
    f->chr = chardev_open(spec, f->loop, NULL, NULL, &e);
    assert_non_null(f->chr);
    assert_non_null(ns16550_create(f->t->vm, "com1", BASE, testvm_irq(&f->irq), f->chr, &e));
    f->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
    assert_int_equal(connect(f->peer, (struct sockaddr *)&a, sizeof(a)), 0);
    loop_poll(f->loop, 100);
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    close(f->peer);
    testvm_destroy(f->t);
    chardev_close(f->chr);
    loop_destroy(f->loop);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static unsigned rd(struct fixture *f, unsigned port)
{
    return (unsigned)testvm_in(f->t, (uint16_t)port, 1);
}

static void wr(struct fixture *f, unsigned port, unsigned val)
{
    testvm_out(f->t, (uint16_t)port, 1, val);
}

static void test_registers(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(rd(f, LSR), 0x60);
    assert_int_equal(rd(f, IIR), 0x01);
    assert_int_equal(rd(f, MSR), 0xb0);
    wr(f, SCR, 0x5a);
    assert_int_equal(rd(f, SCR), 0x5a);
    wr(f, LCR, 0x80);
    wr(f, RBR, 0x34);
    wr(f, IER, 0x12);
    assert_int_equal(rd(f, RBR) | rd(f, IER) << 8, 0x1234);
    wr(f, LCR, 0x03);
    assert_int_equal(rd(f, IER), 0);
    wr(f, IER, 0xff);
    assert_int_equal(rd(f, IER), 0x0f);
    wr(f, FCR, 0x01);
    assert_int_equal(rd(f, IIR) & 0xc0, 0xc0);
}

static void test_transmit_interrupt(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, IER, 0x02);
    assert_false(f->irq); /* OUT2 is off */
    wr(f, MCR, 0x08);
    assert_true(f->irq);
    assert_int_equal(rd(f, IIR), 0x02);
    assert_false(f->irq); /* reading it clears it */
    wr(f, RBR, 'x');
    assert_true(f->irq);
    wr(f, IER, 0);
    assert_false(f->irq);
}

static void test_receive(void **ctx)
{
    struct fixture *f = *ctx;
    char got[64] = "";
    unsigned n = 0;

    wr(f, FCR, 0x81); /* trigger at 8 */
    wr(f, IER, 0x01);
    wr(f, MCR, 0x08);
    assert_int_equal(write(f->peer, "0123456789abcdefghij", 20), 20);
    for (int i = 0; i < 20 && !f->irq; i++)
        loop_poll(f->loop, 10);
    assert_true(f->irq);
    assert_int_equal(rd(f, IIR), 0xc4);
    while (rd(f, LSR) & 1) { /* more than a FIFO: it fills again */
        got[n++] = (char)rd(f, RBR);
        if (n == 18)
            assert_int_equal(rd(f, IIR), 0xcc); /* below the trigger: time-out */
    }
    assert_string_equal(got, "0123456789abcdefghij");
    assert_false(f->irq);
}

static void test_loopback(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, MCR, 0x1a); /* as a driver's autoconfig does */
    assert_int_equal(rd(f, MSR) & 0xf0, 0x90);
    wr(f, FCR, 0x01);
    for (int i = 0; i < 17; i++)
        wr(f, RBR, (unsigned)i);
    assert_int_equal(rd(f, LSR), 0x63); /* overrun, once */
    assert_int_equal(rd(f, LSR), 0x61);
    for (int i = 0; i < 16; i++)
        assert_int_equal(rd(f, RBR), i);
    wr(f, FCR, 0x00);
    assert_int_equal(rd(f, LSR) & 1, 0);
}

/* Far more than all buffers hold, with a reader that stops and goes: every byte arrives, in order. */
static void test_large_output(void **ctx)
{
    enum { TOTAL = 2 * MIB };
    struct fixture *f = *ctx;
    size_t sent = 0, got = 0;
    unsigned stalls = 0;
    uint8_t buf[4096];

    wr(f, FCR, 0x01);
    wr(f, IER, 0x02);
    wr(f, MCR, 0x08);
    for (int turns = 0; got < TOTAL && turns < 400000; turns++) {
        ssize_t n;

        for (int i = 0; i < 16 && sent < TOTAL && (rd(f, LSR) & 0x20); i++, sent++)
            wr(f, RBR, (sent + sent / 251) & 0xff);
        if (sent < TOTAL && (rd(f, LSR) & 0x20))
            continue;
        stalls += sent < TOTAL;
        assert_int_equal(f->irq,
                         sent == TOTAL && (rd(f, LSR) & 0x20)); /* THRE comes back by interrupt */
        loop_poll(f->loop, 1);
        while ((n = read(f->peer, buf, sizeof(buf))) > 0)
            for (ssize_t i = 0; i < n; i++, got++)
                assert_int_equal(buf[i], (got + got / 251) & 0xff);
    }
    assert_int_equal(got, TOTAL);
    assert_true(stalls > 0);
    assert_true(f->irq);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registers), TEST(test_transmit_interrupt), TEST(test_receive),
        TEST(test_loopback),  TEST(test_large_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
