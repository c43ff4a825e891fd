#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/endian.h"
#include "hw/rtl8139.h"
#include "frames.h"
#include "testvm.h"

enum {
    RAM = 0x100000,
    RX = 0x20000,
    RX_LEN = 8192,
    TX = 0x40000,
    TX_RING = 0x10000,
    RX_RING = 0x11000
};
enum { IO = 0xc000, SLOT = 3, TURNS = 200 };
enum { /* registers */
       IDR = 0x00,
       MAR = 0x08,
       TSD = 0x10,
       TSAD = 0x20,
       RBSTART = 0x30,
       CR = 0x37,
       CAPR = 0x38,
       CBR = 0x3a,
       IMR = 0x3c,
       ISR = 0x3e,
       TCR = 0x40,
       RCR = 0x44,
       TCTR = 0x48,
       EE = 0x50,
       TIMERINT = 0x54,
       BMSR = 0x64,
       TPPOLL = 0xd9,
       CPCR = 0xe0,
       RDSAR = 0xe4
};
enum { LOOPBACK = 0x60000, OURS = 0x0a, OWN = 0x2000, TOK = 0x8000 };

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };

struct fixture {
    struct testvm *t;
};

static uint32_t rd(struct fixture *f, unsigned reg, unsigned size)
{
    return (uint32_t)testvm_in(f->t, (uint16_t)(IO + reg), size);
}

static void wr(struct fixture *f, unsigned reg, unsigned size, uint32_t val)
{
    testvm_out(f->t, (uint16_t)(IO + reg), size, val);
}

static int set_up(void **ctx)
{
    struct nic_opts o = { .backend = "user" };
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;

    f->t = testvm_create(RAM);
    bus = testvm_pci(f->t);
    memcpy(o.mac, mac, sizeof(mac));
    assert_int_equal(rtl8139_create(f->t->vm, bus, PCI_DEVFN(SLOT, 0), "net0", &o, NULL), 0);
    testvm_pci_out(f->t, PCI_DEVFN(SLOT, 0), PCI_BAR0, 4, IO);
    testvm_pci_out(f->t, PCI_DEVFN(SLOT, 0), PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MASTER);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

static uint8_t *ram(struct fixture *f, unsigned at)
{
    return f->t->ram.hva + at;
}

static void make_frame(struct fixture *f, const uint8_t to[6], uint16_t type, unsigned len)
{
    uint8_t *p = ram(f, TX);

    memcpy(p, to, 6);
    memcpy(p + 6, mac, 6);
    st_be16(p + 12, type);
    for (unsigned i = 14; i < len; i++)
        p[i] = (uint8_t)(i * 5);
}

static void start_ring(struct fixture *f, uint32_t tcr)
{
    wr(f, CR, 1, 0x10);
    wr(f, RBSTART, 4, RX);
    wr(f, CR, 1, 0x0c);
    wr(f, TCR, 4, tcr);
    wr(f, RCR, 4, OURS);
}

static void send_ring(struct fixture *f, unsigned i, unsigned len)
{
    wr(f, TSAD + 4 * i, 4, TX);
    wr(f, TSD + 4 * i, 4, len);
    assert_int_equal(rd(f, TSD + 4 * i, 4) & (OWN | TOK), OWN | TOK);
}

static void test_identity(void **ctx)
{
    struct fixture *f = *ctx;
    uint16_t id = 0;

    assert_int_equal(rd(f, IDR, 4), ld_le32(mac));
    assert_int_equal(rd(f, IDR + 4, 2), ld_le16(mac + 4));
    assert_int_equal(rd(f, TCR, 4) & 0x7cc00000, 0x74800000); /* a C+ */
    assert_int_equal(rd(f, BMSR, 2) & 0x24, 0x24);
    assert_int_equal(rd(f, CR, 1), 1); /* nothing received */
    wr(f, EE, 1, 0x80);
    wr(f, EE, 1, 0x88);
    for (int i = 8; i >= 0; i--) { /* read word 0 */
        wr(f, EE, 1, 0x88 | (0x180 >> i & 1) << 1);
        wr(f, EE, 1, 0x8c | (0x180 >> i & 1) << 1);
    }
    for (unsigned i = 0; i < 16; i++) {
        wr(f, EE, 1, 0x88);
        wr(f, EE, 1, 0x8c);
        id = (uint16_t)(id << 1 | (rd(f, EE, 1) & 1));
    }
    assert_int_equal(id, 0x8129);
}

static void test_timer(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, IMR, 2, 0x4000);
    wr(f, TIMERINT, 4, 1000); /* 30 us */
    wr(f, TCTR, 4, 0);
    clock_advance(vm_clock(f->t->vm), 20000);
    assert_false(testvm_inta(f->t, SLOT));
    clock_advance(vm_clock(f->t->vm), 20000);
    assert_true(testvm_inta(f->t, SLOT));
    assert_in_range(rd(f, TCTR, 4), 1300, 1400);
    wr(f, ISR, 2, 0x4000);
    assert_false(testvm_inta(f->t, SLOT));
}

static void test_ring_arp(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned len;

    start_ring(f, 0);
    wr(f, IMR, 2, 5);
    frame_arp(ram(f, TX), mac);
    send_ring(f, 0, FRAME_ARP_LEN);
    assert_true(testvm_inta(f->t, SLOT));
    wr(f, ISR, 2, 4);
    assert_false(testvm_inta(f->t, SLOT));
    for (int i = 0; i < TURNS && rd(f, CR, 1) & 1; i++)
        loop_poll(vm_loop(f->t->vm), 10);
    assert_int_equal(rd(f, CR, 1) & 1, 0);
    assert_true(testvm_inta(f->t, SLOT));
    assert_int_equal(ld_le16(ram(f, RX)), 0x4001); /* for us, and good */
    len = ld_le16(ram(f, RX + 2));
    assert_true(len >= 64);
    assert_memory_equal(ram(f, RX + 4), mac, 6);
    assert_int_equal(rd(f, CBR, 2), (len + 7) & ~3u);
    wr(f, CAPR, 2, ((len + 7) & ~3u) - 16);
    assert_int_equal(rd(f, CR, 1) & 1, 1);
}

/* Until the ring is full, and around its end. */
static void test_ring_wraps(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned at = 0;

    start_ring(f, LOOPBACK);
    make_frame(f, mac, 0x88b5, 1000);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t got[1000];

        send_ring(f, i % 4, 1000);
        assert_int_equal(ld_le32(ram(f, RX + at)), 1004u << 16 | 0x4001);
        for (unsigned j = 0; j < sizeof(got); j++)
            got[j] = *ram(f, RX + (at + 4 + j) % RX_LEN);
        assert_memory_equal(got, ram(f, TX), sizeof(got));
        at = (at + 1008) % RX_LEN;
        assert_int_equal(rd(f, CBR, 2), at);
        wr(f, CAPR, 2, (at - 16) & 0xffff);
    }
    for (unsigned i = 0; i < 12; i++) /* the driver is slow: the last ones are lost */
        send_ring(f, i % 4, 1000);
    assert_int_equal(rd(f, CBR, 2), (at + 8 * 1008) % RX_LEN);
}

static void test_filters(void **ctx)
{
    static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 }, group[6] = { 1, 0, 0x5e, 0, 0, 1 };
    struct fixture *f = *ctx;

    start_ring(f, LOOPBACK);
    make_frame(f, other, 0x88b5, 100);
    send_ring(f, 0, 100);
    make_frame(f, group, 0x88b5, 100);
    send_ring(f, 1, 100);
    assert_int_equal(rd(f, CR, 1) & 1, 1);
    wr(f, RCR, 4, OURS | 4);
    wr(f, MAR, 4, 0xffffffff);
    wr(f, MAR + 4, 4, 0xffffffff);
    send_ring(f, 2, 100);
    assert_int_equal(ld_le16(ram(f, RX)), 0x8001);
    wr(f, RCR, 4, OURS | 1);
    make_frame(f, other, 0x88b5, 100);
    send_ring(f, 3, 100);
    assert_int_equal(rd(f, CBR, 2), 2 * 108);
}

/* A driver may leave frames alone whose interrupt it has acknowledged: it is reminded of them. */
static void test_forgotten(void **ctx)
{
    struct fixture *f = *ctx;

    start_ring(f, LOOPBACK);
    wr(f, IMR, 2, 1);
    make_frame(f, mac, 0x88b5, 100);
    send_ring(f, 0, 100);
    wr(f, ISR, 2, 0xffff);
    assert_false(testvm_inta(f->t, SLOT));
    clock_advance(vm_clock(f->t->vm), 1000000);
    assert_true(testvm_inta(f->t, SLOT));
}

static void put_desc(struct fixture *f, unsigned at, uint32_t status, uint32_t vlan, uint64_t addr)
{
    st_le32(ram(f, at + 4), vlan);
    st_le64(ram(f, at + 8), addr);
    st_le32(ram(f, at), status);
}

/* Two pieces with both checksums to be made; it comes back as one, with a tag. */
static void test_cplus(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *p = ram(f, TX);
    uint32_t pseudo;

    wr(f, CPCR, 2, 0x23);
    wr(f, TSAD, 4, TX_RING);
    wr(f, TSAD + 4, 4, 0);
    wr(f, RDSAR, 4, RX_RING);
    wr(f, RDSAR + 4, 4, 0);
    wr(f, CR, 1, 0x0c);
    wr(f, TCR, 4, LOOPBACK);
    wr(f, RCR, 4, OURS);
    make_frame(f, mac, ETHERTYPE_IP, 114);
    p[14] = 0x45;
    st_be16(p + 16, 100);
    st_be16(p + 20, 0);
    p[23] = IPPROTO_UDP;
    pseudo = frame_sum(p + 26, 8, IPPROTO_UDP + 80);
    put_desc(f, RX_RING, 0x80000000 | 2000, 0, RX);
    put_desc(f, RX_RING + 16, 0xc0000000 | 2000, 0, RX + 0x1000);
    put_desc(f, TX_RING, 0x80000000 | 0x20000000 | 0x60000 | 40, 0, TX);
    wr(f, TPPOLL, 1, 0x40);
    assert_int_equal(ld_le32(ram(f, RX_RING)) >> 31, 1); /* it waits for the rest */
    put_desc(f, TX_RING + 16, 0xc0000000 | 0x10000000 | 0x60000 | 74, 0, TX + 40);
    wr(f, TPPOLL, 1, 0x40);
    assert_int_equal(ld_le32(ram(f, TX_RING)) >> 31, 0);
    assert_int_equal(ld_le32(ram(f, TX_RING + 16)) >> 28, 5); /* end of ring, last */
    assert_int_equal(ld_le32(ram(f, RX_RING)), 0x30000000u | 0x02000000 | 0x20000 | 118);
    assert_int_equal(frame_sum(ram(f, RX + 14), 20, 0), 0xffff);
    assert_int_equal(frame_sum(ram(f, RX + 34), 80, pseudo), 0xffff);
    assert_int_equal(rd(f, ISR, 2) & 0x85, 0x85);
    wr(f, TSD + 4, 4, 0); /* counters */
    wr(f, TSD, 4, 0x30000 | 8);
    assert_int_equal(rd(f, TSD, 4), 0x30000);
    assert_int_equal(ld_le64(ram(f, 0x30000)), 1);
    assert_int_equal(ld_le64(ram(f, 0x30008)), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_timer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ring_arp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ring_wraps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cplus, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
