/* input.c: see input.h. Keys that are down move with the choice of the keyboard: they are let go of first. */
#include "display/input.h"

#include <errno.h>
#include <string.h>

enum { INPUT_WIDTH = 1024, INPUT_HEIGHT = 768 }; /* of a screen that nobody has told of */

struct input {
    struct input_sink *sinks;    /* the newest first */
    struct input_sink *keyboard; /* the one that has what is pressed */
    uint8_t pressed[INPUT_KEYS / 8];
    unsigned x, y, w, h; /* where the pointer is, on a screen of that size */
};

struct input *input_create(struct err *e)
{
    struct input *in = calloc(1, sizeof(*in));

    if (!in)
        return err_oom(e);
    in->w = INPUT_WIDTH;
    in->h = INPUT_HEIGHT;
    return in;
}

void input_destroy(struct input *in)
{
    free(in);
}

void input_add(struct input *in, struct input_sink *s)
{
    s->in = in;
    s->next = in->sinks;
    in->sinks = s;
}

void input_remove(struct input_sink *s)
{
    struct input_sink **at;

    if (!s->in)
        return;
    for (at = &s->in->sinks; *at != s; at = &(*at)->next)
        ;
    *at = s->next;
    if (s->in->keyboard == s) {
        s->in->keyboard = NULL;
        memset(s->in->pressed, 0, sizeof(s->in->pressed));
    }
    s->in = NULL;
}

/* --- keys --- */

static struct input_sink *input_keyboard(const struct input *in)
{
    struct input_sink *s = in->sinks;

    while (s && !(s->ops->key && s->ops->enabled(s)))
        s = s->next;
    return s;
}

static bool input_is_pressed(const struct input *in, unsigned key)
{
    return in->pressed[key / 8] & BIT(key % 8);
}

static void input_release_all(struct input *in)
{
    for (unsigned key = 0; key < INPUT_KEYS; key++)
        if (input_is_pressed(in, key))
            in->keyboard->ops->key(in->keyboard, (uint8_t)key, false);
    memset(in->pressed, 0, sizeof(in->pressed));
}

void input_key(struct input *in, uint8_t key, bool down)
{
    struct input_sink *s = input_keyboard(in);

    if (s != in->keyboard) {
        input_release_all(in);
        in->keyboard = s;
    }
    if (!s)
        return;
    if (down)
        in->pressed[key / 8] |= (uint8_t)BIT(key % 8);
    else
        in->pressed[key / 8] &= (uint8_t)~BIT(key % 8);
    s->ops->key(s, key, down);
}

static bool input_has_keyboard(const struct input *in)
{
    const struct input_sink *s = in->sinks;

    while (s && !s->ops->key)
        s = s->next;
    return s;
}

int input_key_ready(const struct input *in)
{
    struct input_sink *s = input_keyboard(in);

    if (!s)
        return input_has_keyboard(in) ? -EAGAIN : -ENODEV;
    return s->ops->drained && !s->ops->drained(s) ? -EAGAIN : 0;
}

/* --- the pointer --- */

static struct input_sink *input_pointer(const struct input *in)
{
    struct input_sink *relative = NULL;

    for (struct input_sink *s = in->sinks; s; s = s->next) {
        if (!s->ops->enabled(s))
            continue;
        if (s->ops->absolute)
            return s;
        if (s->ops->relative && !relative)
            relative = s;
    }
    return relative;
}

static unsigned input_clamp(int64_t at, unsigned len)
{
    return at < 0 ? 0 : (unsigned)min_u64((uint64_t)at, len - 1);
}

/* A place in 0 to len - 1 as one in 0 to INPUT_AXIS_MAX. */
static unsigned input_scale(unsigned at, unsigned len)
{
    return len < 2 ? 0 : (unsigned)((uint64_t)at * INPUT_AXIS_MAX / (len - 1));
}

static void input_send(struct input *in, int dx, int dy, unsigned buttons, int wheel)
{
    struct input_sink *s = input_pointer(in);

    if (!s)
        return;
    if (s->ops->absolute)
        s->ops->absolute(s, input_scale(in->x, in->w), input_scale(in->y, in->h), buttons, wheel);
    else
        s->ops->relative(s, dx, dy, buttons, wheel);
}

void input_point(struct input *in, unsigned x, unsigned y, unsigned w, unsigned h, unsigned buttons,
                 int wheel)
{
    unsigned was_x = in->x, was_y = in->y;

    if (!w || !h)
        return;
    in->w = w;
    in->h = h;
    in->x = input_clamp(x, w);
    in->y = input_clamp(y, h);
    input_send(in, (int)in->x - (int)was_x, (int)in->y - (int)was_y, buttons, wheel);
}

void input_move(struct input *in, int dx, int dy, unsigned buttons, int wheel)
{
    in->x = input_clamp((int64_t)in->x + dx, in->w);
    in->y = input_clamp((int64_t)in->y + dy, in->h);
    input_send(in, dx, dy, buttons, wheel);
}
