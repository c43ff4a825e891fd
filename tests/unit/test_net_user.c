#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "net/net.h"
#include "vm/config.h"

enum { IP_OFF = 14, IP_LEN = 20, UDP_LEN = 8, PAYLOAD = IP_OFF + IP_LEN + UDP_LEN, TURNS = 300 };

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

struct fixture {
    struct loop *loop;
    struct vm_config cfg;
    struct net *net;
    int rx_ready, tx_ready;
    uint8_t frame[2048]; /* the last one received */
    size_t len;
};

static void on_rx(void *opaque)
{
    ((struct fixture *)opaque)->rx_ready++;
}

static void on_tx(void *opaque)
{
    ((struct fixture *)opaque)->tx_ready++;
}

static struct net *open_net(struct fixture *f, struct err *e)
{
    struct net_opts o = {
        .loop = f->loop,
        .cfg = &f->cfg,
        .rx_ready = on_rx,
        .tx_ready = on_tx,
        .opaque = f,
    };

    return net_open("user", &o, e);
}

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->loop = loop_create(NULL);
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    net_close(f->net);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static void send_frame(struct fixture *f, const void *p, size_t len)
{
    struct iovec iov[2] = { { (void *)p, 6 }, { (char *)p + 6, len - 6 } };

    assert_int_equal(f->net->ops->tx(f->net, iov, 2), 0);
}

/* Runs the loop until a frame arrives for which wanted() is true; others are dropped. */
static bool receive(struct fixture *f, bool (*wanted)(const uint8_t *p))
{
    for (int i = 0; i < TURNS; i++) {
        struct iovec iov[2] = { { f->frame, 10 }, { f->frame + 10, sizeof(f->frame) - 10 } };
        ssize_t want = f->net->ops->rx_len(f->net);

        if (!want) {
            loop_poll(f->loop, 10);
            continue;
        }
        f->len = (size_t)f->net->ops->rx(f->net, iov, 2);
        assert_int_equal(f->len, want);
        if (wanted(f->frame))
            return true;
    }
    return false;
}

static uint16_t checksum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i += 2)
        sum += ld_be16(p + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Ethernet, IPv4 and UDP headers before len bytes of payload that are in place already. */
static size_t make_udp(uint8_t *p, const char *src, const char *dst, uint16_t sport, uint16_t dport,
                       size_t len)
{
    uint8_t *ip = p + IP_OFF, *udp = ip + IP_LEN;

    memset(p, 0xff, 6);
    memcpy(p + 6, guest_mac, 6);
    st_be16(p + 12, ETHERTYPE_IP);
    memset(ip, 0, IP_LEN + UDP_LEN);
    ip[0] = 0x45;
    st_be16(ip + 2, (uint16_t)(IP_LEN + UDP_LEN + len));
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    inet_pton(AF_INET, src, ip + 12);
    inet_pton(AF_INET, dst, ip + 16);
    st_be16(ip + 10, checksum(ip, IP_LEN, 0));
    st_be16(udp, sport);
    st_be16(udp + 2, dport);
    st_be16(udp + 4, (uint16_t)(UDP_LEN + len)); /* checksum 0: none */
    return PAYLOAD + len;
}

static void arp(struct fixture *f, uint16_t op, const char *target)
{
    uint8_t p[60] = { 0 };

    memset(p, 0xff, 6);
    memcpy(p + 6, guest_mac, 6);
    st_be16(p + 12, ETHERTYPE_ARP);
    memcpy(p + 14, "\0\1\x08\0\6\4", 6);
    st_be16(p + 20, op);
    memcpy(p + 22, guest_mac, 6);
    inet_pton(AF_INET, "10.0.2.15", p + 28);
    inet_pton(AF_INET, target, p + 38);
    send_frame(f, p, sizeof(p));
}

static bool is_arp_reply(const uint8_t *p)
{
    return ld_be16(p + 12) == ETHERTYPE_ARP && ld_be16(p + 20) == 2;
}

static bool is_udp(const uint8_t *p)
{
    return ld_be16(p + 12) == ETHERTYPE_IP && p[IP_OFF + 9] == IPPROTO_UDP;
}

static bool is_tcp_syn(const uint8_t *p)
{
    return ld_be16(p + 12) == ETHERTYPE_IP && p[IP_OFF + 9] == IPPROTO_TCP &&
           p[IP_OFF + IP_LEN + 13] == 2;
}

static bool is_router_advertisement(const uint8_t *p)
{
    return ld_be16(p + 12) == ETHERTYPE_IPV6 && p[20] == IPPROTO_ICMPV6 && p[54] == 134;
}

static const uint8_t *dhcp_option(const struct fixture *f, uint8_t code)
{
    const uint8_t *p = f->frame + PAYLOAD + 240, *end = f->frame + f->len;

    while (p < end && *p != 255 && *p != code)
        p += *p ? p[1] + 2 : 1;
    return p < end && *p == code ? p + 2 : NULL;
}

static void test_dhcp(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t p[400] = { 0 }, *d = p + PAYLOAD;
    struct in_addr a;
    size_t len;

    f->net = open_net(f, NULL);
    memcpy(d, "\1\1\6\0", 4);
    st_be32(d + 4, 0x12345678);
    memcpy(d + 28, guest_mac, 6);
    memcpy(d + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8); /* discover */
    len = make_udp(p, "0.0.0.0", "255.255.255.255", 68, 67, 300);
    send_frame(f, p, len);
    assert_true(receive(f, is_udp));
    assert_true(f->rx_ready > 0);
    assert_int_equal(dhcp_option(f, 53)[0], 2); /* offer */
    memcpy(&a, f->frame + PAYLOAD + 16, 4);
    assert_string_equal(inet_ntoa(a), "10.0.2.15");
    memcpy(&a, dhcp_option(f, 3), 4);
    assert_string_equal(inet_ntoa(a), "10.0.2.2");
    assert_non_null(dhcp_option(f, 6));
}

static void test_arp(void **ctx)
{
    struct fixture *f = *ctx;

    f->net = open_net(f, NULL);
    arp(f, 1, "10.0.2.2");
    assert_true(receive(f, is_arp_reply));
    assert_memory_equal(f->frame, guest_mac, 6);
}

static void test_ipv6_router(void **ctx)
{
    uint8_t p[70] = { 0x33, 0x33, 0, 0, 0, 2 };
    struct fixture *f = *ctx;

    f->net = open_net(f, NULL);
    memcpy(p + 6, guest_mac, 6);
    st_be16(p + 12, ETHERTYPE_IPV6);
    p[14] = 0x60;
    st_be16(p + 18, 8);
    p[20] = IPPROTO_ICMPV6;
    p[21] = 255;
    inet_pton(AF_INET6, "fe80::1234", p + 22);
    inet_pton(AF_INET6, "ff02::2", p + 38);
    p[54] = 133;                                               /* router solicitation */
    st_be16(p + 56, checksum(p + 22, 40, IPPROTO_ICMPV6 + 8)); /* addresses and message */
    send_frame(f, p, 62);
    assert_true(receive(f, is_router_advertisement));
}

static int host_socket(int type, uint16_t *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, type, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* The guest talks to a service of the host, and hears its answer. */
static void test_udp_to_host(void **ctx)
{
    struct fixture *f = *ctx;
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    uint8_t p[128];
    char buf[16] = "";
    uint16_t port;
    int fd = host_socket(SOCK_DGRAM | SOCK_NONBLOCK, &port);

    f->net = open_net(f, NULL);
    arp(f, 1, "10.0.2.2");
    assert_true(receive(f, is_arp_reply));
    memcpy(p + PAYLOAD, "ping", 4);
    send_frame(f, p, make_udp(p, "10.0.2.15", "10.0.2.2", 5000, port, 4));
    for (int i = 0; i < TURNS && !buf[0]; i++) {
        loop_poll(f->loop, 10);
        (void)!recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &from_len);
    }
    assert_string_equal(buf, "ping");
    assert_int_equal(sendto(fd, "pong", 4, 0, (struct sockaddr *)&from, from_len), 4);
    assert_true(receive(f, is_udp));
    assert_memory_equal(f->frame + PAYLOAD, "pong", 4);
    assert_int_equal(ld_be16(f->frame + IP_OFF + IP_LEN + 2), 5000);
    close(fd);
}

static void add_forward(struct fixture *f, bool udp, const char *addr, uint16_t port)
{
    struct config_forward *fw = &f->cfg.forward[f->cfg.n_forwards++];

    *fw = (struct config_forward){ .udp = udp, .host_port = port, .guest_port = 80 };
    snprintf(fw->host_addr, sizeof(fw->host_addr), "%s", addr);
}

static void test_forward(void **ctx)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct fixture *f = *ctx;
    uint16_t port;
    int fd;

    close(host_socket(SOCK_STREAM, &port));
    add_forward(f, false, "127.0.0.1", port);
    f->net = open_net(f, NULL);
    assert_non_null(f->net);
    arp(f, 1, "10.0.2.2"); /* so that our address is known */
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    a.sin_port = htons(port);
    (void)connect(fd, (struct sockaddr *)&a, sizeof(a));
    assert_true(receive(f, is_tcp_syn));
    assert_int_equal(ld_be16(f->frame + IP_OFF + IP_LEN + 2), 80);
    close(fd);
}

static void test_port_taken(void **ctx)
{
    struct fixture *f = *ctx;
    char port_text[16], self[32];

    snprintf(self, sizeof(self), "process %d", getpid());
    for (int udp = 0; udp < 2; udp++) {
        struct err e = { 0 };
        uint16_t port;
        int fd = host_socket(udp ? SOCK_DGRAM : SOCK_STREAM, &port);

        if (!udp)
            assert_int_equal(listen(fd, 1), 0);
        f->cfg.n_forwards = 0;
        add_forward(f, udp, "127.0.0.1", port);
        assert_null(open_net(f, &e));
        assert_int_equal(e.code, EADDRINUSE);
        snprintf(port_text, sizeof(port_text), "port %u ", port);
        assert_non_null(strstr(e.msg, port_text));
        assert_non_null(strstr(e.msg, self));
        close(fd);
    }
}

static void test_bad_options(void **ctx)
{
    static const char *const addrs[] = { "::1", "nonsense", "203.0.113.77" };
    struct fixture *f = *ctx;
    struct net_opts o = { .loop = f->loop };
    struct err e = { 0 };

    assert_null(net_open("token-ring", &o, &e));
    assert_int_equal(e.code, EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
        f->cfg.n_forwards = 0;
        add_forward(f, false, addrs[i], 40001);
        e = (struct err){ 0 };
        assert_null(open_net(f, &e));
        assert_non_null(strstr(e.msg, addrs[i]));
    }
}

/* A guest that sends without end is told to wait, and later to go on. */
static void test_tx_is_bounded(void **ctx)
{
    static uint8_t p[1514] = { 0xff };
    struct fixture *f = *ctx;
    struct iovec iov = { p, sizeof(p) };
    int rc = 0, n = 0;

    f->net = open_net(f, NULL);
    while (!rc && n++ < 100000)
        rc = f->net->ops->tx(f->net, &iov, 1);
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(f->tx_ready, 0);
    for (int i = 0; i < TURNS && !f->tx_ready; i++)
        loop_poll(f->loop, 10);
    assert_int_equal(f->tx_ready, 1);
    assert_int_equal(f->net->ops->tx(f->net, &iov, 1), 0);
    iov.iov_len = 100000;
    assert_int_equal(f->net->ops->tx(f->net, &iov, 1), -EMSGSIZE);
}

static void test_rx_disable(void **ctx)
{
    struct fixture *f = *ctx;

    f->net = open_net(f, NULL);
    f->net->ops->rx_enable(f->net, false);
    arp(f, 1, "10.0.2.2");
    for (int i = 0; i < TURNS && !f->net->ops->rx_len(f->net); i++)
        loop_poll(f->loop, 10);
    assert_true(f->net->ops->rx_len(f->net) > 0);
    assert_int_equal(f->rx_ready, 0);
    f->net->ops->rx_enable(f->net, true);
    loop_poll(f->loop, 10);
    assert_int_equal(f->rx_ready, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dhcp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipv6_router, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_to_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward, setup, teardown),
        cmocka_unit_test_setup_teardown(test_port_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tx_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rx_disable, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
