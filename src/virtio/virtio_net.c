/*
 * virtio_net.c: virtio network card (virtio 1.2, 5.1) over net/net.h. One queue pair and a control
 * queue. Checksums and TCP segments above the MTU, which the driver may leave to us, are completed in
 * software. Not modelled: receive offloads, multiqueue, RSS, MTU.
 *
 * Locking: the device lock guards everything; backend callbacks take it on the loop thread. Nothing is
 * ever held between calls: a frame waits in the backend, a buffer in its ring.
 */
#include "virtio/virtio_net.h"

#include <errno.h>
#include <net/ethernet.h>
#include <string.h>

#include "base/endian.h"
#include "net/net.h"
#include "net/offload.h"

enum { VIRTIO_NET_RX, VIRTIO_NET_TX, VIRTIO_NET_CTRL, VIRTIO_NET_QUEUES };
enum {
    VIRTIO_NET_QUEUE_SIZE = 256,
    VIRTIO_NET_MAX_BUFS = 64, /* that one frame may be spread over */
    VIRTIO_NET_CTRL_MAX = 64, /* of a command, what we look at */
};

#define VIRTIO_NET_F_CSUM          BIT64(0)
#define VIRTIO_NET_F_GUEST_CSUM    BIT64(1)
#define VIRTIO_NET_F_MAC           BIT64(5)
#define VIRTIO_NET_F_HOST_TSO4     BIT64(11)
#define VIRTIO_NET_F_HOST_TSO6     BIT64(12)
#define VIRTIO_NET_F_MRG_RXBUF     BIT64(15)
#define VIRTIO_NET_F_STATUS        BIT64(16)
#define VIRTIO_NET_F_CTRL_VQ       BIT64(17)
#define VIRTIO_NET_F_CTRL_RX       BIT64(18)
#define VIRTIO_NET_F_CTRL_MAC_ADDR BIT64(23)

/*
 * struct virtio_net_hdr:
 *   0      1         2        4         6           8            10
 *   flags  gso_type  hdr_len  gso_size  csum_start  csum_offset  num_buffers
 */
enum {
    VIRTIO_NET_HDR_LEN = 12,
    VIRTIO_NET_HDR_CSUM_START = 6,
    VIRTIO_NET_HDR_CSUM_OFFSET = 8,
    VIRTIO_NET_HDR_NUM_BUFFERS = 10,
    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1,
    VIRTIO_NET_HDR_F_DATA_VALID = 2,
    VIRTIO_NET_HDR_GSO_NONE = 0,
};
enum { /* configuration space */
       VIRTIO_NET_CFG_MAC = 0,
       VIRTIO_NET_CFG_STATUS = 6,
       VIRTIO_NET_CFG_LEN = 8,
       VIRTIO_NET_S_LINK_UP = 1,
};
enum { /* control queue */
       VIRTIO_NET_CTRL_CLASS_RX = 0,
       VIRTIO_NET_CTRL_RX_LAST = 5, /* NOBCAST */
       VIRTIO_NET_CTRL_CLASS_MAC = 1,
       VIRTIO_NET_CTRL_MAC_TABLE_SET = 0,
       VIRTIO_NET_CTRL_MAC_ADDR_SET = 1,
       VIRTIO_NET_OK = 0,
       VIRTIO_NET_ERR = 1,
};

struct virtio_net {
    struct virtio v;
    struct net *net;
    uint8_t mac[6]; /* after power-on; the one in use is in v.config */
    struct log_limit log;
    uint8_t frame[VIRTIO_NET_HDR_LEN + NET_FRAME_MAX]; /* scratch: the frame under way */
};

static struct virtio_net *virtio_net_of(struct virtio *v)
{
    return container_of(v, struct virtio_net, v);
}

/* Copies the first len bytes of what the driver offers for reading; how many there were. */
static size_t virtio_net_gather(const struct virtq_elem *el, uint8_t *buf, size_t len)
{
    size_t at = 0;

    for (unsigned i = 0; i < el->n_out && at < len; i++) {
        size_t n = min_u64(el->iov[i].iov_len, len - at);

        memcpy(buf + at, el->iov[i].iov_base, n);
        at += n;
    }
    return at;
}

/* Copies up to len bytes to what the driver offers for writing; how many fitted. */
static size_t virtio_net_scatter(const struct virtq_elem *el, const uint8_t *buf, size_t len)
{
    size_t at = 0;

    for (unsigned i = el->n_out; i < el->n_out + el->n_in && at < len; i++) {
        size_t n = min_u64(el->iov[i].iov_len, len - at);

        memcpy(el->iov[i].iov_base, buf + at, n);
        at += n;
    }
    return at;
}

/* --- transmit ------------------------------------------------------------------------------- */

/* Does the work that the header in n->frame leaves to the card. false: nonsense. */
static bool virtio_net_offload(struct virtio_net *n, size_t len)
{
    const uint8_t *hdr = n->frame;
    uint8_t *frame = n->frame + VIRTIO_NET_HDR_LEN;

    if (hdr[1] != VIRTIO_NET_HDR_GSO_NONE)
        return n->net->ops->big_frames && offload_tcp_segment(frame, len);
    if (hdr[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        return offload_checksum(frame, len, ld_le16(hdr + VIRTIO_NET_HDR_CSUM_START),
                                ld_le16(hdr + VIRTIO_NET_HDR_CSUM_OFFSET));
    return true;
}

/* -EAGAIN: the backend wants no more for now. What makes no sense is dropped, as on a wire. */
static int virtio_net_send(struct virtio_net *n, const struct virtq_elem *el)
{
    struct iovec iov = { .iov_base = n->frame + VIRTIO_NET_HDR_LEN };

    if (el->out_len >= VIRTIO_NET_HDR_LEN + ETHER_HDR_LEN && el->out_len <= sizeof(n->frame)) {
        iov.iov_len = virtio_net_gather(el, n->frame, sizeof(n->frame)) - VIRTIO_NET_HDR_LEN;
        if (virtio_net_offload(n, iov.iov_len))
            return n->net->ops->tx(n->net, &iov, 1);
    }
    log_limited(&n->log, LOG_WARN, "virtio-net", "dropped a malformed frame of %llu bytes",
                (unsigned long long)el->out_len);
    return 0;
}

static void virtio_net_transmit(struct virtio_net *n)
{
    struct virtq_elem el;

    while (virtio_pop(&n->v, VIRTIO_NET_TX, &el)) {
        bool again = virtio_net_send(n, &el) == -EAGAIN;

        if (again)
            virtio_unpop(&n->v, VIRTIO_NET_TX, 1); /* until virtio_net_tx_ready() */
        else
            virtio_push(&n->v, VIRTIO_NET_TX, &el, 0);
        virtq_elem_fini(&el);
        if (again)
            break;
    }
    virtio_interrupt(&n->v, VIRTIO_NET_TX);
}

/* --- receive -------------------------------------------------------------------------------- */

/*
 * Pops buffers for len bytes: how many (0: not enough yet, none popped; -ENOBUFS: will never be enough,
 * none popped).
 */
static int virtio_net_rx_pop(struct virtio_net *n, struct virtq_elem *el, size_t len)
{
    int max = virtio_has(&n->v, VIRTIO_NET_F_MRG_RXBUF) ? VIRTIO_NET_MAX_BUFS : 1;
    uint64_t room = 0;
    int got = 0;

    while (got < max && room < len && virtio_pop(&n->v, VIRTIO_NET_RX, &el[got]))
        room += el[got++].in_len;
    if (room >= len)
        return got;
    for (int i = 0; i < got; i++)
        virtq_elem_fini(&el[i]);
    virtio_unpop(&n->v, VIRTIO_NET_RX, (unsigned)got);
    return got == max ? -ENOBUFS : 0;
}

/* Spreads the frame in n->frame, header and all, over the buffers. */
static void virtio_net_rx_push(struct virtio_net *n, struct virtq_elem *el, int bufs, size_t len)
{
    size_t at = 0;

    memset(n->frame, 0, VIRTIO_NET_HDR_LEN);
    if (virtio_has(&n->v, VIRTIO_NET_F_GUEST_CSUM))
        n->frame[0] = VIRTIO_NET_HDR_F_DATA_VALID; /* it comes from this host, not from a wire */
    st_le16(n->frame + VIRTIO_NET_HDR_NUM_BUFFERS, (uint16_t)bufs);
    for (int i = 0; i < bufs; i++) {
        size_t done = virtio_net_scatter(&el[i], n->frame + at, len - at);

        virtio_push(&n->v, VIRTIO_NET_RX, &el[i], (uint32_t)done);
        virtq_elem_fini(&el[i]);
        at += done;
    }
}

static void virtio_net_fetch(struct virtio_net *n, size_t len)
{
    struct iovec iov = { .iov_base = n->frame + VIRTIO_NET_HDR_LEN, .iov_len = len };

    (void)n->net->ops->rx(n->net, &iov, 1);
}

static void virtio_net_receive(struct virtio_net *n)
{
    struct virtq_elem el[VIRTIO_NET_MAX_BUFS];
    ssize_t len;

    while ((len = n->net->ops->rx_len(n->net)) > 0) {
        size_t total = (size_t)len + VIRTIO_NET_HDR_LEN;
        int bufs = virtio_net_rx_pop(n, el, total);

        if (!bufs && (n->v.status & VIRTIO_DRIVER_OK))
            break; /* it waits for buffers */
        virtio_net_fetch(n, (size_t)len);
        if (bufs > 0)
            virtio_net_rx_push(n, el, bufs, total);
        else if (bufs < 0)
            log_limited(&n->log, LOG_WARN, "virtio-net", "the driver's buffers are too small");
    }
    virtio_interrupt(&n->v, VIRTIO_NET_RX);
}

/* --- control queue -------------------------------------------------------------------------- */

/* Filters are accepted and not applied: a card may always hand over more than it was asked for. */
static uint8_t virtio_net_command(struct virtio_net *n, const uint8_t *cmd, size_t len)
{
    if (len < 3)
        return VIRTIO_NET_ERR;
    if (cmd[0] == VIRTIO_NET_CTRL_CLASS_RX)
        return cmd[1] <= VIRTIO_NET_CTRL_RX_LAST ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    if (cmd[0] != VIRTIO_NET_CTRL_CLASS_MAC)
        return VIRTIO_NET_ERR;
    if (cmd[1] == VIRTIO_NET_CTRL_MAC_ADDR_SET && len == 2 + sizeof(n->mac)) {
        memcpy(n->v.config + VIRTIO_NET_CFG_MAC, cmd + 2, sizeof(n->mac));
        return VIRTIO_NET_OK;
    }
    return cmd[1] == VIRTIO_NET_CTRL_MAC_TABLE_SET ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
}

static void virtio_net_control(struct virtio_net *n)
{
    uint8_t cmd[VIRTIO_NET_CTRL_MAX];
    struct virtq_elem el;

    while (virtio_pop(&n->v, VIRTIO_NET_CTRL, &el)) {
        uint8_t ack = virtio_net_command(n, cmd, virtio_net_gather(&el, cmd, sizeof(cmd)));

        virtio_push(&n->v, VIRTIO_NET_CTRL, &el, (uint32_t)virtio_net_scatter(&el, &ack, 1));
        virtq_elem_fini(&el);
    }
    virtio_interrupt(&n->v, VIRTIO_NET_CTRL);
}

/* --- the device ----------------------------------------------------------------------------- */

static void virtio_net_kick(struct virtio *v, unsigned queue)
{
    struct virtio_net *n = virtio_net_of(v);

    if (queue == VIRTIO_NET_RX)
        virtio_net_receive(n);
    else if (queue == VIRTIO_NET_TX)
        virtio_net_transmit(n);
    else
        virtio_net_control(n);
}

static void virtio_net_on_loop(struct virtio_net *n, unsigned queue)
{
    if (!n->v.dev)
        return; /* not on the bus yet */
    pthread_mutex_lock(&n->v.dev->lock);
    virtio_net_kick(&n->v, queue);
    pthread_mutex_unlock(&n->v.dev->lock);
}

static void virtio_net_rx_ready(void *opaque)
{
    virtio_net_on_loop(opaque, VIRTIO_NET_RX);
}

static void virtio_net_tx_ready(void *opaque)
{
    virtio_net_on_loop(opaque, VIRTIO_NET_TX);
}

static void virtio_net_reset(struct virtio *v)
{
    memcpy(v->config + VIRTIO_NET_CFG_MAC, virtio_net_of(v)->mac, sizeof(virtio_net_of(v)->mac));
}

static void virtio_net_state(struct virtio *v, struct state *s)
{
    state_bytes(s, v->config + VIRTIO_NET_CFG_MAC, sizeof(virtio_net_of(v)->mac));
}

static void virtio_net_destroy(struct virtio *v)
{
    struct virtio_net *n = virtio_net_of(v);

    net_close(n->net);
    free(n);
}

static const struct virtio_class virtio_net_class = {
    .name = "virtio-net",
    .version = 1,
    .id = VIRTIO_ID_NET,
    .pci_class = 0x020000,
    .kick = virtio_net_kick,
    .reset = virtio_net_reset,
    .state = virtio_net_state,
    .destroy = virtio_net_destroy,
};

static void virtio_net_configure(struct virtio_net *n, const struct virtio_net_opts *o)
{
    n->v.offered |= VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_MAC |
                    VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ |
                    VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_MAC_ADDR;
    if (n->net->ops->big_frames)
        n->v.offered |= VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6;
    memcpy(n->mac, o->mac, sizeof(n->mac));
    memcpy(n->v.config + VIRTIO_NET_CFG_MAC, o->mac, sizeof(n->mac));
    st_le16(n->v.config + VIRTIO_NET_CFG_STATUS, VIRTIO_NET_S_LINK_UP);
    n->v.config_len = VIRTIO_NET_CFG_LEN;
}

int virtio_net_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                      const struct virtio_net_opts *o, struct err *e)
{
    struct virtio_net *n = calloc(1, sizeof(*n));
    struct net_opts net = {
        .loop = vm_loop(vm),
        .cfg = o->cfg,
        .rx_ready = virtio_net_rx_ready,
        .tx_ready = virtio_net_tx_ready,
        .opaque = n,
    };
    int rc;

    if (!n) {
        err_oom(e);
        return -ENOMEM;
    }
    n->net = net_open(o->backend, &net, e);
    if (!n->net) {
        free(n);
        return e && e->code ? -e->code : -EIO;
    }
    virtio_init(&n->v, &virtio_net_class, vm_mem(vm), VIRTIO_NET_QUEUES, VIRTIO_NET_QUEUE_SIZE);
    virtio_net_configure(n, o);
    rc = virtio_pci_add(bus, &n->v, devfn, id, e);
    if (rc)
        virtio_net_destroy(&n->v);
    return rc;
}
