/*
 * workq.c: see workq.h. Locking: `lock` guards everything; it is not held while work runs.
 */
#include "base/workq.h"

#include <pthread.h>
#include <signal.h>

enum { WORKQ_MAX_THREADS = 64 };

struct workq {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct work *head, *tail;
    unsigned max_threads, n_threads, idle, queued;
    bool ending;
    pthread_t thread[WORKQ_MAX_THREADS];
};

struct workq *workq_create(unsigned max_threads, struct err *e)
{
    struct workq *q = calloc(1, sizeof(*q));

    if (!q)
        return err_oom(e);
    BUG_ON(!max_threads || max_threads > WORKQ_MAX_THREADS);
    q->max_threads = max_threads;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    return q;
}

static struct work *workq_take(struct workq *q)
{
    struct work *w = q->head;

    q->head = w->next;
    if (!q->head)
        q->tail = NULL;
    q->queued--;
    return w;
}

static void *workq_thread(void *opaque)
{
    struct workq *q = opaque;

    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->head) {
            struct work *w = workq_take(q);

            pthread_mutex_unlock(&q->lock);
            w->run(w);
            pthread_mutex_lock(&q->lock);
        }
        if (q->ending)
            break;
        q->idle++;
        pthread_cond_wait(&q->wake, &q->lock);
        q->idle--;
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* One more thread; all signals are for others. Lock held. */
static void workq_start(struct workq *q)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&q->thread[q->n_threads], NULL, workq_thread, q))
        q->n_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void workq_submit(struct workq *q, struct work *w)
{
    pthread_mutex_lock(&q->lock);
    if (q->queued >= q->idle && q->n_threads < q->max_threads)
        workq_start(q);
    if (!q->n_threads) {
        pthread_mutex_unlock(&q->lock);
        w->run(w);
        return;
    }
    w->next = NULL;
    if (q->tail)
        q->tail->next = w;
    else
        q->head = w;
    q->tail = w;
    q->queued++;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

void workq_destroy(struct workq *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->ending = true;
    pthread_cond_broadcast(&q->wake);
    pthread_mutex_unlock(&q->lock);
    for (unsigned i = 0; i < q->n_threads; i++)
        pthread_join(q->thread[i], NULL);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    free(q);
}
