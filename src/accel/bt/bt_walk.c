/*
 * bt_walk.c: walks guest page tables (SDM 3A chapter 4): 32-bit with PSE, PAE, 4 and 5 levels.
 *
 * Other processors change the tables while we walk: entries are read once, and A and D are set by
 * compare-and-swap against the value read; if it changed meanwhile, the walk starts again.
 * Not modelled: PDPTE registers (read from memory at each walk), shadow stacks, PKS.
 */
#include "accel/bt/bt_mem.h"

enum { WALK_MAX = 5 };
#define PTE_P  BIT64(0)
#define PTE_W  BIT64(1)
#define PTE_U  BIT64(2)
#define PTE_A  BIT64(5)
#define PTE_D  BIT64(6)
#define PTE_PS BIT64(7)
#define PTE_G  BIT64(8)
#define PTE_NX BIT64(63)

/* The entries used, to set A and D in once the access is known to be allowed. */
struct walk_path {
    struct {
        uint64_t gpa, val;
        uint8_t *hva; /* NULL: not RAM, nothing can be set there */
        struct ram_region *ram;
    } step[WALK_MAX];
    unsigned n;
    unsigned width; /* of an entry: 4 or 8 */
};

static uint64_t walk_bits(unsigned from, unsigned to)
{
    return from > to ? 0 : (~0ull >> (63 - to)) & ~0ull << from;
}

static uint64_t walk_load(struct bt_cpu *c, struct walk_path *path, uint64_t gpa)
{
    struct ram_region *r = bt_mem_ram(c, gpa);
    uint64_t val = path->width == 4 ? ~0u : ~0ull; /* what nothing on the bus reads as */

    if (path->n == WALK_MAX)
        return val;
    path->step[path->n].gpa = gpa;
    path->step[path->n].ram = r;
    path->step[path->n].hva = r ? r->hva + (gpa - r->gpa) : NULL;
    if (r && path->width == 4)
        val = __atomic_load_n((uint32_t *)(void *)path->step[path->n].hva, __ATOMIC_ACQUIRE);
    else if (r)
        val = __atomic_load_n((uint64_t *)(void *)path->step[path->n].hva, __ATOMIC_ACQUIRE);
    path->step[path->n++].val = val;
    return val;
}

/* A in every entry, D in the leaf for a write. false: an entry changed, walk again. */
static bool walk_mark(struct bt_cpu *c, const struct walk_path *path, bool write)
{
    for (unsigned i = 0; i < path->n; i++) {
        uint64_t want = path->step[i].val | PTE_A | (write && i + 1 == path->n ? PTE_D : 0);
        uint64_t have = path->step[i].val;
        uint8_t *hva = path->step[i].hva;
        bool ok;

        if (want == have || !hva || path->step[i].ram->readonly)
            continue;
        bt_mem_mark(c, path->step[i].ram, path->step[i].gpa, path->width);
        if (path->width == 4) {
            uint32_t old = (uint32_t)have;

            ok = __atomic_compare_exchange_n((uint32_t *)(void *)hva, &old, (uint32_t)want, false,
                                             __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        } else {
            ok = __atomic_compare_exchange_n((uint64_t *)(void *)hva, &have, want, false,
                                             __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        }
        if (!ok)
            return false;
    }
    return true;
}

static void walk_allow(struct bt_walk *w, uint64_t e)
{
    w->write &= (e & PTE_W) != 0;
    w->user &= (e & PTE_U) != 0;
    w->exec &= !(e & PTE_NX);
}

static void walk_leaf(struct bt_cpu *c, struct bt_walk *w, uint64_t e, uint64_t frame, uint64_t lin,
                      unsigned page_bits)
{
    w->page_bits = page_bits;
    w->gpa = (frame & ~0ull << page_bits) | (lin & walk_bits(PAGE_SHIFT, page_bits - 1));
    w->dirty = e & PTE_D;
    w->global = (e & PTE_G) && (c->s.cr4 & CR4_PGE);
    if (c->s.efer & EFER_LMA)
        w->pkey = e >> 59 & 15;
}

/* 32-bit paging (SDM 3A 4.3). 0, or PF_P/PF_RSVD bits with BT_WALK_FAULT. */
static uint32_t walk_32(struct bt_cpu *c, uint64_t lin, struct walk_path *path, struct bt_walk *w)
{
    uint64_t e = walk_load(c, path, (c->s.cr3 & 0xfffff000) | (lin >> 22 & 0x3ff) << 2);

    if (!(e & PTE_P))
        return BT_WALK_FAULT;
    walk_allow(w, e);
    if ((e & PTE_PS) && (c->s.cr4 & CR4_PSE)) {
        uint64_t frame = (e & 0xffc00000) | (e >> 13 & 0xff) << 32; /* PSE-36 */

        if ((e & BIT64(21)) || frame >> c->mem_priv->phys_bits)
            return BT_WALK_FAULT | PF_P | PF_RSVD;
        walk_leaf(c, w, e, frame, lin, 22);
        return 0;
    }
    e = walk_load(c, path, (e & 0xfffff000) | (lin >> 12 & 0x3ff) << 2);
    if (!(e & PTE_P))
        return BT_WALK_FAULT;
    walk_allow(w, e);
    walk_leaf(c, w, e, e & 0xfffff000, lin, PAGE_SHIFT);
    return 0;
}

/* The levels of 64-bit entries from `level` down (SDM 3A 4.4, 4.5). */
static uint32_t walk_64(struct bt_cpu *c, uint64_t lin, uint64_t table, unsigned level,
                        struct walk_path *path, struct bt_walk *w)
{
    bool lma = c->s.efer & EFER_LMA;
    uint64_t frame_mask = walk_bits(PAGE_SHIFT, c->mem_priv->phys_bits - 1);
    uint64_t reserved = walk_bits(c->mem_priv->phys_bits, lma ? 51 : 62);

    if (!(c->s.efer & EFER_NXE))
        reserved |= PTE_NX;
    for (;; level--) {
        unsigned shift = PAGE_SHIFT + 9 * (level - 1);
        uint64_t e = walk_load(c, path, table | (lin >> shift & 0x1ff) << 3);
        bool leaf = level == 1 || (e & PTE_PS);

        if (!(e & PTE_P))
            return BT_WALK_FAULT;
        if ((e & reserved) || (leaf && (level > 3 || (level == 3 && !c->mem_priv->page_1g))))
            return BT_WALK_FAULT | PF_P | PF_RSVD;
        if (leaf && level > 1 && (e & walk_bits(13, shift - 1)))
            return BT_WALK_FAULT | PF_P | PF_RSVD;
        walk_allow(w, e);
        if (leaf) {
            walk_leaf(c, w, e, e & frame_mask, lin, shift);
            return 0;
        }
        table = e & frame_mask;
    }
}

static uint64_t walk_pdpte_reserved(const struct bt_cpu *c)
{
    return walk_bits(1, 2) | walk_bits(5, 8) | walk_bits(c->mem_priv->phys_bits, 63);
}

static uint32_t walk_pae(struct bt_cpu *c, uint64_t lin, struct walk_path *path, struct bt_walk *w)
{
    uint64_t e = walk_load(c, path, (c->s.cr3 & 0xffffffe0) | (lin >> 30 & 3) << 3);

    path->n = 0; /* PDPTEs have no A bit */
    if (!(e & PTE_P))
        return BT_WALK_FAULT;
    if (e & walk_pdpte_reserved(c))
        return BT_WALK_FAULT | PF_P | PF_RSVD;
    return walk_64(c, lin, e & walk_bits(PAGE_SHIFT, c->mem_priv->phys_bits - 1), 2, path, w);
}

bool bt_walk_pdptes_ok(struct bt_cpu *c, uint64_t cr3)
{
    struct walk_path path = { .width = 8 };

    for (unsigned i = 0; i < 4; i++) {
        uint64_t e = walk_load(c, &path, (cr3 & 0xffffffe0) + 8 * i);

        if ((e & PTE_P) && (e & walk_pdpte_reserved(c)))
            return false;
    }
    return true;
}

static uint32_t walk_tables(struct bt_cpu *c, uint64_t lin, struct walk_path *path,
                            struct bt_walk *w)
{
    uint64_t root = c->s.cr3 & walk_bits(PAGE_SHIFT, c->mem_priv->phys_bits - 1);

    *w = (struct bt_walk){ .user = true, .write = true, .exec = true };
    *path = (struct walk_path){ .width = c->s.cr4 & CR4_PAE ? 8 : 4 };
    if (c->s.efer & EFER_LMA)
        return walk_64(c, lin, root, c->s.cr4 & CR4_LA57 ? 5 : 4, path, w);
    return c->s.cr4 & CR4_PAE ? walk_pae(c, lin, path, w) : walk_32(c, lin, path, w);
}

/* Protection keys (SDM 3A 4.6.2): data accesses to user pages, at any privilege. */
static bool walk_pkey_denied(const struct bt_cpu *c, const struct bt_walk *w, uint32_t access,
                             enum bt_mmu mmu)
{
    uint32_t rights;

    if (!(c->s.cr4 & CR4_PKE) || !(c->s.efer & EFER_LMA) || !w->user || (access & PF_I))
        return false;
    rights = bt_pkru(c) >> (2 * w->pkey);
    return (rights & 1) ||
           ((rights & 2) && (access & PF_W) && (mmu == BT_MMU_USER || (c->s.cr0 & CR0_WP)));
}

uint32_t bt_walk_denied(const struct bt_cpu *c, const struct bt_walk *w, uint32_t access,
                        enum bt_mmu mmu)
{
    bool denied;

    if (mmu == BT_MMU_USER)
        denied = !w->user || ((access & PF_W) && !w->write);
    else
        denied = (w->user && (access & PF_I) && (c->s.cr4 & CR4_SMEP)) ||
                 (w->user && !(access & PF_I) && mmu == BT_MMU_SUPER && (c->s.cr4 & CR4_SMAP)) ||
                 ((access & PF_W) && !w->write && (c->s.cr0 & CR0_WP));
    denied |= (access & PF_I) && !w->exec;
    if (walk_pkey_denied(c, w, access, mmu))
        return PF_P | PF_PK;
    return denied ? PF_P : 0;
}

uint32_t bt_walk(struct bt_cpu *c, uint64_t lin, uint32_t access, enum bt_mmu mmu,
                 struct bt_walk *w)
{
    struct walk_path path;
    uint32_t error;

    if (!(c->s.cr0 & CR0_PG)) {
        *w = (struct bt_walk){ .gpa = lin & PAGE_MASK,
                               .page_bits = PAGE_SHIFT,
                               .user = true,
                               .write = true,
                               .exec = true,
                               .dirty = true };
        return 0;
    }
    do {
        error = walk_tables(c, lin, &path, w);
        if (!error && (error = bt_walk_denied(c, w, access, mmu)))
            error |= BT_WALK_FAULT;
        if (error) {
            bool nx = (c->s.cr4 & CR4_SMEP) || ((c->s.cr4 & CR4_PAE) && (c->s.efer & EFER_NXE));

            return error | (access & PF_W) | (mmu == BT_MMU_USER ? PF_U : 0) |
                   (nx ? access & PF_I : 0);
        }
    } while (!walk_mark(c, &path, access & PF_W));
    w->dirty |= (access & PF_W) != 0;
    return 0;
}
