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

enum { BASE = 0xe0000, SAID_MAX = 1 << 20 };

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
    .pci_irqs = 0x0c20,
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

/* Runs a command of the shell in the folder where a DSDT is put before, and returns what it says. */
static char *judge(const struct acpi_desc *d, const char *what)
{
    char dir[] = "/tmp/ruche-acpi-XXXXXX", cmd[512], *said = calloc(1, SAID_MAX);
    struct acpi_tables t;
    const uint8_t *dsdt;
    FILE *f;

    assert_int_equal(acpi_build(d, BASE, &t), 0);
    dsdt = table(
        &t, ld_le32(table(&t, ld_le64(table(&t, ld_le64(t.data + 24), "XSDT") + 36), "FACP") + 40),
        "DSDT");
    assert_non_null(mkdtemp(dir));
    snprintf(cmd, sizeof(cmd), "%s/dsdt.aml", dir);
    f = fopen(cmd, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(dsdt, ld_le32(dsdt + 4), 1, f), 1);
    fclose(f);
    snprintf(cmd, sizeof(cmd), "cd %s && { %s; } 2>&1; echo status=$?; rm -r %s", dir, what, dir);
    f = popen(cmd, "r");
    assert_non_null(f);
    assert_non_null(said);
    assert_true(fread(said, 1, SAID_MAX - 1, f) > 0);
    pclose(f);
    free(t.data);
    return said;
}

/* The outside judges, where they are installed: iasl must disassemble the DSDT without complaint. */
static void test_iasl(void **ctx)
{
    char *said;

    (void)ctx;
    if (access("/usr/bin/iasl", X_OK)) {
        print_message("skipped: iasl is not installed\n");
        skip();
    }
    said = judge(&desc, "iasl -d dsdt.aml && iasl -we -p again dsdt.dsl");
    if (!strstr(said, "status=0"))
        fail_msg("%s", said);
    assert_non_null(strstr(said, "0 Errors, 0 Warnings"));
    free(said);
}

/* And ACPICA's interpreter, whose PCI configuration space is plain memory, must run what is in it. */
static void test_interrupt_links(void **ctx)
{
    static const struct {
        const char *evaluate, *want;
    } steps[] = {
        { "\\_PIC 1", "No object was returned" },
        { "\\PICF", "0000000000000001" },
        { "\\_SB.LNKB._DIS", "No object was returned" },
        { "\\_SB.PRQB", "0000000000000080" },
        { "\\_SB.LNKB._STA", "0000000000000009" },
        { "\\_SB.LNKB._CRS", "23 00 00 18 79" }, /* no irq */
        { "\\_SB.LNKB._SRS (23 00 08 18 79 00)", "No object was returned" },
        { "\\_SB.PRQB", "000000000000000B" }, /* irq 11 */
        { "\\_SB.LNKB._STA", "000000000000000B" },
        { "\\_SB.LNKB._CRS", "23 00 08 18 79" },
        { "\\_SB.LNKB._PRS", "23 20 0C 18 79" }, /* 5, 10, 11 */
        { "\\_SB.LNKS._CRS", "23 00 02 18 79" }, /* the SCI: 9 */
    };
    char run[2048] = "printf '%s\\n'";
    const char *at;
    char *said;

    (void)ctx;
    if (access("/usr/bin/acpiexec", X_OK)) {
        print_message("skipped: acpiexec is not installed\n");
        skip();
    }
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
        snprintf(run + strlen(run), sizeof(run) - strlen(run), " 'evaluate %s'", steps[i].evaluate);
    snprintf(run + strlen(run), sizeof(run) - strlen(run), " quit | acpiexec dsdt.aml");
    at = said = judge(&desc, run);
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        at = strstr(at, "- evaluate ");
        at = at ? strstr(at, steps[i].want) : NULL;
        if (!at)
            fail_msg("%s is not %s", steps[i].evaluate, steps[i].want);
    }
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links_and_sums),
        cmocka_unit_test(test_iasl),
        cmocka_unit_test(test_interrupt_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
