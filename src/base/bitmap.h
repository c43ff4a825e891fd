/*
 * bitmap.h: bit arrays in 64-bit words; the atomic forms may race with each other, the rest not.
 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t bitmap_words(uint64_t bits)
{
    return (size_t)((bits + 63) / 64);
}

static inline bool bitmap_test(const uint64_t *map, uint64_t bit)
{
    return __atomic_load_n(&map[bit / 64], __ATOMIC_RELAXED) >> (bit % 64) & 1;
}

static inline void bitmap_set_atomic(uint64_t *map, uint64_t bit)
{
    uint64_t mask = 1ull << (bit % 64);

    if (!(__atomic_load_n(&map[bit / 64], __ATOMIC_RELAXED) & mask))
        __atomic_fetch_or(&map[bit / 64], mask, __ATOMIC_ACQ_REL);
}

static inline void bitmap_clear_atomic(uint64_t *map, uint64_t bit)
{
    __atomic_fetch_and(&map[bit / 64], ~(1ull << (bit % 64)), __ATOMIC_ACQ_REL);
}

#endif
