/*
 * bt_code.c: which guest memory holds decoded code, and who has written to it (see bt_block.h).
 *
 * Locking: lines and code bits are set and cleared under code->lock; versions and lines are read without.
 * A writer clears the lines before it increments the version: a decoder that sees the new version also
 * sees that it has to mark its lines again. `users` has the bits of vCPUs, each changed by its own thread:
 * who sets one looks at the version afterwards, who increments the version looks at the bits afterwards.
 */
#include "accel/bt/bt_code.h"

#include <errno.h>

#include "accel/bt/bt_sys.h"
#include "base/bitmap.h"

enum { BT_CODE_IDLE = 256 };

struct bt_code_region {
    struct ram_region *ram;
    struct bt_code_page *page; /* one a page of ram */
};

struct bt_code {
    pthread_mutex_t lock;
    pthread_mutex_t split_lock; /* bt_code_lock() */
    struct bt_code_region region[PHYSMAP_MAX];
    struct bt_perf *perf; /* NULL: nobody wants names */
};

int bt_code_create(struct vm *vm, struct bt_code **out, struct err *e)
{
    struct bt_code *code = calloc(1, sizeof(*code));
    int rc;

    if (!code) {
        err_oom(e);
        return -ENOMEM;
    }
    rc = vm->cfg->perf_map ? bt_perf_create(&code->perf, vm->cfg->perf_symbols, e) : 0;
    if (rc) {
        free(code);
        return rc;
    }
    pthread_mutex_init(&code->lock, NULL);
    pthread_mutex_init(&code->split_lock, NULL);
    *out = code;
    return 0;
}

void bt_code_destroy(struct bt_code *code)
{
    if (!code)
        return;
    for (unsigned i = 0; i < PHYSMAP_MAX; i++)
        if (code->region[i].ram)
            bt_code_unmap(code, code->region[i].ram);
    bt_perf_destroy(code->perf);
    pthread_mutex_destroy(&code->split_lock);
    pthread_mutex_destroy(&code->lock);
    free(code);
}

static struct bt_code_region *bt_code_slot(struct bt_code *code, const struct ram_region *ram)
{
    for (unsigned i = 0; i < PHYSMAP_MAX; i++)
        if (code->region[i].ram == ram)
            return &code->region[i];
    return NULL;
}

/* It was away, or is writable again: whatever was decoded of it is compared before it runs. */
static void bt_code_changed(struct bt_code *code, struct bt_code_region *s, size_t pages)
{
    pthread_mutex_lock(&code->lock);
    for (size_t i = 0; i < pages; i++) {
        if (!s->page[i].lines)
            continue;
        s->page[i].lines = 0;
        s->page[i].version++;
    }
    pthread_mutex_unlock(&code->lock);
}

int bt_code_map(struct bt_code *code, struct ram_region *r)
{
    struct bt_code_region *s = bt_code_slot(code, r);
    size_t pages = (size_t)(r->len >> PAGE_SHIFT);

    if (s) {
        bt_code_changed(code, s, pages);
        return 0;
    }
    s = bt_code_slot(code, NULL);
    if (!s)
        return -ENOSPC;
    s->page = calloc(pages, sizeof(*s->page));
    r->code = calloc(bitmap_words(pages), sizeof(*r->code));
    if (!s->page || !r->code) {
        free(s->page);
        free(r->code);
        s->page = NULL;
        r->code = NULL;
        return -ENOMEM;
    }
    s->ram = r;
    return 0;
}

void bt_code_unmap(struct bt_code *code, struct ram_region *r)
{
    struct bt_code_region *s = bt_code_slot(code, r);

    if (!s)
        return;
    free(s->page);
    free(r->code);
    r->code = NULL;
    *s = (struct bt_code_region){ 0 };
}

void bt_code_lock(struct vm *vm)
{
    struct bt_code *code = bt_code_of(vm);

    if (code)
        pthread_mutex_lock(&code->split_lock);
}

void bt_code_unlock(struct vm *vm)
{
    struct bt_code *code = bt_code_of(vm);

    if (code)
        pthread_mutex_unlock(&code->split_lock);
}

struct bt_code *bt_code_of(const struct vm *vm)
{
    return vm->accel == &accel_bt ? vm->accel_data : NULL;
}

struct bt_perf *bt_code_perf(const struct vm *vm)
{
    const struct bt_code *code = bt_code_of(vm);

    return code ? code->perf : NULL;
}

/* The 64-byte lines of a page that [gpa, gpa+len) touches; the range lies in one page. */
static uint64_t bt_code_lines(uint64_t gpa, uint64_t len)
{
    unsigned first = (unsigned)(gpa % PAGE_SIZE) / 64;
    unsigned last = (unsigned)(((gpa + len - 1) % PAGE_SIZE) / 64);

    return (~0ull >> (63 - last)) & (~0ull << first);
}

static struct bt_code_page *bt_code_page(struct bt_code *code, uint64_t gpa,
                                         struct ram_region **ram)
{
    for (unsigned i = 0; i < PHYSMAP_MAX; i++) {
        struct ram_region *r = code->region[i].ram;

        if (r && gpa - r->gpa < r->len && !r->hidden) {
            *ram = r;
            return &code->region[i].page[(gpa - r->gpa) >> PAGE_SHIFT];
        }
    }
    return NULL;
}

const struct bt_code_page *bt_code_page_at(const struct vm *vm, uint64_t gpa)
{
    struct bt_code *code = bt_code_of(vm);
    struct ram_region *r;

    return code ? bt_code_page(code, gpa, &r) : NULL;
}

_Static_assert(CONFIG_MAX_CPUS <= 64, "a bit each in bt_code_page.users");

static uint64_t bt_code_user(const struct bt_cpu *c)
{
    return BIT64(c->vcpu->index);
}

void bt_code_use(const struct bt_cpu *c, struct bt_code_page *page)
{
    if (!(page->users & bt_code_user(c)))
        atomic_fetch_or(&page->users, bt_code_user(c));
}

void bt_code_unuse(const struct bt_cpu *c, struct bt_code_page *page)
{
    if (page->users & bt_code_user(c))
        atomic_fetch_and(&page->users, ~bt_code_user(c));
}

/* They will compare what they have translated. */
static void bt_code_tell(struct vm *vm, uint64_t users)
{
    for (; users; users &= users - 1) {
        struct vcpu *v = vm->vcpu[__builtin_ctzll(users)];

        if (v && v->accel)
            bt_tlb_request(v->accel, BT_TLB_REQ_STALE);
    }
}

struct bt_code_page *bt_code_mark(struct bt_cpu *c, uint64_t gpa, unsigned len, uint32_t *version)
{
    struct bt_code *code = bt_code_of(c->vm);
    struct ram_region *r;
    struct bt_code_page *p = code ? bt_code_page(code, gpa, &r) : NULL;
    uint64_t lines = bt_code_lines(gpa, len), bit;
    bool fresh;

    if (!p)
        return NULL;
    *version = p->version;
    if ((p->lines & lines) == lines)
        return p;
    bit = (gpa - r->gpa) >> PAGE_SHIFT;
    pthread_mutex_lock(&code->lock);
    *version = p->version;
    p->lines |= lines;
    fresh = !bitmap_test(r->code, bit);
    bitmap_set_atomic(r->code, bit);
    pthread_mutex_unlock(&code->lock);
    if (fresh)
        bt_tlb_protect(c, gpa);
    return p;
}

/*
 * A page without code is written freely again, but not at once: code that is rewritten comes back, and to
 * have every TLB drop the page costs more than to look at some writes.
 */
static void bt_code_idle(struct bt_code *code, struct bt_code_page *p, uint64_t *bits, uint64_t bit)
{
    if (!bitmap_test(bits, bit) || ++p->idle < BT_CODE_IDLE)
        return;
    pthread_mutex_lock(&code->lock);
    if (!p->lines)
        bitmap_clear_atomic(bits, bit);
    p->idle = 0;
    pthread_mutex_unlock(&code->lock);
}

/* Whom to tell that decoded code was overwritten. */
static uint64_t bt_code_written_page(struct bt_code *code, uint64_t gpa, uint64_t len)
{
    struct ram_region *r;
    struct bt_code_page *p = bt_code_page(code, gpa, &r);

    if (!p)
        return 0;
    if (!p->lines)
        bt_code_idle(code, p, r->code, (gpa - r->gpa) >> PAGE_SHIFT);
    if (!(p->lines & bt_code_lines(gpa, len)))
        return 0;
    pthread_mutex_lock(&code->lock);
    p->lines = 0;
    p->idle = 0;
    p->version++;
    pthread_mutex_unlock(&code->lock);
    return p->users;
}

/* Not told: the bits of `knows`. */
static void bt_code_overwritten(struct vm *vm, uint64_t gpa, uint64_t len, uint64_t knows)
{
    struct bt_code *code = bt_code_of(vm);
    uint64_t users = 0;

    while (code && len) {
        uint64_t n = min_u64(len, PAGE_SIZE - gpa % PAGE_SIZE);

        users |= bt_code_written_page(code, gpa, n);
        gpa += n;
        len -= n;
    }
    bt_code_tell(vm, users & ~knows);
}

void bt_code_written(struct vm *vm, uint64_t gpa, uint64_t len)
{
    bt_code_overwritten(vm, gpa, len, 0);
}

void bt_code_written_by(const struct bt_cpu *c, uint64_t gpa, uint64_t len)
{
    bt_code_overwritten(c->vm, gpa, len, bt_code_user(c));
}

void bt_code_recheck(struct vm *vm, uint64_t gpa)
{
    struct bt_code *code = bt_code_of(vm);
    struct ram_region *r;
    struct bt_code_page *p = code ? bt_code_page(code, gpa, &r) : NULL;

    if (!p)
        return;
    pthread_mutex_lock(&code->lock);
    p->version++;
    pthread_mutex_unlock(&code->lock);
    bt_code_tell(vm, p->users);
}
