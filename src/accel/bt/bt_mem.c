/*
 * bt_mem.c: guest memory accesses: segmentation, the TLB's fast path, and the slow path for misses, page
 * crossings, MMIO, ROM and pages that hold decoded code.
 */
#include "accel/bt/bt_mem.h"
#include "accel/bt/bt_access.h"
#include "accel/bt/bt_block.h"
#include "accel/bt/bt_desc.h"

#include "base/bitmap.h"

/* --- host accesses: one instruction each, so that aligned ones are atomic --- */

static uint64_t mem_host_load(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1:
        return bt_ram_load8(p);
    case 2:
        return bt_ram_load16(p);
    case 4:
        return bt_ram_load32(p);
    default:
        return bt_ram_load64(p);
    }
}

static void mem_host_store(uint8_t *p, unsigned size, uint64_t val)
{
    switch (size) {
    case 1:
        bt_ram_store8(p, (uint8_t)val);
        break;
    case 2:
        bt_ram_store16(p, (uint16_t)val);
        break;
    case 4:
        bt_ram_store32(p, (uint32_t)val);
        break;
    default:
        bt_ram_store64(p, val);
    }
}

/* --- segmentation --- */

static int mem_seg_fault(struct bt_cpu *c, unsigned seg)
{
    return bt_raise_err(c, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

bool bt_seg_limit_ok(const struct x86_seg *s, uint64_t off, unsigned len)
{
    uint64_t last = off + len - 1;

    if ((s->attr & (SEG_S | SEG_CODE | SEG_DC)) == (SEG_S | SEG_DC)) /* expand-down */
        return off > s->limit && last <= (s->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

static bool mem_type_ok(const struct x86_seg *s, bool write)
{
    if (s->attr & SEG_UNUSABLE)
        return false;
    if (write)
        return (s->attr & (SEG_CODE | SEG_RW)) == SEG_RW;
    return (s->attr & (SEG_CODE | SEG_RW)) != SEG_CODE;
}

int bt_linear(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned len, bool write, uint64_t *lin)
{
    const struct x86_seg *s = &c->s.seg[seg];

    if (c->code_size == 8) {
        *lin = off + (seg >= X86_FS ? s->base : 0);
        if (!bt_canonical(c, *lin) || !bt_canonical(c, *lin + len - 1))
            return mem_seg_fault(c, seg);
        return 0;
    }
    if ((c->s.cr0 & CR0_PE) && !(c->s.rflags & FLAG_VM) && !mem_type_ok(s, write))
        return mem_seg_fault(c, seg);
    if (!bt_seg_limit_ok(s, off, len))
        return mem_seg_fault(c, seg);
    *lin = (s->base + off) & 0xffffffff;
    return 0;
}

/* Alignment checks (SDM 3A 6.15, #AC): user mode, CR0.AM, RFLAGS.AC. May they be on? */
static inline bool mem_checks_alignment(const struct bt_cpu *c, enum bt_mmu mmu)
{
    return (c->s.rflags & FLAG_AC) && mmu == BT_MMU_USER;
}

static bool mem_misaligned(const struct bt_cpu *c, uint64_t lin, unsigned size, enum bt_mmu mmu)
{
    return mem_checks_alignment(c, mmu) && is_pow2(size) && size <= 8 && (lin & (size - 1)) &&
           c->cpl == 3 && (c->s.cr0 & CR0_AM);
}

/* --- pages --- */

/* The page behind the one of lin. */
static uint64_t mem_next_page(const struct bt_cpu *c, uint64_t lin)
{
    uint64_t next = (lin & PAGE_MASK) + PAGE_SIZE;

    return c->long_mode ? next : next & 0xffffffff;
}

static bool mem_crosses(uint64_t lin, unsigned len)
{
    return (lin & ~PAGE_MASK) + len > PAGE_SIZE;
}

static unsigned mem_mmio_size(unsigned len)
{
    return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void mem_mmio(struct bt_cpu *c, uint64_t gpa, uint8_t *buf, unsigned len, bool write)
{
    bt_fpu_store(c);
    c->intr_check = true;
    while (len) {
        unsigned n = mem_mmio_size(len);

        exit_mmio(c->vcpu, gpa, n, write, buf);
        gpa += n;
        buf += n;
        len -= n;
    }
    bt_left_machine(c);
}

static void mem_page_read(struct bt_cpu *c, const struct bt_page *p, unsigned off, uint8_t *buf,
                          unsigned len)
{
    if (p->hva)
        bt_ram_copy(buf, p->hva + off, len);
    else
        mem_mmio(c, p->gpa + off, buf, len, false);
}

static bool mem_page_has_code(const struct bt_page *p)
{
    return p->ram->code && bitmap_test(p->ram->code, (p->gpa - p->ram->gpa) >> PAGE_SHIFT);
}

/* RAM was written. The fence: either we see the mark of a decoder, or it sees the bytes. */
static void mem_page_written(struct bt_cpu *c, const struct bt_page *p, unsigned off, unsigned len)
{
    util_fence();
    if (mem_page_has_code(p))
        bt_code_store(c, p->gpa + off, len);
}

void bt_mem_settle(struct bt_cpu *c)
{
    struct bt_mem *m = c->mem_priv;

    util_fence();
    for (unsigned i = 0; i < m->n_late; i++)
        bt_code_store(c, m->late[i].gpa, m->late[i].len);
    m->n_late = 0;
}

/* RAM is about to be written, later in this instruction; if not, nothing is lost. */
static void mem_page_announce(struct bt_cpu *c, const struct bt_page *p, unsigned off, unsigned len)
{
    struct bt_mem *m = c->mem_priv;

    if (!mem_page_has_code(p))
        return;
    bt_code_store(c, p->gpa + off, len); /* the rest of the block under execution may be stale */
    if (m->n_late == BT_MEM_LATE)        /* no instruction makes as many: these are done */
        bt_mem_settle(c);
    m->late[m->n_late++] = (struct bt_mem_late){ p->gpa + off, len };
    bt_tlb_request(c, BT_TLB_REQ_LATE);
}

static void mem_page_write(struct bt_cpu *c, const struct bt_page *p, unsigned off, uint8_t *buf,
                           unsigned len)
{
    if (!p->hva || p->ram->readonly) {
        mem_mmio(c, p->gpa + off, buf, len, true);
        return;
    }
    bt_ram_copy(p->hva + off, buf, len);
    mem_page_written(c, p, off, len);
}

int bt_lin_copy_in(struct bt_cpu *c, uint64_t lin, void *buf, unsigned len, enum bt_mmu mmu)
{
    unsigned first = mem_crosses(lin, len) ? PAGE_SIZE - (unsigned)(lin & ~PAGE_MASK) : len;
    struct bt_page p, q;

    if (bt_tlb_fill(c, lin, 0, mmu, &p))
        return BT_FAULT;
    if (first < len && bt_tlb_fill(c, mem_next_page(c, lin), 0, mmu, &q))
        return BT_FAULT;
    bt_debug_access(c, lin, len, false);
    mem_page_read(c, &p, lin & ~PAGE_MASK, buf, first);
    if (first < len)
        mem_page_read(c, &q, 0, (uint8_t *)buf + first, len - first);
    return 0;
}

int bt_lin_copy_out(struct bt_cpu *c, uint64_t lin, const void *buf, unsigned len, enum bt_mmu mmu)
{
    unsigned first = mem_crosses(lin, len) ? PAGE_SIZE - (unsigned)(lin & ~PAGE_MASK) : len;
    uint8_t *from =
        (uint8_t *)(uintptr_t)buf; /* exit_mmio() takes both directions through one pointer */
    struct bt_page p, q;

    if (bt_tlb_fill(c, lin, PF_W, mmu, &p))
        return BT_FAULT;
    if (first < len && bt_tlb_fill(c, mem_next_page(c, lin), PF_W, mmu, &q))
        return BT_FAULT;
    bt_debug_access(c, lin, len, true);
    mem_page_write(c, &p, lin & ~PAGE_MASK, from, first);
    if (first < len)
        mem_page_write(c, &q, 0, from + first, len - first);
    return 0;
}

int bt_lin_ptr(struct bt_cpu *c, uint64_t lin, unsigned len, bool write, enum bt_mmu mmu,
               void **hva)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, mmu);
    struct bt_page p;

    *hva = NULL;
    if (mem_misaligned(c, lin, len, mmu))
        return bt_raise_err(c, X86_AC, 0);
    if (mem_crosses(lin, len))
        return 0;
    if (((lin & PAGE_MASK) == (write ? e->tag_w : e->tag_r)) && (!write || e->tag_r == e->tag_w)) {
        *hva = (void *)(uintptr_t)bt_tlb_hva(e, lin);
        return 0;
    }
    if (bt_tlb_fill(c, lin, write ? PF_W : 0, mmu, &p))
        return BT_FAULT;
    bt_debug_access(c, lin, len, write);
    if (!p.hva || (write && p.ram->readonly))
        return 0;
    if (write)
        mem_page_announce(c, &p, lin & ~PAGE_MASK, len);
    *hva = p.hva + (lin & ~PAGE_MASK);
    return 0;
}

/* --- single values --- */

static int mem_read_slow(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t *val,
                         enum bt_mmu mmu)
{
    struct bt_page p;

    if (mem_misaligned(c, lin, size, mmu))
        return bt_raise_err(c, X86_AC, 0);
    *val = 0;
    if (mem_crosses(lin, size))
        return bt_lin_copy_in(c, lin, val, size, mmu);
    if (bt_tlb_fill(c, lin, 0, mmu, &p))
        return BT_FAULT;
    bt_debug_access(c, lin, size, false);
    if (p.hva)
        *val = mem_host_load(p.hva + (lin & ~PAGE_MASK), size);
    else
        mem_mmio(c, p.gpa + (lin & ~PAGE_MASK), (uint8_t *)val, size, false);
    return 0;
}

static int mem_write_slow(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t val,
                          enum bt_mmu mmu)
{
    unsigned off = lin & ~PAGE_MASK;
    struct bt_page p;

    if (mem_misaligned(c, lin, size, mmu))
        return bt_raise_err(c, X86_AC, 0);
    if (mem_crosses(lin, size))
        return bt_lin_copy_out(c, lin, &val, size, mmu);
    if (bt_tlb_fill(c, lin, PF_W, mmu, &p))
        return BT_FAULT;
    bt_debug_access(c, lin, size, true);
    if (!p.hva || p.ram->readonly) {
        mem_mmio(c, p.gpa + off, (uint8_t *)&val, size, true);
        return 0;
    }
    mem_host_store(p.hva + off, size, val);
    mem_page_written(c, &p, off, size);
    return 0;
}

int bt_lin_read(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t *val, enum bt_mmu mmu)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, mmu);

    /* The last byte's page against the first byte's entry: also catches crossings. */
    if (likely(((lin + size - 1) & PAGE_MASK) == e->tag_r && !mem_checks_alignment(c, mmu))) {
        *val = mem_host_load((const uint8_t *)(uintptr_t)bt_tlb_hva(e, lin), size);
        return 0;
    }
    return mem_read_slow(c, lin, size, val, mmu);
}

int bt_lin_write(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t val, enum bt_mmu mmu)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, mmu);

    if (likely(((lin + size - 1) & PAGE_MASK) == e->tag_w && !mem_checks_alignment(c, mmu))) {
        mem_host_store((uint8_t *)(uintptr_t)bt_tlb_hva(e, lin), size, val);
        return 0;
    }
    return mem_write_slow(c, lin, size, val, mmu);
}

int bt_read(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned size, uint64_t *val)
{
    uint64_t lin = off + (seg >= X86_FS ? c->s.seg[seg].base : 0);

    if (likely(c->flat)) { /* a hit is canonical: only such pages are entered */
        const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);

        if (likely(((lin + size - 1) & PAGE_MASK) == e->tag_r &&
                   !mem_checks_alignment(c, c->mmu))) {
            *val = mem_host_load((const uint8_t *)(uintptr_t)bt_tlb_hva(e, lin), size);
            return 0;
        }
    }
    if (bt_linear(c, seg, off, size, false, &lin))
        return BT_FAULT;
    return bt_lin_read(c, lin, size, val, c->mmu);
}

int bt_write(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned size, uint64_t val)
{
    uint64_t lin = off + (seg >= X86_FS ? c->s.seg[seg].base : 0);

    if (likely(c->flat)) {
        const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);

        if (likely(((lin + size - 1) & PAGE_MASK) == e->tag_w &&
                   !mem_checks_alignment(c, c->mmu))) {
            mem_host_store((uint8_t *)(uintptr_t)bt_tlb_hva(e, lin), size, val);
            return 0;
        }
    }
    if (bt_linear(c, seg, off, size, true, &lin))
        return BT_FAULT;
    return bt_lin_write(c, lin, size, val, c->mmu);
}

/* --- effective addresses and the stack --- */

uint64_t bt_ea(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t ea = (uint64_t)(int64_t)in->disp;

    if (in->base < BT_REG_NONE)
        ea += c->s.gpr[in->base];
    else if (in->base == BT_REG_RIP)
        ea += bt_rip(c, in) + in->len;
    if (in->index < BT_REG_NONE)
        ea += c->s.gpr[in->index] * in->scale;
    return ea & bt_mask(in->asize);
}

void bt_stack_add(struct bt_cpu *c, int64_t n)
{
    uint64_t mask = bt_mask(c->stack_size), sp = c->s.gpr[X86_RSP] + (uint64_t)n;

    c->s.gpr[X86_RSP] = c->stack_size == 2 ? (c->s.gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
}

int bt_push(struct bt_cpu *c, unsigned size, uint64_t val)
{
    uint64_t sp = (c->s.gpr[X86_RSP] - size) & bt_mask(c->stack_size);

    if (bt_write(c, X86_SS, sp, size, val))
        return BT_FAULT;
    bt_stack_add(c, -(int64_t)size);
    return 0;
}

int bt_pop(struct bt_cpu *c, unsigned size, uint64_t *val)
{
    return bt_read(c, X86_SS, c->s.gpr[X86_RSP] & bt_mask(c->stack_size), size, val);
}
