/* test_cpuid.c: models, limits, topology and the leaves that depend on the asking vCPU. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "x86/cpuid.h"
#include "x86/regs.h"

enum { EAX, EBX, ECX, EDX };

static const struct cpuid_limits all = {
    .tsc_deadline = true,
    .x2apic = true,
    .kvm_pv = true,
    .pcid = true,
    .invpcid = true,
    .smap = true,
    .smep = true,
    .umip = true,
    .fsgsbase = true,
    .xsave = true,
    .avx = true,
    .avx512 = true,
    .isolated = true,
    .tsc_khz = 2000000,
};

static void build(struct cpuid *c, const char *model, const struct cpuid_limits *l, unsigned ncpus)
{
    struct err e = { 0 };
    int r = cpuid_build(c, model, l, ncpus, &e);

    if (r)
        print_error("%s\n", e.msg);
    assert_int_equal(r, 0);
}

static void query(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    cpuid_query(c, leaf, subleaf, 1, CR4_OSXSAVE, c->xcr0, out);
}

static void test_unknown_model(void **state)
{
    (void)state;
    struct cpuid c;
    struct err e = { 0 };

    assert_int_equal(cpuid_build(&c, "pentium9", &all, 1, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "\"pentium9\""));
}

static void test_v2_has_no_avx(void **state)
{
    (void)state;
    struct cpuid c;

    build(&c, "x86-64-v2", &all, 1);
    assert_true(cpuid_has(&c, 1, 0, ECX, 20));
    assert_false(cpuid_has(&c, 1, 0, ECX, 28));
    assert_false(cpuid_has(&c, 7, 0, EBX, 5));
    assert_true(cpuid_has(&c, 0x80000001, 0, EDX, 29));
    assert_false(c.xcr0 & XCR0_AVX);
}

static void test_limits_name_what_is_missing(void **state)
{
    (void)state;
    struct cpuid_limits l = all;
    struct err e = { 0 };
    struct cpuid c;

    l.avx = false;
    assert_int_equal(cpuid_build(&c, "x86-64-v3", &l, 1, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, " avx2"));
    build(&c, "host", &l, 1);
    assert_false(cpuid_has(&c, 1, 0, ECX, 28));
    assert_false(cpuid_has(&c, 7, 0, EBX, 16));
}

static void test_personal_answers(void **state)
{
    (void)state;
    struct cpuid c;
    uint32_t out[4];

    build(&c, "host", &all, 4);
    cpuid_query(&c, 1, 0, 3, 0, 1, out);
    assert_int_equal(out[EBX] >> 24, 3);
    assert_int_equal(out[EBX] >> 16 & 0xff, 4);
    assert_false(out[ECX] & BIT(27));
    assert_true(out[ECX] & BIT(31));
    cpuid_query(&c, 1, 7, 3, CR4_OSXSAVE, 1, out);
    assert_true(out[ECX] & BIT(27));
}

static void test_topology(void **state)
{
    (void)state;
    struct cpuid c;
    uint32_t out[4];

    build(&c, "host", &all, 3);
    query(&c, 0xb, 0, out);
    assert_int_equal(out[EAX], 0);
    assert_int_equal(out[ECX], 0x100);
    assert_int_equal(out[EDX], 1);
    query(&c, 0xb, 1, out);
    assert_int_equal(out[EAX], 2);
    assert_int_equal(out[EBX], 3);
    assert_int_equal(out[ECX], 0x201);
    query(&c, 0xb, 2, out);
    assert_int_equal(out[EBX], 0);
    assert_int_equal(out[ECX], 2);
    query(&c, 4, 0, out);
    assert_int_equal(out[EAX] >> 26, 3);
}

static void test_xsave_sizes(void **state)
{
    (void)state;
    struct cpuid c;
    uint32_t out[4];

    build(&c, "host", &all, 1);
    if (!c.xcr0 || !(c.xcr0 & XCR0_AVX))
        skip();
    assert_false(c.xcr0 >> 17 & 3); /* AMX */
    cpuid_query(&c, 0xd, 0, 0, CR4_OSXSAVE, 3, out);
    assert_int_equal(out[EAX], (uint32_t)c.xcr0);
    assert_int_equal(out[EBX], 576);
    assert_true(out[ECX] >= 832);
    cpuid_query(&c, 0xd, 0, 0, CR4_OSXSAVE, 7, out);
    assert_int_equal(out[EBX], 832);
    query(&c, 0xd, 1, out);
    assert_false(out[EAX] & BIT(3)); /* XSAVES */
    query(&c, 0xd, 2, out);
    assert_int_equal(out[EAX], 256);
    assert_int_equal(out[EBX], 576);
}

static void test_kvm_leaves(void **state)
{
    (void)state;
    struct cpuid_limits l = all;
    struct cpuid c;
    uint32_t out[4];

    build(&c, "x86-64-v2", &all, 1);
    query(&c, 0x40000000, 0, out);
    assert_memory_equal(&out[EBX], "KVMKVMKVM\0\0\0", 12);
    query(&c, 0x40000001, 0, out);
    assert_int_equal(out[EAX], BIT(1) | BIT(3) | BIT(11) | BIT(24));
    query(&c, 0x40000010, 0, out);
    assert_int_equal(out[EAX], 2000000);
    l.kvm_pv = false;
    build(&c, "x86-64-v2", &l, 1);
    query(&c, 0x40000000, 0, out);
    assert_int_equal(out[EAX] | out[EBX], 0);
}

static void test_clocks(void **state)
{
    (void)state;
    struct cpuid_limits l = all;
    struct cpuid c;
    uint32_t out[4];

    build(&c, "host", &l, 1);
    query(&c, 0x15, 0, out);
    assert_int_equal((uint64_t)out[ECX] * out[EBX] / out[EAX], 2000000000ull);
    query(&c, 0x16, 0, out);
    assert_int_equal(out[EAX], 2000);
    l.tsc_khz = 2893437; /* no exact fraction that Linux could multiply: not told */
    build(&c, "host", &l, 1);
    query(&c, 0x15, 0, out);
    assert_int_equal(out[EAX] | out[EBX] | out[ECX], 0);
}

static void test_arch_capabilities(void **state)
{
    (void)state;
    struct cpuid_limits l = all;
    struct cpuid c;

    build(&c, "host", &all, 1);
    assert_true(cpuid_has(&c, 7, 0, EDX, 29));
    assert_true(cpuid_arch_capabilities(&c) & BIT(0));
    l.isolated = false;
    build(&c, "host", &l, 1);
    assert_int_equal(cpuid_arch_capabilities(&c), 0);
}

static void test_beyond_the_last_leaf(void **state)
{
    (void)state;
    struct cpuid c;
    uint32_t host[4], out[4];

    cpuid_host(0, 0, host);
    if (host[EBX] != 0x756e6547) /* Intel's rule */
        skip();
    build(&c, "host", &all, 1);
    query(&c, 0x5000, 1, out);
    assert_int_equal(out[ECX], 0x201);
    query(&c, 0x14, 0, out); /* inside, but nothing to say */
    assert_int_equal(out[EAX] | out[EBX] | out[ECX] | out[EDX], 0);
}

/* 32 bits, no leaf but a few, no hypervisor: what Windows NT 4 can live with. */
static void test_old_models(void **state)
{
    (void)state;
    struct cpuid_limits poor = { .phys_bits = 40 };
    uint32_t out[4];
    struct cpuid c;

    build(&c, "pentium", &poor, 2);
    query(&c, 0, 0, out);
    assert_int_equal(out[EAX], 1);
    assert_int_equal(out[EBX], 0x756e6547);
    query(&c, 1, 0, out);
    assert_int_equal(out[EAX], 0x543);
    assert_int_equal(out[ECX] & ~BIT(27), 0); /* OSXSAVE is query()'s */
    assert_int_equal(out[EDX], 0x008003bd);
    query(&c, 0x80000000, 0, out); /* beyond all */
    assert_int_equal(out[EAX], 0x543);
    build(&c, "pentium3", &all, 1);
    query(&c, 5, 0, out);
    assert_int_equal(out[EAX], 0x03020101);
    assert_true(cpuid_has(&c, 1, 0, EDX, 6)); /* PAE */
    assert_false(cpuid_has(&c, 0x80000001, 0, EDX, 29));
    assert_int_equal(c.xcr0, 1);
}

/* A named model is one set of features, whatever else an accelerator can or cannot do. */
static void test_named_models_are_fixed(void **state)
{
    (void)state;
    static const char *const models[] = { "x86-64-v2", "x86-64-v3", "x86-64-v4" };
    struct cpuid_limits poor = all;
    struct err e = { 0 };
    struct cpuid a, b;
    struct cpuid_words words[2];

    poor.pcid = poor.invpcid = poor.isolated = poor.pku = false;
    poor.la57 = true;
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        if (cpuid_build(&a, models[i], &all, 1, &e))
            continue; /* not on this host */
        build(&b, models[i], &poor, 1);
        cpuid_features_of(&a, &words[0]);
        cpuid_features_of(&b, &words[1]);
        assert_memory_equal(&words[0], &words[1], sizeof(words[0]));
        assert_int_equal(a.xcr0, b.xcr0);
        assert_false(cpuid_has(&a, 1, 0, ECX, 17)); /* PCID */
    }
}

static void test_offered_and_forced(void **state)
{
    (void)state;
    struct cpuid_words offered, forced = { 0 };
    struct cpuid_limits l = all;
    struct err e = { 0 };
    struct cpuid c;

    memset(&offered, 0xff, sizeof(offered));
    offered.word[CPUID_1_ECX] &= ~BIT(20); /* SSE4.2 */
    forced.word[CPUID_7_EBX] = BIT(5);     /* AVX2 */
    l.offered = &offered;
    l.forced = &forced;
    assert_int_equal(cpuid_build(&c, "x86-64-v2", &l, 1, &e), -ENOTSUP);
    assert_non_null(strstr(e.msg, "lacks: sse4_2;"));
    build(&c, "host", &l, 1);
    assert_false(cpuid_has(&c, 1, 0, ECX, 20));
    offered.word[CPUID_1_ECX] |= BIT(20);
    build(&c, "x86-64-v2", &l, 1);
    assert_true(cpuid_has(&c, 7, 0, EBX, 5));
}

static void test_what_is_lacking_has_names(void **state)
{
    (void)state;
    struct cpuid_words need;
    struct cpuid c;
    char names[64];

    build(&c, "x86-64-v2", &all, 1);
    cpuid_features_of(&c, &need);
    assert_false(cpuid_lacks(&c, &need, names, sizeof(names)));
    assert_string_equal(names, "");
    need.word[CPUID_1_ECX] |= BIT(17) | BIT(28);
    assert_true(cpuid_lacks(&c, &need, names, sizeof(names)));
    assert_string_equal(names, " pcid avx");
    need.word[CPUID_6_EAX] |= BIT(31); /* nothing that we know */
    assert_true(cpuid_lacks(&c, &need, names, sizeof(names)));
    assert_string_equal(names, " pcid avx others");
    assert_true(cpuid_lacks(&c, &need, names, 8));
    assert_string_equal(names, " pcid a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_model),
        cmocka_unit_test(test_v2_has_no_avx),
        cmocka_unit_test(test_limits_name_what_is_missing),
        cmocka_unit_test(test_personal_answers),
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_xsave_sizes),
        cmocka_unit_test(test_kvm_leaves),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_arch_capabilities),
        cmocka_unit_test(test_beyond_the_last_leaf),
        cmocka_unit_test(test_old_models),
        cmocka_unit_test(test_named_models_are_fixed),
        cmocka_unit_test(test_offered_and_forced),
        cmocka_unit_test(test_what_is_lacking_has_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
