/*
 * acpi_loader.c: see acpi_loader.h. The tables are built for address 0, so that each pointer holds the
 * offset of what it points to, which is what the script's commands want.
 *
 * A command has 128 bytes: a number, then (names take 56 bytes)
 *   1 ALLOCATE      file, alignment (32 bits), zone (8 bits: 1 anywhere, 2 below 1 MiB)
 *   2 ADD_POINTER   file that has the pointer, file pointed to, offset (32), size of the pointer (8)
 *   3 ADD_CHECKSUM  file, offset of the sum (32), start (32), length (32)
 */
#include "boot/acpi_loader.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "boot/aml.h"

enum { CMD_ALLOCATE = 1, CMD_ADD_POINTER = 2, CMD_ADD_CHECKSUM = 3, CMD_LEN = 128, NAME_LEN = 56 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2, TABLES_ALIGN = 64, RSDP_ALIGN = 16 };
enum { /* ACPI 6.5, 5.2.5 to 5.2.10 */
       RSDP_SUM = 8,
       RSDP_V1_LEN = 20,
       RSDP_RSDT = 16,
       RSDP_XSDT = 24,
       RSDP_XSUM = 32,
       RSDP_LEN = 36,
       TABLE_LEN = 4,
       TABLE_SUM = 9,
       TABLE_HEADER = 36,
       FADT_FACS = 36,
       FADT_DSDT = 40,
       FADT_X_FACS = 132,
       FADT_X_DSDT = 140,
};

static void loader_name(uint8_t *at, const char *name)
{
    memcpy(at, name, strlen(name) + 1);
}

static void loader_allocate(struct aml *script, const char *file, uint32_t align, uint8_t zone)
{
    uint8_t cmd[CMD_LEN] = { CMD_ALLOCATE };

    loader_name(cmd + 4, file);
    st_le32(cmd + 4 + NAME_LEN, align);
    cmd[8 + NAME_LEN] = zone;
    aml_raw(script, cmd, sizeof(cmd));
}

static void loader_pointer(struct aml *script, const char *file, size_t off, uint8_t size)
{
    uint8_t cmd[CMD_LEN] = { CMD_ADD_POINTER };

    loader_name(cmd + 4, file);
    loader_name(cmd + 4 + NAME_LEN, ACPI_LOADER_TABLES);
    st_le32(cmd + 4 + 2 * NAME_LEN, (uint32_t)off);
    cmd[8 + 2 * NAME_LEN] = size;
    aml_raw(script, cmd, sizeof(cmd));
}

/* Firmware sums with what is there, so the place of the sum has to be empty. */
static void loader_sum(struct aml *script, const char *file, uint8_t *data, size_t sum,
                       size_t start, size_t len)
{
    uint8_t cmd[CMD_LEN] = { CMD_ADD_CHECKSUM };

    data[sum] = 0;
    loader_name(cmd + 4, file);
    st_le32(cmd + 4 + NAME_LEN, (uint32_t)sum);
    st_le32(cmd + 8 + NAME_LEN, (uint32_t)start);
    st_le32(cmd + 12 + NAME_LEN, (uint32_t)len);
    aml_raw(script, cmd, sizeof(cmd));
}

static void loader_table_sum(struct aml *script, uint8_t *tables, size_t at)
{
    loader_sum(script, ACPI_LOADER_TABLES, tables, at + TABLE_SUM, at,
               ld_le32(tables + at + TABLE_LEN));
}

static void loader_fadt(struct aml *script, uint8_t *tables, size_t at)
{
    loader_pointer(script, ACPI_LOADER_TABLES, at + FADT_FACS, 4);
    loader_pointer(script, ACPI_LOADER_TABLES, at + FADT_DSDT, 4);
    loader_pointer(script, ACPI_LOADER_TABLES, at + FADT_X_FACS, 8);
    loader_pointer(script, ACPI_LOADER_TABLES, at + FADT_X_DSDT, 8);
    loader_table_sum(script, tables, at);
}

/* RSDT and XSDT: one pointer a table. The FADT is reached by the XSDT alone, so that it is done once. */
static void loader_sdt(struct aml *script, uint8_t *tables, size_t at, uint8_t size)
{
    size_t end = at + ld_le32(tables + at + TABLE_LEN);

    for (size_t p = at + TABLE_HEADER; p < end; p += size) {
        size_t table = ld_le32(tables + p);

        loader_pointer(script, ACPI_LOADER_TABLES, p, size);
        if (size == 8 && !memcmp(tables + table, "FACP", 4))
            loader_fadt(script, tables, table);
    }
    loader_table_sum(script, tables, at);
}

static void loader_script(struct aml *script, uint8_t *tables, uint8_t *rsdp)
{
    loader_allocate(script, ACPI_LOADER_RSDP, RSDP_ALIGN, ZONE_FSEG);
    loader_allocate(script, ACPI_LOADER_TABLES, TABLES_ALIGN, ZONE_HIGH);
    loader_sdt(script, tables, ld_le32(rsdp + RSDP_RSDT), 4);
    loader_sdt(script, tables, ld_le32(rsdp + RSDP_XSDT), 8);
    loader_pointer(script, ACPI_LOADER_RSDP, RSDP_RSDT, 4);
    loader_pointer(script, ACPI_LOADER_RSDP, RSDP_XSDT, 8);
    loader_sum(script, ACPI_LOADER_RSDP, rsdp, RSDP_SUM, 0, RSDP_V1_LEN);
    loader_sum(script, ACPI_LOADER_RSDP, rsdp, RSDP_XSUM, 0, RSDP_LEN);
}

int acpi_loader_build(const struct acpi_desc *d, struct acpi_loader *out)
{
    struct acpi_tables t;
    struct aml script = { 0 };
    uint8_t *rsdp;

    if (acpi_build(d, 0, &t))
        return -ENOMEM;
    rsdp = malloc(RSDP_LEN);
    if (rsdp) {
        memcpy(rsdp, t.data, RSDP_LEN);
        memset(t.data, 0, RSDP_LEN); /* it is a file of its own */
        loader_script(&script, t.data, rsdp);
    }
    *out =
        (struct acpi_loader){ { script.data, script.len }, { t.data, t.len }, { rsdp, RSDP_LEN } };
    if (rsdp && !script.failed)
        return 0;
    acpi_loader_free(out);
    return -ENOMEM;
}

void acpi_loader_free(struct acpi_loader *l)
{
    free(l->script.data);
    free(l->tables.data);
    free(l->rsdp.data);
    *l = (struct acpi_loader){ 0 };
}
