#include "mem/physmap.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"

int physmap_add(struct physmap *m, struct ram_region *r)
{
    unsigned at = 0;

    if (m->n == PHYSMAP_MAX)
        return -ENOSPC;
    while (at < m->n && m->region[at]->gpa < r->gpa)
        at++;
    if (at < m->n && m->region[at]->gpa - r->gpa < r->len)
        return -EEXIST;
    if (at && r->gpa - m->region[at - 1]->gpa < m->region[at - 1]->len)
        return -EEXIST;
    memmove(&m->region[at + 1], &m->region[at], (m->n - at) * sizeof(m->region[0]));
    m->region[at] = r;
    m->n++;
    return 0;
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
    for (unsigned i = 0; i < m->n; i++)
        if (gpa - m->region[i]->gpa < m->region[i]->len)
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
