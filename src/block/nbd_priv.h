/*
 * nbd_priv.h: between nbd.c (the disk, and its thread) and nbd_link.c (the connection).
 */
#ifndef BLOCK_NBD_PRIV_H
#define BLOCK_NBD_PRIV_H

#include <libnbd.h>

#include "block/remote.h"

/* The functions of libnbd that are used. */
#define NBD_FUNCTIONS(F)                                                                           \
    F(create)                                                                                      \
    F(close)                                                                                       \
    F(get_error)                                                                                   \
    F(set_strict_mode)                                                                             \
    F(set_uri_allow_local_file)                                                                    \
    F(add_meta_context)                                                                            \
    F(is_read_only)                                                                                \
    F(can_flush)                                                                                   \
    F(can_fua)                                                                                     \
    F(can_trim)                                                                                    \
    F(can_zero)                                                                                    \
    F(can_meta_context)                                                                            \
    F(get_size)                                                                                    \
    F(get_block_size)                                                                              \
    F(aio_connect_uri)                                                                             \
    F(aio_is_connecting)                                                                           \
    F(aio_is_ready)                                                                                \
    F(aio_is_dead)                                                                                 \
    F(aio_is_closed)                                                                               \
    F(aio_get_fd)                                                                                  \
    F(aio_get_direction)                                                                           \
    F(aio_notify_read)                                                                             \
    F(aio_notify_write)                                                                            \
    F(aio_disconnect)                                                                              \
    F(aio_pread)                                                                                   \
    F(aio_pwrite)                                                                                  \
    F(aio_flush)                                                                                   \
    F(aio_trim)                                                                                    \
    F(aio_zero)                                                                                    \
    F(aio_block_status)

struct nbd_lib {
    void *handle;
#define NBD_POINTER(name) __typeof__(nbd_##name) *name;
    NBD_FUNCTIONS(NBD_POINTER)
#undef NBD_POINTER
};

/* What the server said when it was connected to. */
struct nbd_server {
    uint64_t size;
    uint32_t block;   /* what offsets and lengths are multiples of */
    uint32_t max_len; /* of one command */
    bool readonly, flush, fua, trim, zero, status;
};

/* How long to wait for a server, and a descriptor that ends the wait when it is readable (-1: none). */
struct nbd_patience {
    unsigned timeout_ms;
    int cancel_fd;
};

/* Connects to uri. NULL with a sentence. Any thread. */
struct nbd_handle *nbd_link_open(const struct nbd_lib *lib, const char *uri,
                                 const struct nbd_patience *p, struct nbd_server *server,
                                 struct err *e);
/* Does the server answer a read at all? -errno with a sentence, and h is closed then. */
must_check int nbd_link_try(const struct nbd_lib *lib, struct nbd_handle *h, const char *uri,
                            const struct nbd_patience *p, const struct nbd_server *server,
                            struct err *e);
/* Is the connection usable? */
bool nbd_link_alive(const struct nbd_lib *lib, struct nbd_handle *h);
/*
 * Waits for the server or wake_fd and moves the connection on; timeout_ms -1: as long as it takes. Did something
 * come from the server, or did it take something?
 */
bool nbd_link_poll(const struct nbd_lib *lib, struct nbd_handle *h, int wake_fd, int timeout_ms);
/* Closes it so that what is in flight completes, as lost. */
void nbd_link_break(const struct nbd_lib *lib, struct nbd_handle *h);
void nbd_link_close(const struct nbd_lib *lib, struct nbd_handle *h); /* NULL is fine */

#endif
