/* The VGA's registers and memory, and the pictures that follow from them: golden ones by eye, small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "hw/vga.h"
#include "testvm.h"

#define WINDOW 0xa0000ull
#define FB     0xe0000000ull

struct fixture {
    struct testvm *t;
    struct ram_region vram;
    struct vga *v;
    struct surface s;
};

static const struct vga_at at = { WINDOW, 0x3b0, 0x1ce };

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct pci_bus *bus;

    assert_non_null(f);
    f->t = testvm_create(0);
    bus = pci_bus_create(f->t->vm, NULL);
    assert_int_equal(ram_alloc(&f->vram, "vga", FB, VGA_VRAM_LEN, NULL), 0);
    f->v = vga_create(f->t->vm, bus, PCI_DEVFN(2, 0), &at, &f->vram, NULL, 0, NULL);
    assert_non_null(f->v);
    testvm_pci_out(f->t, PCI_DEVFN(2, 0), PCI_BAR0, 4, FB);
    testvm_pci_out(f->t, PCI_DEVFN(2, 0), PCI_COMMAND, 2, 7);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    ram_free(&f->vram);
    surface_fini(&f->s);
    free(f);
    return 0;
}

static void reg(struct fixture *f, uint16_t port, uint8_t index, uint8_t val)
{
    testvm_out(f->t, port, 2, (uint64_t)val << 8 | index);
}

static void attr(struct fixture *f, uint8_t index, uint8_t val)
{
    testvm_in(f->t, 0x3da, 1);
    testvm_out(f->t, 0x3c0, 1, index);
    testvm_out(f->t, 0x3c0, 1, val);
}

static void color(struct fixture *f, uint8_t index, uint8_t r, uint8_t g, uint8_t b)
{
    testvm_out(f->t, 0x3c8, 1, index);
    testvm_out(f->t, 0x3c9, 1, r);
    testvm_out(f->t, 0x3c9, 1, g);
    testvm_out(f->t, 0x3c9, 1, b);
}

static void dispi(struct fixture *f, uint16_t index, uint16_t val)
{
    testvm_out(f->t, 0x1ce, 2, index);
    testvm_out(f->t, 0x1cf, 2, val);
}

static uint16_t dispi_read(struct fixture *f, uint16_t index)
{
    testvm_out(f->t, 0x1ce, 2, index);
    return (uint16_t)testvm_in(f->t, 0x1cf, 2);
}

/* A mode of width * 8 pixels by height lines; attribute controller: 16 colours as they come. */
static void mode(struct fixture *f, unsigned columns, unsigned lines, uint8_t scan, uint8_t offset)
{
    testvm_out(f->t, 0x3c2, 1, 0x67);
    reg(f, 0x3c4, 1, 1);
    reg(f, 0x3d4, 0x11, 0);
    reg(f, 0x3d4, 1, (uint8_t)(columns - 1));
    reg(f, 0x3d4, 0x12, (uint8_t)(lines - 1));
    reg(f, 0x3d4, 7, (uint8_t)(0x10 | ((lines - 1) & 0x100) >> 7 | ((lines - 1) & 0x200) >> 3));
    reg(f, 0x3d4, 9, scan | 0x40);
    reg(f, 0x3d4, 0x18, 0xff);
    reg(f, 0x3d4, 0x13, offset);
    reg(f, 0x3d4, 0x17, 0xe3);
    reg(f, 0x3d4, 0x0a, 0x20);
    for (uint8_t i = 0; i < 16; i++) {
        attr(f, i, i);
        color(f, i, i, 0, 0x3f);
    }
    attr(f, 0x12, 0x0f);
    testvm_in(f->t, 0x3da, 1);
    testvm_out(f->t, 0x3c0, 1, 0x20);
}

static void draw(struct fixture *f)
{
    struct picture p;

    vga_picture(f->v, &p);
    assert_int_equal(picture_draw(&p, &f->s), 0);
}

static uint32_t pixel(struct fixture *f, unsigned x, unsigned y)
{
    assert_true(x < f->s.width && y < f->s.height);
    return f->s.pixels[y * f->s.width + x];
}

/* Colour i of mode(): i in 6 bits of red, all of blue. */
static uint32_t indexed(uint32_t i)
{
    return (i << 2 | i >> 4) << 16 | 0xff;
}

static void text_mode(struct fixture *f)
{
    mode(f, 80, 400, 15, 40);
    reg(f, 0x3c4, 2, 4); /* the font: 'A' is a line and a dot below it */
    reg(f, 0x3c4, 4, 6);
    reg(f, 0x3ce, 5, 0);
    reg(f, 0x3ce, 6, 4);
    reg(f, 0x3ce, 8, 0xff);
    testvm_write(f->t, WINDOW + 'A' * 32, 1, 0xff);
    testvm_write(f->t, WINDOW + 'A' * 32 + 1, 1, 0x80);
    reg(f, 0x3c4, 2, 3);
    reg(f, 0x3c4, 4, 2);
    reg(f, 0x3ce, 5, 0x10);
    reg(f, 0x3ce, 6, 0x0e);
}

static void test_text(void **ctx)
{
    struct fixture *f = *ctx;
    struct picture p;
    char *text;

    text_mode(f);
    testvm_write(f->t, 0xb8000, 4, 0x1e411e41); /* AA, yellow on blue */
    testvm_write(f->t, 0xb8000 + 160, 2, 0x07b3);
    assert_int_equal(testvm_read(f->t, 0xb8000, 4), 0x1e411e41);
    draw(f);
    assert_int_equal(f->s.width, 640);
    assert_int_equal(f->s.height, 400);
    assert_int_equal(pixel(f, 0, 0), indexed(14));
    assert_int_equal(pixel(f, 15, 0), indexed(14));
    assert_int_equal(pixel(f, 16, 0), indexed(0));
    assert_int_equal(pixel(f, 8, 1), indexed(14));
    assert_int_equal(pixel(f, 9, 1), indexed(1));
    vga_picture(f->v, &p);
    text = picture_text(&p);
    assert_memory_equal(text, "AA\n\xe2\x94\x82\n", 7);
    free(text);
    assert_int_equal(testvm_read(f->t, 0xb0000, 1), 0xff); /* not mapped in this mode */
}

static void test_cursor(void **ctx)
{
    struct fixture *f = *ctx;

    text_mode(f);
    testvm_write(f->t, 0xb8000, 2, 0x0720);
    reg(f, 0x3d4, 0x0a, 14);
    reg(f, 0x3d4, 0x0b, 15);
    draw(f);
    assert_int_equal(pixel(f, 0, 13), indexed(0));
    assert_int_equal(pixel(f, 0, 14), indexed(7));
    clock_advance(f->t->vm->clock, 300000000); /* blinks */
    draw(f);
    assert_int_equal(pixel(f, 0, 14), indexed(0));
}

static void planar(struct fixture *f)
{
    mode(f, 80, 480, 0, 40);
    reg(f, 0x3c4, 2, 0x0f);
    reg(f, 0x3c4, 4, 6);
    reg(f, 0x3ce, 5, 0);
    reg(f, 0x3ce, 6, 5);
    reg(f, 0x3ce, 8, 0xff);
}

static void test_planar_write_modes(void **ctx)
{
    struct fixture *f = *ctx;

    planar(f);
    reg(f, 0x3ce, 0, 5); /* set/reset in all planes */
    reg(f, 0x3ce, 1, 0x0f);
    testvm_write(f->t, WINDOW, 1, 0);
    reg(f, 0x3ce, 1, 0);
    reg(f, 0x3ce, 8, 0x80); /* mode 0: one bit, the rest from the latches */
    testvm_read(f->t, WINDOW, 1);
    testvm_write(f->t, WINDOW, 1, 0xff);
    draw(f);
    assert_int_equal(f->s.width, 640);
    assert_int_equal(f->s.height, 480);
    assert_int_equal(pixel(f, 0, 0), indexed(15));
    assert_int_equal(pixel(f, 1, 0), indexed(5));
    reg(f, 0x3ce, 5, 1); /* mode 1: copies latches */
    testvm_write(f->t, WINDOW + 81, 1, 0);
    reg(f, 0x3ce, 5, 2); /* mode 2: colour 9 in the lowest bit, xor */
    reg(f, 0x3ce, 3, 0x18);
    reg(f, 0x3ce, 8, 0x01);
    testvm_read(f->t, WINDOW, 1);
    testvm_write(f->t, WINDOW, 1, 9);
    reg(f, 0x3ce, 3, 0);
    reg(f, 0x3ce, 5, 3); /* mode 3: set/reset where the rotated byte and the mask agree */
    reg(f, 0x3ce, 8, 0xff);
    reg(f, 0x3ce, 3, 4);
    testvm_read(f->t, WINDOW + 160, 1);
    testvm_write(f->t, WINDOW + 160, 1, 0x0f);
    draw(f);
    assert_int_equal(pixel(f, 7, 0), indexed(5 ^ 9));
    assert_int_equal(pixel(f, 8, 1), indexed(5));
    assert_int_equal(pixel(f, 3, 2), indexed(5));
    assert_int_equal(pixel(f, 4, 2), indexed(0));
}

static void test_planar_reads(void **ctx)
{
    struct fixture *f = *ctx;

    planar(f);
    for (uint8_t plane = 0; plane < 4; plane++) {
        reg(f, 0x3c4, 2, (uint8_t)(1 << plane));
        testvm_write(f->t, WINDOW + 5, 1, 0x10u << plane);
    }
    for (uint8_t plane = 0; plane < 4; plane++) {
        reg(f, 0x3ce, 4, plane);
        assert_int_equal(testvm_read(f->t, WINDOW + 5, 1), 0x10u << plane);
    }
    reg(f, 0x3ce, 5, 8); /* compare: colour 4, all planes, then none of plane 2 */
    reg(f, 0x3ce, 2, 4);
    reg(f, 0x3ce, 7, 0x0f);
    assert_int_equal(testvm_read(f->t, WINDOW + 5, 1), 0x40);
    reg(f, 0x3ce, 7, 0x0b);
    assert_int_equal(testvm_read(f->t, WINDOW + 5, 1), 0x4f);
}

/* Line compare: the lower part of the screen begins at address 0. */
static void test_split_and_start(void **ctx)
{
    struct fixture *f = *ctx;

    planar(f);
    testvm_write(f->t, WINDOW, 1, 0x80);
    reg(f, 0x3d4, 0x0d, 80); /* starts with the second line */
    reg(f, 0x3d4, 0x18, 99);
    reg(f, 0x3d4, 7, 0x02);
    reg(f, 0x3d4, 9, 0);
    draw(f);
    assert_int_equal(pixel(f, 0, 0), indexed(0));
    assert_int_equal(pixel(f, 0, 100), indexed(15));
    assert_int_equal(pixel(f, 0, 101), indexed(0));
}

static void test_mode13_and_x(void **ctx)
{
    struct fixture *f = *ctx;

    mode(f, 80, 400, 1, 40);
    reg(f, 0x3c4, 2, 0x0f);
    reg(f, 0x3c4, 4, 0x0e);
    reg(f, 0x3ce, 5, 0x40);
    reg(f, 0x3ce, 6, 5);
    reg(f, 0x3ce, 8, 0xff);
    testvm_write(f->t, WINDOW + 321, 1, 3);
    draw(f);
    assert_int_equal(f->s.width, 320);
    assert_int_equal(f->s.height, 200);
    assert_int_equal(pixel(f, 1, 1), indexed(3));
    assert_int_equal(pixel(f, 2, 1), indexed(0));
    reg(f, 0x3c4, 4, 6); /* unchained: byte 1 is pixels 4 to 7, by plane */
    reg(f, 0x3c4, 2, 4);
    testvm_write(f->t, WINDOW + 1, 1, 7);
    draw(f);
    assert_int_equal(pixel(f, 6, 0), indexed(7));
    assert_int_equal(pixel(f, 5, 0), indexed(0));
}

static void test_vbe(void **ctx)
{
    static const struct {
        uint16_t bpp;
        uint32_t val, rgb;
    } depths[] = { { 8, 2, 0x08003f << 0 },
                   { 15, 0x7c1f, 0xff00ff },
                   { 16, 0x07e0, 0x00ff00 },
                   { 24, 0x123456, 0x123456 },
                   { 32, 0xff123456, 0x123456 } };
    struct fixture *f = *ctx;

    assert_int_equal(dispi_read(f, 0), 0xb0c5);
    assert_int_equal(dispi_read(f, 10), VGA_VRAM_LEN / 65536);
    color(f, 2, 2, 0, 0x3f);
    for (unsigned i = 0; i < ARRAY_SIZE(depths); i++) {
        unsigned bytes = (depths[i].bpp + 7u) / 8;

        dispi(f, 4, 0);
        dispi(f, 1, 1024);
        dispi(f, 2, 768);
        dispi(f, 3, depths[i].bpp);
        dispi(f, 4, 0x41);
        testvm_write(f->t, FB + (1024 * 2 + 3) * bytes, bytes == 3 ? 4 : bytes, depths[i].val);
        draw(f);
        assert_int_equal(f->s.width, 1024);
        assert_int_equal(f->s.height, 768);
        assert_int_equal(pixel(f, 3, 2), depths[i].bpp == 8 ? indexed(2) : depths[i].rgb);
        assert_int_equal(pixel(f, 2, 2), 0);
    }
    dispi(f, 5, 1); /* the window is a bank */
    testvm_out(f->t, 0x3c2, 1, 0x67);
    testvm_write(f->t, WINDOW + 4, 4, 0xabcdef);
    assert_int_equal(testvm_read(f->t, FB + 0x10004, 4), 0xabcdef);
}

/* Whatever is asked for, what is shown lies in memory. */
static void test_vbe_sizes(void **ctx)
{
    static const uint16_t odd[] = { 0, 1, 7, 8, 9, 641, 2560, 2561, 0x7fff, 0xffff };
    struct fixture *f = *ctx;
    struct picture p;

    for (unsigned i = 0; i < ARRAY_SIZE(odd) * ARRAY_SIZE(odd); i++) {
        dispi(f, 4, 0);
        dispi(f, 1, odd[i % ARRAY_SIZE(odd)]);
        dispi(f, 2, odd[i / ARRAY_SIZE(odd)]);
        dispi(f, 3, 32);
        dispi(f, 4, 0xc1);
        dispi(f, 6, odd[i / ARRAY_SIZE(odd)]);
        dispi(f, 8, odd[i % ARRAY_SIZE(odd)]);
        dispi(f, 9, odd[i / ARRAY_SIZE(odd)]);
        vga_picture(f->v, &p);
        assert_in_range(p.width, 8, 2560);
        assert_in_range(p.height, 1, 1600);
        assert_true(p.start + (uint64_t)p.pitch * (p.height - 1) + p.width * 4u <= VGA_VRAM_LEN);
    }
}

static void test_retrace_advances(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned seen = 0;

    testvm_out(f->t, 0x3c2, 1, 0x67);
    for (unsigned i = 0; i < 4000; i++) {
        seen |= BIT(testvm_in(f->t, 0x3da, 1));
        clock_advance(f->t->vm->clock, 10000);
    }
    assert_int_equal(seen, BIT(0) | BIT(1) | BIT(9));
}

static void test_registers_that_are_not_there(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_out(f->t, 0x3c2, 1, 0x67);
    for (unsigned i = 0; i < 256; i++) {
        reg(f, 0x3c4, (uint8_t)i, 0xff);
        reg(f, 0x3ce, (uint8_t)i, 0xff);
        reg(f, 0x3d4, (uint8_t)i, 0xff);
        attr(f, (uint8_t)i, 0xff);
        dispi(f, (uint16_t)(i * 257), 0xffff);
    }
    assert_int_equal(testvm_in(f->t, 0x3b4, 1), 0xff); /* a colour adapter */
    draw(f);
}

/* What a BIOS leaves: a blank page of 80 by 25 cells, where a kernel's characters appear in their colours. */
static void test_text_without_bios(void **ctx)
{
    static uint8_t font[256 * VGA_FONT_LINES];
    struct fixture *f = *ctx;
    struct picture p;
    char *text;

    memset(font + 'A' * VGA_FONT_LINES, 0x80, VGA_FONT_LINES);
    vga_set_text(f->v, font);
    testvm_write(f->t, WINDOW + 0x18000 + 2 * (80 + 1), 2, 0x1e41); /* yellow on blue */
    draw(f);
    assert_int_equal(f->s.width, 720);
    assert_int_equal(f->s.height, 400);
    assert_int_equal(pixel(f, 9, 16), 0xffff55);
    assert_int_equal(pixel(f, 10, 16), 0x0000aa);
    assert_int_equal(pixel(f, 0, 16), 0);
    vga_picture(f->v, &p);
    text = picture_text(&p);
    assert_non_null(strstr(text, "\n A"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cursor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_planar_write_modes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_planar_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_split_and_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mode13_and_x, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_vbe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_vbe_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_without_bios, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retrace_advances, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_registers_that_are_not_there, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
