/*
 * micro_mem.c: caches, TLBs, copying, strings, atomics.
 */
#include "micro.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t n)
{
    void *p = malloc(n);

    if (!p)
        micro_die("malloc");
    memset(p, 1, n);
    return p;
}

/* A cycle through `count` cells of 64 bytes, in random order. */
static uint64_t chase(uint64_t n, size_t count)
{
    uint64_t *cells = allocate(count * 64), s = 3, at = 0;
    size_t *order = allocate(count * sizeof(*order));

    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = micro_random(&s) % (i + 1), t = order[i];

        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < count; i++)
        cells[order[i] * 8] = order[(i + 1) % count] * 8;
    for (uint64_t i = 0; i < n; i++)
        at = cells[at];
    free(order);
    free(cells);
    return at;
}

static uint64_t mem_chase_l1(uint64_t n)
{
    return chase(n, 256);
}

static uint64_t mem_chase_big(uint64_t n)
{
    return chase(n, (32u << 20) / 64);
}

/* Independent random accesses to 32 MiB: TLB misses, no dependence. */
static uint64_t mem_random(uint64_t n)
{
    enum { WORDS = 4 << 20 };
    uint64_t *v = allocate(WORDS * sizeof(*v)), s = 11, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = micro_random(&s);

        v[r >> 30 & (WORDS - 1)] += r;
        sum += v[r >> 7 & (WORDS - 1)];
    }
    free(v);
    return sum;
}

static uint64_t mem_sum(uint64_t n)
{
    enum { WORDS = 1 << 17 };
    uint64_t *v = allocate(WORDS * sizeof(*v)), sum = 0;

    for (uint64_t r = 0; r < n; r++)
        for (size_t i = 0; i < WORDS; i++) {
            sum = (sum ^ v[i]) + i;
            v[i] = sum >> 1;
        }
    free(v);
    return sum;
}

static uint64_t mem_copy_small(uint64_t n)
{
    char *from = allocate(4096), *to = allocate(4096);
    uint64_t s = 1, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = micro_random(&s);

        memcpy(to + (r >> 8 & 1023), from + (r >> 20 & 1023), micro_opaque(r & 127));
        sum += (unsigned char)to[r >> 40 & 1023];
    }
    free(from);
    free(to);
    return sum;
}

static uint64_t mem_copy_large(uint64_t n)
{
    enum { BYTES = 4 << 20 };
    unsigned char *from = allocate(BYTES), *to = allocate(BYTES);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        from[i % BYTES] = (unsigned char)i;
        memcpy(to, from, micro_opaque(BYTES));
        sum += to[i % BYTES];
    }
    free(from);
    free(to);
    return sum;
}

static uint64_t mem_rep(uint64_t n)
{
    enum { BYTES = 3000 };
    unsigned char *from = allocate(1 << 16), *to = allocate(1 << 16);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        void *d = to + (i * 61 & 0x3fff), *s = from + (i * 17 & 0x3fff);
        size_t c = BYTES;

        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
        d = from + (i * 13 & 0x3fff);
        c = BYTES;
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(c) : "a"((int)(i & 255)) : "memory");
        sum += to[i & 0x3fff];
    }
    free(from);
    free(to);
    return sum;
}

static uint64_t mem_strings(uint64_t n)
{
    char *text = allocate(8192);
    uint64_t s = 1, sum = 0;

    for (size_t i = 0; i < 8191; i++)
        text[i] = (char)('a' + (micro_random(&s) >> 11) % 26);
    text[8191] = '\0';
    for (uint64_t i = 0; i < n; i++) {
        size_t at = i * 37 & 4095;

        sum += strlen(text + at);
        sum += (size_t)(strchr(text + at, 'q') - text);
        sum += (uint64_t)(strncmp(text + at, text + 4096, 16) > 0);
        sum += strstr(text + at, "zqx") != NULL;
    }
    free(text);
    return sum;
}

/* malloc and free of mixed sizes. */
static uint64_t mem_malloc(uint64_t n)
{
    enum { SLOTS = 512 };
    static void *slots[SLOTS];
    uint64_t s = 21, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = micro_random(&s);
        size_t slot = r >> 9 & (SLOTS - 1), size = 16 + (r >> 30 & 1023);
        unsigned char *p;

        free(slots[slot]);
        slots[slot] = p = malloc(size);
        if (!p)
            micro_die("malloc");
        p[0] = p[size - 1] = (unsigned char)r;
        sum += p[0];
    }
    return sum;
}

static uint64_t mem_atomic(uint64_t n)
{
    _Atomic uint64_t x = 0, y = 1;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t old = atomic_fetch_add(&x, i);

        atomic_compare_exchange_strong(&y, &old, old + 1);
        atomic_exchange(&y, i);
        atomic_fetch_or(&x, 1);
    }
    return x ^ y;
}

static uint64_t mem_sieve(uint64_t n)
{
    unsigned char *composite = allocate(n + 1);
    uint64_t count = 0;

    memset(composite, 0, n + 1);
    for (uint64_t i = 2; i <= n; i++) {
        if (composite[i])
            continue;
        count++;
        for (uint64_t k = i * i; k <= n; k += i)
            composite[k] = 1;
    }
    free(composite);
    return count;
}

const struct micro micro_mem[] = {
    { "chase-l1", mem_chase_l1 },
    { "chase-big", mem_chase_big },
    { "random-access", mem_random },
    { "sum", mem_sum },
    { "copy-small", mem_copy_small },
    { "copy-large", mem_copy_large },
    { "rep", mem_rep },
    { "strings", mem_strings },
    { "malloc", mem_malloc },
    { "atomic", mem_atomic },
    { "sieve", mem_sieve },
    { NULL, NULL },
};
