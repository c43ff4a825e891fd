#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "hw/fw_cfg.h"
#include "testvm.h"

enum { SELECT = 0x510, DATA = 0x511, DMA = 0x514 };

static struct fw_cfg *create(struct testvm *t)
{
    struct err e = { 0 };
    struct fw_cfg *f = fw_cfg_create(t->vm, SELECT, &e);

    assert_non_null(f);
    assert_int_equal(fw_cfg_add_file(f, "opt/a", "hello", 5, &e), 0);
    assert_int_equal(fw_cfg_add_file(f, "etc/b", "world!", 6, &e), 0);
    return f;
}

static void read_item(struct testvm *t, unsigned key, void *buf, unsigned len)
{
    testvm_out(t, SELECT, 2, key);
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)buf)[i] = (uint8_t)testvm_in(t, DATA, 1);
}

/* Runs a DMA descriptor at gpa 0x1000; returns its control word afterwards. */
static uint32_t dma(struct testvm *t, uint32_t control, uint32_t len, uint64_t gpa)
{
    uint8_t *desc = t->ram.hva + 0x1000;

    st_be32(desc, control);
    st_be32(desc + 4, len);
    st_be64(desc + 8, gpa);
    testvm_out(t, DMA, 4, 0);
    testvm_out(t, DMA + 4, 4, __builtin_bswap32(0x1000));
    return ld_be32(desc);
}

static void test_ports(void **ctx)
{
    struct testvm *t = testvm_create(0);
    uint8_t buf[4 + 2 * 64];
    struct fw_cfg *f = create(t);
    struct err e = { 0 };

    (void)ctx;
    read_item(t, 0, buf, 4);
    assert_memory_equal(buf, "QEMU", 4);
    read_item(t, 1, buf, 4);
    assert_int_equal(ld_le32(buf), 3);
    read_item(t, 0x19, buf, sizeof(buf));
    assert_int_equal(ld_be32(buf), 2);
    assert_int_equal(ld_be32(buf + 4), 5);
    assert_int_equal(ld_be16(buf + 8), 0x20);
    assert_string_equal((char *)buf + 12, "opt/a");
    assert_string_equal((char *)buf + 64 + 12, "etc/b");
    read_item(t, 0x21, buf, 8);
    assert_memory_equal(buf, "world!\0", 8); /* zeros beyond the end */
    read_item(t, 0x7fff, buf, 2);
    assert_int_equal(buf[0], 0);
    assert_int_equal(fw_cfg_add_file(f, "opt/a", "xy", 2, &e), 0); /* replaced */
    read_item(t, 0x20, buf, 3);
    assert_memory_equal(buf, "xy", 3);
    testvm_destroy(t);
}

static void test_dma(void **ctx)
{
    struct testvm *t = testvm_create(MIB);

    (void)ctx;
    create(t);
    assert_int_equal(testvm_in(t, DMA, 4), ld_le32("QEMU"));
    memset(t->ram.hva + 0x2000, 0xff, 16);
    assert_int_equal(dma(t, 0x210000 | 8 | 2, 4, 0x2000), 0);
    assert_memory_equal(t->ram.hva + 0x2000, "worl\xff", 5);
    assert_int_equal(dma(t, 2, 4, 0x2000), 0); /* goes on */
    assert_memory_equal(t->ram.hva + 0x2000, "d!\0\0\xff", 5);
    assert_int_equal(dma(t, 0x200000 | 8 | 4, 3, 0), 0); /* select, skip */
    assert_int_equal(dma(t, 2, 2, 0x2000), 0);
    assert_memory_equal(t->ram.hva + 0x2000, "lo", 2);
    testvm_destroy(t);
}

static void test_dma_hostile(void **ctx)
{
    struct testvm *t = testvm_create(MIB);

    (void)ctx;
    create(t);
    assert_int_equal(dma(t, 0x200000 | 8 | 2, 16, MIB - 8), 1); /* ends outside RAM */
    assert_int_equal(dma(t, 0x200000 | 8 | 2, 0xffffffff, 0), 1);
    assert_int_equal(dma(t, 2, 16, ~0ull - 4), 1);
    assert_int_equal(dma(t, 0x200000 | 8 | 16, 4, 0x2000), 1); /* nothing is writable */
    assert_int_equal(dma(t, 4, 0xffffffff, 0), 0);
    assert_int_equal(dma(t, 4, 0xffffffff, 0), 0);
    testvm_out(t, DMA, 4, 0xffffffff); /* a descriptor that is nowhere */
    testvm_out(t, DMA + 4, 4, 0xf8ffffff);
    assert_int_equal(dma(t, 0x200000 | 8 | 2, 2, 0x2000), 0);
    testvm_destroy(t);
}

static void test_limits(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct fw_cfg *f = create(t);
    struct err e = { 0 };
    char name[80];

    (void)ctx;
    memset(name, 'x', sizeof(name));
    name[FW_CFG_NAME_MAX + 1] = '\0';
    assert_int_equal(fw_cfg_add_file(f, name, "", 0, &e), -ENAMETOOLONG);
    for (int i = 2; i < FW_CFG_FILES_MAX; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(fw_cfg_add_file(f, name, "", 0, &e), 0);
    }
    e = (struct err){ 0 };
    assert_int_equal(fw_cfg_add_file(f, "one too many", "", 0, &e), -ENOSPC);
    testvm_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_dma),
        cmocka_unit_test(test_dma_hostile),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
