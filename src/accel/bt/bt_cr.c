/*
 * bt_cr.c: control and debug registers, descriptor table registers, TLB and cache instructions
 * (SDM 3A 2.5, 2.8; 2A MOV CR, MOV DR).
 */
#include "accel/bt/bt_sysops.h"

#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
/* Changes of these may change what a cached translation says. */
#define CR0_TLB   (CR0_PG | CR0_WP | CR0_PE)
#define CR4_TLB   (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57)
#define CR4_PDPTE (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)
enum {
    DR6_WRITABLE = 0xe00f,
    DR7_FIXED = BIT(10),
    DR7_GD = BIT(13),
    DR6_BD = BIT(13),
    MSW_BITS = 0xf,
};
#define DR6_FIXED    0xffff0ff0ull
#define DR7_WRITABLE 0xffff23ffull

static unsigned cr_width(const struct bt_cpu *c)
{
    return c->code_size == 8 ? 8 : 4;
}

/* --- CR0 --- */

static bool cr0_paging_ok(struct bt_cpu *c, uint64_t v)
{
    bool was = c->s.cr0 & CR0_PG, will = v & CR0_PG;

    if (!was && will && (c->s.efer & EFER_LME))
        return (c->s.cr4 & CR4_PAE) && !(c->s.seg[X86_CS].attr & SEG_L);
    if (was && !will)
        return c->code_size != 8 && !(c->s.cr4 & CR4_PCIDE);
    if (will && (c->s.cr4 & CR4_PAE) && !(c->s.efer & EFER_LMA) &&
        ((c->s.cr0 ^ v) & (CR0_CD | CR0_NW | CR0_PG)))
        return bt_walk_pdptes_ok(c, c->s.cr3);
    return true;
}

static bool cr0_set(struct bt_cpu *c, uint64_t v)
{
    uint64_t changed;

    if (v >> 32 || ((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
        return false;
    if (!cr0_paging_ok(c, v))
        return false;
    v = (v & CR0_DEFINED) | CR0_ET;
    changed = c->s.cr0 ^ v;
    c->s.cr0 = v;
    if ((changed & CR0_PG) && (c->s.efer & EFER_LME))
        c->s.efer = v & CR0_PG ? c->s.efer | EFER_LMA : c->s.efer & ~EFER_LMA;
    if (changed & CR0_TLB)
        bt_tlb_flush_all(c);
    bt_mode_changed(c);
    return true;
}

/* --- CR3, CR4, CR8 --- */

static bool cr3_set(struct bt_cpu *c, uint64_t v)
{
    uint64_t reserved = ~0ull << c->mem_priv->phys_bits;

    if (c->s.cr4 & CR4_PCIDE)
        reserved &= ~BIT64(63);
    if ((c->s.efer & EFER_LMA) && (v & reserved))
        return false;
    if ((c->s.cr0 & CR0_PG) && (c->s.cr4 & CR4_PAE) && !(c->s.efer & EFER_LMA) &&
        !bt_walk_pdptes_ok(c, v))
        return false;
    bt_tlb_set_cr3(c, v);
    return true;
}

static bool cr4_valid(struct bt_cpu *c, uint64_t v)
{
    uint64_t changed = c->s.cr4 ^ v;
    bool lma = c->s.efer & EFER_LMA;

    if (v & ~c->mem_priv->cr4_allowed)
        return false;
    if (lma && (!(v & CR4_PAE) || (changed & CR4_LA57)))
        return false;
    if ((changed & v & CR4_PCIDE) && (!lma || (c->s.cr3 & BT_PCID_MASK)))
        return false;
    return true;
}

static bool cr4_set(struct bt_cpu *c, uint64_t v)
{
    uint64_t old = c->s.cr4;

    if (!cr4_valid(c, v))
        return false;
    c->s.cr4 = v;
    if ((c->s.cr0 & CR0_PG) && (v & CR4_PAE) && !(c->s.efer & EFER_LMA) &&
        ((old ^ v) & CR4_PDPTE) && !bt_walk_pdptes_ok(c, c->s.cr3)) {
        c->s.cr4 = old;
        return false;
    }
    if ((old ^ v) & CR4_TLB)
        bt_tlb_flush_all(c);
    if ((old ^ v) & CR4_PCIDE)
        bt_tlb_set_cr3(c, c->s.cr3); /* to the set of its PCID */
    bt_mode_changed(c);
    return true;
}

static bool cr8_set(struct bt_cpu *c, uint64_t v)
{
    if (v > 15)
        return false;
    c->s.cr8 = v;
    if (c->vcpu->lapic) {
        bt_fpu_store(c);
        c->intr_check = true;
        exit_tpr_set(c->vcpu, (uint8_t)v);
    }
    c->event_window = true;
    return true;
}

static uint64_t cr8_get(struct bt_cpu *c)
{
    if (!c->vcpu->lapic)
        return c->s.cr8;
    bt_fpu_store(c);
    return c->s.cr8 = exit_tpr_get(c->vcpu);
}

int bt_op_mov_to_cr(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v = bt_gpr_get(c, in->rm, cr_width(c));
    bool ok = false;

    if (c->cpl)
        return bt_sys_gp(c, in);
    switch (in->reg) {
    case 0:
        ok = cr0_set(c, v);
        break;
    case 2:
        c->s.cr2 = v;
        ok = true;
        break;
    case 3:
        ok = cr3_set(c, v);
        break;
    case 4:
        ok = cr4_set(c, v);
        break;
    case 8:
        ok = cr8_set(c, v);
        break;
    default:
        return bt_sys_ud(c, in);
    }
    return ok ? BT_NEXT : bt_sys_gp(c, in);
}

int bt_op_mov_from_cr(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v;

    if (c->cpl)
        return bt_sys_gp(c, in);
    switch (in->reg) {
    case 0:
        v = c->s.cr0;
        break;
    case 2:
        v = c->s.cr2;
        break;
    case 3:
        v = c->s.cr3;
        break;
    case 4:
        v = c->s.cr4;
        break;
    case 8:
        v = cr8_get(c);
        break;
    default:
        return bt_sys_ud(c, in);
    }
    bt_gpr_set(c, in->rm, cr_width(c), v);
    return BT_NEXT;
}

/* LMSW can set PE but not clear it. */
int bt_op_lmsw(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v, keep = c->s.cr0 & ~(uint64_t)(MSW_BITS & ~CR0_PE);

    if (c->cpl)
        return bt_sys_gp(c, in);
    if (bt_rm_get(c, in, 2, &v))
        return bt_sys_fault(c, in);
    return cr0_set(c, keep | (v & MSW_BITS)) ? BT_NEXT : bt_sys_gp(c, in);
}

int bt_op_smsw(struct bt_cpu *c, const struct bt_insn *in)
{
    if (c->cpl && (c->s.cr4 & CR4_UMIP))
        return bt_sys_gp(c, in);
    return bt_rm_set_word(c, in, c->s.cr0) ? bt_sys_fault(c, in) : BT_NEXT;
}

int bt_op_clts(struct bt_cpu *c, const struct bt_insn *in)
{
    if (c->cpl)
        return bt_sys_gp(c, in);
    c->s.cr0 &= ~CR0_TS;
    bt_mode_changed(c);
    return BT_NEXT;
}

/* --- debug registers --- */

/* Privilege, DR4 and DR5, general detect; *n: the register meant. 0 or BT_FAULT. */
static int dr_check(struct bt_cpu *c, const struct bt_insn *in, unsigned *n)
{
    *n = in->reg;
    if (in->reg > 7 || ((in->reg & 6) == 4 && (c->s.cr4 & CR4_DE)))
        return bt_sys_ud(c, in);
    if (c->cpl)
        return bt_sys_gp(c, in);
    if ((in->reg & 6) == 4)
        *n += 2;
    if (!(c->s.dr7 & DR7_GD))
        return 0;
    c->s.dr6 |= DR6_BD;
    bt_raise(c, X86_DB);
    return bt_sys_fault(c, in);
}

int bt_op_mov_from_dr(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned n;

    if (dr_check(c, in, &n))
        return BT_FAULT;
    bt_gpr_set(c, in->rm, cr_width(c), n < 4 ? c->s.dr[n] : n == 6 ? c->s.dr6 : c->s.dr7);
    return BT_NEXT;
}

int bt_op_mov_to_dr(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t v = bt_gpr_get(c, in->rm, cr_width(c));
    bool was_armed = c->s.dr7 & 0xff;
    unsigned n;

    if (dr_check(c, in, &n))
        return BT_FAULT;
    if (n >= 6 && v >> 32)
        return bt_sys_gp(c, in);
    if (n < 4)
        c->s.dr[n] = v;
    else if (n == 6)
        c->s.dr6 = (v & DR6_WRITABLE) | DR6_FIXED;
    else
        c->s.dr7 = (v & DR7_WRITABLE) | DR7_FIXED;
    if (was_armed || (c->s.dr7 & 0xff))
        bt_tlb_flush_all(c); /* watched pages change */
    bt_mode_changed(c);
    return BT_NEXT;
}

/* --- GDTR and IDTR --- */

static int cr_load_table(struct bt_cpu *c, const struct bt_insn *in, struct x86_dtable *t)
{
    unsigned width = cr_width(c);
    uint64_t limit, base, ea = bt_ea(c, in);

    if (c->cpl)
        return bt_sys_gp(c, in);
    if (bt_read(c, in->seg, ea, 2, &limit) ||
        bt_read(c, in->seg, (ea + 2) & bt_mask(in->asize), width, &base))
        return bt_sys_fault(c, in);
    if (width == 8 && !bt_canonical(c, base))
        return bt_sys_gp(c, in);
    if (width != 8 && in->size == 2)
        base &= 0xffffff;
    *t = (struct x86_dtable){ .base = base, .limit = (uint16_t)limit };
    return BT_NEXT;
}

static int cr_store_table(struct bt_cpu *c, const struct bt_insn *in, const struct x86_dtable *t)
{
    unsigned width = cr_width(c);
    uint64_t ea = bt_ea(c, in);

    if (c->cpl && (c->s.cr4 & CR4_UMIP))
        return bt_sys_gp(c, in);
    if (bt_write(c, in->seg, ea, 2, t->limit) ||
        bt_write(c, in->seg, (ea + 2) & bt_mask(in->asize), width, t->base))
        return bt_sys_fault(c, in);
    return BT_NEXT;
}

int bt_op_lgdt(struct bt_cpu *c, const struct bt_insn *in)
{
    return cr_load_table(c, in, &c->s.gdtr);
}

int bt_op_lidt(struct bt_cpu *c, const struct bt_insn *in)
{
    return cr_load_table(c, in, &c->s.idtr);
}

int bt_op_sgdt(struct bt_cpu *c, const struct bt_insn *in)
{
    return cr_store_table(c, in, &c->s.gdtr);
}

int bt_op_sidt(struct bt_cpu *c, const struct bt_insn *in)
{
    return cr_store_table(c, in, &c->s.idtr);
}

/* --- TLB and caches --- */

int bt_op_invlpg(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t lin = bt_ea(c, in);

    if (c->cpl)
        return bt_sys_gp(c, in);
    if (c->code_size != 8)
        lin = (c->s.seg[in->seg].base + lin) & 0xffffffff;
    else if (in->seg >= X86_FS)
        lin += c->s.seg[in->seg].base;
    if (bt_canonical(c, lin))
        bt_tlb_flush_page(c, lin);
    return BT_NEXT;
}

int bt_op_invpcid(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t type = bt_gpr_get(c, in->reg, cr_width(c)), pcid, lin, ea = bt_ea(c, in);

    if (!bt_has(c, BT_HAS_INVPCID))
        return bt_sys_ud(c, in);
    if (c->cpl)
        return bt_sys_gp(c, in);
    if (bt_read(c, in->seg, ea, 8, &pcid) ||
        bt_read(c, in->seg, (ea + 8) & bt_mask(in->asize), 8, &lin))
        return bt_sys_fault(c, in);
    if (type > 3 || (type < 2 && pcid >> 12) || (type == 0 && !bt_canonical(c, lin)) ||
        (type < 2 && pcid && !(c->s.cr4 & CR4_PCIDE)))
        return bt_sys_gp(c, in);
    bt_tlb_invpcid(c, (unsigned)type, (uint16_t)(pcid & BT_PCID_MASK), lin);
    return BT_NEXT;
}

int bt_op_wbinvd(struct bt_cpu *c, const struct bt_insn *in)
{
    return c->cpl ? bt_sys_gp(c, in) : BT_NEXT;
}
