/*
 * suggest.c: "did you mean": the nearest of a few names by edit distance, and by common beginnings.
 */
#include <string.h>

#include "cmd/cmd.h"

enum { SUGGEST_MAX = 32, SUGGEST_DISTANCE = 2 };

/* Insertions, deletions and replacements from a to b, both shorter than SUGGEST_MAX. */
static unsigned suggest_distance(const char *a, const char *b)
{
    unsigned row[SUGGEST_MAX + 1], n = (unsigned)strlen(b);

    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

const char *cmd_suggest(const char *typed, const char *const *known, size_t n)
{
    const char *nearest = NULL;
    unsigned best = SUGGEST_DISTANCE + 1;

    if (strlen(typed) < 2 || strlen(typed) >= SUGGEST_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned d;

        if (strlen(known[i]) >= SUGGEST_MAX)
            continue;
        d = suggest_distance(typed, known[i]);
        if (d >= best && !strncmp(typed, known[i], strlen(typed)))
            d = SUGGEST_DISTANCE; /* an unfinished word */
        if (d < best) {
            best = d;
            nearest = known[i];
        }
    }
    return nearest;
}
