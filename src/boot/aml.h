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
/* Serialized: it may make named objects. */
size_t aml_method_begin(struct aml *a, const char *name, uint8_t args);
size_t aml_if_begin(
    struct aml *a); /* the predicate is emitted next, then what is done if it is not 0 */
void aml_end(struct aml *a, size_t mark);

void aml_name(struct aml *a, const char *name); /* Name(name, <what is emitted next>) */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0A03" */
size_t aml_package_begin(struct aml *a, uint8_t count);

/*
 * Code: a statement is its opcode, then its operands (aml_int(), aml_path(), aml_op() of an argument, or of an
 * expression with its own operands), then the target where there is one.
 */
enum aml_op {
    AML_LOCAL0 = 0x60,
    AML_ARG0 = 0x68,
    AML_STORE = 0x70, /* value, target */
    AML_SUBTRACT = 0x74,
    AML_SHIFT_LEFT = 0x79,
    AML_AND = 0x7b,
    AML_OR = 0x7d,
    AML_FIND_LOWEST_BIT = 0x82, /* its number from 1 on; value, target */
    AML_WORD_FIELD = 0x8b,      /* makes a field: buffer, index of the byte, name */
    AML_RETURN = 0xa4,
};
void aml_op(struct aml *a, enum aml_op op);
void aml_path(struct aml *a,
              const char *path); /* a name of one segment, or several as they are encoded */
void aml_no_target(struct aml *a);

/* OperationRegion(name, PCI_Config, off, len) in the function's device; fields of whole bytes in it. */
void aml_pci_region(struct aml *a, const char *name, uint8_t off, uint8_t len);
size_t aml_field_begin(struct aml *a, const char *region);
void aml_field_byte(struct aml *a, const char *name);

/* Resource templates: ResourceTemplate(){...}, as an object; Name(_CRS, ResourceTemplate(){...}). */
size_t aml_resources_begin(struct aml *a);
size_t aml_crs_begin(struct aml *a);
void aml_crs_end(struct aml *a, size_t mark);
void aml_crs_io(struct aml *a, uint16_t port, uint8_t len);
void aml_crs_irq(struct aml *a, uint8_t irq);
/* PCI interrupts: level, active low, shared. The mask is the word at byte 1 of the descriptor. */
void aml_crs_pci_irqs(struct aml *a, uint16_t mask);
void aml_crs_memory32(struct aml *a, uint32_t base, uint32_t len);
enum aml_space { AML_MEMORY = 0, AML_IO = 1, AML_BUS = 2 };
void aml_crs_word(struct aml *a, enum aml_space space, uint16_t base, uint32_t len);
void aml_crs_dword(struct aml *a, uint32_t base, uint32_t len);
void aml_crs_qword(struct aml *a, uint64_t base, uint64_t len);

#endif
