/*
 * virtio.h: what all virtio devices share (virtio 1.2, chapters 2 and 3): feature negotiation, the
 * status register, configuration space, queues, interrupts. A device is a struct with `struct
 * virtio` first and a struct virtio_class; a transport (virtio_pci.h) makes it visible to the
 * guest.
 *
 * Writing a device:
 *
 *     struct virtio_foo { struct virtio v; ... };
 *     create: calloc, virtio_init(), set v.offered and v.config, virtio_pci_add()
 *     kick:   while (virtio_pop(v, q, &el)) { ...; virtio_push(v, q, &el, n); virtq_elem_fini(&el);
 * } virtio_interrupt(v, q);
 *
 * Something that finishes later (on the loop thread) brackets itself with virtio_hold(), under the
 * lock in which it popped, and virtio_unhold(), under the lock in which it pushed: a driver's reset
 * completes only when nothing is held any more, so that no I/O lands in memory that the driver has
 * taken back.
 *
 * Locking: every function here is called with the device lock (v->dev->lock) held, and every class
 * function is called with it held, but for quiesce and destroy. Kicks come on vCPU threads or on
 * the loop thread.
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "bus/device.h"
#include "virtio/virtq.h"

enum { VIRTIO_MAX_QUEUES = 64, VIRTIO_CONFIG_MAX = 256 };

enum { /* device ids */
       VIRTIO_ID_NET = 1,
       VIRTIO_ID_BLOCK = 2,
       VIRTIO_ID_CONSOLE = 3,
       VIRTIO_ID_RNG = 4,
       VIRTIO_ID_SCSI = 8,
};
enum { /* device status */
       VIRTIO_ACKNOWLEDGE = 1,
       VIRTIO_DRIVER = 2,
       VIRTIO_DRIVER_OK = 4,
       VIRTIO_FEATURES_OK = 8,
       VIRTIO_NEEDS_RESET = 64,
       VIRTIO_FAILED = 128,
};
/* Features that virtio.c offers and handles for every device. */
#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX     BIT64(29)
#define VIRTIO_F_VERSION_1     BIT64(32)

struct virtio;
struct virtio_class {
    const char *name;   /* "virtio-blk": names the snapshot section */
    unsigned version;   /* of that section */
    uint16_t id;        /* VIRTIO_ID_* */
    uint32_t pci_class; /* 24 bits: class, sub-class, prog-if */

    /* The driver made buffers available (or may have: call it for nothing as often as you like). */
    void (*kick)(struct virtio *v, unsigned queue);
    /* Optional: the driver wrote these bytes of v->config; NULL: it is read-only. */
    void (*config_written)(struct virtio *v, unsigned off, unsigned size);
    /* Optional: DRIVER_OK was set: features and queues are final. */
    void (*start)(struct virtio *v);
    /* Optional: back to power-on: the driver reset the device, or a state is about to be loaded. */
    void (*reset)(struct virtio *v);
    /* Optional: own guest-visible state. Nothing is held while this runs. */
    void (*state)(struct virtio *v, struct state *s);
    /* Optional: after reset, load, resume. All ready queues are kicked a moment later by
     * themselves. */
    void (*sync)(struct virtio *v);
    /* Optional, lock NOT held, loop thread: on return nothing is held; virtio_pop() yields nothing
     * meanwhile. */
    void (*quiesce)(struct virtio *v);
    /* Frees it all; NULL: free(v). */
    void (*destroy)(struct virtio *v);
};

/* The transport's side. */
struct virtio_transport {
    void (*reset)(struct virtio *v); /* the driver's reset is complete: withdraw interrupts */
    void (*irq_queue)(struct virtio *v, unsigned queue);
    void (*irq_config)(struct virtio *v);
};

struct virtio {
    const struct virtio_class *class;
    struct device *dev; /* the transport's; its lock guards everything here */
    const struct virtio_transport *transport;
    void *transport_priv;

    /* configuration, by the device's create() */
    uint64_t offered; /* features */
    unsigned nqueues;
    unsigned config_len;
    uint8_t config[VIRTIO_CONFIG_MAX]; /* little-endian, as the driver sees it */

    /* guest-visible state */
    uint64_t features; /* what the driver wrote; final once FEATURES_OK */
    uint8_t status;
    uint8_t config_generation;
    struct virtq vq[VIRTIO_MAX_QUEUES];

    unsigned held;  /* virtio_hold() minus virtio_unhold() */
    bool resetting; /* the driver wrote 0, something is still held; status reads as before */
    bool quiesced;  /* paused: leave guest memory alone until sync */
    struct loop_work rekick; /* after sync: looks at all queues */
};

/* On a zeroed struct. queue_size: a power of two, at most VIRTQ_MAX_SIZE; change v->vq[i].max_size
 * after it. */
void virtio_init(struct virtio *v, const struct virtio_class *class, struct physmap *mem,
                 unsigned nqueues, unsigned queue_size);
static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
    return (v->features & feature) != 0;
}
/* May rings be touched? DRIVER_OK, not broken, not being reset, not paused. */
bool virtio_live(const struct virtio *v);

/*
 * The next buffer of the queue: true, and el is the caller's until virtq_elem_fini(). False: empty,
 * the queue is not ready, the device is not live, or the ring is broken (then it is NEEDS_RESET).
 * When it has said "empty", the driver will kick for the next one.
 */
must_check bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_elem *el);
/*
 * The queue's last n pops did not happen: the same buffers come again. In place of virtio_push(); the
 * elements are still to be finished. Under the lock in which they were popped.
 */
static inline void virtio_unpop(struct virtio *v, unsigned queue, unsigned n)
{
    v->vq[queue].last_avail = (uint16_t)(v->vq[queue].last_avail - n);
}
/* Returns el with `written` bytes in its writable part; once for each pop. A no-op when being
 * reset. */
void virtio_push(struct virtio *v, unsigned queue, const struct virtq_elem *el, uint32_t written);
/* After a batch of pushes: interrupts the driver if it wants that. */
void virtio_interrupt(struct virtio *v, unsigned queue);
/* The device changed v->config: bumps the generation and tells the driver. */
void virtio_config_changed(struct virtio *v);
/* The driver did what it must not: NEEDS_RESET, the driver is told, the log gets one limited line.
 */
void virtio_fail(struct virtio *v, const char *fmt, ...) printf_like(2, 3);

void virtio_hold(struct virtio *v);
void virtio_unhold(struct virtio *v);

/* The rest is for transports. */
void virtio_write_features(struct virtio *v, uint64_t features); /* ignored once FEATURES_OK */
uint8_t virtio_read_status(const struct virtio *v);
void virtio_write_status(struct virtio *v, uint8_t status);
uint64_t virtio_config_read(const struct virtio *v, uint64_t off,
                            unsigned size); /* outside: zeros */
void virtio_config_write(struct virtio *v, uint64_t off, unsigned size, uint64_t val);
void virtio_kick(struct virtio *v, unsigned queue);
void virtio_kick_all(struct virtio *v);
void virtio_state(struct virtio *v, struct state *s); /* and the class's */
void virtio_sync(struct virtio *v);
void virtio_quiesce(struct virtio *v); /* lock NOT held */
void virtio_destroy(struct virtio *v);

#endif
