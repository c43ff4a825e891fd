/* The script is run as firmware runs it, at addresses of our choice; then the tables must hold together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "boot/acpi_loader.h"

enum { CMD_LEN = 128, RSDP_AT = 0xf5a00, TABLES_AT = 0x3ffd000 };

static const struct acpi_desc desc = {
    .ncpus = 2,
    .lapic_gpa = 0xfee00000,
    .ioapic_gpa = 0xfec00000,
    .hpet_gpa = 0xfed00000,
    .pm1_evt = 0xb000,
    .pm1_cnt = 0xb004,
    .pm_tmr = 0xb008,
    .gpe0 = 0xafe0,
    .gpe0_len = 4,
    .sci_irq = 9,
    .mmio32 = { 0x80000000, 0x7ec00000 },
    .pci_gsi = { 16, 17, 18, 19 },
    .pci_irqs = 0x0c20,
};

static struct acpi_blob *file(struct acpi_loader *l, const uint8_t *name, uint64_t *at)
{
    if (!strcmp((const char *)name, ACPI_LOADER_RSDP)) {
        *at = RSDP_AT;
        return &l->rsdp;
    }
    assert_string_equal((const char *)name, ACPI_LOADER_TABLES);
    *at = TABLES_AT;
    return &l->tables;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t s = 0;

    while (len--)
        s = (uint8_t)(s + *p++);
    return s;
}

static void run_pointer(struct acpi_loader *l, const uint8_t *cmd)
{
    uint64_t at, to, val = 0;
    struct acpi_blob *f = file(l, cmd + 4, &at);
    uint32_t off = ld_le32(cmd + 116);
    uint8_t size = cmd[120];

    file(l, cmd + 60, &to);
    assert_true(size == 4 || size == 8);
    assert_true(off + size <= f->len);
    memcpy(&val, f->data + off, size);
    assert_true(val < l->tables.len); /* OVMF insists */
    val += to;
    memcpy(f->data + off, &val, size);
}

static void run_sum(struct acpi_loader *l, const uint8_t *cmd)
{
    uint64_t at;
    struct acpi_blob *f = file(l, cmd + 4, &at);
    uint32_t off = ld_le32(cmd + 60), start = ld_le32(cmd + 64), len = ld_le32(cmd + 68);

    assert_true(start + len <= f->len && off >= start && off < start + len);
    assert_int_equal(f->data[off], 0);
    f->data[off] = (uint8_t)-sum(f->data + start, len);
}

static void run_script(struct acpi_loader *l)
{
    unsigned allocated = 0;

    assert_int_equal(l->script.len % CMD_LEN, 0);
    for (size_t i = 0; i < l->script.len; i += CMD_LEN) {
        const uint8_t *cmd = l->script.data + i;

        switch (ld_le32(cmd)) {
        case 1:
            assert_int_equal(i, CMD_LEN * allocated++);
            break;
        case 2:
            run_pointer(l, cmd);
            break;
        default:
            assert_int_equal(ld_le32(cmd), 3);
            run_sum(l, cmd);
        }
    }
    assert_int_equal(allocated, 2);
}

static const uint8_t *table(const struct acpi_loader *l, uint64_t gpa, const char *signature)
{
    const uint8_t *p = l->tables.data + (gpa - TABLES_AT);

    assert_in_range(gpa, TABLES_AT, TABLES_AT + l->tables.len - 36);
    assert_memory_equal(p, signature, 4);
    if (memcmp(signature, "FACS", 4))
        assert_int_equal(sum(p, ld_le32(p + 4)), 0);
    return p;
}

static void test_run(void **ctx)
{
    static const char *const want[] = { "FACP", "APIC", "HPET", "WAET" };
    struct acpi_loader l;
    const uint8_t *rsdt, *xsdt, *fadt;

    (void)ctx;
    assert_int_equal(acpi_loader_build(&desc, &l), 0);
    run_script(&l);
    assert_int_equal(sum(l.rsdp.data, 20), 0);
    assert_int_equal(sum(l.rsdp.data, 36), 0);
    rsdt = table(&l, ld_le32(l.rsdp.data + 16), "RSDT");
    xsdt = table(&l, ld_le64(l.rsdp.data + 24), "XSDT");
    assert_int_equal(ld_le32(rsdt + 4), 36 + 4 * ARRAY_SIZE(want));
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        table(&l, ld_le32(rsdt + 36 + 4 * i), want[i]);
        table(&l, ld_le64(xsdt + 36 + 8 * i), want[i]);
    }
    fadt = table(&l, ld_le64(xsdt + 36), "FACP");
    table(&l, ld_le32(fadt + 36), "FACS");
    table(&l, ld_le64(fadt + 132), "FACS");
    table(&l, ld_le32(fadt + 40), "DSDT");
    table(&l, ld_le64(fadt + 140), "DSDT");
    assert_int_equal(ld_le32(fadt + 56), 0xb000);
    acpi_loader_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
