/*
 * bt_tlb.c: the soft TLB: sets of entries per PCID, fills from page walks, flushes, and the mailbox
 * through which other threads have entries dropped.
 *
 * Invariant: an entry's tag_w is set only while the page is RAM that may be written without anybody
 * being told: its D bit is set, it is marked in the dirty log (if one is kept), it holds no decoded code
 * and no data breakpoint. Whoever takes one of these away drops tag_w (bt_tlb_protect(), bt_tlb_request()).
 *
 * A TLB may forget at any time, so wherever exactness would cost, more is dropped than asked for.
 */
#include "accel/bt/bt_sysops.h"

#include <errno.h>

#include "accel/bt/bt_jit.h"
#include "base/bitmap.h"
#include "base/pages.h"

enum {
    BT_TLB_BYTES =
        (BT_TLB_SLOTS * sizeof(struct bt_tlb_set) + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE
};

/* --- which linear addresses were executed, and under which number --- */

static void exec_renumber(struct bt_cpu *c)
{
    struct bt_mem *m = c->mem_priv;

    bt_jit_empty(c);
    m->contexts = 0;
    m->super.context = BIT64(BT_CONTEXT_SHIFT) * ++m->contexts;
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++)
        m->set[i].exec.context = BIT64(BT_CONTEXT_SHIFT) * ++m->contexts;
}

void bt_tlb_new_contexts(struct bt_cpu *c)
{
    struct bt_mem *m = c->mem_priv;

    if (m->contexts + BT_TLB_SLOTS + 1 >= BT_CONTEXTS) {
        exec_renumber(c);
        return;
    }
    m->super.context = BIT64(BT_CONTEXT_SHIFT) * ++m->contexts;
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++)
        m->set[i].exec.context = BIT64(BT_CONTEXT_SHIFT) * ++m->contexts;
}

/* Mappings changed: what was known of the addresses is no longer true. */
static void exec_changed(struct bt_cpu *c, struct bt_tlb_exec *x)
{
    struct bt_mem *m = c->mem_priv;

    if (!x->any)
        return;
    *x = (struct bt_tlb_exec){ .context = x->context, .large_lo = ~0ull };
    if (++m->contexts == BT_CONTEXTS)
        exec_renumber(c);
    else
        x->context = BIT64(BT_CONTEXT_SHIFT) * m->contexts;
    if (x == &m->super)
        bt_jit_unlink_fixed(c);
}

static void exec_flush_page(struct bt_cpu *c, struct bt_tlb_exec *x, uint64_t lin)
{
    uint64_t page = lin >> PAGE_SHIFT;

    if (!x->half[lin >> 63])
        return;
    if ((x->pages[page / 64 % ARRAY_SIZE(x->pages)] >> page % 64 & 1) ||
        (lin >= x->large_lo && lin <= x->large_hi))
        exec_changed(c, x);
}

static struct bt_tlb_exec *exec_current(const struct bt_cpu *c)
{
    return c->cpl == 3 ? &c->mem_priv->set[c->mem_priv->current].exec : &c->mem_priv->super;
}

uint64_t bt_tlb_context(const struct bt_cpu *c)
{
    return exec_current(c)->context;
}

static struct bt_tlb_set *tlb_set(const struct bt_cpu *c)
{
    return &c->mem_priv->set[c->mem_priv->current];
}

/* What the TLB knows of code at lin; false: nothing, or that its page is larger than 4 KiB. */
static bool exec_in_tlb(const struct bt_cpu *c, uint64_t lin, bool *global)
{
    const struct bt_tlb_set *set = tlb_set(c);
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);
    unsigned i = (unsigned)(e - set->entry);

    *global = set->global[i / 64] >> i % 64 & 1;
    return e->tag_x == (lin & PAGE_MASK) && !(set->large[i / 64] >> i % 64 & 1);
}

bool bt_tlb_note_exec(struct bt_cpu *c, uint64_t lin)
{
    struct bt_tlb_exec *x = exec_current(c);
    uint64_t page = lin >> PAGE_SHIFT, size, cr2 = c->s.cr2;
    struct bt_walk w = { .page_bits = PAGE_SHIFT };

    if (!exec_in_tlb(c, lin, &w.global) && bt_walk(c, lin, PF_I, c->mmu, &w)) {
        c->s.cr2 = cr2;
        return false;
    }
    x->any = x->half[lin >> 63] = true;
    x->local |= !w.global;
    size = BIT64(w.page_bits);
    if (size == PAGE_SIZE)
        x->pages[page / 64 % ARRAY_SIZE(x->pages)] |= BIT64(page % 64);
    if (size > PAGE_SIZE && (lin & ~(size - 1)) < x->large_lo)
        x->large_lo = lin & ~(size - 1);
    if (size > PAGE_SIZE && (lin | (size - 1)) > x->large_hi)
        x->large_hi = lin | (size - 1);
    return true;
}

/* Non-global mappings of the current address space go. */
static void exec_flush_local(struct bt_cpu *c)
{
    if (c->mem_priv->super.local)
        exec_changed(c, &c->mem_priv->super);
}

static void tlb_entry_clear(struct bt_tlb_entry *e)
{
    uint64_t none = bt_tlb_none(e);

    *e = (struct bt_tlb_entry){ none, none, none, 0 };
}

/* The page an entry in use is for: one of its tags is set. */
static uint64_t tlb_entry_page(const struct bt_tlb_entry *e)
{
    if (!bt_tlb_is_none(e->tag_r))
        return e->tag_r;
    return !bt_tlb_is_none(e->tag_w) ? e->tag_w : e->tag_x;
}

/* No mapping is larger than a GiB: an address shares one with `large` entries of its own GiB alone. */
static unsigned tlb_gib(uint64_t lin)
{
    return (unsigned)((lin >> 30) * 0x9e3779b97f4a7c15ull >> 56);
}

static void tlb_gib_set(struct bt_tlb_set *set, uint64_t lin)
{
    set->large_gib[tlb_gib(lin) / 64] |= BIT64(tlb_gib(lin) % 64);
}

static bool tlb_gib_test(const struct bt_tlb_set *set, uint64_t lin)
{
    return set->large_gib[tlb_gib(lin) / 64] >> tlb_gib(lin) % 64 & 1;
}

static void tlb_set_clear(struct bt_tlb_set *set, bool globals)
{
    for (unsigned w = 0; w < BT_TLB_WORDS; w++) {
        uint64_t drop = globals ? set->used[w] : set->used[w] & ~set->global[w];

        for (uint64_t left = drop; left; left &= left - 1)
            tlb_entry_clear(&set->entry[w * 64 + (unsigned)__builtin_ctzll(left)]);
        set->used[w] &= ~drop;
        set->large[w] &= ~drop;
    }
    if (globals) {
        for (unsigned i = 0; i < ARRAY_SIZE(set->large_gib); i++)
            set->large_gib[i] = 0;
        set->pkeys = false;
        set->large_mask = ~0ull;
    }
}

static void tlb_set_prepare(struct bt_tlb_set *set)
{
    if (set->ready)
        return;
    for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
        tlb_entry_clear(&set->entry[i]);
    set->ready = true;
    set->large_mask = ~0ull;
}

static void tlb_set_use(struct bt_cpu *c, unsigned slot)
{
    struct bt_mem *m = c->mem_priv;

    tlb_set_prepare(&m->set[slot]);
    m->current = slot;
    m->set[slot].stamp = ++m->clock;
    c->tlb = m->set[slot].entry;
}

int bt_mem_create(struct bt_cpu *c)
{
    struct bt_mem *m = calloc(1, sizeof(*m));

    if (!m)
        return -ENOMEM;
    m->set = pages_alloc(BT_TLB_BYTES, 0);
    if (!m->set) {
        free(m);
        return -ENOMEM;
    }
    m->phys_bits = c->vm->cpuid.phys_bits ? c->vm->cpuid.phys_bits : 36;
    m->page_1g = cpuid_has(&c->vm->cpuid, 0x80000001, 0, 3, 26);
    m->feature = bt_sys_features(&c->vm->cpuid);
    m->cr4_allowed = bt_sys_cr4_allowed(&c->vm->cpuid);
    c->mem_priv = m;
    m->super.large_lo = ~0ull;
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++)
        m->set[i].exec = (struct bt_tlb_exec){ .large_lo = ~0ull };
    exec_renumber(c);
    tlb_set_use(c, 0);
    return 0;
}

void bt_mem_destroy(struct bt_cpu *c)
{
    if (!c->mem_priv)
        return;
    pages_free(c->mem_priv->set, BT_TLB_BYTES, 0);
    free(c->mem_priv);
    c->mem_priv = NULL;
    c->tlb = NULL;
}

/* --- physical pages --- */

struct ram_region *bt_mem_ram(struct bt_cpu *c, uint64_t gpa)
{
    struct ram_region *r = c->mem_priv->last;

    if ((c->s.apic_base & BIT64(11)) && !((c->s.apic_base ^ gpa) & PAGE_MASK))
        return NULL;
    if (r && gpa - r->gpa < r->len && !r->hidden)
        return r;
    for (unsigned i = 0; i < c->mem->n; i++) {
        r = c->mem->region[i];
        if (gpa - r->gpa < r->len && !r->hidden)
            return c->mem_priv->last = r;
    }
    return NULL;
}

void bt_mem_mark(struct bt_cpu *c, struct ram_region *r, uint64_t gpa, unsigned len)
{
    uint64_t page = (gpa - r->gpa) >> PAGE_SHIFT;

    if (r->dirty)
        bitmap_set_atomic(r->dirty, page);
    if (r->code && bitmap_test(r->code, page))
        bt_code_store(c, gpa, len);
}

/* The region that a host address lies in, or NULL: RAM was remapped since. */
static struct ram_region *tlb_region_of(const struct bt_cpu *c, uint64_t hva)
{
    for (unsigned i = 0; i < c->mem->n; i++) {
        struct ram_region *r = c->mem->region[i];

        if (hva - (uint64_t)(uintptr_t)r->hva < r->len && !r->hidden)
            return r;
    }
    return NULL;
}

static bool tlb_may_write(const struct bt_cpu *c, const struct bt_walk *w, const struct bt_page *p,
                          enum bt_mmu mmu)
{
    uint64_t page = (p->gpa - p->ram->gpa) >> PAGE_SHIFT;

    return w->dirty && !p->ram->readonly && !bt_walk_denied(c, w, PF_W, mmu) &&
           (!p->ram->code || !bitmap_test(p->ram->code, page)) &&
           (!p->ram->dirty || bitmap_test(p->ram->dirty, page));
}

static void tlb_enter(struct bt_cpu *c, uint64_t lin, enum bt_mmu mmu, const struct bt_walk *w,
                      const struct bt_page *p)
{
    struct bt_tlb_set *set = tlb_set(c);
    struct bt_tlb_entry *e = bt_tlb_at(c, lin, mmu);
    unsigned i = (unsigned)(e - set->entry);
    uint64_t page = lin & PAGE_MASK, bit = BIT64(i % 64);
    bool watched = bt_debug_watches(c, lin);

    tlb_entry_clear(e);
    if (!watched && !bt_walk_denied(c, w, 0, mmu))
        e->tag_r = page;
    if (!watched && tlb_may_write(c, w, p, mmu))
        e->tag_w = page;
    if (!bt_walk_denied(c, w, PF_I, mmu))
        e->tag_x = page;
    e->page = (uint64_t)(uintptr_t)p->hva;
    set->used[i / 64] |= bit;
    set->global[i / 64] &= ~bit;
    set->large[i / 64] &= ~bit;
    if (w->global)
        set->global[i / 64] |= bit;
    if (w->page_bits > PAGE_SHIFT) {
        set->large[i / 64] |= bit;
        tlb_gib_set(set, lin);
        set->large_mask &= ~0ull << w->page_bits;
    }
    set->pkeys |= w->pkey != 0;
    if (bt_tlb_is_none(tlb_entry_page(e)))
        set->used[i / 64] &= ~bit; /* watched and not executable: nothing entered */
}

int bt_tlb_fill(struct bt_cpu *c, uint64_t lin, uint32_t access, enum bt_mmu mmu, struct bt_page *p)
{
    struct bt_walk w;
    uint32_t error = bt_walk(c, lin, access, mmu, &w);

    if (error)
        return bt_raise_pf(c, lin, error & ~(uint32_t)BT_WALK_FAULT);
    p->gpa = w.gpa;
    p->ram = bt_mem_ram(c, w.gpa);
    p->hva = NULL;
    if (!p->ram)
        return 0;
    p->hva = p->ram->hva + (w.gpa - p->ram->gpa);
    if ((access & PF_W) && p->ram->dirty && !p->ram->readonly)
        bitmap_set_atomic(p->ram->dirty, (w.gpa - p->ram->gpa) >> PAGE_SHIFT);
    tlb_enter(c, lin, mmu, &w, p);
    return 0;
}

int bt_fetch(struct bt_cpu *c, uint64_t lin, uint64_t *gpa, uint8_t **hva)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);
    const struct ram_region *r;
    struct bt_page p;
    int ret;

    if (e->tag_x == (lin & PAGE_MASK)) {
        r = tlb_region_of(c, e->page);
        if (r) {
            *hva = r->hva + (bt_tlb_hva(e, lin) - (uintptr_t)r->hva);
            *gpa = r->gpa + (uint64_t)(*hva - r->hva);
            return 0;
        }
    }
    ret = bt_tlb_fill(c, lin, PF_I, c->mmu, &p);
    if (ret)
        return ret;
    *gpa = p.gpa + (lin & ~PAGE_MASK);
    *hva = p.hva ? p.hva + (lin & ~PAGE_MASK) : NULL;
    return 0;
}

int bt_translate(struct bt_cpu *c, uint64_t lin, uint32_t pf_access, enum bt_mmu mmu, uint64_t *gpa)
{
    struct bt_page p;
    int ret = bt_tlb_fill(c, lin, pf_access, mmu, &p);

    if (!ret)
        *gpa = p.gpa + (lin & ~PAGE_MASK);
    return ret;
}

/* --- flushes --- */

void bt_tlb_flush_all(struct bt_cpu *c)
{
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++) {
        if (c->mem_priv->set[i].ready)
            tlb_set_clear(&c->mem_priv->set[i], true);
        exec_changed(c, &c->mem_priv->set[i].exec);
    }
    exec_changed(c, &c->mem_priv->super);
    c->mem_priv->last = NULL;
}

void bt_tlb_flush_nonglobal(struct bt_cpu *c)
{
    tlb_set_clear(tlb_set(c), false);
    exec_changed(c, &tlb_set(c)->exec);
    exec_flush_local(c);
}

static void tlb_drop(struct bt_tlb_set *set, unsigned i)
{
    tlb_entry_clear(&set->entry[i]);
    set->used[i / 64] &= ~BIT64(i % 64);
    set->global[i / 64] &= ~BIT64(i % 64);
    set->large[i / 64] &= ~BIT64(i % 64);
}

/* What may come from the same large mapping as lin. It has one index after the other for its pages. */
static void tlb_drop_large(struct bt_tlb_set *set, uint64_t lin)
{
    uint64_t pages = (~set->large_mask >> PAGE_SHIFT) + 1;
    unsigned words = (unsigned)min_u64(pages, BT_TLB_SIZE) / 64;
    unsigned first = (unsigned)((lin & set->large_mask) >> PAGE_SHIFT & (BT_TLB_SIZE - 1)) / 64;

    for (unsigned n = 0; n < BT_MMU_COUNT * words; n++) {
        unsigned w = n / words * (BT_TLB_SIZE / 64) + first + n % words;

        for (uint64_t left = set->large[w]; left; left &= left - 1) {
            unsigned i = w * 64 + (unsigned)__builtin_ctzll(left);

            if (!((tlb_entry_page(&set->entry[i]) ^ lin) & set->large_mask))
                tlb_drop(set, i);
        }
    }
}

static void tlb_set_flush_page(struct bt_tlb_set *set, uint64_t lin)
{
    for (unsigned mmu = 0; mmu < BT_MMU_COUNT; mmu++) {
        unsigned i = mmu * BT_TLB_SIZE + (unsigned)(lin >> PAGE_SHIFT & (BT_TLB_SIZE - 1));

        if (tlb_entry_page(&set->entry[i]) == (lin & PAGE_MASK))
            tlb_drop(set, i);
    }
    if (tlb_gib_test(set, lin))
        tlb_drop_large(set, lin);
}

/* In every address space: globals may be cached in any, the others lose little. */
void bt_tlb_flush_page(struct bt_cpu *c, uint64_t lin)
{
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++) {
        if (c->mem_priv->set[i].ready)
            tlb_set_flush_page(&c->mem_priv->set[i], lin);
        exec_flush_page(c, &c->mem_priv->set[i].exec, lin);
    }
    exec_flush_page(c, &c->mem_priv->super, lin);
}

/* The slot of a PCID, or BT_TLB_SLOTS. */
static unsigned tlb_find_pcid(const struct bt_mem *m, unsigned pcid)
{
    unsigned i = 0;

    while (i < BT_TLB_SLOTS && !(m->set[i].ready && m->set[i].pcid == pcid))
        i++;
    return i;
}

static unsigned tlb_evict(const struct bt_mem *m)
{
    unsigned oldest = 0;

    for (unsigned i = 0; i < BT_TLB_SLOTS; i++) {
        if (!m->set[i].ready)
            return i;
        if (m->set[i].stamp < m->set[oldest].stamp)
            oldest = i;
    }
    return oldest;
}

void bt_tlb_set_cr3(struct bt_cpu *c, uint64_t cr3)
{
    struct bt_mem *m = c->mem_priv;
    bool keep = (c->s.cr4 & CR4_PCIDE) && cr3 >> 63;
    unsigned pcid = c->s.cr4 & CR4_PCIDE ? cr3 & BT_PCID_MASK : 0;
    unsigned slot = tlb_find_pcid(m, pcid);

    c->s.cr3 = cr3 & ~BIT64(63);
    if (slot == BT_TLB_SLOTS) {
        slot = tlb_evict(m);
        keep = false;
    }
    tlb_set_use(c, slot);
    m->set[slot].pcid = (uint16_t)pcid;
    if (!keep) {
        tlb_set_clear(&m->set[slot], false);
        exec_changed(c, &m->set[slot].exec);
    }
    exec_flush_local(c);
}

enum { INVPCID_ADDRESS, INVPCID_SINGLE, INVPCID_ALL, INVPCID_ALL_NONGLOBAL };

void bt_tlb_invpcid(struct bt_cpu *c, unsigned type, uint16_t pcid, uint64_t lin)
{
    struct bt_mem *m = c->mem_priv;
    unsigned slot = tlb_find_pcid(m, pcid);

    switch (type) {
    case INVPCID_ADDRESS:
        if (slot != BT_TLB_SLOTS)
            tlb_set_flush_page(&m->set[slot], lin);
        if (slot != BT_TLB_SLOTS)
            exec_flush_page(c, &m->set[slot].exec, lin);
        exec_flush_local(c);
        break;
    case INVPCID_SINGLE:
        if (slot != BT_TLB_SLOTS) {
            tlb_set_clear(&m->set[slot], false);
            exec_changed(c, &m->set[slot].exec);
        }
        exec_flush_local(c);
        break;
    case INVPCID_ALL_NONGLOBAL:
        for (unsigned i = 0; i < BT_TLB_SLOTS; i++) {
            if (m->set[i].ready)
                tlb_set_clear(&m->set[i], false);
            exec_changed(c, &m->set[i].exec);
        }
        exec_flush_local(c);
        break;
    case INVPCID_ALL:
    default:
        bt_tlb_flush_all(c);
    }
}

void bt_pkru_changed(struct bt_cpu *c)
{
    for (unsigned i = 0; i < BT_TLB_SLOTS; i++)
        if (c->mem_priv->set[i].ready && c->mem_priv->set[i].pkeys)
            tlb_set_clear(&c->mem_priv->set[i], true);
}

/* --- pages that come to hold code, mailbox --- */

/*
 * Drops tag_w of an entry whose page now holds code. recheck: somebody else decoded it, perhaps while we
 * could still write to it unseen.
 */
static void tlb_entry_protect(struct bt_cpu *c, struct bt_tlb_entry *e, bool recheck)
{
    uint64_t hva = e->page;
    struct ram_region *r;

    if (bt_tlb_is_none(e->tag_w))
        return;
    r = tlb_region_of(c, hva);
    if (!r || !r->code || !bitmap_test(r->code, (hva - (uint64_t)(uintptr_t)r->hva) >> PAGE_SHIFT))
        return;
    e->tag_w = bt_tlb_none(e);
    if (recheck)
        bt_code_recheck(c->vm, r->gpa + (hva - (uint64_t)(uintptr_t)r->hva));
}

/* Everywhere, or of one page (hva; 0: all). */
static void tlb_protect_code(struct bt_cpu *c, uint64_t hva, bool recheck)
{
    for (unsigned slot = 0; slot < BT_TLB_SLOTS; slot++) {
        struct bt_tlb_set *set = &c->mem_priv->set[slot];

        if (!set->ready)
            continue;
        for (unsigned w = 0; w < BT_TLB_WORDS; w++) {
            for (uint64_t left = set->used[w]; left; left &= left - 1) {
                unsigned i = w * 64 + (unsigned)__builtin_ctzll(left);

                if (hva && set->entry[i].page != hva)
                    continue;
                tlb_entry_protect(c, &set->entry[i], recheck);
                if (bt_tlb_is_none(tlb_entry_page(&set->entry[i])))
                    tlb_drop(set, i);
            }
        }
    }
}

/*
 * Others are asked, not waited for: whichever of them could write unseen between our decoding and its
 * look into the mailbox finds its stale tag_w there and has the page compared.
 */
void bt_tlb_protect(struct bt_cpu *c, uint64_t gpa)
{
    struct ram_region *r = bt_mem_ram(c, gpa);

    if (r)
        tlb_protect_code(c, (uintptr_t)r->hva + ((gpa - r->gpa) & PAGE_MASK), false);
    for (unsigned i = 0; i < c->vm->nvcpus; i++)
        if (c->vm->vcpu[i] && c->vm->vcpu[i]->accel && c->vm->vcpu[i]->accel != c)
            bt_tlb_request(c->vm->vcpu[i]->accel, BT_TLB_REQ_CODE);
}

void bt_tlb_request(struct bt_cpu *c, unsigned what)
{
    atomic_fetch_or(&c->mem_priv->requests, what);
    atomic_store(&c->kick, true);
    bt_jit_kick(c);
}

bool bt_tlb_request_pending(const struct bt_cpu *c)
{
    /* In this order: bt_tlb_serve() says that it is serving before it empties the box. */
    return atomic_load(&c->mem_priv->requests) || atomic_load(&c->mem_priv->serving);
}

void bt_tlb_serve(struct bt_cpu *c)
{
    struct bt_mem *m = c->mem_priv;
    unsigned what;

    if (likely(!atomic_load_explicit(&m->requests, memory_order_relaxed)))
        return;
    atomic_store(&m->serving, true);
    what = atomic_exchange(&m->requests, 0);
    if (what & BT_TLB_REQ_LATE)
        bt_mem_settle(c);
    if (what & BT_TLB_REQ_CODE)
        tlb_protect_code(c, 0, true);
    if (what & BT_TLB_REQ_STALE)
        bt_jit_recheck(c);
    if (what & BT_TLB_REQ_FLUSH)
        bt_tlb_flush_all(c);
    atomic_store(&m->serving, false);
}
