#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "mem/guest.h"

static unsigned n_written;
static uint64_t written_at;

static void code_written(void *opaque, uint64_t gpa, uint64_t len)
{
    (void)opaque;
    (void)len;
    n_written++;
    written_at = gpa;
}

/* Two regions for one place, one of them hidden: what is seen there is switched. */
static void test_show(void **ctx)
{
    struct ram_region block, ram, rom, other;
    struct physmap m = { 0 };
    uint8_t byte = 0;

    (void)ctx;
    assert_int_equal(ram_alloc(&block, "block", 0, 64 * KIB, NULL), 0);
    assert_int_equal(ram_alloc(&rom, "rom", 16 * KIB, 16 * KIB, NULL), 0);
    ram_view(&ram, &block, "ram", 16 * KIB, 16 * KIB, 16 * KIB);
    ram_view(&other, &block, "other", 20 * KIB, 0, 4 * KIB);
    assert_ptr_equal(ram.hva, block.hva + 16 * KIB);
    rom.rom = rom.readonly = true;
    rom.hva[5] = 0xaa;
    ram.hva[5] = 0x55;
    ram.hidden = true;
    assert_int_equal(physmap_add(&m, &rom), 0);
    assert_int_equal(physmap_add(&m, &ram), 0);
    assert_int_equal(physmap_add(&m, &other), -EEXIST);
    assert_ptr_equal(physmap_find(&m, 16 * KIB + 5), &rom);
    assert_true(guest_read(&m, 16 * KIB + 5, &byte, 1));
    assert_int_equal(byte, 0xaa);
    assert_false(guest_write(&m, 16 * KIB + 5, &byte, 1));

    assert_int_equal(physmap_show(&m, &ram, true, false), -EEXIST);
    assert_int_equal(physmap_show(&m, &rom, false, true), 0);
    assert_null(physmap_find(&m, 16 * KIB));
    assert_int_equal(physmap_show(&m, &ram, true, false), 0);
    assert_true(guest_read(&m, 16 * KIB + 5, &byte, 1));
    assert_int_equal(byte, 0x55);
    assert_true(guest_write(&m, 16 * KIB + 6, &byte, 1));
    assert_int_equal(block.hva[16 * KIB + 6], 0x55);
    assert_int_equal(physmap_show(&m, &ram, true, true), 0); /* as ROM */
    assert_false(guest_write(&m, 16 * KIB + 6, &byte, 1));
    ram_free(&ram);
    ram_free(&rom);
    ram_free(&block);
}

/* A write by host address is told to whoever has code of the page, but not while the page is hidden. */
static void test_region_written(void **ctx)
{
    struct physmap m = { .code_written = code_written };
    struct ram_region r;
    uint64_t code = 2, dirty = 0;

    (void)ctx;
    assert_int_equal(ram_alloc(&r, "r", MIB, 16 * KIB, NULL), 0);
    assert_int_equal(physmap_add(&m, &r), 0);
    r.code = &code;
    r.dirty = &dirty;
    guest_region_written(&m, &r, PAGE_SIZE + 8, 4);
    assert_int_equal(n_written, 1);
    assert_int_equal(written_at, MIB + PAGE_SIZE + 8);
    assert_int_equal(dirty, 2);
    assert_int_equal(physmap_show(&m, &r, false, false), 0);
    guest_region_written(&m, &r, PAGE_SIZE, 2 * PAGE_SIZE);
    assert_int_equal(n_written, 1);
    assert_int_equal(dirty, 6);
    r.code = r.dirty = NULL;
    ram_free(&r);
}

static void test_free_nothing(void **ctx)
{
    struct ram_region r = { 0 };

    (void)ctx;
    ram_free(&r);
    assert_null(r.hva);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_region_written),
        cmocka_unit_test(test_free_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
