/*
 * linux_state.c: a busybox Linux at work is paused, saved, loaded into a fresh VM and goes on; others are
 * paused a hundred times or reset while they run. One TAP line a case.
 *
 * usage: linux_state FOLDER FOLDER ACCEL...     a FOLDER holds vmlinuz and initrd.img (tests/guest/linux/build, the
 *                                               second one with amd64: the drivers of any PC)
 */
#include "state_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    STORM_PAUSES = 100,
    CLOCK_SLACK_S = 3,
    POOL_BYTES = 2 << 20, /* what the guest leaves on the disk's second and third MiB */
    RESETS = 5,
};

/* "1\n2\n3\n...": what do_state put there. */
static void check_disk(struct rig *t)
{
    char *want = malloc(POOL_BYTES + 16), *got = malloc(POOL_BYTES);
    int fd = open(t->disk, O_RDONLY | O_CLOEXEC);
    size_t n = 0;

    for (unsigned i = 1; want && n < POOL_BYTES; i++)
        n += (size_t)snprintf(want + n, 16, "%u\n", i);
    if (!want || !got || fd < 0 || pread(fd, got, POOL_BYTES, MIB) != POOL_BYTES ||
        memcmp(got, want, POOL_BYTES) != 0)
        rig_problem(t, "the disk does not hold what the guest wrote");
    free(want);
    free(got);
    if (fd >= 0)
        close(fd);
}

static void check_work(struct rig *t, long long stood_s)
{
    rig_expect(t, "count", "60");
    rig_expect(t, "hashed", "ok");
    rig_expect(t, "disk", "same");
    rig_expect(t, "ping", "ok");
    rig_expect(t, "complaints", "0");
    rig_expect(t, "cpu0", "on");
    rig_expect(t, "cpu1", t->cpus > 1 ? "on" : "");
    /* The guest's own clock stood while the VM did; the RTC has the right time for whoever asks. */
    rig_expect_near(t, "date", t->clock_seen, stood_s + CLOCK_SLACK_S, 1);
    rig_expect_near(t, "rtc", t->clock_seen, CLOCK_SLACK_S, 1);
    check_disk(t);
    if (strcmp(t->said, "still there\n") != 0)
        rig_problem(t, "over TCP the guest said '%s'", t->said);
}

static bool counted_on(struct rig *t, unsigned from)
{
    char line[32];

    snprintf(line, sizeof(line), "TEST count=%u\r", from);
    return strstr(t->text, line) != NULL;
}

static void case_save_load(struct rig *t)
{
    struct state saved;
    time_t stopped;
    char last[16];

    t->words = "state,poweroff";
    if (!rig_boot(t) || !rig_run_until(t, "TEST count=20\r"))
        return;
    stopped = time(NULL);
    rig_answer(t, "count", last, sizeof(last));
    state_init_save(&saved);
    if (rig_transfer(t, &saved, "save")) {
        rig_drop(t);
        if (rig_load_fresh(t, 1, &saved)) {
            stopped = time(NULL) - stopped;
            if (rig_run_until(t, NULL))
                check_work(t, stopped);
            if (!counted_on(t, (unsigned)strtoul(last, NULL, 10) + 1))
                rig_problem(t, "the counter did not go on from %s", last);
        }
    }
    state_fini(&saved);
}

/* Replaces the VM by one of another CPU model and loads it; what is wrong, or "". */
static const char *load_as(struct rig *t, const char *model, unsigned n, const struct state *saved,
                           struct state *in)
{
    struct err e = { 0 };

    if (t->vm)
        rig_drop(t);
    t->model = model;
    if (rig_build(t, n, &e)) {
        rig_problem(t, "%s", e.msg);
        return "no VM";
    }
    state_init_load(in, saved->buf, saved->len);
    if (!vm_state(t->vm, in))
        vm_ram_state(t->vm, in);
    return state_what(in);
}

/* A Linux that began on a small CPU goes on on a larger one; the way back is refused, by the features' names. */
static void case_models(struct rig *t)
{
    struct state small, large, in;
    const char *what;

    t->words = "state,poweroff";
    t->model = "x86-64-v2";
    if (!rig_boot(t) || !rig_run_until(t, "TEST count=20\r"))
        return;
    state_init_save(&small);
    state_init_save(&large);
    if (!rig_transfer(t, &small, "save"))
        return;
    what = load_as(t, "host", 1, &small, &in);
    if (*what)
        rig_problem(t, "load into the larger CPU: %s", what);
    else if (rig_transfer(t, &large, "save of the larger CPU")) {
        what = load_as(t, "x86-64-v2", 0, &large, &in);
        if (!strstr(what, "features that this VM does not have: ") || !strstr(what, "--cpu (host)"))
            rig_problem(t, "the smaller CPU refused with '%s'", what);
        what = load_as(t, "host", 1, &small, &in);
        if (*what || !rig_run_until(t, NULL))
            rig_problem(t, "it did not go on: %s", what);
        else
            check_work(t, 1);
    }
    state_fini(&small);
    state_fini(&large);
}

static void case_storm(struct rig *t)
{
    t->words = "state,poweroff";
    if (!rig_boot(t) || !rig_run_until(t, "TEST count=3\r"))
        return;
    t->pauses = STORM_PAUSES;
    if (rig_run_until(t, NULL))
        check_work(t, 1);
}

/* At points from the first lines of the kernel to user space. */
static void case_reset(struct rig *t)
{
    static const char *const at[RESETS] = { "Command line", "ACPI: ", "PCI: Using", "Run /init",
                                            "TEST boot" };
    struct err e = { 0 };

    t->words = "state,poweroff";
    if (!rig_boot(t))
        return;
    for (unsigned i = 0; i < RESETS; i++) {
        if (!rig_run_until(t, at[i]))
            return;
        if (vm_reset(t->vm, &e) || machine_pc_boot(t->vm, &e)) {
            rig_problem(t, "reset %u: %s", i + 1, e.msg);
            return;
        }
        if (truncate(t->console, 0))
            rig_problem(t, "the console cannot be emptied");
    }
    if (rig_run_until(t, NULL))
        check_work(t, 1);
}

struct test_case {
    const char *name;
    void (*run)(struct rig *t);
    unsigned cpus;
    bool any_pc; /* the kernel with drivers of any PC */
};

static bool run_case(unsigned number, const char *folder, const struct test_case *c,
                     const struct accel_ops *accel)
{
    struct rig *t = calloc(1, sizeof(*t));
    uint64_t start = util_monotonic_ns();
    bool ok;

    if (!t)
        return false;
    t->folder = folder;
    t->accel = accel;
    t->cpus = c->cpus;
    t->listener = t->conn = -1;
    if (rig_prepare(t))
        rig_problem(t, "cannot make the test's files: %s", strerror(errno));
    else
        c->run(t);
    if (t->vm)
        rig_drop(t);
    rig_clean(t);
    ok = !*t->problems;
    printf("%sok %u - linux %s (%s, %u vCPU) # %.1f s\n", ok ? "" : "not ", number, c->name,
           accel->name, c->cpus, (double)(util_monotonic_ns() - start) / 1e9);
    if (!ok)
        rig_print_problems(t);
    fflush(stdout);
    free(t);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        { "saved and loaded", case_save_load, 1, false },
        { "saved and loaded", case_save_load, 2, false },
        { "from a small CPU to a large one", case_models, 1, false },
        { "paused 100 times", case_storm, 2, false },
        { "reset 5 times", case_reset, 2, false },
        { "moved twice with IDE, AHCI, NVMe, SCSI, xHCI, floppy, e1000 at work", case_old_and_new,
          1, true },
        { "moved twice with AHCI, UHCI, RTL8139 at work", case_usb1_and_rtl, 2, true },
    };
    unsigned number = 0, failed = 0;
    const char *only = getenv("STATE_CASE"); /* part of a name */

    for (int i = 3; i < argc; i++) {
        const struct accel_ops *accel = strcmp(argv[i], "kvm") != 0 ? &accel_bt : &accel_kvm;

        for (unsigned k = 0; k < ARRAY_SIZE(cases); k++)
            if (!only || strstr(cases[k].name, only))
                failed += !run_case(++number, argv[1 + cases[k].any_pc], &cases[k], accel);
    }
    printf("1..%u\n", number);
    return failed != 0;
}
