#include "cmd/progress.h"

#include <stdio.h>
#include <unistd.h>

enum { PROGRESS_WIDTH = 40, PROGRESS_ALL = 1000, PROGRESS_NONE = PROGRESS_ALL + 1 };

void progress_start(struct progress *p, bool asked, bool quiet)
{
    bool terminal = isatty(STDERR_FILENO);

    *p = (struct progress){ .on = !quiet && (asked || terminal),
                            .bar = terminal,
                            .last = PROGRESS_NONE,
                            .started_ns = util_monotonic_ns() };
}

static void progress_draw(const struct progress *p, unsigned tenths)
{
    char bar[PROGRESS_WIDTH + 1];
    uint64_t ns = util_monotonic_ns() - p->started_ns;
    uint64_t left = tenths ? ns / tenths * (PROGRESS_ALL - tenths) / 1000000000u : 0;

    if (!p->bar) {
        fprintf(stderr, "    (%u.%u0/100%%)\r", tenths / 10, tenths % 10);
        return;
    }
    for (unsigned i = 0; i < PROGRESS_WIDTH; i++)
        bar[i] = i * PROGRESS_ALL < tenths * PROGRESS_WIDTH ? '=' : ' ';
    bar[PROGRESS_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %3u %%", bar, tenths / 10);
    if (tenths && tenths < PROGRESS_ALL)
        fprintf(stderr, ", %u:%02u left ", (unsigned)(left / 60), (unsigned)(left % 60));
    else
        fprintf(stderr, "            ");
}

void progress_show(void *opaque, uint64_t done, uint64_t total)
{
    struct progress *p = opaque;
    unsigned tenths = total ? (unsigned)((uint128)done * PROGRESS_ALL / total) : PROGRESS_ALL;

    if (!p->on || tenths == p->last)
        return;
    p->last = tenths;
    p->drawn = true;
    progress_draw(p, tenths);
    fflush(stderr);
}

void progress_end(struct progress *p, bool complete)
{
    if (p->on && complete)
        progress_show(p, 1, 1);
    if (p->drawn)
        fputc('\n', stderr);
}
