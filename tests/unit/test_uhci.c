/* The UHCI controller, driven like by a driver: with a keyboard in its first port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "hw/uhci.h"
#include "hw/usb_hid.h"
#include "testvm.h"

enum { IO = 0xc000, CMD = IO, STS = IO + 2, INTR = IO + 4, FRNUM = IO + 6, BASE = IO + 8 };
enum { PORT1 = IO + 0x10, PORT2 = IO + 0x12 };
enum { FRAMES = 0x1000, QUEUE = 0x2000, TDS = 0x3000, DATA = 0x4000 };
enum { ACTIVE = 1 << 23, STALLED = 1 << 22, NAK = 1 << 19, TIMEOUT = 1 << 18, IOC = 1 << 24 };
enum { IN = 0x69, OUT = 0xe1, SETUP = 0x2d, MS = 1000000 };

struct fixture {
    struct testvm *t;
    struct input *in;
};

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;
    struct usb_dev *kbd;

    assert_non_null(f);
    f->t = testvm_create(MIB);
    f->in = input_create(NULL);
    bus = testvm_pci(f->t);
    kbd = usb_kbd_create(f->in, NULL);
    assert_int_equal(uhci_create(f->t->vm, bus, PCI_DEVFN(1, 2), &kbd, 1, NULL), 0);
    testvm_pci_out(f->t, PCI_DEVFN(1, 2), PCI_BAR0 + 4 * 4, 4, IO);
    testvm_pci_out(f->t, PCI_DEVFN(1, 2), PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MASTER);
    device_sync_all(f->t->vm->devices);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    input_destroy(f->in);
    free(f);
    return 0;
}

static unsigned in16(struct fixture *f, uint16_t port)
{
    return (unsigned)testvm_in(f->t, port, 2);
}

static void out16(struct fixture *f, uint16_t port, unsigned val)
{
    testvm_out(f->t, port, 2, val);
}

static uint8_t *mem(struct fixture *f, uint64_t at)
{
    return (uint8_t *)f->t->ram.hva + at;
}

static void put32(struct fixture *f, uint64_t at, uint32_t val)
{
    st_le32(mem(f, at), val);
}

static uint32_t td_status(struct fixture *f, unsigned n)
{
    return ld_le32(mem(f, TDS + 32 * n + 4));
}

/* TD n, and the next one follows; len: bytes */
static void td(struct fixture *f, unsigned n, unsigned pid, unsigned ep, unsigned len,
               uint32_t bits)
{
    uint64_t at = TDS + 32 * n;

    put32(f, at, (uint32_t)(at + 32) | 4);
    put32(f, at + 4, ACTIVE | bits);
    put32(f, at + 8, ((len - 1) & 0x7ff) << 21 | ep << 15 | pid);
    put32(f, at + 12, DATA + 64 * n);
}

static void td_last(struct fixture *f, unsigned n)
{
    put32(f, TDS + 32 * n, 1);
}

static void queue(struct fixture *f, uint32_t link)
{
    put32(f, QUEUE, link);
    put32(f, QUEUE + 4, TDS);
}

static void ms(struct fixture *f, unsigned n)
{
    clock_advance(f->t->vm->clock, (uint64_t)n * MS);
}

static void start(struct fixture *f)
{
    for (unsigned i = 0; i < 1024; i++)
        put32(f, FRAMES + 4 * i, QUEUE | 2);
    put32(f, QUEUE, 1);
    put32(f, QUEUE + 4, 1);
    testvm_out(f->t, BASE, 4, FRAMES);
    out16(f, PORT1, 0x200);
    out16(f, PORT1, 0x00e);
    out16(f, INTR, 15);
    out16(f, CMD, 1);
}

static void configure(struct fixture *f)
{
    static const uint8_t request[8] = { 0, 9, 1 };

    start(f);
    memcpy(mem(f, DATA), request, sizeof(request));
    td(f, 0, SETUP, 0, 8, 0);
    td(f, 1, IN, 0, 0, IOC);
    td_last(f, 1);
    queue(f, 1);
    ms(f, 2);
    assert_int_equal(td_status(f, 0), 7);
    assert_int_equal(td_status(f, 1), IOC | 0x7ff);
    assert_int_equal(in16(f, STS), 1);
    assert_true(f->t->pirq[3]);
    out16(f, STS, 1);
    assert_false(f->t->pirq[3]);
}

static void test_registers(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(in16(f, STS), 0x20);
    assert_int_equal(in16(f, PORT1), 0x83);
    assert_int_equal(in16(f, PORT2), 0x80);
    assert_int_equal(testvm_in(f->t, IO + 0x0c, 1), 64);
    out16(f, PORT2, 4); /* nothing is there to be enabled */
    assert_int_equal(in16(f, PORT2), 0x80);
    start(f);
    assert_int_equal(in16(f, PORT1), 0x85);
    assert_int_equal(in16(f, STS), 0);
    ms(f, 10);
    assert_int_equal(in16(f, FRNUM), 10);
    ms(f, 5000); /* by the clock, however rarely it is looked at */
    assert_int_equal(in16(f, FRNUM), 5010 & 0x7ff);
    out16(f, CMD, 0);
    assert_int_equal(in16(f, STS), 0x20);
    ms(f, 10);
    assert_int_equal(in16(f, FRNUM), 5010 & 0x7ff);
}

static void test_interrupt_transfer(void **ctx)
{
    struct fixture *f = *ctx;

    configure(f);
    td(f, 0, IN, 1, 8, IOC);
    td_last(f, 0);
    queue(f, 1);
    ms(f, 3);
    assert_int_equal(td_status(f, 0), ACTIVE | IOC | NAK | 0);
    input_key(f->in, 0x1e, true);
    ms(f, 2);
    assert_int_equal(td_status(f, 0), IOC | 7);
    assert_memory_equal(mem(f, DATA), "\0\0\4\0\0\0\0\0", 8);
    assert_true(f->t->pirq[3]);
    assert_int_equal(ld_le32(mem(f, QUEUE + 4)), 1);
}

/* After a long time of nothing, a key is there with the next frame all the same. */
static void test_idle(void **ctx)
{
    struct fixture *f = *ctx;

    configure(f);
    td(f, 0, IN, 1, 8, 0);
    td_last(f, 0);
    queue(f, 1);
    ms(f, 5000);
    input_key(f->in, 0x1e, true);
    ms(f, 2);
    assert_int_equal(td_status(f, 0), 7);
}

static void test_short_and_stall(void **ctx)
{
    static const uint8_t get[8] = { 0x80, 6, 0, 1, 0, 0, 64, 0 },
                         wrong[8] = { 0x80, 6, 0, 6, 0, 0, 10 };
    struct fixture *f = *ctx;

    configure(f);
    memcpy(mem(f, DATA), get, sizeof(get));
    td(f, 0, SETUP, 0, 8, 0);
    td(f, 1, IN, 0, 64, 1 << 29); /* stops at a short packet */
    td(f, 2, OUT, 0, 0, 0);
    td_last(f, 2);
    queue(f, 1);
    ms(f, 2);
    assert_int_equal(td_status(f, 1) & 0x7ff, 17);
    assert_int_equal(ld_le32(mem(f, QUEUE + 4)) & ~15u, TDS + 32); /* still there */
    assert_true(td_status(f, 2) & ACTIVE);
    assert_true(f->t->pirq[3]);
    out16(f, STS, 1);
    memcpy(mem(f, DATA), wrong, sizeof(wrong));
    td(f, 0, SETUP, 0, 8, 0);
    td(f, 1, IN, 0, 10, 0);
    td_last(f, 1);
    queue(f, 1);
    ms(f, 2);
    assert_true(td_status(f, 1) & STALLED);
    assert_int_equal(in16(f, STS), 2);
    assert_true(f->t->pirq[3]);
}

static void test_nobody_and_nonsense(void **ctx)
{
    struct fixture *f = *ctx;

    start(f);
    td(f, 0, IN, 1, 8, 0);
    put32(f, TDS + 8, ld_le32(mem(f, TDS + 8)) | 55 << 8); /* no such address */
    td_last(f, 0);
    queue(f, 1);
    ms(f, 2);
    assert_true(td_status(f, 0) & TIMEOUT);
    td(f, 0, 0x11, 1, 8, 0); /* no such PID */
    queue(f, 1);
    ms(f, 2);
    assert_int_equal(in16(f, STS), 0x32);
    assert_int_equal(in16(f, CMD), 0);
}

/* Queues in a circle, as drivers build them: the frame ends where nothing moves. */
static void test_circle(void **ctx)
{
    struct fixture *f = *ctx;

    configure(f);
    td(f, 0, IN, 1, 8, 0);
    td_last(f, 0);
    queue(f, QUEUE | 2);
    ms(f, 10);
    assert_int_equal(td_status(f, 0), ACTIVE | NAK);
    input_key(f->in, 0x1e, true);
    ms(f, 2);
    assert_int_equal(td_status(f, 0), 7);
}

static void test_remote_wakeup(void **ctx)
{
    static const uint8_t may[8] = { 0, 3, 1 };
    struct fixture *f = *ctx;

    configure(f);
    td(f, 0, IN, 1, 8, 0);
    td_last(f, 0);
    queue(f, 1);
    ms(f, 1); /* it is polled */
    memcpy(mem(f, DATA), may, sizeof(may));
    td(f, 0, SETUP, 0, 8, 0);
    td(f, 1, IN, 0, 0, 0);
    td_last(f, 1);
    queue(f, 1);
    ms(f, 2);
    out16(f, PORT1, 0x1004);
    input_key(f->in, 0x1e, true);
    assert_true(in16(f, PORT1) & 0x40);
    assert_int_equal(in16(f, STS), 4);
    assert_true(f->t->pirq[3]);
    out16(f, STS, 4);
    out16(f, PORT1, 0x0004);
    assert_int_equal(in16(f, PORT1), 0x85);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupt_transfer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_short_and_stall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_and_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_circle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remote_wakeup, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
