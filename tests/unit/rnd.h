/*
 * rnd.h: numbers that look random and are the same in every run (Knuth's MMIX generator). Any thread, with a
 * seed of its own.
 */
#ifndef UNIT_RND_H
#define UNIT_RND_H

#include <stdint.h>

/* The next one; its low bits repeat soon, the high ones do not. */
static inline uint64_t rnd_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed;
}

#endif
