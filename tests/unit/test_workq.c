#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "base/workq.h"

enum { JOBS = 500, THREADS = 4 };

struct job {
    struct work work;
    atomic_uint *sum;
};

static void job_run(struct work *w)
{
    atomic_fetch_add(container_of(w, struct job, work)->sum, 1);
}

static void test_runs_all(void **ctx)
{
    struct workq *q = workq_create(THREADS, NULL);
    struct job job[JOBS];
    atomic_uint sum = 0;

    (void)ctx;
    assert_non_null(q);
    for (unsigned i = 0; i < JOBS; i++) {
        job[i] = (struct job){ .work.run = job_run, .sum = &sum };
        workq_submit(q, &job[i].work);
    }
    workq_destroy(q); /* finishes what is queued */
    assert_int_equal(sum, JOBS);
}

struct meeting {
    struct work work;
    pthread_barrier_t *barrier;
};

static void meet(struct work *w)
{
    pthread_barrier_wait(container_of(w, struct meeting, work)->barrier);
}

/* As many run at once as were promised: else this never ends. */
static void test_parallel(void **ctx)
{
    struct workq *q = workq_create(THREADS, NULL);
    struct meeting meeting[THREADS];
    pthread_barrier_t barrier;

    (void)ctx;
    assert_non_null(q);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        meeting[i] = (struct meeting){ .work.run = meet, .barrier = &barrier };
        workq_submit(q, &meeting[i].work);
    }
    workq_destroy(q);
    pthread_barrier_destroy(&barrier);
    workq_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_all),
        cmocka_unit_test(test_parallel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
