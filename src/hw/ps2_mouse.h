/*
 * ps2_mouse.h: a PS/2 mouse with a wheel (IntelliMouse): the bytes that it sends to its controller, which
 * embeds it (hw/i8042). The caller holds the controller's device lock.
 */
#ifndef HW_PS2_MOUSE_H
#define HW_PS2_MOUSE_H

#include "state/state.h"

enum { PS2_MOUSE_QUEUE = 32 };

struct ps2_mouse {
    uint8_t queue[PS2_MOUSE_QUEUE]; /* bytes to send; n of them, the next one first */
    uint8_t n;
    uint8_t command; /* waits for its parameter; 0: none */
    uint8_t id;      /* 0: three buttons, 3: with a wheel */
    uint8_t knock;   /* how many of the sample rates that turn the wheel on have come */
    uint8_t resolution, rate;
    bool reporting, remote, wrap, scaling;
    uint8_t buttons, sent_buttons; /* INPUT_*: now, and in the last packet */
    int16_t dx, dy, dz;            /* moved since the last packet; dy: up, dz: down is positive */
};

void ps2_mouse_reset(struct ps2_mouse *m); /* as after power-on: nothing is reported */
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte); /* the controller sends a byte */
/* The next byte to the controller; false: none. */
bool ps2_mouse_read(struct ps2_mouse *m, uint8_t *byte);
/* Does it send what it sees by itself? */
bool ps2_mouse_enabled(const struct ps2_mouse *m);
/* As display/input.h says. What does not fit into the queue is added up. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, unsigned buttons, int wheel);
void ps2_mouse_state(struct ps2_mouse *m, struct state *s);

#endif
