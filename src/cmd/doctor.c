/*
 * doctor.c: `ruche doctor`: what this host offers, found by trying, what Ruche makes of it, and the cure
 * for what is missing. One list of checks; text and JSON print the same findings.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>
#include <liburing.h>

#include "accel/accel.h"
#include "cmd/cmd.h"

struct doctor_finding {
    char kind[16];   /* one word: "real", "yes", "no" */
    char found[256]; /* what was found */
    char cure[256];  /* what to do about it; "" if nothing needs to be done */
};

static void doctor_set(struct doctor_finding *f, const char *kind, const char *fmt, ...)
    printf_like(3, 4);

static void doctor_set(struct doctor_finding *f, const char *kind, const char *fmt, ...)
{
    va_list ap;

    snprintf(f->kind, sizeof(f->kind), "%s", kind);
    va_start(ap, fmt);
    vsnprintf(f->found, sizeof(f->found), fmt, ap);
    va_end(ap);
}

static void doctor_cure(struct doctor_finding *f, const char *text)
{
    snprintf(f->cure, sizeof(f->cure), "%s", text);
}

/* First line of a file, without its end; false if it cannot be read. */
static bool doctor_read_line(const char *path, char *line, size_t len)
{
    FILE *f = fopen(path, "re");
    bool ok;

    if (!f)
        return false;
    ok = fgets(line, (int)len, f) != NULL;
    fclose(f);
    line[ok ? strcspn(line, "\n") : 0] = '\0';
    return ok;
}

/* --- the checks --- */

static void doctor_kvm(struct doctor_finding *f)
{
    static const char *const kinds[] = {
        [ACCEL_KVM_ABSENT] = "absent",
        [ACCEL_KVM_EMULATED] = "emulated",
        [ACCEL_KVM_REAL] = "real",
    };
    struct accel_probe p = { 0 };

    accel_probe(&p);
    doctor_set(f, kinds[p.kvm], "%s", p.reason);
    if (p.kvm == ACCEL_KVM_REAL)
        return;
    if (p.kvm == ACCEL_KVM_EMULATED)
        doctor_cure(f, "run on bare metal, or switch nested virtualization on for this machine");
    else if (access("/dev/kvm", F_OK))
        doctor_cure(f, "switch VT-x or AMD-V on in the firmware and load kvm_intel or kvm_amd");
    else if (access("/dev/kvm", R_OK | W_OK))
        doctor_cure(f, accel_kvm_permission());
}

static void doctor_io_uring(struct doctor_finding *f)
{
    struct io_uring ring;
    int r = io_uring_queue_init(8, &ring, 0);

    if (!r) {
        io_uring_queue_exit(&ring);
        doctor_set(f, "yes", "a ring could be set up; disks use it");
        return;
    }
    doctor_set(f, "no", "io_uring_setup: %s; disks use threads instead", strerror(-r));
    if (r == -EPERM)
        doctor_cure(f, "sysctl kernel.io_uring_disabled=0, or a container profile that allows it");
}

/* Does fn() succeed in a process of its own? 0, or the errno of its failure. */
static int doctor_in_child(int (*fn)(void))
{
    pid_t child = fork();
    int status;

    if (child < 0)
        return errno;
    if (!child)
        _exit(fn() & 0xff);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int doctor_try_userns(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) ? errno : 0;
}

static void doctor_userns(struct doctor_finding *f)
{
    int code = doctor_in_child(doctor_try_userns);

    if (!code) {
        doctor_set(f, "yes", "user, network and mount namespaces can be made");
        return;
    }
    doctor_set(f, "no", "unshare: %s", strerror(code));
    doctor_cure(f, "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; "
                   "on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0");
}

static int doctor_try_tun(void)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
        return errno;
    return 0;
}

static void doctor_tun(struct doctor_finding *f)
{
    int code = doctor_in_child(doctor_try_tun);

    if (!code) {
        doctor_set(f, "yes", "a TAP interface could be made");
        return;
    }
    doctor_set(f, "no", "/dev/net/tun: %s; --net user does not need it", strerror(code));
    if (code == ENOENT || code == ENODEV || code == ENXIO)
        doctor_cure(f, "modprobe tun; in a container, pass /dev/net/tun in");
    else
        doctor_cure(f, "run as root, or with CAP_NET_ADMIN and access to /dev/net/tun");
}

/* Guest memory is anonymous (mem/ram.h), and asks for them. */
static void doctor_hugepages(struct doctor_finding *f)
{
    char thp[64] = "";

    if (!doctor_read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp))) {
        doctor_set(f, "no", "this kernel has no transparent huge pages");
        return;
    }
    doctor_set(f, strstr(thp, "[never]") ? "no" : "yes", "transparent: %s", thp);
    if (!strcmp(f->kind, "no"))
        doctor_cure(f, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled "
                       "(faster guest memory)");
}

static void doctor_landlock(struct doctor_finding *f)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    if (abi > 0) {
        doctor_set(f, "yes", "Landlock ABI %ld confines the VM's process to its files", abi);
        return;
    }
    doctor_set(f, "no", "landlock_create_ruleset: %s", strerror(errno));
    doctor_cure(f, "a kernel from 5.13 on with landlock in its lsm= list");
}

static void doctor_seccomp(struct doctor_finding *f)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;

    if (!syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action)) {
        doctor_set(f, "yes", "system calls of the VM's process can be filtered");
        return;
    }
    doctor_set(f, "no", "seccomp: %s", strerror(errno));
    doctor_cure(f, "a kernel with CONFIG_SECCOMP_FILTER");
}

static void doctor_choice(struct doctor_finding *f)
{
    const struct accel_ops *accel = NULL;
    struct err e = { 0 };
    char reason[256] = "";

    if (accel_choose("auto", &accel, reason, sizeof(reason), &e))
        doctor_set(f, "none", "%s", e.msg);
    else
        doctor_set(f, accel->name, "%s", reason);
}

/* --- the list and its printing --- */

static const struct {
    const char *name, *title;
    void (*examine)(struct doctor_finding *f);
} doctor_checks[] = {
    { "kvm", "KVM", doctor_kvm },
    { "io_uring", "io_uring", doctor_io_uring },
    { "user_namespaces", "user namespaces", doctor_userns },
    { "tun", "TUN/TAP", doctor_tun },
    { "huge_pages", "huge pages", doctor_hugepages },
    { "landlock", "Landlock", doctor_landlock },
    { "seccomp", "seccomp", doctor_seccomp },
    { "accelerator", "Ruche chose", doctor_choice },
};

static void doctor_print_text(const struct doctor_finding *f)
{
    for (size_t i = 0; i < ARRAY_SIZE(doctor_checks); i++) {
        printf("%-16s %-9s %s\n", doctor_checks[i].title, f[i].kind, f[i].found);
        if (*f[i].cure)
            printf("%-16s %-9s cure: %s\n", "", "", f[i].cure);
    }
}

static void doctor_print_json(const struct doctor_finding *f)
{
    json_t *o = json_object();
    char *text;

    for (size_t i = 0; i < ARRAY_SIZE(doctor_checks); i++) {
        json_t *one = json_pack("{s:s, s:s}", "kind", f[i].kind, "found", f[i].found);

        if (*f[i].cure)
            json_object_set_new(one, "cure", json_string(f[i].cure));
        json_object_set_new(o, doctor_checks[i].name, one);
    }
    text = json_dumps(o, JSON_INDENT(2));
    if (text)
        puts(text);
    free(text);
    json_decref(o);
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor_finding f[ARRAY_SIZE(doctor_checks)] = { 0 };
    bool json = argc == 2 && !strcmp(argv[1], "--json");

    if (argc > 2 || (argc == 2 && !json)) {
        fprintf(stderr, "ruche: doctor takes only --json\n");
        return CMD_USAGE;
    }
    for (size_t i = 0; i < ARRAY_SIZE(doctor_checks); i++)
        doctor_checks[i].examine(&f[i]);
    if (json)
        doctor_print_json(f);
    else
        doctor_print_text(f);
    return strcmp(f[ARRAY_SIZE(f) - 1].kind, "none") ? CMD_OK : CMD_HOST;
}
