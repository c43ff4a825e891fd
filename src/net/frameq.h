/*
 * frameq.h: a bounded queue of Ethernet frames between threads. Any thread.
 */
#ifndef NET_FRAMEQ_H
#define NET_FRAMEQ_H

#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct frame {
    struct frame *next;
    size_t len;
    uint8_t data[];
};
struct frameq {
    size_t max_bytes;
    pthread_mutex_t lock; /* guards what follows */
    struct frame *head, *tail;
    size_t bytes; /* with each frame's overhead */
    bool refused; /* a push found no room since the last frameq_was_refused() */
};

void frameq_init(struct frameq *q, size_t max_bytes);
void frameq_fini(struct frameq *q);
/* Copies. 0; -EAGAIN: full; -EMSGSIZE: longer than a frame can be; -ENOMEM. */
must_check int frameq_push(struct frameq *q, const struct iovec *iov, int niov);
struct frame *frameq_pop(struct frameq *q); /* the caller frees it; NULL: empty */
ssize_t frameq_next_len(struct frameq *q);  /* 0: empty */
size_t frameq_bytes(struct frameq *q);
bool frameq_was_refused(struct frameq *q); /* and forgets it */

#endif
