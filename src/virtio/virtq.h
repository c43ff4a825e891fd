/*
 * virtq.h: split virtqueues (virtio 1.2, 2.7) of hostile drivers: every descriptor is copied once,
 * the copy is validated, the copy is used. Caller holds the device lock.
 */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <sys/uio.h>

#include "mem/guest.h"
#include "state/state.h"

enum { VIRTQ_MAX_SIZE = 1024, VIRTQ_MAX_SEG = 1024 };

struct virtq {
    struct physmap *mem;
    uint16_t max_size;
    /* guest-visible state */
    uint16_t size;
    bool ready;
    uint64_t desc, avail, used; /* gpa */
    uint16_t last_avail, used_idx, signalled_used;
    bool signalled_valid;
    bool event_idx, indirect; /* negotiated */
    uint16_t msix_vector;
};
struct virtq_elem {
    uint16_t head;
    unsigned n_out, n_in;     /* readable first, then writable */
    struct iovec *iov;        /* [n_out + n_in], owned by the element */
    uint64_t *gpa;            /* of each */
    uint64_t out_len, in_len; /* bytes */
};

must_check int virtq_pop(struct virtq *q,
                         struct virtq_elem *el); /* 1; 0 empty; -EINVAL: device is NEEDS_RESET */
void virtq_push(struct virtq *q, const struct virtq_elem *el,
                uint32_t written); /* once per pop; marks memory written */
void virtq_elem_fini(struct virtq_elem *el);
bool virtq_should_notify(struct virtq *q); /* after pushes: interrupt the driver? */
/* Asks the driver for (on) or spares it kicks; true if, after enabling, something is already there.
 */
bool virtq_set_notify(struct virtq *q, bool on);
void virtq_reset(struct virtq *q);
void virtq_state(struct virtq *q, struct state *s);

#endif
