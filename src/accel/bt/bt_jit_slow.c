/*
 * bt_jit_slow.c: what translated code leaves to C. The guest's registers are stored; whatever runs here
 * runs as the interpreter would run it, and then goes on in translated code, or leaves for the run loop.
 *
 * vCPU thread.
 */
#include "accel/bt/bt_access.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_mem.h"
#include "accel/bt/bt_native.h"

static const uint8_t *slow_leave(struct bt_cpu *c, int ret)
{
    bt_jit_frame(c)->ret = ret;
    return NULL;
}

/*
 * What the jump cache has of 64-bit code is good for one mode only. Modes of 32-bit code, which change with
 * each load of FS or GS, are in the context: addresses there leave room for them.
 */
static uint64_t slow_context(struct bt_cpu *c)
{
    enum { MODES = BT_KEY_SSE };
    uint32_t *key = &c->jit->jc_key[c->cpl == 3];

    if (c->code_size != 8)
        return bt_tlb_context(c) ^ BT_JIT_CODE32 ^ (uint64_t)(c->code_key / MODES) << 32;
    if (unlikely(*key != c->code_key)) {
        *key = c->code_key;
        bt_tlb_new_contexts(c);
    }
    return bt_tlb_context(c);
}

void bt_jit_frame_in(struct bt_cpu *c)
{
    enum { HOST_FLAGS = FLAG_1 | FLAG_IF };
    struct bt_jit_frame *f = bt_jit_frame(c);

    f->flags = (c->s.rflags & FLAG_ARITH) | HOST_FLAGS;
    c->s.rflags &= ~(uint64_t)FLAG_ARITH;
    f->tlb = &c->tlb[(size_t)c->mmu * BT_TLB_SIZE];
    f->stack_span[0] = f->stack_span[1] = 0; /* C may have changed the TLB */
    f->context = slow_context(c);
}

static void slow_frame_out(struct bt_cpu *c)
{
    c->s.rflags |= bt_jit_frame(c)->flags & FLAG_ARITH;
}

/* Must the run loop look at something before the next instruction? */
static bool slow_must_leave(struct bt_cpu *c)
{
    if (bt_kicked(c) || c->s.shadow_sti || c->s.shadow_mov_ss || (c->s.rflags & FLAG_TF) ||
        c->s.mp_state != X86_MP_RUNNING || bt_debug_armed(c) || !bt_events_quiet(c))
        return true;
    c->event_window = false;
    c->s.rflags &= ~(uint64_t)FLAG_RF;
    return false;
}

/* The page of lin is mapped for execution where it was when hva was found in it. */
static bool slow_mapped(const struct bt_cpu *c, uint64_t lin, const uint8_t *hva)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);

    return e->tag_x == (lin & PAGE_MASK) && bt_tlb_hva(e, lin) == (uintptr_t)hva;
}

/* An instruction in two pages is not translated. Its decoded block, quickly if it is where it was. */
static struct bt_block *slow_crossing(struct bt_cpu *c, int *ret)
{
    uint32_t key = c->code_key | BT_KEY_ONE;
    const struct bt_jump *j = bt_jump_slot(c->cache, c->s.rip, key);
    struct bt_block *b = j->block;

    if (c->code_size == 8 && j->lin == c->s.rip && b->key == key && b->hva2 &&
        slow_mapped(c, j->lin, b->hva) &&
        slow_mapped(c, (j->lin & PAGE_MASK) + PAGE_SIZE, b->hva2) && bt_block_fresh(b) &&
        b->page2->version == b->version2)
        return b;
    return bt_block_find(c, true, ret);
}

/* Runs instructions in two pages, if c->s.rip is at one. false: the run loop is to go on with *ret. */
static bool slow_cross(struct bt_cpu *c, int *ret)
{
    enum { LAST_BYTES = 14 };
    struct bt_block *b;

    while ((c->s.rip & ~PAGE_MASK) >= PAGE_SIZE - LAST_BYTES && !slow_must_leave(c)) {
        b = slow_crossing(c, ret);
        if (!b)
            return false;
        if (!b->hva2)
            break;
        *ret = bt_enter(c, b, c->s.rip);
        if (*ret != BT_NEXT && *ret != BT_JUMP)
            return false;
    }
    return true;
}

/* The unit at c->s.rip, if it is known and mapped there. */
static const struct bt_jit_known *slow_known(struct bt_cpu *c)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, c->s.rip, c->mmu);
    const struct bt_jit_known *k;
    uint64_t hva = bt_tlb_hva(e, c->s.rip);

    if (!(c->code_key & BT_KEY_FLAT) || c->debugged || e->tag_x != (c->s.rip & PAGE_MASK))
        return NULL;
    k = bt_jit_known_slot(c->jit, hva);
    return k->hva == hva && k->key == c->code_key && (!k->lin || k->lin == c->s.rip) ? k : NULL;
}

static void slow_know(struct bt_cpu *c, const struct bt_jit_unit *u)
{
    *bt_jit_known_slot(c->jit, (uintptr_t)u->hva) =
        (struct bt_jit_known){ .hva = (uintptr_t)u->hva,
                               .lin = u->fixed ? u->lin : 0,
                               .key = u->key,
                               .unit = (uint32_t)(u - c->jit->unit),
                               .saved_entry = u->saved_entry };
}

/* To the entry of the unit at c->s.rip. indirect: the jump cache learns it. */
static const uint8_t *slow_go(struct bt_cpu *c, uint32_t saved_entry, bool indirect)
{
    const uint8_t *code = c->jit->x + saved_entry;
    uint64_t key;

    bt_jit_frame_in(c);
    bt_jit_frame(c)->page_lin = c->s.rip & PAGE_MASK;
    if (indirect && bt_tlb_note_exec(c, c->s.rip)) {
        key = bt_jit_key(c, c->s.rip);
        *bt_jit_jc_slot(c, key) = (struct bt_jit_jc_entry){ key, (uintptr_t)code };
    }
    return code;
}

const uint8_t *bt_jit_goto(struct bt_cpu *c, bool indirect, uint32_t *unit, int *ret)
{
    const struct bt_jit_known *known;
    uint64_t rip, flushes = c->cache->flushes;
    const struct bt_jit_unit *u;
    struct bt_block *b;

    *ret = BT_JUMP;
    if (slow_must_leave(c))
        return NULL;
    known = slow_known(c);
    if (known) {
        *unit = known->unit;
        return slow_go(c, known->saved_entry, indirect);
    }
    if (!slow_cross(c, ret))
        return NULL;
    rip = c->s.rip;
    *ret = BT_JUMP;
    if (slow_must_leave(c))
        return NULL;
    b = bt_block_find(c, false, ret);
    if (!b)
        return NULL;
    *ret = BT_JUMP;
    if (flushes != c->cache->flushes || !bt_jit_ready(c, b, rip))
        return NULL;
    u = b->jit;
    *unit = (uint32_t)(u - c->jit->unit);
    slow_know(c, u);
    return slow_go(c, u->saved_entry, indirect);
}

static uint64_t slow_page(struct bt_cpu *c, const struct bt_jit_unit *u)
{
    return u->fixed ? u->lin & PAGE_MASK : bt_jit_frame(c)->page_lin;
}

static const uint8_t *slow_exit(struct bt_cpu *c, uint32_t n)
{
    struct bt_jit *j = c->jit;
    const struct bt_jit_exit *e = &j->exit[n];
    const struct bt_jit_unit *u = &j->unit[e->unit];
    bool within = e->target >= 0 && e->target < PAGE_SIZE;
    const uint8_t *to;
    uint32_t unit;
    uint64_t rip;
    int ret;

    c->s.rip = slow_page(c, u) + (uint64_t)(int64_t)e->target;
    if (c->code_size != 8)
        c->s.rip = (uint32_t)c->s.rip;
    if (bt_kicked(c))
        return slow_leave(c, BT_JUMP);
    rip = c->s.rip;
    to = bt_jit_goto(c, !within && !e->site, &unit, &ret);
    if (!to)
        return slow_leave(c, ret);
    /* Of kernel code, jumps out of the page hold until mappings change: bt_jit_unlink_fixed(). */
    if (e->site && c->s.rip == rip && (within || bt_tlb_note_exec(c, rip)))
        bt_jit_link(j, n, unit);
    return to;
}

/* To where the guest jumps. */
static const uint8_t *slow_jump(struct bt_cpu *c)
{
    const uint8_t *to;
    uint32_t unit;
    int ret;

    to = bt_jit_goto(c, true, &unit, &ret);
    return to ? to : slow_leave(c, ret);
}

/* Somebody entered a unit that is stale. */
static const uint8_t *slow_gone(struct bt_cpu *c, uint32_t n)
{
    struct bt_jit_unit *u = &c->jit->unit[n];
    uint64_t flushes = c->jit->flushes;
    const uint8_t *to;

    c->s.rip = slow_page(c, u) + (u->lin & ~PAGE_MASK);
    *bt_jit_known_slot(c->jit, (uintptr_t)u->hva) = (struct bt_jit_known){ 0 };
    to = slow_jump(c);
    if (flushes == c->jit->flushes)
        bt_jit_replaced(c, u);
    return to;
}

/* The access missed the TLB: true if it hits now, so that it can be tried again. */
static bool slow_fill(struct bt_cpu *c, const struct bt_jit_point *p)
{
    bool write = p->access == BT_JIT_MISS_WRITE;
    uint64_t lin = bt_jit_frame(c)->t0, cr2 = c->s.cr2;
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);
    const uint64_t *tag = write ? &e->tag_w : &e->tag_r;
    struct bt_page page;

    if (*tag == (lin & PAGE_MASK) || !bt_canonical(c, lin) ||
        (lin & ~PAGE_MASK) + p->size > PAGE_SIZE)
        return false;
    if (bt_tlb_fill(c, lin, write ? PF_W : 0, c->mmu, &page)) {
        c->s.exception_pending = false; /* the interpreter finds out whose it is */
        c->s.cr2 = cr2;
        return false;
    }
    return *tag == (lin & PAGE_MASK);
}

/* The host's address of the page of lin, if the TLB has it, or can have it, for the access. */
static uint8_t *slow_page_ptr(struct bt_cpu *c, uint64_t lin, bool write)
{
    const struct bt_tlb_entry *e = bt_tlb_at(c, lin, c->mmu);
    const uint64_t *tag = write ? &e->tag_w : &e->tag_r;
    uint64_t cr2 = c->s.cr2;
    struct bt_page page;

    if (*tag != lin && bt_tlb_fill(c, lin, write ? PF_W : 0, c->mmu, &page)) {
        c->s.exception_pending = false; /* the interpreter finds out whose it is */
        c->s.cr2 = cr2;
        return NULL;
    }
    return *tag == lin ? (uint8_t *)(uintptr_t)bt_tlb_hva(e, lin) : NULL;
}

/*
 * The access lies in two pages. Where those follow one another in the host, too, it is as any other; what one
 * instruction reads can be copied together. Of several instructions it could not: each reads in its turn.
 */
static const uint8_t *slow_two_pages(struct bt_cpu *c, const struct bt_jit_point *p)
{
    struct bt_jit_frame *f = bt_jit_frame(c);
    uint64_t lin = f->t0, off = lin & ~PAGE_MASK, next = (lin & PAGE_MASK) + PAGE_SIZE;
    unsigned first = (unsigned)(PAGE_SIZE - off);
    bool write = p->access == BT_JIT_MISS_WRITE;
    uint8_t *low, *high, *buf = c->fpu->bounce + (lin & 63);

    if (!p->found || p->size <= first || p->size > BT_LINE * 2 || !bt_canonical(c, lin) ||
        !bt_canonical(c, next) || (c->code_size != 8 && next > UINT32_MAX))
        return NULL;
    high = slow_page_ptr(c, next, write);
    low = slow_page_ptr(c, lin & PAGE_MASK, write);
    if (!low || !high || slow_page_ptr(c, next, write) != high)
        return NULL;
    if (low + PAGE_SIZE == high) {
        f->t0 = (uintptr_t)low + off;
    } else if (!write && p->count == 1) {
        bt_ram_copy(buf, low + off, first);
        bt_ram_copy(buf + first, high, p->size - first);
        f->t0 = (uintptr_t)buf;
    } else {
        return NULL;
    }
    f->found = (uintptr_t)(c->jit->x + p->found);
    bt_jit_frame_in(c);
    return c->jit->x + c->jit->found;
}

/* One instruction of the interpreter at c->s.rip: enum bt_ret. *next: where the one behind it is. */
static int slow_step(struct bt_cpu *c, struct bt_jit_point *p, uint64_t *next)
{
    struct bt_block *b = p->one;
    int ret = 0;

    if (p->count != 1 || !b || p->flushes != c->cache->flushes || (b->key & BT_KEY_DEAD) ||
        !bt_block_fresh(b) || b->hva2) {
        b = bt_block_find(c, true, &ret);
        if (!b)
            return ret;
        p->one = b->key & BT_KEY_DEAD ? NULL : b;
        p->flushes = c->cache->flushes;
    }
    *next = c->s.rip + b->len;
    return bt_enter(c, b, c->s.rip);
}

/*
 * Runs the point's instructions, as long as they follow one another: enum bt_ret; SLOW_STALE: translated
 * code is not to be resumed; BT_JUMP: nor behind the point, for a branch was taken.
 */
enum { SLOW_STALE = BT_EXIT + 1 };
static int slow_run(struct bt_cpu *c, struct bt_jit_point *p, const struct bt_jit_unit *u)
{
    uint64_t flushes = c->jit->flushes, next = 0;

    for (unsigned i = 0; i < p->count; i++) {
        int ret = slow_step(c, p, &next);

        if (ret != BT_NEXT && ret != BT_JUMP)
            return ret;
        if (flushes != c->jit->flushes || u->stale)
            return SLOW_STALE;
        if (c->s.rip != next)
            return BT_JUMP;
    }
    return BT_NEXT;
}

static const uint8_t *slow_point(struct bt_cpu *c, uint32_t n)
{
    struct bt_jit *j = c->jit;
    struct bt_jit_point *p = &j->point[n];
    uint64_t to = bt_jit_frame(c)->t0 ^ bt_jit_frame(c)->context;
    struct bt_jit_unit *u;
    int ret;

    /* What happens most needs no look at the unit, which is likely to be in no cache. */
    if (p->access == BT_JIT_MISS_JUMP && bt_canonical(c, to)) {
        c->s.gpr[X86_RSP] += p->size;
        if (c->code_size != 8)
            c->s.gpr[X86_RSP] = (uint32_t)c->s.gpr[X86_RSP];
        c->s.rip = to;
        return slow_jump(c);
    }
    if (p->access && p->access != BT_JIT_MISS_JUMP && slow_fill(c, p)) {
        bt_jit_frame_in(c);
        return j->x + p->retry;
    }
    if (p->access && p->access != BT_JIT_MISS_JUMP) {
        const uint8_t *found = slow_two_pages(c, p);

        if (found)
            return found;
    }
    u = &j->unit[p->unit];
    c->s.rip = slow_page(c, u) + p->off;
    if (!p->count && !p->resume)
        return slow_leave(c, BT_JUMP);
    if (p->count > 1 && ++p->crossed == UINT8_MAX)
        bt_jit_take_apart(c, u);
    ret = slow_run(c, p, u);
    if (ret == SLOW_STALE)
        return slow_leave(c, BT_JUMP);
    if (ret != BT_NEXT && ret != BT_JUMP)
        return slow_leave(c, ret);
    /* What others wrote to code before an instruction that serializes is seen behind it. */
    if (p->resume && ret == BT_NEXT && !bt_kicked(c)) {
        if (u->fpu)
            bt_fpu_load(c);
        if (c->code_key != u->key) /* by a new x87 control word */
            return slow_leave(c, BT_JUMP);
        bt_jit_frame_in(c);
        return j->x + p->resume;
    }
    return slow_jump(c);
}

const uint8_t *bt_jit_called(struct bt_cpu *c)
{
    uint32_t id = bt_jit_frame(c)->id;

    slow_frame_out(c);
    if (id & BT_JIT_ID_EXIT)
        return slow_exit(c, id & ~BT_JIT_ID_EXIT);
    if (id & BT_JIT_ID_GONE)
        return slow_gone(c, id & ~BT_JIT_ID_GONE);
    return slow_point(c, id);
}
