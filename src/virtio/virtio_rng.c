/*
 * virtio_rng.c: see virtio_rng.h. A buffer is filled at once: getrandom() does not block once the host
 * is up. No state of its own: clones get different numbers by nature.
 */
#include "virtio/virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

enum { VRNG_QUEUE_SIZE = 8, VRNG_MAX = 64 * KIB }; /* a driver that wants more asks again */

static size_t vrng_fill(const struct virtq_elem *el)
{
    size_t total = 0;

    for (unsigned i = el->n_out; i < el->n_out + el->n_in && total < VRNG_MAX; i++) {
        size_t want = min_u64(el->iov[i].iov_len, VRNG_MAX - total), got = 0;

        while (got < want) {
            ssize_t n = getrandom((char *)el->iov[i].iov_base + got, want - got, 0);

            if (n < 0 && errno != EINTR)
                return total + got;
            got += n > 0 ? (size_t)n : 0;
        }
        total += got;
    }
    return total;
}

static void vrng_kick(struct virtio *v, unsigned queue)
{
    struct virtq_elem el;

    while (virtio_pop(v, queue, &el)) {
        virtio_push(v, queue, &el, (uint32_t)vrng_fill(&el));
        virtq_elem_fini(&el);
    }
    virtio_interrupt(v, queue);
}

static const struct virtio_class vrng_class = {
    .name = "virtio-rng",
    .version = 1,
    .id = VIRTIO_ID_RNG,
    .pci_class = 0x00ff00,
    .kick = vrng_kick,
};

int virtio_rng_create(struct pci_bus *bus, unsigned devfn, const char *id, struct err *e)
{
    struct virtio *v = calloc(1, sizeof(*v));
    int rc;

    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    virtio_init(v, &vrng_class, vm_mem(pci_bus_vm(bus)), 1, VRNG_QUEUE_SIZE);
    rc = virtio_pci_add(bus, v, devfn, id, e);
    if (rc)
        free(v);
    return rc;
}
