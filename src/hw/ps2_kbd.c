/*
 * ps2_kbd.c: PS/2 keyboard commands (IBM PS/2 Technical Reference, keyboards). Keys are sent in scan code
 * set 2, which the controller translates; sets 1 and 3 are accepted and told again. Not modelled:
 * typematic repeat (whoever presses keys repeats them), the per-key commands of set 3.
 */
#include "hw/ps2_kbd.h"

#include <string.h>

enum {
    KBD_LEDS = 0xed,
    KBD_ECHO = 0xee,
    KBD_SET = 0xf0,
    KBD_IDENTIFY = 0xf2,
    KBD_RATE = 0xf3,
    KBD_ENABLE = 0xf4,
    KBD_DISABLE = 0xf5,
    KBD_DEFAULTS = 0xf6,
    KBD_ALL_FIRST = 0xf7, /* to 0xfa: modes of all keys in set 3 */
    KBD_ALL_LAST = 0xfa,
    KBD_RESEND = 0xfe,
    KBD_RESET = 0xff,
    KBD_ACK = 0xfa,
    KBD_TEST_PASSED = 0xaa,
    KBD_DEFAULT_SET = 2,
    KBD_SETS = 3,
    KBD_ROOM_FOR_REPLIES = 8,
};

static void ps2_kbd_put(struct ps2_kbd *k, uint8_t byte)
{
    if (k->n < PS2_KBD_QUEUE)
        k->queue[k->n++] = byte;
}

static void ps2_kbd_defaults(struct ps2_kbd *k)
{
    k->set = KBD_DEFAULT_SET;
    k->leds = 0;
    k->n = 0;
}

void ps2_kbd_reset(struct ps2_kbd *k)
{
    *k = (struct ps2_kbd){ .scanning = true };
    ps2_kbd_defaults(k);
}

static void ps2_kbd_parameter(struct ps2_kbd *k, uint8_t command, uint8_t byte)
{
    ps2_kbd_put(k, KBD_ACK);
    if (command == KBD_LEDS)
        k->leds = byte & 7;
    else if (command == KBD_SET && byte == 0)
        ps2_kbd_put(k, k->set);
    else if (command == KBD_SET && byte <= KBD_SETS)
        k->set = byte;
}

static void ps2_kbd_command(struct ps2_kbd *k, uint8_t byte)
{
    switch (byte) {
    case KBD_ECHO:
        ps2_kbd_put(k, KBD_ECHO);
        break;
    case KBD_LEDS:
    case KBD_SET:
    case KBD_RATE:
        k->command = byte;
        ps2_kbd_put(k, KBD_ACK);
        break;
    case KBD_IDENTIFY:
        ps2_kbd_put(k, KBD_ACK);
        ps2_kbd_put(k, 0xab);
        ps2_kbd_put(k, 0x83);
        break;
    case KBD_ENABLE:
        k->scanning = true;
        k->n = 0;
        ps2_kbd_put(k, KBD_ACK);
        break;
    case KBD_DISABLE:
    case KBD_DEFAULTS:
        ps2_kbd_defaults(k);
        k->scanning = byte == KBD_DEFAULTS;
        ps2_kbd_put(k, KBD_ACK);
        break;
    case KBD_RESET:
        ps2_kbd_reset(k);
        ps2_kbd_put(k, KBD_ACK);
        ps2_kbd_put(k, KBD_TEST_PASSED);
        break;
    default:
        ps2_kbd_put(k, byte >= KBD_ALL_FIRST && byte <= KBD_ALL_LAST ? KBD_ACK : KBD_RESEND);
        break;
    }
}

/* A command where a parameter is due takes the place of what came before. */
void ps2_kbd_write(struct ps2_kbd *k, uint8_t byte)
{
    uint8_t command = k->command;

    k->command = 0;
    if (command && byte < KBD_LEDS)
        ps2_kbd_parameter(k, command, byte);
    else
        ps2_kbd_command(k, byte);
}

bool ps2_kbd_read(struct ps2_kbd *k, uint8_t *byte)
{
    if (!k->n)
        return false;
    *byte = k->queue[0];
    k->n--;
    memmove(k->queue, k->queue + 1, k->n);
    return true;
}

void ps2_kbd_key(struct ps2_kbd *k, const uint8_t *code, unsigned len)
{
    if (!k->scanning || k->n + len + KBD_ROOM_FOR_REPLIES > PS2_KBD_QUEUE)
        return;
    for (unsigned i = 0; i < len; i++)
        ps2_kbd_put(k, code[i]);
}

void ps2_kbd_state(struct ps2_kbd *k, struct state *s)
{
    state_bytes(s, k->queue, sizeof(k->queue));
    state_u8(s, &k->n);
    state_u8(s, &k->command);
    state_u8(s, &k->set);
    state_u8(s, &k->leds);
    state_bool(s, &k->scanning);
    state_require(s, k->n <= PS2_KBD_QUEUE && k->set <= KBD_SETS, "keyboard state out of range");
    if (k->n > PS2_KBD_QUEUE)
        k->n = 0;
}
