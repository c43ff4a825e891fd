#include "hw/nic.h"

#include <errno.h>
#include <string.h>

#include "net/offload.h"

static void nic_on_loop(struct nic *n, void (*call)(struct nic *n))
{
    if (!n->pci)
        return;
    pthread_mutex_lock(&n->pci->dev.lock);
    if (!n->quiesced)
        call(n);
    pthread_mutex_unlock(&n->pci->dev.lock);
}

static void nic_rx_ready(void *opaque)
{
    nic_on_loop(opaque, ((struct nic *)opaque)->receive);
}

static void nic_tx_ready(void *opaque)
{
    nic_on_loop(opaque, ((struct nic *)opaque)->transmit);
}

int nic_add(struct nic *n, struct pci_bus *bus, struct pci_dev *p, unsigned devfn,
            const struct nic_opts *o, struct err *e)
{
    const struct net_opts net = {
        .loop = vm_loop(p->dev.vm),
        .cfg = o->cfg,
        .rx_ready = nic_rx_ready,
        .tx_ready = nic_tx_ready,
        .opaque = n,
    };
    int rc;

    n->net = net_open(o->backend, &net, e);
    if (!n->net)
        return e && e->code ? -e->code : -EIO;
    if (o->rom)
        pci_add_rom(p, o->rom, o->rom_len);
    rc = pci_add(bus, p, devfn, e);
    if (rc) {
        net_close(n->net);
        return rc;
    }
    n->rom = o->rom;
    n->pci = p;
    return 0;
}

void nic_fini(struct nic *n)
{
    net_close(n->net);
    free(n->rom);
}

void nic_quiesce(struct nic *n)
{
    pthread_mutex_lock(&n->pci->dev.lock);
    n->quiesced = true;
    pthread_mutex_unlock(&n->pci->dev.lock);
}

void nic_resume(struct nic *n)
{
    n->quiesced = false;
    n->transmit(n);
    n->receive(n);
}

bool nic_active(const struct nic *n)
{
    return !n->quiesced && pci_bus_master(n->pci);
}

bool nic_send(struct nic *n, size_t len)
{
    const struct iovec iov = { n->frame, len };

    return n->net->ops->tx(n->net, &iov, 1) != -EAGAIN;
}

/* Once the first packet is out, a backend that wants no more loses the rest, as a wire would. */
static bool nic_send_packets(struct nic *n, size_t len, size_t header, size_t mss)
{
    for (size_t at = 0; header + at < len; at += mss) {
        struct iovec iov = { n->packet, 0 };

        iov.iov_len = offload_tcp_packet(n->frame, len, header, mss, at, n->packet);
        if (!iov.iov_len)
            return true;
        if (n->net->ops->tx(n->net, &iov, 1) == -EAGAIN)
            return at > 0;
    }
    return true;
}

bool nic_send_segment(struct nic *n, size_t len, size_t header, size_t mss)
{
    if (mss && header <= len && header + mss <= sizeof(n->packet)) {
        if (!n->net->ops->big_frames)
            return nic_send_packets(n, len, header, mss);
        if (offload_tcp_segment(n->frame, len))
            return nic_send(n, len);
    }
    log_limited(&n->log, LOG_WARN, "net", "dropped a malformed segment of %zu bytes", len);
    return true;
}

size_t nic_next_len(struct nic *n)
{
    ssize_t len = n->net->ops->rx_len(n->net);

    return len > 0 ? (size_t)max_u64((uint64_t)len, NIC_FRAME_MIN) : 0;
}

size_t nic_fetch(struct nic *n)
{
    const struct iovec iov = { n->frame, sizeof(n->frame) };
    ssize_t len = n->net->ops->rx(n->net, &iov, 1);

    if (len <= 0)
        return 0;
    if (len >= NIC_FRAME_MIN)
        return (size_t)len;
    memset(n->frame + len, 0, NIC_FRAME_MIN - (size_t)len);
    return NIC_FRAME_MIN;
}

uint32_t nic_hash(const uint8_t addr[6])
{
    uint32_t crc = UINT32_MAX;

    for (unsigned i = 0; i < 48; i++) {
        bool bit = (crc >> 31) ^ (addr[i / 8] >> (i % 8) & 1);

        crc = crc << 1 ^ (bit ? 0x04c11db7u : 0);
    }
    return crc;
}

bool nic_is_broadcast(const uint8_t addr[6])
{
    static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    return !memcmp(addr, all, sizeof(all));
}
