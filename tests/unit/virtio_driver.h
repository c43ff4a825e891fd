/*
 * virtio_driver.h: the driver's side of virtio for unit tests: rings in the test VM's RAM, and a device
 * brought up through its PCI function. Offsets are the specification's, not the implementation's.
 */
#ifndef TESTS_VIRTIO_DRIVER_H
#define TESTS_VIRTIO_DRIVER_H

#include <string.h>

#include "base/endian.h"
#include "testvm.h"
#include "virtio/virtio_pci.h"

enum { VRING_NEXT = 1, VRING_WRITE = 2, VRING_INDIRECT = 4 };

struct vring {
    uint8_t *ram; /* of gpa 0 */
    uint64_t desc, avail, used;
    uint16_t size;
};

/* Takes less than 0x8000 bytes at gpa. */
static inline struct vring vring_at(struct testvm *t, uint64_t gpa, uint16_t size)
{
    struct vring r = { t->ram.hva, gpa, gpa + 0x4000, gpa + 0x5000, size };

    memset(t->ram.hva + gpa, 0, 0x8000);
    return r;
}

static inline void vring_put_desc(struct vring *r, uint64_t table, unsigned i, uint64_t addr,
                                  uint32_t len, unsigned flags, unsigned next)
{
    uint8_t *d = r->ram + table + 16 * i;

    st_le64(d, addr);
    st_le32(d + 8, len);
    st_le16(d + 12, (uint16_t)flags);
    st_le16(d + 14, (uint16_t)next);
}

static inline void vring_desc(struct vring *r, unsigned i, uint64_t addr, uint32_t len,
                              unsigned flags, unsigned next)
{
    vring_put_desc(r, r->desc, i, addr, len, flags, next);
}

static inline void vring_offer(struct vring *r, uint16_t head)
{
    uint8_t *avail = r->ram + r->avail;
    uint16_t idx = ld_le16(avail + 2);

    st_le16(avail + 4 + 2 * (idx % r->size), head);
    st_le16(avail + 2, (uint16_t)(idx + 1));
}

/* The device may be writing it on another thread. */
static inline uint16_t vring_used_idx(const struct vring *r)
{
    return __atomic_load_n((const uint16_t *)(const void *)(r->ram + r->used + 2),
                           __ATOMIC_ACQUIRE);
}

static inline uint32_t vring_used_id(const struct vring *r, uint16_t idx)
{
    return ld_le32(r->ram + r->used + 4 + 8 * (idx % r->size));
}

static inline uint32_t vring_used_len(const struct vring *r, uint16_t idx)
{
    return ld_le32(r->ram + r->used + 8 + 8 * (idx % r->size));
}

/* --- the PCI transport --- */

enum {
    VDRV_COMMON = 0x0000,
    VDRV_ISR = 0x1000,
    VDRV_CONFIG = 0x2000,
    VDRV_NOTIFY = 0x3000,
    VDRV_STATUS = 0x14,
};
#define VDRV_MMIO 0xe0000000u

struct vdrv {
    struct testvm *t;
    struct pci_dev *pci;
    uint64_t bar; /* the one with the registers */
};

/* Assigns addresses and finds the registers. */
static inline struct vdrv vdrv_find(struct testvm *t, struct pci_bus *bus, unsigned devfn)
{
    struct vdrv d = { t, pci_bus_at(bus, devfn), 0 };

    BUG_ON(!d.pci || pci_assign(bus, VDRV_MMIO, 0x1000000, 0xc000, 1ull << 40, NULL));
    d.pci->cfg[PCI_COMMAND] |= PCI_CMD_MASTER;
    d.bar = d.pci->bar[4].mapped_at;
    return d;
}

static inline uint64_t vdrv_read(struct vdrv *d, uint64_t off, unsigned size)
{
    return testvm_read(d->t, d->bar + off, size);
}

static inline void vdrv_write(struct vdrv *d, uint64_t off, unsigned size, uint64_t val)
{
    testvm_write(d->t, d->bar + off, size, val);
}

static inline uint8_t vdrv_status(struct vdrv *d)
{
    return (uint8_t)vdrv_read(d, VDRV_STATUS, 1);
}

static inline uint64_t vdrv_offered(struct vdrv *d)
{
    uint64_t low;

    vdrv_write(d, 0x00, 4, 0);
    low = vdrv_read(d, 0x04, 4);
    vdrv_write(d, 0x00, 4, 1);
    return low | vdrv_read(d, 0x04, 4) << 32;
}

/* Reset, acknowledge, features; true if the device took them. */
static inline bool vdrv_negotiate(struct vdrv *d, uint64_t features)
{
    vdrv_write(d, VDRV_STATUS, 1, 0);
    vdrv_write(d, VDRV_STATUS, 1, 1);
    vdrv_write(d, VDRV_STATUS, 1, 3);
    for (unsigned i = 0; i < 2; i++) {
        vdrv_write(d, 0x08, 4, i);
        vdrv_write(d, 0x0c, 4, features >> (32 * i) & 0xffffffff);
    }
    vdrv_write(d, VDRV_STATUS, 1, 11);
    return vdrv_status(d) & 8;
}

static inline void vdrv_set_queue(struct vdrv *d, unsigned q, const struct vring *r,
                                  uint16_t vector)
{
    vdrv_write(d, 0x16, 2, q);
    vdrv_write(d, 0x18, 2, r->size);
    vdrv_write(d, 0x1a, 2, vector);
    vdrv_write(d, 0x20, 4, r->desc & 0xffffffff);
    vdrv_write(d, 0x24, 4, r->desc >> 32);
    vdrv_write(d, 0x28, 4, r->avail & 0xffffffff);
    vdrv_write(d, 0x2c, 4, r->avail >> 32);
    vdrv_write(d, 0x30, 8, r->used);
    vdrv_write(d, 0x1c, 2, 1);
}

static inline void vdrv_start(struct vdrv *d)
{
    vdrv_write(d, VDRV_STATUS, 1, 15);
}

static inline void vdrv_kick(struct vdrv *d, unsigned q)
{
    vdrv_write(d, VDRV_NOTIFY + 4 * q, 2, q);
}

#endif
