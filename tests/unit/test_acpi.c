#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "boot/acpi.h"

enum { BASE = 0xe0000 };

static const struct acpi_desc desc = {
    .ncpus = 3,
    .lapic_gpa = 0xfee00000,
    .ioapic_gpa = 0xfec00000,
    .hpet_gpa = 0xfed00000,
    .pm1_evt = 0x600,
    .pm1_cnt = 0x604,
    .pm_tmr = 0x608,
    .gpe0 = 0xafe0,
    .gpe0_len = 4,
    .sci_irq = 9,
    .reset_port = 0xcf9,
    .reset_value = 6,
    .pvpanic_port = 0x505,
    .fw_cfg_port = 0x510,
    .com1 = true,
    .mmio32 = { 0xc0000000, 0x3e000000 },
    .mmio64 = { 0x800000000, 0x100000000 },
    .pci_gsi = { 16, 17, 18, 19 },
};

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t s = 0;

    while (len--)
        s = (uint8_t)(s + *p++);
    return s;
}

static const uint8_t *table(const struct acpi_tables *t, uint64_t gpa, const char *signature)
{
    const uint8_t *p = t->data + (gpa - BASE);

    assert_in_range(gpa, BASE, BASE + t->len - 36);
    assert_memory_equal(p, signature, 4);
    assert_int_equal(sum(p, ld_le32(p + 4)), 0);
    return p;
}

static void test_links_and_sums(void **ctx)
{
    static const char *const want[] = { "FACP", "APIC", "HPET", "WAET" };
    struct acpi_tables t;
    const uint8_t *xsdt, *fadt;

    (void)ctx;
    assert_int_equal(acpi_build(&desc, BASE, &t), 0);
    assert_memory_equal(t.data, "RSD PTR ", 8);
    assert_int_equal(sum(t.data, 20), 0);
    assert_int_equal(sum(t.data, 36), 0);
    table(&t, ld_le32(t.data + 16), "RSDT");
    xsdt = table(&t, ld_le64(t.data + 24), "XSDT");
    assert_int_equal(ld_le32(xsdt + 4), 36 + 8 * 4);
    for (unsigned i = 0; i < 4; i++)
        table(&t, ld_le64(xsdt + 36 + 8 * i), want[i]);
    fadt = table(&t, ld_le64(xsdt + 36), "FACP");
    table(&t, ld_le32(fadt + 40), "DSDT");
    assert_int_equal(ld_le32(fadt + 40), ld_le64(fadt + 140));
    assert_int_equal(ld_le32(fadt + 36) % 64, 0);
    free(t.data);
}

/* The outside judge, where it is installed: iasl must disassemble the DSDT without complaint. */
static void test_iasl(void **ctx)
{
    char dir[] = "/tmp/ruche-acpi-XXXXXX", cmd[256];
    struct acpi_tables t;
    const uint8_t *dsdt;
    FILE *f;

    (void)ctx;
    if (access("/usr/bin/iasl", X_OK)) {
        print_message("skipped: iasl is not installed\n");
        skip();
    }
    assert_int_equal(acpi_build(&desc, BASE, &t), 0);
    dsdt = table(
        &t, ld_le32(table(&t, ld_le64(table(&t, ld_le64(t.data + 24), "XSDT") + 36), "FACP") + 40),
        "DSDT");
    assert_non_null(mkdtemp(dir));
    snprintf(cmd, sizeof(cmd), "%s/dsdt.aml", dir);
    f = fopen(cmd, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(dsdt, ld_le32(dsdt + 4), 1, f), 1);
    fclose(f);
    snprintf(cmd, sizeof(cmd),
             "cd %s && iasl -d dsdt.aml >out 2>&1 && iasl -we -p again dsdt.dsl >out 2>&1", dir);
    f = popen(cmd, "r");
    assert_non_null(f);
    assert_int_equal(pclose(f), 0);
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    f = popen(cmd, "r");
    assert_non_null(f);
    assert_int_equal(pclose(f), 0);
    free(t.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links_and_sums),
        cmocka_unit_test(test_iasl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
