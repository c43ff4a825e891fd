/*
 * bt_block.c: the cache of decoded blocks of one vCPU (see bt_block.h). vCPU thread only.
 */
#include "accel/bt/bt_block.h"

#include <errno.h>
#include <stdio.h>

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_form.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_ops.h"
#include "accel/bt/bt_sys.h"
#include "base/pages.h"

/* Where the code at c->s.rip lies. */
struct bt_block_at {
    uint64_t lin, gpa;
    const uint8_t *hva;
    uint32_t key;
};

#define BT_JUMP_NONE (1ull << 63) /* not canonical: no RIP */

static void bt_cache_clear(struct bt_cache *k)
{
    for (unsigned i = 0; i < ARRAY_SIZE(k->jump); i++)
        k->jump[i] = (struct bt_jump){ BT_JUMP_NONE, NULL };
    for (unsigned i = 0; i < ARRAY_SIZE(k->hash); i++)
        k->hash[i] = NULL;
    k->used = 0;
}

int bt_cache_create(struct bt_cache **out, struct err *e)
{
    struct bt_cache *k = calloc(1, sizeof(*k));

    if (!k)
        goto fail;
    k->arena = pages_alloc(BT_CACHE_BYTES, 0);
    if (!k->arena)
        goto fail;
    bt_cache_clear(k);
    *out = k;
    return 0;
fail:
    free(k);
    err_oom(e);
    return -ENOMEM;
}

void bt_cache_destroy(struct bt_cache *k)
{
    if (!k)
        return;
    pages_free(k->arena, BT_CACHE_BYTES, 0);
    free(k);
}

void bt_cache_flush(struct bt_cpu *c)
{
    bt_fpu_store(c);
    bt_cache_clear(c->cache);
    bt_forms_clear(c->forms);
    c->cache->flushes++;
    c->block = NULL;
    bt_jit_flush(c);
}

static struct bt_block **bt_block_bucket(struct bt_cache *k, const uint8_t *hva, uint32_t key)
{
    uint64_t h = ((uintptr_t)hva ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull;

    return &k->hash[h >> (64 - BT_HASH_BITS)];
}

/* The bytes a block was decoded from follow its records. */
static uint8_t *bt_block_bytes(struct bt_block *b)
{
    return (uint8_t *)&b->insn[b->records];
}

static unsigned bt_block_len1(const struct bt_block *b)
{
    unsigned room = PAGE_SIZE - (unsigned)(b->gpa % PAGE_SIZE);

    return b->hva2 && room < b->len ? room : b->len;
}

/* Its page was written to: are its own bytes what they were? Then it is good for the new version. */
static bool bt_block_recheck(struct bt_cpu *c, struct bt_block *b)
{
    unsigned len1 = bt_block_len1(b);
    uint32_t v1, v2 = 0;

    if (!bt_code_mark(c, b->gpa, len1, &v1))
        return false;
    if (b->hva2 && !bt_code_mark(c, b->gpa2, b->len - len1, &v2))
        return false;
    if (!bt_ram_equal(bt_block_bytes(b), b->hva, len1) ||
        (b->hva2 && !bt_ram_equal(bt_block_bytes(b) + len1, b->hva2, b->len - len1)))
        return false;
    b->version = v1;
    b->version2 = v2;
    return true;
}

static bool bt_block_valid(struct bt_cpu *c, struct bt_block *b)
{
    if (bt_block_fresh(b) && (!b->hva2 || b->page2->version == b->version2))
        return true;
    return bt_block_recheck(c, b);
}

/* Fetches the page after the one of a crossing instruction. hva2 stays NULL if it is not RAM. */
static int bt_block_fetch2(struct bt_cpu *c, const struct bt_block_at *at, uint64_t *gpa2,
                           uint8_t **hva2)
{
    return bt_fetch(c, (at->lin & PAGE_MASK) + PAGE_SIZE, gpa2, hva2);
}

/* *stop: a fault fetching the second page. */
static struct bt_block *bt_block_lookup(struct bt_cpu *c, const struct bt_block_at *at, bool *stop)
{
    struct bt_block **link = bt_block_bucket(c->cache, at->hva, at->key);

    for (struct bt_block *b = *link; b; b = *link) {
        uint64_t gpa2;
        uint8_t *hva2;

        if (b->key & BT_KEY_DEAD) { /* code that rewrites itself leaves thousands behind */
            *link = b->hash_next;
            continue;
        }
        link = &b->hash_next;
        if (b->hva != at->hva || b->key != at->key)
            continue;
        if (b->hva2) {
            *stop = bt_block_fetch2(c, at, &gpa2, &hva2);
            if (*stop)
                return NULL;
            if (hva2 != b->hva2)
                continue; /* the same page with another neighbour */
        }
        if (bt_block_valid(c, b))
            return b;
        b->key = BT_KEY_DEAD;
        return NULL;
    }
    return NULL;
}

static void bt_block_seal(struct bt_block *b, struct bt_insn *end, bool loop)
{
    *end = (struct bt_insn){ .op = loop ? bt_op_end_loop : bt_op_end, .off = b->len };
}

/* Decodes as many instructions as belong together; false: not even one lies within bytes[0..n). */
static bool bt_block_decode(struct bt_cpu *c, struct bt_block *b, unsigned max,
                            const uint8_t *bytes, unsigned n)
{
    struct bt_insn *insn = c->cache->scratch;
    unsigned flags = 0;

    if (b->key & BT_KEY_ONE)
        max = 1;

    b->len = b->records = b->n = 0;
    c->decode_one = b->key & BT_KEY_ONE;
    while (b->n < max && !(flags & BT_DECODE_END)) {
        struct bt_insn *in;

        if (bt_debugged(c) && bt_debugger_splits(c, b->gpa + b->len)) {
            if (b->n)
                break;
            insn[b->records++] = (struct bt_insn){ .op = bt_op_break };
        }
        in = &insn[b->records];
        if (bt_decode(c, bytes + b->len, n - b->len, in, &flags) != BT_DECODE_OK)
            break;
        in->off = b->len;
        if (flags & BT_DECODE_CALL) { /* bt_op_call goes first */
            in[1] = in[0];
            in[0].op = bt_op_call;
            b->records++;
        }
        b->len = (uint16_t)(b->len + in->len);
        b->records++;
        b->n++;
    }
    bt_block_seal(b, &insn[b->records],
                  (flags & BT_DECODE_LOOP) || (b->key & BT_KEY_ONE) || (b->key & BT_KEY_CODE) != 8);
    b->records++;
    return b->n > 0;
}

/* Copies the block into the arena (dropping all others if that is full) and enters it. */
static struct bt_block *bt_block_install(struct bt_cpu *c, const struct bt_block *head,
                                         const uint8_t *bytes)
{
    struct bt_cache *k = c->cache;
    size_t size = align_up(sizeof(*head) + head->records * sizeof(head->insn[0]) + head->len, 16);
    struct bt_block *b, **bucket;

    if (k->used + size > BT_CACHE_BYTES)
        bt_cache_flush(c);
    b = (struct bt_block *)(void *)(k->arena + k->used);
    k->used += size;
    *b = *head;
    b->heat = !c->jit || (b->key & BT_KEY_ONE) ? 0 : c->jit->hot;
    for (unsigned i = 0; i < b->records; i++)
        b->insn[i] = k->scratch[i];
    for (unsigned i = 0; i < b->len; i++)
        bt_block_bytes(b)[i] = bytes[i];
    k->decoded += b->n;
    if (b->page == &k->no_page) { /* nobody watches the bytes: use it once */
        b->key = BT_KEY_DEAD;
        return b;
    }
    bucket = bt_block_bucket(k, b->hva, b->key);
    b->hash_next = *bucket;
    *bucket = b;
    return b;
}

/* One instruction whose bytes lie in two pages. */
static struct bt_block *bt_block_build_crossing(struct bt_cpu *c, const struct bt_block_at *at,
                                                struct bt_block *head, int *ret)
{
    uint8_t bytes[2 * BT_INSN_MAX], *hva2;
    unsigned room = PAGE_SIZE - (unsigned)(at->lin % PAGE_SIZE);

    *ret = bt_block_fetch2(c, at, &head->gpa2, &hva2);
    if (*ret)
        return NULL;
    if (!hva2)
        return NULL;
    head->hva2 = hva2;
    head->page = bt_code_mark(c, at->gpa, room, &head->version);
    head->page2 = bt_code_mark(c, head->gpa2, BT_INSN_MAX, &head->version2);
    if (!head->page || !head->page2)
        head->page = head->page2 = &c->cache->no_page;
    bt_ram_copy(bytes, at->hva, room);
    bt_ram_copy(bytes + room, hva2, BT_INSN_MAX);
    bt_block_decode(c, head, 1, bytes, room + BT_INSN_MAX);
    if (head->len <= room) /* the bytes changed under us: the pages are looked at again */
        head->page = head->page2 = &c->cache->no_page;
    return bt_block_install(c, head, bytes);
}

static struct bt_block *bt_block_build(struct bt_cpu *c, const struct bt_block_at *at, int *ret)
{
    unsigned room = PAGE_SIZE - (unsigned)(at->lin % PAGE_SIZE);
    struct bt_block head = { .hva = at->hva, .key = at->key, .gpa = at->gpa };
    uint8_t bytes[BT_BLOCK_INSNS * BT_INSN_MAX];

    if (room > sizeof(bytes))
        room = sizeof(bytes);
    /* The lines are watched from the mark on: what was read before must still be there. */
    do {
        bt_ram_copy(bytes, at->hva, room);
        if (!bt_block_decode(c, &head, BT_BLOCK_INSNS, bytes, room))
            return bt_block_build_crossing(c, at, &head, ret);
        head.page = bt_code_mark(c, at->gpa, head.len, &head.version);
    } while (head.page && !bt_ram_equal(bytes, at->hva, head.len));
    if (!head.page)
        head.page = &c->cache->no_page;
    return bt_block_install(c, &head, bytes);
}

static struct bt_block *bt_block_not_ram(struct bt_cpu *c, const struct bt_block_at *at, int *ret)
{
    bt_fpu_store(c);
    snprintf(c->vcpu->reason, sizeof(c->vcpu->reason),
             "the guest jumped to %#llx, which is not memory (physical %#llx)",
             (unsigned long long)at->lin, (unsigned long long)at->gpa);
    c->exit = RUN_ERROR;
    *ret = BT_EXIT;
    return NULL;
}

/* Outside 64-bit code: RIP and the last byte of the instruction lie within CS's limit. */
static bool bt_block_in_limit(const struct bt_cpu *c, unsigned len)
{
    return c->code_size == 8 || c->s.rip + len - 1 <= c->s.seg[X86_CS].limit;
}

static struct bt_block *bt_block_at_rip(struct bt_cpu *c, uint32_t key, int *ret)
{
    struct bt_block_at at = { .lin = c->s.rip, .key = key };
    struct bt_block *b;
    uint8_t *hva;
    bool stop = false;

    if (c->code_size != 8)
        at.lin = (uint32_t)(c->s.seg[X86_CS].base + c->s.rip);
    *ret = bt_fetch(c, at.lin, &at.gpa, &hva);
    if (*ret)
        return NULL;
    at.hva = hva;
    if (!hva)
        return bt_block_not_ram(c, &at, ret);
    b = bt_block_lookup(c, &at, &stop);
    if (stop) {
        *ret = BT_FAULT;
        return NULL;
    }
    if (!b)
        b = bt_block_build(c, &at, ret);
    if (!b)
        return *ret ? NULL : bt_block_not_ram(c, &at, ret);
    if (b->key == key)
        *bt_jump_slot(c->cache, at.lin, key) = (struct bt_jump){ at.lin, b };
    return b;
}

struct bt_block *bt_block_find(struct bt_cpu *c, bool one, int *ret)
{
    uint32_t key = c->code_key | (one ? BT_KEY_ONE : 0);
    struct bt_block *b;

    if (key & BT_KEY_FLAT) {
        b = bt_block_peek(c, c->s.rip, key);
        if (b || c->code_size == 8)
            return b ? b : bt_block_at_rip(c, key, ret);
    }
    b = bt_block_in_limit(c, 1) ? bt_block_at_rip(c, key, ret) : NULL;
    if (b && !bt_block_in_limit(c, b->len))
        b = bt_block_at_rip(c, key | BT_KEY_ONE, ret);
    else if (b || *ret)
        return b;
    if (b && bt_block_in_limit(c, b->len))
        return b;
    *ret = bt_raise_err(c, X86_GP, 0);
    return NULL;
}

int bt_enter_hot(struct bt_cpu *c, struct bt_block *b, uint64_t rip)
{
    uint64_t flushes = c->cache->flushes;

    if (!b->jit)
        bt_jit_heat(c, b, rip);
    if (flushes != c->cache->flushes) { /* b is gone, and a loop of it would never be hot again */
        c->s.rip = rip;
        return BT_JUMP;
    }
    if (bt_jit_ready(c, b, rip))
        return bt_jit_enter(c, b, rip);
    c->block = b;
    c->block_rip = rip;
    c->insns += b->n;
    return b->insn[0].op(c, b->insn);
}

int bt_link_slow(struct bt_cpu *c, unsigned which, uint64_t rip)
{
    struct bt_block *b;

    c->s.rip = rip;
    if (bt_stack_deep(c) || bt_kicked(c))
        return BT_JUMP;
    b = bt_block_peek(c, rip, c->code_key);
    if (!b)
        return BT_JUMP;
    if ((rip & PAGE_MASK) == (c->block_rip & PAGE_MASK) && !c->block->hva2)
        ((struct bt_block *)(uintptr_t)c->block)->link[which] = b;
    return bt_enter(c, b, rip);
}

/* The rest of the block under execution is stale: each of its records leaves it. */
static void bt_block_poison(struct bt_block *b)
{
    b->key = BT_KEY_DEAD;
    for (unsigned i = 0; i < b->records; i++)
        b->insn[i].op = bt_op_leave;
}

void bt_block_leave(struct bt_cpu *c)
{
    if (c->block)
        bt_block_poison((struct bt_block *)(uintptr_t)c->block);
}

void bt_code_store(struct bt_cpu *c, uint64_t gpa, unsigned len)
{
    struct bt_block *b = (struct bt_block *)(uintptr_t)c->block;

    bt_code_written_by(c, gpa, len);
    bt_jit_recheck_at(c, gpa);
    if (b && (!bt_block_fresh(b) || (b->hva2 && b->page2->version != b->version2)))
        bt_block_poison(b);
}
