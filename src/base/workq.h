/*
 * workq.h: a few threads for calls that block. One is started with the queue and each starts the next before
 * it goes to work, so that one is idle up to the greatest number: whoever submits never starts a thread, which
 * the sandbox of a vCPU thread would not allow. They take no signals but those that they cause themselves.
 */
#ifndef BASE_WORKQ_H
#define BASE_WORKQ_H

#include "base/err.h"

struct workq;

/* The struct is the caller's until run() starts; run() may free or reuse it. */
struct work {
    struct work *next;
    void (*run)(struct work *w); /* on one of the threads, no lock held; order is not kept */
};

struct workq *workq_create(unsigned max_threads, struct err *e);
void workq_destroy(struct workq *q); /* finishes what is queued; NULL is fine */
/* Any thread. Runs w->run(w) soon; on this thread, if not even one could be started. */
void workq_submit(struct workq *q, struct work *w);

#endif
