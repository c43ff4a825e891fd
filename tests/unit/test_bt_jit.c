/*
 * Translated code where it can go wrong: code that changes, mappings that change, kicks, faults in the
 * middle of a unit. All loops run often enough to be translated.
 */
#include "btvm.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_sys.h"
#include "base/endian.h"

enum {
    LIN = 0x200000, /* two pages that the tests map themselves, */
    FUNC = 0x40000, /* and what may be behind them */
    FUNC2 = 0x41000,
    TABLES2 = BTVM_TABLES + 0x4000, /* a second address space */
    N = 200,                        /* rounds of most loops */
    SUM = N * (N + 1) / 2,
    PTE = 3,
};
#define MOV_ECX_N 0xb9, N, 0, 0, 0

struct test {
    void (*run)(void **state);
};

/* The vCPU is made here, for cmocka takes its signal handlers over between a test and its set-up. */
static void in_vm(void **state)
{
    const struct test *test = *state;
    void *t;

    t = btvm_create();
    test->run(&t);
    btvm_destroy(t);
}

static void assert_translated(const struct btvm *t)
{
    assert_true(t->c->jit->translated > 0);
}

static void put(struct btvm *t, uint64_t gpa, const void *code, size_t len)
{
    memcpy(t->ram.hva + gpa, code, len);
    bt_code_written(t->vm, gpa, len);
}
#define PUT(t, gpa, ...)                                                                           \
    put(t, gpa, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Linear LIN and the page behind it by 4K entries; 0: not present. */
static void map(struct btvm *t, uint64_t tables, uint64_t first, uint64_t second)
{
    uint8_t *p = t->ram.hva + tables;

    st_le64(p, (tables + 0x1000) | PTE);
    st_le64(p + 0x1000, (tables + 0x2000) | PTE);
    st_le64(p + 0x2000, 0x83);
    st_le64(p + 0x2008, (tables + 0x3000) | PTE);
    st_le64(p + 0x3000, first);
    st_le64(p + 0x3008, second);
}

/* Functions that return 1 and 2. */
static void put_functions(struct btvm *t)
{
    PUT(t, FUNC, 0xb8, 1, 0, 0, 0, 0xc3);
    PUT(t, FUNC2, 0xb8, 2, 0, 0, 0, 0xc3);
    t->s.gpr[X86_RDI] = LIN;
}

/* --- code that changes --- */
static void test_next_instruction_changes(void **state)
{
    struct btvm *t = *state;

    BTVM_RUN(t, MOV_ECX_N,           /* */
             0x88, 0x0d, 1, 0, 0, 0, /* 1: mov [rip + 1], cl */
             0xb0, 0,                /* mov al, 0: is written each time */
             0x01, 0xc3,             /* add ebx, eax */
             0xff, 0xc9,             /* dec ecx */
             0x75, 0xf2);            /* jnz 1b */
    assert_int_equal(t->s.gpr[X86_RBX], SUM);
}

static void test_later_instruction_changes(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RDX] = 0;
    BTVM_RUN(t, MOV_ECX_N,           /* */
             0x88, 0x0d, 4, 0, 0, 0, /* 1: mov [rip + 4], cl */
             0x48, 0xff, 0xc2,       /* inc rdx */
             0xb0, 0,                /* mov al, 0 */
             0x01, 0xc3,             /* add ebx, eax */
             0xff, 0xc9,             /* dec ecx */
             0x75, 0xef);            /* jnz 1b */
    assert_int_equal(t->s.gpr[X86_RBX], SUM);
    assert_int_equal(t->s.gpr[X86_RDX], N);
}

static void test_other_page_changes(void **state)
{
    struct btvm *t = *state;

    PUT(t, FUNC, 0xb8, 0, 0, 0, 0, 0xc3); /* mov eax, 0; ret */
    t->s.gpr[X86_RDI] = FUNC;
    BTVM_RUN(t, MOV_ECX_N,     /* */
             0x89, 0x4f, 0x01, /* 1: mov [rdi + 1], ecx */
             0xff, 0xd7,       /* call rdi */
             0x48, 0x01, 0xc3, /* add rbx, rax */
             0xff, 0xc9,       /* dec ecx */
             0x75, 0xf4);      /* jnz 1b */
    assert_int_equal(t->s.gpr[X86_RBX], SUM);
}

/* What a jump led to had no use for the flags; what is there now has. */
static void test_new_code_needs_flags(void **state)
{
    enum { AT = BTVM_CODE + 0x20 };
    struct btvm *t = *state;
    const uint64_t rip = BTVM_CODE;

    for (unsigned round = 0; round < 2; round++) {
        if (round == 0)
            PUT(t, AT, 0x83, 0xe9, 1, 0x75, 0xe0, 0x0f, 0x0b); /* sub ecx, 1; jnz 5; ud2 */
        else
            PUT(t, AT, 0x83, 0xd2, 0, 0x83, 0xe9, 1, 0x75, 0xdd, 0x0f, 0x0b); /* adc edx, 0; ... */
        t->s.gpr[X86_RDX] = 0;
        t->s.rip = rip;
        t->s.mp_state = X86_MP_RUNNING;
        BTVM_RUN(t, MOV_ECX_N, 0xf9, 0xeb, 0x18); /* 5: stc; jmp AT */
    }
    assert_int_equal(t->s.gpr[X86_RDX], N);
    assert_translated(t);
}

static void test_data_beside_code(void **state)
{
    struct btvm *t = *state;

    for (unsigned far = 0; far <= 128; far += 128) { /* in the same line, in another one */
        uint8_t *data = t->ram.hva + BTVM_CODE + 17 + far;

        t->s.rip = BTVM_CODE;
        BTVM_RUN(t, 0xb9, 0x88, 0x13, 0, 0,               /* mov ecx, 5000 */
                 0xff, 0x05, (uint8_t)(6 + far), 0, 0, 0, /* 1: inc dword [data] */
                 0xff, 0xc9, 0x75, 0xf6);                 /* dec ecx; jnz 1b */
        assert_int_equal(ld_le32(data), 5000);
    }
    assert_translated(t);
}

/* Kernel code is translated for one linear address: once it is used at another, for that one. */
static void test_code_moves(void **state)
{
    struct btvm *t = *state;
    const uint64_t at[] = { FUNC, LIN };
    uint64_t translated = 0;

    map(t, BTVM_TABLES, FUNC | PTE, 0);
    PUT(t, FUNC, 0x48, 0x8d, 0x1d, 0, 0, 0, 0, 0xc3); /* lea rbx, [rip]; ret */
    for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
        t->s.gpr[X86_RDI] = at[i];
        t->s.rip = BTVM_CODE;
        t->s.mp_state = X86_MP_RUNNING;
        BTVM_RUN(t, MOV_ECX_N,                        /* */
                 0xff, 0xd7, 0xff, 0xc9, 0x75, 0xfa); /* 1: call rdi; dec ecx; jnz 1b */
        assert_int_equal(t->s.gpr[X86_RBX], at[i] + 7);
        assert_true(t->c->jit->translated >= translated + 2);
        translated = t->c->jit->translated;
    }
}

/* --- others --- */
struct other {
    struct btvm *t;
    void (*act)(struct btvm *t);
    atomic_bool stop;
    pthread_t thread;
};

static void *other_main(void *arg)
{
    struct other *o = arg;

    while (!o->stop) {
        o->act(o->t);
        sched_yield();
    }
    return NULL;
}

static void other_start(struct other *o, struct btvm *t, void (*act)(struct btvm *t))
{
    *o = (struct other){ .t = t, .act = act };
    assert_int_equal(pthread_create(&o->thread, NULL, other_main, o), 0);
}

static void other_end(struct other *o)
{
    o->stop = true;
    pthread_join(o->thread, NULL);
}

/* Once the loop is hot. */
static void change_code(struct btvm *t)
{
    if (__atomic_load_n(t->ram.hva + BTVM_DATA + 1, __ATOMIC_RELAXED) == 0)
        return;
    __atomic_store_n(t->ram.hva + BTVM_CODE + 1, 2, __ATOMIC_RELEASE);
    bt_code_written(t->vm, BTVM_CODE + 1, 1);
}

static void test_another_thread_changes_code(void **state)
{
    struct btvm *t = *state;
    struct other o;

    t->s.gpr[X86_RBX] = BTVM_DATA;
    PUT(t, BTVM_CODE, 0xb8, 1, 0, 0, 0, /* 1: mov eax, 1: becomes 2 */
        0xff, 0x03,                     /* inc dword [rbx] */
        0x83, 0xf8, 2,                  /* cmp eax, 2 */
        0x75, 0xf4,                     /* jne 1b */
        0x0f, 0x0b);
    other_start(&o, t, change_code);
    assert_int_equal(btvm_go(t), RUN_SHUTDOWN);
    other_end(&o);
    assert_translated(t);
    assert_int_equal(t->s.rip, BTVM_CODE + 12);
}

/* Only whoever has the page translated, and has not compared it yet, is told of a write. */
static void test_writes_are_told_to_users(void **state)
{
    struct btvm *t = *state;
    const struct bt_code_page *page;

    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, MOV_ECX_N, /* */
             0xff, 0x03,   /* 1: inc dword [rbx] */
             0xff, 0xc9,   /* dec ecx */
             0x75, 0xfa);  /* jnz 1b */
    assert_translated(t);
    page = bt_code_page_at(t->vm, BTVM_CODE);
    bt_tlb_serve(t->c);
    assert_true(page->users == 1);
    assert_true(bt_code_page_at(t->vm, BTVM_DATA)->users == 0);
    bt_code_store(t->c, BTVM_CODE, 1); /* its own: it knows */
    assert_false(bt_tlb_request_pending(t->c));
    assert_true(page->users == 0);
    t->s.rip = BTVM_CODE;
    assert_int_equal(btvm_go(t), RUN_SHUTDOWN); /* the unit comes back */
    assert_true(page->users == 1);
    bt_code_written(t->vm, BTVM_CODE, 1);
    assert_true(bt_tlb_request_pending(t->c));
    bt_tlb_serve(t->c);
    assert_true(page->users == 0);
    bt_code_written(t->vm, BTVM_CODE, 1);
    assert_false(bt_tlb_request_pending(t->c));
}

static void kick(struct btvm *t)
{
    accel_bt.kick(t->vm->vcpu[0]);
}

/* Whatever goes round for ever ends when the vCPU is kicked, again and again. */
static void kick_out(struct btvm *t)
{
    struct vcpu *v = t->vm->vcpu[0];
    struct other o;

    assert_int_equal(accel_bt.set_state(v, &t->s), 0);
    other_start(&o, t, kick);
    while (!t->c->jit->translated)
        assert_int_equal(accel_bt.run(v), RUN_KICKED);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(accel_bt.run(v), RUN_KICKED);
    other_end(&o);
}

static void test_kick_ends_jump(void **state)
{
    PUT(*state, BTVM_CODE, 0xeb, 0xfe); /* 1: jmp 1b */
    kick_out(*state);
}

static void test_kick_ends_loop(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RCX] = 1ull << 62;
    PUT(t, BTVM_CODE, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xeb, 0xf9); /* 1: dec rcx; jnz 1b; jmp 1b */
    kick_out(t);
}

static void test_kick_ends_calls(void **state)
{
    PUT(*state, BTVM_CODE, 0xe8, 2, 0, 0, 0, /* 1: call 2f */
        0xeb, 0xf9,                          /* jmp 1b */
        0xc3);                               /* 2: ret */
    kick_out(*state);
}

static void test_kick_ends_indirect_jump(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RDI] = BTVM_CODE;
    PUT(t, BTVM_CODE, 0xff, 0xe7); /* jmp rdi */
    kick_out(t);
}

static void test_debugger_stops_translated_code(void **state)
{
    struct debug_points points = { .n = 1,
                                   .version = 1,
                                   .point = { { DEBUG_BREAK_HW, BTVM_CODE + 3, 1 } } };
    struct btvm *t = *state;
    struct vcpu *v = t->vm->vcpu[0];

    PUT(t, BTVM_CODE, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc3, 0xeb, 0xf8); /* inc rax; inc rbx; jmp */
    kick_out(t);
    v->debug = (struct debug_vcpu){ .points = &points };
    assert_int_equal(accel_bt.set_debug(v), 0);
    while (accel_bt.run(v) != RUN_DEBUG) /* a kick may be left */
        ;
    assert_int_equal(accel_bt.get_state(v, &t->s), 0);
    assert_int_equal(t->s.rip, BTVM_CODE + 3);
    assert_int_equal(t->s.gpr[X86_RAX], t->s.gpr[X86_RBX] + 1);
}

/* --- the same linear address means other code --- */
static void test_invlpg_and_indirect_call(void **state)
{
    struct btvm *t = *state;

    map(t, BTVM_TABLES, FUNC | PTE, 0);
    put_functions(t);
    t->s.gpr[X86_RSI] = BTVM_TABLES + 0x3000;
    t->s.gpr[X86_R8] = FUNC | PTE;
    t->s.gpr[X86_R9] = FUNC2 | PTE;
    BTVM_RUN(t, MOV_ECX_N,     /* */
             0xff, 0xd7,       /* 1: call rdi */
             0x01, 0xc3,       /* add ebx, eax */
             0x4d, 0x87, 0xc8, /* xchg r8, r9 */
             0x4c, 0x89, 0x06, /* mov [rsi], r8 */
             0x0f, 0x01, 0x3f, /* invlpg [rdi] */
             0xff, 0xc9,       /* dec ecx */
             0x75, 0xef);      /* jnz 1b */
    assert_translated(t);
    assert_int_equal(t->s.gpr[X86_RBX], N / 2 * 3);
}

static void test_invlpg_and_linked_call(void **state)
{
    struct btvm *t = *state;

    map(t, BTVM_TABLES, FUNC | PTE, 0);
    put_functions(t);
    t->s.gpr[X86_RSI] = BTVM_TABLES + 0x3000;
    t->s.gpr[X86_R8] = FUNC | PTE;
    t->s.gpr[X86_R9] = FUNC2 | PTE;
    BTVM_RUN(t, MOV_ECX_N,                 /* */
             0xe8, 0xf6, 0xff, 0x1e, 0,    /* 1: call LIN */
             0x01, 0xc3, 0x4d, 0x87, 0xc8, /* add ebx, eax; xchg r8, r9 */
             0x4c, 0x89, 0x06,             /* mov [rsi], r8 */
             0x0f, 0x01, 0x3f,             /* invlpg [rdi] */
             0xff, 0xc9, 0x75, 0xec);      /* dec ecx; jnz 1b */
    assert_translated(t);
    assert_int_equal(t->s.gpr[X86_RBX], N / 2 * 3);
}

/* Two address spaces that differ in what LIN is; a and b: their CR3, flags included. */
static void switch_spaces(struct btvm *t, uint64_t a, uint64_t b, unsigned global)
{
    map(t, BTVM_TABLES, FUNC | PTE | global, 0);
    map(t, TABLES2, (global ? FUNC : FUNC2) | PTE | global, 0);
    put_functions(t);
    t->s.gpr[X86_R8] = a;
    t->s.gpr[X86_R9] = b;
    BTVM_RUN(t, MOV_ECX_N,                 /* */
             0xff, 0xd7, 0x01, 0xc3,       /* 1: call rdi; add ebx, eax */
             0xe8, 0xf2, 0xff, 0x1e, 0,    /* call LIN */
             0x01, 0xc3, 0x4d, 0x87, 0xc8, /* add ebx, eax; xchg r8, r9 */
             0x41, 0x0f, 0x22, 0xd8,       /* mov cr3, r8 */
             0xff, 0xc9, 0x75, 0xea);      /* dec ecx; jnz 1b */
    assert_translated(t);
    assert_int_equal(t->s.gpr[X86_RBX], global ? 2 * N : N * 3);
}

static void test_cr3(void **state)
{
    switch_spaces(*state, BTVM_TABLES, TABLES2, 0);
}

static void test_cr3_and_global_page(void **state)
{
    struct btvm *t = *state;

    t->s.cr4 |= CR4_PGE;
    switch_spaces(t, BTVM_TABLES, TABLES2, 0x100);
}

static void test_cr3_with_pcid(void **state)
{
    const uint64_t keep = 1ull << 63;
    struct btvm *t = *state;

    t->s.cr4 |= CR4_PCIDE;
    t->s.cr3 = BTVM_TABLES | 1;
    switch_spaces(t, BTVM_TABLES | 1 | keep, TABLES2 | 2 | keep, 0);
}

/* --- the buffer --- */
static void test_full_buffer_is_flushed(void **state)
{
    struct btvm *t = *state;
    struct bt_jit *j = t->c->jit;

    for (unsigned i = 0; i < 3; i++) {
        uint64_t flushes = j->flushes;

        j->used = BT_JIT_CODE - 1;
        t->s.rip = BTVM_CODE;
        t->s.gpr[X86_RBX] = 0;
        BTVM_RUN(t, MOV_ECX_N, 0xbf, (uint8_t)i, 0, 0, 0,   /* 1: mov edi, i: new each time */
                 0x48, 0x01, 0xcb, 0xff, 0xc9, 0x75, 0xf4); /* add rbx, rcx; dec ecx; jnz 1b */
        assert_int_equal(t->s.gpr[X86_RBX], SUM);
        assert_true(j->flushes > flushes && j->used < BT_JIT_CODE / 2);
    }
    assert_translated(t);
}

/* --- faults and misses --- */
/* Increments [rbx], then reads [rbx + 8]: one check of the soft TLB for both. */
#define PAIR                                                                                       \
    MOV_ECX_N, 0x48, 0x8b, 0x03,            /* 1: mov rax, [rbx] */                                \
        0x48, 0xff, 0xc0, 0x48, 0x89, 0x03, /* inc rax; mov [rbx], rax */                          \
        0x48, 0x8b, 0x53, 0x08,             /* mov rdx, [rbx + 8] */                               \
        0xff, 0xc9, 0x75, 0xef              /* dec ecx; jnz 1b */

static void test_group_across_pages(void **state)
{
    struct btvm *t = *state;

    map(t, BTVM_TABLES, FUNC2 | PTE, FUNC | PTE); /* not in a row */
    st_le64(t->ram.hva + FUNC, 0x1122334455667788);
    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, PAIR);
    assert_int_equal(ld_le64(t->ram.hva + BTVM_DATA), N);
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RBX] = LIN + 0xff8;
    btvm_go(t);
    assert_translated(t);
    assert_int_equal(ld_le64(t->ram.hva + FUNC2 + 0xff8), N);
    assert_int_equal(t->s.gpr[X86_RDX], 0x1122334455667788);
}

static void test_fault_within_group(void **state)
{
    struct btvm *t = *state;

    map(t, BTVM_TABLES, FUNC2 | PTE, 0);
    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, PAIR);
    assert_translated(t);
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RBX] = LIN + 0xff8;
    t->s.gpr[X86_RDX] = 5;
    assert_int_equal(btvm_go(t), RUN_SHUTDOWN);
    assert_int_equal(t->s.rip,
                     BTVM_CODE + 14); /* the second read; what was before it is done, once */
    assert_int_equal(t->s.cr2, LIN + 0x1000);
    assert_int_equal(ld_le64(t->ram.hva + FUNC2 + 0xff8), 1);
    assert_int_equal(t->s.gpr[X86_RAX], 1);
    assert_int_equal(t->s.gpr[X86_RCX], N);
    assert_int_equal(t->s.gpr[X86_RDX], 5);
}

static void test_divide_error(void **state)
{
    struct btvm *t = *state;

    BTVM_RUN(t, MOV_ECX_N,     /* */
             0xb8, 5, 0, 0, 0, /* 1: mov eax, 5 */
             0x31, 0xd2,       /* xor edx, edx */
             0xf7, 0xf1,       /* div ecx */
             0xff, 0xc9,       /* dec ecx */
             0xeb, 0xf3);      /* jmp 1b */
    assert_translated(t);
    assert_int_equal(t->s.rip, BTVM_CODE + 12);
    assert_int_equal(t->s.gpr[X86_RAX], 5);
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_int_equal(t->s.rflags & (FLAG_ARITH & ~(unsigned)FLAG_AF), FLAG_ZF | FLAG_PF);
}

static void test_misaligned_vector(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, MOV_ECX_N, 0x0f, 0x28, 0x03, 0xff, 0xc9, 0x75,
             0xf9); /* 1: movaps xmm0, [rbx] ... */
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_translated(t);
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RBX] += 8;
    assert_int_equal(btvm_go(t), RUN_SHUTDOWN);
    assert_int_equal(t->s.rip, BTVM_CODE + 5);
    assert_int_equal(t->s.gpr[X86_RCX], N);
}

#define TEST(f)                                                                                    \
    {                                                                                              \
        .name = #f, .test_func = in_vm, .initial_state = &(struct test)                            \
        {                                                                                          \
            f                                                                                      \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_next_instruction_changes),
        TEST(test_later_instruction_changes),
        TEST(test_other_page_changes),
        TEST(test_new_code_needs_flags),
        TEST(test_data_beside_code),
        TEST(test_code_moves),
        TEST(test_another_thread_changes_code),
        TEST(test_writes_are_told_to_users),
        TEST(test_kick_ends_jump),
        TEST(test_kick_ends_loop),
        TEST(test_kick_ends_calls),
        TEST(test_kick_ends_indirect_jump),
        TEST(test_debugger_stops_translated_code),
        TEST(test_invlpg_and_indirect_call),
        TEST(test_invlpg_and_linked_call),
        TEST(test_cr3),
        TEST(test_cr3_and_global_page),
        TEST(test_cr3_with_pcid),
        TEST(test_full_buffer_is_flushed),
        TEST(test_group_across_pages),
        TEST(test_fault_within_group),
        TEST(test_divide_error),
        TEST(test_misaligned_vector),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
