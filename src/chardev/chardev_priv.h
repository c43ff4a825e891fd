/*
 * chardev_priv.h: what the kinds of chardev (stdio, file, unix, pty) share. For src/chardev only.
 *
 * The core (chardev.c) owns two rings and moves bytes between them and the endpoint's file
 * descriptors, on the loop thread. A kind opens descriptors and hands them over with
 * chardev_connect(); it hears of their end through hangup().
 */
#ifndef CHARDEV_CHARDEV_PRIV_H
#define CHARDEV_CHARDEV_PRIV_H

#include "chardev/chardev.h"

enum {
    CHARDEV_OUT_SIZE = 64 * KIB, /* both back-pressure limit and what a new client is shown */
    CHARDEV_IN_SIZE = 4 * KIB,
};

struct chardev_kind {
    const char *prefix; /* "file:" takes an argument, "stdio" is the whole spec */
    int (*open)(struct chardev *c, const char *arg,
                struct err *e);       /* -errno, *e set; undone by itself */
    void (*close)(struct chardev *c); /* after the descriptors were disconnected */
    /* Optional: looks at input of n bytes, may remove some; returns what is left. Loop thread. */
    size_t (*filter)(struct chardev *c, uint8_t *buf, size_t n);
    /* The peer is gone (input ended, or output failed with error). Loop thread. */
    void (*hangup)(struct chardev *c, bool output, int error);
};

struct chardev {
    /* wiring */
    struct loop *loop;
    const struct chardev_kind *kind;
    void *priv; /* the kind's own */
    char *where;
    void (*leave)(void *opaque);
    void *leave_opaque;
    const struct chardev_ops *ops;
    void *opaque;
    struct tail_file *keep;                                        /* NULL: nowhere */
    void (*heard)(void *opaque, const uint8_t *bytes, size_t len); /* NULL: nobody listens */
    void *heard_opaque;

    /* loop thread */
    uint64_t out_kept;                  /* bytes that have been kept and heard */
    int in_fd, out_fd;                  /* -1: not connected; closed by the core */
    struct loop_fd in_watch, out_watch; /* exist only while there is something to wait for */
    struct loop_work kick;

    pthread_mutex_t lock;        /* guards what follows */
    bool connected;              /* output has somewhere to go; else it is only remembered */
    bool stalled;                /* a write took less than all: writable() is owed */
    bool in_full;                /* reading stopped for want of room */
    uint64_t out_head, out_sent; /* bytes ever taken, ever written out */
    uint64_t in_head, in_tail;
    uint8_t out[CHARDEV_OUT_SIZE], in[CHARDEV_IN_SIZE];
};

extern const struct chardev_kind chardev_stdio, chardev_none, chardev_file, chardev_unix,
    chardev_pty;

/*
 * Loop thread, or before it runs. The non-blocking descriptors become the core's; -1 for a direction
 * that does not exist. replay: the peer is new and is shown the remembered output.
 */
void chardev_connect(struct chardev *c, int in_fd, int out_fd, bool replay);
/* Stops and closes one or both directions. Loop thread. */
void chardev_disconnect_in(struct chardev *c);
void chardev_disconnect_out(struct chardev *c);

#endif
