/*
 * bt_desc.c: see bt_desc.h. Descriptor tables and the TSS are read as the system itself, whatever the CPL
 * (implicit supervisor accesses, SDM 3A 4.6): BT_MMU_SUPER.
 */
#include "accel/bt/bt_desc.h"

enum {
    DESC_ACCESSED_BYTE = 5, /* of the descriptor; also the type's */
    TSS32_SP0 = 4,
    TSS16_SP0 = 2,
    TSS64_RSP0 = 4,
    TSS64_IST1 = 36,
};

/* Linear address of a selector's entry, `len` bytes of which must be inside the table. */
static int desc_address(struct bt_cpu *c, uint16_t sel, unsigned len, unsigned vector,
                        uint64_t *lin)
{
    uint64_t base = c->s.gdtr.base, limit = c->s.gdtr.limit;

    *lin = 0;
    if (sel & 4) {
        base = c->s.ldtr.base;
        limit = c->s.ldtr.limit;
        if (c->s.ldtr.attr & SEG_UNUSABLE)
            return bt_raise_err(c, vector, bt_sel_error(sel));
    }
    if ((sel & ~7u) + len - 1 > limit)
        return bt_raise_err(c, vector, bt_sel_error(sel));
    *lin = base + (sel & ~7u);
    if (!c->long_mode)
        *lin &= 0xffffffff;
    return 0;
}

int bt_desc_load(struct bt_cpu *c, uint16_t sel, unsigned vector, struct bt_desc *d)
{
    uint64_t lin;

    d->sel = sel;
    if (desc_address(c, sel, 8, vector, &lin))
        return BT_FAULT;
    return bt_lin_read(c, lin, 8, &d->raw, BT_MMU_SUPER);
}

int bt_desc_load_high(struct bt_cpu *c, uint16_t sel, unsigned vector, uint64_t *high)
{
    uint64_t lin;

    if (desc_address(c, sel, 16, vector, &lin) || bt_lin_read(c, lin + 8, 8, high, BT_MMU_SUPER))
        return BT_FAULT;
    if (*high >> 40 & 0x1f) /* the type field of the upper half must be 0 */
        return bt_raise_err(c, vector, bt_sel_error(sel));
    return 0;
}

struct x86_seg bt_desc_seg(const struct bt_desc *d)
{
    return (struct x86_seg){
        .base = bt_desc_base(d),
        .limit = bt_desc_limit(d),
        .sel = d->sel,
        .attr = (uint16_t)(d->raw >> 40 & 0xf0ff),
    };
}

struct x86_seg bt_seg_null(uint16_t sel)
{
    return (struct x86_seg){ .sel = sel, .attr = SEG_UNUSABLE };
}

struct x86_seg bt_seg_real(uint16_t sel, bool vm86)
{
    return (struct x86_seg){
        .base = (uint64_t)sel << 4,
        .limit = 0xffff,
        .sel = sel,
        .attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | (vm86 ? SEG_DPL : 0),
    };
}

/* Ors bits into a byte of a descriptor in memory, or clears them, atomically where it is RAM. */
static int desc_byte(struct bt_cpu *c, uint16_t sel, uint8_t set, uint8_t clear)
{
    uint64_t lin, val;
    void *hva;

    if (desc_address(c, sel, 8, X86_GP, &lin))
        return BT_FAULT;
    lin += DESC_ACCESSED_BYTE;
    if (bt_lin_ptr(c, lin, 1, true, BT_MMU_SUPER, &hva))
        return BT_FAULT;
    if (hva) {
        __atomic_fetch_or((uint8_t *)hva, set, __ATOMIC_SEQ_CST);
        __atomic_fetch_and((uint8_t *)hva, (uint8_t)~clear, __ATOMIC_SEQ_CST);
        return 0;
    }
    if (bt_lin_read(c, lin, 1, &val, BT_MMU_SUPER))
        return BT_FAULT;
    return bt_lin_write(c, lin, 1, (val | set) & ~(uint64_t)clear, BT_MMU_SUPER);
}

int bt_desc_accessed(struct bt_cpu *c, struct bt_desc *d)
{
    if (d->raw & BIT64(40))
        return 0;
    if (desc_byte(c, d->sel, SEG_ACCESSED, 0))
        return BT_FAULT;
    d->raw |= BIT64(40);
    return 0;
}

int bt_desc_busy(struct bt_cpu *c, uint16_t sel, bool busy)
{
    return desc_byte(c, sel, busy ? DESC_TSS_BUSY_BIT : 0, busy ? 0 : DESC_TSS_BUSY_BIT);
}

/* --- stacks --- */

enum bt_mmu bt_mmu_of_cpl(const struct bt_cpu *c, unsigned cpl)
{
    if (cpl == 3)
        return BT_MMU_USER;
    return !(c->s.cr4 & CR4_SMAP) || (c->s.rflags & FLAG_AC) ? BT_MMU_SUPER_AC : BT_MMU_SUPER;
}

struct bt_stack bt_stack_current(const struct bt_cpu *c)
{
    return (struct bt_stack){
        .ss = c->s.seg[X86_SS],
        .sp = c->s.gpr[X86_RSP],
        .width = c->stack_size,
        .mmu = c->mmu,
    };
}

static int stack_linear(struct bt_cpu *c, const struct bt_stack *st, uint64_t sp, unsigned len,
                        uint64_t *lin)
{
    if (st->width == 8) {
        *lin = sp;
        if (bt_canonical(c, sp) && bt_canonical(c, sp + len - 1))
            return 0;
    } else {
        *lin = (st->ss.base + sp) & 0xffffffff;
        if (bt_seg_limit_ok(&st->ss, sp, len))
            return 0;
    }
    return bt_raise_err(c, X86_SS_FAULT, st->error);
}

int bt_stack_push(struct bt_cpu *c, struct bt_stack *st, unsigned size, uint64_t val)
{
    uint64_t sp = (st->sp - size) & bt_mask(st->width), lin;

    if (stack_linear(c, st, sp, size, &lin) || bt_lin_write(c, lin, size, val, st->mmu))
        return BT_FAULT;
    st->sp = sp;
    return 0;
}

int bt_stack_pop(struct bt_cpu *c, struct bt_stack *st, unsigned size, uint64_t *val)
{
    uint64_t lin;

    if (stack_linear(c, st, st->sp & bt_mask(st->width), size, &lin) ||
        bt_lin_read(c, lin, size, val, st->mmu))
        return BT_FAULT;
    st->sp = (st->sp + size) & bt_mask(st->width);
    return 0;
}

int bt_stack_room(struct bt_cpu *c, const struct bt_stack *st, unsigned n)
{
    uint64_t lin;

    return stack_linear(c, st, (st->sp - n) & bt_mask(st->width), n, &lin);
}

void bt_stack_commit_sp(struct bt_cpu *c, const struct bt_stack *st)
{
    uint64_t mask = st->width == 2 ? 0xffff : ~0ull;

    c->s.gpr[X86_RSP] = (c->s.gpr[X86_RSP] & ~mask) | (st->sp & mask);
}

static int tss_read(struct bt_cpu *c, unsigned off, unsigned size, uint64_t *val)
{
    if (off + size - 1 > c->s.tr.limit)
        return bt_raise_err(c, X86_TS, bt_sel_error(c->s.tr.sel));
    return bt_lin_read(c, c->s.tr.base + off, size, val, BT_MMU_SUPER);
}

int bt_stack_from_tss(struct bt_cpu *c, unsigned dpl, struct bt_stack *st)
{
    bool wide = (c->s.tr.attr & SEG_TYPE) >= DESC_TSS;
    unsigned off = wide ? TSS32_SP0 + 8 * dpl : TSS16_SP0 + 4 * dpl;
    uint64_t sp, sel;
    struct bt_desc d;

    if (tss_read(c, off + (wide ? 4 : 2), 2, &sel) || tss_read(c, off, wide ? 4 : 2, &sp))
        return BT_FAULT;
    if (bt_sel_null((uint16_t)sel))
        return bt_raise_err(c, X86_TS, 0);
    if (bt_desc_load(c, (uint16_t)sel, X86_TS, &d))
        return BT_FAULT;
    if ((sel & 3) != dpl || bt_desc_dpl(&d) != dpl || !bt_desc_writable(&d))
        return bt_raise_err(c, X86_TS, bt_sel_error((uint16_t)sel));
    if (!bt_desc_present(&d))
        return bt_raise_err(c, X86_SS_FAULT, bt_sel_error((uint16_t)sel));
    if (bt_desc_accessed(c, &d))
        return BT_FAULT;
    *st = (struct bt_stack){
        .ss = bt_desc_seg(&d),
        .sp = sp,
        .width = bt_desc_db(&d) ? 4 : 2,
        .mmu = bt_mmu_of_cpl(c, dpl),
        .error = bt_sel_error((uint16_t)sel),
    };
    return 0;
}

int bt_stack_from_tss64(struct bt_cpu *c, unsigned dpl, unsigned ist, struct bt_stack *st)
{
    *st = (struct bt_stack){
        .ss = { .sel = (uint16_t)dpl, .attr = (uint16_t)(SEG_UNUSABLE | dpl << SEG_DPL_SHIFT) },
        .width = 8,
        .mmu = bt_mmu_of_cpl(c, dpl),
    };
    if (tss_read(c, ist ? TSS64_IST1 + 8 * (ist - 1) : TSS64_RSP0 + 8 * dpl, 8, &st->sp))
        return BT_FAULT;
    if (!bt_canonical(c, st->sp))
        return bt_raise_err(c, X86_SS_FAULT, 0);
    return 0;
}

/* --- code segments --- */

void bt_set_cs(struct bt_cpu *c, const struct bt_desc *d, unsigned rpl)
{
    c->s.seg[X86_CS] = bt_desc_seg(d);
    c->s.seg[X86_CS].sel = (uint16_t)((d->sel & ~3u) | rpl);
}

int bt_code_offset_ok(struct bt_cpu *c, const struct bt_desc *d, uint64_t off)
{
    bool ok = c->long_mode && bt_desc_long(d) ? bt_canonical(c, off) : off <= bt_desc_limit(d);

    return ok ? 0 : bt_raise_err(c, X86_GP, 0);
}
