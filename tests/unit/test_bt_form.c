/*
 * What is kept of an instruction's form against decoding each anew: random bytes, of which most are
 * instructions, twice with other displacements and immediates.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_form.h"
#include "accel/bt/bt_ops.h"

enum { ROUNDS = 100000, BYTES = 24 };

static int setup(void **state)
{
    *state = btvm_create();
    return *state == NULL;
}

static int teardown(void **state)
{
    btvm_destroy(*state);
    return 0;
}

static unsigned any(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (unsigned)((uint64_t)(*seed >> 8) * n >> 24);
}

static void make(unsigned *seed, uint8_t bytes[BYTES])
{
    static const uint8_t prefix[] = { 0x66, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0xf0, 0x67 };
    static const uint8_t escape[][3] = { { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a },
                                         { 0xc5 }, { 0xc4 },       { 0x62 } };
    unsigned at = 0;

    for (unsigned i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)any(seed, 256);
    while (any(seed, 4) == 0)
        bytes[at++] = prefix[any(seed, sizeof(prefix))];
    if (any(seed, 3) == 0)
        bytes[at++] = (uint8_t)(0x40 + any(seed, 16));
    if (any(seed, 2)) {
        const uint8_t *e = escape[any(seed, ARRAY_SIZE(escape))];

        bytes[at++] = e[0];
        if (e[0] == 0xc4) /* a map that exists, and no reserved bits */
            bytes[at] = (uint8_t)((bytes[at] & 0xe0) | (1 + any(seed, 3)));
        else if (e[0] == 0x62)
            bytes[at] = (uint8_t)((bytes[at] & 0xf0) | (1 + any(seed, 3)));
        else if (e[1])
            bytes[at++] = e[1];
    }
}

/* The same form with other numbers. */
static void vary(unsigned *seed, const struct bt_form_parts *p, uint8_t bytes[BYTES])
{
    unsigned n = p->disp_size + (p->imm_keyed ? 0u : p->imm_size);

    for (unsigned i = 0; i < n; i++)
        bytes[p->head + i] = (uint8_t)any(seed, 256);
}

static void assert_same_op(const struct bt_insn *a, const struct bt_insn *b)
{
    assert_ptr_equal(a->op, b->op);
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->asize, b->asize);
    assert_int_equal(a->prefix, b->prefix);
    assert_int_equal(a->reg, b->reg);
    assert_int_equal(a->rm, b->rm);
    assert_int_equal(a->seg, b->seg);
    assert_int_equal(a->base, b->base);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->scale, b->scale);
    assert_int_equal(a->disp, b->disp);
    assert_int_equal(a->imm, b->imm);
    assert_int_equal(a->imm2, b->imm2);
}

/* What makes an instruction for the translator, but for the fields that bt_jit_plan() fills in. */
static void assert_same_jit(const struct bt_jit_insn *a, const struct bt_jit_insn *b)
{
    const uint8_t now[] = { a->len,       a->kind,      a->encoding, a->prefix, a->opcode,
                            a->modrm,     a->imm,       a->p66,      a->lock,   a->rep,
                            a->rex,       a->word,      a->size,     a->cc,     a->mem,
                            a->mem_read,  a->mem_write, a->asize,    a->seg,    a->base,
                            a->index,     a->scale,     a->fpu,      a->faults, a->x87,
                            a->high_swap, a->fldcw };
    const uint8_t was[] = { b->len,       b->kind,      b->encoding, b->prefix, b->opcode,
                            b->modrm,     b->imm,       b->p66,      b->lock,   b->rep,
                            b->rex,       b->word,      b->size,     b->cc,     b->mem,
                            b->mem_read,  b->mem_write, b->asize,    b->seg,    b->base,
                            b->index,     b->scale,     b->fpu,      b->faults, b->x87,
                            b->high_swap, b->fldcw };

    assert_memory_equal(now, was, sizeof(now));
    assert_memory_equal(a->slot, b->slot, sizeof(a->slot));
    assert_int_equal(a->value, b->value);
    if (a->mem)
        assert_int_equal(a->disp, b->disp);
    assert_int_equal(a->mem_size, b->mem_size);
    assert_int_equal(a->writes, b->writes);
    assert_int_equal(a->flags_use, b->flags_use);
    assert_int_equal(a->flags_def, b->flags_def);
    assert_int_equal(a->flags_change, b->flags_change);
}

static void forget(struct bt_cpu *c, const struct bt_form_parts *p, const uint8_t *bytes)
{
    struct bt_form *f = bt_form_at(c, bytes, p, false);

    f->has_op = f->has_jit = false;
}

/* Decodes bytes as they are kept and as they are anew; true: something was kept. */
static bool compare(struct bt_cpu *c, const struct bt_form_parts *p, const uint8_t *bytes)
{
    bool has = bt_form_at(c, bytes, p, false)->has_op;
    struct bt_jit_insn jit, jit_anew;
    struct bt_insn in, anew;
    unsigned flags, flags_anew;

    assert_int_equal(bt_decode(c, bytes, BYTES, &in, &flags), BT_DECODE_OK);
    assert_true(bt_jit_decode(c, bytes, BYTES, &jit));
    forget(c, p, bytes);
    assert_int_equal(bt_decode(c, bytes, BYTES, &anew, &flags_anew), BT_DECODE_OK);
    assert_true(bt_jit_decode(c, bytes, BYTES, &jit_anew));
    assert_same_op(&in, &anew);
    assert_int_equal(flags, flags_anew);
    assert_same_jit(&jit, &jit_anew);
    return has;
}

static void run(struct btvm *t)
{
    unsigned seed = 1, kept = 0;

    assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct bt_form_parts p;
        struct bt_jit_insn jit;
        uint8_t bytes[BYTES];
        struct bt_insn in;
        unsigned flags;

        make(&seed, bytes);
        if (!bt_form_scan(bytes, BYTES, t->c->code_size, &p))
            continue;
        forget(t->c, &p, bytes);
        (void)bt_decode(t->c, bytes, BYTES, &in, &flags);
        (void)bt_jit_decode(t->c, bytes, BYTES, &jit);
        vary(&seed, &p, bytes);
        kept += compare(t->c, &p, bytes);
    }
    assert_true(kept > ROUNDS / 10);
}

static void test_64(void **state)
{
    run(*state);
}

static void test_32(void **state)
{
    struct btvm *t = *state;

    btvm_mode32(t);
    run(t);
}

/* An instruction of which the end is missing is no other, shorter one. */
static void test_cut(void **state)
{
    static const uint8_t mov[] = { 0x48, 0xc7, 0x84, 0x24, 0x10, 0, 0, 0, 1, 2, 3, 4 };
    struct btvm *t = *state;
    struct bt_form_parts p;
    struct bt_insn in;
    unsigned flags;

    assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
    assert_int_equal(bt_decode(t->c, mov, sizeof(mov), &in, &flags), BT_DECODE_OK);
    assert_true(bt_form_scan(mov, sizeof(mov), 8, &p));
    for (size_t n = 1; n < sizeof(mov); n++) {
        assert_false(bt_form_scan(mov, n, 8, &p));
        assert_int_equal(bt_decode(t->c, mov, n, &in, &flags), BT_DECODE_MORE);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_64),
        T(test_32),
        T(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
