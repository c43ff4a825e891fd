/*
 * i8042.c: 8042 keyboard controller (IBM PS/2 technical reference). A keyboard and a mouse may be plugged in;
 * without, a byte that is sent times out. Scan codes are translated from set 2 to set 1 if the command byte
 * says so. It resets the machine by pulsing output line 0, which is how many kernels reboot.
 *
 * Locking: the bus holds the device lock.
 */
#include "hw/i8042.h"

#include "display/keymap.h"
#include "hw/ps2_kbd.h"
#include "hw/ps2_mouse.h"
#include "state/state.h"

enum {
    STS_OBF = BIT(0),
    STS_SYS = BIT(2),
    STS_COMMAND = BIT(3),
    STS_UNLOCKED = BIT(4),
    STS_AUX = BIT(5), /* the byte is the mouse's */
    STS_TIMEOUT = BIT(6)
};
enum {
    CMD_READ_CCB = 0x20,
    CMD_WRITE_CCB = 0x60,
    CMD_AUX_OFF = 0xa7,
    CMD_AUX_ON = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KBD_TEST = 0xab,
    CMD_KBD_OFF = 0xad,
    CMD_KBD_ON = 0xae,
    CMD_READ_INPUT = 0xc0,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_WRITE_KBD_OBF = 0xd2,
    CMD_WRITE_AUX_OBF = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_PULSE = 0xf0,
};
enum {
    CCB_KBD_IRQ = BIT(0),
    CCB_AUX_IRQ = BIT(1),
    CCB_KBD_OFF = BIT(4),
    CCB_AUX_OFF = BIT(5),
    CCB_TRANSLATE = BIT(6)
};
enum { SET2_BREAK = 0xf0, SET2_F7 = 0x83, SET2_ALT_SYSRQ = 0x84, SET1_BREAK = 0x80 };
enum { OUT_RESET = BIT(0), OUT_A20 = BIT(1) };
enum { SELF_TEST_OK = 0x55, NO_DEVICE = 0xff, RESEND = 0xfe, INPUT_UNLOCKED = 0x80 };

struct i8042 {
    struct device dev;
    /* wiring */
    struct irq irq1, irq12, a20;
    bool has_kbd, has_mouse;
    struct input_sink kbd_sink, mouse_sink;
    /* guest-visible state */
    uint8_t status, ccb, output, out_buf;
    uint8_t command; /* waits for its data byte; 0: none */
    bool breaking;   /* translation has seen the prefix of a break code */
    struct ps2_kbd kbd;
    struct ps2_mouse mouse;
};

/* Scan codes of set 2 below 0x80 in set 1. */
static const uint8_t i8042_set1[0x80] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static struct i8042 *to_kbc(struct device *d)
{
    return container_of(d, struct i8042, dev);
}

static void i8042_sync(struct device *d)
{
    struct i8042 *k = to_kbc(d);

    irq_set(&k->irq1, (k->status & (STS_OBF | STS_AUX)) == STS_OBF && (k->ccb & CCB_KBD_IRQ));
    irq_set(&k->irq12,
            (k->status & (STS_OBF | STS_AUX)) == (STS_OBF | STS_AUX) && (k->ccb & CCB_AUX_IRQ));
}

/* flags: STS_TIMEOUT, STS_AUX */
static void i8042_put(struct i8042 *k, uint8_t val, unsigned flags)
{
    k->out_buf = val;
    k->status = (uint8_t)((k->status & ~(STS_TIMEOUT | STS_AUX)) | STS_OBF | flags);
    i8042_sync(&k->dev);
}

static void i8042_reply(struct i8042 *k, uint8_t val)
{
    i8042_put(k, val, 0);
}

static uint8_t i8042_to_set1(uint8_t code)
{
    if (code == SET2_F7)
        return 0x41;
    if (code == SET2_ALT_SYSRQ)
        return 0x54;
    return code < SET1_BREAK ? i8042_set1[code] : code;
}

/* One byte of the keyboard as the guest gets it; false: it is a prefix, and goes into the next. */
static bool i8042_translate(struct i8042 *k, uint8_t *byte)
{
    if (!(k->ccb & CCB_TRANSLATE))
        return true;
    if (*byte == SET2_BREAK) {
        k->breaking = true;
        return false;
    }
    *byte = (uint8_t)(i8042_to_set1(*byte) | (k->breaking ? SET1_BREAK : 0));
    k->breaking = false;
    return true;
}

/* The next byte of the keyboard, or else of the mouse, if there is room for it. */
static void i8042_fill(struct i8042 *k)
{
    uint8_t byte;

    while (!(k->status & STS_OBF) && !(k->ccb & CCB_KBD_OFF) && ps2_kbd_read(&k->kbd, &byte))
        if (i8042_translate(k, &byte))
            i8042_reply(k, byte);
    if (!(k->status & STS_OBF) && !(k->ccb & CCB_AUX_OFF) && ps2_mouse_read(&k->mouse, &byte))
        i8042_put(k, byte, STS_AUX);
}

static void i8042_to_keyboard(struct i8042 *k, uint8_t byte)
{
    if (!k->has_kbd) {
        i8042_put(k, RESEND, STS_TIMEOUT);
        return;
    }
    k->ccb &= (uint8_t)~CCB_KBD_OFF;
    ps2_kbd_write(&k->kbd, byte);
    i8042_fill(k);
}

static void i8042_to_mouse(struct i8042 *k, uint8_t byte)
{
    if (!k->has_mouse) {
        i8042_put(k, RESEND, STS_TIMEOUT);
        return;
    }
    k->ccb &= (uint8_t)~CCB_AUX_OFF;
    ps2_mouse_write(&k->mouse, byte);
    i8042_fill(k);
}

void i8042_set_a20(struct i8042 *k, struct irq a20)
{
    k->a20 = a20;
}

void i8042_key(struct i8042 *k, const uint8_t *code, unsigned len)
{
    pthread_mutex_lock(&k->dev.lock);
    if (k->has_kbd)
        ps2_kbd_key(&k->kbd, code, len);
    i8042_fill(k);
    pthread_mutex_unlock(&k->dev.lock);
}

void i8042_move(struct i8042 *k, int dx, int dy, unsigned buttons, int wheel)
{
    pthread_mutex_lock(&k->dev.lock);
    if (k->has_mouse)
        ps2_mouse_move(&k->mouse, dx, dy, buttons, wheel);
    i8042_fill(k);
    pthread_mutex_unlock(&k->dev.lock);
}

/* --- what feeds them --- */

static bool i8042_kbd_enabled(struct input_sink *s)
{
    (void)s;
    return true; /* systems without a driver for another one have this one's */
}

static void i8042_kbd_key(struct input_sink *s, uint8_t key, bool down)
{
    uint8_t code[KEYMAP_CODE_MAX];
    unsigned len = keymap_set2(key, down, code);

    if (len)
        i8042_key(container_of(s, struct i8042, kbd_sink), code, len);
}

/* Also not while it waits for a command's parameter, or is off: keys would be dropped. */
static bool i8042_kbd_drained(struct input_sink *s)
{
    struct i8042 *k = container_of(s, struct i8042, kbd_sink);
    bool drained;

    pthread_mutex_lock(&k->dev.lock);
    drained = k->kbd.scanning && !k->kbd.command && !k->kbd.n && !(k->status & STS_OBF);
    pthread_mutex_unlock(&k->dev.lock);
    return drained;
}

static bool i8042_mouse_enabled(struct input_sink *s)
{
    struct i8042 *k = container_of(s, struct i8042, mouse_sink);
    bool enabled;

    pthread_mutex_lock(&k->dev.lock);
    enabled = ps2_mouse_enabled(&k->mouse) || k->mouse.remote;
    pthread_mutex_unlock(&k->dev.lock);
    return enabled;
}

static void i8042_mouse_move(struct input_sink *s, int dx, int dy, unsigned buttons, int wheel)
{
    i8042_move(container_of(s, struct i8042, mouse_sink), dx, dy, buttons, wheel);
}

static const struct input_sink_ops i8042_kbd_sink = {
    .enabled = i8042_kbd_enabled,
    .key = i8042_kbd_key,
    .drained = i8042_kbd_drained,
};
static const struct input_sink_ops i8042_mouse_sink = {
    .enabled = i8042_mouse_enabled,
    .relative = i8042_mouse_move,
};

void i8042_plug_keyboard(struct i8042 *k, struct input *in)
{
    k->has_kbd = true;
    k->kbd_sink.ops = &i8042_kbd_sink;
    if (in)
        input_add(in, &k->kbd_sink);
}

void i8042_plug_mouse(struct i8042 *k, struct irq irq12, struct input *in)
{
    k->has_mouse = true;
    k->irq12 = irq12;
    k->mouse_sink.ops = &i8042_mouse_sink;
    if (in)
        input_add(in, &k->mouse_sink);
}

/* --- registers --- */

static void i8042_write_output(struct i8042 *k, uint8_t val)
{
    k->output = val;
    irq_set(&k->a20, val & OUT_A20);
    if (!(val & OUT_RESET))
        vm_guest_reset(k->dev.vm);
}

static void i8042_command(struct i8042 *k, uint8_t cmd)
{
    k->command = 0;
    switch (cmd) {
    case CMD_READ_CCB:
        i8042_reply(k, k->ccb);
        break;
    case CMD_WRITE_CCB:
    case CMD_WRITE_OUTPUT:
    case CMD_WRITE_KBD_OBF:
    case CMD_WRITE_AUX_OBF:
    case CMD_WRITE_AUX:
        k->command = cmd;
        break;
    case CMD_AUX_OFF:
        k->ccb |= CCB_AUX_OFF;
        break;
    case CMD_AUX_ON:
        k->ccb &= (uint8_t)~CCB_AUX_OFF;
        i8042_fill(k);
        break;
    case CMD_AUX_TEST:
        i8042_reply(k, k->has_mouse ? 0 : NO_DEVICE);
        break;
    case CMD_SELF_TEST:
        k->status |= STS_SYS;
        i8042_reply(k, SELF_TEST_OK);
        break;
    case CMD_KBD_TEST:
        i8042_reply(k, 0);
        break;
    case CMD_KBD_OFF:
        k->ccb |= CCB_KBD_OFF;
        break;
    case CMD_KBD_ON:
        k->ccb &= (uint8_t)~CCB_KBD_OFF;
        i8042_fill(k);
        break;
    case CMD_READ_INPUT:
        i8042_reply(k, INPUT_UNLOCKED);
        break;
    case CMD_READ_OUTPUT:
        i8042_reply(k, k->output);
        break;
    case CMD_A20_OFF:
        i8042_write_output(k, (uint8_t)(k->output & ~OUT_A20));
        break;
    case CMD_A20_ON:
        i8042_write_output(k, k->output | OUT_A20);
        break;
    default:
        if (cmd >= CMD_PULSE && !(cmd & OUT_RESET))
            vm_guest_reset(k->dev.vm);
        break;
    }
}

static void i8042_data(struct i8042 *k, uint8_t val)
{
    uint8_t cmd = k->command;

    k->command = 0;
    switch (cmd) {
    case CMD_WRITE_CCB:
        k->ccb = val;
        i8042_sync(&k->dev);
        i8042_fill(k);
        break;
    case CMD_WRITE_OUTPUT:
        i8042_write_output(k, val);
        break;
    case CMD_WRITE_KBD_OBF:
        i8042_reply(k, val);
        break;
    case CMD_WRITE_AUX_OBF:
        if (k->has_mouse) /* else there is no port to come from */
            i8042_put(k, val, STS_AUX);
        break;
    case CMD_WRITE_AUX:
        i8042_to_mouse(k, val);
        break;
    default:
        i8042_to_keyboard(k, val);
        break;
    }
}

static uint64_t i8042_data_read(struct device *d, uint64_t off, unsigned size)
{
    struct i8042 *k = to_kbc(d);
    uint8_t val = k->out_buf;

    (void)off;
    (void)size;
    k->status &= (uint8_t) ~(STS_OBF | STS_TIMEOUT | STS_AUX);
    i8042_sync(d);
    i8042_fill(k);
    return val;
}

static void i8042_data_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    to_kbc(d)->status &= (uint8_t)~STS_COMMAND;
    i8042_data(to_kbc(d), (uint8_t)val);
}

static uint64_t i8042_status_read(struct device *d, uint64_t off, unsigned size)
{
    (void)off;
    (void)size;
    return to_kbc(d)->status;
}

static void i8042_command_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    to_kbc(d)->status |= STS_COMMAND;
    i8042_command(to_kbc(d), (uint8_t)val);
}

static void i8042_state(struct device *d, struct state *s)
{
    struct i8042 *k = to_kbc(d);

    state_u8(s, &k->status);
    state_u8(s, &k->ccb);
    state_u8(s, &k->output);
    state_u8(s, &k->out_buf);
    state_u8(s, &k->command);
    state_bool(s, &k->breaking);
    ps2_kbd_state(&k->kbd, s);
    ps2_mouse_state(&k->mouse, s);
}

static void i8042_destroy(struct device *d)
{
    input_remove(&to_kbc(d)->kbd_sink);
    input_remove(&to_kbc(d)->mouse_sink);
    free(to_kbc(d));
}

static const struct device_ops i8042_ops = {
    .type = "i8042",
    .version = 3,
    .state = i8042_state,
    .sync = i8042_sync,
    .destroy = i8042_destroy,
};
static const struct io_ops i8042_data_io = { i8042_data_read, i8042_data_write, 1, 1 };
static const struct io_ops i8042_command_io = { i8042_status_read, i8042_command_write, 1, 1 };

struct i8042 *i8042_create(struct vm *vm, uint16_t data, uint16_t command, struct irq irq1,
                           struct err *e)
{
    struct i8042 *k = calloc(1, sizeof(*k));

    if (!k)
        return err_oom(e);
    *k = (struct i8042){
        .dev = { .ops = &i8042_ops, .vm = vm, .id = "i8042" },
        .irq1 = irq1,
        .status = STS_SYS | STS_UNLOCKED,
        .output = OUT_RESET | OUT_A20,
    };
    ps2_kbd_reset(&k->kbd);
    ps2_mouse_reset(&k->mouse);
    if (bus_claim(vm_pio(vm), data, 1, &i8042_data_io, &k->dev, e) ||
        bus_claim(vm_pio(vm), command, 1, &i8042_command_io, &k->dev, e) ||
        device_add(vm, &k->dev, e)) {
        bus_release(vm_pio(vm), &k->dev);
        free(k);
        return NULL;
    }
    return k;
}
