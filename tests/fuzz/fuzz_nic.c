/*
 * fuzz_nic.c: a guest that drives the old network cards wrongly: any register, any ring in its memory, with a
 * network that reaches nobody; frames come back by the cards' loopback. A state of any bytes may be loaded, too.
 *
 * Input: {operation, operands}, see fuzz_nic_op().
 */
#include "fuzz.h"

#include "hw/e1000.h"
#include "hw/rtl8139.h"
#include "testvm.h"

enum {
    MAX_OPS = 400,
    RAM = 1 << 20,
    CARDS = 3,
    STATE_MAX = 16384,
    IO = 0xc000,
    RINGS = 0x10000,
    MAX_ADVANCE_NS = 5000000
};
#define MMIO 0xe0000000ull

static struct testvm *fuzz_nic;

static void fuzz_nic_config(unsigned card, unsigned reg, uint32_t val)
{
    testvm_pci_out(fuzz_nic, PCI_DEVFN(2 + card, 0), reg, 4, val);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct nic_opts o = { .backend = "user", .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
    struct pci_bus *bus;

    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_nic = testvm_create(RAM);
    bus = pci_bus_create(fuzz_nic->vm, NULL);
    BUG_ON(!bus || e1000_create(fuzz_nic->vm, bus, PCI_DEVFN(2, 0), "net0", &o, NULL) != 0 ||
           rtl8139_create(fuzz_nic->vm, bus, PCI_DEVFN(3, 0), "net1", &o, NULL) != 0 ||
           rtl8139c_create(fuzz_nic->vm, bus, PCI_DEVFN(4, 0), "net2", &o, NULL) != 0);
    return 0;
}

/* All of them run, with rings in the memory that the input fills, and hear themselves. */
static void fuzz_nic_start(void)
{
    static const struct {
        uint32_t off, val;
    } regs[] = {
        { 0x3800, RINGS },           { 0x3808, 128 },         { 0x400, 2 },
        { 0x2800, RINGS + 0x400 },   { 0x2808, 128 },         { 0x2818, 7 },
        { 0x100, 0x80ca },           { 0x1000e0, 0x63 },      { 0x100020, RINGS + 0x800 },
        { 0x1000e4, RINGS + 0xc00 }, { 0x100037, 0x0c },      { 0x100040, 0x60000 },
        { 0x100044, 0x0f },          { 0x200030, RINGS * 2 }, { 0x200037, 0x0c },
        { 0x200040, 0x60000 },       { 0x200044, 0x0f },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        testvm_write(fuzz_nic, MMIO + regs[i].off, (regs[i].off & 0xff) == 0x37 ? 1 : 4,
                     regs[i].val);
}

/* The e1000 has its memory first, the others their I/O. */
static void fuzz_nic_begin(void)
{
    device_reset_all(fuzz_nic->vm->devices);
    device_sync_all(fuzz_nic->vm->devices);
    clock_set(vm_clock(fuzz_nic->vm), 0, 0);
    for (unsigned card = 0; card < CARDS; card++) {
        fuzz_nic_config(card, 0x10, card ? IO + card * 0x100 : MMIO);
        fuzz_nic_config(card, 0x14, card ? MMIO + card * 0x100000 : IO);
        fuzz_nic_config(card, 0x04, 7);
    }
    fuzz_nic_start();
}

/* Mostly registers that do something. */
static uint64_t fuzz_nic_address(unsigned card, struct fuzz_input *in)
{
    static const uint16_t often[] = { 0x0000, 0x0010, 0x0020, 0x00c0, 0x00d0, 0x0100,
                                      0x0400, 0x2800, 0x2808, 0x2810, 0x2818, 0x3800,
                                      0x3808, 0x3810, 0x3818, 0x5000 };
    uint8_t b = fuzz_u8(in);

    if (card)
        return MMIO + card * 0x100000 + b;
    return MMIO + (b < 0xc0 ? often[b % ARRAY_SIZE(often)] : fuzz_u32(in) & 0x1ffff);
}

static void fuzz_nic_memory(struct fuzz_input *in)
{
    uint32_t at = RINGS + fuzz_u16(in) % 0x1000u;
    uint8_t buf[64];
    size_t len = fuzz_u8(in) % sizeof(buf);

    fuzz_bytes(in, buf, len);
    if (at + len <= RAM)
        memcpy(fuzz_nic->ram.hva + at, buf, len);
}

static void fuzz_nic_load(struct fuzz_input *in)
{
    static uint8_t image[STATE_MAX];
    struct state s;
    size_t len = fuzz_u16(in) % sizeof(image);

    fuzz_bytes(in, image, len);
    state_init_load(&s, image, len);
    device_state_all(fuzz_nic->vm->devices, &s);
    if (state_error(&s))
        fuzz_nic_begin(); /* a machine whose state was refused never runs */
    state_fini(&s);
    device_sync_all(fuzz_nic->vm->devices);
}

static void fuzz_nic_op(struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in);
    unsigned card = (op >> 3 & 3) % CARDS, size = 1u << (op >> 5) % 3;

    switch (op & 7) {
    case 0:
    case 1:
    case 2:
        testvm_write(fuzz_nic, fuzz_nic_address(card, in), card ? size : 4, fuzz_u32(in));
        break;
    case 3:
        testvm_read(fuzz_nic, fuzz_nic_address(card, in), card ? size : 4);
        break;
    case 4:
        fuzz_nic_memory(in);
        break;
    case 5:
        testvm_out(fuzz_nic, (uint16_t)(IO + card * 0x100 + fuzz_u8(in)), size, fuzz_u32(in));
        break;
    case 6:
        clock_advance(vm_clock(fuzz_nic->vm), fuzz_u32(in) % MAX_ADVANCE_NS);
        loop_poll(vm_loop(fuzz_nic->vm), 0);
        break;
    default:
        if (op & 8)
            fuzz_nic_load(in);
        else
            device_sync_all(fuzz_nic->vm->devices);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_nic_begin();
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_nic_op(&in);
    loop_poll(vm_loop(fuzz_nic->vm), 0);
    return 0;
}
