#include "accel/accel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "accel/kvm/kvm_probe.h"
#include "base/log.h"

void accel_probe(struct accel_probe *p)
{
    kvm_probe(p);
}

/* udev gives it to the group kvm; where no udev runs, as in a container, it is root's alone. */
const char *accel_kvm_permission(void)
{
    struct stat st;

    if (!stat("/dev/kvm", &st) && (st.st_gid == 0 || (st.st_mode & 060) != 060))
        return "it is root's alone here: sudo chmod 666 /dev/kvm";
    return "add yourself to the group kvm (sudo usermod -aG kvm $USER) and log in again";
}

static int accel_choose_auto(const struct accel_ops **accel, char *reason, size_t reason_len)
{
    struct accel_probe p;

    accel_probe(&p);
    *accel = p.kvm == ACCEL_KVM_REAL ? &accel_kvm : &accel_bt;
    if (reason)
        snprintf(reason, reason_len, "%s: %s", (*accel)->name, p.reason);
    return 0;
}

static int accel_need_kvm(const char *name, struct err *e)
{
    if (access("/dev/kvm", F_OK))
        return err_set(
            e, ENOENT,
            "--accel %s: this host has no KVM (/dev/kvm is missing): enable VT-x or AMD-V in "
            "the firmware and load kvm_intel or kvm_amd, or use --accel auto",
            name);
    if (access("/dev/kvm", R_OK | W_OK))
        return err_set(e, EACCES, "--accel %s: no permission for /dev/kvm: %s, or use --accel auto",
                       name, accel_kvm_permission());
    return 0;
}

/* An emulated KVM has nothing that a guest could use and bt does not have, many times faster. */
static void accel_choose_kvm(const struct accel_ops **accel, char *reason, size_t reason_len)
{
    struct accel_probe p;

    accel_probe(&p);
    *accel = p.kvm == ACCEL_KVM_EMULATED ? &accel_bt : &accel_kvm;
    if (*accel == &accel_bt)
        log_warn("accel", "%s; so bt runs the guest (--accel kvm-only leaves it to KVM)", p.reason);
    if (reason)
        snprintf(reason, reason_len, "kvm was asked for, and %s", p.reason);
}

int accel_choose(const char *name, const struct accel_ops **accel, char *reason, size_t reason_len,
                 struct err *e)
{
    int rc = 0;

    if (!strcmp(name, "auto"))
        return accel_choose_auto(accel, reason, reason_len);
    if (!strncmp(name, "kvm", 3))
        rc = accel_need_kvm(name, e);
    if (rc)
        return rc;
    if (!strcmp(name, "kvm")) {
        accel_choose_kvm(accel, reason, reason_len);
        return 0;
    }
    if (!strcmp(name, "kvm-only"))
        *accel = &accel_kvm;
    else if (!strcmp(name, "bt"))
        *accel = &accel_bt;
    else
        return err_set(e, EINVAL, "there is no accelerator '%s': use auto, kvm, kvm-only or bt",
                       name);
    if (reason)
        snprintf(reason, reason_len, "%s was asked for", name);
    return 0;
}
