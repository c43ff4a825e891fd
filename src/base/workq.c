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

static struct work *workq_take(struct workq *q)
{
    struct work *w = q->head;

    q->head = w->next;
    if (!q->head)
        q->tail = NULL;
    q->queued--;
    return w;
}

static void *workq_thread(void *opaque);

/* One more thread, if more are allowed. Lock held. */
static void workq_start(struct workq *q)
{
    static const int own[] = { SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP };
    sigset_t others, old;

    if (q->n_threads == q->max_threads)
        return;
    sigfillset(&others);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&others, own[i]); /* blocked, they would kill without a word */
    pthread_sigmask(SIG_SETMASK, &others, &old);
    if (!pthread_create(&q->thread[q->n_threads], NULL, workq_thread, q))
        q->n_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void *workq_thread(void *opaque)
{
    struct workq *q = opaque;

    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->head) {
            struct work *w = workq_take(q);

            if (!q->idle && (q->head || !q->ending))
                workq_start(q);
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

struct workq *workq_create(unsigned max_threads, struct err *e)
{
    struct workq *q = calloc(1, sizeof(*q));

    if (!q)
        return err_oom(e);
    BUG_ON(!max_threads || max_threads > WORKQ_MAX_THREADS);
    q->max_threads = max_threads;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    pthread_mutex_lock(&q->lock);
    workq_start(q);
    pthread_mutex_unlock(&q->lock);
    return q;
}

void workq_submit(struct workq *q, struct work *w)
{
    pthread_mutex_lock(&q->lock);
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

/* Those that are still at work may start more. */
static bool workq_has_thread(struct workq *q, unsigned i)
{
    bool has;

    pthread_mutex_lock(&q->lock);
    has = i < q->n_threads;
    pthread_mutex_unlock(&q->lock);
    return has;
}

void workq_destroy(struct workq *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->ending = true;
    pthread_cond_broadcast(&q->wake);
    pthread_mutex_unlock(&q->lock);
    for (unsigned i = 0; workq_has_thread(q, i); i++)
        pthread_join(q->thread[i], NULL);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    free(q);
}
