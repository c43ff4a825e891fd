/*
 * linux_state.c: a busybox Linux at work is paused, saved, loaded into a fresh VM and goes on; others are
 * paused a hundred times or reset while they run. One TAP line a case.
 *
 * usage: linux_state FOLDER ACCEL...     FOLDER holds vmlinuz and initrd.img (tests/guest/linux/build)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vm/machine_pc.h"

enum {
    POLL_NS = 20000000, /* how often the console is looked at */
    STORM_NS = 3000000, /* from one pause to the next */
    STORM_PAUSES = 100,
    LIMIT_S = 300, /* of one case; the machine may be busy */
    CLOCK_SLACK_S = 3,
    CONSOLE_MAX = 1 << 20,
    DISK_BYTES = 4 << 20,
    POOL_BYTES = 2 << 20, /* what the guest leaves on the disk's second and third MiB */
    MEMORY = 256 << 20,
    RESETS = 5,
};

struct test {
    const char *folder; /* kernel and initrd */
    const struct accel_ops *accel;
    unsigned cpus;
    const char *model; /* --cpu; NULL: what it is without */
    const char *words; /* what the guest's init does */

    char dir[32], disk[64], console[64], append[128], serial[80];
    struct vm_config cfg;
    struct vm *vm;
    int listener;
    uint16_t port;

    /* while it runs */
    struct loop_timer poll;
    const char *marker; /* stop when the console shows it; NULL: run to the end */
    unsigned pauses;    /* that are still to be made */
    bool timed_out;
    uint64_t deadline_ns;
    char text[CONSOLE_MAX];

    int conn;
    char said[32];     /* over TCP, by the guest */
    time_t clock_seen; /* when it showed its clocks */
    char problems[4096];
};

static void printf_like(2, 3) problem(struct test *t, const char *fmt, ...)
{
    size_t used = strlen(t->problems);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(t->problems + used, sizeof(t->problems) - used, fmt, ap);
    va_end(ap);
    used = strlen(t->problems);
    snprintf(t->problems + used, sizeof(t->problems) - used, "\n");
}

/* --- the console --- */

static void console_read(struct test *t)
{
    int fd = open(t->console, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, t->text, sizeof(t->text) - 1);

    t->text[n < 0 ? 0 : n] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The last answer "TEST name=value" into buf; an empty one if there is none. */
static const char *answer(struct test *t, const char *name, char *buf, size_t len)
{
    char key[64];
    const char *at = t->text, *found = NULL;

    snprintf(key, sizeof(key), "TEST %s=", name);
    while ((at = strstr(at, key)) != NULL)
        found = at += strlen(key);
    snprintf(buf, len, "%.*s", found ? (int)strcspn(found, "\r\n") : 0, found ? found : "");
    return buf;
}

static void expect(struct test *t, const char *name, const char *want)
{
    char got[64];

    if (strcmp(answer(t, name, got, sizeof(got)), want) != 0)
        problem(t, "%s is '%s', not '%s'", name, got, want);
}

static void expect_near(struct test *t, const char *name, long long want, long long before,
                        long long after)
{
    char buf[64];
    long long got = strtoll(answer(t, name, buf, sizeof(buf)), NULL, 10);

    if (got < want - before || got > want + after)
        problem(t, "%s is '%s', not %lld", name, buf, want);
}

/* --- the VM --- */

static int listen_on_loopback(struct test *t)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(sa);

    t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (t->listener < 0 || bind(t->listener, (struct sockaddr *)&sa, len) ||
        listen(t->listener, 4) || getsockname(t->listener, (struct sockaddr *)&sa, &len))
        return -errno;
    t->port = ntohs(sa.sin_port);
    return 0;
}

static int test_prepare(struct test *t)
{
    int fd;

    snprintf(t->dir, sizeof(t->dir), "/tmp/ruche-state-XXXXXX");
    if (!mkdtemp(t->dir) || listen_on_loopback(t))
        return -errno;
    snprintf(t->disk, sizeof(t->disk), "%s/disk.raw", t->dir);
    fd = open(t->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, DISK_BYTES))
        return -errno;
    close(fd);
    return 0;
}

static void test_clean(struct test *t)
{
    util_close(&t->conn);
    util_close(&t->listener);
    unlink(t->disk);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(t->console, sizeof(t->console), "%s/console%u", t->dir, i);
        unlink(t->console);
    }
    rmdir(t->dir);
}

/* A `pc` with nothing in its memory; n numbers the console file. */
static int vm_build(struct test *t, unsigned n, struct err *e)
{
    struct vm_config *c = &t->cfg;
    char path[2][256];
    int rc;

    snprintf(path[0], sizeof(path[0]), "%s/vmlinuz", t->folder);
    snprintf(path[1], sizeof(path[1]), "%s/initrd.img", t->folder);
    snprintf(t->console, sizeof(t->console), "%s/console%u", t->dir, n);
    snprintf(t->serial, sizeof(t->serial), "file:%s", t->console);
    snprintf(t->append, sizeof(t->append), "console=ttyS0 panic=-1 do=%s port=%u", t->words,
             t->port);
    config_init(c);
    c->cpus = t->cpus;
    if (t->model) {
        free(c->cpu);
        c->cpu = strdup(t->model);
    }
    c->memory = MEMORY;
    free(c->net);
    free(c->serial);
    c->kernel = strdup(path[0]);
    c->initrd = strdup(path[1]);
    c->append = strdup(t->append);
    c->net = strdup("user");
    c->serial = strdup(t->serial);
    c->disk[c->n_disks++] =
        (struct config_disk){ .path = strdup(t->disk), .format = strdup("raw") };
    memcpy(c->mac, "\x52\x54\x00\x11\x22\x33", 6);
    rc = vm_create(&t->vm, c, t->accel, e);
    if (!rc)
        rc = machine_pc_create(t->vm, e);
    return rc ? rc : vm_create_vcpus(t->vm, e);
}

static void vm_drop(struct test *t)
{
    vm_destroy(t->vm);
    t->vm = NULL;
    config_fini(&t->cfg);
}

/* The guest connects, says a line and waits for us to hang up. Never blocks: it is this thread that carries it. */
static void serve_connection(struct test *t)
{
    ssize_t n;

    if (t->conn < 0)
        t->conn = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (t->conn < 0)
        return;
    n = recv(t->conn, t->said, sizeof(t->said) - 1, 0);
    if (n <= 0)
        return;
    t->said[n] = '\0';
    util_close(&t->conn);
}

static void on_poll(struct loop_timer *timer)
{
    struct test *t = container_of(timer, struct test, poll);
    uint64_t now = util_monotonic_ns();

    if (now > t->deadline_ns) {
        t->timed_out = true;
        loop_stop(t->vm->loop);
        return;
    }
    if (t->pauses) {
        t->pauses--;
        vm_pause(t->vm);
        vm_resume(t->vm);
        loop_timer_set(timer, now + STORM_NS);
        return;
    }
    console_read(t);
    serve_connection(t);
    if (!t->clock_seen && strstr(t->text, "TEST rtc="))
        t->clock_seen = time(NULL);
    if (t->marker && strstr(t->text, t->marker))
        loop_stop(t->vm->loop);
    else
        loop_timer_set(timer, now + POLL_NS);
}

/* Runs until the console shows marker (NULL: to the end); false and a problem if it does not. */
static bool run_until(struct test *t, const char *marker)
{
    enum vm_end end;

    t->marker = marker;
    loop_timer_init(t->vm->loop, &t->poll, on_poll);
    loop_timer_set(&t->poll, 1);
    end = vm_run(t->vm);
    loop_timer_cancel(&t->poll);
    console_read(t);
    if (t->timed_out)
        problem(t, "still running after %d s", LIMIT_S);
    else if (marker && end != VM_RUNNING)
        problem(t, "ended before '%s': %s", marker, t->vm->end_reason);
    else if (!marker && end != VM_END_POWEROFF)
        problem(t, "ended with: %s", t->vm->end_reason);
    return !t->timed_out && end == (marker ? VM_RUNNING : VM_END_POWEROFF);
}

static bool boot(struct test *t)
{
    struct err e = { 0 };

    t->deadline_ns = util_monotonic_ns() + LIMIT_S * 1000000000ull;
    if (vm_build(t, 0, &e) || machine_pc_boot(t->vm, &e))
        problem(t, "%s", e.msg);
    return !e.code;
}

/* --- cases --- */

static bool transfer(struct test *t, struct state *s, const char *what)
{
    if (!vm_state(t->vm, s))
        vm_ram_state(t->vm, s);
    if (state_error(s))
        problem(t, "%s: %s", what, state_what(s));
    return !state_error(s);
}

/* Into a VM that never ran; saved again, it must give the same bytes. */
static bool load_fresh(struct test *t, const struct state *saved)
{
    struct state in, again;
    struct err e = { 0 };
    bool ok;

    if (vm_build(t, 1, &e)) {
        problem(t, "%s", e.msg);
        return false;
    }
    state_init_load(&in, saved->buf, saved->len);
    ok = transfer(t, &in, "load");
    state_fini(&in);
    state_init_save(&again);
    ok = ok && transfer(t, &again, "second save");
    if (ok && (again.len != saved->len || memcmp(again.buf, saved->buf, saved->len) != 0)) {
        size_t at = 0;

        while (at < min_u64(again.len, saved->len) && again.buf[at] == saved->buf[at])
            at++;
        problem(t, "saved again it differs at %zu, %zu and %zu bytes", at, saved->len, again.len);
    }
    state_fini(&again);
    return ok;
}

/* "1\n2\n3\n...": what do_state put there. */
static void check_disk(struct test *t)
{
    char *want = malloc(POOL_BYTES + 16), *got = malloc(POOL_BYTES);
    int fd = open(t->disk, O_RDONLY | O_CLOEXEC);
    size_t n = 0;

    for (unsigned i = 1; want && n < POOL_BYTES; i++)
        n += (size_t)snprintf(want + n, 16, "%u\n", i);
    if (!want || !got || fd < 0 || pread(fd, got, POOL_BYTES, MIB) != POOL_BYTES ||
        memcmp(got, want, POOL_BYTES) != 0)
        problem(t, "the disk does not hold what the guest wrote");
    free(want);
    free(got);
    if (fd >= 0)
        close(fd);
}

static void check_work(struct test *t, long long stood_s)
{
    expect(t, "count", "60");
    expect(t, "hashed", "ok");
    expect(t, "disk", "same");
    expect(t, "ping", "ok");
    expect(t, "complaints", "0");
    expect(t, "cpu0", "on");
    expect(t, "cpu1", t->cpus > 1 ? "on" : "");
    /* The guest's own clock stood while the VM did; the RTC has the right time for whoever asks. */
    expect_near(t, "date", t->clock_seen, stood_s + CLOCK_SLACK_S, 1);
    expect_near(t, "rtc", t->clock_seen, CLOCK_SLACK_S, 1);
    check_disk(t);
    if (strcmp(t->said, "still there\n") != 0)
        problem(t, "over TCP the guest said '%s'", t->said);
}

static bool counted_on(struct test *t, unsigned from)
{
    char line[32];

    snprintf(line, sizeof(line), "TEST count=%u\r", from);
    return strstr(t->text, line) != NULL;
}

static void case_save_load(struct test *t)
{
    struct state saved;
    time_t stopped;
    char last[16];

    t->words = "state,poweroff";
    if (!boot(t) || !run_until(t, "TEST count=20\r"))
        return;
    stopped = time(NULL);
    answer(t, "count", last, sizeof(last));
    state_init_save(&saved);
    if (transfer(t, &saved, "save")) {
        vm_drop(t);
        if (load_fresh(t, &saved)) {
            stopped = time(NULL) - stopped;
            if (run_until(t, NULL))
                check_work(t, stopped);
            if (!counted_on(t, (unsigned)strtoul(last, NULL, 10) + 1))
                problem(t, "the counter did not go on from %s", last);
        }
    }
    state_fini(&saved);
}

/* Replaces the VM by one of another CPU model and loads it; what is wrong, or "". */
static const char *load_as(struct test *t, const char *model, unsigned n, const struct state *saved,
                           struct state *in)
{
    struct err e = { 0 };

    if (t->vm)
        vm_drop(t);
    t->model = model;
    if (vm_build(t, n, &e)) {
        problem(t, "%s", e.msg);
        return "no VM";
    }
    state_init_load(in, saved->buf, saved->len);
    if (!vm_state(t->vm, in))
        vm_ram_state(t->vm, in);
    return state_what(in);
}

/* A Linux that began on a small CPU goes on on a larger one; the way back is refused, by the features' names. */
static void case_models(struct test *t)
{
    struct state small, large, in;
    const char *what;

    t->words = "state,poweroff";
    t->model = "x86-64-v2";
    if (!boot(t) || !run_until(t, "TEST count=20\r"))
        return;
    state_init_save(&small);
    state_init_save(&large);
    if (!transfer(t, &small, "save"))
        return;
    what = load_as(t, "host", 1, &small, &in);
    if (*what)
        problem(t, "load into the larger CPU: %s", what);
    else if (transfer(t, &large, "save of the larger CPU")) {
        what = load_as(t, "x86-64-v2", 0, &large, &in);
        if (!strstr(what, "features that this VM does not have: ") || !strstr(what, "--cpu (host)"))
            problem(t, "the smaller CPU refused with '%s'", what);
        what = load_as(t, "host", 1, &small, &in);
        if (*what || !run_until(t, NULL))
            problem(t, "it did not go on: %s", what);
        else
            check_work(t, 1);
    }
    state_fini(&small);
    state_fini(&large);
}

static void case_storm(struct test *t)
{
    t->words = "state,poweroff";
    if (!boot(t) || !run_until(t, "TEST count=3\r"))
        return;
    t->pauses = STORM_PAUSES;
    if (run_until(t, NULL))
        check_work(t, 1);
}

/* At points from the first lines of the kernel to user space. */
static void case_reset(struct test *t)
{
    static const char *const at[RESETS] = { "Command line", "ACPI: ", "PCI: Using", "Run /init",
                                            "TEST boot" };
    struct err e = { 0 };

    t->words = "state,poweroff";
    if (!boot(t))
        return;
    for (unsigned i = 0; i < RESETS; i++) {
        if (!run_until(t, at[i]))
            return;
        if (vm_reset(t->vm, &e) || machine_pc_boot(t->vm, &e)) {
            problem(t, "reset %u: %s", i + 1, e.msg);
            return;
        }
        if (truncate(t->console, 0))
            problem(t, "the console cannot be emptied");
    }
    if (run_until(t, NULL))
        check_work(t, 1);
}

/* --- */

static void print_lines(const char *before, const char *text)
{
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        fputs(before, stdout);
        fwrite(p, 1, strcspn(p, "\r\n"), stdout);
        putchar('\n');
    }
}

static void print_problems(const struct test *t)
{
    const char *tail = t->text + strlen(t->text);
    unsigned lines = 0;

    while (tail > t->text && lines < 15)
        lines += *--tail == '\n';
    print_lines("# ", t->problems);
    print_lines("#   | ", tail);
}

struct test_case {
    const char *name;
    void (*run)(struct test *t);
    unsigned cpus;
};

static bool run_case(unsigned number, const char *folder, const struct test_case *c,
                     const struct accel_ops *accel)
{
    struct test *t = calloc(1, sizeof(*t));
    uint64_t start = util_monotonic_ns();
    bool ok;

    if (!t)
        return false;
    t->folder = folder;
    t->accel = accel;
    t->cpus = c->cpus;
    t->listener = t->conn = -1;
    if (test_prepare(t))
        problem(t, "cannot make the test's files: %s", strerror(errno));
    else
        c->run(t);
    if (t->vm)
        vm_drop(t);
    test_clean(t);
    ok = !*t->problems;
    printf("%sok %u - linux %s (%s, %u vCPU) # %.1f s\n", ok ? "" : "not ", number, c->name,
           accel->name, c->cpus, (double)(util_monotonic_ns() - start) / 1e9);
    if (!ok)
        print_problems(t);
    fflush(stdout);
    free(t);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        { "saved and loaded", case_save_load, 1 },
        { "saved and loaded", case_save_load, 2 },
        { "from a small CPU to a large one", case_models, 1 },
        { "paused 100 times", case_storm, 2 },
        { "reset 5 times", case_reset, 2 },
    };
    unsigned number = 0, failed = 0;
    const char *only = getenv("STATE_CASE"); /* part of a name */

    for (int i = 2; i < argc; i++) {
        const struct accel_ops *accel = strcmp(argv[i], "kvm") != 0 ? &accel_bt : &accel_kvm;

        for (unsigned k = 0; k < ARRAY_SIZE(cases); k++)
            if (!only || strstr(cases[k].name, only))
                failed += !run_case(++number, argv[1], &cases[k], accel);
    }
    printf("1..%u\n", number);
    return failed != 0;
}
