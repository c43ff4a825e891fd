/*
 * bt_task.c: hardware task switches (SDM 3A 7.3). Not in long mode.
 *
 * Up to the point where TR changes, a fault is the old task's (BT_FAULT, nothing changed). Everything
 * is read and both TSSs are known to be accessible by then; what is found wrong afterwards is the new
 * task's fault, with its registers in place (BT_TRAP).
 */
#include "accel/bt/bt_sysops.h"

enum { DR7_LOCAL = 0x155, DR6_BT = BIT(15), TASK_SEGS = 6 };

/* Where things are in a TSS; gprs and segments follow each other at `step`. */
struct task_layout {
    uint8_t min_limit, ip, flags, gpr, seg, ldt, step, size;
    uint8_t nsegs, first_saved, end_saved;
};
static const struct task_layout task_layouts[2] = {
    { .min_limit = 0x2b,
      .ip = 14,
      .flags = 16,
      .gpr = 18,
      .seg = 34,
      .ldt = 42,
      .step = 2,
      .size = 2,
      .nsegs = 4,
      .first_saved = 14,
      .end_saved = 42 },
    { .min_limit = 0x67,
      .ip = 32,
      .flags = 36,
      .gpr = 40,
      .seg = 72,
      .ldt = 96,
      .step = 4,
      .size = 4,
      .nsegs = 6,
      .first_saved = 32,
      .end_saved = 96 },
};
enum { TSS32_CR3 = 28, TSS32_T = 100 };

struct task_image {
    uint64_t cr3, ip, flags, gpr[8], seg[TASK_SEGS], ldt;
    bool trap;
};

static const struct task_layout *task_layout_of(const struct x86_seg *tss)
{
    return &task_layouts[(tss->attr & SEG_TYPE) >= DESC_TSS];
}

static int task_access_ok(struct bt_cpu *c, uint64_t base, unsigned from, unsigned end,
                          uint32_t access)
{
    uint64_t gpa;

    return bt_translate(c, (base + from) & 0xffffffff, access, BT_MMU_SUPER, &gpa) ||
                   bt_translate(c, (base + end - 1) & 0xffffffff, access, BT_MMU_SUPER, &gpa)
               ? BT_FAULT
               : 0;
}

static int task_read(struct bt_cpu *c, const struct x86_seg *tss, unsigned off, unsigned size,
                     uint64_t *v)
{
    return bt_lin_read(c, (tss->base + off) & 0xffffffff, size, v, BT_MMU_SUPER);
}

static int task_write(struct bt_cpu *c, const struct x86_seg *tss, unsigned off, unsigned size,
                      uint64_t v)
{
    return bt_lin_write(c, (tss->base + off) & 0xffffffff, size, v, BT_MMU_SUPER);
}

static int task_load_image(struct bt_cpu *c, const struct x86_seg *tss, struct task_image *im)
{
    const struct task_layout *l = task_layout_of(tss);
    uint64_t v;

    *im = (struct task_image){ .cr3 = c->s.cr3 };
    if (task_read(c, tss, l->ip, l->size, &im->ip) ||
        task_read(c, tss, l->flags, l->size, &im->flags) || task_read(c, tss, l->ldt, 2, &im->ldt))
        return BT_FAULT;
    for (unsigned i = 0; i < 8; i++)
        if (task_read(c, tss, l->gpr + i * l->step, l->size, &im->gpr[i]))
            return BT_FAULT;
    for (unsigned i = 0; i < l->nsegs; i++)
        if (task_read(c, tss, l->seg + i * l->step, 2, &im->seg[i]))
            return BT_FAULT;
    if (l->size == 2)
        return 0;
    if (task_read(c, tss, TSS32_CR3, 4, &im->cr3) || task_read(c, tss, TSS32_T, 2, &v))
        return BT_FAULT;
    im->trap = v & 1;
    return 0;
}

static int task_save(struct bt_cpu *c, const struct x86_seg *tss, uint64_t flags)
{
    const struct task_layout *l = task_layout_of(tss);

    if (task_write(c, tss, l->ip, l->size, c->s.rip) ||
        task_write(c, tss, l->flags, l->size, flags))
        return BT_FAULT;
    for (unsigned i = 0; i < 8; i++)
        if (task_write(c, tss, l->gpr + i * l->step, l->size, c->s.gpr[i]))
            return BT_FAULT;
    for (unsigned i = 0; i < l->nsegs; i++)
        if (task_write(c, tss, l->seg + i * l->step, 2, c->s.seg[i].sel))
            return BT_FAULT;
    return 0;
}

/* --- the new task's segments, checked in its context --- */

static int task_load_ldt(struct bt_cpu *c, uint16_t sel)
{
    struct bt_desc d;

    c->s.ldtr = bt_seg_null(sel);
    if (bt_sel_null(sel))
        return 0;
    if (sel & 4)
        return bt_raise_err(c, X86_TS, bt_sel_error(sel));
    if (bt_desc_load(c, sel, X86_TS, &d))
        return BT_FAULT;
    if (!bt_desc_system(&d) || bt_desc_type(&d) != DESC_LDT || !bt_desc_present(&d))
        return bt_raise_err(c, X86_TS, bt_sel_error(sel));
    c->s.ldtr = bt_desc_seg(&d);
    return 0;
}

static int task_load_cs(struct bt_cpu *c, uint16_t sel, struct bt_desc *d)
{
    unsigned rpl = sel & 3;

    if (bt_sel_null(sel))
        return bt_raise_err(c, X86_TS, 0);
    if (bt_desc_load(c, sel, X86_TS, d))
        return BT_FAULT;
    if (!bt_desc_code(d) || (bt_desc_conforming(d) ? bt_desc_dpl(d) > rpl : bt_desc_dpl(d) != rpl))
        return bt_raise_err(c, X86_TS, bt_sel_error(sel));
    if (!bt_desc_present(d))
        return bt_raise_err(c, X86_NP, bt_sel_error(sel));
    if (bt_desc_accessed(c, d))
        return BT_FAULT;
    bt_set_cs(c, d, rpl);
    return 0;
}

static int task_load_data(struct bt_cpu *c, unsigned seg, uint16_t sel, unsigned cpl)
{
    unsigned rpl = sel & 3;
    struct bt_desc d;
    bool ok;

    if (bt_sel_null(sel))
        return seg == X86_SS ? bt_raise_err(c, X86_TS, 0) : 0;
    if (bt_desc_load(c, sel, X86_TS, &d))
        return BT_FAULT;
    if (seg == X86_SS)
        ok = rpl == cpl && bt_desc_dpl(&d) == cpl && bt_desc_writable(&d);
    else
        ok = bt_desc_readable(&d) &&
             (bt_desc_conforming(&d) || (rpl <= bt_desc_dpl(&d) && cpl <= bt_desc_dpl(&d)));
    if (!ok)
        return bt_raise_err(c, X86_TS, bt_sel_error(sel));
    if (!bt_desc_present(&d))
        return bt_raise_err(c, seg == X86_SS ? X86_SS_FAULT : X86_NP, bt_sel_error(sel));
    if (bt_desc_accessed(c, &d))
        return BT_FAULT;
    c->s.seg[seg] = bt_desc_seg(&d);
    return 0;
}

static int task_load_segments(struct bt_cpu *c, const struct task_image *im)
{
    static const uint8_t order[] = { X86_SS, X86_ES, X86_DS, X86_FS, X86_GS };
    unsigned cpl = im->seg[X86_CS] & 3;
    struct bt_desc cs;

    if (task_load_ldt(c, (uint16_t)im->ldt))
        return BT_FAULT;
    if (im->flags & FLAG_VM) {
        for (unsigned i = 0; i < X86_NSREGS; i++)
            c->s.seg[i] = bt_seg_real((uint16_t)im->seg[i], true);
        return 0;
    }
    if (task_load_cs(c, (uint16_t)im->seg[X86_CS], &cs))
        return BT_FAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        if (task_load_data(c, order[i], (uint16_t)im->seg[order[i]], cpl))
            return BT_FAULT;
    return bt_code_offset_ok(c, &cs, c->s.rip);
}

/* Registers that cannot fault. Segments hold their selectors but no descriptor yet; CPL is the new one. */
static void task_enter(struct bt_cpu *c, const struct task_image *im, bool wide)
{
    unsigned cpl = im->flags & FLAG_VM ? 3 : im->seg[X86_CS] & 3;

    for (unsigned i = 0; i < 8; i++)
        bt_gpr_set(c, i, wide ? 4 : 2, im->gpr[i]);
    c->s.rip = im->ip;
    c->s.rflags = im->flags | FLAG_1;
    for (unsigned i = 0; i < X86_NSREGS; i++)
        c->s.seg[i] = bt_seg_null((uint16_t)im->seg[i]);
    c->s.seg[X86_SS].attr |= (uint16_t)(cpl << SEG_DPL_SHIFT);
    c->s.cr0 |= CR0_TS;
    c->s.dr7 &= ~(uint64_t)DR7_LOCAL;
    if (wide && (c->s.cr0 & CR0_PG) && im->cr3 != c->s.cr3)
        bt_tlb_set_cr3(c, im->cr3);
}

static int task_finish(struct bt_cpu *c, const struct task_image *im, unsigned size, bool has_error,
                       uint32_t error)
{
    int ret = task_load_segments(c, im);

    bt_mode_changed(c);
    if (!ret && has_error)
        ret = bt_push(c, size, error);
    if (!ret && im->trap) {
        c->s.dr6 |= DR6_BT;
        ret = bt_raise(c, X86_DB);
    }
    return ret ? BT_TRAP : 0;
}

/* The old task's side: everything that must be accessible is, then its registers and busy bit. */
static int task_leave(struct bt_cpu *c, uint16_t sel, const struct x86_seg *tss,
                      enum bt_task_kind kind)
{
    const struct task_layout *old = task_layout_of(&c->s.tr), *l = task_layout_of(tss);
    bool nests = kind == BT_TASK_CALL || kind == BT_TASK_INT;
    uint64_t flags = c->s.rflags;

    if (task_access_ok(c, c->s.tr.base, old->first_saved, old->end_saved, PF_W) ||
        task_access_ok(c, tss->base, 0, l->min_limit + 1u, nests ? PF_W : 0))
        return BT_FAULT;
    if (!nests && bt_desc_busy(c, c->s.tr.sel, false))
        return BT_FAULT;
    if (kind == BT_TASK_IRET)
        flags &= ~(uint64_t)FLAG_NT;
    if (task_save(c, &c->s.tr, flags))
        return BT_FAULT;
    if (nests && task_write(c, tss, 0, 2, c->s.tr.sel))
        return BT_FAULT;
    return kind == BT_TASK_IRET ? 0 : bt_desc_busy(c, sel, true);
}

int bt_task_switch(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error,
                   uint32_t error)
{
    const struct task_layout *l;
    struct task_image im;
    struct x86_seg tss;
    struct bt_desc d;

    if (bt_desc_load(c, sel, X86_TS, &d))
        return BT_FAULT;
    tss = bt_desc_seg(&d);
    l = task_layout_of(&tss);
    if (tss.limit < l->min_limit)
        return bt_raise_err(c, X86_TS, bt_sel_error(sel));
    if (task_load_image(c, &tss, &im) || task_leave(c, sel, &tss, kind))
        return BT_FAULT;
    if (kind == BT_TASK_CALL || kind == BT_TASK_INT)
        im.flags |= FLAG_NT;
    c->s.tr = tss;
    c->s.tr.attr |= DESC_TSS_BUSY_BIT;
    task_enter(c, &im, l->size == 4);
    return task_finish(c, &im, l->size, has_error, error);
}

int bt_task_gate(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error,
                 uint32_t error)
{
    unsigned vector = kind == BT_TASK_IRET ? X86_TS : X86_GP, type;
    struct bt_desc d;

    if (bt_sel_null(sel) || (sel & 4))
        return bt_raise_err(c, vector, bt_sel_error(sel));
    if (bt_desc_load(c, sel, vector, &d))
        return BT_FAULT;
    type = bt_desc_system(&d) ? bt_desc_type(&d) : 0;
    if (kind == BT_TASK_IRET)
        type ^= DESC_TSS_BUSY_BIT; /* must be busy where the others must be available */
    if (type != DESC_TSS && type != DESC_TSS16)
        return bt_raise_err(c, vector, bt_sel_error(sel));
    if (!bt_desc_present(&d))
        return bt_raise_err(c, X86_NP, bt_sel_error(sel));
    return bt_task_switch(c, sel, kind, has_error, error);
}
