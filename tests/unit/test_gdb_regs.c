#include "control/gdb_regs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"

enum { /* numbers of the table's first 57 are GDB's own */
       RIP = 16,
       EFLAGS = 17,
       CS = 18,
       ST0 = 24,
       FCTRL = 32,
       FTAG = 34,
       XMM0 = 40,
       MXCSR = 56,
       FS_BASE = 57
};

static struct x86_state s;

static int setup(void **state)
{
    (void)state;
    x86_state_reset(&s, 0, true);
    return 0;
}

static uint64_t get(unsigned reg)
{
    uint8_t buf[GDB_REG_MAX] = { 0 };

    gdb_reg_get(&s, reg, buf);
    return ld_le64(buf);
}

static void set(unsigned reg, uint64_t val)
{
    uint8_t buf[GDB_REG_MAX] = { 0 };

    st_le64(buf, val);
    gdb_reg_set(&s, reg, buf);
}

/* Each register is read back as it was written, and disturbs no other. */
static void test_each(void **state)
{
    unsigned n = gdb_regs_count(true);
    uint8_t before[128][GDB_REG_MAX], buf[GDB_REG_MAX];

    (void)state;
    assert_in_range(n, FS_BASE + 9, 128);
    assert_int_equal(n - gdb_regs_count(false), 16);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < n; j++)
            gdb_reg_get(&s, j, before[j]);
        memset(buf, 0x5a, sizeof(buf));
        if (i >= FCTRL && i < XMM0)
            memset(buf + 2, 0, sizeof(buf) - 2); /* 16 bits of state */
        if (i >= CS && i < ST0)
            memset(buf + 2, 0, sizeof(buf) - 2);
        gdb_reg_set(&s, i, buf);
        for (unsigned j = 0; j < n; j++) {
            uint8_t now[GDB_REG_MAX];
            size_t size = gdb_reg_get(&s, j, now);

            assert_int_equal(size, gdb_reg_size(j));
            if (j == i && j != FTAG)
                assert_memory_equal(now, buf, size);
            else if (j != FTAG && j != FCTRL + 1 && i != FTAG && !(i >= CS && i < ST0))
                assert_memory_equal(now, before[j], size);
        }
    }
}

static void test_numbers_and_values(void **state)
{
    (void)state;
    assert_int_equal(get(RIP), 0xfff0);
    assert_int_equal(get(EFLAGS), 2);
    assert_int_equal(get(CS), 0xf000);
    assert_int_equal(get(MXCSR), 0x1f80);
    s.gpr[X86_RBX] = 7;
    assert_int_equal(get(1), 7);
    set(FS_BASE, 0x1234);
    assert_int_equal(s.seg[X86_FS].base, 0x1234);
}

static void test_selectors(void **state)
{
    (void)state;
    set(CS, 0x1000);
    assert_int_equal(s.seg[X86_CS].base, 0x10000); /* real mode */
    s.cr0 |= CR0_PE;
    set(CS, 0x10);
    assert_int_equal(s.seg[X86_CS].sel, 0x10);
    assert_int_equal(s.seg[X86_CS].base, 0x10000);
}

/* A component that XSTATE_BV leaves out has its initial values, whatever the bytes are. */
static void test_fpu_initial_state(void **state)
{
    (void)state;
    memset(s.xsave, 0xee, 24);
    memset(s.xsave + 32, 0xee, 384);
    st_le64(s.xsave + 512, 0);
    assert_int_equal(get(FCTRL), 0x37f);
    assert_int_equal(get(FTAG), 0xffff);
    assert_int_equal(get(XMM0), 0);
    set(XMM0 + 1, 5);
    assert_int_equal(ld_le64(s.xsave + 512), XCR0_SSE);
    assert_int_equal(get(XMM0), 0);
    assert_int_equal(get(XMM0 + 1), 5);
}

static void test_x87_tags(void **state)
{
    (void)state;
    st_le64(s.xsave + 512, XCR0_X87);
    st_le16(s.xsave + 2, 6 << 11); /* TOP = 6: ST0 is register 6, ST1 register 7 */
    s.xsave[4] = 0xc0;
    st_le64(s.xsave + 32, 0x8000000000000000);
    st_le16(s.xsave + 40, 0x3fff);       /* 1.0 */
    memset(s.xsave + 48, 0, 10);         /* 0.0 */
    assert_int_equal(get(FTAG), 0x4fff); /* 01 zero, 00 valid, the others 11 empty */
    set(FTAG, 0xffff);
    assert_int_equal(s.xsave[4], 0);
}

static void test_xml(void **state)
{
    char *with = gdb_regs_xml(true), *without = gdb_regs_xml(false);

    (void)state;
    assert_non_null(strstr(with, "<architecture>i386:x86-64</architecture>"));
    assert_non_null(strstr(with, "name=\"ymm15h\""));
    assert_null(strstr(without, "ymm"));
    assert_non_null(strstr(without, "name=\"efer\""));
    free(with);
    free(without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_each, setup),
        cmocka_unit_test_setup(test_numbers_and_values, setup),
        cmocka_unit_test_setup(test_selectors, setup),
        cmocka_unit_test_setup(test_fpu_initial_state, setup),
        cmocka_unit_test_setup(test_x87_tags, setup),
        cmocka_unit_test_setup(test_xml, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
