/*
 * fuzz_floppy.c: a guest that sends anything to the floppy controller, the DMA controllers and the parallel port,
 * while the disks and time go on, and floppies are changed. A state of any bytes may be loaded, too.
 *
 * Input: {operation, operands}, see fuzz_floppy_op().
 */
#include "fuzz_media.h"

#include "hw/fdc.h"
#include "hw/parport.h"
#include "testvm.h"

enum { MAX_OPS = 600, RAM = 1 << 20, STATE_MAX = 20000, MAX_ADVANCE_NS = 2000000, CHANNEL = 2 };
enum { SIZE_A = 1440 * KIB, SIZE_B = 100 * KIB };

static struct fuzz_floppy {
    struct testvm *t;
    struct blk *disk[FDC_DRIVES];
    bool irq[2];
} fuzz_floppy;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct i8237_at dma = { 0x00, 0xc0, 0x81 };
    struct fdc_at at = { 0x3f0, testvm_irq(&fuzz_floppy.irq[0]), NULL, CHANNEL };
    struct blk **disk = fuzz_floppy.disk;
    struct chardev *printer;

    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_floppy.t = testvm_create(RAM);
    disk[0] = fuzz_media_drive(fuzz_floppy.t->vm, SIZE_A, false);
    disk[1] = fuzz_media_drive(fuzz_floppy.t->vm, SIZE_B, true);
    at.dma = i8237_create(fuzz_floppy.t->vm, &dma, NULL);
    printer = chardev_open("none", vm_loop(fuzz_floppy.t->vm), NULL, NULL, NULL);
    BUG_ON(!at.dma || !printer || !fdc_create(fuzz_floppy.t->vm, &at, disk, NULL));
    BUG_ON(
        !parport_create(fuzz_floppy.t->vm, 0x378, testvm_irq(&fuzz_floppy.irq[1]), printer, NULL));
    return 0;
}

static void fuzz_floppy_begin(void)
{
    struct vm *vm = fuzz_floppy.t->vm;

    device_quiesce_all(vm->devices);
    fuzz_media_restore(vm, fuzz_floppy.disk[0], SIZE_A, false);
    fuzz_media_restore(vm, fuzz_floppy.disk[1], SIZE_B, true);
    clock_set(vm_clock(vm), 0, 0);
    device_reset_all(vm->devices);
    device_sync_all(vm->devices);
}

/* A command that makes sense but for its operands. */
static void fuzz_floppy_command(struct fuzz_input *in)
{
    static const uint8_t codes[] = { 0xe6, 0xc5, 0x46, 0x45, 0x56, 0x4d, 0x4a, 0x07,
                                     0x0f, 0x08, 0x03, 0x13, 0x0e, 0x94, 0x8f, 0x12 };
    static const uint8_t lens[] = { 9, 9, 9, 9, 9, 6, 2, 2, 3, 1, 3, 4, 1, 1, 3, 2 };
    uint8_t which = fuzz_u8(in) % ARRAY_SIZE(codes);

    testvm_out(fuzz_floppy.t, 0x3f5, 1, codes[which]);
    for (unsigned i = 1; i < lens[which]; i++)
        testvm_out(fuzz_floppy.t, 0x3f5, 1, fuzz_u8(in) & 0x1f);
}

static void fuzz_floppy_dma(struct fuzz_input *in)
{
    testvm_out(fuzz_floppy.t, 0x0a, 1, 4 | CHANNEL);
    testvm_out(fuzz_floppy.t, 0x0b, 1, (fuzz_u8(in) & 0xfc) | CHANNEL);
    testvm_out(fuzz_floppy.t, 0x05, 1, fuzz_u8(in));
    testvm_out(fuzz_floppy.t, 0x05, 1, fuzz_u8(in) & 0x3f);
    testvm_out(fuzz_floppy.t, 0x81, 1, fuzz_u8(in) & 0x1f);
    testvm_out(fuzz_floppy.t, 0x0a, 1, CHANNEL);
}

static void fuzz_floppy_load(struct fuzz_input *in)
{
    static uint8_t image[STATE_MAX];
    struct state s;
    size_t len = fuzz_u16(in) % sizeof(image);

    fuzz_bytes(in, image, len);
    device_quiesce_all(fuzz_floppy.t->vm->devices);
    state_init_load(&s, image, len);
    device_state_all(fuzz_floppy.t->vm->devices, &s);
    if (state_error(&s))
        fuzz_floppy_begin(); /* a machine whose state was refused never runs */
    state_fini(&s);
    device_sync_all(fuzz_floppy.t->vm->devices);
}

static void fuzz_floppy_op(struct fuzz_input *in)
{
    static const uint16_t bases[] = { 0x3f0, 0x00, 0xc0, 0x81, 0x378, 0x3f5, 0x3f2, 0x3f7 };
    static const uint8_t lens[] = { 6, 16, 32, 15, 3, 1, 1, 1 };
    struct testvm *t = fuzz_floppy.t;
    uint8_t op = fuzz_u8(in), where = fuzz_u8(in);
    uint16_t port = (uint16_t)(bases[where & 7] + (where >> 3) % lens[where & 7]);

    switch (op & 7) {
    case 0:
    case 1:
        testvm_out(t, port, 1, fuzz_u8(in));
        break;
    case 2:
        for (unsigned i = 0; i <= op >> 3u; i++)
            testvm_in(t, port, 1);
        break;
    case 3:
    case 4:
        fuzz_floppy_command(in);
        break;
    case 5:
        fuzz_floppy_dma(in);
        break;
    case 6:
        clock_advance(vm_clock(t->vm), fuzz_u32(in) % MAX_ADVANCE_NS);
        loop_poll(vm_loop(t->vm), op & 8 ? 1 : 0);
        break;
    default:
        if (op == 0xff)
            fuzz_floppy_load(in);
        else if (op & 0x80)
            fuzz_media_op(t->vm, fuzz_floppy.disk[op >> 6 & 1], in);
        else
            device_quiesce_all(t->vm->devices);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_floppy_begin();
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_floppy_op(&in);
    return 0;
}
