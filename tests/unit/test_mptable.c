/* The tables are walked as an old system does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/endian.h"
#include "boot/mptable.h"

enum { BASE = 0xf8000 };

static const struct acpi_desc desc = {
    .ncpus = 3,
    .lapic_gpa = 0xfee00000,
    .ioapic_gpa = 0xfec00000,
    .sci_irq = 9,
    .pci_gsi = { 16, 17, 18, 19 },
    .pci_irqs = 0x0c20,
};

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t s = 0;

    while (len--)
        s = (uint8_t)(s + *p++);
    return s;
}

static void check_int(const uint8_t *p)
{
    if (p[4] == 0) /* PCI: slot 3's INTA is PIRQ C */
        assert_true(p[5] != (3 << 2) || p[7] == 18);
    else if (p[5] == 0)
        assert_int_equal(p[7], 2);
    else
        assert_int_equal(p[7], p[5]);
    if (p[4] == 1 && (p[5] == 9 || p[5] == 11))
        assert_int_equal(ld_le16(p + 2), 0x0d);
}

static void test_walk(void **ctx)
{
    unsigned seen[5] = { 0 }, entries;
    const uint8_t *p, *end;
    struct mptable t;

    (void)ctx;
    assert_int_equal(mptable_build(&desc, BASE, &t), 0);
    assert_memory_equal(t.data, "_MP_", 4);
    assert_int_equal(sum(t.data, 16), 0);
    assert_int_equal(ld_le32(t.data + 4), BASE + 16);
    p = t.data + 16;
    assert_memory_equal(p, "PCMP", 4);
    assert_int_equal(ld_le16(p + 4), t.len - 16);
    assert_int_equal(sum(p, t.len - 16), 0);
    assert_int_equal(ld_le32(p + 36), 0xfee00000);
    entries = ld_le16(p + 34);
    end = t.data + t.len;
    p += 44;
    for (; entries; entries--) {
        assert_true(p < end && *p < 5);
        seen[*p]++;
        if (*p == 3)
            check_int(p);
        p += *p == 0 ? 20 : 8;
    }
    assert_ptr_equal(p, end);
    assert_int_equal(seen[0], 3);
    assert_int_equal(seen[1], 2);
    assert_int_equal(seen[2], 1);
    assert_int_equal(seen[3], 15 + 31 * 4);
    assert_int_equal(seen[4], 2);
    free(t.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
