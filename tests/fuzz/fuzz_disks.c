/*
 * fuzz_disks.c: a guest that drives a SATA controller, an NVMe controller and a virtio-scsi host, each with a disk
 * (and a CD), with commands of its own making; CDs are changed meanwhile. They are set up properly in the beginning, so that commands come
 * through; registers and memory may be anything from then on. A state of any bytes may be loaded, too.
 *
 * Input: {operation, operands}, see fuzz_disks_op().
 */
#include "fuzz_media.h"

#include "hw/ahci.h"
#include "hw/nvme.h"
#include "testvm.h"
#include "virtio/virtio_scsi.h"
#include "virtio_driver.h"

enum { MAX_OPS = 300, STATE_MAX = 4096, RAM = 1 << 20, DISK = 256 << 10 };
enum { AHCI_SLOT = PCI_DEVFN(2, 0), NVME_SLOT = PCI_DEVFN(3, 0), SCSI_SLOT = PCI_DEVFN(4, 0) };
enum {                  /* where the driver's structures are */
       LIST = 0x10000,  /* command lists of the ports, 0x1000 apart */
       TABLE = 0x20000, /* command tables, 0x400 apart */
       ADMIN = 0x30000, /* submission queue; completions 0x1000 behind it */
       IO = 0x34000,
       RINGS = 0x40000,
       SCSI_HEAD = 0x60000,
       DATA = 0x80000,
       QUEUE = 32,
};

static struct fuzz_disks {
    struct testvm *t;
    struct pci_bus *bus;
    uint64_t ahci, nvme;
    struct vdrv scsi;
    struct vring ring[3];
    uint16_t tail[2];
    struct blk *cd[2]; /* drives */
} fuzz_disks;

/* --- set-up --- */

static struct blk *fuzz_disks_open(struct fuzz_disks *f)
{
    return fuzz_media_open(f->t->vm, DISK, false);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct fuzz_disks *f = &fuzz_disks;

    (void)argc;
    (void)argv;
    fuzz_confine();
    f->t = testvm_create(RAM);
    f->bus = pci_bus_create(f->t->vm, NULL);
    BUG_ON(!f->bus);
    for (unsigned i = 0; i < ARRAY_SIZE(f->cd); i++)
        f->cd[i] = fuzz_media_drive(f->t->vm, DISK, true);
    const struct ahci_media sata[2] = { { fuzz_disks_open(f), false, NULL },
                                        { f->cd[0], true, NULL } };
    const struct virtio_scsi_media scsi[2] = { { fuzz_disks_open(f), false, "serial" },
                                               { f->cd[1], true, NULL } };
    BUG_ON(ahci_create(f->bus, AHCI_SLOT, sata, 2, NULL) != 0);
    BUG_ON(nvme_create(f->bus, NVME_SLOT, "nvme0", fuzz_disks_open(f), NULL, 2, NULL) != 0);
    BUG_ON(virtio_scsi_create(f->bus, SCSI_SLOT, "scsi0", scsi, 2, 1, NULL) != 0);
    return 0;
}

static void fuzz_disks_begin_ahci(struct fuzz_disks *f)
{
    for (unsigned port = 0; port < 2; port++) {
        uint64_t at = f->ahci + 0x100 + 0x80 * (uint64_t)port;

        testvm_write(f->t, at, 4, LIST + 0x1000 * port);
        testvm_write(f->t, at + 8, 4, LIST + 0x1000 * port + 0x800);
        testvm_write(f->t, at + 0x14, 4, 0xffffffff);
        testvm_write(f->t, at + 0x18, 4, 0x11);
    }
    testvm_write(f->t, f->ahci + 4, 4, 2);
}

static void fuzz_disks_nvme_command(struct fuzz_disks *f, unsigned queue, const uint8_t *sqe)
{
    uint64_t base = queue ? IO : ADMIN;

    memcpy(f->t->ram.hva + base + 64 * (uint64_t)f->tail[queue], sqe, 64);
    f->tail[queue] = (uint16_t)((f->tail[queue] + 1) % QUEUE);
    testvm_write(f->t, f->nvme + 0x1000 + 8 * (uint64_t)queue, 4, f->tail[queue]);
}

static void fuzz_disks_begin_nvme(struct fuzz_disks *f)
{
    uint8_t sqe[64] = { 5 };

    memset(f->tail, 0, sizeof(f->tail));
    testvm_write(f->t, f->nvme + 0x24, 4, (QUEUE - 1) << 16 | (QUEUE - 1));
    testvm_write(f->t, f->nvme + 0x28, 8, ADMIN);
    testvm_write(f->t, f->nvme + 0x30, 8, ADMIN + 0x1000);
    testvm_write(f->t, f->nvme + 0x14, 4, 0x460001);
    st_le64(sqe + 24, IO + 0x1000);
    st_le32(sqe + 40, (QUEUE - 1) << 16 | 1);
    st_le32(sqe + 44, 1 << 16 | 3);
    fuzz_disks_nvme_command(f, 0, sqe);
    sqe[0] = 1;
    st_le64(sqe + 24, IO);
    fuzz_disks_nvme_command(f, 0, sqe);
}

static void fuzz_disks_begin(struct fuzz_disks *f)
{
    struct vm *vm = f->t->vm;

    device_quiesce_all(vm->devices);
    for (unsigned i = 0; i < ARRAY_SIZE(f->cd); i++)
        fuzz_media_restore(vm, f->cd[i], DISK, true);
    device_reset_all(vm->devices);
    device_sync_all(vm->devices);
    memset(f->t->ram.hva, 0, RAM);
    f->scsi = vdrv_find(f->t, f->bus, SCSI_SLOT);
    pci_bus_at(f->bus, AHCI_SLOT)->cfg[PCI_COMMAND] |= PCI_CMD_MASTER;
    pci_bus_at(f->bus, NVME_SLOT)->cfg[PCI_COMMAND] |= PCI_CMD_MASTER;
    f->ahci = pci_bus_at(f->bus, AHCI_SLOT)->bar[5].mapped_at;
    f->nvme = pci_bus_at(f->bus, NVME_SLOT)->bar[0].mapped_at;
    fuzz_disks_begin_ahci(f);
    fuzz_disks_begin_nvme(f);
    BUG_ON(!vdrv_negotiate(&f->scsi, VIRTIO_F_VERSION_1));
    for (uint16_t i = 0; i < 3; i++) {
        f->ring[i] = vring_at(f->t, RINGS + 0x8000 * (uint64_t)i, QUEUE);
        vdrv_set_queue(&f->scsi, i, &f->ring[i], 0xffff);
    }
    vdrv_start(&f->scsi);
}

/* --- operations --- */

/* Of the devices' registers, mostly where there are some. */
static void fuzz_disks_poke(struct fuzz_disks *f, struct fuzz_input *in, bool write)
{
    uint8_t which = fuzz_u8(in);
    const uint64_t base[] = { f->ahci, f->ahci + 0x100, f->nvme, f->nvme + 0x1000, f->scsi.bar };
    uint64_t at = base[which % ARRAY_SIZE(base)] + fuzz_u16(in) % 0x200;
    unsigned size = 1u << (which >> 6);

    if (write)
        testvm_write(f->t, at, size, size == 8 ? fuzz_u64(in) : fuzz_u32(in));
    else
        testvm_read(f->t, at, size);
}

static void fuzz_disks_ram(struct fuzz_disks *f, struct fuzz_input *in)
{
    uint64_t at = (uint64_t)fuzz_u16(in) * 16;
    uint8_t buf[64];
    unsigned len = fuzz_u8(in) % sizeof(buf);

    fuzz_bytes(in, buf, len);
    memcpy(f->t->ram.hva + min_u64(at, RAM - sizeof(buf)), buf, len);
}

/* A command in a slot: header flags, FIS and packet as given; a PRD table of three entries. */
static void fuzz_disks_ahci(struct fuzz_disks *f, struct fuzz_input *in)
{
    uint8_t slot = fuzz_u8(in), flags = fuzz_u8(in), fis[0x50];
    unsigned port = slot >> 7, n = slot & 31;
    uint8_t *head = f->t->ram.hva + LIST + 0x1000 * port + 32 * n;
    uint64_t table = TABLE + 0x400 * (uint64_t)n;
    uint8_t *prdt = f->t->ram.hva + table + 0x80;

    fuzz_bytes(in, fis, sizeof(fis));
    fis[0] = flags & 1 ? fis[0] : 0x27;
    memcpy(f->t->ram.hva + table, fis, sizeof(fis));
    st_le16(head, (uint16_t)(flags << 5 | 5));
    st_le16(head + 2, 3);
    st_le64(head + 8, table);
    for (unsigned i = 0; i < 3; i++, prdt += 16) {
        st_le64(prdt, DATA + 0x10000 * (uint64_t)i);
        st_le32(prdt + 12, fuzz_u16(in));
    }
    testvm_write(f->t, f->ahci + 0x134 + 0x80 * (uint64_t)port, 4, flags & 2 ? 1u << n : 0);
    testvm_write(f->t, f->ahci + 0x138 + 0x80 * (uint64_t)port, 4, 1u << n);
}

static void fuzz_disks_nvme(struct fuzz_disks *f, struct fuzz_input *in, unsigned queue)
{
    uint8_t sqe[64], flags = fuzz_u8(in);

    fuzz_bytes(in, sqe, sizeof(sqe));
    if (flags & 1) {
        sqe[1] = 0;
        st_le32(sqe + 4, 1);
        st_le64(sqe + 24, DATA + (flags & 0xf8));
        st_le64(sqe + 32, DATA + 0x10000 + (flags & 4 ? 0xff8 : 0));
    }
    fuzz_disks_nvme_command(f, queue, sqe);
    testvm_write(f->t, f->nvme + 0x1004 + 8 * (uint64_t)queue, 4, fuzz_u8(in) % QUEUE);
}

/* head, data to write, room for the reply, room for data */
static void fuzz_disks_scsi(struct fuzz_disks *f, struct fuzz_input *in)
{
    uint8_t *head = f->t->ram.hva + SCSI_HEAD, flags = fuzz_u8(in);
    uint16_t queue = flags & 0x80 ? 0 : 2;
    struct vring *r = &f->ring[queue];

    memset(head, 0, 51);
    fuzz_bytes(in, head + 1, 8);
    head[0] = 1;
    if (queue)
        head[1] &= 1;
    fuzz_bytes(in, head + 19, 16);
    vring_desc(r, 0, SCSI_HEAD, queue ? 51 : 24, VRING_NEXT, flags & 1 ? 1 : 2);
    vring_desc(r, 1, DATA, fuzz_u16(in), VRING_NEXT, 2);
    vring_desc(r, 2, SCSI_HEAD + 0x100, 108, VRING_WRITE | (flags & 2 ? VRING_NEXT : 0), 3);
    vring_desc(r, 3, DATA + 0x20000, fuzz_u16(in), VRING_WRITE, 0);
    vring_offer(r, 0);
    vdrv_kick(&f->scsi, queue);
}

static void fuzz_disks_load(struct fuzz_disks *f, struct fuzz_input *in)
{
    uint8_t image[STATE_MAX];
    struct state s;
    size_t len = fuzz_u16(in) % sizeof(image);

    fuzz_bytes(in, image, len);
    device_quiesce_all(f->t->vm->devices);
    state_init_load(&s, image, len);
    device_state_all(f->t->vm->devices, &s);
    if (state_error(&s)) /* a machine whose state was refused never runs */
        device_reset_all(f->t->vm->devices);
    state_fini(&s);
    device_sync_all(f->t->vm->devices);
}

static void fuzz_disks_op(struct fuzz_disks *f, struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in);

    switch (op & 15) {
    case 0:
    case 1:
        fuzz_disks_poke(f, in, true);
        break;
    case 2:
        fuzz_disks_poke(f, in, false);
        break;
    case 3:
        fuzz_disks_ram(f, in);
        break;
    case 4:
    case 5:
    case 6:
        fuzz_disks_ahci(f, in);
        break;
    case 7:
        fuzz_disks_nvme(f, in, 0);
        break;
    case 8:
    case 9:
        fuzz_disks_nvme(f, in, 1);
        break;
    case 10:
    case 11:
    case 12:
        fuzz_disks_scsi(f, in);
        break;
    case 13:
        if (op & 0x80)
            fuzz_media_op(f->t->vm, f->cd[op >> 6 & 1], in);
        device_quiesce_all(f->t->vm->devices);
        device_sync_all(f->t->vm->devices);
        break;
    case 14:
        loop_poll(f->t->vm->loop, 0);
        break;
    default:
        fuzz_disks_load(f, in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_disks_begin(&fuzz_disks);
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_disks_op(&fuzz_disks, &in);
    device_quiesce_all(fuzz_disks.t->vm->devices);
    loop_poll(fuzz_disks.t->vm->loop, 0);
    return 0;
}
