/*
 * stdio.c: standard input and output. On a terminal: raw mode, every key is the guest's but Ctrl-].
 * Otherwise plain pipes: the end of the input is not the end of the VM.
 */
#include "chardev/chardev_priv.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "chardev/term.h"

enum { STDIO_ESCAPE = 0x1d }; /* Ctrl-] */
#define STDIO_ESCAPE_NS 600000000ull

struct stdio {
    struct chardev *c;
    bool escaped; /* Ctrl-] was pressed: a second one in time sends it */
    struct loop_timer timer;
};

static void stdio_leave(struct stdio *s)
{
    s->escaped = false;
    loop_timer_cancel(&s->timer);
    s->c->leave(s->c->leave_opaque);
}

static void stdio_escape_over(struct loop_timer *t)
{
    stdio_leave(container_of(t, struct stdio, timer));
}

/* Takes the escape key out of the input. What follows a single one is for nobody. */
static size_t stdio_filter(struct chardev *c, uint8_t *buf, size_t n)
{
    struct stdio *s = c->priv;
    size_t out = 0;

    if (!s->timer.loop) /* not a terminal */
        return n;
    for (size_t i = 0; i < n; i++) {
        bool escape = buf[i] == STDIO_ESCAPE;

        if (escape && !s->escaped) {
            s->escaped = true;
            loop_timer_set(&s->timer, util_monotonic_ns() + STDIO_ESCAPE_NS);
        } else if (!escape && s->escaped) {
            stdio_leave(s);
            return out;
        } else {
            s->escaped = false;
            loop_timer_cancel(&s->timer);
            buf[out++] = buf[i];
        }
    }
    return out;
}

static void stdio_hangup(struct chardev *c, bool output, int error)
{
    if (!output) {
        chardev_disconnect_in(c);
        return;
    }
    log_warn("serial", "standard output is gone (%s): the console's output is dropped from here on",
             strerror(error));
    chardev_disconnect_out(c);
}

static int stdio_open(struct chardev *c, const char *arg, struct err *e)
{
    struct stdio *s = calloc(1, sizeof(*s));
    int in, out;

    (void)arg;
    if (!s) {
        err_oom(e);
        return -1;
    }
    s->c = c;
    c->priv = s;
    if (isatty(STDIN_FILENO)) {
        if (c->leave)
            loop_timer_init(c->loop, &s->timer, stdio_escape_over);
        if (term_raw(STDIN_FILENO, e)) {
            free(s);
            return -1;
        }
    }
    in = term_nonblocking(STDIN_FILENO, O_RDONLY);
    out = term_nonblocking(STDOUT_FILENO, O_WRONLY);
    chardev_connect(c, in < 0 ? -1 : in, out < 0 ? -1 : out, false); /* closed ones: as none */
    return 0;
}

static void stdio_close(struct chardev *c)
{
    struct stdio *s = c->priv;

    loop_timer_cancel(&s->timer);
    term_restore();
    free(s);
}

const struct chardev_kind chardev_stdio = {
    .prefix = "stdio",
    .open = stdio_open,
    .close = stdio_close,
    .filter = stdio_filter,
    .hangup = stdio_hangup,
};
