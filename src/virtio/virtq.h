/*
 * virtq.h: split virtqueues (virtio 1.2, 2.7) of hostile drivers: every descriptor is copied once,
 * the copy is validated, the copy is used. Caller holds the device lock.
 *
 * Kicks: whenever virtq_pop() says "empty", the driver has been asked to kick for the next buffer.
 */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <sys/uio.h>

#include "mem/guest.h"
#include "state/state.h"

enum { VIRTQ_MAX_SIZE = 1024, VIRTQ_MAX_SEG = 1024, VIRTQ_NO_VECTOR = 0xffff };

struct virtq {
    struct physmap *mem;
    uint16_t max_size; /* a power of two, at most VIRTQ_MAX_SIZE */
    /* guest-visible state */
    uint16_t size;
    bool ready;
    uint64_t desc, avail, used; /* gpa */
    uint16_t last_avail, used_idx, signalled_used;
    bool signalled_valid;
    bool event_idx, indirect; /* negotiated; virtio.c sets them */
    uint16_t msix_vector;
};
struct virtq_elem {
    uint16_t head;
    unsigned n_out, n_in;     /* readable first, then writable */
    struct iovec *iov;        /* [n_out + n_in], owned by the element */
    uint64_t *gpa;            /* of each; in the same allocation */
    uint64_t out_len, in_len; /* bytes */
};

/* Size, alignment and place of the rings: are they usable? */
must_check bool virtq_valid(const struct virtq *q);
/* 1; 0: empty, or not ready; -EINVAL: the ring is broken, the device is NEEDS_RESET; -ENOMEM. */
must_check int virtq_pop(struct virtq *q, struct virtq_elem *el);
/* The element that starts at a head which was popped before, as after virtq_pop(): 0 or -errno. For loading. */
must_check int virtq_fetch(struct virtq *q, uint16_t head, struct virtq_elem *el);
/* Once per pop; marks the writable memory as written. */
void virtq_push(struct virtq *q, const struct virtq_elem *el, uint32_t written);
void virtq_elem_fini(struct virtq_elem *el);
bool virtq_should_notify(struct virtq *q); /* after pushes: interrupt the driver? */
/* Asks the driver for (on) or spares it kicks; true if, after asking, something is already there. */
bool virtq_set_notify(struct virtq *q, bool on);
void virtq_reset(struct virtq *q);
void virtq_state(struct virtq *q, struct state *s);

#endif
