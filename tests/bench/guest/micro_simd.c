/*
 * micro_simd.c: vector units and crypto instructions. AVX2 and SHA are replaced by plain code with the same
 * result where the CPU has none (TCG has no SHA), as libraries do.
 */
#include "micro.h"

#include <immintrin.h>
#include <string.h>

static uint64_t fold(const void *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

/* Sums of absolute differences, shuffles, compares: integer SSE2 and SSSE3. */
static __attribute__((target("ssse3"))) uint64_t simd_sse_int(uint64_t n)
{
    static unsigned char a[4096], b[4096];
    __m128i mix = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    __m128i acc = _mm_setzero_si128(), x = _mm_set1_epi8(1);
    unsigned char out[16];

    for (size_t i = 0; i < sizeof(a); i++) {
        a[i] = (unsigned char)(i * 7);
        b[i] = (unsigned char)(i * 13 + 5);
    }
    for (uint64_t r = 0; r < n; r++)
        for (size_t i = 0; i < sizeof(a); i += 16) {
            __m128i va = _mm_loadu_si128((const __m128i *)(a + i));
            __m128i vb = _mm_loadu_si128((const __m128i *)(b + i));
            __m128i m = _mm_cmpgt_epi8(va, vb);

            acc = _mm_add_epi64(acc, _mm_sad_epu8(va, vb));
            x = _mm_xor_si128(_mm_shuffle_epi8(_mm_adds_epu8(x, va), mix), _mm_and_si128(m, vb));
        }
    acc = _mm_xor_si128(acc, x);
    _mm_storeu_si128((__m128i *)out, acc);
    return fold(out, sizeof(out));
}

static void saxpy_plain(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = __builtin_fmaf(x[i], 0.5f, y[i] * 0.75f);
}

static __attribute__((target("avx2,fma"))) void saxpy_avx2(float *y, const float *x, size_t n)
{
    __m256 half = _mm256_set1_ps(0.5f), most = _mm256_set1_ps(0.75f);

    for (size_t i = 0; i < n; i += 8) {
        __m256 vy = _mm256_mul_ps(_mm256_loadu_ps(y + i), most);

        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(_mm256_loadu_ps(x + i), half, vy));
    }
}

static uint64_t simd_avx2(uint64_t n)
{
    static float x[4096], y[4096];
    void (*saxpy)(float *, const float *, size_t) =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? saxpy_avx2 : saxpy_plain;

    for (size_t i = 0; i < 4096; i++)
        x[i] = (float)i;
    for (uint64_t r = 0; r < n; r++)
        saxpy(y, x, 4096);
    return fold(y, sizeof(y));
}

/* AES rounds, four streams at a time as counter mode has them. */
static __attribute__((target("aes,sse4.1"))) uint64_t simd_aes(uint64_t n)
{
    __m128i k = _mm_set_epi64x(0x0123456789abcdef, 0x0fedcba987654321), x[4];
    unsigned char out[16];

    if (!__builtin_cpu_supports("aes"))
        return 0;
    for (int i = 0; i < 4; i++)
        x[i] = _mm_set1_epi32(i + 1);
    for (uint64_t r = 0; r < n; r++)
        for (int i = 0; i < 4; i++)
            x[i] = _mm_aesenclast_si128(_mm_aesenc_si128(_mm_aesenc_si128(x[i], k), k), k);
    _mm_storeu_si128((__m128i *)out,
                     _mm_xor_si128(_mm_xor_si128(x[0], x[1]), _mm_xor_si128(x[2], x[3])));
    return fold(out, sizeof(out));
}

static __attribute__((target("pclmul,sse4.1"))) uint64_t simd_clmul(uint64_t n)
{
    __m128i h = _mm_set_epi64x(0x66e94bd4ef8a2c3b, 0x1884cfa59cadd13e), x = _mm_set1_epi32(7);
    unsigned char out[16];

    if (!__builtin_cpu_supports("pclmul"))
        return 0;
    for (uint64_t r = 0; r < n; r++) {
        __m128i lo = _mm_clmulepi64_si128(x, h, 0x00), hi = _mm_clmulepi64_si128(x, h, 0x11);

        x = _mm_xor_si128(_mm_alignr_epi8(hi, lo, 8), _mm_xor_si128(lo, _mm_srli_epi64(hi, 1)));
    }
    _mm_storeu_si128((__m128i *)out, x);
    return fold(out, sizeof(out));
}

static int has_sha(void)
{
    unsigned a = 7, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b >> 29 & 1;
}

struct sha_state {
    uint32_t s0[4], s1[4], m0[4], m1[4];
};

static __attribute__((target("sha,sse4.1"))) void sha_native(struct sha_state *h, uint64_t n)
{
    __m128i s0 = _mm_loadu_si128((__m128i *)h->s0), s1 = _mm_loadu_si128((__m128i *)h->s1);
    __m128i m0 = _mm_loadu_si128((__m128i *)h->m0), m1 = _mm_loadu_si128((__m128i *)h->m1);

    for (uint64_t r = 0; r < n; r++) {
        s1 = _mm_sha256rnds2_epu32(s1, s0, m0);
        m0 = _mm_sha256msg1_epu32(m0, m1);
        s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(m0, 0x0e));
        m1 = _mm_sha256msg2_epu32(m1, m0);
    }
    _mm_storeu_si128((__m128i *)h->s0, s0);
    _mm_storeu_si128((__m128i *)h->s1, s1);
    _mm_storeu_si128((__m128i *)h->m0, m0);
    _mm_storeu_si128((__m128i *)h->m1, m1);
}

static uint32_t ror(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* SHA256RNDS2: cdgh (becomes the result), abef, two words with their constants. */
static void sha_rounds(uint32_t cdgh[4], const uint32_t abef[4], uint32_t w0, uint32_t w1)
{
    uint32_t a = abef[3], b = abef[2], e = abef[1], f = abef[0];
    uint32_t c = cdgh[3], d = cdgh[2], g = cdgh[1], h = cdgh[0];

    for (int i = 0; i < 2; i++) {
        uint32_t t =
            h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + (i ? w1 : w0);
        uint32_t u = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

        h = g, g = f, f = e, e = d + t;
        d = c, c = b, b = a, a = t + u;
    }
    cdgh[3] = a, cdgh[2] = b, cdgh[1] = e, cdgh[0] = f;
}

static void sha_plain(struct sha_state *h, uint64_t n)
{
    for (uint64_t r = 0; r < n; r++) {
        uint32_t next[4] = { h->m0[1], h->m0[2], h->m0[3], h->m1[0] };

        sha_rounds(h->s1, h->s0, h->m0[0], h->m0[1]);
        for (int i = 0; i < 4; i++) /* SHA256MSG1 */
            h->m0[i] += ror(next[i], 7) ^ ror(next[i], 18) ^ next[i] >> 3;
        sha_rounds(h->s0, h->s1, h->m0[2], h->m0[3]);
        for (int i = 0; i < 4; i++) { /* SHA256MSG2 */
            uint32_t w = i < 2 ? h->m0[i | 2] : h->m1[i & 1];

            h->m1[i] += ror(w, 17) ^ ror(w, 19) ^ w >> 10;
        }
    }
}

static uint64_t simd_sha(uint64_t n)
{
    struct sha_state h;

    for (uint32_t i = 0; i < 4; i++) {
        h.s0[i] = 0x6a09e667 + i;
        h.s1[i] = 0x3c6ef372;
        h.m0[i] = 1 + i;
        h.m1[i] = 2;
    }
    if (has_sha())
        sha_native(&h, n);
    else
        sha_plain(&h, n);
    return fold(&h, sizeof(h));
}

const struct micro micro_simd[] = {
    { "sse-int", simd_sse_int }, { "avx2", simd_avx2 }, { "aes", simd_aes },
    { "clmul", simd_clmul },     { "sha", simd_sha },   { NULL, NULL },
};
