/*
 * file.c: output appended to a file, or (none) thrown away; no input.
 */
#include "chardev/chardev_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/log.h"

static int none_open(struct chardev *c, const char *arg, struct err *e)
{
    (void)c;
    (void)arg;
    (void)e;
    return 0;
}

static int file_open(struct chardev *c, const char *arg, struct err *e)
{
    /* O_APPEND: a mistyped name must not cost anybody a file's contents */
    int fd = open(arg, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);

    if (fd < 0 && errno == ENXIO)
        return err_set(e, ENXIO, "cannot write the serial line to %s: nobody reads that pipe yet",
                       arg);
    if (fd < 0)
        return err_set(e, errno, "cannot write the serial line to %s: %s", arg, strerror(errno));
    c->where = strdup(arg);
    chardev_connect(c, -1, fd, false);
    return 0;
}

static void file_hangup(struct chardev *c, bool output, int error)
{
    (void)output;
    log_error("serial", "cannot write to %s (%s): the console's output is dropped from here on",
              c->where ? c->where : "the file", strerror(error));
    chardev_disconnect_out(c);
}

const struct chardev_kind chardev_none = { .prefix = "none", .open = none_open };
const struct chardev_kind chardev_file = {
    .prefix = "file:",
    .open = file_open,
    .hangup = file_hangup,
};
