#include "boot/aml.h"

#include <string.h>

enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_IF = 0xa0,
    AML_EXT = 0x5b,
    AML_REGION = 0x80, /* these after AML_EXT */
    AML_FIELD = 0x81,
    AML_DEVICE = 0x82
};
enum { AML_SERIALIZED = 8, AML_PCI_CONFIG = 2, AML_BYTE_ACCESS = 1 };
enum { AML_PKGLEN = 3 }; /* every PkgLength is encoded in three bytes: up to 1 MiB */

void aml_raw(struct aml *a, const void *p, size_t len)
{
    if (a->len + len > a->cap) {
        size_t cap = (a->len + len) * 2 + 256;
        uint8_t *data = realloc(a->data, cap);

        if (!data) {
            a->failed = true;
            return;
        }
        a->data = data;
        a->cap = cap;
    }
    memcpy(a->data + a->len, p, len);
    a->len += len;
}

void aml_u8(struct aml *a, uint8_t v)
{
    aml_raw(a, &v, 1);
}

void aml_u16(struct aml *a, uint16_t v)
{
    aml_raw(a, &v, 2);
}

void aml_u32(struct aml *a, uint32_t v)
{
    aml_raw(a, &v, 4);
}

void aml_u64(struct aml *a, uint64_t v)
{
    aml_raw(a, &v, 8);
}

/* Returns the mark: where the three bytes of PkgLength are. */
static size_t aml_pkg_begin(struct aml *a)
{
    static const uint8_t zero[AML_PKGLEN];

    aml_raw(a, zero, sizeof(zero));
    return a->len - AML_PKGLEN;
}

/*
 *  byte 0: 7:6 = number of further bytes (2), 3:0 = length bits 3:0
 *  bytes 1, 2: length bits 11:4, 19:12; the length counts from byte 0
 */
void aml_end(struct aml *a, size_t mark)
{
    size_t len = a->len - mark;

    if (a->failed)
        return;
    BUG_ON(len >> 20);
    a->data[mark] = (uint8_t)(2 << 6 | (len & 15));
    a->data[mark + 1] = (uint8_t)(len >> 4);
    a->data[mark + 2] = (uint8_t)(len >> 12);
}

size_t aml_scope_begin(struct aml *a, const char *path)
{
    size_t mark;

    aml_u8(a, AML_SCOPE);
    mark = aml_pkg_begin(a);
    aml_raw(a, path, strlen(path));
    return mark;
}

size_t aml_device_begin(struct aml *a, const char *name)
{
    size_t mark;

    aml_u8(a, AML_EXT);
    aml_u8(a, AML_DEVICE);
    mark = aml_pkg_begin(a);
    BUG_ON(strlen(name) != 4);
    aml_raw(a, name, 4);
    return mark;
}

size_t aml_method_begin(struct aml *a, const char *name, uint8_t args)
{
    size_t mark;

    aml_u8(a, AML_METHOD);
    mark = aml_pkg_begin(a);
    aml_path(a, name);
    aml_u8(a, AML_SERIALIZED | args);
    return mark;
}

size_t aml_if_begin(struct aml *a)
{
    aml_u8(a, AML_IF);
    return aml_pkg_begin(a);
}

void aml_op(struct aml *a, enum aml_op op)
{
    aml_u8(a, (uint8_t)op);
}

void aml_path(struct aml *a, const char *path)
{
    aml_raw(a, path, strlen(path));
}

void aml_no_target(struct aml *a)
{
    aml_u8(a, 0);
}

void aml_pci_region(struct aml *a, const char *name, uint8_t off, uint8_t len)
{
    aml_u8(a, AML_EXT);
    aml_u8(a, AML_REGION);
    aml_path(a, name);
    aml_u8(a, AML_PCI_CONFIG);
    aml_int(a, off);
    aml_int(a, len);
}

size_t aml_field_begin(struct aml *a, const char *region)
{
    size_t mark;

    aml_u8(a, AML_EXT);
    aml_u8(a, AML_FIELD);
    mark = aml_pkg_begin(a);
    aml_path(a, region);
    aml_u8(a, AML_BYTE_ACCESS);
    return mark;
}

void aml_field_byte(struct aml *a, const char *name)
{
    aml_path(a, name);
    aml_u8(a, 8); /* bits */
}

void aml_name(struct aml *a, const char *name)
{
    aml_u8(a, AML_NAME);
    aml_raw(a, name, strlen(name));
}

void aml_int(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        aml_u8(a, v ? AML_ONE : AML_ZERO);
    } else if (v <= 0xff) {
        aml_u8(a, AML_BYTE);
        aml_u8(a, (uint8_t)v);
    } else if (v <= 0xffff) {
        aml_u8(a, AML_WORD);
        aml_u16(a, (uint16_t)v);
    } else if (v <= 0xffffffffu) {
        aml_u8(a, AML_DWORD);
        aml_u32(a, (uint32_t)v);
    } else {
        aml_u8(a, AML_QWORD);
        aml_u64(a, v);
    }
}

void aml_string(struct aml *a, const char *s)
{
    aml_u8(a, AML_STRING);
    aml_raw(a, s, strlen(s) + 1);
}

static unsigned aml_hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three 5-bit letters and four hex digits, big-endian (ACPI 6.5, 19.3.4). */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16;

    v |= aml_hex(id[3]) << 12 | aml_hex(id[4]) << 8 | aml_hex(id[5]) << 4 | aml_hex(id[6]);
    aml_u8(a, AML_DWORD);
    aml_u32(a, __builtin_bswap32(v));
}

size_t aml_package_begin(struct aml *a, uint8_t count)
{
    size_t mark;

    aml_u8(a, AML_PACKAGE);
    mark = aml_pkg_begin(a);
    aml_u8(a, count);
    return mark;
}

/* Buffer(size) { ... }: the size is a word that aml_crs_end() fills in. */
size_t aml_resources_begin(struct aml *a)
{
    size_t mark;

    aml_u8(a, AML_BUFFER);
    mark = aml_pkg_begin(a);
    aml_u8(a, AML_WORD);
    aml_u16(a, 0);
    return mark;
}

size_t aml_crs_begin(struct aml *a)
{
    aml_name(a, "_CRS");
    return aml_resources_begin(a);
}

void aml_crs_end(struct aml *a, size_t mark)
{
    size_t body = mark + AML_PKGLEN + 3;

    aml_u8(a, 0x79); /* end tag, checksum 0: not checked */
    aml_u8(a, 0);
    if (!a->failed) {
        a->data[body - 2] = (uint8_t)(a->len - body);
        a->data[body - 1] = (uint8_t)((a->len - body) >> 8);
    }
    aml_end(a, mark);
}

void aml_crs_io(struct aml *a, uint16_t port, uint8_t len)
{
    aml_u8(a, 0x47); /* I/O port descriptor */
    aml_u8(a, 1);    /* 16-bit decode */
    aml_u16(a, port);
    aml_u16(a, port);
    aml_u8(a, 1);
    aml_u8(a, len);
}

void aml_crs_irq(struct aml *a, uint8_t irq)
{
    aml_u8(a, 0x22); /* IRQ descriptor without flags: edge, active high */
    aml_u16(a, (uint16_t)(1u << irq));
}

void aml_crs_pci_irqs(struct aml *a, uint16_t mask)
{
    aml_u8(a, 0x23); /* IRQ descriptor with flags */
    aml_u16(a, mask);
    aml_u8(a, 0x18);
}

void aml_crs_memory32(struct aml *a, uint32_t base, uint32_t len)
{
    aml_u8(a, 0x86); /* 32-bit fixed memory range */
    aml_u16(a, 9);
    aml_u8(a, 1);
    aml_u32(a, base);
    aml_u32(a, len);
}

/* Common head of address space descriptors: producer, min and max fixed. */
static void aml_crs_space(struct aml *a, uint8_t tag, uint16_t len, enum aml_space space)
{
    aml_u8(a, tag);
    aml_u16(a, len);
    aml_u8(a, (uint8_t)space);
    aml_u8(a, 0x0c);
    aml_u8(a, space == AML_IO ? 3 : space == AML_MEMORY ? 1 : 0); /* entire range; read-write */
}

void aml_crs_word(struct aml *a, enum aml_space space, uint16_t base, uint32_t len)
{
    aml_crs_space(a, 0x88, 13, space);
    aml_u16(a, 0);
    aml_u16(a, base);
    aml_u16(a, (uint16_t)(base + len - 1));
    aml_u16(a, 0);
    aml_u16(a, (uint16_t)len);
}

void aml_crs_dword(struct aml *a, uint32_t base, uint32_t len)
{
    aml_crs_space(a, 0x87, 23, AML_MEMORY);
    aml_u32(a, 0);
    aml_u32(a, base);
    aml_u32(a, base + len - 1);
    aml_u32(a, 0);
    aml_u32(a, len);
}

void aml_crs_qword(struct aml *a, uint64_t base, uint64_t len)
{
    aml_crs_space(a, 0x8a, 43, AML_MEMORY);
    aml_u64(a, 0);
    aml_u64(a, base);
    aml_u64(a, base + len - 1);
    aml_u64(a, 0);
    aml_u64(a, len);
}
