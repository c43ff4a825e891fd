/*
 * guard.c: see guard.h. A request is with its driver, or in `kept`; `retried` counts those that were kept
 * and are with their driver again.
 */
#include "block/guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { GUARD_SENTENCE = 400 };
#define GUARD_RETRY_NS 1000000000ull

struct blk_guard {
    struct blk *b;
    char *name;
    enum blk_on_error what;
    struct blk_watcher *watcher;
    struct loop_timer retry;

    struct blk_req *kept, **kept_tail;
    unsigned retried;
    bool stuck; /* the watcher was told */
};

static bool guard_wants(const struct blk_guard *g, const struct blk_req *r, int err)
{
    switch (g->what) {
    case BLK_ON_ERROR_ENOSPC:
        return r->op != BLK_READ && (err == -ENOSPC || err == -EDQUOT);
    case BLK_ON_ERROR_PAUSE:
        return err != -EINVAL && err != -EROFS && err != -ECANCELED; /* never get better */
    default:
        return false;
    }
}

static void guard_tell(struct blk_guard *g, const struct blk_req *r, int err)
{
    static const char *const verb[] = { "read from", "written to", "flushed to", "discarded on",
                                        "zeroed on" };
    bool space = err == -ENOSPC || err == -EDQUOT;
    char why[GUARD_SENTENCE];

    if (g->stuck)
        return;
    g->stuck = true;
    snprintf(
        why, sizeof(why), "disk '%.200s' cannot be %s: %s; the VM stands until it can: %s", g->name,
        verb[r->op], strerror(-err),
        space
            ? "make room, and it goes on by itself"
            : "repair it, and it goes on by itself (--on-io-error report tells the guest instead)");
    g->watcher->stuck(g->watcher, why);
}

static void guard_keep(struct blk_guard *g, struct blk_req *r, int err)
{
    r->next = NULL;
    *g->kept_tail = r;
    g->kept_tail = &r->next;
    if (!g->retried)
        loop_timer_set(&g->retry, util_monotonic_ns() + GUARD_RETRY_NS);
    guard_tell(g, r, err);
}

static struct blk_req *guard_take(struct blk_guard *g)
{
    struct blk_req *r = g->kept;

    g->kept = NULL;
    g->kept_tail = &g->kept;
    return r;
}

/* The last one that was kept has gone. */
static void guard_settle(struct blk_guard *g)
{
    if (g->retried || g->kept || !g->stuck)
        return;
    g->stuck = false;
    g->watcher->unstuck(g->watcher);
}

bool blk_guard_keeps(struct blk_guard *g, struct blk_req *r, int *err)
{
    bool again = r->flags & BLK_F_AGAIN;

    r->flags &= ~(unsigned)BLK_F_AGAIN;
    if (likely(!*err && !again))
        return false;
    if (again)
        g->retried--;
    if (*err && guard_wants(g, r, *err)) {
        guard_keep(g, r, *err);
        return true;
    }
    if (g->what == BLK_ON_ERROR_IGNORE && *err != -ECANCELED)
        *err = 0;
    if (again)
        guard_settle(g);
    return false;
}

static void guard_retry(struct loop_timer *t)
{
    struct blk_guard *g = container_of(t, struct blk_guard, retry);
    struct blk_req *r = guard_take(g);

    while (r) {
        struct blk_req *next = r->next;

        r->next = NULL;
        r->flags = (r->flags | BLK_F_AGAIN) & ~(unsigned)BLK_F_MORE;
        g->retried++;
        g->b->ops->submit(g->b, r);
        r = next;
    }
}

bool blk_guard_give_back(struct blk_guard *g)
{
    struct blk_req *r = guard_take(g);

    if (!r)
        return false;
    loop_timer_cancel(&g->retry);
    while (r) {
        struct blk_req *next = r->next;

        blk_done(r, -ECANCELED);
        r = next;
    }
    guard_settle(g);
    return true;
}

int blk_guard_add(struct blk *b, const char *name, enum blk_on_error what, struct blk_watcher *w,
                  struct err *e)
{
    struct blk_guard *g = calloc(1, sizeof(*g));

    BUG_ON(b->guard || !b->loop);
    if (!g)
        return err_set(e, ENOMEM, "out of memory");
    g->b = b;
    g->name = strdup(name);
    g->what = what;
    g->watcher = w;
    g->kept_tail = &g->kept;
    loop_timer_init(b->loop, &g->retry, guard_retry);
    b->guard = g;
    return g->name ? 0 : err_set(e, ENOMEM, "out of memory");
}

void blk_guard_destroy(struct blk_guard *g)
{
    if (!g)
        return;
    loop_timer_cancel(&g->retry);
    free(g->name);
    free(g);
}
