/*
 * bt_block.h: decoded blocks: found by linear RIP, kept by physical address, dropped when their bytes change.
 *
 * Each vCPU decodes for itself (struct bt_cache, its thread only). What they share is one counter and one
 * 64-bit mask a page of RAM (struct bt_code_page): the mask says which 64-byte lines hold decoded code,
 * and a write to one of those lines increments the counter. A block remembers the counter and is compared
 * with memory again before it runs under another value, so data next to code costs a comparison at most,
 * and nothing has to be freed while somebody executes it. Translated code does not look at the counter: the
 * vCPUs that have some of the page are told.
 *
 * A block in memory:
 *
 *   struct bt_block | insn[0] .. insn[n-1] | bt_op_end record | the bytes it was decoded from
 */
#ifndef ACCEL_BT_BT_BLOCK_H
#define ACCEL_BT_BT_BLOCK_H

#include "accel/bt/bt.h"

enum {
    BT_BLOCK_INSNS = 64, /* most instructions of a block */
    BT_JUMP_BITS = 15,
    BT_HASH_BITS = 17,
    BT_CACHE_BYTES = 256 * MIB, /* of blocks a vCPU; touched as needed; when full all are dropped */
};

/* Decoding mode of a block (bt_cpu.code_key); BT_KEY_ONE: a single instruction, then the run loop. */
enum {
    BT_KEY_CODE = 0xf,
    BT_KEY_STACK_SHIFT = 4,
    BT_KEY_ONE = BIT(8),
    BT_KEY_DEAD = BIT(9),
    BT_KEY_REAL = BIT(10),
    BT_KEY_SUPER = BIT(11), /* CPL 0 */
    BT_KEY_SSE = BIT(12),   /* instructions of these sets raise neither #UD nor #NM */
    BT_KEY_AVX = BIT(13),
    BT_KEY_AVX512 = BIT(14),
    BT_KEY_SLOW = BIT(15), /* alignment is checked: no translation */
    BT_KEY_SMAP = BIT(16), /* CLAC and STAC choose the TLB */
    BT_KEY_TSC = BIT(17),  /* RDTSC is allowed */
    BT_KEY_FLAT = BIT(18), /* an address is RIP: 64-bit code, 32-bit code with CS DS ES SS flat */
    BT_KEY_FS = BIT(19),   /* 32-bit code: the segment has a base but no limit */
    BT_KEY_GS = BIT(20),
    BT_KEY_X87 = BIT(21), /* x87 and MMX instructions fault for their operands only */
};

struct bt_code_page {
    _Atomic uint32_t version;
    _Atomic uint32_t idle; /* writes since the page held no code any more */
    _Atomic uint64_t lines;
    _Atomic uint64_t users; /* vCPUs with units of the page that are not stale, by index */
};

struct bt_block {
    struct bt_block *hash_next;
    struct bt_jit_unit *jit; /* its translation, or NULL */
    uint32_t heat;           /* executions until it is translated; 0: never */
    bool apart; /* translate it without groups of accesses: they often crossed a page */
    const uint8_t *hva;
    uint32_t key;
    uint32_t version;
    struct bt_code_page *page; /* never NULL */
    struct bt_block *link[2];  /* direct successors in the same page: taken, not taken */
    uint64_t gpa;
    /* An instruction that crosses into the next page is a block of its own and looks at both. */
    const uint8_t *hva2;
    uint64_t gpa2;
    struct bt_code_page *page2;
    uint32_t version2;
    uint16_t len;     /* in bytes of code */
    uint16_t records; /* of insn, the end included */
    uint16_t n;       /* instructions */
    struct bt_insn insn[];
};

struct bt_jump {
    uint64_t lin;
    struct bt_block *block;
};

struct bt_cache {
    struct bt_jump jump[1 << BT_JUMP_BITS];
    struct bt_block *hash[1 << BT_HASH_BITS];
    uint8_t *arena;
    size_t used;
    struct bt_code_page no_page; /* of blocks outside known RAM, and all under kvm: never cached */
    struct bt_insn scratch[2 * BT_BLOCK_INSNS + 2];
    uint64_t decoded, flushes; /* statistics: instructions, arena overflows */
};

must_check int bt_cache_create(struct bt_cache **out, struct err *e);
void bt_cache_destroy(struct bt_cache *k);
void bt_cache_flush(struct bt_cpu *c);

/*
 * The block at c->s.rip; one: with a single instruction. NULL: *ret is BT_FAULT (recorded, s.rip is the
 * instruction's) or BT_EXIT.
 */
struct bt_block *bt_block_find(struct bt_cpu *c, bool one, int *ret);
/* The run loop comes after the instruction under execution; the block is good for nothing then. */
void bt_block_leave(struct bt_cpu *c);
/* Sets a link of the block under execution if that is safe, then goes on at rip. */
int bt_link_slow(struct bt_cpu *c, unsigned which, uint64_t rip);

static inline bool bt_block_fresh(const struct bt_block *b)
{
    return likely(atomic_load_explicit(&b->page->version, memory_order_acquire) == b->version);
}

/*
 * A device's register was accessed. Where that stops the vCPU, because other memory is to answer or for any
 * other reason, the rest of the block under execution is not run before.
 */
static inline void bt_left_machine(struct bt_cpu *c)
{
    unsigned req = atomic_load_explicit(&c->vcpu->req, memory_order_relaxed);

    if (unlikely(req & (VCPU_REQ_STOP | VCPU_REQ_MEMORY)))
        bt_block_leave(c);
}

static inline bool bt_kicked(struct bt_cpu *c)
{
    return unlikely(atomic_load_explicit(&c->kick, memory_order_relaxed));
}

/* Single instructions have slots of their own: they do not put out the block at the same address. */
static inline struct bt_jump *bt_jump_slot(struct bt_cache *k, uint64_t lin, uint32_t key)
{
    unsigned h = (unsigned)(lin ^ lin >> BT_JUMP_BITS) ^ (key & BT_KEY_ONE) << 4;

    return &k->jump[h & ((1u << BT_JUMP_BITS) - 1)];
}

/* The block at a linear address of code with BT_KEY_FLAT if all is known already, else NULL. */
static inline struct bt_block *bt_block_peek(struct bt_cpu *c, uint64_t lin, uint32_t key)
{
    const struct bt_jump *j = bt_jump_slot(c->cache, lin, key);
    const struct bt_tlb_entry *e =
        &c->tlb[(size_t)c->mmu * BT_TLB_SIZE + ((lin >> PAGE_SHIFT) & (BT_TLB_SIZE - 1))];
    struct bt_block *b = j->block;

    if (likely(j->lin == lin && e->tag_x == (lin & PAGE_MASK) &&
               (uintptr_t)b->hva == bt_tlb_hva(e, lin) && b->key == key && !b->hva2) &&
        bt_block_fresh(b))
        return b;
    return NULL;
}

/* bt_enter() of a block that is translated, or is to be. */
int bt_enter_hot(struct bt_cpu *c, struct bt_block *b, uint64_t rip);

static inline int bt_enter(struct bt_cpu *c, struct bt_block *b, uint64_t rip)
{
    if (unlikely(b->jit) || unlikely(b->heat && !--b->heat))
        return bt_enter_hot(c, b, rip);
    c->block = b;
    c->block_rip = rip;
    c->insns += b->n;
    return b->insn[0].op(c, b->insn);
}

/*
 * Blocks and operations go on to the next by sibling calls. Whether the compiler makes them such is its own
 * affair (it does not without optimization, nor with sanitizers, whose frames end after the call): where
 * the host's stack has grown past its bound, the run loop is taken instead, which unwinds it.
 */
static inline bool bt_stack_deep(const struct bt_cpu *c)
{
    bool deep;

    __asm__ volatile("cmpq %1, %%rsp" : "=@ccb"(deep) : "m"(c->stack_bound));
    return unlikely(deep);
}

/* Goes on at rip, anywhere; 64-bit code only. */
static inline int bt_jump64(struct bt_cpu *c, uint64_t rip)
{
    if (!bt_stack_deep(c) && !bt_kicked(c)) {
        struct bt_block *b = bt_block_peek(c, rip, c->code_key);

        if (likely(b))
            return bt_enter(c, b, rip);
    }
    c->s.rip = rip;
    return BT_JUMP;
}

/* Goes on at the target of a direct branch of 64-bit code; which: the link to use. */
static inline int bt_link64(struct bt_cpu *c, unsigned which, uint64_t rip)
{
    struct bt_block *b = c->block->link[which];

    if (likely(b) && bt_block_fresh(b) && !bt_stack_deep(c) && !bt_kicked(c))
        return bt_enter(c, b, rip);
    return bt_link_slow(c, which, rip);
}

#endif
