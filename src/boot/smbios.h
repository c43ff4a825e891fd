/*
 * smbios.h: SMBIOS 3.0 tables (DMTF DSP0134): what dmidecode and cloud-init show as the machine. Pure
 * function, any thread.
 */
#ifndef BOOT_SMBIOS_H
#define BOOT_SMBIOS_H

#include "base/err.h"

struct smbios_desc {
    unsigned ncpus;
    uint64_t memory;     /* bytes */
    uint64_t low_end;    /* RAM below 4 GiB: [0, low_end); the rest starts at 4 GiB */
    const char *name;    /* of the VM: the chassis' asset tag */
    const uint8_t *uuid; /* 16 bytes */
};
struct smbios_tables {
    uint8_t *data; /* malloc'd; to be copied to the base gpa; the entry point is its first byte */
    size_t len;
};

/* Entry point and structures for gpa base (16-byte aligned, in f0000-fffff to be found). 0 or -ENOMEM. */
must_check int smbios_build(const struct smbios_desc *d, uint64_t base, struct smbios_tables *out);

#endif
