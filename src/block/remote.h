/*
 * remote.h: what disks on servers have in common: which they are, their libraries, and the way of completions
 * from a library's threads to the loop thread.
 */
#ifndef BLOCK_REMOTE_H
#define BLOCK_REMOTE_H

#include "block/block.h"

/* The driver of a name like nbd://... or rbd:...; NULL: it is a file. */
const struct blk_ops *remote_find(const char *path);

/* A function of a library, and where to put its address. */
struct remote_symbol {
    const char *name;
    void *where; /* of a function pointer */
};
/*
 * Loads a library that only those need who use such a disk: a handle for dlclose(), or NULL with a sentence
 * that names the package to install.
 */
void *remote_load(const char *soname, const char *package, const char *disk,
                  const struct remote_symbol *symbols, size_t n, struct err *e);

/* Completions. */
struct remote {
    int event_fd;
    struct loop_fd watch; /* unused without a loop */
    pthread_mutex_t lock; /* guards the list */
    struct blk_req *finished;
};
must_check int remote_init(struct remote *r, struct loop *l, struct err *e);
void remote_fini(struct remote *r);                               /* nothing is in flight */
void remote_done(struct remote *r, struct blk_req *req, int err); /* any thread */
void remote_wait(struct remote *r);                               /* for blk_ops.wait() */

#endif
