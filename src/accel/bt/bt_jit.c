/*
 * bt_jit.c: the life of translated units (bt_jit.h). vCPU thread, except bt_jit_kick() and the signal
 * handler's bt_jit_fault().
 */
#include "accel/bt/bt_jit.h"

#include <errno.h>
#include <string.h>

#include "accel/bt/bt_access.h"
#include "accel/bt/bt_code.h"
#include "accel/bt/bt_jit_insn.h"
#include "accel/bt/bt_mem.h"

typedef int bt_jit_entry(struct bt_cpu *c, const uint8_t *code);

int bt_jit_create(struct bt_cpu *c, struct err *e)
{
    struct bt_jit *j = calloc(1, sizeof(*j));
    int rc;

    if (!j) {
        err_oom(e);
        return -ENOMEM;
    }
    c->jit = j;
    rc = bt_jit_buf_create(j, e);
    if (rc)
        return rc;
    bt_jit_thunks(j);
    bt_perf_name(bt_code_perf(c->vm), j->x, j->call, "ruche enter");
    bt_perf_name(bt_code_perf(c->vm), j->x + j->call, j->thunks_end - j->call, "ruche call");
    j->hot = BT_JIT_HOT;
    j->n_units = j->n_exits = j->n_points = 1;
    return 0;
}

void bt_jit_destroy(struct bt_cpu *c)
{
    if (!c->jit)
        return;
    bt_jit_buf_destroy(c->jit);
    free(c->jit);
    c->jit = NULL;
}

/* --- links --- */
void bt_jit_empty(struct bt_cpu *c)
{
    struct bt_jit_jc *jc = bt_jit_jc(c);

    for (unsigned i = 0; i < ARRAY_SIZE(jc->entry); i++)
        jc->entry[i].key = 0; /* context 0 is nobody's */
}

static void jit_jump_to(struct bt_jit *j, const struct bt_jit_exit *e, uint32_t to)
{
    bt_jit_set_rel(j->w + e->site, j->w + to);
}

/*
 * Who knows a unit's entries (links, the jump cache under any number of contexts) is not looked for: the
 * entries themselves are made to lead away, and back.
 */
static void jit_close(struct bt_jit *j, struct bt_jit_unit *u)
{
    const uint32_t entry[2] = { u->saved_entry, u->host_entry };
    const uint32_t gone[2] = { u->gone_saved, u->gone_host };

    u->stale = true;
    for (unsigned i = 0; i < ARRAY_SIZE(entry); i++) {
        uint8_t *at = j->w + entry[i];

        memcpy(u->entry_bytes[i], at, BT_JIT_JUMP);
        at[0] = 0xe9; /* jmp */
        bt_jit_set_rel(at + 1, j->w + gone[i]);
    }
}

static void jit_open(struct bt_jit *j, struct bt_jit_unit *u)
{
    u->stale = false;
    memcpy(j->w + u->saved_entry, u->entry_bytes[0], BT_JIT_JUMP);
    memcpy(j->w + u->host_entry, u->entry_bytes[1], BT_JIT_JUMP);
}

static bool jit_is_far(const struct bt_jit_exit *e)
{
    return e->target < 0 || e->target >= PAGE_SIZE;
}

void bt_jit_link(struct bt_jit *j, uint32_t exit, uint32_t unit)
{
    struct bt_jit_exit *e = &j->exit[exit];
    struct bt_jit_unit *u = &j->unit[unit];
    bool far = jit_is_far(e);
    uint32_t *links = far ? &u->far_links : &u->links;

    if (e->to)
        return;
    e->to = unit;
    e->next = *links;
    *links = exit;
    if (far && !e->listed) {
        e->listed = true;
        e->next_far = j->far;
        j->far = exit;
    }
    jit_jump_to(j, e, e->saved ? u->saved_entry : u->host_entry);
}

static void jit_unlink_exits(struct bt_jit *j, uint32_t *links)
{
    uint32_t n = *links;

    while (n) {
        struct bt_jit_exit *e = &j->exit[n];

        n = e->next;
        e->to = e->next = 0;
        jit_jump_to(j, e, e->stub);
    }
    *links = 0;
}

void bt_jit_unlink_fixed(struct bt_cpu *c)
{
    struct bt_jit *j = c->jit;

    while (j && j->far) {
        struct bt_jit_exit *e = &j->exit[j->far];

        if (e->to)
            jit_unlink_exits(j, &j->unit[e->to].far_links);
        e->listed = false;
        j->far = e->next_far;
    }
}

/* --- pages --- */
static struct bt_jit_page *jit_page(struct bt_jit *j, const struct bt_code_page *page)
{
    uint64_t h = (uintptr_t)page * 0x9e3779b97f4a7c15ull;
    uint32_t i = (uint32_t)(h >> 32) % BT_JIT_PAGES;

    while (j->page[i].page && j->page[i].page != page)
        i = (i + 1) % BT_JIT_PAGES;
    return &j->page[i];
}

static void jit_page_stale(struct bt_cpu *c, struct bt_jit_page *p)
{
    p->version = p->page->version;
    for (struct bt_jit_unit *u = p->units; u; u = u->page_next)
        if (!u->stale)
            jit_close(c->jit, u);
    p->units = NULL;
    bt_code_unuse(c, p->page);
}

/*
 * One more unit of the page is about to be good, if its bytes are those of a version read from now on; those
 * of an older version are not.
 */
static void jit_page_use(struct bt_cpu *c, struct bt_code_page *page)
{
    struct bt_jit_page *p = jit_page(c->jit, page);

    bt_code_use(c, page);
    if (p->page && p->version != page->version) {
        jit_page_stale(c, p);
        bt_code_use(c, page);
    }
}

void bt_jit_recheck_at(struct bt_cpu *c, uint64_t gpa)
{
    const struct bt_code_page *page = bt_code_page_at(c->vm, gpa);
    struct bt_jit_page *p;

    if (!c->jit || !page)
        return;
    p = jit_page(c->jit, page);
    if (p->page && p->version != page->version)
        jit_page_stale(c, p);
}

void bt_jit_recheck(struct bt_cpu *c)
{
    struct bt_jit *j = c->jit;

    for (struct bt_jit_page *p = j ? j->pages : NULL; p; p = p->next)
        if (p->page->version != p->version)
            jit_page_stale(c, p);
}

static void jit_page_list(struct bt_jit_page *p, struct bt_jit_unit *u)
{
    u->page_next = p->units;
    p->units = u;
}

static void jit_page_add(struct bt_jit *j, struct bt_jit_unit *u, uint32_t version)
{
    struct bt_jit_page *p = jit_page(j, u->block->page);

    if (!p->page) {
        *p = (struct bt_jit_page){ .page = u->block->page, .next = j->pages, .version = version };
        j->pages = p;
        j->n_pages++;
    }
    jit_page_list(p, u);
}

/* --- units --- */
/* A stale unit is never used again: its block may become hot once more. */
static void jit_drop(struct bt_jit *j, struct bt_jit_unit *u, uint32_t heat)
{
    struct bt_jit_known *k = bt_jit_known_slot(j, (uintptr_t)u->hva);

    if (k->unit == u - j->unit)
        *k = (struct bt_jit_known){ 0 };
    jit_unlink_exits(j, &u->links);
    jit_unlink_exits(j, &u->far_links);
    u->block->jit = NULL;
    u->block->heat = heat;
}

void bt_jit_replaced(struct bt_cpu *c, struct bt_jit_unit *u)
{
    if (u->stale && u->block->jit == u)
        jit_drop(c->jit, u, c->jit->hot);
}

void bt_jit_take_apart(struct bt_cpu *c, struct bt_jit_unit *u)
{
    if (u->stale)
        return;
    jit_close(c->jit, u);
    u->block->apart = true;
    jit_drop(c->jit, u, 1);
}

void bt_jit_flush(struct bt_cpu *c)
{
    struct bt_jit *j = c->jit;

    if (!j)
        return;
    j->n_units = j->n_exits = j->n_points = 1;
    j->n_faults = j->n_pages = j->arena_used = j->far = 0;
    j->used = j->thunks_end;
    j->late_used = BT_JIT_LATE_AT;
    for (struct bt_jit_page *p = j->pages, *next; p; p = next) {
        next = p->next;
        bt_code_unuse(c, p->page);
        *p = (struct bt_jit_page){ 0 };
    }
    j->pages = NULL;
    bt_jit_empty(c);
    memset(j->known, 0, sizeof(*j->known) << BT_JIT_KNOWN_BITS);
    j->flushes++;
}

/* The page was written since, but perhaps not these bytes. */
static bool jit_revive(struct bt_cpu *c, struct bt_jit_unit *u)
{
    uint32_t version;

    jit_page_use(c, u->block->page);
    if (!bt_code_mark(c, u->gpa, u->len, &version))
        return false;
    if (!bt_ram_equal(u->bytes, u->hva, u->len))
        return false;
    jit_open(c->jit, u);
    jit_page_list(jit_page(c->jit, u->block->page), u);
    return true;
}

bool bt_jit_ready(struct bt_cpu *c, const struct bt_block *b, uint64_t rip)
{
    struct bt_jit_unit *u = b->jit;

    if (!u || c->debugged)
        return false;
    if (unlikely(u->fixed &&
                 u->lin != rip)) { /* a kernel that has moved to its own addresses, say */
        if (!u->stale)
            jit_close(c->jit, u);
    } else if (likely(!u->stale) || jit_revive(c, u)) {
        return true;
    }
    jit_drop(c->jit, u, c->jit->hot);
    return false;
}

static void jit_name(struct bt_cpu *c, const struct bt_jit_unit *u)
{
    struct bt_perf *p = bt_code_perf(c->vm);

    if (!p)
        return;
    bt_fpu_store(c);
    bt_perf_guest(p, c->jit->x + u->code, u->end - u->code, u->lin, !u->fixed);
    bt_perf_guest(p, c->jit->x + u->late, u->late_end - u->late, u->lin, !u->fixed);
}

void bt_jit_heat(struct bt_cpu *c, struct bt_block *b, uint64_t rip)
{
    struct bt_jit *j = c->jit;
    struct bt_jit_unit *u;

    if (!j || j->off || c->debugged || !(b->key & BT_KEY_FLAT) ||
        (b->key & (BT_KEY_SLOW | BT_KEY_ONE | BT_KEY_DEAD)) || b->hva2 ||
        b->page == &c->cache->no_page)
        return;
    bt_fpu_store(c); /* the decoder is an ordinary library */
    if (bt_jit_full(j)) {
        bt_cache_flush(c);
        return;
    }
    jit_page_use(c, b->page);
    if (!bt_block_fresh(b)) {
        b->heat = 1; /* next time */
        return;
    }
    u = bt_jit_translate(c, b, rip);
    if (u) {
        jit_page_add(j, u, b->version);
        b->jit = u;
        jit_name(c, u);
    }
}

int bt_jit_enter(struct bt_cpu *c, const struct bt_block *b, uint64_t rip)
{
    struct bt_jit *j = c->jit;
    struct bt_jit_frame *f = bt_jit_frame(c);
    bt_jit_entry *enter = (bt_jit_entry *)(uintptr_t)(j->x + j->enter);

    c->s.rip = rip;
    bt_fpu_catch_for(c);
    atomic_store(&f->safe, (uintptr_t)c);
    if (bt_kicked(c))
        return BT_JUMP;
    c->block = NULL;
    f->page_lin = rip & PAGE_MASK;
    bt_jit_frame_in(c);
    return enter(c, j->x + b->jit->saved_entry);
}

void bt_jit_kick(struct bt_cpu *c)
{
    atomic_store(&bt_jit_frame(c)->safe, 0);
}

const uint8_t *bt_jit_fault(const struct bt_cpu *c, const uint8_t *pc)
{
    const struct bt_jit *j = c->jit;
    uint32_t at, low = 0, high;

    if (!j || pc < j->x || pc >= j->x + BT_JIT_CODE)
        return NULL;
    at = (uint32_t)(pc - j->x);
    high = j->n_faults;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (j->fault[middle].at < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < j->n_faults && j->fault[low].at == at ? j->x + j->fault[low].stub : NULL;
}
