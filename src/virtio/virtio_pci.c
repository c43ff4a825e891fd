/*
 * virtio_pci.c: see virtio_pci.h. BAR 4:
 *
 *     0x0000  common configuration (virtio 1.2, 4.1.4.3)
 *     0x1000  ISR, one byte, reading clears it
 *     0x2000  device configuration
 *     0x3000  notifications, 4 bytes a queue; an eventfd each where the accelerator can signal one
 *
 * Locking: the device lock; doorbells belong to whoever moves BARs (bus/pci.h).
 */
#include "virtio/virtio_pci.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/endian.h"

enum {
    VP_VENDOR = 0x1af4,
    VP_DEVICE_BASE = 0x1040,
    VP_SUBSYSTEM = 0x1100,
    VP_REVISION = 1,

    VP_BAR_MSIX = 0,
    VP_BAR = 4,
    VP_BAR_SIZE = 0x4000,
    VP_COMMON = 0x0000,
    VP_ISR = 0x1000,
    VP_DEVICE = 0x2000,
    VP_NOTIFY = 0x3000,
    VP_AREA = 0x1000,
    VP_NOTIFY_MULTIPLIER = 4,
};
enum { VP_ISR_QUEUE = 1, VP_ISR_CONFIG = 2 };
enum { /* capability types */
       VP_CAP_COMMON = 1,
       VP_CAP_NOTIFY = 2,
       VP_CAP_ISR = 3,
       VP_CAP_DEVICE = 4,
       VP_CAP_PCI = 5,
       VP_CAP_LEN = 16,
       VP_CAP_LEN_EXTRA = 20,
};
enum { /* common configuration */
       VP_DEVICE_FEATURE_SELECT = 0x00,
       VP_DEVICE_FEATURE = 0x04,
       VP_DRIVER_FEATURE_SELECT = 0x08,
       VP_DRIVER_FEATURE = 0x0c,
       VP_CONFIG_VECTOR = 0x10,
       VP_NUM_QUEUES = 0x12,
       VP_STATUS = 0x14,
       VP_GENERATION = 0x15,
       VP_QUEUE_SELECT = 0x16,
       VP_QUEUE_SIZE = 0x18,
       VP_QUEUE_VECTOR = 0x1a,
       VP_QUEUE_ENABLE = 0x1c,
       VP_QUEUE_NOTIFY_OFF = 0x1e,
       VP_QUEUE_DESC = 0x20,
       VP_QUEUE_DRIVER = 0x28,
       VP_QUEUE_DEVICE = 0x30,
       VP_COMMON_LEN = 0x38,
};

struct virtio_pci;
struct vp_doorbell {
    struct loop_fd watch;
    struct virtio_pci *vp;
    int fd; /* -1: none */
};

struct virtio_pci {
    struct pci_dev pci;
    struct device_ops ops; /* vp_ops under the class's name */
    struct virtio *v;
    uint8_t cap_pci; /* offset of the configuration access capability */
    struct vp_doorbell bell[VIRTIO_MAX_QUEUES];
    uint64_t bells_at; /* where the doorbells are registered; PCI_UNMAPPED: they are not */

    /* guest-visible state */
    uint32_t device_feature_select, driver_feature_select;
    uint16_t queue_select, config_vector;
    uint8_t isr;
};

static struct virtio_pci *vp_of(struct device *d)
{
    return container_of(d, struct virtio_pci, pci.dev);
}

/* --- interrupts --- */

static void vp_drive_intx(struct virtio_pci *vp)
{
    pci_set_intx(&vp->pci, vp->isr && !pci_msix_enabled(&vp->pci));
}

static void vp_interrupt(struct virtio_pci *vp, uint16_t vector, uint8_t isr)
{
    if (pci_msix_enabled(&vp->pci)) {
        pci_msix_fire(&vp->pci, vector); /* VIRTQ_NO_VECTOR: there is none of this number */
        return;
    }
    vp->isr |= isr;
    vp_drive_intx(vp);
}

static void vp_irq_queue(struct virtio *v, unsigned queue)
{
    vp_interrupt(v->transport_priv, v->vq[queue].msix_vector, VP_ISR_QUEUE);
}

static void vp_irq_config(struct virtio *v)
{
    struct virtio_pci *vp = v->transport_priv;

    vp_interrupt(vp, vp->config_vector, VP_ISR_CONFIG);
}

static void vp_reset(struct virtio *v)
{
    struct virtio_pci *vp = v->transport_priv;

    vp->device_feature_select = vp->driver_feature_select = 0;
    vp->queue_select = 0;
    vp->config_vector = VIRTQ_NO_VECTOR;
    vp->isr = 0;
    vp_drive_intx(vp);
}

static const struct virtio_transport vp_transport = { vp_reset, vp_irq_queue, vp_irq_config };

static uint8_t vp_isr_read(struct virtio_pci *vp)
{
    uint8_t isr = vp->isr;

    vp->isr = 0;
    vp_drive_intx(vp);
    return isr;
}

/* --- common configuration --- */

/* The selected queue, or NULL if the device has no such queue. */
static struct virtq *vp_queue(struct virtio_pci *vp)
{
    return vp->queue_select < vp->v->nqueues ? &vp->v->vq[vp->queue_select] : NULL;
}

/* 32 of the 64 feature bits; there are none above. */
static uint32_t vp_features(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

/* The whole area as the driver would see it: reads of any width come out of it, and have no effect. */
static void vp_common_image(struct virtio_pci *vp, uint8_t *image)
{
    const struct virtq *q = vp_queue(vp);

    st_le32(image + VP_DEVICE_FEATURE_SELECT, vp->device_feature_select);
    st_le32(image + VP_DEVICE_FEATURE, vp_features(vp->v->offered, vp->device_feature_select));
    st_le32(image + VP_DRIVER_FEATURE_SELECT, vp->driver_feature_select);
    st_le32(image + VP_DRIVER_FEATURE, vp_features(vp->v->features, vp->driver_feature_select));
    st_le16(image + VP_CONFIG_VECTOR, vp->config_vector);
    st_le16(image + VP_NUM_QUEUES, (uint16_t)vp->v->nqueues);
    image[VP_STATUS] = virtio_read_status(vp->v);
    image[VP_GENERATION] = vp->v->config_generation;
    st_le16(image + VP_QUEUE_SELECT, vp->queue_select);
    if (!q)
        return;
    st_le16(image + VP_QUEUE_SIZE, q->size);
    st_le16(image + VP_QUEUE_VECTOR, q->msix_vector);
    st_le16(image + VP_QUEUE_ENABLE, q->ready);
    st_le16(image + VP_QUEUE_NOTIFY_OFF, vp->queue_select);
    st_le64(image + VP_QUEUE_DESC, q->desc);
    st_le64(image + VP_QUEUE_DRIVER, q->avail);
    st_le64(image + VP_QUEUE_DEVICE, q->used);
}

static uint64_t vp_common_read(struct virtio_pci *vp, uint64_t off, unsigned size)
{
    uint8_t image[VP_COMMON_LEN + 8] = { 0 };
    uint64_t val = 0;

    if (off >= VP_COMMON_LEN)
        return 0;
    vp_common_image(vp, image);
    memcpy(&val, image + off, size);
    return val;
}

static uint16_t vp_vector(const struct virtio_pci *vp, uint64_t val)
{
    return val < vp->pci.msix.n ? (uint16_t)val : VIRTQ_NO_VECTOR;
}

static void vp_write_driver_feature(struct virtio_pci *vp, uint32_t val)
{
    unsigned shift = 32 * vp->driver_feature_select;

    if (vp->driver_feature_select < 2)
        virtio_write_features(vp->v, (vp->v->features & ~(0xffffffffull << shift)) | (uint64_t)val
                                                                                         << shift);
}

static void vp_enable_queue(struct virtio_pci *vp, struct virtq *q)
{
    if (virtq_valid(q))
        q->ready = true;
    else
        virtio_fail(vp->v, "queue %u is misaligned or not in memory", vp->queue_select);
}

static void vp_write_queue_size(struct virtio_pci *vp, struct virtq *q, uint64_t val)
{
    if (is_pow2(val) && val <= q->max_size)
        q->size = (uint16_t)val;
    else
        virtio_fail(vp->v, "queue %u cannot have %llu entries", vp->queue_select,
                    (unsigned long long)val);
}

/* Replaces half of a 64-bit register. */
static void vp_write_half(uint64_t *reg, bool high, uint64_t val)
{
    *reg = high ? (uint32_t)*reg | val << 32 : (*reg & ~0xffffffffull) | (uint32_t)val;
}

static void vp_write_queue(struct virtio_pci *vp, uint64_t off, unsigned size, uint64_t val)
{
    struct virtq *q = vp_queue(vp);

    if (!q)
        return;
    if (off == VP_QUEUE_VECTOR && size == 2)
        q->msix_vector = vp_vector(vp, val);
    if (q->ready) /* the rest is fixed until the device is reset */
        return;
    if (off == VP_QUEUE_SIZE && size == 2)
        vp_write_queue_size(vp, q, val);
    else if (off == VP_QUEUE_ENABLE && size == 2 && val == 1)
        vp_enable_queue(vp, q);
    else if ((off & ~4ull) == VP_QUEUE_DESC && size == 4)
        vp_write_half(&q->desc, off & 4, val);
    else if ((off & ~4ull) == VP_QUEUE_DRIVER && size == 4)
        vp_write_half(&q->avail, off & 4, val);
    else if ((off & ~4ull) == VP_QUEUE_DEVICE && size == 4)
        vp_write_half(&q->used, off & 4, val);
}

/* Drivers write each field in its own width (64 bits: in halves); other widths do nothing. */
static void vp_common_write(struct virtio_pci *vp, uint64_t off, unsigned size, uint64_t val)
{
    switch (off << 4 | size) {
    case VP_DEVICE_FEATURE_SELECT << 4 | 4:
        vp->device_feature_select = (uint32_t)val;
        break;
    case VP_DRIVER_FEATURE_SELECT << 4 | 4:
        vp->driver_feature_select = (uint32_t)val;
        break;
    case VP_DRIVER_FEATURE << 4 | 4:
        vp_write_driver_feature(vp, (uint32_t)val);
        break;
    case VP_CONFIG_VECTOR << 4 | 2:
        vp->config_vector = vp_vector(vp, val);
        break;
    case VP_STATUS << 4 | 1:
        virtio_write_status(vp->v, (uint8_t)val);
        break;
    case VP_QUEUE_SELECT << 4 | 2:
        vp->queue_select = (uint16_t)val;
        break;
    default:
        vp_write_queue(vp, off, size, val);
        break;
    }
}

/* --- BAR 4 --- */

static uint64_t vp_read(struct device *d, uint64_t off, unsigned size)
{
    struct virtio_pci *vp = vp_of(d);
    uint64_t in_area = off % VP_AREA;

    switch (off - in_area) {
    case VP_COMMON:
        return vp_common_read(vp, in_area, size);
    case VP_ISR:
        return in_area ? 0 : vp_isr_read(vp);
    case VP_DEVICE:
        return virtio_config_read(vp->v, in_area, size);
    default:
        return 0;
    }
}

static void vp_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio_pci *vp = vp_of(d);
    uint64_t in_area = off % VP_AREA;

    switch (off - in_area) {
    case VP_COMMON:
        vp_common_write(vp, in_area, size, val);
        break;
    case VP_DEVICE:
        virtio_config_write(vp->v, in_area, size, val);
        break;
    case VP_NOTIFY:
        virtio_kick(vp->v, (unsigned)(in_area / VP_NOTIFY_MULTIPLIER));
        break;
    default:
        break;
    }
}

static const struct io_ops vp_io = { vp_read, vp_write, 1, 4 };

/* --- doorbells --- */

static void vp_bell_rang(struct loop_fd *w, uint32_t events)
{
    struct vp_doorbell *bell = container_of(w, struct vp_doorbell, watch);
    struct virtio_pci *vp = bell->vp;
    uint64_t count;

    (void)events;
    if (read(bell->fd, &count, sizeof(count)) < 0)
        return; /* EAGAIN: seen already */
    pthread_mutex_lock(&vp->pci.dev.lock);
    virtio_kick(vp->v, (unsigned)(bell - vp->bell));
    pthread_mutex_unlock(&vp->pci.dev.lock);
}

static bool vp_bell_open(struct virtio_pci *vp, unsigned queue)
{
    struct vp_doorbell *bell = &vp->bell[queue];

    if (bell->fd >= 0)
        return true;
    bell->vp = vp;
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell->fd >= 0 &&
        loop_fd_add(vm_loop(vp->pci.dev.vm), &bell->watch, bell->fd, EPOLLIN, vp_bell_rang))
        util_close(&bell->fd);
    return bell->fd >= 0;
}

static uint64_t vp_bell_addr(uint64_t bar, unsigned queue)
{
    return bar + VP_NOTIFY + (uint64_t)queue * VP_NOTIFY_MULTIPLIER;
}

/* Registers (or takes back) all of them. Where that fails, the write itself comes to vp_write(). */
static void vp_bells(struct virtio_pci *vp, uint64_t bar, bool on)
{
    for (unsigned i = 0; i < vp->v->nqueues; i++) {
        if (on && !vp_bell_open(vp, i))
            return;
        if (vp->bell[i].fd < 0)
            continue;
        if (vm_doorbell(vp->pci.dev.vm, vp_bell_addr(bar, i), 2, vp->bell[i].fd, on) == -ENOTSUP)
            return; /* not under this accelerator */
    }
}

static void vp_bar_moved(struct pci_dev *p, unsigned bar, uint64_t at)
{
    struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);

    if (bar != VP_BAR)
        return;
    if (vp->bells_at != PCI_UNMAPPED)
        vp_bells(vp, vp->bells_at, false);
    vp->bells_at = at;
    if (at != PCI_UNMAPPED)
        vp_bells(vp, at, true);
}

/* --- configuration access capability: BAR 4 through configuration space --- */

/* What the driver selected; false: nothing that there is. */
static bool vp_window(const struct virtio_pci *vp, uint32_t *off, uint32_t *len)
{
    const uint8_t *cap = vp->pci.cfg + vp->cap_pci;

    *off = ld_le32(cap + 8);
    *len = ld_le32(cap + 12);
    return cap[4] == VP_BAR && (*len == 1 || *len == 2 || *len == 4) && !(*off & (*len - 1)) &&
           *off < VP_BAR_SIZE;
}

static bool vp_hits_window(const struct virtio_pci *vp, unsigned off, unsigned size)
{
    unsigned data = vp->cap_pci + VP_CAP_LEN;

    return off < data + 4 && data < off + size;
}

static void vp_cfg_reading(struct pci_dev *p, unsigned off, unsigned size)
{
    struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);
    uint32_t at, len;

    if (vp_hits_window(vp, off, size) && vp_window(vp, &at, &len))
        st_le32(p->cfg + vp->cap_pci + VP_CAP_LEN, (uint32_t)vp_read(&p->dev, at, len));
}

static void vp_cfg_written(struct pci_dev *p, unsigned off, unsigned size)
{
    struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);
    uint64_t val = ld_le32(p->cfg + vp->cap_pci + VP_CAP_LEN);
    uint32_t at, len;

    if (vp_hits_window(vp, off, size) && vp_window(vp, &at, &len))
        vp_write(&p->dev, at, len, val & (0xffffffffu >> (32 - 8 * len)));
    vp_drive_intx(vp); /* MSI-X may have been switched on or off */
}

/* --- the device --- */

static void vp_state(struct device *d, struct state *s)
{
    struct virtio_pci *vp = vp_of(d);

    pci_state(&vp->pci, s);
    state_u32(s, &vp->device_feature_select);
    state_u32(s, &vp->driver_feature_select);
    state_u16(s, &vp->queue_select);
    state_u16(s, &vp->config_vector);
    state_u8(s, &vp->isr);
    virtio_state(vp->v, s);
}

static void vp_sync(struct device *d)
{
    struct virtio_pci *vp = vp_of(d);

    vp->pci.intx_level = vp->isr && !pci_msix_enabled(&vp->pci);
    pci_sync(&vp->pci);
    virtio_sync(vp->v);
}

static void vp_quiesce(struct device *d)
{
    virtio_quiesce(vp_of(d)->v);
}

static void vp_free(struct virtio_pci *vp)
{
    if (!vp)
        return;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        if (vp->bell[i].fd >= 0)
            loop_fd_del(&vp->bell[i].watch);
        util_close(&vp->bell[i].fd);
    }
    free(vp);
}

static void vp_destroy(struct device *d)
{
    struct virtio_pci *vp = vp_of(d);

    if (vp->bells_at != PCI_UNMAPPED)
        vp_bells(vp, vp->bells_at, false);
    virtio_destroy(vp->v);
    vp_free(vp);
}

static const struct device_ops vp_ops = {
    .state = vp_state,
    .sync = vp_sync,
    .quiesce = vp_quiesce,
    .destroy = vp_destroy,
};

static uint8_t vp_add_cap(struct pci_dev *p, uint8_t type, uint8_t cap_len, uint32_t off,
                          uint32_t len)
{
    uint8_t at = pci_add_cap(p, PCI_CAP_VENDOR, cap_len);

    p->cfg[at + 2] = cap_len;
    p->cfg[at + 3] = type;
    p->cfg[at + 4] = VP_BAR;
    st_le32(p->cfg + at + 8, off);
    st_le32(p->cfg + at + 12, len);
    return at;
}

static void vp_add_caps(struct virtio_pci *vp)
{
    struct pci_dev *p = &vp->pci;
    uint8_t at;

    vp_add_cap(p, VP_CAP_COMMON, VP_CAP_LEN, VP_COMMON, VP_COMMON_LEN);
    vp_add_cap(p, VP_CAP_ISR, VP_CAP_LEN, VP_ISR, 1);
    if (vp->v->config_len)
        vp_add_cap(p, VP_CAP_DEVICE, VP_CAP_LEN, VP_DEVICE, vp->v->config_len);
    at = vp_add_cap(p, VP_CAP_NOTIFY, VP_CAP_LEN_EXTRA, VP_NOTIFY,
                    vp->v->nqueues * VP_NOTIFY_MULTIPLIER);
    st_le32(p->cfg + at + VP_CAP_LEN, VP_NOTIFY_MULTIPLIER);
    at = vp_add_cap(p, VP_CAP_PCI, VP_CAP_LEN_EXTRA, 0, 0);
    p->cfg[at + 4] = 0;
    p->wmask[at + 4] = 0xff;
    memset(p->wmask + at + 8, 0xff, 12); /* offset, length, data */
    vp->cap_pci = at;
}

int virtio_pci_add(struct pci_bus *bus, struct virtio *v, unsigned devfn, const char *id,
                   struct err *e)
{
    struct virtio_pci *vp = calloc(1, sizeof(*vp));
    struct pci_dev *p = &vp->pci;
    int rc;

    if (!vp)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        vp->bell[i].fd = -1;
    vp->ops = vp_ops;
    vp->ops.type = v->class->name;
    vp->ops.version = v->class->version;
    vp->v = v;
    vp->config_vector = VIRTQ_NO_VECTOR;
    vp->bells_at = PCI_UNMAPPED;
    pci_init(p, &vp->ops, pci_bus_vm(bus), id, VP_VENDOR, (uint16_t)(VP_DEVICE_BASE + v->class->id),
             v->class->pci_class, VP_REVISION);
    pci_set_subsystem(p, VP_VENDOR, VP_SUBSYSTEM);
    pci_add_bar(p, VP_BAR, VP_BAR_SIZE, false, true, &vp_io);
    pci_add_msix(p, VP_BAR_MSIX, (unsigned)min_u64(v->nqueues + 1, PCI_MSIX_MAX));
    pci_add_intx(p);
    vp_add_caps(vp);
    p->cfg_reading = vp_cfg_reading;
    p->cfg_written = vp_cfg_written;
    p->bar_moved = vp_bar_moved;
    v->dev = &p->dev;
    v->transport = &vp_transport;
    v->transport_priv = vp;
    rc = pci_add(bus, p, devfn, e);
    if (rc)
        vp_free(vp);
    return rc;
}
