/*
 * fuzz_net.c: Ethernet frames of any bytes into the user network, whose sockets lead nowhere, and through
 * the offload code. What comes back is read with buffers of odd sizes.
 *
 * Input: {kind and length (2 bytes), frame}; kinds that are valid down to a protocol save the fuzzer the
 * checksums.
 */
#include "fuzz.h"

#include <errno.h>
#include <net/ethernet.h>
#include <netinet/in.h>

#include "net/net.h"
#include "net/offload.h"
#include "vm/config.h"

enum { MAX_FRAMES = 64, IP_LEN = 20, ETH_LEN = 14, POLLS = 2 };

static struct fuzz_net {
    struct loop *loop;
    struct vm_config cfg;
    struct net *net;
    uint8_t frame[4096 + ETH_LEN + IP_LEN];
} fuzz_net;

static void fuzz_net_ready(void *opaque)
{
    (void)opaque;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct fuzz_net *f = &fuzz_net;

    (void)argc;
    (void)argv;
    fuzz_confine();
    f->loop = loop_create(NULL);
    config_init(&f->cfg);
    return 0;
}

static void fuzz_net_open(struct fuzz_net *f)
{
    struct net_opts o = { .loop = f->loop,
                          .cfg = &f->cfg,
                          .rx_ready = fuzz_net_ready,
                          .tx_ready = fuzz_net_ready,
                          .opaque = f };
    struct err e = { 0 };

    f->net = net_open("user", &o, &e);
    BUG_ON(!f->net);
}

static void fuzz_net_drain(struct fuzz_net *f)
{
    ssize_t len;

    for (unsigned i = 0; i < POLLS; i++)
        loop_poll(f->loop, 0);
    while ((len = f->net->ops->rx_len(f->net)) > 0) {
        uint8_t buf[NET_FRAME_MAX];
        struct iovec iov[2] = { { buf, (size_t)len / 3 },
                                { buf + len / 3, (size_t)(len - len / 3) } };

        BUG_ON(f->net->ops->rx(f->net, iov, 2) != len);
    }
}

/* IPv4 from the guest to the gateway or the name server, correct checksums. Returns its length. */
static size_t fuzz_net_ip4(uint8_t *frame, unsigned kind, size_t len)
{
    static const uint8_t head[] = {
        0x52, 0x55, 10, 0, 2, 2,  0x52, 0x54, 0, 1,  2, 3, 8,  0,  0x45, 0, 0,
        0,    0,    1,  0, 0, 64, 0,    0,    0, 10, 0, 2, 15, 10, 0,    2, 2,
    };
    static const uint8_t protocols[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_UDP };
    uint8_t *ip = frame + ETH_LEN;
    bool ok;

    memcpy(frame, head, sizeof(head));
    ip[9] = protocols[kind & 3];
    ip[19] = (uint8_t)(2 + (kind >> 2 & 1));
    st_be16(ip + 2, (uint16_t)(IP_LEN + len));
    ok = offload_checksum(frame, ETH_LEN + IP_LEN, ETH_LEN, 10);
    if (ok && ip[9] == IPPROTO_UDP && len >= 8) {
        st_be16(ip + IP_LEN + 4, (uint16_t)len);
        st_be16(ip + IP_LEN + 6, 0); /* no checksum */
        if (kind & 1)
            memcpy(ip + IP_LEN, (const uint8_t[]){ 0, 68, 0, 67 }, 4); /* DHCP */
    } else if (ok && ip[9] == IPPROTO_TCP) {
        ok = offload_tcp_segment(frame, ETH_LEN + IP_LEN + len);
    } else if (ok && len >= 4) {
        st_be16(ip + IP_LEN + 2, 0);
        ok = offload_checksum(frame, ETH_LEN + IP_LEN + len, ETH_LEN + IP_LEN, 2);
    }
    return ok ? ETH_LEN + IP_LEN + len : 0;
}

static void fuzz_net_one(struct fuzz_net *f, struct fuzz_input *in)
{
    uint16_t head = fuzz_u16(in);
    unsigned kind = head >> 12;
    size_t len = min_u64(head & 0xfff, in->len), at = kind & 8 ? ETH_LEN + IP_LEN : 0;
    struct iovec iov[2];
    bool ok = true;

    fuzz_bytes(in, f->frame + at, len);
    if (kind & 8)
        len = fuzz_net_ip4(f->frame, kind, len);
    else if (kind & 4)
        ok = offload_tcp_segment(f->frame, len);
    else if (kind & 2)
        ok = offload_checksum(f->frame, len, f->frame[0], f->frame[1]);
    (void)ok;
    iov[0] = (struct iovec){ f->frame, len / 2 };
    iov[1] = (struct iovec){ f->frame + len / 2, len - len / 2 };
    if (f->net->ops->tx(f->net, iov, 2) == -EAGAIN || (kind & 1))
        fuzz_net_drain(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_net *f = &fuzz_net;
    struct fuzz_input in = { data, len };

    fuzz_net_open(f);
    for (unsigned i = 0; in.len && i < MAX_FRAMES; i++)
        fuzz_net_one(f, &in);
    fuzz_net_drain(f);
    net_close(f->net);
    return 0;
}
