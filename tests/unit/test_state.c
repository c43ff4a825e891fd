#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "state/state.h"

static void save_two(struct state *s, uint32_t a, uint64_t b)
{
    state_init_save(s);
    state_begin(s, "chip", "chip0", 2);
    state_u32(s, &a);
    state_u64(s, &b);
    state_end(s);
}

static void test_round_trip(void **ctx)
{
    struct state out, in;
    uint32_t a = 0;
    uint64_t b = 0;

    (void)ctx;
    save_two(&out, 0x12345678, 42);
    state_init_load(&in, out.buf, out.len);
    state_begin(&in, "chip", "chip0", 2);
    state_u32(&in, &a);
    state_u64(&in, &b);
    state_end(&in);
    assert_int_equal(state_error(&in), 0);
    assert_int_equal(a, 0x12345678);
    assert_int_equal(b, 42);
    state_fini(&out);
}

static void test_refusals(void **ctx)
{
    struct state out, in;
    uint32_t a = 7;

    (void)ctx;
    save_two(&out, 1, 2);
    state_init_load(&in, out.buf, out.len); /* longer than its fields */
    state_begin(&in, "chip", "chip0", 2);
    state_u32(&in, &a);
    state_end(&in);
    assert_int_equal(state_error(&in), -EINVAL);
    state_init_load(&in, out.buf, out.len); /* too new */
    state_begin(&in, "chip", "chip0", 1);
    assert_int_equal(state_error(&in), -ENOTSUP);
    state_u32(&in, &a);
    assert_int_equal(a, 0);                 /* sticky: zeros */
    state_init_load(&in, out.buf, out.len); /* another device */
    state_begin(&in, "chip", "chip1", 2);
    assert_int_equal(state_error(&in), -EINVAL);
    for (size_t cut = 0; cut < out.len; cut++) {
        uint64_t b;

        state_init_load(&in, out.buf, cut);
        state_begin(&in, "chip", "chip0", 2);
        state_u32(&in, &a);
        state_u64(&in, &b);
        state_end(&in);
        assert_int_not_equal(state_error(&in), 0);
    }
    state_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
