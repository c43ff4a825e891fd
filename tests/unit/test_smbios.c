#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "boot/smbios.h"

/* Walks the structures as a consumer does: every length and string set must lead to the end marker. */
static void test_walk(void **ctx)
{
    static const uint8_t uuid[16] = { 1, 2, 3 };
    const struct smbios_desc d = { 4, 8 * GIB, 3 * GIB, "web", uuid };
    unsigned seen[128] = { 0 };
    struct smbios_tables t;
    const uint8_t *p, *end;
    uint8_t sum = 0;

    (void)ctx;
    assert_int_equal(smbios_build(&d, 0xf0000, &t), 0);
    assert_memory_equal(t.data, "_SM3_", 5);
    for (unsigned i = 0; i < t.data[6]; i++)
        sum = (uint8_t)(sum + t.data[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(ld_le64(t.data + 16), 0xf0000 + 24);
    p = t.data + 24;
    end = t.data + t.len;
    while (p < end) {
        assert_in_range(p[0], 0, 127);
        seen[p[0]]++;
        if (p[0] == 1)
            assert_memory_equal(p + 8, uuid, 16);
        if (p[0] == 4)
            assert_int_equal(p[1], 0x2a);
        p += p[1];
        while (p + 1 < end && (p[0] || p[1]))
            p++;
        p += 2;
    }
    assert_ptr_equal(p, end);
    assert_int_equal(seen[4], 4);
    assert_int_equal(seen[19], 2);
    assert_int_equal(seen[127], 1);
    free(t.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_walk) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
