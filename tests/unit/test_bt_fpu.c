/* test_bt_fpu.c: where the FPU state lives, x87 environments, XSAVE and its kin. */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"

static int setup(void **state)
{
    struct btvm *t = btvm_create();

    t->s.cr4 |= CR4_OSXSAVE;
    t->s.xcr0 = t->vm->cpuid.xcr0;
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    btvm_destroy(*state);
    return 0;
}

enum { FIP = 8, MXCSR = 24, HEADER = 512 };

static void test_the_host_gets_its_control_words_back(void **state)
{
    struct btvm *t = *state;
    uint16_t fcw;
    uint32_t mxcsr;

    st_le32(t->ram.hva + BTVM_DATA, 0x7f80);
    st_le16(t->ram.hva + BTVM_DATA + 4, 0xf7f);
    BTVM_RUN(t, 0x0f, 0xae, 0x14, 0x25, 0, 0, 2, 0, /* ldmxcsr [0x20000] */
             0xd9, 0x2c, 0x25, 4, 0, 2, 0);         /* fldcw [0x20004] */
    __asm__ volatile("fnstcw %0\n\tstmxcsr %1" : "=m"(fcw), "=m"(mxcsr));
    assert_int_equal(fcw, 0x37f);
    assert_int_equal(mxcsr & ~0x3fu, 0x1f80);
    assert_int_equal(ld_le16(t->s.xsave), 0xf7f);
    assert_int_equal(ld_le32(t->s.xsave + MXCSR), 0x7f80);
}

static void test_task_switched(void **state)
{
    struct btvm *t = *state;

    t->s.cr0 |= CR0_TS;
    BTVM_RUN(t, 0x66, 0x0f, 0xef, 0xc0, 0xb0, 1); /* pxor xmm0, xmm0: #NM */
    assert_int_equal(t->s.gpr[X86_RAX], 0);
}

/* A snapshot may hold anything: loading it must not fault on the host. */
static void test_hostile_state(void **state)
{
    struct btvm *t = *state;

    memset(t->s.xsave, 0xff, sizeof(t->s.xsave));
    BTVM_RUN(t, 0x66, 0x0f, 0xef, 0xc0, 0xb0, 1);
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 1);
}

static void test_instruction_pointer_is_the_guests(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_DATA;

    BTVM_RUN(t, 0x90, 0xd9, 0xd0,                      /* nop; fnop */
             0x48, 0x0f, 0xae, 0x04, 0x25, 0, 2, 2, 0, /* fxsave64 [0x20200] */
             0xd9, 0x34, 0x25, 0, 1, 2, 0);            /* fnstenv [0x20100] */
    assert_int_equal(ld_le64(p + 0x200 + FIP), BTVM_CODE + 1);
    assert_int_equal(ld_le32(p + 0x100 + 12), BTVM_CODE + 1);
    assert_int_equal(ld_le64(t->s.xsave + FIP), BTVM_CODE + 1);
}

static void test_environments_of_32_bit_code(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_DATA;

    btvm_mode32(t);
    BTVM_RUN(t, 0xdb, 0xe3, 0xd9, 0xe8,       /* fninit; fld1 */
             0xd9, 0x35, 0, 1, 2, 0,          /* fnstenv [0x20100] */
             0x66, 0xd9, 0x35, 0x40, 1, 2, 0, /* fnstenv16 [0x20140] */
             0xdd, 0x35, 0x80, 1, 2, 0);      /* fnsave [0x20180] */
    assert_int_equal(ld_le32(p + 0x100 + 12), BTVM_CODE + 2);
    assert_int_equal(ld_le16(p + 0x100 + 4), 0x3800);
    assert_int_equal(ld_le16(p + 0x140 + 2), 0x3800);
    assert_int_equal(ld_le16(p + 0x140 + 6), (BTVM_CODE + 2) & 0xffff);
    assert_int_equal(ld_le16(p + 0x180 + 28 + 8), 0x3fff); /* exponent of 1.0 */
    assert_int_equal(ld_le16(t->s.xsave), 0x37f);
    assert_int_equal(ld_le64(t->s.xsave + FIP), 0); /* FNSAVE initializes */
}

static void test_environment_of_real_mode(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_CODE;

    btvm_mode16(t);
    BTVM_RUN(t, 0xd9, 0xe8,              /* fld1 at 1000:0000 */
             0xd9, 0x36, 0, 2,           /* fnstenv [0x200] */
             0x66, 0xd9, 0x36, 0x40, 2); /* fnstenv32 [0x240] */
    assert_int_equal(ld_le16(p + 0x200 + 6), BTVM_CODE & 0xffff);
    assert_int_equal(ld_le16(p + 0x200 + 8) & 0xf000, BTVM_CODE >> 4);
    assert_int_equal(ld_le32(p + 0x240 + 16) >> 12, BTVM_CODE >> 16);
}

static void test_xsave_and_back(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_DATA;

    memset(p + 0x200, 0, HEADER + 64);
    t->s.gpr[X86_RCX] = 0x1234;
    BTVM_RUN(t, 0x31, 0xd2, 0xb8, 3, 0, 0, 0,          /* edx:eax = 3 */
             0x66, 0x48, 0x0f, 0x6e, 0xc1,             /* movq xmm0, rcx */
             0x48, 0x0f, 0xae, 0x24, 0x25, 0, 2, 2, 0, /* xsave64 [0x20200] */
             0x66, 0x0f, 0xef, 0xc0,                   /* pxor xmm0, xmm0 */
             0x48, 0x0f, 0xae, 0x2c, 0x25, 0, 2, 2, 0, /* xrstor64 [0x20200] */
             0x66, 0x48, 0x0f, 0x7e, 0xc3);            /* movq rbx, xmm0 */
    assert_int_equal(ld_le64(p + 0x200 + HEADER) & ~1ull, 2);
    assert_int_equal(t->s.gpr[X86_RBX], 0x1234);
}

static void test_xrstor_refuses_a_bad_header(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_DATA;
    const uint8_t code[] = { 0x48, 0x0f, 0xae, 0x2c, 0x25, 0, 2, 2, 0, 0xb0, 1 };

    memset(p + 0x200, 0, 1024);
    t->s.gpr[X86_RAX] = 2;
    st_le64(p + 0x200 + HEADER, BIT64(62));
    btvm_run(t, code, sizeof(code));
    assert_int_equal(t->s.gpr[X86_RAX], 2);

    st_le64(p + 0x200 + HEADER, 0);
    st_le32(p + 0x200 + MXCSR, 0x80000000);
    t->s.rip = BTVM_CODE;
    t->s.mp_state = X86_MP_RUNNING;
    btvm_go(t);
    assert_int_equal(t->s.gpr[X86_RAX], 2);
}

/* The host knows how many bits an instruction pointer has. */
static void test_fxrstor_of_a_pointer_that_no_address_has(void **state)
{
    static _Alignas(16) uint8_t own[512], image[512];
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva + BTVM_DATA;

    for (unsigned bit = 46; bit < 64; bit++) {
        __asm__ volatile("fxsave64 %0" : "=m"(own));
        memcpy(image, own, sizeof(image));
        st_le64(image + FIP, BIT64(bit) | 0x1234);
        memcpy(p + 0x200, image, sizeof(image));
        __asm__ volatile("fxrstor64 %0\n\tfxsave64 %0\n\tfxrstor64 %1" : "+m"(image) : "m"(own));
        t->s.rip = BTVM_CODE;
        t->s.mp_state = X86_MP_RUNNING;
        BTVM_RUN(t, 0x48, 0x0f, 0xae, 0x0c, 0x25, 0, 2, 2, 0, /* fxrstor64 [0x20200] */
                 0x48, 0x0f, 0xae, 0x04, 0x25, 0, 4, 2, 0);   /* fxsave64 [0x20400] */
        assert_int_equal(ld_le64(p + 0x400 + FIP), ld_le64(image + FIP));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_host_gets_its_control_words_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_task_switched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_instruction_pointer_is_the_guests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environments_of_32_bit_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment_of_real_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_xsave_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_xrstor_refuses_a_bad_header, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fxrstor_of_a_pointer_that_no_address_has, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
