/*
 * fuzz_usb.c: a driver that sets the registers of an xHCI and of a UHCI controller, their rings, contexts and
 * schedules to anything, while somebody types and points; a stick's disk completes, time passes, and a state of
 * any bytes may be loaded. The operations know where the rings are, so that what they put there is found.
 *
 * Input: {operation, operands}, see fuzz_usb_op().
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/uhci.h"
#include "hw/usb_hid.h"
#include "hw/usb_msc.h"
#include "hw/xhci.h"
#include "testvm.h"

enum { MAX_OPS = 300, RAM = MIB, DISK = 64 * KIB, STATE_MAX = 4096 };
enum {
    XHCI_SLOT = 2,
    UHCI_SLOT = 3,
    UHCI_IO = 0xc000,
};
#define XHCI_BAR 0xe0000000ull
/* Guest memory. */
enum {
    AT_SLOTS = 0x1000,
    AT_COMMANDS = 0x2000,
    AT_SEGMENTS = 0x3000,
    AT_EVENTS = 0x4000,
    AT_INPUT = 0x5000,
    AT_CONTEXTS = 0x6000, /* 0x400 a slot */
    AT_FRAMES = 0x10000,
    AT_QUEUES = 0x11000,
    AT_RINGS = 0x20000, /* 0x1000 an endpoint */
    AT_DATA = 0x60000,
    EVENTS = 256,
};
enum { TRBS = 64, TRB_CYCLE = 1 };

static struct fuzz_usb {
    struct testvm *t;
    struct input *in;
    unsigned command, transfer[32]; /* where the next TRBs go */
} fuzz_usb;

static struct usb_dev *fuzz_usb_stick(enum usb_speed speed)
{
    struct blk_opts o = { .format = "raw", .loop = fuzz_usb.t->vm->loop, .no_uring = true };
    int fd = memfd_create("disk", MFD_CLOEXEC);
    struct blk *disk;
    char path[64];

    BUG_ON(fd < 0 || ftruncate(fd, DISK) != 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    o.path = path;
    disk = blk_open(&o, NULL);
    BUG_ON(!disk);
    return usb_msc_create(disk, false, NULL, 0, speed, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct usb_dev *new[3], *old[2];
    struct pci_bus *bus;
    struct vm *vm;

    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_usb.t = testvm_create(RAM);
    vm = fuzz_usb.t->vm;
    fuzz_usb.in = input_create(NULL);
    bus = pci_bus_create(vm, NULL);
    BUG_ON(!bus || !fuzz_usb.in);
    new[0] = usb_tablet_create(fuzz_usb.in, NULL);
    new[1] = usb_kbd_create(fuzz_usb.in, NULL);
    new[2] = fuzz_usb_stick(USB_SUPER);
    old[0] = usb_tablet_create(fuzz_usb.in, NULL);
    old[1] = fuzz_usb_stick(USB_FULL);
    BUG_ON(xhci_create(vm, bus, PCI_DEVFN(XHCI_SLOT, 0), new, ARRAY_SIZE(new), NULL) != 0);
    BUG_ON(uhci_create(vm, bus, PCI_DEVFN(UHCI_SLOT, 0), old, ARRAY_SIZE(old), NULL) != 0);
    return 0;
}

static void fuzz_usb_config(unsigned slot, unsigned reg, uint32_t val)
{
    testvm_pci_out(fuzz_usb.t, PCI_DEVFN(slot, 0), reg, 4, val);
}

static void fuzz_usb_put(uint64_t at, const void *bytes, size_t len)
{
    if (at + len <= RAM)
        memcpy((char *)fuzz_usb.t->ram.hva + at, bytes, len);
}

static void fuzz_usb_put64(uint64_t at, uint64_t val)
{
    uint8_t raw[8];

    st_le64(raw, val);
    fuzz_usb_put(at, raw, sizeof(raw));
}

static void fuzz_usb_reg(unsigned off, uint32_t val)
{
    testvm_write(fuzz_usb.t, XHCI_BAR + off, 4, val);
}

/* Both controllers run, with empty rings and an empty schedule. */
static void fuzz_usb_begin(void)
{
    device_quiesce_all(fuzz_usb.t->vm->devices);
    clock_set(fuzz_usb.t->vm->clock, 0, 0);
    device_reset_all(fuzz_usb.t->vm->devices);
    device_sync_all(fuzz_usb.t->vm->devices);
    memset(fuzz_usb.t->ram.hva, 0, RAM);
    fuzz_usb.command = 0;
    memset(fuzz_usb.transfer, 0, sizeof(fuzz_usb.transfer));
    fuzz_usb_config(XHCI_SLOT, 0x10, (uint32_t)XHCI_BAR);
    fuzz_usb_config(XHCI_SLOT, 0x14, 0);
    fuzz_usb_config(XHCI_SLOT, 0x04, 6);
    fuzz_usb_config(UHCI_SLOT, 0x20, UHCI_IO);
    fuzz_usb_config(UHCI_SLOT, 0x04, 5);
    for (unsigned i = 1; i <= 8; i++)
        fuzz_usb_put64(AT_SLOTS + 8 * i, AT_CONTEXTS + 0x400 * i);
    fuzz_usb_put64(AT_SEGMENTS, AT_EVENTS);
    fuzz_usb_put64(AT_SEGMENTS + 8, EVENTS);
    fuzz_usb_reg(0x78, 8);
    fuzz_usb_reg(0x70, AT_SLOTS);
    fuzz_usb_reg(0x58, AT_COMMANDS | 1);
    fuzz_usb_reg(0x1028, 1);
    fuzz_usb_reg(0x1038, AT_EVENTS);
    fuzz_usb_reg(0x1030, AT_SEGMENTS);
    fuzz_usb_reg(0x1020, 2);
    fuzz_usb_reg(0x40, 5);
    for (unsigned i = 0; i < 1024; i++)
        fuzz_usb_put64(AT_FRAMES + 4 * i, (uint64_t)(AT_QUEUES | 2) << 32 | AT_QUEUES | 2);
    fuzz_usb_put64(AT_QUEUES, 1 | (uint64_t)1 << 32);
    testvm_out(fuzz_usb.t, UHCI_IO + 8, 4, AT_FRAMES);
    testvm_out(fuzz_usb.t, UHCI_IO + 0x10, 2, 4);
    testvm_out(fuzz_usb.t, UHCI_IO + 0x12, 2, 4);
    testvm_out(fuzz_usb.t, UHCI_IO, 2, 1);
}

/* --- xHCI --- */

static void fuzz_usb_trb(uint64_t at, uint64_t param, uint32_t status, uint32_t control)
{
    fuzz_usb_put64(at, param);
    fuzz_usb_put64(at + 8, status | (uint64_t)(control | TRB_CYCLE) << 32);
}

static void fuzz_usb_command(struct fuzz_input *in)
{
    uint8_t type = 9 + fuzz_u8(in) % 16, slot = fuzz_u8(in) % 10, ep = fuzz_u8(in);
    uint64_t param = ep & 0x40    ? fuzz_u32(in)
                     : type == 16 ? (AT_RINGS + 0x1000u * (ep & 31)) | 1
                                  : AT_INPUT;

    fuzz_usb_trb(AT_COMMANDS + 16 * fuzz_usb.command, param, 0,
                 (uint32_t)slot << 24 | (uint32_t)(ep & 31) << 16 | (uint32_t)type << 10 |
                     (ep & 0x80 ? 0x200 : 0));
    fuzz_usb.command = (fuzz_usb.command + 1) % TRBS;
    if (type == 16)
        fuzz_usb.transfer[ep & 31] = 0;
    fuzz_usb_reg(0x2000, 0);
}

/* An input context that is right: slot n's device in port n, all of its endpoints. */
static void fuzz_usb_contexts(struct fuzz_input *in)
{
    static const uint8_t types[] = { 4, 2, 6 };
    uint8_t port = fuzz_u8(in);

    fuzz_usb_put64(AT_INPUT, (uint64_t)(port & 0x80 ? 0x1fd : 3) << 32);
    fuzz_usb_put64(AT_INPUT + 0x20, 8u << 27 | (uint64_t)(port % 9) << 48);
    for (unsigned ep = 1; ep < 9; ep++) {
        uint64_t at = AT_INPUT + 0x20 * (ep + 1);

        fuzz_usb_put64(at, (uint64_t)types[ep == 1 ? 0 : 1 + (ep & 1)] << 35);
        fuzz_usb_put64(at + 8, (AT_RINGS + 0x1000 * ep) | 1);
    }
}

static void fuzz_usb_transfer(struct fuzz_input *in)
{
    uint8_t ep = 1 + fuzz_u8(in) % 8, type = fuzz_u8(in), flags = fuzz_u8(in);
    uint64_t param = flags & 0x80 ? fuzz_u64(in) : AT_DATA + fuzz_u16(in);
    uint32_t status = fuzz_u16(in);

    fuzz_usb_trb(AT_RINGS + 0x1000u * ep + 16 * fuzz_usb.transfer[ep], param,
                 type % 9 == 2 ? 8 : status,
                 (uint32_t)(type % 9) << 10 | (flags & 0x7e) | (type & 0x80 ? 1u << 16 : 0));
    fuzz_usb.transfer[ep] = (fuzz_usb.transfer[ep] + 1) % TRBS;
    fuzz_usb_reg(0x2000 + 4u * (1 + type / 9 % 3), ep);
}

/* A command for the stick, as its driver sends it. */
static void fuzz_usb_cbw(struct fuzz_input *in)
{
    uint8_t cbw[31] = "USBC";

    fuzz_bytes(in, cbw + 4, sizeof(cbw) - 4);
    cbw[10] = cbw[11] = cbw[13] = 0;
    cbw[14] = (uint8_t)(1 + cbw[14] % 16);
    fuzz_usb_put(AT_DATA, cbw, sizeof(cbw));
}

/* --- UHCI --- */

static void fuzz_usb_schedule(struct fuzz_input *in)
{
    uint8_t n = fuzz_u8(in) % 16, flags = fuzz_u8(in);
    uint64_t at = AT_QUEUES + 32u * (1 + n);
    uint32_t next = flags & 1 ? 1 : AT_QUEUES + 32u * (1 + flags % 16);

    fuzz_usb_put64(at, next | (flags & 6) |
                           (uint64_t)(0x00800000u | (uint32_t)fuzz_u16(in) << 16) << 32);
    fuzz_usb_put64(at + 8, fuzz_u32(in) | (uint64_t)AT_DATA << 32);
    fuzz_usb_put64(AT_QUEUES, (flags & 8 ? AT_QUEUES | 2u : 1u) | at << 32);
}

/* --- all --- */

static void fuzz_usb_load(struct fuzz_input *in)
{
    uint8_t image[STATE_MAX];
    struct state s;
    size_t len = fuzz_u16(in) % sizeof(image);

    fuzz_bytes(in, image, len);
    state_init_load(&s, image, len);
    device_state_all(fuzz_usb.t->vm->devices, &s);
    if (state_error(&s))
        device_reset_all(fuzz_usb.t->vm->devices);
    state_fini(&s);
    device_sync_all(fuzz_usb.t->vm->devices);
}

static void fuzz_usb_person(struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in);

    if (what & 1)
        input_key(fuzz_usb.in, fuzz_u8(in), what & 2);
    else
        input_point(fuzz_usb.in, fuzz_u16(in), fuzz_u16(in), 1024, 768, what >> 2 & 7,
                    (int8_t)fuzz_u8(in));
}

static void fuzz_usb_op(struct fuzz_input *in)
{
    struct testvm *t = fuzz_usb.t;
    uint8_t op = fuzz_u8(in);
    uint32_t at;

    switch (op & 15) {
    case 0:
        at = fuzz_u16(in) & 0x3ffc;
        fuzz_usb_reg(at, fuzz_u32(in));
        break;
    case 1:
        testvm_read(t, XHCI_BAR + (fuzz_u16(in) & 0x3fff), 1u << (op >> 6));
        break;
    case 2:
    case 3:
        fuzz_usb_command(in);
        break;
    case 4:
        fuzz_usb_contexts(in);
        break;
    case 5:
    case 6:
        fuzz_usb_transfer(in);
        break;
    case 7:
        at = fuzz_u32(in) % RAM;
        fuzz_usb_put64(at & ~7u, fuzz_u64(in));
        break;
    case 8:
        fuzz_usb_person(in);
        break;
    case 9:
        fuzz_usb_cbw(in);
        break;
    case 10:
        loop_poll(t->vm->loop, 1);
        break;
    case 11:
        fuzz_usb_load(in);
        break;
    case 12:
        at = fuzz_u8(in) & 31;
        testvm_out(t, (uint16_t)(UHCI_IO + at), 1u << (op >> 6) % 3, fuzz_u16(in));
        break;
    case 13:
        testvm_in(t, (uint16_t)(UHCI_IO + (fuzz_u8(in) & 31)), 1u << (op >> 6) % 3);
        break;
    case 14:
        fuzz_usb_schedule(in);
        break;
    default:
        clock_advance(vm_clock(t->vm), fuzz_u16(in) * 1000ull);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_usb_begin();
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_usb_op(&in);
    return 0;
}
