/*
 * i8042.c: 8042 keyboard controller (IBM PC/AT technical reference), with nothing plugged in: the
 * controller answers its own commands, a byte sent to a keyboard or mouse times out. It resets the
 * machine by pulsing output line 0, which is how many kernels reboot. A20 is stored only.
 *
 * Locking: the bus holds the device lock.
 */
#include "hw/i8042.h"

#include "state/state.h"

enum {
    STS_OBF = BIT(0),
    STS_SYS = BIT(2),
    STS_COMMAND = BIT(3),
    STS_UNLOCKED = BIT(4),
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
    CMD_PULSE = 0xf0,
};
enum { CCB_KBD_IRQ = BIT(0), CCB_KBD_OFF = BIT(4), CCB_AUX_OFF = BIT(5) };
enum { OUT_RESET = BIT(0), OUT_A20 = BIT(1) };
enum { SELF_TEST_OK = 0x55, NO_DEVICE = 0xff, RESEND = 0xfe, INPUT_UNLOCKED = 0x80 };

struct i8042 {
    struct device dev;
    /* wiring */
    struct irq irq1;
    /* guest-visible state */
    uint8_t status, ccb, output, out_buf;
    uint8_t command; /* waits for its data byte; 0: none */
};

static struct i8042 *to_kbc(struct device *d)
{
    return container_of(d, struct i8042, dev);
}

static void i8042_sync(struct device *d)
{
    struct i8042 *k = to_kbc(d);

    irq_set(&k->irq1, (k->status & STS_OBF) && (k->ccb & CCB_KBD_IRQ));
}

static void i8042_reply(struct i8042 *k, uint8_t val, bool timeout)
{
    k->out_buf = val;
    k->status |= STS_OBF | (timeout ? STS_TIMEOUT : 0);
    i8042_sync(&k->dev);
}

static void i8042_write_output(struct i8042 *k, uint8_t val)
{
    k->output = val;
    if (!(val & OUT_RESET))
        vm_guest_reset(k->dev.vm);
}

static void i8042_command(struct i8042 *k, uint8_t cmd)
{
    k->command = 0;
    switch (cmd) {
    case CMD_READ_CCB:
        i8042_reply(k, k->ccb, false);
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
        break;
    case CMD_AUX_TEST:
        i8042_reply(k, NO_DEVICE, false);
        break;
    case CMD_SELF_TEST:
        k->status |= STS_SYS;
        i8042_reply(k, SELF_TEST_OK, false);
        break;
    case CMD_KBD_TEST:
        i8042_reply(k, 0, false);
        break;
    case CMD_KBD_OFF:
        k->ccb |= CCB_KBD_OFF;
        break;
    case CMD_KBD_ON:
        k->ccb &= (uint8_t)~CCB_KBD_OFF;
        break;
    case CMD_READ_INPUT:
        i8042_reply(k, INPUT_UNLOCKED, false);
        break;
    case CMD_READ_OUTPUT:
        i8042_reply(k, k->output, false);
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
        break;
    case CMD_WRITE_OUTPUT:
        i8042_write_output(k, val);
        break;
    case CMD_WRITE_KBD_OBF:
        i8042_reply(k, val, false);
        break;
    case CMD_WRITE_AUX_OBF: /* there is no mouse port to come from */
        break;
    default: /* to the keyboard or the mouse: nobody answers */
        i8042_reply(k, RESEND, true);
        break;
    }
}

static uint64_t i8042_data_read(struct device *d, uint64_t off, unsigned size)
{
    struct i8042 *k = to_kbc(d);

    (void)off;
    (void)size;
    k->status &= (uint8_t) ~(STS_OBF | STS_TIMEOUT);
    i8042_sync(d);
    return k->out_buf;
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
}

static const struct device_ops i8042_ops = {
    .type = "i8042",
    .version = 1,
    .state = i8042_state,
    .sync = i8042_sync,
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
    if (bus_claim(vm_pio(vm), data, 1, &i8042_data_io, &k->dev, e) ||
        bus_claim(vm_pio(vm), command, 1, &i8042_command_io, &k->dev, e) ||
        device_add(vm, &k->dev, e)) {
        bus_release(vm_pio(vm), &k->dev);
        free(k);
        return NULL;
    }
    return k;
}
