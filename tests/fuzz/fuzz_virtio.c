/*
 * fuzz_virtio.c: drivers of disk, network card, console and entropy source that write what they like into
 * registers, configuration space, rings and buffers, also while the device works on them.
 *
 * Input: which device, then {operation, operands}, see fuzz_virtio_op().
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "virtio_driver.h"

enum {
    RAM = 512 * KIB,
    RING0 = 0x8000,
    RING_LEN = 0x8000,
    QUEUES = 4,
    DATA = 0x40000,
    DISK = 256 * KIB,
    DEVICES = 4,
    MAX_OPS = 400,
    RING_SIZE = 16,
    POLLS = 3,
};

static struct fuzz_virtio {
    struct testvm *t;
    struct pci_bus *bus;
    struct vdrv d[DEVICES];
    struct vring ring[QUEUES];
} fuzz_virtio;

static const unsigned slots[DEVICES] = { PCI_DEVFN(3, 0), PCI_DEVFN(4, 0), PCI_DEVFN(5, 0),
                                         PCI_DEVFN(6, 0) };

static struct blk *fuzz_virtio_disk(struct loop *loop)
{
    char path[64];
    struct blk_opts o = { .path = path, .format = "raw", .loop = loop };
    struct err e = { 0 };
    int fd = memfd_create("disk", MFD_CLOEXEC);
    struct blk *b;

    BUG_ON(fd < 0 || ftruncate(fd, DISK) != 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    b = blk_open(&o, &e);
    BUG_ON(!b);
    close(fd);
    return b;
}

static void fuzz_virtio_devices(struct fuzz_virtio *f)
{
    const struct virtio_net_opts net = { .backend = "user", .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
    struct vm *vm = f->t->vm;
    struct err e = { 0 };
    struct chardev *chr = chardev_open("none", vm->loop, NULL, NULL, &e);

    BUG_ON(!chr);
    BUG_ON(
        virtio_blk_create(f->bus, slots[0], "disk0", fuzz_virtio_disk(vm->loop), "serial", 2, &e));
    BUG_ON(virtio_net_create(vm, f->bus, slots[1], "net0", &net, &e));
    BUG_ON(virtio_console_create(vm, f->bus, slots[2], "con0", chr, 80, 25, &e));
    BUG_ON(virtio_rng_create(f->bus, slots[3], "rng0", &e));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct fuzz_virtio *f = &fuzz_virtio;

    (void)argc;
    (void)argv;
    fuzz_confine();
    f->t = testvm_create(RAM);
    f->bus = testvm_pci(f->t);
    fuzz_virtio_devices(f);
    return 0;
}

/* Queues of a good driver, to be spoiled afterwards. */
static void fuzz_virtio_start(struct fuzz_virtio *f, struct vdrv *d, struct fuzz_input *in)
{
    uint64_t dropped =
        (uint64_t)fuzz_u8(in) << 9 | (uint64_t)fuzz_u8(in) << 17 | (uint64_t)fuzz_u8(in) << 28;
    bool ok = vdrv_negotiate(d, vdrv_offered(d) & ~(dropped & ~BIT64(32)));

    for (unsigned i = 0; ok && i < QUEUES; i++) {
        f->ring[i] = vring_at(f->t, RING0 + RING_LEN * i, RING_SIZE);
        vdrv_set_queue(d, i, &f->ring[i], (uint16_t)i);
    }
    if (ok)
        vdrv_start(d);
}

static uint64_t fuzz_virtio_addr(struct fuzz_input *in)
{
    uint8_t b = fuzz_u8(in);

    if (b == 0xff)
        return fuzz_u64(in);
    if (b >= 0xf0)
        return RAM - (b & 15);
    return b < 0x40 ? RING0 + b * 0x200u : DATA + (b & 0x3fu) * 0x800;
}

static void fuzz_virtio_desc(struct fuzz_virtio *f, struct fuzz_input *in)
{
    struct vring *r = &f->ring[fuzz_u8(in) % QUEUES];
    uint8_t i = fuzz_u8(in);
    uint64_t addr = fuzz_virtio_addr(in);
    uint32_t len = fuzz_u16(in);
    uint8_t flags = fuzz_u8(in);

    if (!r->size)
        return;
    vring_desc(r, i % r->size, addr, flags & 0x80 ? len << 16 : len, flags & 7u, i >> 4);
    if (flags & 0x40)
        vring_offer(r, i % r->size);
}

static void fuzz_virtio_ram(struct fuzz_virtio *f, struct fuzz_input *in)
{
    uint64_t at = fuzz_virtio_addr(in) + fuzz_u8(in);
    size_t len = fuzz_u8(in) % 64;

    if (at < RAM)
        fuzz_bytes(in, f->t->ram.hva + at, min_u64(len, RAM - at));
}

static void fuzz_virtio_poll(struct fuzz_virtio *f)
{
    for (unsigned i = 0; i < POLLS; i++)
        loop_poll(f->t->vm->loop, 0);
}

static void fuzz_virtio_config(struct fuzz_virtio *f, struct vdrv *d, struct fuzz_input *in)
{
    uint8_t reg = fuzz_u8(in), size = fuzz_u8(in);

    if (size & 4)
        testvm_pci_in(f->t, d->pci->devfn, reg, 1u << size % 3);
    else
        testvm_pci_out(f->t, d->pci->devfn, reg, 1u << size % 3, fuzz_u32(in));
}

static void fuzz_virtio_op(struct fuzz_virtio *f, struct vdrv *d, struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in);
    unsigned size = 1u << (op >> 6);

    switch (op & 15) {
    case 0:
        fuzz_virtio_start(f, d, in);
        break;
    case 1:
        vdrv_write(d, (uint64_t)fuzz_u8(in) & 0x3f, size, fuzz_u32(in)); /* common configuration */
        break;
    case 2:
        vdrv_write(d, fuzz_u16(in) & 0x3fff, size, fuzz_u32(in));
        break;
    case 3:
        vdrv_read(d, fuzz_u16(in) & 0x3fff, size);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        fuzz_virtio_desc(f, in);
        break;
    case 8:
    case 9:
        vdrv_kick(d, op >> 4 & 3);
        break;
    case 10:
    case 11:
        fuzz_virtio_ram(f, in);
        break;
    case 12:
        fuzz_virtio_config(f, d, in);
        break;
    case 13:
        testvm_write(f->t, VDRV_MMIO + (fuzz_u16(in) & 0xfffffu), size, fuzz_u32(in));
        break;
    case 14:
        fuzz_virtio_poll(f);
        break;
    default:
        if (op & 0x40)
            device_quiesce_all(f->t->vm->devices);
        device_sync_all(f->t->vm->devices);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_virtio *f = &fuzz_virtio;
    struct fuzz_input in = { data, len };
    unsigned which = fuzz_u8(&in) % DEVICES;

    memset(f->t->ram.hva, 0, RAM);
    memset(f->ring, 0, sizeof(f->ring));
    f->d[which] = vdrv_find(f->t, f->bus, slots[which]);
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_virtio_op(f, &f->d[which], &in);
    fuzz_virtio_poll(f);
    device_quiesce_all(f->t->vm->devices);
    fuzz_virtio_poll(f);
    device_reset_all(f->t->vm->devices);
    device_sync_all(f->t->vm->devices);
    return 0;
}
