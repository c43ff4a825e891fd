#include "mem/physmap.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"

/* Is one of the visible regions but r in the way of r? */
static bool physmap_overlaps(const struct physmap *m, const struct ram_region *r)
{
    for (unsigned i = 0; i < m->n; i++) {
        const struct ram_region *o = m->region[i];

        if (o != r && !o->hidden && (o->gpa - r->gpa < r->len || r->gpa - o->gpa < o->len))
            return true;
    }
    return false;
}

int physmap_add(struct physmap *m, struct ram_region *r)
{
    unsigned at = 0;

    if (m->n == PHYSMAP_MAX)
        return -ENOSPC;
    if (!r->hidden && physmap_overlaps(m, r))
        return -EEXIST;
    while (at < m->n && m->region[at]->gpa <= r->gpa)
        at++;
    memmove(&m->region[at + 1], &m->region[at], (m->n - at) * sizeof(m->region[0]));
    m->region[at] = r;
    m->n++;
    return 0;
}

int physmap_show(struct physmap *m, struct ram_region *r, bool visible, bool readonly)
{
    if (visible && r->hidden && physmap_overlaps(m, r))
        return -EEXIST;
    r->hidden = !visible;
    r->readonly = readonly;
    return 0;
}

void physmap_move(struct physmap *m, struct ram_region *r, uint64_t gpa)
{
    (void)m;
    BUG_ON(!r->hidden || !r->moves || gpa & ~PAGE_MASK);
    r->gpa = gpa;
}

void physmap_remove(struct physmap *m, struct ram_region *r)
{
    for (unsigned i = 0; i < m->n; i++) {
        if (m->region[i] != r)
            continue;
        m->n--;
        memmove(&m->region[i], &m->region[i + 1], (m->n - i) * sizeof(m->region[0]));
        return;
    }
}

struct ram_region *physmap_find(const struct physmap *m, uint64_t gpa)
{
    /* From the top: most of what is asked for lies in the large regions above the first MiB. */
    for (unsigned i = m->n; i-- > 0;)
        if (gpa - m->region[i]->gpa < m->region[i]->len && !m->region[i]->hidden)
            return m->region[i];
    return NULL;
}

int physmap_log_start(struct physmap *m)
{
    for (unsigned i = 0; i < m->n; i++) {
        struct ram_region *r = m->region[i];

        free(r->dirty);
        r->dirty = calloc(bitmap_words(r->len >> PAGE_SHIFT), sizeof(uint64_t));
        if (!r->dirty) {
            physmap_log_stop(m);
            return -ENOMEM;
        }
    }
    m->logging = true;
    return 0;
}

void physmap_log_stop(struct physmap *m)
{
    m->logging = false;
    for (unsigned i = 0; i < m->n; i++) {
        free(m->region[i]->dirty);
        m->region[i]->dirty = NULL;
    }
}
