/*
 * micro_thread.c: threads: switches, locks, several of them at work.
 */
#include "micro.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct turn {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count, end;
};

struct player {
    struct turn *turn;
    uint64_t parity;
};

static void *turn_player(void *arg)
{
    struct player *p = arg;
    struct turn *t = p->turn;

    pthread_mutex_lock(&t->lock);
    while (t->count < t->end) {
        if ((t->count & 1) == p->parity) {
            t->count++;
            pthread_cond_signal(&t->changed);
        } else {
            pthread_cond_wait(&t->changed, &t->lock);
        }
    }
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Two threads take turns: futex calls and context switches without a change of page table. */
static uint64_t thread_switch(uint64_t n)
{
    struct turn t = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, n };
    struct player a = { &t, 0 }, b = { &t, 1 };
    pthread_t other;

    if (pthread_create(&other, NULL, turn_player, &b))
        micro_die("pthread_create");
    turn_player(&a);
    pthread_join(other, NULL);
    return t.count;
}

static void *thread_nothing(void *arg)
{
    return arg;
}

static uint64_t thread_create(uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        pthread_t t;
        void *back;

        if (pthread_create(&t, NULL, thread_nothing, (void *)(uintptr_t)i) ||
            pthread_join(t, &back))
            micro_die("pthread_create");
        sum += (uintptr_t)back;
    }
    return sum;
}

struct share {
    uint64_t n, seed, result;
    _Atomic uint64_t *common;
};

/* Arithmetic, a table of its own, now and then a counter of all. */
static void *work_share(void *arg)
{
    struct share *w = arg;
    uint32_t *table = calloc(1 << 14, sizeof(*table));
    uint64_t s = w->seed;

    if (!table)
        micro_die("calloc");
    for (uint64_t i = 0; i < w->n; i++) {
        uint64_t r = micro_random(&s);

        table[r >> 20 & 0x3fff] += (uint32_t)r;
        w->result += table[r >> 40 & 0x3fff] ^ i;
        if ((i & 1023) == 0)
            atomic_fetch_add(w->common, 1);
    }
    free(table);
    return NULL;
}

/* Four threads share n steps of CPU-bound work. */
static uint64_t thread_work(uint64_t n)
{
    enum { THREADS = 4 };
    _Atomic uint64_t common = 0;
    struct share w[THREADS];
    pthread_t t[THREADS];
    uint64_t sum = 0;

    for (uint64_t i = 0; i < THREADS; i++) {
        w[i] = (struct share){ n / THREADS, i * 77 + 1, 0, &common };
        if (pthread_create(&t[i], NULL, work_share, &w[i]))
            micro_die("pthread_create");
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        sum += w[i].result;
    }
    return sum + common;
}

const struct micro micro_thread[] = {
    { "thread-switch", thread_switch },
    { "thread-create", thread_create },
    { "threads", thread_work },
    { NULL, NULL },
};
