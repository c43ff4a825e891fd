/*
 * code32.c: a 32-bit program without a library: what compatibility mode costs. Addresses and stack
 * arguments of 32 bits, 64-bit arithmetic in pairs, int 0x80. usage: code32
 */
#include <stdint.h>

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_GETPID = 20, ROUNDS = 180, WORDS = 1 << 16, CALLS = 60000 };

static uint32_t table[WORDS];

static int call(int number, int a, const void *b, int c)
{
    int result;

    __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static __attribute__((noinline)) uint32_t mix(uint32_t a, uint32_t b, uint32_t c)
{
    return (a << 7 | a >> 25) + (b ^ c);
}

void _start(void);

void __attribute__((force_align_arg_pointer)) _start(void)
{
    uint64_t wide = 1;
    uint32_t x = 1;
    char text[9];

    for (int r = 0; r < ROUNDS; r++)
        for (uint32_t i = 0; i < WORDS; i++) {
            x = mix(x, table[(x >> 5) % WORDS], i);
            table[i] += x;
            wide = wide * 3 + x;
        }
    for (int i = 0; i < CALLS; i++)
        call(SYS_GETPID, 0, 0, 0);
    x ^= (uint32_t)(wide >> 32) ^ (uint32_t)wide;
    for (int i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[x >> (28 - 4 * i) & 15];
    text[8] = '\n';
    call(SYS_WRITE, 1, text, 9);
    call(SYS_EXIT, 0, 0, 0);
    for (;;)
        continue;
}
