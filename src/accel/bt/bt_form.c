/*
 * bt_form.c: the table of forms (bt_form.h), and how an instruction is taken apart: SDM 2A 2.1 to 2.7 and the
 * opcode maps of SDM 2D, as far as lengths go. What is rare, or has several immediates, is not kept.
 */
#include "accel/bt/bt_form.h"

#include "base/endian.h"
#include "base/pages.h"

enum { FORM_BYTES = (sizeof(struct bt_forms) + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE };

struct bt_forms *bt_forms_create(void)
{
    return pages_alloc(FORM_BYTES, 0);
}

void bt_forms_destroy(struct bt_forms *forms)
{
    pages_free(forms, FORM_BYTES, 0);
}

void bt_forms_clear(struct bt_forms *forms)
{
    forms->age++;
}

/* --- opcode maps --- */
enum {               /* what follows an opcode */
       M = BIT(0),   /* ModRM */
       B = BIT(1),   /* an immediate of a byte, */
       Z = BIT(2),   /* of the operand size, 32 bits at most, */
       V = BIT(3),   /* or of the operand size */
       R = BIT(4),   /* and it is a branch's displacement */
       BAD = BIT(5), /* its forms are not kept */
       T = BIT(6),   /* the immediate is that of TEST, ModRM.reg 0 and 1, alone */
};

#define FORM_ROW(...) __VA_ARGS__,
static const uint8_t form_map[2][256] = {
    {
#define FORM_MAP 0
#include "accel/bt/bt_form.def"
#undef FORM_MAP
    },
    {
#define FORM_MAP 1
#include "accel/bt/bt_form.def"
#undef FORM_MAP
    },
};

static uint8_t form_opcode(unsigned map, uint8_t op)
{
    if (map < ARRAY_SIZE(form_map))
        return form_map[map][op];
    return map == 2 ? M : M | B; /* 0F 38, 0F 3A */
}

/* --- an instruction's parts --- */
struct form_scan {
    const uint8_t *bytes;
    size_t n;
    unsigned at;
    bool p66, p67, rex_w, vector, evex;
    unsigned map;
};

/* Legacy prefixes and REX. false: nothing is behind them, or the address size is not the usual one. */
static bool form_prefixes(struct form_scan *s, unsigned code_size)
{
    for (; s->at < s->n; s->at++) {
        switch (s->bytes[s->at]) {
        case 0x66:
            s->p66 = true;
            continue;
        case 0x67:
            s->p67 = true;
            continue;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0xf0:
        case 0xf2:
        case 0xf3:
            continue;
        default:
            break;
        }
        break;
    }
    if (s->at < s->n && code_size == 8 && s->bytes[s->at] >> 4 == 4)
        s->rex_w = s->bytes[s->at++] & 8;
    return s->at < s->n && (code_size == 8 || !s->p67);
}

/* VEX and EVEX, or the escapes of the opcode maps; s->at is then the opcode's. */
static bool form_escapes(struct form_scan *s, unsigned code_size)
{
    const uint8_t *b = s->bytes + s->at;
    size_t left = s->n - s->at;
    bool vector = left > 1 && (code_size == 8 || b[1] >= 0xc0); /* else LES, LDS, BOUND */

    if (b[0] == 0xc5 || b[0] == 0xc4 || b[0] == 0x62) {
        if (!vector || left < 6)
            return false;
        s->vector = true;
        s->evex = b[0] == 0x62;
        s->map = b[0] == 0xc5 ? 1 : b[1] & (s->evex ? 7 : 31);
        s->at += b[0] == 0xc5 ? 2 : s->evex ? 4 : 3;
        return s->map >= 1 && s->map <= 3;
    }
    if (b[0] == 0x0f && left > 2) {
        s->map = b[1] == 0x38 ? 2 : b[1] == 0x3a ? 3 : 1;
        s->at += s->map == 1 ? 1 : 2;
    }
    return b[0] != 0x0f || s->map;
}

/* ModRM at s->at, SIB and the size of the displacement, of 32- and 64-bit addresses. */
static bool form_modrm(struct form_scan *s, struct bt_form_parts *p)
{
    unsigned modrm, mod;

    if (s->at + 2 > s->n)
        return false;
    modrm = s->bytes[s->at++];
    mod = modrm >> 6;
    if (mod == 3)
        return true;
    p->disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if ((modrm & 7) == 4) {
        if (mod == 0 && (s->bytes[s->at] & 7) == 5)
            p->disp_size = 4;
        s->at++;
    } else if (mod == 0 && (modrm & 7) == 5) {
        p->disp_size = 4;
    }
    if (s->evex && p->disp_size == 1) { /* it is scaled by what the instruction is */
        p->disp_size = 0;
        s->at++;
    }
    return true;
}

static unsigned form_imm_size(const struct form_scan *s, unsigned what)
{
    if (what & B)
        return 1;
    if (what & (Z | V))
        return s->p66 ? 2 : (what & V) && s->rex_w ? 8 : 4;
    return 0;
}

bool bt_form_scan(const uint8_t *bytes, size_t n, unsigned code_size, struct bt_form_parts *p)
{
    struct form_scan s = { .bytes = bytes, .n = n > BT_INSN_MAX ? BT_INSN_MAX : n };
    unsigned what, op, modrm;

    *p = (struct bt_form_parts){ 0 };
    if (code_size == 2 || !form_prefixes(&s, code_size) || !form_escapes(&s, code_size) ||
        s.at >= s.n)
        return false;
    op = s.bytes[s.at++];
    what = form_opcode(s.map, (uint8_t)op);
    if (s.vector && s.map == 1 &&
        op != 0x77) /* other instructions than without, but the same immediates */
        what = (what & B) | M;
    if (what & BAD)
        return false;
    modrm = s.at;
    if ((what & M) && !form_modrm(&s, p))
        return false;
    if (!(what & T) || (bytes[modrm] >> 3 & 7) < 2)
        p->imm_size = (uint8_t)form_imm_size(&s, what);
    p->head = (uint8_t)s.at;
    p->imm_keyed = p->imm_size == 1 && !(what & R);
    return p->imm_size != 2 && p->head <= BT_FORM_HEAD && s.at + p->disp_size + p->imm_size <= s.n;
}

/* --- the table --- */
static uint64_t form_head(const uint8_t *bytes, unsigned from, unsigned to)
{
    uint64_t v = 0;

    for (unsigned i = to; i-- > from;)
        v = v << 8 | bytes[i];
    return v;
}

struct bt_form *bt_form_at(const struct bt_cpu *c, const uint8_t *bytes,
                           const struct bt_form_parts *p, bool one)
{
    unsigned low = p->head < 8 ? p->head : 8;
    uint64_t key[2] = { form_head(bytes, 0, low), form_head(bytes, low, p->head) };
    struct bt_form *f;
    uint64_t hash;

    if (p->imm_keyed)
        key[1] |= (uint64_t)bytes[p->head + p->disp_size] << 24;
    /* bit 63: a key is never 0. The mode's bits below BT_KEY_ONE and above it are all in 31. */
    key[1] |= (uint64_t)((c->code_key & ~(uint32_t)BT_KEY_ONE) | (one ? BT_KEY_ONE : 0)) << 32 |
              BIT64(63);
    hash = (key[0] ^ key[1] * 0x9e3779b97f4a7c15ull) * 0x9e3779b97f4a7c15ull;
    f = &c->forms->form[hash >> (64 - BT_FORM_BITS)];
    if (f->key[0] != key[0] || f->key[1] != key[1] || f->age != c->forms->age) {
        f->age = c->forms->age;
        f->key[0] = key[0];
        f->key[1] = key[1];
        f->has_op = f->has_jit = false;
    }
    return f;
}

bool bt_form_agrees(struct bt_form *f, const struct bt_form_parts *p,
                    const ZydisDecodedInstruction *z)
{
    unsigned disp = z->raw.disp.size / 8u;

    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && disp == 1)
        disp = 0; /* in the head */
    f->imm_signed = z->raw.imm[0].is_signed;
    return z->length == p->head + p->disp_size + p->imm_size && disp == p->disp_size &&
           z->raw.imm[0].size / 8u == p->imm_size && !z->raw.imm[1].size &&
           (!disp || z->raw.disp.offset == p->head) &&
           (!p->imm_size || z->raw.imm[0].offset == p->head + p->disp_size);
}

void bt_form_numbers(const struct bt_form *f, const struct bt_form_parts *p, const uint8_t *bytes,
                     int32_t *disp, int64_t *imm)
{
    const uint8_t *at = bytes + p->head;

    if (p->disp_size)
        *disp = p->disp_size == 1 ? (int8_t)*at : (int32_t)ld_le32(at);
    at += p->disp_size;
    if (p->imm_keyed || !p->imm_size)
        return;
    if (p->imm_size == 8)
        *imm = (int64_t)ld_le64(at);
    else if (p->imm_size == 4)
        *imm = f->imm_signed ? (int32_t)ld_le32(at) : (int64_t)ld_le32(at);
    else
        *imm = f->imm_signed ? (int8_t)*at : *at;
}
