#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "display/input.h"

struct sink {
    struct input_sink s;
    bool enabled;
    unsigned x, y, buttons, keys, events;
    int dx, dy, wheel;
};

static bool enabled(struct input_sink *s)
{
    return container_of(s, struct sink, s)->enabled;
}

static void key(struct input_sink *s, uint8_t key, bool down)
{
    struct sink *to = container_of(s, struct sink, s);

    (void)key;
    to->keys += down ? 1u : -1u;
}

static void absolute(struct input_sink *s, unsigned x, unsigned y, unsigned buttons, int wheel)
{
    struct sink *to = container_of(s, struct sink, s);

    to->x = x;
    to->y = y;
    to->buttons = buttons;
    to->wheel += wheel;
    to->events++;
}

static void relative(struct input_sink *s, int dx, int dy, unsigned buttons, int wheel)
{
    struct sink *to = container_of(s, struct sink, s);

    to->dx += dx;
    to->dy += dy;
    to->buttons = buttons;
    to->wheel += wheel;
    to->events++;
}

static const struct input_sink_ops keyboard = { .enabled = enabled, .key = key };
static const struct input_sink_ops tablet = { .enabled = enabled, .absolute = absolute };
static const struct input_sink_ops mouse = { .enabled = enabled, .relative = relative };

static void test_keyboards(void **ctx)
{
    struct sink old = { .s.ops = &keyboard, .enabled = true }, new = { .s.ops = &keyboard };
    struct input *in = input_create(NULL);

    (void)ctx;
    input_key(in, 30, true); /* nobody is there */
    input_add(in, &old.s);
    input_add(in, &new.s);
    input_key(in, 30, true);
    input_key(in, 31, true);
    assert_int_equal(old.keys, 2);
    new.enabled = true;
    input_key(in, 32, true);
    assert_int_equal(old.keys, 0);
    assert_int_equal(new.keys, 1);
    input_remove(&new.s);
    input_remove(&new.s);
    input_key(in, 32, false); /* nobody has it down any more */
    input_key(in, 33, true);
    assert_int_equal(old.keys, 0);
    old.enabled = false;
    input_key(in, 34, true); /* nobody takes it: what was down is up again, once */
    input_key(in, 35, true);
    assert_int_equal(old.keys, -1u);
    old.enabled = true;
    input_key(in, 36, true);
    assert_int_equal(old.keys, 0);
    input_destroy(in);
}

static void test_pointers(void **ctx)
{
    struct sink abs = { .s.ops = &tablet }, rel = { .s.ops = &mouse };
    struct input *in = input_create(NULL);

    (void)ctx;
    input_add(in, &abs.s);
    input_add(in, &rel.s);
    input_point(in, 10, 20, 640, 480, 0, 0);
    assert_int_equal(rel.events, 0); /* the guest listens to none */
    rel.enabled = true;
    input_point(in, 15, 18, 640, 480, INPUT_LEFT, 1);
    assert_int_equal(rel.dx, 5);
    assert_int_equal(rel.dy, -2);
    assert_int_equal(rel.wheel, 1);
    abs.enabled = true;
    input_move(in, 1000, -1000, INPUT_RIGHT, 0);
    assert_int_equal(rel.events, 1);
    assert_int_equal(abs.x, INPUT_AXIS_MAX);
    assert_int_equal(abs.y, 0);
    assert_int_equal(abs.buttons, INPUT_RIGHT);
    input_point(in, 0, 0, 0, 0, 0, 0); /* no screen, no place */
    assert_int_equal(abs.events, 1);
    input_destroy(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keyboards),
        cmocka_unit_test(test_pointers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
