/*
 * driver.c: runs the cases of the benchmark and times them: as PID 1 of the guest, and the same program on
 * the host. It reads /bench/cases, runs each wanted command several times in /tmp, and answers in lines
 * that the runner reads:
 *
 *   BENCH pid1                                          a guest reached its first program
 *   BENCH begin CASE
 *   BENCH run CASE SECONDS USER SYSTEM HASH STATUS      once per repetition; HASH is of what it printed
 *   BENCH late CASE SECONDS                             killed: it took longer than the limit
 *   BENCH note CASE TEXT                                what it wrote to /tmp/note: measurements of its own
 *   BENCH end CASE
 *   BENCH done
 *
 * usage on the host: driver CPUS:REPETITIONS:LIMIT:CASE,...     (LIMIT in seconds for all of a case)
 * In the guest the same comes from the kernel command line: bench=...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, WORDS_MAX = 64 };

#define CASES_FILE "/bench/cases"
#define NOTE_FILE  "/tmp/note"

struct outcome {
    double seconds;
    struct rusage usage;
    uint64_t hash; /* FNV-1a of the output */
    int status;
    bool late;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The child: a program of its own process group, run directly if it is one of ours, else by the shell. */
static void child_exec(char *command, int out)
{
    int null = open("/dev/null", O_RDWR);

    setpgid(0, 0);
    dup2(null < 0 ? out : null, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (chdir("/tmp"))
        _exit(125);
    if (strncmp(command, "/bench/", 7) == 0 && !strpbrk(command, ";|><$&")) {
        char *words[WORDS_MAX], *save = NULL;
        int n = 0;

        for (char *w = strtok_r(command, " ", &save); w && n < WORDS_MAX - 1;
             w = strtok_r(NULL, " ", &save))
            words[n++] = w;
        words[n] = NULL;
        execv(words[0], words);
    } else {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    }
    _exit(127);
}

/* Reads what the child prints until it closes its end or the time is up. */
static void collect(int fd, double deadline, struct outcome *o)
{
    unsigned char buf[65536];

    o->hash = 0xcbf29ce484222325u;
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        double left = deadline - now();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)(left * 1000) + 1) == 0) {
            o->late = true;
            return;
        }
        n = read(fd, buf, sizeof(buf));
        if (n <= 0)
            return;
        for (ssize_t i = 0; i < n; i++)
            o->hash = (o->hash ^ buf[i]) * 0x100000001b3u;
        if (getenv("BENCH_SHOW"))
            fwrite(buf, 1, (size_t)n, stderr);
    }
}

static struct outcome run_once(const char *command, double limit)
{
    struct outcome o = { 0 };
    char *copy = strdup(command);
    int pipes[2];
    double start;
    pid_t pid;

    if (!copy || pipe2(pipes, O_CLOEXEC))
        exit(1);
    start = now();
    pid = fork();
    if (pid == 0)
        child_exec(copy, pipes[1]);
    close(pipes[1]);
    collect(pipes[0], start + limit, &o);
    if (o.late)
        kill(-pid, SIGKILL);
    while (wait4(pid, &o.status, 0, &o.usage) < 0 && errno == EINTR)
        continue;
    o.seconds = now() - start;
    close(pipes[0]);
    free(copy);
    return o;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

/* What is not the same everywhere and so not in the output. */
static void say_note(const char *name)
{
    char line[LINE_MAX_BYTES];
    FILE *f = fopen(NOTE_FILE, "re");

    if (!f)
        return;
    if (fgets(line, sizeof(line), f))
        printf("BENCH note %s %.*s\n", name, (int)strcspn(line, "\n"), line);
    fclose(f);
    unlink(NOTE_FILE);
}

static void run_case(const char *name, const char *command, int repetitions, double limit)
{
    double end = now() + limit;

    printf("BENCH begin %s\n", name);
    for (int i = 0; i < repetitions; i++) {
        struct outcome o = run_once(command, end - now());

        if (o.late) {
            printf("BENCH late %s %.3f\n", name, o.seconds);
            break;
        }
        printf("BENCH run %s %.6f %.3f %.3f %016llx %d\n", name, o.seconds,
               seconds_of(o.usage.ru_utime), seconds_of(o.usage.ru_stime),
               (unsigned long long)o.hash,
               WIFEXITED(o.status) ? WEXITSTATUS(o.status) : 128 + WTERMSIG(o.status));
        say_note(name);
    }
    printf("BENCH end %s\n", name);
}

static bool wanted(const char *name, const char *list)
{
    size_t n = strlen(name);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* A line of the table: NAME GROUP COMMAND. */
static void run_cases(const char *list, int repetitions, double limit)
{
    char line[LINE_MAX_BYTES];
    FILE *f = fopen(CASES_FILE, "re");

    if (!f) {
        printf("BENCH error %s: %s\n", CASES_FILE, strerror(errno));
        return;
    }
    while (fgets(line, sizeof(line), f)) {
        char *save = NULL, *name, *command;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || line[0] == '\0')
            continue;
        name = strtok_r(line, " ", &save);
        if (!strtok_r(NULL, " ", &save))
            continue;
        command = save + strspn(save, " ");
        if (wanted(name, list))
            run_case(name, command, repetitions, limit);
    }
    fclose(f);
    printf("BENCH done\n");
}

/* On the host as many CPUs as the guest has, so that both see the same concurrency. */
static void use_cpus(int n)
{
    cpu_set_t have, use;

    CPU_ZERO(&use);
    if (n <= 0 || sched_getaffinity(0, sizeof(have), &have))
        return;
    for (int i = CPU_SETSIZE - 1; i >= 0 && n > 0; i--)
        if (CPU_ISSET(i, &have)) {
            CPU_SET(i, &use);
            n--;
        }
    sched_setaffinity(0, sizeof(use), &use);
}

/* CPUS:REPETITIONS:LIMIT:CASES; CASES may be missing. */
static void run_plan(const char *plan)
{
    int cpus, repetitions, used = 0;
    double limit;

    if (sscanf(plan, "%d:%d:%lf:%n", &cpus, &repetitions, &limit, &used) < 3 || used == 0)
        return;
    use_cpus(cpus);
    run_cases(plan + used, repetitions, limit);
}

static void guest_main(void)
{
    char text[LINE_MAX_BYTES] = "";
    const char *plan;
    int fd;
    ssize_t n;

    printf("BENCH pid1\n");
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/tmp", 01777);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("tmp", "/tmp", "tmpfs", 0, "size=80%");
    fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    plan = strstr(text, "bench=");
    if (plan) {
        char *end = strchr(plan, ' ');

        if (end)
            *end = '\0';
        run_plan(plan + 6);
    }
    usleep(200000); /* whoever reads the lines looks at the VMM's CPU time at each */
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin", 1);
    setenv("LC_ALL", "C", 1);
    setenv("HOME", "/tmp", 1);
    /* A plan has colons; words of the kernel command line that the kernel does not know (nokaslr) have none. */
    if (getpid() == 1 && (argc < 2 || !strchr(argv[1], ':'))) {
        guest_main();
        for (;;)
            pause();
    }
    if (argc != 2) {
        fprintf(stderr, "usage: driver CPUS:REPETITIONS:LIMIT:CASE,...\n");
        return 2;
    }
    run_plan(argv[1]);
    return 0;
}
