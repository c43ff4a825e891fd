#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "accel/bt/bt_access.h"
#include "base/endian.h"

enum { LINE = BTVM_DATA + 0x40, PAGE = BTVM_DATA + 0x1000 };

static int setup(void **state)
{
    *state = btvm_create();
    return 0;
}

static int teardown(void **state)
{
    btvm_destroy(*state);
    return 0;
}

/* RBX points at an operand that begins `before` bytes before `border` and holds val; all around is 0xee. */
static uint8_t *place(struct btvm *t, unsigned border, unsigned before, uint64_t val, unsigned size)
{
    uint8_t *p = t->ram.hva + border - before;

    memset(t->ram.hva + border - 32, 0xee, 64);
    memcpy(p, &val, size);
    btvm_mode64(t);
    t->s.gpr[X86_RBX] = border - before;
    return p;
}

static void assert_around(struct btvm *t, unsigned border, unsigned before, unsigned size)
{
    const uint8_t *p = t->ram.hva + border - 32;

    for (unsigned i = 0; i < 64; i++)
        if (i < 32 - before || i >= 32 - before + size)
            assert_int_equal(p[i], 0xee);
}

static void check_at(struct btvm *t, unsigned border, unsigned before)
{
    uint8_t *p = place(t, border, before, 0x00ffffffffffffff, 8);

    BTVM_RUN(t, 0xf0, 0x48, 0xff, 0x03); /* lock inc qword [rbx] */
    assert_int_equal(ld_le64(p), 0x0100000000000000);
    assert_false(t->s.rflags & FLAG_ZF);
    assert_around(t, border, before, 8);

    p = place(t, border, before, 0x1122334455667788, 8);
    t->s.gpr[X86_RDX] = 0x99aabbccddeeff00;
    BTVM_RUN(t, 0x48, 0x87, 0x13); /* xchg [rbx], rdx */
    assert_int_equal(ld_le64(p), 0x99aabbccddeeff00);
    assert_int_equal(t->s.gpr[X86_RDX], 0x1122334455667788);
    assert_around(t, border, before, 8);

    p = place(t, border, before, 5, 8);
    t->s.gpr[X86_RAX] = 4;
    t->s.gpr[X86_RDX] = 7;
    BTVM_RUN(t, 0xf0, 0x48, 0x0f, 0xb1, 0x13); /* lock cmpxchg [rbx], rdx: not equal */
    assert_int_equal(t->s.gpr[X86_RAX], 5);
    assert_int_equal(ld_le64(p), 5);
    t->s.rip = BTVM_CODE;
    BTVM_RUN(t, 0xf0, 0x48, 0x0f, 0xb1, 0x13);
    assert_int_equal(ld_le64(p), 7);
    assert_true(t->s.rflags & FLAG_ZF);
    assert_around(t, border, before, 8);
}

static void test_eight_bytes(void **state)
{
    for (unsigned before = 1; before < 8; before++) {
        check_at(*state, LINE, before);
        check_at(*state, PAGE, before);
    }
}

static void test_narrow(void **state)
{
    struct btvm *t = *state;
    uint8_t *p;

    for (unsigned before = 1; before < 4; before++) {
        p = place(t, LINE, before, 0x7fffffff, 4);
        t->s.gpr[X86_RDX] = 1;
        BTVM_RUN(t, 0xf0, 0x0f, 0xc1, 0x13); /* lock xadd [rbx], edx */
        assert_int_equal(ld_le32(p), 0x80000000);
        assert_int_equal(t->s.gpr[X86_RDX], 0x7fffffff);
        assert_true(t->s.rflags & FLAG_OF);
        assert_around(t, LINE, before, 4);
    }
    p = place(t, LINE, 1, 0x00ff, 2);
    BTVM_RUN(t, 0xf0, 0x66, 0x83, 0x03, 0x02); /* lock add word [rbx], 2 */
    assert_int_equal(ld_le16(p), 0x0101);
    assert_around(t, LINE, 1, 2);
    p = place(t, PAGE, 2, 0, 4);
    BTVM_RUN(t, 0xf0, 0x0f, 0xba, 0x2b, 0x1f); /* lock bts dword [rbx], 31 */
    assert_int_equal(ld_le32(p), 0x80000000);
    assert_around(t, PAGE, 2, 4);
}

/* What another vCPU stores between the read and the write is not lost, in either half. */
static void test_retry(void **state)
{
    struct btvm *t = *state;
    struct bt_insn in = { .size = 8,
                          .asize = 8,
                          .rm = BT_REG_NONE,
                          .seg = X86_DS,
                          .base = X86_RBX,
                          .index = BT_REG_NONE };

    for (unsigned at = 0; at < 8; at++) {
        uint8_t *p = place(t, LINE, 3, 0, 8);
        uint64_t *bounce;

        assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
        bounce = bt_lock(t->c, &in, 8);
        assert_ptr_equal(bounce, t->c->bounce);
        assert_int_equal(*bounce, 0);
        *bounce = ~0ull;
        p[at] = 0x77;
        assert_int_equal(bt_lock_end(t->c, &in, 8, bounce), BT_FAULT);
        assert_true(t->c->split.retry);
        t->c->split.retry = false;
        assert_int_equal(ld_le64(p), 0x77ull << 8 * at);
        assert_around(t, LINE, 3, 8);
    }
}

/* Operands that cross nothing are left to the host's own instruction. */
static void test_inside_a_line(void **state)
{
    struct btvm *t = *state;
    struct bt_insn in = { .size = 8,
                          .asize = 8,
                          .rm = BT_REG_NONE,
                          .seg = X86_DS,
                          .base = X86_RBX,
                          .index = BT_REG_NONE };

    for (unsigned before = 8; before < 16; before++) {
        uint8_t *p = place(t, LINE, before, 0, 8);

        assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
        assert_ptr_equal(bt_lock(t->c, &in, 8), p);
        assert_int_equal(bt_lock_end(t->c, &in, 8, p), 0);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_eight_bytes),
        T(test_narrow),
        T(test_retry),
        T(test_inside_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
