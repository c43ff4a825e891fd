/*
 * bt_mem.h: between bt_walk.c, bt_tlb.c and bt_mem.c: page walks, the TLB's sets, physical pages.
 * vCPU thread, except the mailbox words of struct bt_mem.
 */
#ifndef ACCEL_BT_BT_MEM_H
#define ACCEL_BT_BT_MEM_H

#include "accel/bt/bt_sys.h"

static inline bool bt_canonical(const struct bt_cpu *c, uint64_t lin)
{
    unsigned unused = c->s.cr4 & CR4_LA57 ? 7 : 16;

    return (uint64_t)((int64_t)(lin << unused) >> unused) == lin;
}

/* --- page walk (bt_walk.c; SDM 3A chapter 4) --- */
struct bt_walk {
    uint64_t gpa;       /* of the page's first byte; 4 KiB pieces of large pages */
    unsigned page_bits; /* 12, 21, 22, 30: size of the mapping it comes from */
    uint8_t pkey;
    bool user, write, exec; /* what the tables allow, all levels combined */
    bool dirty;             /* the leaf's D bit is set */
    bool global;
};
/*
 * Walks the current tables for an access (PF_W, PF_I) of mmu; sets A bits, and D for a write, if the
 * access is allowed. 0, or the page fault's error code with BT_WALK_FAULT.
 */
enum { BT_WALK_FAULT = BIT(30) };
uint32_t bt_walk(struct bt_cpu *c, uint64_t lin, uint32_t access, enum bt_mmu mmu,
                 struct bt_walk *w);
/* Would the access be allowed (no A/D updates)? 0 or PF_P, PF_PK for the error code. */
uint32_t bt_walk_denied(const struct bt_cpu *c, const struct bt_walk *w, uint32_t access,
                        enum bt_mmu mmu);
/* The PDPTEs that a load of CR3 in PAE mode checks (SDM 3A 4.4.1): false, #GP. */
bool bt_walk_pdptes_ok(struct bt_cpu *c, uint64_t cr3);

/* --- TLB sets (bt_tlb.c) --- */
enum {
    BT_TLB_SLOTS = 8, /* address spaces kept apart */
    BT_TLB_ENTRIES = BT_MMU_COUNT * BT_TLB_SIZE,
    BT_TLB_WORDS = BT_TLB_ENTRIES / 64,
    BT_PCID_MASK = 0xfff,
};
/*
 * Addresses that code was executed at, as one privilege level of one address space sees them. `context` is
 * part of the keys of the jump cache (bt_jit.h): it changes when one of the mappings may have.
 */
enum { BT_CONTEXT_SHIFT = 48 }; /* above the bits of canonical addresses that differ */
/* More than there are: bit 63 is always an address's (bt_jit_frame_in()). */
#define BT_CONTEXTS BIT(63 - BT_CONTEXT_SHIFT)
struct bt_tlb_exec {
    uint64_t context;
    uint64_t pages[16];          /* hashed */
    uint64_t large_lo, large_hi; /* bounds of the large mappings among them */
    bool any, half[2];           /* in the lower, upper half of the address space */
    bool local;                  /* one of them is not global */
};
struct bt_tlb_set {
    _Alignas(64) struct bt_tlb_entry entry[BT_TLB_ENTRIES];
    uint64_t used[BT_TLB_WORDS], global[BT_TLB_WORDS], large[BT_TLB_WORDS]; /* a bit an entry */
    uint64_t
        large_mask; /* smallest mask that covers the largest mapping a `large` entry comes from */
    uint64_t large_gib
        [4];    /* the GiB that `large` entries are in, hashed: more than there are, never fewer */
    bool pkeys; /* an entry depends on a protection key other than 0 */
    bool ready; /* entries were initialised */
    struct bt_tlb_exec exec; /* CPL 3 */
    uint16_t pcid;
    uint64_t stamp; /* last time it became current: the oldest is evicted */
};
/* A write to a page with code whose address was given out (bt_lin_ptr()): it may be still to come. */
enum { BT_MEM_LATE = 4 };
struct bt_mem_late {
    uint64_t gpa;
    unsigned len;
};
struct bt_mem {
    struct bt_tlb_set *set; /* [BT_TLB_SLOTS] */
    unsigned current;
    struct bt_tlb_exec super; /* CPL 0 to 2 */
    unsigned contexts;        /* numbers given out */
    uint64_t clock;
    struct ram_region *last; /* region found last; NULL after RAM was remapped */
    unsigned phys_bits;
    bool page_1g;
    unsigned pauses;      /* PAUSE instructions executed */
    uint32_t feature;     /* BT_HAS_* (bt_sysops.h) */
    uint64_t cr4_allowed; /* bits of CR4 that the VM's CPUID offers */
    struct bt_mem_late late[BT_MEM_LATE];
    unsigned n_late;
    atomic_uint requests; /* BT_TLB_REQ_*: any thread */
    atomic_bool serving;
};

/* A page as an access found it. */
struct bt_page {
    uint64_t gpa;
    uint8_t *hva; /* NULL: MMIO */
    struct ram_region *ram;
};
/* Translates for the access, enters the page into mmu's TLB, marks it dirty on a write. 0 or BT_FAULT. */
int bt_tlb_fill(struct bt_cpu *c, uint64_t lin, uint32_t access, enum bt_mmu mmu,
                struct bt_page *p);

/* The number of the current address space, for the jump cache. */
uint64_t bt_tlb_context(const struct bt_cpu *c);
/* All address spaces get new numbers: nothing in the jump cache is found any more. */
void bt_tlb_new_contexts(struct bt_cpu *c);
/* Code at lin, which is mapped, will be entered without asking: false, it may not. */
bool bt_tlb_note_exec(struct bt_cpu *c, uint64_t lin);

/* The RAM region of gpa, or NULL; the APIC's page is never RAM. */
struct ram_region *bt_mem_ram(struct bt_cpu *c, uint64_t gpa);
/* Before RAM at gpa is written behind the TLB's back (page table bits): dirty log, decoded code. */
void bt_mem_mark(struct bt_cpu *c, struct ram_region *r, uint64_t gpa, unsigned len);

/*
 * Between instructions: the writes of bt_mem.late have been made. Who decoded the page after they had been
 * announced may have seen the bytes from before, and compares again.
 */
void bt_mem_settle(struct bt_cpu *c);

static inline struct bt_tlb_entry *bt_tlb_at(const struct bt_cpu *c, uint64_t lin, enum bt_mmu mmu)
{
    return &c->tlb[mmu * BT_TLB_SIZE + (lin >> PAGE_SHIFT & (BT_TLB_SIZE - 1))];
}

/* Does DR7, or a debugger, watch data in lin's page? Such pages have no tag_r and tag_w. (bt_debug.c) */
bool bt_debug_watches(const struct bt_cpu *c, uint64_t lin);
/* An access of len bytes was made: remember the data breakpoints and watchpoints it hits. */
void bt_debug_access(struct bt_cpu *c, uint64_t lin, unsigned len, bool write);
/* The same for an I/O access. */
void bt_debug_io(struct bt_cpu *c, uint16_t port, unsigned len);

#endif
