/*
 * aml.h: a small encoder of ACPI machine language (ACPI 6.5, chapter 20) into a growing byte buffer.
 * Errors (out of memory) are sticky in the buffer. Any thread.
 */
#ifndef BOOT_AML_H
#define BOOT_AML_H

#include "base/util.h"

struct aml {
    uint8_t *data;
    size_t len, cap;
    bool failed;
};

void aml_raw(struct aml *a, const void *p, size_t len);
void aml_u8(struct aml *a, uint8_t v);
void aml_u16(struct aml *a, uint16_t v);
void aml_u32(struct aml *a, uint32_t v);
void aml_u64(struct aml *a, uint64_t v);

/* Objects with a length: begin returns a mark for end, which inserts the PkgLength. */
size_t aml_scope_begin(struct aml *a, const char *path); /* "\\_SB_" style: 4-character segments */
size_t aml_device_begin(struct aml *a, const char *name);
void aml_end(struct aml *a, size_t mark);

void aml_name(struct aml *a, const char *name); /* Name(name, <what is emitted next>) */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0A03" */
size_t aml_package_begin(struct aml *a, uint8_t count);

/* Resource templates: Name(_CRS, ResourceTemplate(){...}). */
size_t aml_crs_begin(struct aml *a);
void aml_crs_end(struct aml *a, size_t mark);
void aml_crs_io(struct aml *a, uint16_t port, uint8_t len);
void aml_crs_irq(struct aml *a, uint8_t irq);
void aml_crs_memory32(struct aml *a, uint32_t base, uint32_t len);
enum aml_space { AML_MEMORY = 0, AML_IO = 1, AML_BUS = 2 };
void aml_crs_word(struct aml *a, enum aml_space space, uint16_t base, uint32_t len);
void aml_crs_dword(struct aml *a, uint32_t base, uint32_t len);
void aml_crs_qword(struct aml *a, uint64_t base, uint64_t len);

#endif
