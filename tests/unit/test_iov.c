#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/iov.h"

static void test_copies(void **ctx)
{
    char a[4] = "abc", b[1], c[5] = "defg", out[16] = { 0 };
    struct iovec iov[] = { { a, 3 }, { b, 0 }, { c, 4 } };

    (void)ctx;
    assert_int_equal(iov_size(iov, 3), 7);
    assert_int_equal(iov_copy_from(iov, 3, 2, out, 3), 3);
    assert_string_equal(out, "cde");
    assert_int_equal(iov_copy_from(iov, 3, 5, out, 16), 2); /* as much as there is */
    assert_int_equal(iov_copy_from(iov, 3, 9, out, 1), 0);
    assert_int_equal(iov_copy_to(iov, 3, 1, "WXYZ", 4), 4);
    assert_string_equal(a, "aWX");
    assert_string_equal(c, "YZfg");
}

static void test_slice(void **ctx)
{
    char a[4], c[8];
    struct iovec iov[] = { { a, 4 }, { a, 0 }, { c, 8 } }, out[3];

    (void)ctx;
    assert_int_equal(iov_slice(out, iov, 3, 2, 6), 2);
    assert_ptr_equal(out[0].iov_base, a + 2);
    assert_int_equal(out[0].iov_len, 2);
    assert_ptr_equal(out[1].iov_base, c);
    assert_int_equal(out[1].iov_len, 4);
    assert_int_equal(iov_slice(out, iov, 3, 4, 100), 1); /* nothing empty, nothing beyond */
    assert_int_equal(out[0].iov_len, 8);
    assert_int_equal(iov_slice(out, iov, 3, 12, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_slice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
