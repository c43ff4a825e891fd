/*
 * util.h: small macros and helpers that everything uses. No state, any thread.
 */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                          (1u << (n))
#define BIT64(n)                        (1ull << (n))
#define must_check                      __attribute__((warn_unused_result))
#define printf_like(fmt, args)          __attribute__((format(printf, fmt, args)))
#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)
#define fallthrough                     __attribute__((fallthrough))

/* Checked arithmetic (C23 names): true on overflow. */
#define ckd_add(r, a, b) __builtin_add_overflow(a, b, r)
#define ckd_sub(r, a, b) __builtin_sub_overflow(a, b, r)
#define ckd_mul(r, a, b) __builtin_mul_overflow(a, b, r)

/* We are wrong: print where and abort. Always compiled in; cond has no side effects. */
#define BUG_ON(cond)                                                                               \
    do {                                                                                           \
        if (unlikely(cond))                                                                        \
            util_bug(__FILE__, __LINE__, #cond);                                                   \
    } while (0)
_Noreturn void util_bug(const char *file, int line, const char *cond);

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    PAGE_SHIFT = 12,
    PAGE_SIZE = 4096,
};
#define GIB       (1ull << 30)
#define PAGE_MASK (~0xfffull)

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline bool is_pow2(uint64_t v)
{
    return v && !(v & (v - 1));
}

/* align is a power of two. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

/*
 * A full memory fence between us and the guest. Not the compiler's: ThreadSanitizer does not support that one,
 * and guest code is outside of its view anyway.
 */
static inline void util_fence(void)
{
    __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

/* Closes *fd if it is open and sets it to -1; errno is preserved. */
void util_close(int *fd);

/* Parses "512", "512K", "2G", "1.5GiB", ...: bytes. 0, or -EINVAL (not a size), -ERANGE. */
must_check int util_parse_size(const char *text, uint64_t *bytes);

/* Writes all of buf to fd, through short writes and EINTR. 0 or -errno. */
must_check int util_write_all(int fd, const void *buf, size_t len);

/* Host CLOCK_MONOTONIC / CLOCK_REALTIME in ns. */
uint64_t util_monotonic_ns(void);
uint64_t util_realtime_ns(void);

#endif
