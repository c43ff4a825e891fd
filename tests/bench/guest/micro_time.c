/*
 * micro_time.c: how late timers are. The figures go to /tmp/note, for they are not the same everywhere.
 */
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define NS_PER_SECOND 1000000000u

static uint64_t time_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static int time_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void time_report(uint64_t *late, uint64_t n)
{
    FILE *f = fopen("/tmp/note", "we");

    if (!f)
        micro_die("/tmp/note");
    qsort(late, n, sizeof(*late), time_compare);
    fprintf(f, "%.1f %.1f %.1f\n", (double)late[n / 2] / 1000, (double)late[n - 1 - n / 100] / 1000,
            (double)late[n - 1] / 1000);
    fclose(f);
}

/* Sleeps until moments half a millisecond to one and a half apart: in us, median, p99 and worst lateness. */
static uint64_t time_late(uint64_t n)
{
    uint64_t *late = calloc(n, sizeof(*late)), seed = 1, early = 0;

    if (!late || !n)
        micro_die("calloc");
    prctl(PR_SET_TIMERSLACK, 1);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t now, at = time_now() + 500000 + micro_random(&seed) % 1000000;
        struct timespec t = { (time_t)(at / NS_PER_SECOND), (long)(at % NS_PER_SECOND) };

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        now = time_now();
        early += now < at;
        late[i] = now < at ? 0 : now - at;
    }
    time_report(late, n);
    free(late);
    return early;
}

const struct micro micro_time[] = {
    { "timer-late", time_late },
    { NULL, NULL },
};
