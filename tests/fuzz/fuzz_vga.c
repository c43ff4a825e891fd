/*
 * fuzz_vga.c: a guest that sets the VGA's registers to anything, by any way, and writes to its memory; what
 * follows from that is drawn and read as text now and then. A state of any bytes may be loaded, too.
 *
 * Input: {operation, operands}, see fuzz_vga_op().
 */
#include "fuzz.h"

#include "hw/vga.h"
#include "testvm.h"

enum { MAX_OPS = 400, MAX_PICTURES = 4, STATE_MAX = 2048 };
#define FB 0xe0000000ull

static struct fuzz_vga {
    struct testvm *t;
    struct ram_region vram;
    struct vga *v;
    struct surface s;
    unsigned pictures;
} fuzz_vga;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct vga_at at = { 0xa0000, 0x3b0, 0x1ce };
    struct pci_bus *bus;

    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_vga.t = testvm_create(0);
    bus = pci_bus_create(fuzz_vga.t->vm, NULL);
    BUG_ON(!bus || ram_alloc(&fuzz_vga.vram, "vga", FB, VGA_VRAM_LEN, NULL) != 0);
    fuzz_vga.v =
        vga_create(fuzz_vga.t->vm, bus, PCI_DEVFN(2, 0), &at, &fuzz_vga.vram, NULL, 0, NULL);
    BUG_ON(!fuzz_vga.v);
    return 0;
}

static void fuzz_vga_begin(void)
{
    device_reset_all(fuzz_vga.t->vm->devices);
    testvm_pci_out(fuzz_vga.t, PCI_DEVFN(2, 0), PCI_BAR0, 4, FB);
    testvm_pci_out(fuzz_vga.t, PCI_DEVFN(2, 0), PCI_COMMAND, 2, 7);
    testvm_out(fuzz_vga.t, 0x3c2, 1, 0x67);
    fuzz_vga.pictures = 0;
}

static void fuzz_vga_draw(void)
{
    struct picture p;
    int rc;

    if (fuzz_vga.pictures++ >= MAX_PICTURES)
        return;
    vga_picture(fuzz_vga.v, &p);
    rc = picture_draw(&p, &fuzz_vga.s);
    (void)rc;
    free(picture_text(&p));
}

static void fuzz_vga_load(struct fuzz_input *in)
{
    uint8_t image[STATE_MAX];
    struct state s;
    size_t len = fuzz_u16(in) % sizeof(image);

    fuzz_bytes(in, image, len);
    state_init_load(&s, image, len);
    device_state_all(fuzz_vga.t->vm->devices, &s);
    state_fini(&s);
    device_sync_all(fuzz_vga.t->vm->devices);
}

static void fuzz_vga_op(struct fuzz_input *in)
{
    static const uint16_t indexed[] = { 0x3c4, 0x3ce, 0x3d4, 0x3b4 };
    struct testvm *t = fuzz_vga.t;
    uint8_t op = fuzz_u8(in);

    switch (op & 15) {
    case 0:
        testvm_out(t, (uint16_t)(0x3b0 + fuzz_u8(in) % 48), 1u << (op >> 6) % 3, fuzz_u32(in));
        break;
    case 1:
        testvm_in(t, (uint16_t)(0x3b0 + fuzz_u8(in) % 48), 1u << (op >> 6) % 3);
        break;
    case 2:
    case 3:
        testvm_out(t, indexed[op >> 4 & 3], 2, fuzz_u16(in));
        break;
    case 4:
        testvm_in(t, 0x3da, 1);
        testvm_out(t, 0x3c0, 1, fuzz_u8(in));
        testvm_out(t, 0x3c0, 1, fuzz_u8(in));
        break;
    case 5:
    case 6:
        testvm_out(t, 0x1ce, 2, op >> 4);
        testvm_out(t, 0x1cf, 2, fuzz_u16(in));
        break;
    case 7:
        testvm_write(t, 0xa0000 + (fuzz_u32(in) & 0x1ffff), 1u << (op >> 6), fuzz_u64(in));
        break;
    case 8:
        testvm_read(t, 0xa0000 + (fuzz_u32(in) & 0x1ffff), 1u << (op >> 6));
        break;
    case 9:
        testvm_write(t, FB + fuzz_u32(in) % VGA_VRAM_LEN, 1u << (op >> 6), fuzz_u64(in));
        break;
    case 10:
        testvm_read(t, FB + fuzz_u32(in) % VGA_VRAM_LEN, 1u << (op >> 6));
        break;
    case 11:
        vga_set_text(fuzz_vga.v, NULL);
        break;
    case 12:
        fuzz_vga_load(in);
        break;
    case 13:
        clock_advance(vm_clock(t->vm), fuzz_u32(in));
        break;
    default:
        fuzz_vga_draw();
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_vga_begin();
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_vga_op(&in);
    fuzz_vga.pictures = 0;
    fuzz_vga_draw();
    return 0;
}
