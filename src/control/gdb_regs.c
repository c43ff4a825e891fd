/*
 * gdb_regs.c: see gdb_regs.h; the table is gdb_regs.def. FPU registers live in the XSAVE image (SDM 1
 * 13.4), where a component whose bit in XSTATE_BV is clear has its initial values, whatever the bytes say.
 */
#include "control/gdb_regs.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"

enum gdb_feature { CORE, SSE, SEGMENTS, SYSTEM, AVX, FEATURES };
enum gdb_access {
    ACCESS_U64,      /* arg: offset in struct x86_state; the low bytes of it */
    ACCESS_SELECTOR, /* arg: enum x86_sreg */
    ACCESS_X87,      /* arg: offset in the XSAVE image */
    ACCESS_X87_WORD, /* 16 bits of it, */
    ACCESS_X87_LONG, /* or 32 */
    ACCESS_X87_TAG,
    ACCESS_SSE,
    ACCESS_MXCSR,
    ACCESS_AVX,
};
enum {
    XSAVE_FSW = 2,
    XSAVE_FTW = 4,
    XSAVE_ST = 32,
    XSAVE_XMM = 160,
    XSAVE_XMM_END = 416,
    XSAVE_BV = 512,
    XSAVE_YMMH = 576,
    XSAVE_YMMH_END = 832,
    FCW_INIT = 0x37f,
};

static const struct gdb_reg {
    const char *name;
    uint8_t size;
    const char *type;
    enum gdb_feature feature;
    enum gdb_access access;
    size_t arg;
} gdb_regs[] = {
#define REG(name, size, type, feature, access, arg)                                                \
    { name, size, type, feature, ACCESS_##access, arg },
#include "control/gdb_regs.def"
#undef REG
};

unsigned gdb_regs_count(bool avx)
{
    unsigned n = ARRAY_SIZE(gdb_regs);

    while (!avx && gdb_regs[n - 1].feature == AVX)
        n--;
    return n;
}

size_t gdb_reg_size(unsigned reg)
{
    return gdb_regs[reg].size;
}

/* --- the FPU's image --- */

static uint64_t gdb_xsave_component(enum gdb_access access)
{
    switch (access) {
    case ACCESS_SSE:
        return XCR0_SSE;
    case ACCESS_AVX:
        return XCR0_AVX;
    case ACCESS_X87:
    case ACCESS_X87_WORD:
    case ACCESS_X87_LONG:
    case ACCESS_X87_TAG:
        return XCR0_X87;
    default:
        return 0;
    }
}

static void gdb_xsave_init(struct x86_state *s, uint64_t component)
{
    if (component == XCR0_SSE) {
        memset(s->xsave + XSAVE_XMM, 0, XSAVE_XMM_END - XSAVE_XMM);
    } else if (component == XCR0_AVX) {
        memset(s->xsave + XSAVE_YMMH, 0, XSAVE_YMMH_END - XSAVE_YMMH);
    } else {
        memset(s->xsave, 0, 24); /* up to MXCSR, which belongs to none */
        memset(s->xsave + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
        st_le16(s->xsave, FCW_INIT);
    }
}

/* Gives the component of an access its values in the bytes too. */
static void gdb_xsave_own(struct x86_state *s, enum gdb_access access)
{
    uint64_t component = gdb_xsave_component(access), bv = ld_le64(s->xsave + XSAVE_BV);

    if (!component || (bv & component))
        return;
    gdb_xsave_init(s, component);
    st_le64(s->xsave + XSAVE_BV, bv | component);
}

/* The two-bit tag of ST(n)'s register: 0 valid, 1 zero, 2 special, 3 empty (SDM 1 8.1.7). */
static unsigned gdb_x87_tag(const struct x86_state *s, unsigned physical)
{
    unsigned top = ld_le16(s->xsave + XSAVE_FSW) >> 11 & 7, n = (physical - top) & 7;
    const uint8_t *st = s->xsave + XSAVE_ST + 16 * n;
    uint64_t mantissa = ld_le64(st);
    unsigned exponent = ld_le16(st + 8) & 0x7fff;

    if (!(s->xsave[XSAVE_FTW] >> physical & 1))
        return 3;
    if (exponent == 0x7fff)
        return 2;
    if (!exponent)
        return mantissa ? 2 : 1;
    return mantissa >> 63 ? 0 : 2;
}

static uint16_t gdb_x87_tags_get(const struct x86_state *s)
{
    unsigned tags = 0;

    for (unsigned i = 0; i < 8; i++)
        tags |= gdb_x87_tag(s, i) << (2 * i);
    return (uint16_t)tags;
}

static void gdb_x87_tags_set(struct x86_state *s, uint16_t tags)
{
    unsigned abridged = 0;

    for (unsigned i = 0; i < 8; i++)
        if ((tags >> (2 * i) & 3) != 3)
            abridged |= BIT(i);
    s->xsave[XSAVE_FTW] = (uint8_t)abridged;
}

static void gdb_fpu_get(const struct x86_state *s, const struct gdb_reg *r, uint8_t *buf)
{
    struct x86_state own = *s;

    gdb_xsave_own(&own, r->access);
    memset(buf, 0, r->size);
    if (r->access == ACCESS_X87_TAG)
        st_le16(buf, gdb_x87_tags_get(&own));
    else
        memcpy(buf, own.xsave + r->arg, r->access == ACCESS_X87_WORD ? 2 : r->size);
}

static void gdb_fpu_set(struct x86_state *s, const struct gdb_reg *r, const uint8_t *buf)
{
    gdb_xsave_own(s, r->access);
    if (r->access == ACCESS_X87_TAG)
        gdb_x87_tags_set(s, ld_le16(buf));
    else
        memcpy(s->xsave + r->arg, buf, r->access == ACCESS_X87_WORD ? 2 : r->size);
}

/* --- one register --- */

size_t gdb_reg_get(const struct x86_state *s, unsigned reg, uint8_t buf[GDB_REG_MAX])
{
    const struct gdb_reg *r = &gdb_regs[reg];

    switch (r->access) {
    case ACCESS_U64:
        memcpy(buf, (const uint8_t *)s + r->arg, r->size);
        break;
    case ACCESS_SELECTOR:
        st_le32(buf, s->seg[r->arg].sel);
        break;
    default:
        gdb_fpu_get(s, r, buf);
        break;
    }
    return r->size;
}

static void gdb_selector_set(struct x86_state *s, unsigned seg, uint16_t sel)
{
    if (sel == s->seg[seg].sel)
        return;
    s->seg[seg].sel = sel;
    if (!(s->cr0 & CR0_PE) || (s->rflags & FLAG_VM))
        s->seg[seg].base = (uint64_t)sel << 4;
}

void gdb_reg_set(struct x86_state *s, unsigned reg, const uint8_t buf[GDB_REG_MAX])
{
    const struct gdb_reg *r = &gdb_regs[reg];

    switch (r->access) {
    case ACCESS_U64:
        memcpy((uint8_t *)s + r->arg, buf, r->size);
        break;
    case ACCESS_SELECTOR:
        gdb_selector_set(s, (unsigned)r->arg, ld_le16(buf));
        break;
    default:
        gdb_fpu_set(s, r, buf);
        break;
    }
}

/* --- the description --- */

static const char *const gdb_feature_names[FEATURES] = {
    [CORE] = "org.gnu.gdb.i386.core",         [SSE] = "org.gnu.gdb.i386.sse",
    [SEGMENTS] = "org.gnu.gdb.i386.segments", [SYSTEM] = "ruche.x86.system",
    [AVX] = "org.gnu.gdb.i386.avx",
};

/* A word of named bits: "NAME=bit", the last one NULL. */
struct gdb_flags {
    enum gdb_feature feature;
    const char *id;
    unsigned size;
    struct {
        const char *name;
        unsigned bit;
    } field[24];
};
static const struct gdb_flags gdb_flags[] = {
    { CORE,
      "i386_eflags",
      4,
      { { "CF", 0 },
        { "", 1 },
        { "PF", 2 },
        { "AF", 4 },
        { "ZF", 6 },
        { "SF", 7 },
        { "TF", 8 },
        { "IF", 9 },
        { "DF", 10 },
        { "OF", 11 },
        { "NT", 14 },
        { "RF", 16 },
        { "VM", 17 },
        { "AC", 18 },
        { "VIF", 19 },
        { "VIP", 20 },
        { "ID", 21 } } },
    { SSE,
      "i386_mxcsr",
      4,
      { { "IE", 0 },
        { "DE", 1 },
        { "ZE", 2 },
        { "OE", 3 },
        { "UE", 4 },
        { "PE", 5 },
        { "DAZ", 6 },
        { "IM", 7 },
        { "DM", 8 },
        { "ZM", 9 },
        { "OM", 10 },
        { "UM", 11 },
        { "PM", 12 },
        { "FZ", 15 } } },
    { SYSTEM,
      "cr0",
      8,
      { { "PE", 0 },
        { "MP", 1 },
        { "EM", 2 },
        { "TS", 3 },
        { "ET", 4 },
        { "NE", 5 },
        { "WP", 16 },
        { "AM", 18 },
        { "NW", 29 },
        { "CD", 30 },
        { "PG", 31 } } },
    { SYSTEM,
      "cr4",
      8,
      { { "VME", 0 },
        { "PVI", 1 },
        { "TSD", 2 },
        { "DE", 3 },
        { "PSE", 4 },
        { "PAE", 5 },
        { "MCE", 6 },
        { "PGE", 7 },
        { "PCE", 8 },
        { "OSFXSR", 9 },
        { "OSXMMEXCPT", 10 },
        { "UMIP", 11 },
        { "LA57", 12 },
        { "FSGSBASE", 16 },
        { "PCIDE", 17 },
        { "OSXSAVE", 18 },
        { "SMEP", 20 },
        { "SMAP", 21 },
        { "PKE", 22 } } },
    { SYSTEM, "efer", 8, { { "SCE", 0 }, { "LME", 8 }, { "LMA", 10 }, { "NXE", 11 } } },
};

static void gdb_xml_flags(FILE *f, const struct gdb_flags *w)
{
    fprintf(f, "<flags id=\"%s\" size=\"%u\">", w->id, w->size);
    for (unsigned i = 0; i < ARRAY_SIZE(w->field) && w->field[i].name; i++)
        fprintf(f, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", w->field[i].name,
                w->field[i].bit, w->field[i].bit);
    fprintf(f, "</flags>");
}

static void gdb_xml_vectors(FILE *f)
{
    static const struct {
        const char *id, *type, *field;
        unsigned count;
    } parts[] = {
        { "v4f", "ieee_single", "v4_float", 4 }, { "v2d", "ieee_double", "v2_double", 2 },
        { "v16i8", "int8", "v16_int8", 16 },     { "v8i16", "int16", "v8_int16", 8 },
        { "v4i32", "int32", "v4_int32", 4 },     { "v2i64", "int64", "v2_int64", 2 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        fprintf(f, "<vector id=\"%s\" type=\"%s\" count=\"%u\"/>", parts[i].id, parts[i].type,
                parts[i].count);
    fprintf(f, "<union id=\"vec128\">");
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        fprintf(f, "<field name=\"%s\" type=\"%s\"/>", parts[i].field, parts[i].id);
    fprintf(f, "<field name=\"uint128\" type=\"uint128\"/></union>");
}

static void gdb_xml_feature(FILE *f, enum gdb_feature feature)
{
    fprintf(f, "<feature name=\"%s\">\n", gdb_feature_names[feature]);
    for (size_t i = 0; i < ARRAY_SIZE(gdb_flags); i++)
        if (gdb_flags[i].feature == feature)
            gdb_xml_flags(f, &gdb_flags[i]);
    if (feature == SSE)
        gdb_xml_vectors(f);
    for (unsigned i = 0; i < ARRAY_SIZE(gdb_regs); i++)
        if (gdb_regs[i].feature == feature)
            fprintf(f, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>\n",
                    gdb_regs[i].name, gdb_regs[i].size * 8u, gdb_regs[i].type, i);
    fprintf(f, "</feature>\n");
}

char *gdb_regs_xml(bool avx)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    int failed;

    if (!f)
        return NULL;
    fprintf(f, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
               "<target version=\"1.0\"><architecture>i386:x86-64</architecture>"
               "<osabi>none</osabi>\n");
    for (unsigned i = 0; i < FEATURES; i++)
        if (i != AVX || avx)
            gdb_xml_feature(f, (enum gdb_feature)i);
    fprintf(f, "</target>\n");
    failed = ferror(f);
    if (fclose(f) || failed) {
        free(text);
        return NULL;
    }
    return text;
}
