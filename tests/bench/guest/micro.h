/*
 * micro.h: the small cases of the benchmark. Each does one thing N times and returns a checksum, which has
 * to be the same wherever it runs; whatever times it times the whole process.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stddef.h>
#include <stdint.h>

struct micro {
    const char *name;
    uint64_t (*run)(uint64_t n);
};

/* A table each, ended by a NULL name. */
extern const struct micro micro_int[]; /* integer units, branches, calls */
extern const struct micro micro_mem[]; /* caches, TLBs, copying, atomics */
extern const struct micro micro_fp[];  /* x87, scalar and autovectorized floating point */
extern const struct micro
    micro_simd[];                     /* AVX2, AES, SHA, carry-less products, if the CPU has them */
extern const struct micro micro_os[]; /* system calls, processes, signals, timers, page tables */
extern const struct micro micro_time[];   /* lateness of timers */
extern const struct micro micro_thread[]; /* threads: switches, locks, several of them at work */

/* Ends the process with a message: something that must not fail failed. */
_Noreturn void micro_die(const char *what);

/* The value, without the compiler knowing it. */
static inline uint64_t micro_opaque(uint64_t x)
{
    __asm__ volatile("" : "+r"(x));
    return x;
}

/* xorshift64: the same stream everywhere. */
static inline uint64_t micro_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

#endif
