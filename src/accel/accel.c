#include "accel/accel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "accel/kvm/kvm_probe.h"

void accel_probe(struct accel_probe *p)
{
    kvm_probe(p);
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

static int accel_choose_kvm(const struct accel_ops **accel, char *reason, size_t reason_len,
                            struct err *e)
{
    if (access("/dev/kvm", F_OK))
        return err_set(
            e, ENOENT,
            "--accel kvm: this host has no KVM (/dev/kvm is missing): enable VT-x or AMD-V in "
            "the firmware and load kvm_intel or kvm_amd, or use --accel auto");
    if (access("/dev/kvm", R_OK | W_OK))
        return err_set(
            e, EACCES,
            "--accel kvm: no permission for /dev/kvm: add yourself to the group kvm (sudo "
            "usermod -aG kvm $USER) and log in again, or use --accel auto");
    *accel = &accel_kvm;
    if (reason)
        snprintf(reason, reason_len, "kvm: asked for");
    return 0;
}

int accel_choose(const char *name, const struct accel_ops **accel, char *reason, size_t reason_len,
                 struct err *e)
{
    if (!strcmp(name, "auto"))
        return accel_choose_auto(accel, reason, reason_len);
    if (!strcmp(name, "kvm"))
        return accel_choose_kvm(accel, reason, reason_len, e);
    if (strcmp(name, "bt"))
        return err_set(e, EINVAL, "there is no accelerator '%s': use auto, kvm or bt", name);
    *accel = &accel_bt;
    if (reason)
        snprintf(reason, reason_len, "bt: asked for");
    return 0;
}
