/*
 * vnc.h: a server of the remote frame buffer protocol (RFC 6143, RFB 3.8): the screen, keyboard and
 * pointer of a VM for any number of viewers. Loop thread; created and destroyed while the loop does not run, too.
 */
#ifndef DISPLAY_VNC_H
#define DISPLAY_VNC_H

#include "base/loop.h"
#include "display/input.h"
#include "display/surface.h"

struct vnc;
/* The VM as its viewers have it. Called on the loop thread. */
struct vnc_source {
    void *opaque;
    int (*draw)(void *opaque, struct surface *s); /* 0, or -errno: nothing to see now */
    struct input *input;                          /* where viewers' keys and pointers lead */
};

/* where: base/sock.h; password: NULL, or up to 8 characters that count. Strings are copied. */
struct vnc *vnc_create(struct loop *l, const char *where, const char *password,
                       const struct vnc_source *source, struct err *e);
void vnc_destroy(struct vnc *v);
void vnc_where(const struct vnc *v, char *buf, size_t len);

#endif
