/*
 * debugcon.c: see debugcon.h. The line that is being put together is the host's affair and no state.
 * Locking: the bus holds the device lock.
 */
#include "hw/debugcon.h"

#include <string.h>

enum { DEBUGCON_SIGNATURE = 0xe9, DEBUGCON_LINE = 256 };

struct debugcon {
    struct device dev;
    struct chardev *out;
    char line[DEBUGCON_LINE];
    unsigned len;
    struct log_limit limit;
};

static struct debugcon *to_debugcon(struct device *d)
{
    return container_of(d, struct debugcon, dev);
}

static uint64_t debugcon_read(struct device *d, uint64_t off, unsigned size)
{
    (void)d;
    (void)off;
    (void)size;
    return DEBUGCON_SIGNATURE;
}

/* What the user has to know even if he sees no screen, as SeaBIOS says it. */
static bool debugcon_is_hopeless(const struct debugcon *c)
{
    static const char hopeless[] = "No bootable device";

    return c->len >= sizeof(hopeless) - 1 && !memcmp(c->line, hopeless, sizeof(hopeless) - 1);
}

static void debugcon_log(struct debugcon *c)
{
    if (debugcon_is_hopeless(c))
        log_limited(&c->limit, LOG_WARN, "firmware",
                    "it says \"No bootable device\": it has tried all that --boot order= lets it "
                    "try, and no disk has a system on it");
    else if (c->len)
        log_debug("firmware", "%.*s", (int)c->len, c->line);
    c->len = 0;
}

static void debugcon_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct debugcon *c = to_debugcon(d);
    char byte = (char)val;

    (void)off;
    (void)size;
    if (c->out)
        chardev_write(c->out, &byte, 1);
    if (byte == '\n')
        debugcon_log(c);
    else if (val >= ' ' && val < 0x7f)
        c->line[c->len++] = byte;
    if (c->len == DEBUGCON_LINE)
        debugcon_log(c);
}

static void debugcon_state(struct device *d, struct state *s)
{
    (void)d;
    (void)s;
}

static const struct device_ops debugcon_ops = {
    .type = "debugcon",
    .version = 1,
    .state = debugcon_state,
};
static const struct io_ops debugcon_io = { debugcon_read, debugcon_write, 1, 1 };

struct debugcon *debugcon_create(struct vm *vm, uint16_t port, struct chardev *out, struct err *e)
{
    struct debugcon *c = calloc(1, sizeof(*c));

    if (!c)
        return err_oom(e);
    c->dev = (struct device){ .ops = &debugcon_ops, .vm = vm, .id = "debugcon" };
    c->out = out;
    if (bus_claim(vm_pio(vm), port, 1, &debugcon_io, &c->dev, e) || device_add(vm, &c->dev, e)) {
        bus_release(vm_pio(vm), &c->dev);
        free(c);
        return NULL;
    }
    return c;
}
