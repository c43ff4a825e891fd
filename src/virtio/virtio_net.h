/*
 * virtio_net.h: virtio network card (virtio 1.2, 5.1).
 */
#ifndef VIRTIO_VIRTIO_NET_H
#define VIRTIO_VIRTIO_NET_H

#include "virtio/virtio_pci.h"

struct vm_config;
struct virtio_net_opts {
    const char *backend;         /* "user", as for net_open() */
    const struct vm_config *cfg; /* the backend's; NULL: defaults */
    uint8_t mac[6];
};

/* Opens the backend, which the card then owns, and puts the card on the bus. Set-up time only. */
must_check int virtio_net_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                                 const struct virtio_net_opts *o, struct err *e);

#endif
