/*
 * net.h: the host side of a network card: frames in, frames out. Pull model: the card asks for a frame
 * when it has a buffer, so nothing is queued without bound. Loop thread, unless said otherwise.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

enum { NET_FRAME_MAX = 65550 };

struct net;
struct vm_config;
struct net_opts {
    struct loop *loop;
    const struct vm_config *cfg;    /* forwards; NULL: none */
    void (*rx_ready)(void *opaque); /* a frame may be waiting; loop thread, no lock held */
    void (*tx_ready)(void *opaque); /* after -EAGAIN: try again; loop thread, no lock held */
    void *opaque;
};
struct net_ops {
    const char *type; /* "user" */
    bool big_frames;  /* tx takes TCP segments far above the MTU (one checksum over all of it) */
    int (*open)(struct net *n, const struct net_opts *o, struct err *e);
    void (*close)(struct net *n);
    int (*tx)(struct net *n, const struct iovec *iov,
              int niov);              /* any thread; -EAGAIN: wait for tx_ready() */
    ssize_t (*rx_len)(struct net *n); /* any thread: next frame's length, 0 if none */
    ssize_t (*rx)(struct net *n, const struct iovec *iov, int niov); /* any thread */
    void (*rx_enable)(struct net *n,
                      bool on); /* once off returns: no rx_ready() until on; on at first */
};
struct net {
    const struct net_ops *ops;
    void *priv;
};

/* type "user"; NULL with a sentence (a port that is taken, ...). */
struct net *net_open(const char *type, const struct net_opts *o, struct err *e);
void net_close(struct net *n);

#endif
