/*
 * rbd_priv.h: between rbd.c (the disk) and rbd_link.c (the name, and the way to the cluster).
 */
#ifndef BLOCK_RBD_PRIV_H
#define BLOCK_RBD_PRIV_H

#include <rados/librados.h>
#include <rbd/librbd.h>

#include "block/remote.h"

#define RADOS_FUNCTIONS(F)                                                                         \
    F(rados_create)                                                                                \
    F(rados_conf_read_file)                                                                        \
    F(rados_conf_get)                                                                              \
    F(rados_conf_set)                                                                              \
    F(rados_connect)                                                                               \
    F(rados_ioctx_create)                                                                          \
    F(rados_ioctx_set_namespace)                                                                   \
    F(rados_ioctx_destroy)                                                                         \
    F(rados_shutdown)
#define RBD_FUNCTIONS(F)                                                                           \
    F(rbd_create4)                                                                                 \
    F(rbd_image_options_create)                                                                    \
    F(rbd_image_options_destroy)                                                                   \
    F(rbd_open)                                                                                    \
    F(rbd_open_read_only)                                                                          \
    F(rbd_close)                                                                                   \
    F(rbd_get_size)                                                                                \
    F(rbd_get_features)                                                                            \
    F(rbd_get_flags)                                                                               \
    F(rbd_resize)                                                                                  \
    F(rbd_stat)                                                                                    \
    F(rbd_diff_iterate2)                                                                           \
    F(rbd_aio_create_completion)                                                                   \
    F(rbd_aio_readv)                                                                               \
    F(rbd_aio_writev)                                                                              \
    F(rbd_aio_flush)                                                                               \
    F(rbd_aio_discard)                                                                             \
    F(rbd_aio_write_zeroes)                                                                        \
    F(rbd_aio_get_return_value)                                                                    \
    F(rbd_aio_release)

struct rbd_lib {
    void *rados, *rbd; /* never dlclose()d: threads of theirs stay that do not survive their code */
#define RBD_POINTER(name) __typeof__(name) *name;
    RADOS_FUNCTIONS(RBD_POINTER)
    RBD_FUNCTIONS(RBD_POINTER)
#undef RBD_POINTER
};

/* The parts of the name, all in one copy of it. */
struct rbd_name {
    char *copy, *pool, *namespace, *image, *snapshot, *options;
};

/* A connection to a cluster, and the pool. All zero: none. */
struct rbd_link {
    struct rbd_lib lib;
    struct rbd_name name;
    rados_t cluster;
    rados_ioctx_t pool;
    char osd_timeout[32]; /* what the user's configuration says of rados_osd_op_timeout */
};

/*
 * Takes the name apart, loads the libraries, and connects. A cluster that does not answer is given up after a while.
 * 0 or -errno with a sentence; rbd_link_close() in both cases. Loop thread, blocking, as the others.
 */
must_check int rbd_link_open(struct rbd_link *l, const char *path, struct err *e);
/* The image, or its snapshot. From then on requests wait for the cluster as long as its configuration says. */
must_check int rbd_link_image(struct rbd_link *l, const char *path, bool readonly,
                              rbd_image_t *image, struct err *e);
/* A new image with what the cluster's configuration says of new ones. -EEXIST: there is one. */
must_check int rbd_link_create(struct rbd_link *l, const char *path, uint64_t size, struct err *e);
void rbd_link_close(struct rbd_link *l);

#endif
