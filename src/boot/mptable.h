/*
 * mptable.h: the MultiProcessor Specification's tables (Intel 242016, version 1.4): for systems older than ACPI, or told
 * not to use it, the only word of processors and of the IOAPIC. From the same description as the ACPI tables; pure
 * function, any thread.
 */
#ifndef BOOT_MPTABLE_H
#define BOOT_MPTABLE_H

#include "boot/acpi.h"

struct mptable {
    uint8_t
        *data; /* malloc'd; to be copied to the base gpa; the floating pointer is its first byte */
    size_t len;
};

/* For gpa base (16-byte aligned, in f0000-fffff to be found). 0 or -ENOMEM. */
must_check int mptable_build(const struct acpi_desc *d, uint64_t base, struct mptable *out);

#endif
