/*
 * input.h: what a person types and points at, on its way to the machine's keyboards and pointers. Sources
 * (viewers, the control socket) call input_*(); devices are sinks. Of several devices the newest that the
 * guest listens to gets the events, an absolute pointer before a relative one.
 *
 * Loop thread, or while the loop does not run.
 */
#ifndef DISPLAY_INPUT_H
#define DISPLAY_INPUT_H

#include "base/err.h"

enum { INPUT_LEFT = BIT(0), INPUT_RIGHT = BIT(1), INPUT_MIDDLE = BIT(2) }; /* buttons */
enum { INPUT_AXIS_MAX = 0x7fff, INPUT_KEYS = 256 };

struct input_sink;
/* A keyboard has key, a pointer one of the others. wheel: steps, away from the user is positive. */
struct input_sink_ops {
    bool (*enabled)(struct input_sink *s); /* does the guest listen to it now? */
    void (*key)(struct input_sink *s, uint8_t key, bool down);
    bool (*drained)(struct input_sink *s); /* NULL, or: has the guest fetched all keys so far? */
    /* x, y: 0 to INPUT_AXIS_MAX, from the screen's top left corner */
    void (*absolute)(struct input_sink *s, unsigned x, unsigned y, unsigned buttons, int wheel);
    /* dx, dy: to the right and down */
    void (*relative)(struct input_sink *s, int dx, int dy, unsigned buttons, int wheel);
};
struct input;
struct input_sink { /* embedded in the device */
    const struct input_sink_ops *ops;
    struct input *in; /* input.c's */
    struct input_sink *next;
};

struct input *input_create(struct err *e);
void input_destroy(struct input *in); /* NULL is fine; no sinks are left */
/* s is the device's, until it removes it, which does nothing if it was not added. */
void input_add(struct input *in, struct input_sink *s);
void input_remove(struct input_sink *s);

/* A key by its number (display/keymap.h). Pressed once more while it is down: it repeats. */
void input_key(struct input *in, uint8_t key, bool down);
/* For who types without looking: 0: a key would be taken now, -EAGAIN: not yet, -ENODEV: there is no keyboard. */
must_check int input_key_ready(const struct input *in);
/* The pointer is at x, y of a screen of w by h pixels. */
void input_point(struct input *in, unsigned x, unsigned y, unsigned w, unsigned h, unsigned buttons,
                 int wheel);
/* The pointer moves by so many pixels from where it is. */
void input_move(struct input *in, int dx, int dy, unsigned buttons, int wheel);

#endif
