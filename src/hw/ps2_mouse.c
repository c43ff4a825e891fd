/*
 * ps2_mouse.c: PS/2 mouse commands (IBM PS/2 Technical Reference, mouse) and Microsoft's IntelliMouse
 * extension: after the sample rates 200, 100, 80 it has a wheel, and packets of four bytes.
 *
 *     0: y overflow, x overflow, y sign, x sign, 1, middle, right, left   1: dx   2: dy   3: dz
 *
 * Not modelled: the sample rate and the resolution, which are only kept: motion is sent as soon as the
 * controller takes it.
 */
#include "hw/ps2_mouse.h"

#include <string.h>

#include "display/input.h"

enum {
    MOUSE_SCALE_1_1 = 0xe6,
    MOUSE_SCALE_2_1 = 0xe7,
    MOUSE_RESOLUTION = 0xe8,
    MOUSE_STATUS = 0xe9,
    MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb,
    MOUSE_UNWRAP = 0xec,
    MOUSE_WRAP = 0xee,
    MOUSE_REMOTE = 0xf0,
    MOUSE_IDENTIFY = 0xf2,
    MOUSE_RATE = 0xf3,
    MOUSE_ENABLE = 0xf4,
    MOUSE_DISABLE = 0xf5,
    MOUSE_DEFAULTS = 0xf6,
    MOUSE_RESEND = 0xfe,
    MOUSE_RESET = 0xff,
    MOUSE_ACK = 0xfa,
    MOUSE_TEST_PASSED = 0xaa,
    MOUSE_ID_WHEEL = 3,
    MOUSE_DEFAULT_RATE = 100,
    MOUSE_DEFAULT_RESOLUTION = 2,
    MOUSE_ROOM_FOR_REPLIES = 8,
};
enum { PACKET_MAX = 4, PACKET_ALWAYS = BIT(3), PACKET_X_SIGN = BIT(4), PACKET_Y_SIGN = BIT(5) };
enum { DELTA_MAX = 255, WHEEL_MAX = 7, PENDING_MAX = 4096 };
enum { STATUS_SCALING = BIT(4), STATUS_REPORTING = BIT(5), STATUS_REMOTE = BIT(6) };

static void ps2_mouse_put(struct ps2_mouse *m, uint8_t byte)
{
    if (m->n < PS2_MOUSE_QUEUE)
        m->queue[m->n++] = byte;
}

static void ps2_mouse_forget(struct ps2_mouse *m)
{
    m->n = 0;
    m->dx = m->dy = m->dz = 0;
}

static void ps2_mouse_defaults(struct ps2_mouse *m)
{
    m->resolution = MOUSE_DEFAULT_RESOLUTION;
    m->rate = MOUSE_DEFAULT_RATE;
    m->reporting = m->remote = m->scaling = false;
    ps2_mouse_forget(m);
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    uint8_t buttons = m->buttons;

    *m = (struct ps2_mouse){ .buttons = buttons, .sent_buttons = buttons };
    ps2_mouse_defaults(m);
}

/* --- packets --- */

/* Takes at most limit of *pending in either direction. */
static int ps2_mouse_take(int16_t *pending, int limit)
{
    int part = *pending > limit ? limit : *pending < -limit ? -limit : *pending;

    *pending = (int16_t)(*pending - part);
    return part;
}

static void ps2_mouse_packet(struct ps2_mouse *m)
{
    int dx = ps2_mouse_take(&m->dx, DELTA_MAX), dy = ps2_mouse_take(&m->dy, DELTA_MAX);
    uint8_t head = (uint8_t)(PACKET_ALWAYS | m->buttons);

    if (dx < 0)
        head |= PACKET_X_SIGN;
    if (dy < 0)
        head |= PACKET_Y_SIGN;
    ps2_mouse_put(m, head);
    ps2_mouse_put(m, (uint8_t)dx);
    ps2_mouse_put(m, (uint8_t)dy);
    if (m->id == MOUSE_ID_WHEEL)
        ps2_mouse_put(m, (uint8_t)ps2_mouse_take(&m->dz, WHEEL_MAX));
    else
        m->dz = 0;
    m->sent_buttons = m->buttons;
}

bool ps2_mouse_enabled(const struct ps2_mouse *m)
{
    return m->reporting && !m->remote && !m->wrap;
}

/* Packets for what has happened, as far as there is room. */
static void ps2_mouse_report(struct ps2_mouse *m)
{
    while (ps2_mouse_enabled(m) && (m->dx || m->dy || m->dz || m->buttons != m->sent_buttons) &&
           m->n + PACKET_MAX + MOUSE_ROOM_FOR_REPLIES <= PS2_MOUSE_QUEUE)
        ps2_mouse_packet(m);
}

static void ps2_mouse_add(int16_t *pending, int delta)
{
    int64_t sum = (int64_t)*pending + delta;

    if (sum > PENDING_MAX)
        sum = PENDING_MAX;
    *pending = (int16_t)(sum < -PENDING_MAX ? -PENDING_MAX : sum);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, unsigned buttons, int wheel)
{
    m->buttons = buttons & (INPUT_LEFT | INPUT_RIGHT | INPUT_MIDDLE);
    if (!m->reporting && !m->remote)
        return; /* nobody asks for where it went meanwhile */
    ps2_mouse_add(&m->dx, dx);
    ps2_mouse_add(&m->dy, dy == INT32_MIN ? INT32_MAX : -dy);
    ps2_mouse_add(&m->dz, wheel == INT32_MIN ? INT32_MAX : -wheel);
    ps2_mouse_report(m);
}

/* --- commands --- */

static void ps2_mouse_status(struct ps2_mouse *m)
{
    uint8_t status = (uint8_t)((m->buttons & INPUT_LEFT ? BIT(2) : 0) |
                               (m->buttons & INPUT_MIDDLE ? BIT(1) : 0) |
                               (m->buttons & INPUT_RIGHT ? BIT(0) : 0));

    if (m->scaling)
        status |= STATUS_SCALING;
    if (m->reporting)
        status |= STATUS_REPORTING;
    if (m->remote)
        status |= STATUS_REMOTE;
    ps2_mouse_put(m, status);
    ps2_mouse_put(m, m->resolution);
    ps2_mouse_put(m, m->rate);
}

static void ps2_mouse_rate(struct ps2_mouse *m, uint8_t rate)
{
    static const uint8_t wheel[] = { 200, 100, 80 };

    m->rate = rate;
    if (rate != wheel[m->knock])
        m->knock = rate == wheel[0];
    else if (++m->knock == ARRAY_SIZE(wheel)) {
        m->knock = 0;
        m->id = MOUSE_ID_WHEEL;
    }
}

/* Commands that change a mode, or have more of an answer than that they were understood. */
static void ps2_mouse_execute(struct ps2_mouse *m, uint8_t byte)
{
    switch (byte) {
    case MOUSE_SCALE_1_1:
    case MOUSE_SCALE_2_1:
        m->scaling = byte == MOUSE_SCALE_2_1;
        break;
    case MOUSE_RESOLUTION:
    case MOUSE_RATE:
        m->command = byte;
        break;
    case MOUSE_STATUS:
        ps2_mouse_status(m);
        break;
    case MOUSE_STREAM:
    case MOUSE_REMOTE:
        m->remote = byte == MOUSE_REMOTE;
        break;
    case MOUSE_READ:
        ps2_mouse_packet(m);
        break;
    case MOUSE_WRAP:
    case MOUSE_UNWRAP:
        m->wrap = byte == MOUSE_WRAP;
        break;
    case MOUSE_IDENTIFY:
        ps2_mouse_put(m, m->id);
        break;
    case MOUSE_ENABLE:
    case MOUSE_DISABLE:
        m->reporting = byte == MOUSE_ENABLE;
        break;
    default:
        break;
    }
}

static void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte)
{
    if (byte == MOUSE_RESET) {
        ps2_mouse_reset(m);
        ps2_mouse_put(m, MOUSE_ACK);
        ps2_mouse_put(m, MOUSE_TEST_PASSED);
        ps2_mouse_put(m, m->id);
    } else if (byte == MOUSE_DEFAULTS) {
        ps2_mouse_defaults(m);
        ps2_mouse_put(m, MOUSE_ACK);
    } else if (byte < MOUSE_SCALE_1_1 || byte > MOUSE_DEFAULTS) {
        ps2_mouse_put(m, MOUSE_RESEND);
    } else {
        ps2_mouse_put(m, MOUSE_ACK);
        ps2_mouse_execute(m, byte);
    }
}

/* A command clears what was to be sent; in wrap mode all but two come back as they are. */
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
    uint8_t command = m->command;

    m->command = 0;
    if (m->wrap && byte != MOUSE_RESET && byte != MOUSE_UNWRAP) {
        ps2_mouse_put(m, byte);
        return;
    }
    m->n = 0;
    if (command == MOUSE_RATE && byte < MOUSE_SCALE_1_1) {
        ps2_mouse_put(m, MOUSE_ACK);
        ps2_mouse_rate(m, byte);
    } else if (command == MOUSE_RESOLUTION && byte < MOUSE_SCALE_1_1) {
        ps2_mouse_put(m, MOUSE_ACK);
        m->resolution = byte & 3;
    } else {
        if (byte != MOUSE_RATE && byte != MOUSE_IDENTIFY)
            m->knock = 0;
        ps2_mouse_command(m, byte);
    }
}

bool ps2_mouse_read(struct ps2_mouse *m, uint8_t *byte)
{
    if (!m->n)
        return false;
    *byte = m->queue[0];
    m->n--;
    memmove(m->queue, m->queue + 1, m->n);
    ps2_mouse_report(m);
    return true;
}

/* --- state --- */

static void ps2_mouse_state_delta(int16_t *delta, struct state *s)
{
    uint16_t bits = (uint16_t)*delta;

    state_u16(s, &bits);
    *delta = (int16_t)bits;
}

void ps2_mouse_state(struct ps2_mouse *m, struct state *s)
{
    state_bytes(s, m->queue, sizeof(m->queue));
    state_u8(s, &m->n);
    state_u8(s, &m->command);
    state_u8(s, &m->id);
    state_u8(s, &m->knock);
    state_u8(s, &m->resolution);
    state_u8(s, &m->rate);
    state_bool(s, &m->reporting);
    state_bool(s, &m->remote);
    state_bool(s, &m->wrap);
    state_bool(s, &m->scaling);
    state_u8(s, &m->buttons);
    state_u8(s, &m->sent_buttons);
    ps2_mouse_state_delta(&m->dx, s);
    ps2_mouse_state_delta(&m->dy, s);
    ps2_mouse_state_delta(&m->dz, s);
    state_require(s, m->n <= PS2_MOUSE_QUEUE && m->knock < 3 && m->buttons < 8,
                  "mouse state out of range");
    if (state_error(s))
        ps2_mouse_reset(m);
}
