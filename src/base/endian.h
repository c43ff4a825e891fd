/*
 * endian.h: unaligned little- and big-endian loads and stores in byte buffers. Any thread.
 */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <stdint.h>
#include <string.h>

#define ENDIAN_DEFINE(bits)                                                                        \
    static inline uint##bits##_t ld_le##bits(const void *p)                                        \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return v;                                                                                  \
    }                                                                                              \
    static inline void st_le##bits(void *p, uint##bits##_t v)                                      \
    {                                                                                              \
        memcpy(p, &v, sizeof(v));                                                                  \
    }                                                                                              \
    static inline uint##bits##_t ld_be##bits(const void *p)                                        \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return __builtin_bswap##bits(v);                                                           \
    }                                                                                              \
    static inline void st_be##bits(void *p, uint##bits##_t v)                                      \
    {                                                                                              \
        v = __builtin_bswap##bits(v);                                                              \
        memcpy(p, &v, sizeof(v));                                                                  \
    }

ENDIAN_DEFINE(16)
ENDIAN_DEFINE(32)
ENDIAN_DEFINE(64)
#undef ENDIAN_DEFINE

#endif
