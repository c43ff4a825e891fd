/* state_rig.c: see state_rig.h. */
#include "state_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    POLL_NS = 20000000, /* how often the console is looked at */
    STORM_NS = 3000000, /* from one pause to the next */
    LIMIT_S = 300,      /* of one case; the machine may be busy */
    MEMORY = 256 << 20,
};

void printf_like(2, 3) rig_problem(struct rig *t, const char *fmt, ...)
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

static void console_read(struct rig *t)
{
    int fd = open(t->console, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, t->text, sizeof(t->text) - 1);

    t->text[n < 0 ? 0 : n] = '\0';
    if (fd >= 0)
        close(fd);
}

const char *rig_answer(struct rig *t, const char *name, char *buf, size_t len)
{
    char key[64];
    const char *at = t->text, *found = NULL;

    snprintf(key, sizeof(key), "TEST %s=", name);
    while ((at = strstr(at, key)) != NULL)
        found = at += strlen(key);
    snprintf(buf, len, "%.*s", found ? (int)strcspn(found, "\r\n") : 0, found ? found : "");
    return buf;
}

void rig_expect(struct rig *t, const char *name, const char *want)
{
    char got[64];

    if (strcmp(rig_answer(t, name, got, sizeof(got)), want) != 0)
        rig_problem(t, "%s is '%s', not '%s'", name, got, want);
}

void rig_expect_near(struct rig *t, const char *name, long long want, long long before,
                     long long after)
{
    char buf[64];
    long long got = strtoll(rig_answer(t, name, buf, sizeof(buf)), NULL, 10);

    if (got < want - before || got > want + after)
        rig_problem(t, "%s is '%s', not %lld", name, buf, want);
}

/* --- the VM --- */

static int listen_on_loopback(struct rig *t)
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

int rig_prepare(struct rig *t)
{
    int fd;

    snprintf(t->dir, sizeof(t->dir), "/tmp/ruche-state-XXXXXX");
    if (!mkdtemp(t->dir) || listen_on_loopback(t))
        return -errno;
    snprintf(t->disk, sizeof(t->disk), "%s/disk.raw", t->dir);
    fd = open(t->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, RIG_DISK_BYTES))
        return -errno;
    close(fd);
    return 0;
}

void rig_clean(struct rig *t)
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

int rig_build(struct rig *t, unsigned n, struct err *e)
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
    if (t->equip)
        t->equip(t, c);
    memcpy(c->mac, "\x52\x54\x00\x11\x22\x33", 6);
    rc = vm_create(&t->vm, c, t->accel, e);
    if (!rc)
        rc = machine_pc_create(t->vm, e);
    return rc ? rc : vm_create_vcpus(t->vm, e);
}

void rig_drop(struct rig *t)
{
    vm_destroy(t->vm);
    t->vm = NULL;
    config_fini(&t->cfg);
}

/* The guest connects, says a line and waits for us to hang up. Never blocks: it is this thread that carries it. */
static void serve_connection(struct rig *t)
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
    struct rig *t = container_of(timer, struct rig, poll);
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

bool rig_run_until(struct rig *t, const char *marker)
{
    enum vm_end end;

    t->marker = marker;
    loop_timer_init(t->vm->loop, &t->poll, on_poll);
    loop_timer_set(&t->poll, 1);
    end = vm_run(t->vm);
    loop_timer_cancel(&t->poll);
    console_read(t);
    if (t->timed_out)
        rig_problem(t, "still running after %d s", LIMIT_S);
    else if (marker && end != VM_RUNNING)
        rig_problem(t, "ended before '%s': %s", marker, t->vm->end_reason);
    else if (!marker && end != VM_END_POWEROFF)
        rig_problem(t, "ended with: %s", t->vm->end_reason);
    return !t->timed_out && end == (marker ? VM_RUNNING : VM_END_POWEROFF);
}

bool rig_boot(struct rig *t)
{
    struct err e = { 0 };

    t->deadline_ns = util_monotonic_ns() + LIMIT_S * 1000000000ull;
    if (rig_build(t, 0, &e) || machine_pc_boot(t->vm, &e))
        rig_problem(t, "%s", e.msg);
    return !e.code;
}

bool rig_transfer(struct rig *t, struct state *s, const char *what)
{
    if (!vm_state(t->vm, s))
        vm_ram_state(t->vm, s);
    if (state_error(s))
        rig_problem(t, "%s: %s", what, state_what(s));
    return !state_error(s);
}

bool rig_load_fresh(struct rig *t, unsigned n, const struct state *saved)
{
    struct state in, again;
    struct err e = { 0 };
    bool ok;

    if (rig_build(t, n, &e)) {
        rig_problem(t, "%s", e.msg);
        return false;
    }
    state_init_load(&in, saved->buf, saved->len);
    ok = rig_transfer(t, &in, "load");
    state_fini(&in);
    state_init_save(&again);
    ok = ok && rig_transfer(t, &again, "second save");
    if (ok && (again.len != saved->len || memcmp(again.buf, saved->buf, saved->len) != 0)) {
        size_t at = 0;

        while (at < min_u64(again.len, saved->len) && again.buf[at] == saved->buf[at])
            at++;
        rig_problem(t, "saved again it differs at %zu, %zu and %zu bytes", at, saved->len,
                    again.len);
    }
    state_fini(&again);
    return ok;
}

static void print_lines(const char *before, const char *text)
{
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        fputs(before, stdout);
        fwrite(p, 1, strcspn(p, "\r\n"), stdout);
        putchar('\n');
    }
}

void rig_print_problems(const struct rig *t)
{
    const char *tail = t->text + strlen(t->text);
    unsigned lines = 0;

    while (tail > t->text && lines < 15)
        lines += *--tail == '\n';
    print_lines("# ", t->problems);
    print_lines("#   | ", tail);
}
