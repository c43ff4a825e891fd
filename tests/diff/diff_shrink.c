/*
 * diff_shrink.c: the shortest and plainest program that still shows a difference: items are taken out, by
 * halves at first, then everything is set to its simplest value, as long as the difference stays.
 */
#include "diff.h"

#include <string.h>

struct diff_shrink {
    struct diff_program *best, try; /* what shows it; what may */
    diff_shows_fn shows;
    void *ctx;
};

static struct diff_program *shrink_begin(struct diff_shrink *s)
{
    s->try = *s->best;
    return &s->try;
}

/* Keeps what was tried if the difference is still there. */
static bool shrink_end(struct diff_shrink *s)
{
    diff_program_lay_out(&s->try);
    if (!s->shows(s->ctx, &s->try))
        return false;
    *s->best = s->try;
    return true;
}

static bool shrink_drop(struct diff_shrink *s, unsigned first, unsigned n)
{
    struct diff_program *p = shrink_begin(s);
    bool any = false;

    for (unsigned i = first; i < first + n && i < p->items; i++) {
        any |= !p->item[i].dropped;
        p->item[i].dropped = true;
    }
    return any && shrink_end(s);
}

/* Jumps to the next item do as well; what they led around may then go. */
static bool shrink_near(struct diff_shrink *s, unsigned i)
{
    struct diff_program *p = shrink_begin(s);
    struct diff_item *it = &p->item[i];
    const bool backward = it->to <= i;

    if (it->dropped || it->fix == DIFF_FIX_NONE || it->fix == DIFF_FIX_PATCH)
        return false;
    if (it->to == (backward ? i : i + 1))
        return false;
    it->to = (uint8_t)(backward ? i : i + 1);
    return shrink_end(s);
}

static bool shrink_items(struct diff_shrink *s)
{
    bool changed = false;

    for (unsigned n = s->best->items; n; n /= 2)
        for (unsigned i = 0; i < s->best->items; i += n)
            changed |= shrink_drop(s, i, n);
    for (unsigned i = 0; i < s->best->items; i++)
        changed |= shrink_near(s, i);
    return changed;
}

static void shrink_loops(struct diff_shrink *s)
{
    for (unsigned i = 0; i < s->best->loops; i++) {
        for (uint8_t n = 0; n < s->best->loop[i]; n = (uint8_t)(n ? 2 * n : 1)) {
            shrink_begin(s)->loop[i] = n;
            if (shrink_end(s))
                break;
        }
    }
}

static void shrink_registers(struct diff_shrink *s)
{
    static const uint64_t values[] = { 0, 1, 0x10000000 + PAGE_SIZE };

    for (unsigned r = 0; r < 16; r++) {
        for (size_t k = 0; k < ARRAY_SIZE(values) && s->best->regs.gpr[r] != values[k]; k++) {
            shrink_begin(s)->regs.gpr[r] = values[k];
            if (shrink_end(s))
                break;
        }
    }
    shrink_begin(s)->regs.rflags = FLAG_1 | FLAG_IF;
    shrink_end(s);
    memset(shrink_begin(s)->regs.xsave + 160, 0, 256);
    shrink_end(s);
}

void diff_shrink(struct diff_program *p, diff_shows_fn shows, void *ctx)
{
    struct diff_shrink s = { .best = p, .shows = shows, .ctx = ctx };

    while (shrink_items(&s))
        ;
    shrink_loops(&s);
    shrink_registers(&s);
    shrink_begin(&s)->plain = true;
    shrink_end(&s);
    shrink_begin(&s)->cold = true;
    shrink_end(&s);
    shrink_begin(&s)->offset = 0;
    shrink_end(&s);
    while (shrink_items(&s))
        ;
}
