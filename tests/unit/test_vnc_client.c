#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "display/vnc_priv.h"

struct fixture {
    struct vnc_source source;
    struct surface screen;
    struct vnc_client c;
    struct input_sink keyboard, tablet;
    uint8_t keys[64];
    unsigned n_keys;
    unsigned x, y, buttons, points;
    int wheel;
};

static bool enabled(struct input_sink *s)
{
    (void)s;
    return true;
}

/* As a PS/2 keyboard sends them. */
static void key(struct input_sink *s, uint8_t key, bool down)
{
    struct fixture *f = container_of(s, struct fixture, keyboard);
    uint8_t code[KEYMAP_CODE_MAX];
    unsigned len = keymap_set2(key, down, code);

    assert_true(f->n_keys + len <= sizeof(f->keys));
    memcpy(f->keys + f->n_keys, code, len);
    f->n_keys += len;
}

static void point(struct input_sink *s, unsigned x, unsigned y, unsigned buttons, int wheel)
{
    struct fixture *f = container_of(s, struct fixture, tablet);

    f->x = x;
    f->y = y;
    f->buttons = buttons;
    f->wheel += wheel;
    f->points++;
}

static const struct input_sink_ops keyboard = { .enabled = enabled, .key = key };
static const struct input_sink_ops tablet = { .enabled = enabled, .absolute = point };

static int set_up(void **ctx)
{
    static const uint8_t challenge[VNC_CHALLENGE] = "0123456789abcdef";
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->source = (struct vnc_source){ f, NULL, input_create(NULL) };
    assert_non_null(f->source.input);
    f->keyboard.ops = &keyboard;
    f->tablet.ops = &tablet;
    input_add(f->source.input, &f->keyboard);
    input_add(f->source.input, &f->tablet);
    assert_int_equal(surface_resize(&f->screen, 100, 40), 0);
    f->c.source = &f->source;
    f->c.screen = &f->screen;
    vnc_client_start(&f->c, challenge);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    vnc_client_fini(&f->c);
    input_destroy(f->source.input);
    surface_fini(&f->screen);
    free(f);
    return 0;
}

static void sent(struct fixture *f, const void *bytes, size_t len)
{
    assert_true(f->c.tx.len >= len);
    assert_memory_equal(f->c.tx.data, bytes, len);
    f->c.tx.len = 0;
}

static void feed(struct fixture *f, const void *bytes, size_t len)
{
    assert_int_equal(vnc_client_feed(&f->c, bytes, len), len);
}

static void shake_hands(struct fixture *f)
{
    sent(f, "RFB 003.008\n", 12);
    feed(f, "RFB 003.008\n", 12);
    sent(f, "\1\1", 2);
    feed(f, "\1", 1);
    sent(f, "\0\0\0\0", 4);
    feed(f, "\1", 1);
    assert_int_equal(f->c.tx.len, 4 + 16 + 4 + 5);
    sent(f, "\0\x64\0\x28\x20\x18\0\1\0\xff", 10);
}

static void test_raw_update(void **ctx)
{
    struct fixture *f = *ctx;

    f->screen.pixels[0] = 0x123456;
    shake_hands(f);
    feed(f, "\3\0\0\0\0\0\0\x64\0\x28", 10);
    vnc_client_update(&f->c);
    /* two lines of tiles, each as one rectangle */
    assert_int_equal(f->c.tx.len, 4 + 2 * 12 + 100 * 40 * 4);
    sent(f, "\0\0\0\2\0\0\0\0\0\x64\0\x20\0\0\0\0\x56\x34\x12\0", 20);
    feed(f, "\3\1\0\0\0\0\0\x64\0\x28", 10);
    vnc_client_update(&f->c);
    assert_int_equal(f->c.tx.len, 0); /* nothing changed */
    vnc_client_mark(&f->c, 3, 1);     /* the corner: 4 by 8 pixels */
    vnc_client_update(&f->c);
    assert_int_equal(f->c.tx.len, 4 + 12 + 4 * 8 * 4);
    sent(f, "\0\0\0\1\0\x60\0\x20\0\4\0\x08", 12);
}

static void test_formats(void **ctx)
{
    struct fixture *f = *ctx;

    f->screen.pixels[0] = 0xff8000;
    shake_hands(f);
    feed(f, "\0\0\0\0\x10\x10\1\1\0\x1f\0\x3f\0\x1f\x0b\5\0\0\0\0", 20); /* 5:6:5, big-endian */
    feed(f, "\3\0\0\0\0\0\0\x64\0\x28", 10);
    vnc_client_update(&f->c);
    assert_int_equal(f->c.tx.data[16], 0xfc);
    assert_int_equal(f->c.tx.data[17], 0x00);
    f->c.tx.len = 0;
    feed(f, "\0\0\0\0\x10\x10\1\1\0\x1f\0\x3f\0\x1f\x10\5\0\0\0\0", 20); /* a shift too far */
    assert_int_equal(f->c.phase, VNC_ENDED);
}

static void test_zrle_update(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t plain[64];
    z_stream z = { .next_out = plain, .avail_out = sizeof(plain) };

    for (unsigned i = 0; i < 100 * 40; i++)
        f->screen.pixels[i] = 0x112233;
    shake_hands(f);
    feed(f, "\2\0\0\2\0\0\0\x10\xff\xff\xff\x21", 12);
    feed(f, "\3\0\0\0\0\0\0\x64\0\x28", 10);
    vnc_client_update(&f->c);
    assert_int_equal(ld_be32(f->c.tx.data + 12), 16);
    assert_int_equal(inflateInit(&z), Z_OK);
    z.next_in = f->c.tx.data + 20;
    z.avail_in = ld_be32(f->c.tx.data + 16);
    assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
    inflateEnd(&z);
    assert_int_equal(sizeof(plain) - z.avail_out, 8); /* two tiles of one colour */
    assert_memory_equal(plain, "\1\x33\x22\x11\1\x33\x22\x11", 8);
}

static void test_resize(void **ctx)
{
    struct fixture *f = *ctx;

    shake_hands(f);
    feed(f, "\2\0\0\1\xff\xff\xff\x21", 8);
    feed(f, "\3\1\0\0\0\0\0\x64\0\x28", 10);
    assert_int_equal(surface_resize(&f->screen, 64, 32), 0);
    vnc_client_update(&f->c);
    sent(f, "\0\0\0\2\0\0\0\0\0\x40\0\x20\xff\xff\xff\x21", 16);
}

static void test_keys(void **ctx)
{
    struct fixture *f = *ctx;

    shake_hands(f);
    feed(f, "\4\1\0\0\0\0\0a", 8);
    feed(f, "\4\0\0\0\0\0\0a", 8);
    feed(f, "\xff\0\0\1\0\0\xff\xff\0\0\0\xd3", 12); /* raw: delete */
    assert_int_equal(f->n_keys, 5);
    assert_memory_equal(f->keys, "\x1c\xf0\x1c\xe0\x71", 5);
    feed(f, "\6\0\0\0\0\0\0\3abc\5\0\0\1\0\1", 17); /* clipboard, pointer: nothing */
    vnc_client_fini(&f->c);                         /* who leaves lets go */
    assert_int_equal(f->n_keys, 8);
    assert_memory_equal(f->keys + 5, "\xe0\xf0\x71", 3);
}

static void test_password(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t response[VNC_CHALLENGE];

    f->c.password = "secret";
    sent(f, "RFB 003.008\n", 12);
    feed(f, "RFB 003.008\n", 12);
    sent(f, "\1\2", 2);
    feed(f, "\2", 1);
    sent(f, "0123456789abcdef", 16);
    assert_true(vnc_auth_response("secret", f->c.challenge, response));
    feed(f, response, sizeof(response));
    sent(f, "\0\0\0\0", 4);
    assert_int_equal(f->c.phase, VNC_INIT);
}

static void test_wrong_password(void **ctx)
{
    struct fixture *f = *ctx;

    f->c.password = "secret";
    f->c.tx.len = 0;
    feed(f, "RFB 003.008\n", 12);
    f->c.tx.len = 0;
    feed(f, "\2", 1);
    f->c.tx.len = 0;
    feed(f, "0123456789abcdef", 16);
    sent(f, "\0\0\0\1\0\0\0\x0ewrong password", 22);
    assert_int_equal(f->c.phase, VNC_ENDED);
}

/* DES's own test vector, with the key's bits the protocol's way round. */
static void test_des(void **ctx)
{
    static const char password[] = "\xc8\x2c\xea\x9e\xd9\x3d\xfb\x8f"; /* 133457799bbcdff1 */
    static const uint8_t plain[8] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
    static const uint8_t cipher[8] = { 0x85, 0xe8, 0x13, 0x54, 0x0f, 0x0a, 0xb4, 0x05 };
    uint8_t in[VNC_CHALLENGE], out[VNC_CHALLENGE];

    (void)ctx;
    memcpy(in, plain, 8);
    memcpy(in + 8, plain, 8);
    assert_true(vnc_auth_response(password, in, out));
    assert_memory_equal(out, cipher, 8);
}

static void test_nonsense(void **ctx)
{
    struct fixture *f = *ctx;

    f->c.tx.len = 0;
    vnc_client_feed(&f->c, (const uint8_t *)"GET / HTTP/1.1\r\n", 16);
    assert_int_equal(f->c.phase, VNC_ENDED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void test_pointer(void **ctx)
{
    struct fixture *f = *ctx;

    shake_hands(f);
    feed(f, "\5\1\0\0\0\0", 6);
    assert_int_equal(f->buttons, INPUT_LEFT);
    feed(f, "\5\6\0\x63\0\x27", 6); /* the other corner */
    assert_int_equal(f->buttons, INPUT_MIDDLE | INPUT_RIGHT);
    assert_int_equal(f->x, INPUT_AXIS_MAX);
    assert_int_equal(f->y, INPUT_AXIS_MAX);
    feed(f, "\5\x08\0\1\0\1", 6); /* the wheel, one step a press */
    feed(f, "\5\x08\0\2\0\1", 6);
    assert_int_equal(f->wheel, 1);
    feed(f, "\5\x10\xff\xff\xff\xff", 6);
    assert_int_equal(f->wheel, 0);
    assert_int_equal(f->x, INPUT_AXIS_MAX);
    feed(f, "\5\1\0\1\0\1", 6);
    vnc_client_fini(&f->c); /* lets go of the button */
    assert_int_equal(f->buttons, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_raw_update), TEST(test_formats),  TEST(test_zrle_update),    TEST(test_resize),
        TEST(test_keys),       TEST(test_password), TEST(test_wrong_password), TEST(test_des),
        TEST(test_nonsense),   TEST(test_pointer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
