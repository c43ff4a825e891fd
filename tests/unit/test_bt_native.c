/* test_bt_native.c: rewritten operands, modes, and which instructions a model has. */
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

static bool has_avx512(const struct btvm *t)
{
    return t->s.xcr0 & XCR0_ZMM_HI256;
}

static void test_rsp_is_an_operand(void **state)
{
    struct btvm *t = *state;

    BTVM_RUN(t, 0x66, 0x48, 0x0f, 0x6e, 0xcc, /* movq xmm1, rsp */
             0x66, 0x48, 0x0f, 0x7e, 0xc8,    /* movq rax, xmm1 */
             0xf3, 0x48, 0x0f, 0xb8, 0xe1);   /* popcnt rsp, rcx */
    assert_int_equal(t->s.gpr[X86_RAX], BTVM_STACK);
    assert_int_equal(t->s.gpr[X86_RSP], 0);
}

static void test_memory_across_pages(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva;

    for (unsigned i = 0; i < 16; i++)
        p[0x20ff8 + i] = (uint8_t)(i + 1);
    BTVM_RUN(t, 0x0f, 0x10, 0x04, 0x25, 0xf8, 0x0f, 0x02, 0x00, /* movups xmm0, [0x20ff8] */
             0x0f, 0x11, 0x04, 0x25, 0xf9, 0x1f, 0x02, 0x00);   /* movups [0x21ff9], xmm0 */
    assert_memory_equal(p + 0x20ff8, p + 0x21ff9, 16);
}

static void test_flags_of_the_instruction_only(void **state)
{
    struct btvm *t = *state;

    t->s.rflags = FLAG_1 | FLAG_OF | FLAG_SF | FLAG_DF;
    BTVM_RUN(t, 0x66, 0x0f, 0x2e, 0xc0); /* ucomisd xmm0, xmm0: equal */
    assert_int_equal(t->s.rflags & (FLAG_ARITH | FLAG_DF), FLAG_ZF | FLAG_DF);
}

/* RSI and RDI are taken, so RDX, which brings the flags, points at the operand. */
static void test_operand_by_the_flags_register(void **state)
{
    struct btvm *t = *state;

    st_le32(t->ram.hva + BTVM_DATA, 0x12345678);
    t->s.gpr[X86_RAX] = BTVM_DATA;
    t->s.gpr[X86_RSI] = 8;
    BTVM_RUN(t, 0xc4, 0xe2, 0x48, 0xf5, 0x38); /* bzhi edi, [rax], esi */
    assert_int_equal(t->s.gpr[X86_RDI], 0x78);
}

static void test_sizes_of_16_bit_code(void **state)
{
    struct btvm *t = *state;

    btvm_mode16(t);
    t->s.gpr[X86_RCX] = 0x12340003;
    t->s.gpr[X86_RDX] = t->s.gpr[X86_RBX] = 0xffffffff;
    BTVM_RUN(t, 0xf3, 0x0f, 0xb8, 0xd1,     /* popcnt dx, cx */
             0x66, 0xf3, 0x0f, 0xb8, 0xd9); /* popcnt ebx, ecx */
    assert_int_equal(t->s.gpr[X86_RDX], 0xffff0002);
    assert_int_equal(t->s.gpr[X86_RBX], 7);
}

static void test_misaligned(void **state)
{
    struct btvm *t = *state;

    BTVM_RUN(t, 0x66, 0x0f, 0x6f, 0x04, 0x25, 1, 0, 2, 0, /* movdqa xmm0, [0x20001]: #GP */
             0xb0, 1);
    assert_int_equal(t->s.gpr[X86_RAX], 0);
}

static void test_model_without_avx(void **state)
{
    struct btvm *t = *state;
    struct cpuid_limits limits;
    struct err e = { 0 };

    if (!(t->s.xcr0 & XCR0_AVX))
        skip();
    BTVM_RUN(t, 0xc5, 0xfd, 0xef, 0xc0, /* vpxor ymm0, ymm0, ymm0 */
             0xb0, 1);
    assert_int_equal(t->s.gpr[X86_RAX], 1);
    accel_bt.limits(t->vm, &limits);
    assert_int_equal(cpuid_build(&t->vm->cpuid, "x86-64-v2", &limits, 1, &e), 0);
    btvm_mode64(t);
    t->s.cr4 |= CR4_OSXSAVE;
    t->s.xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX; /* even so */
    t->s.rip += 0x100;
    memcpy(t->ram.hva + BTVM_CODE + 0x100, "\xc5\xfd\xef\xc0\xb0\x01\x0f\x0b", 8);
    btvm_go(t);
    assert_int_equal(t->s.gpr[X86_RAX], 0);
}

static void test_masked_off_elements_do_not_fault(void **state)
{
    struct btvm *t = *state;
    uint8_t *p = t->ram.hva;

    if (!(t->s.xcr0 & XCR0_AVX))
        skip();
    st_le32(p + 0x20000, ~0u); /* mask: the first two of four */
    st_le32(p + 0x20004, ~0u);
    st_le32(p + BTVM_RAM - 8, 0x11111111);
    st_le32(p + BTVM_RAM - 4, 0x22222222);
    BTVM_RUN(t, 0x0f, 0x10, 0x0c, 0x25, 0, 0, 2, 0, /* movups xmm1, [0x20000] */
             0xc4, 0xe2, 0x71, 0x2c, 0x14, 0x25, 0xf8, 0xff, 0x3f,
             0,                                     /* vmaskmovps xmm2, xmm1, [..f8] */
             0x0f, 0x11, 0x14, 0x25, 0x10, 0, 2, 0, /* movups [0x20010], xmm2 */
             0xc5, 0xf1, 0x76, 0xc9,                /* vpcmpeqd xmm1, xmm1, xmm1 */
             0xb0, 1, 0xc4, 0xe2, 0x71, 0x2c, 0x14, 0x25, 0xf8, 0xff, 0x3f, 0, /* all four: #PF */
             0xb0, 2);
    assert_int_equal(ld_le64(p + 0x20010), 0x2222222211111111);
    assert_int_equal(ld_le64(p + 0x20018), 0);
    assert_int_equal(t->s.gpr[X86_RAX], 1);
    assert_int_equal(t->s.cr2, BTVM_RAM);
}

static void test_opmask_of_64_elements(void **state)
{
    struct btvm *t = *state;

    if (!has_avx512(t))
        skip();
    /* kxnorq k1, k1, k1; vmovdqu8 zmm1{k1}, [0x20fe0]: every byte, across pages */
    BTVM_RUN(t, 0xc4, 0xe1, 0xf4, 0x46, 0xc9, 0xb8, 0xe0, 0x0f, 0x02, 0x00, 0x62, 0xf1, 0x7f, 0x49,
             0x6f, 0x08, 0xb0, 7);
    assert_int_equal(t->s.gpr[X86_RAX] & 0xff, 7);
}

/* Their bytes are masked, though their first source has quadwords. */
static void test_vpshufbitqmb_masks_bytes(void **state)
{
    struct btvm *t = *state;
    /* kmovd k2, ecx; vpshufbitqmb k1{k2}, xmm1, [8 bytes before the end of RAM] */
    const uint8_t code[] = { 0xc5, 0xfb, 0x92, 0xd1, 0x62, 0xf2, 0x75, 0x0a, 0x8f,
                             0x0c, 0x25, 0xf8, 0xff, 0x3f, 0x00, 0xb0, 1 };

    if (!has_avx512(t) || !cpuid_has(&t->vm->cpuid, 7, 0, 2, 12))
        skip();
    t->s.gpr[X86_RCX] = 0xff;
    btvm_run(t, code, sizeof(code));
    assert_int_equal(t->s.gpr[X86_RAX], 1);
    t->s.gpr[X86_RAX] = 0;
    t->s.gpr[X86_RCX] = 0x100;
    t->s.mp_state = X86_MP_RUNNING;
    t->s.rip = BTVM_CODE;
    btvm_go(t);
    assert_int_equal(t->s.gpr[X86_RAX], 0);
    assert_int_equal(t->s.cr2, BTVM_RAM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rsp_is_an_operand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_across_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flags_of_the_instruction_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_operand_by_the_flags_register, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes_of_16_bit_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_misaligned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_without_avx, setup, teardown),
        cmocka_unit_test_setup_teardown(test_masked_off_elements_do_not_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_opmask_of_64_elements, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vpshufbitqmb_masks_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
