#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/util.h"

static void expect_size(const char *text, uint64_t want)
{
    uint64_t got = 0;

    if (util_parse_size(text, &got))
        fail_msg("'%s' was refused", text);
    assert_int_equal(got, want);
}

static void expect_refused(const char *text, int why)
{
    uint64_t got = 42;

    if (util_parse_size(text, &got) != why)
        fail_msg("'%s' was not refused as it should", text);
    assert_int_equal(got, 42);
}

static void test_sizes(void **ctx)
{
    (void)ctx;
    expect_size("0", 0);
    expect_size("512", 512);
    expect_size("512B", 512);
    expect_size("4k", 4 * KIB);
    expect_size("1.5GiB", 3 * GIB / 2);
    expect_size("0.25m", 256 * KIB);
    expect_size("15E", 15ull << 60);
}

static void test_bad_sizes(void **ctx)
{
    (void)ctx;
    expect_refused("", -EINVAL);
    expect_refused("-1", -EINVAL);
    expect_refused("1.5", -EINVAL);
    expect_refused("1X", -EINVAL);
    expect_refused("16E", -ERANGE);
    expect_refused("99999999999999999999", -ERANGE);
    expect_refused("512 ", -EINVAL); /* was taken for a seventh unit */
    expect_refused("512 iB", -EINVAL);
    expect_refused("1.5e99G", -EINVAL); /* an exponent made the fraction a number above any size */
    expect_refused("1.infG", -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bad_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
