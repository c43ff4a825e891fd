#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <zlib.h>

#include "base/endian.h"
#include "display/picture.h"
#include "display/png.h"

enum { LEN = 64 * KIB };

/* CGA's 320x200: lines by turns in two banks, pixels of two bits. */
static void test_cga_banks(void **ctx)
{
    uint8_t *mem = calloc(1, LEN);
    struct picture p = { .kind = PICTURE_PAIRS,
                         .width = 16,
                         .height = 4,
                         .mem = mem,
                         .len = LEN,
                         .pitch = 8,
                         .split = 4,
                         .repeat = 1,
                         .row_bits = { 0x8000 },
                         .planes = 15 };
    struct surface s = { 0 };

    (void)ctx;
    for (uint32_t i = 0; i < 16; i++)
        p.palette[i] = i;
    mem[0] = 0x1b;                  /* line 0: 0 1 2 3 */
    mem[0x8001] = 0xe4;             /* line 1, the second four: 3 2 1 0 */
    mem[8 + 4] = mem[8 + 6] = 0xc0; /* line 2, pixel 8, upper bits too */
    assert_int_equal(picture_draw(&p, &s), 0);
    assert_int_equal(s.pixels[3], 3);
    assert_int_equal(s.pixels[16 + 4], 3);
    assert_int_equal(s.pixels[16 + 6], 1);
    assert_int_equal(s.pixels[32 + 8], 15);
    surface_fini(&s);
    free(mem);
}

/* Addresses beyond the memory's end begin anew: nothing else is ever read. */
static void test_wraps_around(void **ctx)
{
    static const enum picture_kind kinds[] = { PICTURE_TEXT, PICTURE_PLANAR, PICTURE_PAIRS,
                                               PICTURE_INDEX8, PICTURE_RGB };
    uint8_t *mem = calloc(1, LEN);
    struct surface s = { 0 };

    (void)ctx;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct picture p = { .kind = kinds[i],
                             .width = 640,
                             .height = 480,
                             .mem = mem,
                             .len = LEN,
                             .start = 0xfffffff1,
                             .pitch = 0x7fffff,
                             .repeat = 1,
                             .bpp = 32,
                             .cell_width = 9,
                             .cell_height = 32,
                             .planes = 15 };
        char *text;

        assert_int_equal(picture_draw(&p, &s), 0);
        text = picture_text(&p);
        assert_non_null(text);
        free(text);
    }
    surface_fini(&s);
    free(mem);
}

static void test_sizes_are_refused(void **ctx)
{
    struct picture p = { .kind = PICTURE_BLANK };
    struct surface s = { 0 };

    (void)ctx;
    assert_true(picture_draw(&p, &s) < 0);
    p.width = SURFACE_MAX + 1;
    p.height = 1;
    assert_true(picture_draw(&p, &s) < 0);
    p.width = SURFACE_MAX;
    assert_int_equal(picture_draw(&p, &s), 0);
    surface_fini(&s);
}

static void test_png(void **ctx)
{
    uint32_t pixels[] = { 0x112233, 0x445566 };
    const struct surface s = { 1, 2, pixels };
    uint8_t lines[8];
    uLongf n = sizeof(lines);
    size_t len;
    uint8_t *png = png_encode(&s, &len);

    (void)ctx;
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\2\x08\2\0\0\0", 29);
    assert_int_equal(ld_be32(png + 29), crc32(0, png + 12, 17));
    assert_memory_equal(png + 37, "IDAT", 4);
    assert_int_equal(uncompress(lines, &n, png + 41, ld_be32(png + 33)), Z_OK);
    assert_int_equal(n, 8);
    assert_memory_equal(lines, "\0\x11\x22\x33\0\x44\x55\x66", 8);
    assert_memory_equal(png + len - 8, "IEND\xae\x42\x60\x82", 8);
    free(png);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cga_banks),
        cmocka_unit_test(test_wraps_around),
        cmocka_unit_test(test_sizes_are_refused),
        cmocka_unit_test(test_png),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
