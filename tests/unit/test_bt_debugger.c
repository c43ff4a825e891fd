/*
 * A debugger's breakpoints, watchpoints and single steps under bt, as accel/debug.h asks for them: where
 * the vCPU stops, and what it has done by then.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_mem.h"
#include "base/endian.h"

struct fixture {
    struct btvm *t;
    struct vcpu *v;
    struct debug_points points;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = btvm_create();
    f->v = f->t->vm->vcpu[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    btvm_destroy(f->t);
    free(f);
    return 0;
}

static void point(struct fixture *f, enum debug_kind kind, uint64_t lin, uint32_t len)
{
    f->points.point[f->points.n++] = (struct debug_point){ kind, lin, len };
    f->points.version++;
}

static void apply(struct fixture *f, bool step)
{
    f->v->debug = (struct debug_vcpu){ .points = &f->points, .step = step };
    assert_int_equal(accel_bt.set_debug(f->v), 0);
}

static void put(struct fixture *f, const void *code, size_t len)
{
    memcpy(f->t->ram.hva + BTVM_CODE, code, len);
    bt_code_written(f->t->vm, BTVM_CODE, len);
    assert_int_equal(accel_bt.set_state(f->v, &f->t->s), 0);
}
#define PUT(f, ...)                                                                                \
    put(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Runs on from where it is. */
static enum run_exit go(struct fixture *f)
{
    enum run_exit why;

    do
        why = accel_bt.run(f->v);
    while (why == RUN_KICKED);
    assert_int_equal(accel_bt.get_state(f->v, &f->t->s), 0);
    return why;
}

static void expect_stop(struct fixture *f, enum debug_why why, uint64_t rip)
{
    assert_int_equal(go(f), RUN_DEBUG);
    assert_int_equal(f->v->debug.stop.why, why);
    assert_int_equal(f->t->s.rip, rip);
}

static void expect_end(struct fixture *f)
{
    assert_int_equal(go(f), RUN_SHUTDOWN); /* UD2 without an IDT */
}

/* A counted loop: the breakpoint is in the middle of what would be one block, chained to itself. */
static void test_break_in_loop(void **state)
{
    struct fixture *f = *state;

    PUT(f, 0xb9, 3, 0, 0, 0,    /* mov $3, %ecx */
        0x48, 0xff, 0xc0,       /* 5: inc %rax */
        0x48, 0xff, 0xc3,       /* 8: inc %rbx */
        0xff, 0xc9, 0x75, 0xf6, /* 11: dec %ecx; jnz 5 */
        0x0f, 0x0b);
    point(f, DEBUG_BREAK_SW, BTVM_CODE + 8, 1);
    for (unsigned i = 1; i <= 3; i++) {
        apply(f, false);
        expect_stop(f, DEBUG_STOP_BREAK, BTVM_CODE + 8);
        assert_int_equal(f->t->s.gpr[X86_RAX], i);
        assert_int_equal(f->t->s.gpr[X86_RBX], i - 1);
        expect_stop(f, DEBUG_STOP_BREAK, BTVM_CODE + 8); /* nobody stepped over it */
        apply(f, true);
        expect_stop(f, DEBUG_STOP_STEP, BTVM_CODE + 11);
    }
    apply(f, false);
    expect_end(f);
    assert_int_equal(f->t->s.gpr[X86_RBX], 3);
}

/* The block was decoded, and ran, before the breakpoint came; and runs whole after it went. */
static void test_break_set_late_and_removed(void **state)
{
    struct fixture *f = *state;

    PUT(f, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0x0f, 0x0b);
    expect_end(f);
    f->t->s.rip = BTVM_CODE;
    f->t->s.gpr[X86_RAX] = 0;
    assert_int_equal(accel_bt.set_state(f->v, &f->t->s), 0);
    point(f, DEBUG_BREAK_HW, BTVM_CODE + 3, 1);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_BREAK, BTVM_CODE + 3);
    assert_int_equal(f->v->debug.stop.kind, DEBUG_BREAK_HW);
    f->points.n = 0;
    f->points.version++;
    apply(f, false);
    assert_false(bt_debugged(f->t->c));
    expect_end(f);
    assert_int_equal(f->t->s.gpr[X86_RAX], 2);
}

/* Linear addresses, in code whose segment has a base. */
static void test_break_real_mode(void **state)
{
    struct fixture *f = *state;

    btvm_mode16(f->t);
    PUT(f, 0x40, 0x40, 0x40, 0x0f, 0x0b);
    point(f, DEBUG_BREAK_SW, BTVM_CODE + 2, 1);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_BREAK, 2);
    assert_int_equal(f->t->s.gpr[X86_RAX], 2);
}

/* Another linear address with the same place in its page is none of its business. */
static void test_break_elsewhere(void **state)
{
    struct fixture *f = *state;

    PUT(f, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0x0f, 0x0b);
    point(f, DEBUG_BREAK_SW, BTVM_CODE + 3 + PAGE_SIZE, 1);
    apply(f, false);
    expect_end(f);
    assert_int_equal(f->t->s.gpr[X86_RAX], 2);
}

/* The stop is behind the access, whether the block goes on, chains to another or is a string's iteration. */
static void test_watch_write(void **state)
{
    struct fixture *f = *state;

    f->t->s.gpr[X86_RDI] = BTVM_DATA;
    f->t->s.gpr[X86_RAX] = 0x55;
    PUT(f, 0x48, 0x8b, 0x1f,    /* mov (%rdi), %rbx: no write */
        0x88, 0x47, 0x10,       /* 3: mov %al, 0x10(%rdi): same page, other place */
        0x88, 0x47, 0x03,       /* 6: mov %al, 3(%rdi) */
        0x90,                   /* 9 */
        0x48, 0x89, 0xfc,       /* 10: mov %rdi, %rsp */
        0x48, 0x83, 0xc4, 0x08, /* 13: add $8, %rsp */
        0xe8, 1, 0, 0, 0,       /* 17: call 23: pushes onto it */
        0x90, 0x90,             /* 22, 23 */
        0x0f, 0x0b);
    point(f, DEBUG_WATCH_WRITE, BTVM_DATA, 4);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 9);
    assert_int_equal(f->v->debug.stop.lin, BTVM_DATA + 3);
    assert_int_equal(f->t->ram.hva[BTVM_DATA + 3], 0x55);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 23);
    expect_end(f);
}

static void test_watch_kinds(void **state)
{
    struct fixture *f = *state;

    f->t->s.gpr[X86_RDI] = BTVM_DATA;
    PUT(f, 0x88, 0x07,          /* mov %al, (%rdi) */
        0x8a, 0x07,             /* 2: mov (%rdi), %al */
        0x88, 0x47, 0x20,       /* 4: mov %al, 0x20(%rdi) */
        0x8a, 0x47, 0x20,       /* 7: mov 0x20(%rdi), %al */
        0xf0, 0xff, 0x47, 0x20, /* 10: lock incl 0x20(%rdi) */
        0x0f, 0x0b);
    point(f, DEBUG_WATCH_READ, BTVM_DATA, 1);
    point(f, DEBUG_WATCH_ACCESS, BTVM_DATA + 0x20, 8);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 4);
    assert_int_equal(f->v->debug.stop.kind, DEBUG_WATCH_READ);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 7);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 10);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 14);
    assert_int_equal(f->v->debug.stop.kind, DEBUG_WATCH_ACCESS);
    expect_end(f);
}

static void test_watch_string(void **state)
{
    struct fixture *f = *state;

    f->t->s.gpr[X86_RDI] = BTVM_DATA;
    f->t->s.gpr[X86_RCX] = 100;
    f->t->s.gpr[X86_RAX] = 0x77;
    PUT(f, 0xf3, 0xaa, 0x0f, 0x0b); /* rep stosb */
    point(f, DEBUG_WATCH_WRITE, BTVM_DATA + 40, 1);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE); /* between two iterations */
    assert_int_equal(f->t->s.gpr[X86_RCX], 59);
    assert_int_equal(f->t->ram.hva[BTVM_DATA + 41], 0);
    expect_end(f);
    assert_int_equal(f->t->ram.hva[BTVM_DATA + 99], 0x77);
}

/* Through vector instructions, and across a page. */
static void test_watch_wide(void **state)
{
    struct fixture *f = *state;

    f->t->s.gpr[X86_RDI] = BTVM_DATA + PAGE_SIZE - 8;
    PUT(f, 0xf3, 0x0f, 0x7f, 0x07, /* movdqu %xmm0, (%rdi) */
        0x90, 0x0f, 0x0b);
    point(f, DEBUG_WATCH_WRITE, BTVM_DATA + PAGE_SIZE + 4, 2);
    apply(f, false);
    expect_stop(f, DEBUG_STOP_WATCH, BTVM_CODE + 4);
    expect_end(f);
}

static void test_step(void **state)
{
    struct fixture *f = *state;

    f->t->s.gpr[X86_RDI] = BTVM_DATA;
    f->t->s.gpr[X86_RCX] = 2;
    PUT(f, 0x90, 0xeb, 0x01, 0x90, /* nop; jmp 4 */
        0xf3, 0xaa,                /* 4: rep stosb */
        0xf4, 0x90);               /* 6: hlt */
    for (unsigned i = 0; i < 5; i++) {
        static const uint8_t rip[] = { 1, 4, 4, 6, 7 };

        apply(f, true);
        expect_stop(f, DEBUG_STOP_STEP, BTVM_CODE + (uint64_t)rip[i]);
    }
    assert_int_equal(f->t->s.mp_state, X86_MP_HALTED);
    assert_int_equal(f->t->s.rflags & FLAG_TF, 0);
}

/* A pending interrupt does not divert a step unless that was asked for. */
static void test_step_and_interrupts(void **state)
{
    struct fixture *f = *state;

    PUT(f, 0x90, 0x90, 0x90, 0x0f, 0x0b);
    f->t->s.nmi_pending = true;
    assert_int_equal(accel_bt.set_state(f->v, &f->t->s), 0);
    apply(f, true);
    expect_stop(f, DEBUG_STOP_STEP, BTVM_CODE + 1);
    assert_true(f->t->s.nmi_pending);
    f->v->debug.step_irqs = true;
    assert_int_equal(accel_bt.set_debug(f->v), 0);
    assert_int_equal(go(f), RUN_SHUTDOWN); /* there is no IDT to deliver it through */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_break_in_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_break_set_late_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_break_real_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_break_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_kinds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_string, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_wide, setup, teardown),
        cmocka_unit_test_setup_teardown(test_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_step_and_interrupts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
