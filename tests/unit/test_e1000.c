#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/endian.h"
#include "hw/e1000.h"
#include "frames.h"
#include "testvm.h"

enum { RAM = 0x100000, TX_RING = 0x10000, RX_RING = 0x12000, TX_DATA = 0x20000, RX_DATA = 0x40000 };
enum { RING = 8, RX_STRIDE = 0x1000, ARP_LEN = 42, TURNS = 200, SLOT = 3 };
#define MMIO 0xe0000000ull
enum { /* registers */
       CTRL = 0x00,
       STATUS = 0x08,
       EECD = 0x10,
       EERD = 0x14,
       MDIC = 0x20,
       ICR = 0xc0,
       ITR = 0xc4,
       ICS = 0xc8,
       IMS = 0xd0,
       IMC = 0xd8,
       RCTL = 0x100,
       TCTL = 0x400,
       RDBAL = 0x2800,
       RDLEN = 0x2808,
       RDH = 0x2810,
       RDT = 0x2818,
       TDBAL = 0x3800,
       TDLEN = 0x3808,
       TDH = 0x3810,
       TDT = 0x3818,
       GPTC = 0x4080,
       RXCSUM = 0x5000,
       RAL = 0x5400,
       RAH = 0x5404,
       VFTA = 0x5600
};
enum { RCTL_EN = 2, RCTL_UPE = 8, RCTL_BAM = 0x8000, RCTL_256 = 0x30000, RCTL_LOOP = 0xc0 };

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };

struct fixture {
    struct testvm *t;
};

static uint32_t rd(struct fixture *f, unsigned reg)
{
    return (uint32_t)testvm_read(f->t, MMIO + reg, 4);
}

static void wr(struct fixture *f, unsigned reg, uint32_t val)
{
    testvm_write(f->t, MMIO + reg, 4, val);
}

static int set_up(void **ctx)
{
    struct nic_opts o = { .backend = "user" };
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;

    f->t = testvm_create(RAM);
    bus = testvm_pci(f->t);
    memcpy(o.mac, mac, sizeof(mac));
    assert_int_equal(e1000_create(f->t->vm, bus, PCI_DEVFN(SLOT, 0), "net0", &o, NULL), 0);
    testvm_pci_out(f->t, PCI_DEVFN(SLOT, 0), PCI_BAR0, 4, MMIO);
    testvm_pci_out(f->t, PCI_DEVFN(SLOT, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
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

/* --- rings --- */

static void start(struct fixture *f, uint32_t rctl, unsigned buffers)
{
    wr(f, TDBAL, TX_RING);
    wr(f, TDLEN, RING * 16);
    wr(f, TCTL, 2);
    for (unsigned i = 0; i < RING; i++) {
        st_le64(f->t->ram.hva + RX_RING + 16 * i, RX_DATA + i * RX_STRIDE);
        memset(f->t->ram.hva + RX_RING + 16 * i + 8, 0, 8);
    }
    wr(f, RDBAL, RX_RING);
    wr(f, RDLEN, RING * 16);
    wr(f, RDT, buffers);
    wr(f, RCTL, rctl | RCTL_EN);
}

static void put_desc(struct fixture *f, uint64_t addr, uint64_t word)
{
    uint8_t *d = f->t->ram.hva + TX_RING + 16 * rd(f, TDT);

    st_le64(d, addr);
    st_le64(d + 8, word);
    wr(f, TDT, (rd(f, TDT) + 1) % RING);
}

/* A legacy descriptor with EOP, IFCS and RS, and more flags. */
static void send_legacy(struct fixture *f, unsigned len, uint8_t flags)
{
    put_desc(f, TX_DATA, (uint64_t)(0x0b | flags) << 24 | len);
}

static uint8_t *frame(struct fixture *f)
{
    return f->t->ram.hva + TX_DATA;
}

static const uint8_t *rx_desc(struct fixture *f, unsigned i)
{
    return f->t->ram.hva + RX_RING + 16 * i;
}

static const uint8_t *rx_data(struct fixture *f, unsigned i)
{
    return f->t->ram.hva + RX_DATA + i * RX_STRIDE;
}

static void make_frame(struct fixture *f, const uint8_t to[6], uint16_t type, unsigned len)
{
    memcpy(frame(f), to, 6);
    memcpy(frame(f) + 6, mac, 6);
    st_be16(frame(f) + 12, type);
    for (unsigned i = 14; i < len; i++)
        frame(f)[i] = (uint8_t)(i * 3);
}

static void turns(struct fixture *f, unsigned until_head)
{
    for (int i = 0; i < TURNS && rd(f, RDH) != until_head; i++)
        loop_poll(vm_loop(f->t->vm), 10);
    assert_int_equal(rd(f, RDH), until_head);
}

/* --- what the card is --- */

static void eeprom_bit(struct fixture *f, bool di)
{
    wr(f, EECD, 0x42 | (di ? 4 : 0));
    wr(f, EECD, 0x43 | (di ? 4 : 0));
    wr(f, EECD, 0x42 | (di ? 4 : 0));
}

static uint16_t eeprom_word(struct fixture *f, unsigned addr)
{
    unsigned command = 6u << 6 | addr;
    uint16_t val = 0;

    wr(f, EECD, 0x40);
    assert_true(rd(f, EECD) & 0x80); /* granted */
    wr(f, EECD, 0x42);
    for (int i = 8; i >= 0; i--)
        eeprom_bit(f, command >> i & 1);
    for (unsigned i = 0; i < 16; i++) {
        wr(f, EECD, 0x43);
        val = (uint16_t)(val << 1 | (rd(f, EECD) >> 3 & 1));
        wr(f, EECD, 0x42);
    }
    wr(f, EECD, 0x40);
    return val;
}

static void test_eeprom_and_phy(void **ctx)
{
    struct fixture *f = *ctx;
    uint16_t sum = 0;

    for (unsigned i = 0; i < 64; i++) {
        uint16_t word = eeprom_word(f, i);

        sum = (uint16_t)(sum + word);
        wr(f, EERD, i << 8 | 1);
        assert_int_equal(rd(f, EERD), (uint32_t)word << 16 | i << 8 | 0x10);
        if (i < 3)
            assert_int_equal(word, ld_le16(mac + 2 * i));
    }
    assert_int_equal(sum, 0xbaba);
    assert_int_equal(rd(f, RAL), ld_le32(mac));
    assert_int_equal(rd(f, RAH), 0x80000000u | ld_le16(mac + 4));
    assert_int_equal(rd(f, STATUS) & 3, 3); /* link up, full duplex */
    wr(f, MDIC, 2u << 26 | 1 << 21 | 2 << 16);
    assert_int_equal(rd(f, MDIC) & 0x1000ffff, 0x10000141);
    wr(f, MDIC, 2u << 26 | 1 << 21 | 1 << 16);
    assert_int_equal(rd(f, MDIC) & 0x24, 0x24); /* negotiated, link */
    wr(f, MDIC, 2u << 26 | 2 << 21 | 1 << 16);
    assert_true(rd(f, MDIC) & 0x40000000); /* no such PHY */
}

static void test_interrupts(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, ICS, 4);
    assert_false(testvm_inta(f->t, SLOT));
    wr(f, IMS, 4);
    assert_true(testvm_inta(f->t, SLOT));
    assert_int_equal(rd(f, ICR), 4);
    assert_false(testvm_inta(f->t, SLOT));
    wr(f, ITR, 1000); /* 256 us */
    wr(f, ICS, 4);
    assert_true(testvm_inta(f->t, SLOT));
    assert_int_equal(rd(f, ICR), 4);
    wr(f, ICS, 4);
    assert_false(testvm_inta(f->t, SLOT)); /* too soon */
    clock_advance(vm_clock(f->t->vm), 300000);
    assert_true(testvm_inta(f->t, SLOT));
    wr(f, IMC, 4);
    assert_false(testvm_inta(f->t, SLOT));
    wr(f, CTRL, 1u << 26);
    assert_int_equal(rd(f, ICR), 0);
    assert_int_equal(rd(f, IMS), 0);
}

/* --- frames --- */

static void test_arp(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, RCTL_BAM, RING - 1);
    wr(f, IMS, 0x80);
    frame_arp(frame(f), mac);
    send_legacy(f, ARP_LEN, 0);
    assert_int_equal(rd(f, TDH), 1);
    assert_int_equal(f->t->ram.hva[TX_RING + 12], 1); /* done */
    assert_int_equal(rd(f, GPTC), 1);
    turns(f, 1);
    assert_true(testvm_inta(f->t, SLOT));
    assert_true(ld_le16(rx_desc(f, 0) + 8) >= 64); /* padded, with CRC */
    assert_int_equal(rx_desc(f, 0)[12], 7);        /* done, whole, no checksums */
    assert_memory_equal(rx_data(f, 0), mac, 6);
    assert_int_equal(ld_be16(rx_data(f, 0) + 20), 2); /* a reply */
    assert_true(rd(f, ICR) & 0x81);
}

/* A frame waits for buffers, and one that is not all there for its rest. */
static void test_waits(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, RCTL_BAM, 0);
    frame_arp(frame(f), mac);
    put_desc(f, TX_DATA, 0x08ull << 24 | 20); /* no EOP */
    assert_int_equal(rd(f, TDH), 0);
    put_desc(f, TX_DATA + 20, 0x09ull << 24 | (ARP_LEN - 20));
    assert_int_equal(rd(f, TDH), 2);
    for (int i = 0; i < 20; i++)
        loop_poll(vm_loop(f->t->vm), 5);
    assert_int_equal(rd(f, RDH), 0);
    wr(f, RDT, 4);
    turns(f, 1);
    assert_int_equal(rx_desc(f, 0)[12] & 3, 3);
}

static void test_small_buffers(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, RCTL_LOOP | RCTL_256, RING - 1);
    make_frame(f, mac, 0x88b5, 600);
    send_legacy(f, 600, 0);
    assert_int_equal(rd(f, RDH), 3);
    assert_int_equal(rx_desc(f, 0)[12] & 3, 1);
    assert_int_equal(rx_desc(f, 2)[12] & 3, 3);
    assert_int_equal(ld_le16(rx_desc(f, 1) + 8), 256);
    assert_int_equal(ld_le16(rx_desc(f, 2) + 8), 604 - 512);
    assert_memory_equal(rx_data(f, 0), frame(f), 256);
    assert_memory_equal(rx_data(f, 1), frame(f) + 256, 256);
    assert_memory_equal(rx_data(f, 2), frame(f) + 512, 88);
}

static void test_filters(void **ctx)
{
    static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
    struct fixture *f = *ctx;

    start(f, RCTL_LOOP, RING - 1);
    make_frame(f, other, 0x88b5, 100);
    send_legacy(f, 100, 0);
    assert_int_equal(rd(f, RDH), 0);
    wr(f, RCTL, RCTL_EN | RCTL_LOOP | RCTL_UPE);
    send_legacy(f, 100, 0);
    assert_int_equal(rd(f, RDH), 1);
    wr(f, RCTL, RCTL_EN | RCTL_LOOP | RCTL_UPE | 0x40000); /* VLAN filter */
    make_frame(f, mac, ETHERTYPE_VLAN, 100);
    st_be16(frame(f) + 14, 0x0123);
    send_legacy(f, 100, 0);
    assert_int_equal(rd(f, RDH), 1);
    wr(f, VFTA + 4 * (0x123 / 32), 1u << 0x123 % 32);
    send_legacy(f, 100, 0);
    assert_int_equal(rd(f, RDH), 2);
}

/* The tag goes in, and comes out again. */
static void test_vlan(void **ctx)
{
    struct fixture *f = *ctx;

    wr(f, CTRL, 1u << 30);
    start(f, RCTL_LOOP, RING - 1);
    make_frame(f, mac, 0x88b5, 100);
    put_desc(f, TX_DATA, 0x0123ull << 48 | 0x4bull << 24 | 100);
    assert_int_equal(rd(f, RDH), 1);
    assert_int_equal(rx_desc(f, 0)[12] & 0x0b, 0x0b);
    assert_int_equal(ld_le16(rx_desc(f, 0) + 14), 0x0123);
    assert_int_equal(ld_le16(rx_desc(f, 0) + 8), 104);
    assert_memory_equal(rx_data(f, 0), frame(f), 100);
}

static void test_checksums(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *p = frame(f);
    uint32_t pseudo;

    start(f, RCTL_LOOP, RING - 1);
    wr(f, RXCSUM, 0x300);
    make_frame(f, mac, ETHERTYPE_IP, 114);
    p[14] = 0x45;
    st_be16(p + 16, 100);
    st_be16(p + 20, 0);
    p[23] = IPPROTO_UDP;
    st_be16(p + 24, 0);
    pseudo = frame_sum(p + 26, 8, IPPROTO_UDP + 80);
    st_be16(p + 40, (uint16_t)pseudo);
    put_desc(f, 14 | 24 << 8 | 33 << 16 | 34ull << 32 | 40ull << 40, 0x20ull << 24); /* context */
    put_desc(f, TX_DATA, 0x03ull << 40 | 0x2bull << 24 | 1ull << 20 | 114);
    assert_int_equal(rd(f, RDH), 1);
    assert_int_equal(rx_desc(f, 0)[12], 0x63); /* both sums are good */
    assert_int_equal(frame_sum(rx_data(f, 0) + 14, 20, 0), 0xffff);
    assert_int_equal(frame_sum(rx_data(f, 0) + 34, 80, pseudo), 0xffff);
}

/* Nonsense is passed over, and the card lives on. */
static void test_nonsense(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, RCTL_BAM, RING - 1);
    put_desc(f, 0xfffffffff000, 0x0bull << 24 | 100); /* data nowhere */
    put_desc(f, TX_DATA, 0x0bull << 24 | 3);          /* no header */
    put_desc(f, TX_DATA, 0x2full << 24 | 1ull << 20 | 0xfffff);
    assert_int_equal(rd(f, TDH), 3);
    wr(f, TDT, 0xffff);
    wr(f, TDBAL, 0xfffffff0);
    wr(f, TDT, 5);
    wr(f, RDT, 0xffff);
    wr(f, CTRL, 1u << 26);
    wr(f, TDH, 0);
    wr(f, TDT, 0);
    start(f, RCTL_BAM, RING - 1);
    frame_arp(frame(f), mac);
    send_legacy(f, ARP_LEN, 0);
    turns(f, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_eeprom_and_phy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_small_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_vlan, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checksums, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
