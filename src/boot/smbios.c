/*
 * smbios.c: see smbios.h. Types 0 (firmware), 1 (system), 3 (chassis), 4 (processor), 16, 17, 19 (memory),
 * 32 (boot), 127 (end).
 */
#include "boot/smbios.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

enum { SMBIOS_MAX = 4096, SMBIOS_ENTRY_LEN = 24, SMBIOS_MAX_CPUS = 64 };
enum { SMBIOS_H_MEMORY = 0x1000, SMBIOS_H_DIMM = 0x1100, SMBIOS_H_RANGE = 0x1300 };

struct smbios {
    uint8_t buf[SMBIOS_MAX + SMBIOS_MAX_CPUS * 64];
    size_t len;
    size_t start; /* of the structure being built */
};

static void smbios_bytes(struct smbios *s, const void *p, size_t len)
{
    BUG_ON(s->len + len > sizeof(s->buf));
    memcpy(s->buf + s->len, p, len);
    s->len += len;
}

static void smbios_u8(struct smbios *s, uint8_t v)
{
    smbios_bytes(s, &v, 1);
}

static void smbios_u16(struct smbios *s, uint16_t v)
{
    smbios_bytes(s, &v, 2);
}

static void smbios_u32(struct smbios *s, uint32_t v)
{
    smbios_bytes(s, &v, 4);
}

static void smbios_u64(struct smbios *s, uint64_t v)
{
    smbios_bytes(s, &v, 8);
}

static void smbios_begin(struct smbios *s, uint8_t type, uint16_t handle)
{
    s->start = s->len;
    smbios_u8(s, type);
    smbios_u8(s, 0); /* length: smbios_end() */
    smbios_u16(s, handle);
}

/* Closes the formatted part; then its strings, in the order of their numbers, then an empty one. */
static void smbios_end(struct smbios *s, const char *const *strings)
{
    s->buf[s->start + 1] = (uint8_t)(s->len - s->start);
    if (!strings || !*strings)
        smbios_u8(s, 0);
    for (; strings && *strings; strings++)
        smbios_bytes(s, *strings, strlen(*strings) + 1);
    smbios_u8(s, 0);
}

static void smbios_firmware(struct smbios *s)
{
    static const char *const strings[] = { "Ruche", RUCHE_VERSION, "01/01/2026", NULL };

    smbios_begin(s, 0, 0);
    smbios_u8(s, 1);
    smbios_u8(s, 2);
    smbios_u16(s, 0xe000);
    smbios_u8(s, 3);
    smbios_u8(s, 0);
    smbios_u64(s, 8);               /* characteristics: not given */
    smbios_u16(s, 0x1000);          /* extension: ACPI no, is a virtual machine (bit 4 of byte 2) */
    smbios_u32(s, 0xffff0000u | 1); /* release 1.0; no embedded controller */
    smbios_end(s, strings);
}

static void smbios_system(struct smbios *s, const struct smbios_desc *d)
{
    static const char *const strings[] = { "Ruche", "Virtual machine", RUCHE_VERSION, NULL };

    smbios_begin(s, 1, 0x100);
    smbios_u8(s, 1);
    smbios_u8(s, 2);
    smbios_u8(s, 3);
    smbios_u8(s, 0);
    smbios_bytes(s, d->uuid, 16);
    smbios_u8(s, 6); /* wake-up: power switch */
    smbios_u16(s, 0);
    smbios_end(s, strings);
}

static void smbios_chassis(struct smbios *s, const struct smbios_desc *d)
{
    const char *const strings[] = { "Ruche", d->name, NULL };

    smbios_begin(s, 3, 0x300);
    smbios_u8(s, 1);
    smbios_u8(s, 1); /* other */
    smbios_u16(s, 0);
    smbios_u8(s, 2);
    smbios_u32(s, 0x03030303); /* boot-up, power, thermal: safe; security: none */
    smbios_u32(s, 0);
    smbios_u32(s, 0);
    smbios_end(s, strings);
}

static void smbios_cpu(struct smbios *s, unsigned index)
{
    static const char *const strings[] = { "CPU", "Ruche", NULL };

    smbios_begin(s, 4, (uint16_t)(0x400 + index));
    smbios_u8(s, 1);
    smbios_u8(s, 3); /* central processor */
    smbios_u8(s, 1); /* family: other */
    smbios_u8(s, 2);
    smbios_u64(s, 0);
    smbios_u8(s, 0);
    smbios_u8(s, 0);
    smbios_u16(s, 0);
    smbios_u32(s, 0);
    smbios_u16(s, 0x0141); /* populated, enabled; upgrade: other */
    smbios_u32(s, 0xffffffff);
    smbios_u16(s, 0xffff);
    smbios_bytes(s, (uint8_t[]){ 0, 0, 0, 1, 1, 1 }, 6); /* serial, asset, part; cores, threads */
    smbios_u16(s, 4);                                    /* 64-bit capable */
    smbios_u16(s, 1);
    smbios_end(s, strings);
}

static void smbios_memory(struct smbios *s, const struct smbios_desc *d)
{
    static const char *const strings[] = { "DIMM 0", "Ruche", NULL };
    uint64_t mib = d->memory / MIB;

    smbios_begin(s, 16, SMBIOS_H_MEMORY);
    smbios_u8(s, 1);
    smbios_u8(s, 3);
    smbios_u8(s, 6); /* multi-bit ECC */
    smbios_u32(s, 0x80000000u);
    smbios_u16(s, 0xfffe);
    smbios_u16(s, 1);
    smbios_u64(s, d->memory);
    smbios_end(s, NULL);

    smbios_begin(s, 17, SMBIOS_H_DIMM);
    smbios_u16(s, SMBIOS_H_MEMORY);
    smbios_u16(s, 0xfffe);
    smbios_u32(s, 0xffffffff);
    smbios_u16(s, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
    smbios_u8(s, 9); /* DIMM */
    smbios_u8(s, 0);
    smbios_u8(s, 1);
    smbios_u8(s, 0);
    smbios_u8(s, 7); /* RAM */
    smbios_u16(s, 2);
    smbios_u16(s, 0);
    smbios_u8(s, 2);
    smbios_u16(s, 0); /* serial, asset tag */
    smbios_u16(s, 0); /* part, attributes */
    smbios_u32(s, (uint32_t)mib);
    smbios_u16(s, 0);
    smbios_end(s, strings);
}

static void smbios_range(struct smbios *s, uint16_t index, uint64_t start, uint64_t len)
{
    if (!len)
        return;
    smbios_begin(s, 19, (uint16_t)(SMBIOS_H_RANGE + index));
    smbios_u32(s, 0xffffffff);
    smbios_u32(s, 0xffffffff);
    smbios_u16(s, SMBIOS_H_MEMORY);
    smbios_u8(s, 1);
    smbios_u64(s, start);
    smbios_u64(s, start + len - 1);
    smbios_end(s, NULL);
}

static void smbios_tail(struct smbios *s)
{
    static const uint8_t ok[7];

    smbios_begin(s, 32, 0x2000);
    smbios_bytes(s, ok, sizeof(ok));
    smbios_end(s, NULL);
    smbios_begin(s, 127, 0x7f00);
    smbios_end(s, NULL);
}

/* 64-bit entry point, DSP0134 5.2.2. */
static void smbios_entry(uint8_t *p, uint64_t base, size_t len)
{
    static const uint8_t anchor[5] = { '_', 'S', 'M', '3', '_' };
    uint8_t sum = 0;

    memcpy(p, anchor, sizeof(anchor));
    p[6] = SMBIOS_ENTRY_LEN;
    p[7] = 3;
    p[10] = 1;
    st_le32(p + 12, (uint32_t)len);
    st_le64(p + 16, base + SMBIOS_ENTRY_LEN);
    for (unsigned i = 0; i < SMBIOS_ENTRY_LEN; i++)
        sum = (uint8_t)(sum + p[i]);
    p[5] = (uint8_t)-sum;
}

int smbios_build(const struct smbios_desc *d, uint64_t base, struct smbios_tables *out)
{
    struct smbios *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->len = SMBIOS_ENTRY_LEN;
    smbios_firmware(s);
    smbios_system(s, d);
    smbios_chassis(s, d);
    for (unsigned i = 0; i < d->ncpus && i < SMBIOS_MAX_CPUS; i++)
        smbios_cpu(s, i);
    smbios_memory(s, d);
    smbios_range(s, 0, 0, min_u64(d->memory, d->low_end));
    smbios_range(s, 1, 4 * GIB, d->memory - min_u64(d->memory, d->low_end));
    smbios_tail(s);
    smbios_entry(s->buf, base, s->len - SMBIOS_ENTRY_LEN);
    out->data = malloc(s->len);
    if (out->data)
        memcpy(out->data, s->buf, s->len);
    out->len = s->len;
    free(s);
    return out->data ? 0 : -ENOMEM;
}
