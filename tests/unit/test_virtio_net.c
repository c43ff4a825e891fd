#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/virtio_net.h"
#include "frames.h"
#include "virtio_driver.h"

enum {
    RAM = 0x100000,
    RX_RING = 0x10000,
    TX_RING = 0x20000,
    CTRL_RING = 0x30000,
    RX_DATA = 0x40000,
    TX_DATA = 0x60000,
    SIZE = 32,
    HDR = 12,
    TURNS = 200,
    SLOT = PCI_DEVFN(3, 0),
};
#define F_CSUM       BIT64(0)
#define F_GUEST_CSUM BIT64(1)
#define F_HOST_TSO4  BIT64(11)
#define F_MRG_RXBUF  BIT64(15)
#define F_CTRL_VQ    BIT64(17)
#define F_BASE       (VIRTIO_F_VERSION_1 | F_CSUM | F_GUEST_CSUM | F_CTRL_VQ)

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };

struct fixture {
    struct testvm *t;
    struct pci_bus *bus;
    struct vdrv d;
    struct vring rx, tx, ctrl;
};

static int set_up(void **ctx)
{
    struct virtio_net_opts o = { .backend = "user" };
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    f->t = testvm_create(RAM);
    f->bus = testvm_pci(f->t);
    memcpy(o.mac, mac, sizeof(mac));
    assert_int_equal(virtio_net_create(f->t->vm, f->bus, SLOT, "net0", &o, &e), 0);
    f->d = vdrv_find(f->t, f->bus, SLOT);
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

static void start(struct fixture *f, uint64_t features)
{
    f->rx = vring_at(f->t, RX_RING, SIZE);
    f->tx = vring_at(f->t, TX_RING, SIZE);
    f->ctrl = vring_at(f->t, CTRL_RING, SIZE);
    assert_true(vdrv_negotiate(&f->d, features));
    vdrv_set_queue(&f->d, 0, &f->rx, VIRTQ_NO_VECTOR);
    vdrv_set_queue(&f->d, 1, &f->tx, VIRTQ_NO_VECTOR);
    vdrv_set_queue(&f->d, 2, &f->ctrl, VIRTQ_NO_VECTOR);
    vdrv_start(&f->d);
}

/* Receive buffers [first, first + n) of len bytes. */
static void offer_rx(struct fixture *f, unsigned first, unsigned n, uint32_t len)
{
    for (unsigned i = first; i < first + n; i++) {
        vring_desc(&f->rx, i, RX_DATA + i * 0x800, len, VRING_WRITE, 0);
        vring_offer(&f->rx, (uint16_t)i);
    }
    vdrv_kick(&f->d, 0);
}

/* Sends what lies at TX_DATA, header included, as two descriptors. */
static void send_tx(struct fixture *f, uint32_t len)
{
    uint16_t before = vring_used_idx(&f->tx);

    vring_desc(&f->tx, 0, TX_DATA, 20, VRING_NEXT, 1);
    vring_desc(&f->tx, 1, TX_DATA + 20, len - 20, 0, 0);
    vring_offer(&f->tx, 0);
    vdrv_kick(&f->d, 1);
    assert_int_equal((uint16_t)(vring_used_idx(&f->tx) - before), 1);
}

static uint8_t *tx_frame(struct fixture *f)
{
    memset(f->t->ram.hva + TX_DATA, 0, HDR);
    return f->t->ram.hva + TX_DATA + HDR;
}

static void send_arp(struct fixture *f)
{
    frame_arp(tx_frame(f), mac);
    send_tx(f, HDR + FRAME_ARP_LEN);
}

static void turns(struct fixture *f, uint16_t until)
{
    for (int i = 0; i < TURNS && vring_used_idx(&f->rx) < until; i++)
        loop_poll(vm_loop(f->t->vm), 10);
}

static const uint8_t *rx_buf(struct fixture *f, unsigned i)
{
    return f->t->ram.hva + RX_DATA + i * 0x800;
}

static void test_config(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t offered = vdrv_offered(&f->d);

    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + i, 1), mac[i]);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 6, 2), 1); /* link is up */
    assert_int_equal(offered & (F_BASE | F_MRG_RXBUF | F_HOST_TSO4),
                     F_BASE | F_MRG_RXBUF | F_HOST_TSO4);
    assert_int_equal(offered & (BIT64(7) | BIT64(8) | BIT64(10)), 0); /* no receive offloads */
}

static void test_round_trip(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, F_BASE);
    offer_rx(f, 0, 1, 2000);
    send_arp(f);
    turns(f, 1);
    assert_int_equal(vring_used_idx(&f->rx), 1);
    assert_in_range(vring_used_len(&f->rx, 0), HDR + 42, HDR + 64);
    assert_int_equal(rx_buf(f, 0)[0], 2); /* data is valid */
    assert_int_equal(ld_le16(rx_buf(f, 0) + 10), 1);
    assert_memory_equal(rx_buf(f, 0) + HDR, mac, 6);
    assert_int_equal(ld_be16(rx_buf(f, 0) + HDR + 20), 2); /* ARP reply */
}

/* Small buffers are merged; with too few of them the frame waits, and no buffer is used up. */
static void test_mergeable(void **ctx)
{
    struct fixture *f = *ctx;
    uint32_t total = 0;

    start(f, F_BASE | F_MRG_RXBUF);
    offer_rx(f, 0, 2, 16);
    send_arp(f);
    for (int i = 0; i < 5; i++)
        loop_poll(vm_loop(f->t->vm), 10);
    assert_int_equal(vring_used_idx(&f->rx), 0);
    offer_rx(f, 2, 3, 16);
    assert_true(vring_used_idx(&f->rx) >= 4);
    assert_int_equal(ld_le16(rx_buf(f, 0) + 10), vring_used_idx(&f->rx));
    for (uint16_t i = 0; i < vring_used_idx(&f->rx); i++) {
        assert_int_equal(vring_used_id(&f->rx, i), i);
        total += vring_used_len(&f->rx, i);
    }
    assert_in_range(total, HDR + 42, HDR + 64);
}

static void test_buffer_too_small(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, F_BASE);
    offer_rx(f, 0, 1, 30);
    send_arp(f);
    for (int i = 0; i < 5; i++)
        loop_poll(vm_loop(f->t->vm), 10);
    assert_int_equal(vring_used_idx(&f->rx), 0); /* the frame is lost, the buffer is not */
    assert_int_equal(vdrv_status(&f->d) & VIRTIO_NEEDS_RESET, 0);
}

static void test_malformed_frames(void **ctx)
{
    static const uint32_t lens[] = { 21, HDR + 13, HDR + 14 };
    struct fixture *f = *ctx;
    uint8_t *hdr = f->t->ram.hva + TX_DATA;

    start(f, F_BASE | F_HOST_TSO4);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        tx_frame(f);
        send_tx(f, lens[i]);
        hdr[0] = 1; /* a checksum outside of the frame */
        st_le16(hdr + 6, 0xfff0);
        st_le16(hdr + 8, 0xffff);
        send_tx(f, lens[i]);
        hdr[1] = 1; /* a segment that is none */
        send_tx(f, lens[i]);
        hdr[1] = 0xff;
        send_tx(f, lens[i]);
    }
    vring_desc(&f->tx, 0, TX_DATA, 70000, 0, 0); /* longer than any frame */
    vring_offer(&f->tx, 0);
    vdrv_kick(&f->d, 1);
    assert_int_equal(vring_used_idx(&f->tx), 4 * ARRAY_SIZE(lens) + 1);
    assert_int_equal(vdrv_status(&f->d) & VIRTIO_NEEDS_RESET, 0);
}

/* A UDP datagram whose checksums are left to the card reaches a socket of the host. */
static void test_checksum_offload(void **ctx)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct fixture *f = *ctx;
    socklen_t len = sizeof(a);
    char buf[16] = "";
    uint32_t sum = 0;
    uint8_t *p, *hdr;

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    start(f, F_BASE);
    p = tx_frame(f);
    hdr = p - HDR;
    memset(p, 0, 64);
    memset(p, 0xff, 6);
    memcpy(p + 6, mac, 6);
    st_be16(p + 12, ETHERTYPE_IP);
    memcpy(p + 14, "\x45\0\0\x21\0\0\0\0\x40\x11", 10);
    inet_pton(AF_INET, "10.0.2.15", p + 26);
    inet_pton(AF_INET, "10.0.2.2", p + 30);
    for (int i = 14; i < 34; i += 2)
        sum += ld_be16(p + i);
    st_be16(p + 24, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
    st_be16(p + 34, 5000);
    memcpy(p + 36, &a.sin_port, 2);
    st_be16(p + 38, 13);
    memcpy(p + 42, "hello", 5);
    sum = IPPROTO_UDP + 13;
    for (int i = 26; i < 34; i += 2)
        sum += ld_be16(p + i);
    st_be16(p + 40, (uint16_t)((sum & 0xffff) + (sum >> 16))); /* the pseudo header's */
    hdr[0] = 1;
    st_le16(hdr + 6, 34);
    st_le16(hdr + 8, 6);
    send_tx(f, HDR + 47);
    for (int i = 0; i < TURNS && recv(fd, buf, sizeof(buf), 0) < 0; i++)
        loop_poll(vm_loop(f->t->vm), 10);
    assert_string_equal(buf, "hello");
    close(fd);
}

static uint8_t control(struct fixture *f, const void *cmd, uint32_t len)
{
    uint8_t *ram = f->t->ram.hva + TX_DATA;

    memcpy(ram, cmd, len);
    ram[0x100] = 0xee;
    vring_desc(&f->ctrl, 0, TX_DATA, len, VRING_NEXT, 1);
    vring_desc(&f->ctrl, 1, TX_DATA + 0x100, 1, VRING_WRITE, 0);
    vring_offer(&f->ctrl, 0);
    vdrv_kick(&f->d, 2);
    return ram[0x100];
}

static void test_control_queue(void **ctx)
{
    struct fixture *f = *ctx;

    start(f, F_BASE);
    assert_int_equal(control(f, "\0\0\1", 3), 0);                /* promiscuous */
    assert_int_equal(control(f, "\1\0\0\0\0\0\0\0\0\0", 10), 0); /* MAC table */
    assert_int_equal(control(f, "\1\1\2\2\2\2\2\2", 8), 0);      /* MAC */
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 4), 0x02020202);
    assert_int_equal(control(f, "\1\1\2", 3), 1);
    assert_int_equal(control(f, "\7\1\2", 3), 1);
    assert_int_equal(control(f, "\7", 1), 1);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 1), mac[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mergeable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_buffer_too_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checksum_offload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_control_queue, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
