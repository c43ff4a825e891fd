/* REP MOVS and STOS in both directions, in pieces of pages and overlapping, against element by element. */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { AREA = BTVM_TABLES + 0x100000, AREA_LEN = 0x8000, ROUNDS = 400 };

struct strings {
    struct btvm *t;
    unsigned seed;
    uint8_t want[AREA_LEN];
};

static int set_up(void **ctx)
{
    struct strings *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = btvm_create();
    f->seed = 7;
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct strings *f = *ctx;

    btvm_destroy(f->t);
    free(f);
    return 0;
}

static uint32_t below(struct strings *f, uint32_t n)
{
    return (uint32_t)rand_r(&f->seed) % n;
}

/* One instruction; what memory must be afterwards is made in want. */
static void run(struct strings *f, bool mode32, bool movs, bool down, unsigned size)
{
    struct btvm *t = f->t;
    uint8_t *area = t->ram.hva + AREA, code[8];
    uint64_t n = below(f, 3 * PAGE_SIZE / size), span = n * size;
    int64_t step = down ? -(int64_t)size : (int64_t)size;
    uint64_t low = down && n ? span - size : 0;
    uint64_t from = PAGE_SIZE + low + below(f, 2 * PAGE_SIZE), to = PAGE_SIZE + low + below(f, 64);
    unsigned len = 0;

    mode32 ? btvm_mode32(t) : btvm_mode64(t);
    if (below(f, 2))
        to = from + below(f, 40) - 20; /* they overlap closely */
    for (unsigned i = 0; i < AREA_LEN; i++)
        area[i] = (uint8_t)below(f, 256);
    memcpy(f->want, area, AREA_LEN);
    t->s.gpr[X86_RAX] = 0x1122334455667788;
    for (uint64_t i = 0; i < n; i++) {
        int64_t off = (int64_t)i * step;

        if (movs)
            memmove(f->want + (int64_t)to + off, f->want + (int64_t)from + off, size);
        else
            memcpy(f->want + (int64_t)to + off, &t->s.gpr[X86_RAX], size);
    }
    t->s.gpr[X86_RCX] = n;
    t->s.gpr[X86_RSI] = AREA + from;
    t->s.gpr[X86_RDI] = AREA + to;
    code[len++] = down ? 0xfd : 0xfc;
    if (size == 2)
        code[len++] = 0x66;
    code[len++] = 0xf3;
    if (size == 8)
        code[len++] = 0x48;
    code[len++] = (uint8_t)((movs ? 0xa4 : 0xaa) | (size > 1));
    assert_int_equal(btvm_run(t, code, len), RUN_SHUTDOWN);
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_int_equal(t->s.gpr[X86_RDI], AREA + to + n * (uint64_t)step);
    assert_int_equal(t->s.gpr[X86_RSI], AREA + from + (movs ? n * (uint64_t)step : 0));
    assert_memory_equal(area, f->want, AREA_LEN);
}

static void test_mode64(void **ctx)
{
    struct strings *f = *ctx;

    for (unsigned i = 0; i < ROUNDS; i++)
        run(f, false, below(f, 4), below(f, 2), 1u << below(f, 4));
}

static void test_mode32(void **ctx)
{
    struct strings *f = *ctx;

    for (unsigned i = 0; i < ROUNDS; i++)
        run(f, true, below(f, 4), below(f, 2), 1u << below(f, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mode64, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mode32, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
