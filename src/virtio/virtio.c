/*
 * virtio.c: see virtio.h.
 */
#include "virtio/virtio.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VIRTIO_COMMON_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

enum {
    VIRTIO_STATUS_KNOWN = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK |
                          VIRTIO_FEATURES_OK | VIRTIO_NEEDS_RESET | VIRTIO_FAILED,
};

static void virtio_rekick(struct loop_work *w)
{
    struct virtio *v = container_of(w, struct virtio, rekick);

    pthread_mutex_lock(&v->dev->lock);
    virtio_kick_all(v);
    pthread_mutex_unlock(&v->dev->lock);
}

void virtio_init(struct virtio *v, const struct virtio_class *class, struct physmap *mem,
                 unsigned nqueues, unsigned queue_size)
{
    BUG_ON(nqueues > VIRTIO_MAX_QUEUES || !is_pow2(queue_size) || queue_size > VIRTQ_MAX_SIZE);
    v->class = class;
    v->offered = VIRTIO_COMMON_FEATURES;
    v->nqueues = nqueues;
    v->rekick.call = virtio_rekick;
    for (unsigned i = 0; i < nqueues; i++) {
        v->vq[i].mem = mem;
        v->vq[i].max_size = (uint16_t)queue_size;
        virtq_reset(&v->vq[i]);
    }
}

void virtio_destroy(struct virtio *v)
{
    loop_unpost(vm_loop(v->dev->vm), &v->rekick);
    if (v->class->destroy)
        v->class->destroy(v);
    else
        free(v);
}

bool virtio_live(const struct virtio *v)
{
    return (v->status & VIRTIO_DRIVER_OK) && !(v->status & (VIRTIO_NEEDS_RESET | VIRTIO_FAILED)) &&
           !v->resetting && !v->quiesced;
}

void virtio_fail(struct virtio *v, const char *fmt, ...)
{
    char why[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    log_limited(&v->dev->log, LOG_WARN, "virtio", "%s: the guest's driver broke the rules: %s",
                v->dev->id, why);
    if (v->status & VIRTIO_NEEDS_RESET)
        return;
    v->status |= VIRTIO_NEEDS_RESET;
    if (v->status & VIRTIO_DRIVER_OK)
        v->transport->irq_config(v);
}

/* --- queues --- */

bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_elem *el)
{
    int rc;

    if (queue >= v->nqueues || !virtio_live(v))
        return false;
    rc = virtq_pop(&v->vq[queue], el);
    if (rc == -ENOMEM)
        log_limited(&v->dev->log, LOG_ERROR, "virtio", "%s: out of memory", v->dev->id);
    else if (rc < 0)
        virtio_fail(v, "queue %u has a broken ring or descriptor chain", queue);
    return rc == 1;
}

void virtio_push(struct virtio *v, unsigned queue, const struct virtq_elem *el, uint32_t written)
{
    if (v->vq[queue].ready && !v->resetting)
        virtq_push(&v->vq[queue], el, written);
}

void virtio_interrupt(struct virtio *v, unsigned queue)
{
    if (!v->resetting && virtq_should_notify(&v->vq[queue]))
        v->transport->irq_queue(v, queue);
}

void virtio_kick(struct virtio *v, unsigned queue)
{
    if (queue < v->nqueues && v->vq[queue].ready && virtio_live(v))
        v->class->kick(v, queue);
}

void virtio_kick_all(struct virtio *v)
{
    for (unsigned i = 0; i < v->nqueues; i++)
        virtio_kick(v, i);
}

/* --- configuration space --- */

void virtio_config_changed(struct virtio *v)
{
    v->config_generation++;
    if (v->status & VIRTIO_DRIVER_OK)
        v->transport->irq_config(v);
}

static bool virtio_in_config(const struct virtio *v, uint64_t off, unsigned size)
{
    return off <= v->config_len && size <= v->config_len - off;
}

uint64_t virtio_config_read(const struct virtio *v, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    if (virtio_in_config(v, off, size))
        memcpy(&val, v->config + off, size);
    return val;
}

void virtio_config_write(struct virtio *v, uint64_t off, unsigned size, uint64_t val)
{
    if (!v->class->config_written || !virtio_in_config(v, off, size))
        return;
    memcpy(v->config + off, &val, size);
    v->class->config_written(v, (unsigned)off, size);
}

/* --- features and status --- */

void virtio_write_features(struct virtio *v, uint64_t features)
{
    if (!(v->status & VIRTIO_FEATURES_OK))
        v->features = features;
}

static bool virtio_features_ok(const struct virtio *v)
{
    return !(v->features & ~v->offered) && virtio_has(v, VIRTIO_F_VERSION_1);
}

/* What the queues have to know of the negotiated features. */
static void virtio_apply_features(struct virtio *v)
{
    for (unsigned i = 0; i < v->nqueues; i++) {
        v->vq[i].event_idx = virtio_has(v, VIRTIO_F_EVENT_IDX);
        v->vq[i].indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
    }
}

static void virtio_reset(struct virtio *v)
{
    v->features = 0;
    v->status = 0;
    v->resetting = false;
    for (unsigned i = 0; i < v->nqueues; i++)
        virtq_reset(&v->vq[i]);
    if (v->class->reset)
        v->class->reset(v);
}

/* The driver reads the status until it is 0, so that a reset may take its time. */
static void virtio_driver_reset(struct virtio *v)
{
    if (v->held) {
        v->resetting = true;
        return;
    }
    virtio_reset(v);
    v->transport->reset(v);
}

void virtio_hold(struct virtio *v)
{
    v->held++;
}

void virtio_unhold(struct virtio *v)
{
    BUG_ON(!v->held);
    if (--v->held == 0 && v->resetting)
        virtio_driver_reset(v);
}

uint8_t virtio_read_status(const struct virtio *v)
{
    return v->status;
}

void virtio_write_status(struct virtio *v, uint8_t status)
{
    uint8_t set = status & VIRTIO_STATUS_KNOWN & (uint8_t) ~(v->status | VIRTIO_NEEDS_RESET);

    if (!status) {
        virtio_driver_reset(v);
        return;
    }
    if (v->resetting)
        return;
    if ((set & VIRTIO_FEATURES_OK) && !virtio_features_ok(v))
        set &= (uint8_t)~VIRTIO_FEATURES_OK; /* the driver reads back and sees that it is not */
    if ((set & VIRTIO_DRIVER_OK) && !((v->status | set) & VIRTIO_FEATURES_OK)) {
        virtio_fail(v, "DRIVER_OK without FEATURES_OK");
        set &= (uint8_t)~VIRTIO_DRIVER_OK;
    }
    v->status |= set; /* bits are only ever added */
    if (set & VIRTIO_FEATURES_OK)
        virtio_apply_features(v);
    if ((set & VIRTIO_DRIVER_OK) && v->class->start)
        v->class->start(v);
}

/* --- state --- */

static void virtio_check_loaded(struct virtio *v, struct state *s)
{
    bool features_ok = v->status & VIRTIO_FEATURES_OK;

    state_require(s, !(v->status & ~VIRTIO_STATUS_KNOWN), "unknown device status");
    state_require(s, !features_ok || virtio_features_ok(v), "features that are not offered here");
    state_require(s, features_ok || !(v->status & VIRTIO_DRIVER_OK), "a driver without features");
    if (features_ok)
        virtio_apply_features(v);
}

void virtio_state(struct virtio *v, struct state *s)
{
    if (state_loading(s))
        virtio_reset(v);
    else
        state_require(s, !v->held, "requests are in flight: the device was not quiesced");
    state_u64(s, &v->features);
    state_u8(s, &v->status);
    state_u8(s, &v->config_generation);
    for (unsigned i = 0; i < v->nqueues; i++)
        virtq_state(&v->vq[i], s);
    if (state_loading(s))
        virtio_check_loaded(v, s);
    if (v->class->state)
        v->class->state(v, s);
}

/* Kicks that came while we were paused, or before the state was saved, are made up for on the loop. */
void virtio_sync(struct virtio *v)
{
    v->quiesced = false;
    if (v->class->sync)
        v->class->sync(v);
    if (virtio_live(v))
        loop_post(vm_loop(v->dev->vm), &v->rekick);
}

void virtio_quiesce(struct virtio *v)
{
    pthread_mutex_lock(&v->dev->lock);
    v->quiesced = true;
    pthread_mutex_unlock(&v->dev->lock);
    if (v->class->quiesce)
        v->class->quiesce(v);
}
