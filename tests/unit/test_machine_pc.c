/* The machine's memory under firmware: where its image is seen, and how shadow RAM takes its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "mem/guest.h"
#include "vm/exit.h"
#include "vm/machine_pc.h"

enum { IMAGE = 256 * KIB, PAM0 = 0x59, SMRAMC = 0x72 };

struct fixture {
    struct vm_config cfg;
    struct vm *vm;
    int image;
};

/* An image of which every 32-bit word tells its own offset. */
static void make_image(struct fixture *f)
{
    char path[64];

    f->image = memfd_create("image", MFD_CLOEXEC);
    assert_true(f->image >= 0);
    for (uint32_t i = 0; i < IMAGE; i += 4)
        assert_int_equal(write(f->image, &i, 4), 4);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->image);
    f->cfg.firmware = strdup(path);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    assert_non_null(f);
    config_init(&f->cfg);
    f->cfg.memory = 16 * MIB;
    free(f->cfg.serial);
    f->cfg.serial = strdup("none");
    free(f->cfg.net);
    f->cfg.net = strdup("none");
    make_image(f);
    assert_int_equal(vm_create(&f->vm, &f->cfg, NULL, &e), 0);
    if (machine_pc_create(f->vm, &e))
        fail_msg("%s", e.msg);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    vm_destroy(f->vm);
    config_fini(&f->cfg);
    close(f->image);
    free(f);
    return 0;
}

static void host_write(struct fixture *f, unsigned off, uint8_t val)
{
    uint32_t addr = 0x80000000u | (off & 0xfc);

    bus_write(&f->vm->pio, 0xcf8, 4, &addr);
    bus_write(&f->vm->pio, 0xcfc + (off & 3), 1, &val);
}

/* As a processor reads: RAM and ROM, else the bus. */
static uint32_t peek(struct fixture *f, uint64_t gpa)
{
    uint32_t val = 0;

    if (!guest_read(&f->vm->mem, gpa, &val, sizeof(val)))
        bus_read(&f->vm->mmio, gpa, sizeof(val), &val);
    return val;
}

static void poke(struct fixture *f, uint64_t gpa, uint32_t val)
{
    if (!guest_write(&f->vm->mem, gpa, &val, sizeof(val)))
        bus_write(&f->vm->mmio, gpa, sizeof(val), &val);
}

static void test_image(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(peek(f, 0xfffc0000), 0);
    assert_int_equal(peek(f, 0xfffffff0), IMAGE - 16);
    assert_int_equal(peek(f, 0xffff0), IMAGE - 16);
    assert_int_equal(peek(f, 0xe0000), IMAGE - 0x20000);
    assert_int_equal(peek(f, 0xdfff0), 0xffffffff);
    assert_int_equal(peek(f, 0xa0000), 0xffffffff);
    poke(f, 0xffff0, 0);
    poke(f, 0xfffffff0, 0);
    assert_int_equal(peek(f, 0xffff0), IMAGE - 16);
    assert_int_equal(peek(f, 0xfffffff0), IMAGE - 16);
}

/* How a BIOS moves into RAM: writes below the ROM, then reads from there, then read-only. */
static void test_shadow(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e = { 0 };

    host_write(f, PAM0, 0x20);
    poke(f, 0xf0000, 0x11223344);
    assert_int_equal(peek(f, 0xf0000), IMAGE - 0x10000);
    host_write(f, PAM0, 0x30);
    assert_int_equal(peek(f, 0xf0000), 0x11223344);
    poke(f, 0xf0004, 0x55667788);
    host_write(f, PAM0, 0x10);
    poke(f, 0xf0004, 0);
    assert_int_equal(peek(f, 0xf0004), 0x55667788);
    assert_int_equal(peek(f, 0xe0000), IMAGE - 0x20000); /* the other segments are as before */
    assert_int_equal(vm_reset(f->vm, &e), 0);
    assert_int_equal(peek(f, 0xf0004), IMAGE - 0x10000 + 4);
    host_write(f, PAM0, 0x30);
    assert_int_equal(peek(f, 0xf0004), 0x55667788); /* RAM survives a reset */
}

static void test_smram(void **ctx)
{
    struct fixture *f = *ctx;

    host_write(f, SMRAMC, 0x4a);
    poke(f, 0xa0000, 0x31415926);
    assert_int_equal(peek(f, 0xa0000), 0x31415926);
    host_write(f, SMRAMC, 0x0a);
    assert_int_equal(peek(f, 0xa0000), 0xffffffff);
}

static void test_a20(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t off = 0, on = 2;

    poke(f, 0x500, 1);
    poke(f, 0x100500, 2);
    poke(f, 0x200500, 3);
    bus_write(&f->vm->pio, 0x92, 1, &off);
    assert_int_equal(peek(f, 0x100500), 1);
    assert_int_equal(peek(f, 0x200500), 3);
    poke(f, 0x100504, 4);
    poke(f, 0x200504, 5);
    assert_int_equal(peek(f, 0x1ffff0), IMAGE - 16); /* a ROM, too */
    bus_write(&f->vm->pio, 0x92, 1, &on);
    assert_int_equal(peek(f, 0x100500), 2);
    assert_int_equal(peek(f, 0x504), 4);
    assert_int_equal(peek(f, 0x200504), 5);
}

/* What is hidden belongs to the VM's state as well. */
static void test_state(void **ctx)
{
    struct fixture *f = *ctx;
    struct state s, l;

    host_write(f, PAM0, 0x30);
    poke(f, 0xf0000, 0xcafe);
    host_write(f, PAM0, 0);
    state_init_save(&s);
    device_state_all(f->vm->devices, &s);
    vm_ram_state(f->vm, &s);
    assert_int_equal(state_error(&s), 0);
    host_write(f, PAM0, 0x30);
    poke(f, 0xf0000, 0);
    state_init_load(&l, s.buf, s.len);
    device_state_all(f->vm->devices, &l);
    f->vm->layout(f->vm);
    vm_ram_state(f->vm, &l);
    assert_int_equal(state_error(&l), 0);
    assert_int_equal(peek(f, 0xf0000), IMAGE - 0x10000);
    host_write(f, PAM0, 0x30);
    assert_int_equal(peek(f, 0xf0000), 0xcafe);
    state_fini(&l);
    state_fini(&s);
}

static void vga_config(struct fixture *f, unsigned reg, uint32_t val)
{
    uint32_t addr = 0x80000000u | 31 << 11 | reg;

    bus_write(&f->vm->pio, 0xcf8, 4, &addr);
    bus_write(&f->vm->pio, 0xcfc, 4, &val);
}

/* The screen's memory is where its BAR says, with all that is in it; but never over RAM or chips. */
static void test_frame_buffer_moves(void **ctx)
{
    static const uint32_t taken[] = { 0, 0x100000, 0xfe000000, 0xff000000 };
    struct fixture *f = *ctx;

    vga_config(f, 0x10, 0xe0000000);
    assert_null(physmap_find(&f->vm->mem, 0xe0000000));
    vga_config(f, 0x04, 7);
    poke(f, 0xe0001000, 0x12345678);
    assert_non_null(physmap_find(&f->vm->mem, 0xe0001000));
    vga_config(f, 0x10, 0xc1000000);
    assert_null(physmap_find(&f->vm->mem, 0xe0001000));
    assert_int_equal(peek(f, 0xc1001000), 0x12345678);
    for (unsigned i = 0; i < ARRAY_SIZE(taken); i++) {
        struct ram_region *was = physmap_find(&f->vm->mem, taken[i]);

        vga_config(f, 0x10, taken[i]);
        assert_ptr_equal(physmap_find(&f->vm->mem, taken[i]), was);
    }
    assert_int_equal(f->vm->end, VM_RUNNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shadow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_smram, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a20, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_frame_buffer_moves, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
