/*
 * micro_int.c: integer units, branches, calls.
 */
#include "micro.h"

#include <stdlib.h>
#include <string.h>

static uint64_t int_alu(uint64_t n)
{
    uint64_t a = 1, b = 2, c = 3;

    for (uint64_t i = 0; i < n; i++) {
        a = (a + b) ^ (c >> 3);
        b = (b - i) | (a << 5);
        c = (c & ~b) + (a >> 2) + i;
    }
    return a ^ b ^ c;
}

static uint64_t int_mul(uint64_t n)
{
    uint64_t a = 0x9e3779b97f4a7c15u, s = 0;

    for (uint64_t i = 0; i < n; i++) {
        __uint128_t p = (__uint128_t)a * (s | 1);

        s = (uint64_t)(p >> 64) ^ (uint64_t)p;
        a = a * 6364136223846793005u + 1442695040888963407u;
    }
    return s;
}

static uint64_t int_div(uint64_t n)
{
    uint64_t x = 0x123456789abcdefu, s = 0;

    for (uint64_t i = 1; i <= n; i++) {
        uint64_t d = micro_opaque((x >> 40) | 1);

        s += (x + i) / d + (uint32_t)x % (uint32_t)d;
        micro_random(&x);
    }
    return s;
}

/* Carries, rotations, bit counting: instructions that need the flags and the rarer ALU operations. */
static uint64_t int_bits(uint64_t n)
{
    uint64_t x = 88172645463325252u, s = 0, hi = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = micro_random(&x);

        s += (uint64_t)__builtin_ctzll(r | 1u << 20) + (uint64_t)__builtin_clzll(r | 1);
        s = (s << (r & 63)) | (s >> ((64 - (r & 63)) & 63));
        hi += (uint64_t)__builtin_add_overflow(s, r, &s);
        s ^= __builtin_bswap64(r);
    }
    return s ^ hi;
}

/* crc32, a table at a time: loads that depend on one another, bytes. */
static uint64_t int_crc(uint64_t n)
{
    static uint32_t table[256];
    unsigned char buf[4096];
    uint32_t crc = ~0u;
    uint64_t s = 1;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = (c >> 1) ^ (0xedb88320u & -(c & 1));
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (unsigned char)micro_random(&s);
    for (uint64_t r = 0; r < n; r++)
        for (size_t i = 0; i < sizeof(buf); i++)
            crc = table[(crc ^ buf[i]) & 255] ^ (crc >> 8);
    return crc;
}

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(micro_opaque(n) - 1) + fib(n - 2);
}

static uint64_t call_fib(uint64_t n)
{
    return fib(n);
}

struct shape {
    const struct shape_ops *ops;
    uint64_t a, b;
};
struct shape_ops {
    uint64_t (*area)(const struct shape *s);
};

#define SHAPE(name, expr)                                                                          \
    static __attribute__((noinline)) uint64_t name(const struct shape *s)                          \
    {                                                                                              \
        return expr;                                                                               \
    }                                                                                              \
    static const struct shape_ops name##_ops = { name };
SHAPE(area_box, s->a * s->b)
SHAPE(area_tri, s->a * s->b / 2)
SHAPE(area_sum, s->a + s->b)
SHAPE(area_dif, s->a - s->b)
SHAPE(area_xor, s->a ^ s->b)
SHAPE(area_one, s->a)
SHAPE(area_two, s->b * 2)
SHAPE(area_and, s->a & s->b)

/* Indirect calls whose target changes from call to call. */
static uint64_t call_virtual(uint64_t n)
{
    static const struct shape_ops *const all[] = { &area_box_ops, &area_tri_ops, &area_sum_ops,
                                                   &area_dif_ops, &area_xor_ops, &area_one_ops,
                                                   &area_two_ops, &area_and_ops };
    static struct shape shapes[1024];
    uint64_t s = 7, total = 0;

    for (size_t i = 0; i < 1024; i++)
        shapes[i] = (struct shape){ all[micro_random(&s) >> 20 & 7], i, s & 255 };
    for (uint64_t r = 0; r < n; r++)
        for (size_t i = 0; i < 1024; i++)
            total += shapes[i].ops->area(&shapes[i]);
    return total;
}

/* One call site, one target: what a plain callback costs. */
static uint64_t call_pointer(uint64_t n)
{
    struct shape x = { (const struct shape_ops *)micro_opaque((uintptr_t)&area_box_ops), 3, 5 };
    uint64_t total = 0;

    for (uint64_t i = 0; i < n; i++) {
        x.a = i;
        total += x.ops->area(&x);
    }
    return total;
}

enum op { OP_ADD, OP_SUB, OP_XOR, OP_SHL, OP_SHR, OP_MUL, OP_DUP, OP_LOAD, OP_STORE, OP_NOT, OPS };

/* A bytecode interpreter with a switch: one indirect jump with many targets. */
static uint64_t branch_switch(uint64_t n)
{
    enum { LENGTH = 2000 };
    static unsigned char code[LENGTH];
    uint64_t s = 99, a = 1, b = 2, mem[16] = { 0 };

    for (int i = 0; i < LENGTH; i++)
        code[i] = (unsigned char)(micro_random(&s) >> 24) % OPS;
    for (uint64_t r = 0; r < n; r++)
        for (int i = 0; i < LENGTH; i++)
            switch ((enum op)code[i]) {
            case OP_ADD:
                a += b;
                break;
            case OP_SUB:
                b -= a;
                break;
            case OP_XOR:
                a ^= b;
                break;
            case OP_SHL:
                a <<= b & 7;
                break;
            case OP_SHR:
                b >>= a & 7;
                break;
            case OP_MUL:
                a *= b | 1;
                break;
            case OP_DUP:
                b = a;
                break;
            case OP_LOAD:
                a = mem[b & 15];
                break;
            case OP_STORE:
                mem[a & 15] = b;
                break;
            case OP_NOT:
                b = ~b;
                break;
            default:
                break;
            }
    return a ^ b;
}

/* Branches that no predictor knows. */
static uint64_t branch_random(uint64_t n)
{
    uint64_t s = 12345, a = 0, b = 0, c = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t r = micro_random(&s);

        if (r & 0x100) {
            a += micro_opaque(r);
        } else {
            b ^= micro_opaque(r);
            if (r & 0x2000)
                c += micro_opaque(b);
        }
    }
    return a ^ b ^ c;
}

static int compare_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

    return (a > b) - (a < b);
}

static uint64_t sort_qsort(uint64_t n)
{
    uint64_t *v = malloc(n * sizeof(*v)), s = 5, sum = 0;

    if (!v)
        micro_die("malloc");
    for (uint64_t i = 0; i < n; i++)
        v[i] = micro_random(&s);
    qsort(v, n, sizeof(*v), compare_u64);
    for (uint64_t i = 0; i < n; i++)
        sum = sum * 31 + v[i];
    free(v);
    return sum;
}

/* Eight queens and more: deep recursion with arrays. */
static uint64_t queens(uint32_t all, uint32_t cols, uint32_t left, uint32_t right)
{
    uint64_t found = 0;

    if (cols == all)
        return 1;
    for (uint32_t free_bits = all & ~(cols | left | right); free_bits; free_bits &= free_bits - 1) {
        uint32_t bit = free_bits & -free_bits;

        found += queens(all, cols | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}

static uint64_t call_queens(uint64_t n)
{
    return queens((1u << n) - 1, 0, 0, 0);
}

const struct micro micro_int[] = {
    { "alu", int_alu },
    { "mul", int_mul },
    { "div", int_div },
    { "bits", int_bits },
    { "crc", int_crc },
    { "fib", call_fib },
    { "virtual", call_virtual },
    { "pointer", call_pointer },
    { "switch", branch_switch },
    { "random-branch", branch_random },
    { "qsort", sort_qsort },
    { "queens", call_queens },
    { NULL, NULL },
};
