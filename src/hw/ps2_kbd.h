/*
 * ps2_kbd.h: a PS/2 keyboard: the bytes that it sends to its controller, which embeds it (hw/i8042).
 * The caller holds the controller's device lock.
 */
#ifndef HW_PS2_KBD_H
#define HW_PS2_KBD_H

#include "state/state.h"

enum { PS2_KBD_QUEUE = 32 };

struct ps2_kbd {
    uint8_t queue[PS2_KBD_QUEUE]; /* bytes to send; n of them, the next one first */
    uint8_t n;
    uint8_t command; /* waits for its parameter; 0: none */
    uint8_t set;     /* of scan codes: 1 to 3 */
    uint8_t leds;
    bool scanning; /* keys are sent */
};

void ps2_kbd_reset(struct ps2_kbd *k); /* as after power-on: queue empty, set 2, scanning */
void ps2_kbd_write(struct ps2_kbd *k, uint8_t byte); /* the controller sends a byte */
/* The next byte to the controller; false: none. */
bool ps2_kbd_read(struct ps2_kbd *k, uint8_t *byte);
/*
 * A key's whole make or break code in set 2, of at most 8 bytes; sent whole or, where scanning is off or
 * the queue is full, not at all.
 */
void ps2_kbd_key(struct ps2_kbd *k, const uint8_t *code, unsigned len);
void ps2_kbd_state(struct ps2_kbd *k, struct state *s);

#endif
