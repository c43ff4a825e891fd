/*
 * chardev.h: a byte stream to the outside: terminal, file, unix socket, pty. Output is buffered and never
 * blocks a vCPU; a full buffer says so, and the UART stops draining its FIFO until it empties.
 */
#ifndef CHARDEV_CHARDEV_H
#define CHARDEV_CHARDEV_H

#include "base/err.h"
#include "base/loop.h"

struct chardev;
struct chardev_ops {
    /* Loop thread, no lock held. */
    void (*readable)(void *opaque); /* chardev_read() may have something */
    void (*writable)(void *opaque); /* room again after chardev_write() took less than all */
};

/*
 * spec: "stdio", "none", "file:F", "unix:F", "pty". NULL with a sentence if it cannot be opened.
 * stdio on a terminal: raw mode until chardev_close(); Ctrl-] (twice to send it) calls `leave`.
 */
struct chardev *chardev_open(const char *spec, struct loop *l, void (*leave)(void *opaque),
                             void *leave_opaque, struct err *e);
void chardev_close(struct chardev *c); /* flushes; the loop does not run, or this is its thread */
/* The device at the other end; before the VM runs. */
void chardev_attach(struct chardev *c, const struct chardev_ops *ops, void *opaque);
/* All that is written is also kept there, whoever is connected; f outlives c. Before the VM runs. */
struct tail_file;
void chardev_keep(struct chardev *c, struct tail_file *f);
/* All that is written is also told to heard(), on the loop thread, as far as it follows. Before the VM runs. */
void chardev_listen(struct chardev *c,
                    void (*heard)(void *opaque, const uint8_t *bytes, size_t len), void *opaque);
size_t chardev_write(struct chardev *c, const void *buf, size_t len); /* any thread: bytes taken */
size_t chardev_read(struct chardev *c, void *buf, size_t len);        /* any thread: 0 if none */
void chardev_flush(struct chardev *c); /* at the end of the VM: writes out, at most a second */
/* What a user must be told: the pty's name, the socket's path; NULL if nothing. */
const char *chardev_where(const struct chardev *c);

#endif
