/*
 * fuzz_machine.c: a guest that reads and writes every port, device register, model-specific register and
 * piece of memory with any size, while time passes and somebody looks at its screen.
 *
 * Input: {operation, operands}, see fuzz_machine_op().
 */
#include "fuzz.h"
#include "fuzz_pc.h"
#include "mem/guest.h"
#include "vm/exit.h"
#include "vm/machine_pc.h"

enum { MAX_OPS = 2000, MAX_ADVANCE_NS = 20000000, MAX_LOOKS = 2 };

static struct fuzz_pc fuzz_machine;
static unsigned fuzz_machine_looks; /* at the screen, of this input */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_pc_create(&fuzz_machine);
    return 0;
}

/* Where devices are, and anything else. */
static uint64_t fuzz_machine_gpa(struct fuzz_input *in)
{
    static const uint64_t bases[] = { 0xfec00000, 0xfed00000, 0xfee00000, 0xe0000000,
                                      0xe0100000, 0xe0140000, 0xe0180000, 0 };
    uint8_t which = fuzz_u8(in);

    if (which == 0xff)
        return fuzz_u64(in);
    if (which == 0xfd)
        return 0xa0000 + fuzz_u32(in) % 0x20000;
    if (which == 0xfc)
        return FUZZ_PC_VRAM + fuzz_u32(in) % (16 * MIB);
    if (which == 0xfe)
        return FUZZ_PC_FLASH + fuzz_u16(in) % FUZZ_PC_FLASH_LEN;
    return bases[which % 8] + (uint64_t)(which >> 3) * 0x10000 + fuzz_u16(in);
}

static uint16_t fuzz_machine_port(struct fuzz_input *in)
{
    static const uint8_t often[] = { 0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43,
                                     0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0x80, 0xf0 };
    /* Two channels, their control ports, and bus mastering. */
    static const uint16_t ide[] = { 0x1f0,  0x1f1,  0x1f2,  0x1f3,  0x1f4,  0x1f5,  0x1f6,  0x1f7,
                                    0x170,  0x170,  0x171,  0x172,  0x173,  0x174,  0x175,  0x176,
                                    0x177,  0x177,  0x3f6,  0x376,  0xc000, 0xc002, 0xc004, 0xc006,
                                    0xc008, 0xc00a, 0xc00c, 0xc00e, 0x1f0,  0x1f7,  0x170,  0x177 };
    static const uint16_t vga[] = { 0x3c0, 0x3c0, 0x3c2, 0x3c4, 0x3c5, 0x3c7, 0x3c8, 0x3c9,
                                    0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x3b4, 0x1ce, 0x1cf };
    uint8_t b = fuzz_u8(in);

    if (b < 0x60)
        return often[b % ARRAY_SIZE(often)];
    if (b < 0x80)
        return ide[b % ARRAY_SIZE(ide)];
    if (b < 0xa0)
        return (uint16_t)(0x3f8 + (b & 7));
    if (b < 0xc0)
        return (uint16_t)(0xcf8 + (b & 7));
    if (b < 0xe0)
        return (uint16_t)(0x600 + (b & 15));
    if (b < 0xf0)
        return vga[b % ARRAY_SIZE(vga)];
    return fuzz_u16(in);
}

static void fuzz_machine_pio(struct vcpu *c, struct fuzz_input *in, unsigned size, bool write)
{
    uint16_t port = fuzz_machine_port(in);
    uint32_t val = size == 1 ? fuzz_u8(in) : size == 2 ? fuzz_u16(in) : fuzz_u32(in);

    exit_pio(c, port, size, write, &val);
}

static void fuzz_machine_mmio(struct vcpu *c, struct fuzz_input *in, bool write)
{
    uint64_t gpa = fuzz_machine_gpa(in), val;
    unsigned size = 1 + fuzz_u8(in) % 8;

    val = size > 4 ? fuzz_u64(in) : fuzz_u32(in);
    exit_mmio(c, gpa, size, write, &val);
}

static void fuzz_machine_msr(struct vcpu *c, struct fuzz_input *in, bool write)
{
    static const uint32_t often[] = { 0x1b, 0x6e0, 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x10, 0x3b };
    uint8_t b = fuzz_u8(in);
    uint32_t index = b < 0x40 ? 0x800u + b : b < 0xc0 ? often[b % 8] : fuzz_u32(in);
    uint64_t val = write ? fuzz_u64(in) : 0;
    bool known = exit_msr(c, index, write, &val);

    (void)known;
}

static void fuzz_machine_ram(struct vm *vm, struct fuzz_input *in)
{
    uint64_t at = (uint64_t)fuzz_u16(in) * 16;
    uint8_t buf[64];
    unsigned len = fuzz_u8(in) % sizeof(buf);
    bool ok;

    fuzz_bytes(in, buf, len);
    ok = guest_write(&vm->mem, at, buf, len);
    (void)ok;
}

/* What a vCPU does between instructions. */
static void fuzz_machine_events(struct vcpu *c, uint8_t b)
{
    if (exit_intr_pending(c))
        exit_intr_ack(c);
    exit_nmi_take(c);
    if (b & 1)
        exit_tpr_set(c, b >> 4);
    exit_tpr_get(c);
    if (b & 2)
        exit_eoi(c->vm, b);
}

/* As `ruche screenshot` does. */
static void fuzz_machine_look(struct vm *vm, bool text)
{
    size_t len;

    if (fuzz_machine_looks++ < MAX_LOOKS)
        free(machine_pc_screen(vm, text, &len));
}

static void fuzz_machine_op(struct fuzz_pc *pc, struct fuzz_input *in)
{
    uint8_t op = fuzz_u8(in);
    struct vcpu *c = pc->vm->vcpu[op >> 7];

    switch (op & 15) {
    case 0:
    case 1:
    case 2:
        fuzz_machine_pio(c, in, 1u << (op & 15), true);
        break;
    case 3:
    case 4:
    case 5:
        fuzz_machine_pio(c, in, 1u << ((op & 15) - 3), false);
        break;
    case 6:
    case 7:
        fuzz_machine_mmio(c, in, true);
        break;
    case 8:
        fuzz_machine_mmio(c, in, false);
        break;
    case 9:
    case 10:
        fuzz_machine_msr(c, in, op & 1);
        break;
    case 11:
        fuzz_machine_ram(pc->vm, in);
        break;
    case 12:
        clock_advance(pc->vm->clock, fuzz_u32(in) % MAX_ADVANCE_NS);
        break;
    case 13:
        fuzz_machine_events(c, fuzz_u8(in));
        break;
    case 14:
        fuzz_pc_poll(pc);
        if (op & 0x40)
            fuzz_machine_look(pc->vm, op & 0x20);
        break;
    default:
        if (op == 0xff)
            device_reset_all(pc->vm->devices);
        device_sync_all(pc->vm->devices);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };

    fuzz_pc_reset(&fuzz_machine);
    fuzz_machine_looks = 0;
    for (unsigned i = 0; in.len && i < MAX_OPS; i++)
        fuzz_machine_op(&fuzz_machine, &in);
    fuzz_pc_poll(&fuzz_machine);
    return 0;
}
