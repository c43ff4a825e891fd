/* The xHCI controller, driven like by a driver: with a tablet in a USB 2 port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "hw/usb_hid.h"
#include "hw/xhci.h"
#include "testvm.h"

#define BAR 0xe0000000ull
enum { /* registers */
       CMD = 0x40,
       STS = 0x44,
       CRCR = 0x58,
       DCBAAP = 0x70,
       CONFIG = 0x78,
       PORTS = 0x440,
       IMAN = 0x1020,
       ERSTSZ = 0x1028,
       ERSTBA = 0x1030,
       ERDP = 0x1038,
       DOORBELLS = 0x2000,
};
enum { /* guest memory */
       SLOTS = 0x1000,
       COMMANDS = 0x2000,
       SEGMENTS = 0x3000,
       EVENTS = 0x4000,
       INPUT = 0x5000,
       CONTEXT = 0x6000,
       RING0 = 0x8000, /* endpoint 0 */
       RING3 = 0x9000, /* endpoint 1 in */
       DATA = 0xa000,
};
enum { PORT = 4 /* the tablet's, from 0 */, N_EVENTS = 16, PED = 2, EHB = 8 };
enum { DEVFN = PCI_DEVFN(2, 0) };
enum { EV_TRANSFER = 32, EV_COMMAND = 33, EV_PORT = 34 };
enum { SUCCESS = 1, TRB_ERROR = 5, STALL = 6, SLOT_OFF = 11, SHORT = 13, STATE = 19, STOPPED = 26 };

struct fixture {
    struct testvm *t;
    struct input *in;
    unsigned command, ring0, ring3, event;
    bool event_cycle;
};
struct event {
    uint64_t param;
    uint32_t len;
    unsigned cc, type, slot, ep;
};

static uint32_t reg(struct fixture *f, unsigned off)
{
    return (uint32_t)testvm_read(f->t, BAR + off, 4);
}

static void set(struct fixture *f, unsigned off, uint32_t val)
{
    testvm_write(f->t, BAR + off, 4, val);
}

static void put64(struct fixture *f, uint64_t at, uint64_t val)
{
    st_le64((char *)f->t->ram.hva + at, val);
}

static uint8_t *mem(struct fixture *f, uint64_t at)
{
    return (uint8_t *)f->t->ram.hva + at;
}

static void trb(struct fixture *f, uint64_t ring, unsigned *n, uint64_t param, uint32_t status,
                uint32_t control)
{
    put64(f, ring + 16 * *n, param);
    put64(f, ring + 16 * *n + 8, status | (uint64_t)(control | 1) << 32);
    ++*n;
}

/* The next event, if there is one; it is taken. */
static bool next_event(struct fixture *f, struct event *v)
{
    const uint8_t *at = mem(f, EVENTS + 16 * f->event);
    uint32_t control = ld_le32(at + 12);

    if ((control & 1) != f->event_cycle)
        return false;
    *v = (struct event){
        .param = ld_le64(at),
        .len = ld_le32(at + 8) & 0xffffff,
        .cc = ld_le32(at + 8) >> 24,
        .type = control >> 10 & 63,
        .slot = control >> 24,
        .ep = control >> 16 & 31,
    };
    if (++f->event == N_EVENTS) {
        f->event = 0;
        f->event_cycle = !f->event_cycle;
    }
    return true;
}

static void taken(struct fixture *f)
{
    set(f, ERDP, (uint32_t)(EVENTS + 16 * f->event) | EHB);
    set(f, ERDP + 4, 0);
}

static void expect(struct fixture *f, unsigned type, unsigned cc, struct event *v)
{
    assert_true(next_event(f, v));
    assert_int_equal(v->type, type);
    assert_int_equal(v->cc, cc);
    taken(f);
}

static void no_event(struct fixture *f)
{
    struct event v;

    assert_false(next_event(f, &v));
}

static unsigned command(struct fixture *f, uint64_t param, unsigned type, uint32_t bits)
{
    struct event v;

    trb(f, COMMANDS, &f->command, param, 0, type << 10 | bits);
    set(f, DOORBELLS, 0);
    assert_true(next_event(f, &v));
    while (v.type != EV_COMMAND)
        assert_true(next_event(f, &v));
    assert_int_equal(v.param, COMMANDS + 16 * (f->command - 1));
    taken(f);
    return v.cc;
}

static void start(struct fixture *f)
{
    put64(f, SLOTS + 8, CONTEXT);
    put64(f, SEGMENTS, EVENTS);
    put64(f, SEGMENTS + 8, N_EVENTS);
    set(f, CONFIG, 8);
    set(f, DCBAAP, SLOTS);
    set(f, CRCR, COMMANDS | 1);
    set(f, CRCR + 4, 0);
    set(f, ERSTSZ, 1);
    set(f, ERDP, EVENTS);
    set(f, ERSTBA, SEGMENTS);
    set(f, IMAN, 2);
    set(f, CMD, 5);
    f->event_cycle = true;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;
    struct usb_dev *tablet;

    assert_non_null(f);
    f->t = testvm_create(MIB);
    f->in = input_create(NULL);
    bus = pci_bus_create(f->t->vm, NULL);
    assert_non_null(bus);
    tablet = usb_tablet_create(f->in, NULL);
    assert_int_equal(xhci_create(f->t->vm, bus, DEVFN, &tablet, 1, NULL), 0);
    testvm_pci_out(f->t, DEVFN, PCI_BAR0, 4, BAR);
    testvm_pci_out(f->t, DEVFN, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
    device_sync_all(f->t->vm->devices);
    start(f);
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

static void reset_port(struct fixture *f)
{
    struct event v;

    expect(f, EV_PORT, SUCCESS, &v); /* plugged in */
    assert_int_equal(v.param >> 24, PORT + 1);
    set(f, PORTS + 16 * PORT, 0x210); /* power, reset */
    expect(f, EV_PORT, SUCCESS, &v);
    assert_true(reg(f, PORTS + 16 * PORT) & PED);
    assert_int_equal(reg(f, PORTS + 16 * PORT) >> 10 & 15, USB_FULL);
    set(f, PORTS + 16 * PORT, 0x2020200); /* nothing has changed any more; wake up */
}

/* Slot 1 is the tablet's, and endpoint 1 is its events'. */
static void address(struct fixture *f)
{
    reset_port(f);
    assert_int_equal(command(f, 0, 9, 0), SUCCESS);
    put64(f, INPUT, 3ull << 32);
    put64(f, INPUT + 0x20, 1u << 27 | (uint64_t)(PORT + 1) << 48);
    put64(f, INPUT + 0x40, (uint64_t)(4 << 3) << 32);
    put64(f, INPUT + 0x48, RING0 | 1);
    assert_int_equal(command(f, INPUT, 11, 1 << 24), SUCCESS);
    assert_int_equal(ld_le32(mem(f, CONTEXT + 12)), 2u << 27 | 1); /* addressed */
    assert_int_equal(mem(f, CONTEXT + 0x20)[0] & 7, 1);            /* running */
}

static void configure(struct fixture *f)
{
    struct event v;

    address(f);
    put64(f, INPUT, 9ull << 32);
    put64(f, INPUT + 0x20, 3u << 27 | (uint64_t)(PORT + 1) << 48);
    put64(f, INPUT + 0x80, (uint64_t)(7 << 3 | 8 << 16) << 32);
    put64(f, INPUT + 0x88, RING3 | 1);
    assert_int_equal(command(f, INPUT, 12, 1 << 24), SUCCESS);
    assert_int_equal(ld_le32(mem(f, CONTEXT + 12)) >> 27, 3); /* configured */
    trb(f, RING0, &f->ring0, 0x010900, 8, 2 << 10 | 0x40);    /* set configuration 1 */
    trb(f, RING0, &f->ring0, 0, 0, 4 << 10 | 0x10020);
    set(f, DOORBELLS + 4, 1);
    expect(f, EV_TRANSFER, SUCCESS, &v);
    assert_int_equal(v.ep, 1);
}

static void test_capabilities(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(reg(f, 0), 0x01000040);
    assert_int_equal(reg(f, 4) >> 24, XHCI_PORTS);
    assert_int_equal(testvm_read(f->t, BAR, 1), 0x40);
    assert_int_equal(reg(f, 0x800) >> 24, 3); /* USB 3 ports are the first */
    assert_int_equal(reg(f, 0x810) >> 24, 2);
    assert_int_equal(reg(f, 0x818), (PORT + 1) | 4 << 8);
    set(f, CMD, 0);
    assert_int_equal(reg(f, STS) & 1, 1);
}

static void test_control(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    address(f);
    trb(f, RING0, &f->ring0, 0x00ff000001000680, 8, 2 << 10 | 0x30040); /* device descriptor */
    trb(f, RING0, &f->ring0, DATA, 10, 3 << 10 | 0x10014); /* in two parts, stop if short */
    trb(f, RING0, &f->ring0, DATA + 10, 245, 1 << 10 | 4);
    trb(f, RING0, &f->ring0, 0, 0, 4 << 10 | 0x20);
    set(f, DOORBELLS + 4, 1);
    expect(f, EV_TRANSFER, SHORT, &v);
    assert_int_equal(v.len, 245 - 8);
    expect(f, EV_TRANSFER, SUCCESS, &v);
    assert_int_equal(mem(f, DATA)[0], 18);
    assert_int_equal(mem(f, DATA)[17], 1);
    trb(f, RING0, &f->ring0, 0x0002000006000680, 8, 2 << 10 | 0x40); /* there is no qualifier */
    trb(f, RING0, &f->ring0, DATA, 2, 3 << 10 | 0x10000);
    set(f, DOORBELLS + 4, 1);
    expect(f, EV_TRANSFER, STALL, &v);
    assert_int_equal(mem(f, CONTEXT + 0x20)[0] & 7, 2); /* halted */
    assert_int_equal(command(f, RING0 | 1, 16, 1 << 24 | 1 << 16), STATE);
    assert_int_equal(command(f, 0, 14, 1 << 24 | 1 << 16), SUCCESS);
    assert_int_equal(command(f, (RING0 + 16 * f->ring0) | 1, 16, 1 << 24 | 1 << 16), SUCCESS);
    trb(f, RING0, &f->ring0, 0x010900, 8, 2 << 10 | 0x40);
    trb(f, RING0, &f->ring0, 0, 0, 4 << 10 | 0x10020);
    set(f, DOORBELLS + 4, 1);
    expect(f, EV_TRANSFER, SUCCESS, &v);
}

static void test_interrupt_transfer(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    configure(f);
    trb(f, RING3, &f->ring3, DATA, 8, 1 << 10 | 0x24);
    set(f, DOORBELLS + 4, 3);
    no_event(f);
    input_point(f->in, 1, 1, 3, 3, INPUT_RIGHT, 0);
    expect(f, EV_TRANSFER, SHORT, &v);
    assert_int_equal(v.param, RING3);
    assert_int_equal(v.len, 2);
    assert_memory_equal(mem(f, DATA), "\2\xff\x3f\xff\x3f\0", 6);
    input_point(f->in, 1, 1, 3, 3, 0, 0); /* before the guest asks */
    trb(f, RING3, &f->ring3, DATA, 6, 1 << 10 | 0x24);
    set(f, DOORBELLS + 4, 3);
    expect(f, EV_TRANSFER, SUCCESS, &v);
}

/* With the word of the driver's own, in an event data TRB. */
static void test_event_data(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    configure(f);
    trb(f, RING3, &f->ring3, DATA, 8, 1 << 10 | 0x10);
    trb(f, RING3, &f->ring3, 0x1122334455667788, 0, 7 << 10 | 0x20);
    set(f, DOORBELLS + 4, 3);
    input_point(f->in, 1, 1, 3, 3, 0, 0);
    expect(f, EV_TRANSFER, SHORT, &v);
    assert_int_equal(v.param, 0x1122334455667788);
    assert_int_equal(v.len, 6);
}

static void test_stop(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    configure(f);
    trb(f, RING3, &f->ring3, DATA, 8, 1 << 10 | 0x20);
    set(f, DOORBELLS + 4, 3);
    trb(f, COMMANDS, &f->command, 0, 0, 15 << 10 | 1 << 24 | 3 << 16);
    set(f, DOORBELLS, 0);
    expect(f, EV_TRANSFER, STOPPED, &v);
    assert_int_equal(v.param, RING3);
    assert_int_equal(v.len, 8);
    expect(f, EV_COMMAND, SUCCESS, &v);
    assert_int_equal(ld_le64(mem(f, CONTEXT + 0x68)), RING3 | 1);
    input_point(f->in, 1, 1, 3, 3, 0, 0);
    no_event(f);
    set(f, DOORBELLS + 4, 3); /* goes on */
    expect(f, EV_TRANSFER, SHORT, &v);
}

static void test_remote_wakeup(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    configure(f);
    trb(f, RING0, &f->ring0, 0x010300, 8, 2 << 10 | 0x40); /* it may */
    trb(f, RING0, &f->ring0, 0, 0, 4 << 10 | 0x10020);
    trb(f, RING3, &f->ring3, DATA, 8, 1 << 10 | 0x20);
    set(f, DOORBELLS + 4, 1);
    set(f, DOORBELLS + 4, 3);
    expect(f, EV_TRANSFER, SUCCESS, &v);
    set(f, PORTS + 16 * PORT, 0x10260); /* U3 */
    assert_int_equal(reg(f, PORTS + 16 * PORT) >> 5 & 15, 3);
    no_event(f);
    input_point(f->in, 1, 1, 3, 3, 0, 0);
    expect(f, EV_PORT, SUCCESS, &v);
    assert_int_equal(reg(f, PORTS + 16 * PORT) >> 5 & 15, 15); /* resume */
    set(f, PORTS + 16 * PORT, 0x400200);
    set(f, PORTS + 16 * PORT, 0x10200); /* U0 */
    expect(f, EV_PORT, SUCCESS, &v);
    expect(f, EV_TRANSFER, SHORT, &v);
}

/* What the event ring has no room for waits, and comes later. */
static void test_full_event_ring(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;
    unsigned n = 0;

    reset_port(f);
    for (unsigned i = 0; i < 40; i++)
        trb(f, COMMANDS, &f->command, 0, 0, 23 << 10);
    set(f, DOORBELLS, 0);
    while (n < 40) {
        unsigned before = n;

        for (; next_event(f, &v); n++)
            assert_int_equal(v.param, COMMANDS + 16 * n);
        assert_true(n > before && n - before < N_EVENTS);
        taken(f);
    }
    no_event(f);
}

static void test_interrupts(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned n;

    reset_port(f);
    /* MSI-X: its BAR, a message, on */
    testvm_pci_out(f->t, DEVFN, PCI_BAR0 + 4 * 2, 4, 0xe1000000);
    testvm_write(f->t, 0xe1000000, 4, 0xfee00000);
    testvm_write(f->t, 0xe1000008, 4, 0x41);
    testvm_write(f->t, 0xe100000c, 4, 0);
    testvm_pci_out(f->t, DEVFN, 0x40, 4, 0x80000000);
    set(f, IMAN, 3);
    n = f->t->n_msi;
    trb(f, COMMANDS, &f->command, 0, 0, 23 << 10);
    set(f, DOORBELLS, 0);
    assert_int_equal(f->t->n_msi, n + 1);
    assert_int_equal(f->t->msi_data, 0x41);
    trb(f, COMMANDS, &f->command, 0, 0, 23 << 10); /* the handler is still busy */
    set(f, DOORBELLS, 0);
    assert_int_equal(f->t->n_msi, n + 1);
    set(f, ERDP, (uint32_t)(EVENTS + 16 * (f->event + 1)) | EHB); /* it has seen only the first */
    assert_int_equal(f->t->n_msi, n + 2);
}

static void test_nonsense(void **ctx)
{
    struct fixture *f = *ctx;

    reset_port(f);
    assert_int_equal(command(f, 0, 11, 1 << 24), SLOT_OFF);
    assert_int_equal(command(f, 0, 15, 77u << 24), SLOT_OFF);
    assert_int_equal(command(f, 0, 40, 0), TRB_ERROR);
    /* a ring that is a circle of links */
    put64(f, COMMANDS + 16 * f->command, COMMANDS + 16 * f->command);
    put64(f, COMMANDS + 16 * f->command + 8, (uint64_t)(6 << 10 | 1) << 32);
    set(f, DOORBELLS, 0);
    assert_int_equal(reg(f, STS) & 5, 5); /* host system error, halted */
    set(f, CMD, 5);
    assert_int_equal(reg(f, CMD) & 1, 0);
    set(f, CMD, 2);
    assert_int_equal(reg(f, STS), 1);
}

/* A ring that has work for ever, without a link in vain. */
static void test_runaway(void **ctx)
{
    struct fixture *f = *ctx;

    configure(f);
    trb(f, RING3, &f->ring3, 0, 0, 8 << 10);
    trb(f, RING3, &f->ring3, RING3, 0, 6 << 10);
    set(f, DOORBELLS + 4, 3);
    assert_int_equal(reg(f, STS) & 5, 5);
}

/* While the VM is stopped, what somebody does waits. */
static void test_quiesced(void **ctx)
{
    struct fixture *f = *ctx;
    struct event v;

    configure(f);
    trb(f, RING3, &f->ring3, DATA, 8, 1 << 10 | 0x20);
    set(f, DOORBELLS + 4, 3);
    device_quiesce_all(f->t->vm->devices);
    input_point(f->in, 1, 1, 3, 3, 0, 0);
    no_event(f);
    device_sync_all(f->t->vm->devices);
    loop_poll(f->t->vm->loop, 0);
    expect(f, EV_TRANSFER, SHORT, &v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_capabilities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_control, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupt_transfer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_event_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remote_wakeup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_event_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_runaway, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quiesced, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
