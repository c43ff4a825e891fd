/*
 * acpi_loader.h: ACPI tables in the form in which firmware takes them over (QEMU's "linker/loader": the
 * files etc/table-loader, etc/acpi/tables and etc/acpi/rsdp): firmware chooses the addresses, and a script
 * says which pointers and checksums depend on them. Pure function, any thread.
 */
#ifndef BOOT_ACPI_LOADER_H
#define BOOT_ACPI_LOADER_H

#include "boot/acpi.h"

#define ACPI_LOADER_SCRIPT "etc/table-loader"
#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"

struct acpi_blob {
    uint8_t *data; /* malloc'd */
    size_t len;
};
struct acpi_loader {
    struct acpi_blob script, tables, rsdp;
};

/* 0 or -ENOMEM, then nothing is allocated. The lengths depend on d only by ncpus and what is absent. */
must_check int acpi_loader_build(const struct acpi_desc *d, struct acpi_loader *out);
void acpi_loader_free(struct acpi_loader *l);

#endif
