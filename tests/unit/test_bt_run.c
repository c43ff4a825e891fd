#include "btvm.h"
#include "accel/bt/bt_jit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"

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

static void test_moves(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RCX] = 0x1122334455667788;
    assert_int_equal(BTVM_RUN(t, 0xb8, 1, 2, 3, 0x84,        /* mov eax, 0x84030201 */
                              0x48, 0x63, 0xd8,              /* movsxd rbx, eax */
                              0x88, 0xcc,                    /* mov ah, cl */
                              0x66, 0x89, 0xca,              /* mov dx, cx */
                              0x44, 0x0f, 0xb6, 0xc1,        /* movzx r8d, cl */
                              0x4c, 0x0f, 0xbe, 0xcd,        /* movsx r9, bpl (with REX) */
                              0x48, 0x0f, 0xc9,              /* bswap rcx */
                              0x4c, 0x8d, 0x54, 0x8b, 0x10), /* lea r10, [rbx+rcx*4+16] */
                     RUN_SHUTDOWN);
    assert_int_equal(t->s.gpr[X86_RAX], 0x84038801);
    assert_int_equal(t->s.gpr[X86_RBX], 0xffffffff84030201);
    assert_int_equal(t->s.gpr[X86_RDX] & 0xffff, 0x7788);
    assert_int_equal(t->s.gpr[X86_R8], 0x88);
    assert_int_equal(t->s.gpr[X86_RCX], 0x8877665544332211);
    assert_int_equal(t->s.gpr[X86_R10], 0xffffffff84030201ull + 4 * 0x8877665544332211ull + 16);
}

/* 16-bit code beyond 64 KiB of its segment, as OVMF has it on its way out of S3: EIP stays whole. */
static void test_high_16bit_code(void **state)
{
    struct btvm *t = *state;

    btvm_mode32(t);
    t->s.seg[X86_CS].attr &= (uint16_t)~SEG_DB;
    assert_int_equal(BTVM_RUN(t, 0x40,          /* inc ax */
                              0x74, 0x00,       /* jz, not taken: a block ends */
                              0x0f, 0x20, 0xc3, /* mov ebx, cr0 */
                              0x40),            /* inc ax */
                     RUN_SHUTDOWN);
    assert_int_equal(t->s.gpr[X86_RAX], 2);
    assert_int_equal(t->s.rip, BTVM_CODE + 7);
}

/* A loop that rewrites an instruction right ahead of itself, in translated code, too. */
static void test_modifies_ahead(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RCX] = 30000;
    assert_int_equal(BTVM_RUN(t, 0x89, 0x0d, 1, 0, 0,
                              0,                /* L: mov [rip + 1], ecx: the immediate of */
                              0xb8, 0, 0, 0, 0, /* mov eax, 0 */
                              0x39, 0xc8,       /* cmp eax, ecx */
                              0x75, 0x04,       /* jne out */
                              0xff, 0xc9,       /* dec ecx */
                              0x75, 0xed),      /* jnz L; out: */
                     RUN_SHUTDOWN);
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_int_equal(t->s.gpr[X86_RAX], 1);
}

static void test_flags(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RAX] = 0x7fffffff;
    BTVM_RUN(t, 0x83, 0xc0, 0x01); /* add eax, 1 */
    assert_int_equal(t->s.gpr[X86_RAX], 0x80000000);
    assert_int_equal(t->s.rflags & FLAG_ARITH, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
    t->s.rip = BTVM_CODE;
    t->s.rflags |= FLAG_CF;
    BTVM_RUN(t, 0xff, 0xc8, 0x0f, 0x92, 0xc1); /* dec eax; setb cl: CF survives */
    assert_int_equal(t->s.gpr[X86_RAX], 0x7fffffff);
    assert_int_equal(t->s.gpr[X86_RCX] & 0xff, 1);
    assert_int_equal(t->s.rflags & FLAG_ARITH, FLAG_OF | FLAG_AF | FLAG_PF | FLAG_CF);
    t->s.rip = BTVM_CODE;
    BTVM_RUN(t, 0x83, 0xd0, 0x00, 0xd1, 0xd8); /* adc eax, 0; rcr eax, 1 */
    assert_int_equal(t->s.gpr[X86_RAX], 0x40000000);
}

static void test_memory(void **state)
{
    struct btvm *t = *state;
    uint8_t *data = t->ram.hva + BTVM_DATA;

    st_le64(data, 100);
    st_le64(data + 0xffc, 0x1111111122222222);
    t->s.gpr[X86_RBX] = BTVM_DATA;
    t->s.gpr[X86_RDX] = 7;
    BTVM_RUN(t, 0x48, 0x01, 0x13,                   /* add [rbx], rdx */
             0xf0, 0x48, 0xff, 0x03,                /* lock inc qword [rbx] */
             0x48, 0x8b, 0x03,                      /* mov rax, [rbx] */
             0x48, 0x83, 0x83, 0xfc, 0x0f, 0, 0, 1, /* add qword [rbx+0xffc], 1: two pages */
             0x48, 0x8b, 0x8b, 0xfc, 0x0f, 0, 0,    /* mov rcx, [rbx+0xffc] */
             0xf0, 0x48, 0x0f, 0xc1, 0x93, 0xfc, 0x0f, 0, 0); /* lock xadd [rbx+0xffc], rdx */
    assert_int_equal(t->s.gpr[X86_RAX], 108);
    assert_int_equal(t->s.gpr[X86_RCX], 0x1111111122222223);
    assert_int_equal(t->s.gpr[X86_RDX], 0x1111111122222223);
    assert_int_equal(ld_le64(data + 0xffc), 0x111111112222222a);
}

static void test_divide(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RAX] = (uint64_t)-100;
    t->s.gpr[X86_RBX] = 7;
    BTVM_RUN(t, 0x48, 0x99, 0x48, 0xf7, 0xfb); /* cqo; idiv rbx */
    assert_int_equal(t->s.gpr[X86_RAX], (uint64_t)-14);
    assert_int_equal(t->s.gpr[X86_RDX], (uint64_t)-2);
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RAX] = 1ull << 63;
    t->s.gpr[X86_RBX] = (uint64_t)-1;
    BTVM_RUN(t, 0x48, 0x99, 0x48, 0xf7, 0xfb); /* overflows: #DE at the IDIV */
    assert_int_equal(t->s.rip, BTVM_CODE + 2);
    assert_int_equal(t->s.gpr[X86_RAX], 1ull << 63);
}

static void test_stack_and_calls(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RBP] = 5;
    BTVM_RUN(t, 0xe8, 2, 0, 0, 0,        /* call +2 */
             0xeb, 8,                    /* jmp over the function */
             0x55, 0x48, 0x89, 0xe5,     /* push rbp; mov rbp, rsp */
             0x6a, 0xff, 0xc9, 0xc3,     /* push -1; leave; ret */
             0x68, 0, 0, 0, 0x80, 0x58); /* push 0xffffffff80000000; pop rax */
    assert_int_equal(t->s.gpr[X86_RSP], BTVM_STACK);
    assert_int_equal(t->s.gpr[X86_RBP], 5);
    assert_int_equal(t->s.gpr[X86_RAX], 0xffffffff80000000);
    assert_int_equal(t->s.rip, BTVM_CODE + 21);
}

static void test_strings(void **state)
{
    struct btvm *t = *state;
    uint8_t *data = t->ram.hva + BTVM_DATA;

    for (unsigned i = 0; i < 0x3000; i++)
        data[i] = (uint8_t)(i * 7);
    t->s.gpr[X86_RSI] = BTVM_DATA + 5;
    t->s.gpr[X86_RDI] = BTVM_DATA + 0x4003;
    t->s.gpr[X86_RCX] = 0x2345;
    BTVM_RUN(t, 0xf3, 0xa4); /* rep movsb */
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_int_equal(t->s.gpr[X86_RSI], BTVM_DATA + 5 + 0x2345);
    assert_memory_equal(data + 5, data + 0x4003, 0x2345);
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RDI] = BTVM_DATA + 1; /* overlapping: the byte runs up */
    t->s.gpr[X86_RSI] = BTVM_DATA;
    t->s.gpr[X86_RCX] = 0x1800;
    BTVM_RUN(t, 0xf3, 0xa4);
    for (unsigned i = 0; i <= 0x1800; i++)
        assert_int_equal(data[i], data[0]);
    data[0x100] = 0x55;
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RDI] = BTVM_DATA;
    t->s.gpr[X86_RCX] = ~0ull;
    t->s.gpr[X86_RAX] = 0x55;
    BTVM_RUN(t, 0xf2, 0xae); /* repne scasb */
    assert_int_equal(t->s.gpr[X86_RDI], BTVM_DATA + 0x101);
    assert_int_equal(t->s.gpr[X86_RCX], ~0ull - 0x101);
}

static void test_string_fault(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RAX] = 0xab;
    t->s.gpr[X86_RDI] = BTVM_RAM - 0x10; /* mapped up to here */
    t->s.gpr[X86_RCX] = 0x100;
    BTVM_RUN(t, 0xf3, 0xaa); /* rep stosb */
    assert_int_equal(t->s.rip, BTVM_CODE);
    assert_int_equal(t->s.gpr[X86_RDI], BTVM_RAM);
    assert_int_equal(t->s.gpr[X86_RCX], 0xf0);
    assert_int_equal(t->s.cr2, BTVM_RAM);
}

/* Whoever has one instruction done gets control back from one that repeats for hours. */
static void test_string_step(void **state)
{
    struct btvm *t = *state;

    btvm_mode32(t);
    memcpy(t->ram.hva + BTVM_CODE, "\xf3\xaa", 2); /* rep stosb */
    bt_code_written(t->vm, BTVM_CODE, 2);
    t->s.gpr[X86_RCX] = 0xffffffff;
    t->s.gpr[X86_RDI] = 0x80000000; /* no RAM there: byte by byte */
    assert_int_equal(bt_step_one(t->c, &t->s), RUN_KICKED);
    assert_int_equal(t->s.rip, BTVM_CODE);
    assert_int_equal(t->s.gpr[X86_RCX], 0xfffffffe);
    assert_int_equal(t->s.gpr[X86_RDI], 0x80000001);
    t->s.gpr[X86_RCX] = 1;
    assert_int_equal(bt_step_one(t->c, &t->s), RUN_KICKED);
    assert_int_equal(t->s.rip, BTVM_CODE + 2);
}

static void test_self_modifying(void **state)
{
    struct btvm *t = *state;

    /* mov byte [rip+1], 42; mov al, 1: the next instruction of the same block */
    BTVM_RUN(t, 0xc6, 0x05, 0x01, 0, 0, 0, 42, 0xb0, 1);
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 42);
    /* again, and back: known blocks notice */
    for (unsigned i = 0; i < 3; i++) {
        t->s.rip = BTVM_CODE;
        BTVM_RUN(t, 0xc6, 0x05, 0x01, 0, 0, 0, (uint8_t)i, 0xb0, 1);
        assert_int_equal(t->s.gpr[X86_RAX] & 0xff, i);
    }
}

/* A loop that stores next to itself runs from known blocks: its line is not written. */
static void test_data_beside_code(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RCX] = 1000;
    BTVM_RUN(t, 0x48, 0x89, 0x0d, 0x79, 0, 0, 0, /* mov [rip+0x79], rcx */
             0x48, 0xff, 0xc9, 0x75, 0xf4);      /* dec rcx; jnz -12 */
    assert_int_equal(t->s.gpr[X86_RCX], 0);
    assert_int_equal(ld_le64(t->ram.hva + BTVM_CODE + 0x80), 1);
}

/* Each operation must be a sibling call: a million of them would overflow the stack otherwise. */
static void test_long_loop(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RBX] = BTVM_DATA;
    t->s.gpr[X86_RCX] = 1000000;
    BTVM_RUN(t, 0x48, 0x01, 0x0b,           /* add [rbx], rcx */
             0xf0, 0x48, 0xff, 0x03,        /* lock inc qword [rbx] */
             0x48, 0xc1, 0x2b, 0x01,        /* shr qword [rbx], 1 */
             0x48, 0x87, 0x13,              /* xchg [rbx], rdx */
             0xf0, 0x48, 0x0f, 0xb1, 0x13,  /* lock cmpxchg [rbx], rdx */
             0x48, 0x0f, 0xbb, 0x0b,        /* btc [rbx], rcx */
             0x0f, 0xac, 0x13, 0x03,        /* shrd [rbx], edx, 3 */
             0x48, 0xf7, 0xe1,              /* mul rcx */
             0x48, 0xff, 0xc9, 0x75, 0xdd); /* dec rcx; jnz */
    assert_int_equal(t->s.gpr[X86_RCX], 0);
}

static void test_crossing_instruction(void **state)
{
    struct btvm *t = *state;
    static const uint8_t code[] = { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0x0f, 0x0b };

    memcpy(t->ram.hva + BTVM_CODE + 0xffd, code, sizeof(code));
    bt_code_written(t->vm, BTVM_CODE + 0xffd, sizeof(code));
    for (unsigned i = 0; i < 2; i++) {
        t->s.rip = BTVM_CODE + 0xffd;
        btvm_go(t);
        assert_int_equal(t->s.gpr[X86_RAX], 0x0807060504030201);
        assert_int_equal(t->s.rip, BTVM_CODE + 0xffd + 10);
    }
}

static void test_page_fault_is_precise(void **state)
{
    struct btvm *t = *state;

    t->s.gpr[X86_RBX] = BTVM_RAM + 0x123;
    BTVM_RUN(t, 0xb0, 3, 0x83, 0x03, 0x01, 0xb0, 4); /* mov al, 3; add dword [rbx], 1; mov al, 4 */
    assert_int_equal(t->s.rip, BTVM_CODE + 2);
    assert_int_equal(t->s.cr2, BTVM_RAM + 0x123);
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 3);
}

static void test_mode32(void **state)
{
    struct btvm *t = *state;

    btvm_mode32(t);
    t->s.gpr[X86_RAX] = 0x12345678;
    BTVM_RUN(t, 0x50, 0x66, 0x5b, 0x66, 0x59, /* push eax; pop bx; pop cx */
             0x40, 0xe8, 0, 0, 0, 0, 0x5a,    /* inc eax; call +0; pop edx */
             0x60, 0x61);                     /* pusha; popa */
    assert_int_equal(t->s.gpr[X86_RBX] & 0xffff, 0x5678);
    assert_int_equal(t->s.gpr[X86_RCX] & 0xffff, 0x1234);
    assert_int_equal(t->s.gpr[X86_RAX], 0x12345679);
    assert_int_equal(t->s.gpr[X86_RDX], BTVM_CODE + 11);
    assert_int_equal(t->s.gpr[X86_RSP], BTVM_STACK);
}

static void test_mode16(void **state)
{
    struct btvm *t = *state;

    btvm_mode16(t);
    t->s.gpr[X86_RBX] = 0xfff0;
    t->s.gpr[X86_RSI] = 0x1020;
    t->ram.hva[BTVM_CODE + 0x1010] = 77; /* bx+si wraps */
    t->s.gpr[X86_RCX] = 3;
    BTVM_RUN(t, 0x8a, 0x00,           /* mov al, [bx+si] */
             0x00, 0xc2, 0xe2, 0xfc,  /* add dl, al; loop -4 */
             0x68, 0x34, 0x12, 0x5f); /* push 0x1234; pop di */
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 77);
    assert_int_equal(t->s.gpr[X86_RDX] & 0xff, 77 * 3);
    assert_int_equal(t->s.gpr[X86_RDI] & 0xffff, 0x1234);
    assert_int_equal(t->s.gpr[X86_RSP], 0x8000);
}

/* Of a stack of 16 bits only SP counts: systems with code of both widths leave anything above it. */
static void test_stack16_under_esp(void **state)
{
    struct btvm *t = *state;

    btvm_mode16(t);
    t->s.gpr[X86_RSP] = 0x4f000;
    t->s.gpr[X86_RBP] = 0x3ee00;
    BTVM_RUN(t, 0xc8, 0x10, 0x00, 0x02, /* enter 16, 2 */
             0x89, 0xe9, 0x89, 0xe2,    /* mov cx, bp; mov dx, sp */
             0xc9, 0x60, 0x61);         /* leave; pusha; popa */
    assert_int_equal(t->s.rip, 11);
    assert_int_equal(t->s.gpr[X86_RCX] & 0xffff, 0xeffe);
    assert_int_equal(t->s.gpr[X86_RDX] & 0xffff, 0xf000 - 6 - 16);
    assert_int_equal(t->s.gpr[X86_RSP], 0x4f000);
    assert_int_equal(t->s.gpr[X86_RBP], 0x3ee00);
}

static void test_bits(void **state)
{
    struct btvm *t = *state;
    uint8_t *data = t->ram.hva + BTVM_DATA;

    memset(data, 0, 64);
    t->s.gpr[X86_RBX] = BTVM_DATA;
    t->s.gpr[X86_RCX] = 200;
    t->s.gpr[X86_RDX] = 1ull << 40;
    BTVM_RUN(t, 0xf0, 0x48, 0x0f, 0xab, 0x0b, /* lock bts [rbx], rcx */
             0x48, 0x0f, 0xa3, 0x0b,          /* bt [rbx], rcx */
             0x0f, 0x92, 0xc0,                /* setb al */
             0x48, 0x0f, 0xbc, 0xf2,          /* bsf rsi, rdx */
             0xf3, 0x48, 0x0f, 0xb8, 0xfa);   /* popcnt rdi, rdx */
    assert_int_equal(data[25], 1);
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 1);
    assert_int_equal(t->s.gpr[X86_RSI], 40);
    assert_int_equal(t->s.gpr[X86_RDI], 1);
}

static void test_compare_exchange(void **state)
{
    struct btvm *t = *state;
    uint8_t *data = t->ram.hva + BTVM_DATA;

    st_le64(data, 5);
    st_le64(data + 8, 6);
    t->s.gpr[X86_RDI] = BTVM_DATA;
    t->s.gpr[X86_RAX] = 5;
    t->s.gpr[X86_RDX] = 6;
    t->s.gpr[X86_RBX] = 7;
    t->s.gpr[X86_RCX] = 8;
    BTVM_RUN(t, 0xf0, 0x48, 0x0f, 0xc7, 0x0f, /* lock cmpxchg16b [rdi] */
             0x41, 0x0f, 0x94, 0xc0,          /* setz r8b */
             0xf0, 0x48, 0x0f, 0xb1, 0x0f,    /* lock cmpxchg [rdi], rcx: not equal */
             0x41, 0x0f, 0x94, 0xc1);         /* setz r9b */
    assert_int_equal(ld_le64(data), 7);
    assert_int_equal(ld_le64(data + 8), 8);
    assert_int_equal(t->s.gpr[X86_R8] & 1, 1);
    assert_int_equal(t->s.gpr[X86_R9] & 1, 0);
    assert_int_equal(t->s.gpr[X86_RAX], 7);
}

/* Displacements that are further apart than 31 bits tell share no check of the soft TLB. */
static void test_jit_far_apart(void **state)
{
    struct btvm *t = *state;

    t->c->jit->hot = 1;
    t->s.gpr[X86_RBX] = 0x70000000 + BTVM_DATA;
    st_le32(t->ram.hva + BTVM_DATA, 0x1234);
    BTVM_RUN(t, 0x8b, 0x83, 0, 0, 0, 0x90, /* mov eax, [rbx - 0x70000000] */
             0x8b, 0x8b, 0, 0, 0, 0x30,    /* mov ecx, [rbx + 0x30000000]: nothing there */
             0xc7, 0x83, 0, 0, 0, 0x30, 1, 2, 3, 4);
    assert_int_equal(t->s.gpr[X86_RAX], 0x1234);
    assert_int_equal(t->s.rip, BTVM_CODE + 6);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_moves),
        T(test_high_16bit_code),
        T(test_flags),
        T(test_jit_far_apart),
        T(test_modifies_ahead),
        T(test_memory),
        T(test_divide),
        T(test_stack_and_calls),
        T(test_strings),
        T(test_string_fault),
        T(test_string_step),
        T(test_self_modifying),
        T(test_data_beside_code),
        T(test_long_loop),
        T(test_crossing_instruction),
        T(test_page_fault_is_precise),
        T(test_mode32),
        T(test_mode16),
        T(test_stack16_under_esp),
        T(test_bits),
        T(test_compare_exchange),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
