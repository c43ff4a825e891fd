/*
 * loop.h: the event loop: file descriptors (epoll), timers (one timerfd) and posted calls (eventfd).
 * One loop thread runs loop_run(); every callback runs there, with no lock held. Functions marked
 * "any thread" may be called from anywhere, also from callbacks.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/err.h"

#include <pthread.h>
#include <sys/epoll.h>

struct loop;

struct loop *loop_create(struct err *e);
void loop_destroy(
    struct loop *l);            /* after loop_run() returned; watchers and timers are forgotten */
void loop_run(struct loop *l);  /* until loop_stop() */
void loop_stop(struct loop *l); /* any thread, async-signal-safe */
bool loop_on_thread(const struct loop *l); /* is the caller the thread inside loop_run()? */
/* For tests and single-threaded tools: handles what is ready, waiting at most timeout_ms (-1: ever). */
void loop_poll(struct loop *l, int timeout_ms);

/* A file descriptor's readiness. The struct is the caller's memory, the fd stays the caller's. */
struct loop_fd {
    struct loop *loop;
    int fd;
    void (*ready)(struct loop_fd *w, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP */
};
/* Any thread; 0 or -errno. events may be 0 (only errors and hang-ups). */
must_check int loop_fd_add(struct loop *l, struct loop_fd *w, int fd, uint32_t events,
                           void (*ready)(struct loop_fd *w, uint32_t events));
must_check int loop_fd_events(struct loop_fd *w, uint32_t events);
/* Loop thread only (or before loop_run() starts, or after it ended): ready() is not called afterwards. */
void loop_fd_del(struct loop_fd *w);

/* One-shot timer in CLOCK_MONOTONIC ns. Embedded, zeroed, then loop_timer_init(). */
struct loop_timer {
    struct loop *loop;
    struct loop_timer *next; /* sorted list of the armed ones, under the loop's lock */
    uint64_t deadline_ns;
    bool armed;
    void (*fire)(struct loop_timer *t);
};
void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fire)(struct loop_timer *t));
/* Any thread. Arms or moves it. A deadline in the past fires at the next turn. */
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns);
/* Any thread. On the loop thread nothing fires afterwards; elsewhere a call may be under way. */
void loop_timer_cancel(struct loop_timer *t);

/* A call to be made on the loop thread. The struct is the caller's until call() starts. */
struct loop_work {
    struct loop_work *next;
    bool queued;
    void (*call)(struct loop_work *w);
};
/* Any thread. Posting one that is still queued does nothing. */
void loop_post(struct loop *l, struct loop_work *w);
/* Loop thread only (or while it does not run): call() does not start afterwards. */
void loop_unpost(struct loop *l, struct loop_work *w);

/*
 * Loop thread only, or where none runs: call() once, after the callbacks of this turn (or of the next, where no
 * turn is under way) and before waiting. Asking again before that does nothing; costs no system call.
 */
void loop_after(struct loop *l, struct loop_work *w);
void loop_after_cancel(struct loop *l, struct loop_work *w);

#endif
