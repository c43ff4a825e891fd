#include "net/frameq.h"

#include <errno.h>
#include <string.h>

#include "net/net.h"

static size_t frameq_cost(const struct frame *f)
{
    return sizeof(*f) + f->len;
}

void frameq_init(struct frameq *q, size_t max_bytes)
{
    *q = (struct frameq){ .max_bytes = max_bytes };
    pthread_mutex_init(&q->lock, NULL);
}

void frameq_fini(struct frameq *q)
{
    struct frame *f;

    while ((f = frameq_pop(q)))
        free(f);
    pthread_mutex_destroy(&q->lock);
}

static struct frame *frameq_copy(const struct iovec *iov, int niov, size_t len)
{
    struct frame *f = malloc(sizeof(*f) + len);
    size_t at = 0;

    if (!f)
        return NULL;
    f->next = NULL;
    f->len = len;
    for (int i = 0; i < niov; i++) {
        memcpy(f->data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return f;
}

static bool frameq_append(struct frameq *q, struct frame *f)
{
    bool room;

    pthread_mutex_lock(&q->lock);
    room = q->bytes + frameq_cost(f) <= q->max_bytes;
    if (room) {
        if (q->tail)
            q->tail->next = f;
        else
            q->head = f;
        q->tail = f;
        q->bytes += frameq_cost(f);
    } else {
        q->refused = true;
    }
    pthread_mutex_unlock(&q->lock);
    return room;
}

int frameq_push(struct frameq *q, const struct iovec *iov, int niov)
{
    struct frame *f;
    size_t len = 0;

    for (int i = 0; i < niov; i++)
        if (ckd_add(&len, len, iov[i].iov_len) || len > NET_FRAME_MAX)
            return -EMSGSIZE;
    f = frameq_copy(iov, niov, len);
    if (!f)
        return -ENOMEM;
    if (frameq_append(q, f))
        return 0;
    free(f);
    return -EAGAIN;
}

struct frame *frameq_pop(struct frameq *q)
{
    struct frame *f;

    pthread_mutex_lock(&q->lock);
    f = q->head;
    if (f) {
        q->head = f->next;
        if (!q->head)
            q->tail = NULL;
        q->bytes -= frameq_cost(f);
    }
    pthread_mutex_unlock(&q->lock);
    return f;
}

ssize_t frameq_next_len(struct frameq *q)
{
    ssize_t len;

    pthread_mutex_lock(&q->lock);
    len = q->head ? (ssize_t)q->head->len : 0;
    pthread_mutex_unlock(&q->lock);
    return len;
}

size_t frameq_bytes(struct frameq *q)
{
    size_t bytes;

    pthread_mutex_lock(&q->lock);
    bytes = q->bytes;
    pthread_mutex_unlock(&q->lock);
    return bytes;
}

bool frameq_was_refused(struct frameq *q)
{
    bool refused;

    pthread_mutex_lock(&q->lock);
    refused = q->refused;
    q->refused = false;
    pthread_mutex_unlock(&q->lock);
    return refused;
}
