/*
 * loop.c: see loop.h. Locking: `lock` guards the timer list and the posted queue; epoll guards itself.
 */
#include "base/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { LOOP_EVENTS = 32 };

struct loop {
    int epoll_fd, timer_fd, wake_fd;
    atomic_bool stop;
    _Atomic(pthread_t) thread;
    atomic_bool running;
    pthread_mutex_t lock;
    struct loop_timer *timers;     /* earliest first */
    struct loop_work *head, *tail; /* posted calls, in order */
    struct loop_work *after;       /* the loop thread's: at the end of this turn */
    struct epoll_event *batch;     /* events of this turn still to be delivered */
    int batch_len;
};

struct loop *loop_create(struct err *e)
{
    struct loop *l = calloc(1, sizeof(*l));
    struct epoll_event ev = { .events = EPOLLIN };

    if (!l)
        return err_oom(e);
    pthread_mutex_init(&l->lock, NULL);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->timer_fd < 0 || l->wake_fd < 0)
        goto fail;
    ev.data.ptr = &l->timer_fd;
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->timer_fd, &ev))
        goto fail;
    ev.data.ptr = &l->wake_fd;
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev))
        goto fail;
    return l;
fail:
    err_set(e, errno, "cannot make an event loop: %s", strerror(errno));
    loop_destroy(l);
    return NULL;
}

void loop_destroy(struct loop *l)
{
    if (!l)
        return;
    util_close(&l->epoll_fd);
    util_close(&l->timer_fd);
    util_close(&l->wake_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void loop_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof(one));

    (void)n; /* EAGAIN: the counter is full, so the loop wakes anyway */
}

static void loop_drain(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));

    (void)n; /* EAGAIN: someone was faster */
}

static void loop_run_timers(struct loop *l)
{
    uint64_t now = util_monotonic_ns();

    pthread_mutex_lock(&l->lock);
    while (l->timers && l->timers->deadline_ns <= now) {
        struct loop_timer *t = l->timers;

        l->timers = t->next;
        t->armed = false;
        pthread_mutex_unlock(&l->lock);
        t->fire(t);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Takes the first posted call off the queue; NULL: none. Lock held. */
static struct loop_work *loop_pop_posted(struct loop *l)
{
    struct loop_work *w = l->head;

    if (!w)
        return NULL;
    l->head = w->next;
    if (!l->head)
        l->tail = NULL;
    w->queued = false;
    return w;
}

/* Runs as many calls as were waiting at the start: those that they post wait for the next turn. */
static void loop_run_posted(struct loop *l)
{
    struct loop_work *w;
    size_t n = 0;

    pthread_mutex_lock(&l->lock);
    for (w = l->head; w; w = w->next)
        n++;
    while (n-- && (w = loop_pop_posted(l))) {
        pthread_mutex_unlock(&l->lock);
        w->call(w);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

/* The timerfd follows the earliest timer; called with the lock held whenever that changes. */
static void loop_arm(struct loop *l)
{
    struct itimerspec its = { 0 };

    if (l->timers) {
        uint64_t at = max_u64(l->timers->deadline_ns, 1); /* 0 would disarm */

        its.it_value.tv_sec = (time_t)(at / 1000000000u);
        its.it_value.tv_nsec = (long)(at % 1000000000u);
    }
    timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/* One that asks again from inside comes in the next turn, which does not wait. */
static void loop_run_after(struct loop *l)
{
    struct loop_work *w = l->after;

    l->after = NULL;
    while (w) {
        struct loop_work *next = w->next;

        w->queued = false;
        w->call(w);
        w = next;
    }
}

void loop_poll(struct loop *l, int timeout_ms)
{
    struct epoll_event ev[LOOP_EVENTS];
    int n = epoll_wait(l->epoll_fd, ev, LOOP_EVENTS, l->after ? 0 : timeout_ms);

    l->batch = ev;
    l->batch_len = n;
    for (int i = 0; i < n; i++) {
        void *p = ev[i].data.ptr;

        if (p == &l->timer_fd) {
            loop_drain(l->timer_fd);
            loop_run_timers(l);
            pthread_mutex_lock(&l->lock);
            loop_arm(l);
            pthread_mutex_unlock(&l->lock);
        } else if (p == &l->wake_fd) {
            loop_drain(l->wake_fd);
            loop_run_posted(l);
        } else if (p) { /* NULL: deleted by an earlier callback of this turn */
            struct loop_fd *w = p;

            w->ready(w, ev[i].events);
        }
    }
    l->batch = NULL;
    l->batch_len = 0;
    loop_run_after(l);
}

void loop_run(struct loop *l)
{
    atomic_store(&l->thread, pthread_self());
    atomic_store(&l->running, true);
    while (!atomic_load(&l->stop))
        loop_poll(l, -1);
    atomic_store(&l->running, false);
    atomic_store(&l->stop, false); /* it may be run again */
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    loop_wake(l);
}

bool loop_on_thread(const struct loop *l)
{
    return atomic_load(&l->running) && pthread_equal(atomic_load(&l->thread), pthread_self());
}

int loop_fd_add(struct loop *l, struct loop_fd *w, int fd, uint32_t events,
                void (*ready)(struct loop_fd *w, uint32_t events))
{
    struct epoll_event ev = { .events = events, .data.ptr = w };

    *w = (struct loop_fd){ .loop = l, .fd = fd, .ready = ready };
    if (!epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
        return 0;
    w->loop = NULL;
    return -errno;
}

int loop_fd_events(struct loop_fd *w, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = w };

    return epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) ? -errno : 0;
}

void loop_fd_del(struct loop_fd *w)
{
    struct loop *l = w->loop;

    if (!l)
        return;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = 0; i < l->batch_len; i++)
        if (l->batch[i].data.ptr == w)
            l->batch[i].data.ptr = NULL;
    w->loop = NULL;
}

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fire)(struct loop_timer *t))
{
    *t = (struct loop_timer){ .loop = l, .fire = fire };
}

static void loop_timer_unlink(struct loop *l, struct loop_timer *t)
{
    struct loop_timer **p = &l->timers;

    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    t->armed = false;
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
    struct loop *l = t->loop;
    struct loop_timer *first;
    struct loop_timer **p;

    pthread_mutex_lock(&l->lock);
    first = l->timers;
    if (t->armed)
        loop_timer_unlink(l, t);
    t->deadline_ns = deadline_ns;
    for (p = &l->timers; *p && (*p)->deadline_ns <= deadline_ns; p = &(*p)->next)
        ;
    t->next = *p;
    *p = t;
    t->armed = true;
    if (l->timers == t || first == t)
        loop_arm(l);
    pthread_mutex_unlock(&l->lock);
}

void loop_timer_cancel(struct loop_timer *t)
{
    struct loop *l = t->loop;

    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    if (t->armed) /* the timerfd may fire early once: cheaper than a system call here */
        loop_timer_unlink(l, t);
    pthread_mutex_unlock(&l->lock);
}

void loop_post(struct loop *l, struct loop_work *w)
{
    bool wake = false;

    pthread_mutex_lock(&l->lock);
    if (!w->queued) {
        w->queued = true;
        w->next = NULL;
        if (l->tail)
            l->tail->next = w;
        else
            l->head = w;
        l->tail = w;
        wake = true;
    }
    pthread_mutex_unlock(&l->lock);
    if (wake)
        loop_wake(l);
}

void loop_after(struct loop *l, struct loop_work *w)
{
    if (w->queued)
        return;
    w->queued = true;
    w->next = l->after;
    l->after = w;
}

void loop_after_cancel(struct loop *l, struct loop_work *w)
{
    struct loop_work **p = &l->after;

    while (*p && *p != w)
        p = &(*p)->next;
    if (*p)
        *p = w->next;
    w->queued = false;
}

void loop_unpost(struct loop *l, struct loop_work *w)
{
    struct loop_work **p = &l->head;
    struct loop_work *prev = NULL;

    pthread_mutex_lock(&l->lock);
    for (; *p && *p != w; p = &(*p)->next)
        prev = *p;
    if (*p) {
        *p = w->next;
        if (l->tail == w)
            l->tail = prev;
        w->queued = false;
    }
    pthread_mutex_unlock(&l->lock);
}
