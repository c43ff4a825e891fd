/*
 * clocks.c: does time ever go backwards between processors? A thread on each of them reads a clock and
 * compares with what any of them read before. Prints "NAME=ok" for each clock, or what went wrong.
 * usage: clocks PREFIX
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { CPUS_MAX = 64, READINGS = 100000 };

struct clock_kind {
    const char *name;
    uint64_t (*read)(void);
};

struct race {
    const struct clock_kind *kind;
    pthread_barrier_t start;
    _Alignas(64) _Atomic uint64_t latest;
    _Alignas(64) _Atomic uint64_t backwards, worst;
};

struct reader {
    struct race *race;
    int cpu;
};

static uint64_t clock_ns(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

static uint64_t clock_tsc(void)
{
    uint64_t tsc;

    _mm_lfence();
    tsc = __rdtsc();
    _mm_lfence();
    return tsc;
}

static uint64_t clock_vdso(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return clock_ns(&t);
}

static uint64_t clock_system_call(void)
{
    struct timespec t;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return clock_ns(&t);
}

static uint64_t clock_raw(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return clock_ns(&t);
}

static void raise_to(_Atomic uint64_t *max, uint64_t val)
{
    uint64_t old = atomic_load(max);

    while (old < val && !atomic_compare_exchange_weak(max, &old, val))
        ;
}

static void *read_clock(void *arg)
{
    struct reader *r = arg;
    struct race *race = r->race;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(r->cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    pthread_barrier_wait(&race->start);
    for (int i = 0; i < READINGS; i++) {
        uint64_t before = atomic_load(&race->latest), now = race->kind->read();

        if (now < before) {
            race->backwards++;
            raise_to(&race->worst, before - now);
        }
        raise_to(&race->latest, now);
    }
    return NULL;
}

static void run_race(const char *prefix, const struct clock_kind *kind, int cpus)
{
    struct race race = { .kind = kind };
    struct reader reader[CPUS_MAX];
    pthread_t thread[CPUS_MAX];

    pthread_barrier_init(&race.start, NULL, (unsigned)cpus);
    for (int i = 0; i < cpus; i++) {
        reader[i] = (struct reader){ &race, i };
        pthread_create(&thread[i], NULL, read_clock, &reader[i]);
    }
    for (int i = 0; i < cpus; i++)
        pthread_join(thread[i], NULL);
    if (race.backwards)
        printf("TEST %s_%s=%llu times back, by %llu at most\n", prefix, kind->name,
               (unsigned long long)race.backwards, (unsigned long long)race.worst);
    else
        printf("TEST %s_%s=ok\n", prefix, kind->name);
}

int main(int argc, char **argv)
{
    static const struct clock_kind kinds[] = {
        { "rdtsc", clock_tsc },
        { "vdso", clock_vdso },
        { "syscall", clock_system_call },
        { "raw", clock_raw },
    };
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (argc != 2 || cpus < 1 || cpus > CPUS_MAX)
        return 2;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        run_race(argv[1], &kinds[i], (int)cpus);
    return 0;
}
