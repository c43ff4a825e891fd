#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "display/keymap.h"

static void expect(uint8_t key, bool down, const char *bytes, unsigned len)
{
    uint8_t code[KEYMAP_CODE_MAX];

    assert_int_equal(keymap_set2(key, down, code), len);
    assert_memory_equal(code, bytes, len);
}

static void test_keysyms(void **ctx)
{
    (void)ctx;
    assert_int_equal(keymap_key('a'), 0x1e);
    assert_int_equal(keymap_key('A'), 0x1e);
    assert_int_equal(keymap_key('"'), keymap_key('\''));
    assert_int_equal(keymap_key(0xff0d), 0x1c);
    assert_int_equal(keymap_key(0xffff), 0xd3);
    assert_int_equal(keymap_key(0), 0);
    assert_int_equal(keymap_key(0x1000000), 0);
}

/* All that can be typed has a key, and that key a code. */
static void test_all_of_ascii(void **ctx)
{
    uint8_t code[KEYMAP_CODE_MAX];

    (void)ctx;
    for (uint32_t c = ' '; c <= '~'; c++)
        assert_int_equal(keymap_set2(keymap_key(c), true, code), 1);
}

static void test_codes(void **ctx)
{
    (void)ctx;
    expect(0x1e, true, "\x1c", 1);
    expect(0x1e, false, "\xf0\x1c", 2);
    expect(0xd3, true, "\xe0\x71", 2);
    expect(0xd3, false, "\xe0\xf0\x71", 3);
    expect(0xc6, true, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77", 8);
    expect(0xc6, false, "", 0);
    expect(0x00, true, "", 0);
    expect(0x7f, true, "", 0);
    expect(0xff, true, "", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keysyms),
        cmocka_unit_test(test_all_of_ascii),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
