/*
 * kvm_msr.c: MSRs between struct x86_state and KVM, by one table for both directions. What the host or its
 * KVM does not have reads as 0 and may only be set to 0. TSC and APIC base are not among them: they go with
 * the clock and with the special registers. The TSC deadline comes last, because it is refused unless the
 * APIC's timer is in that mode: kvm_state.c.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "x86/msr.h"

struct kvm_msr {
    uint32_t index;
    uint16_t off; /* in struct x86_state */
};
#define MSR(index, field)                                                                          \
    {                                                                                              \
        index, offsetof(struct x86_state, field)                                                   \
    }

/* EFER, FS and GS bases go with the special registers. */
static const struct kvm_msr kvm_msrs[] = {
    MSR(MSR_STAR, star),
    MSR(MSR_LSTAR, lstar),
    MSR(MSR_CSTAR, cstar),
    MSR(MSR_SFMASK, sfmask),
    MSR(MSR_KERNEL_GS_BASE, kernel_gs_base),
    MSR(MSR_SYSENTER_CS, sysenter_cs),
    MSR(MSR_SYSENTER_ESP, sysenter_esp),
    MSR(MSR_SYSENTER_EIP, sysenter_eip),
    MSR(MSR_PAT, pat),
    MSR(MSR_TSC_AUX, tsc_aux),
    MSR(MSR_TSC_ADJUST, tsc_adjust),
    MSR(MSR_MISC_ENABLE, misc_enable),
    MSR(MSR_XSS, xss),
    MSR(MSR_SPEC_CTRL, spec_ctrl),
    MSR(MSR_MTRR_DEF_TYPE, mtrr_def_type),
    MSR(MSR_MTRR_FIX64K, mtrr_fix[0]),
    MSR(MSR_MTRR_FIX16K, mtrr_fix[1]),
    MSR(MSR_MTRR_FIX16K + 1, mtrr_fix[2]),
    MSR(MSR_MTRR_FIX4K, mtrr_fix[3]),
    MSR(MSR_MTRR_FIX4K + 1, mtrr_fix[4]),
    MSR(MSR_MTRR_FIX4K + 2, mtrr_fix[5]),
    MSR(MSR_MTRR_FIX4K + 3, mtrr_fix[6]),
    MSR(MSR_MTRR_FIX4K + 4, mtrr_fix[7]),
    MSR(MSR_MTRR_FIX4K + 5, mtrr_fix[8]),
    MSR(MSR_MTRR_FIX4K + 6, mtrr_fix[9]),
    MSR(MSR_MTRR_FIX4K + 7, mtrr_fix[10]),
    MSR(MSR_MTRR_VAR + 0, mtrr_var[0][0]),
    MSR(MSR_MTRR_VAR + 1, mtrr_var[0][1]),
    MSR(MSR_MTRR_VAR + 2, mtrr_var[1][0]),
    MSR(MSR_MTRR_VAR + 3, mtrr_var[1][1]),
    MSR(MSR_MTRR_VAR + 4, mtrr_var[2][0]),
    MSR(MSR_MTRR_VAR + 5, mtrr_var[2][1]),
    MSR(MSR_MTRR_VAR + 6, mtrr_var[3][0]),
    MSR(MSR_MTRR_VAR + 7, mtrr_var[3][1]),
    MSR(MSR_MTRR_VAR + 8, mtrr_var[4][0]),
    MSR(MSR_MTRR_VAR + 9, mtrr_var[4][1]),
    MSR(MSR_MTRR_VAR + 10, mtrr_var[5][0]),
    MSR(MSR_MTRR_VAR + 11, mtrr_var[5][1]),
    MSR(MSR_MTRR_VAR + 12, mtrr_var[6][0]),
    MSR(MSR_MTRR_VAR + 13, mtrr_var[6][1]),
    MSR(MSR_MTRR_VAR + 14, mtrr_var[7][0]),
    MSR(MSR_MTRR_VAR + 15, mtrr_var[7][1]),
    MSR(MSR_KVM_WALL_CLOCK, kvm_wall_clock),
    MSR(MSR_KVM_SYSTEM_TIME, kvm_system_time),
    MSR(MSR_KVM_ASYNC_PF_EN, kvm_async_pf),
    MSR(MSR_KVM_STEAL_TIME, kvm_steal_time),
    MSR(MSR_KVM_PV_EOI, kvm_pv_eoi),
    MSR(MSR_KVM_POLL_CONTROL, kvm_poll_control),
};
_Static_assert(ARRAY_SIZE(kvm_msrs) <= KVM_MAX_MSRS, "room for every MSR");

/* struct kvm_msrs with room for entries; its flexible array must not stand inside another struct. */
struct kvm_msr_buf {
    struct {
        uint32_t nmsrs, pad;
    } head;
    struct kvm_msr_entry entry[KVM_MAX_MSRS];
};
_Static_assert(offsetof(struct kvm_msr_buf, entry) == offsetof(struct kvm_msrs, entries),
               "same layout");

static uint64_t kvm_msr_field(const struct x86_state *s, size_t i)
{
    uint64_t v;

    memcpy(&v, (const char *)s + kvm_msrs[i].off, sizeof(v));
    return v;
}

static void kvm_msr_put_field(struct x86_state *s, size_t i, uint64_t v)
{
    memcpy((char *)s + kvm_msrs[i].off, &v, sizeof(v));
}

int kvm_msr_write(struct kvm_vcpu *k, uint32_t index, uint64_t val)
{
    struct kvm_msr_buf b = { .head.nmsrs = 1, .entry[0] = { .index = index, .data = val } };
    int ret = kvm_ioctl(k->fd, KVM_SET_MSRS, &b);

    if (ret < 0)
        return ret;
    return ret == 1 ? 0 : -EINVAL;
}

int kvm_msr_read(struct kvm_vcpu *k, uint32_t index, uint64_t *val)
{
    struct kvm_msr_buf b = { .head.nmsrs = 1, .entry[0].index = index };
    int ret = kvm_ioctl(k->fd, KVM_GET_MSRS, &b);

    if (ret < 0)
        return ret;
    *val = b.entry[0].data;
    return ret == 1 ? 0 : -EINVAL;
}

/* KVM stops at the first MSR it refuses: the rest is asked for again, without it. */
int kvm_msr_get(struct vcpu *c, struct x86_state *s)
{
    size_t at = 0;

    while (at < ARRAY_SIZE(kvm_msrs)) {
        struct kvm_msr_buf b = { .head.nmsrs = (uint32_t)(ARRAY_SIZE(kvm_msrs) - at) };
        int ret;

        for (size_t i = at; i < ARRAY_SIZE(kvm_msrs); i++)
            b.entry[i - at].index = kvm_msrs[i].index;
        ret = kvm_ioctl(kvm_vcpu_of(c)->fd, KVM_GET_MSRS, &b);
        if (ret < 0)
            return ret;
        for (int i = 0; i < ret; i++)
            kvm_msr_put_field(s, at + (size_t)i, b.entry[i].data);
        at += (size_t)ret;
        if (at < ARRAY_SIZE(kvm_msrs))
            kvm_msr_put_field(s, at++, 0);
    }
    return 0;
}

int kvm_msr_set(struct vcpu *c, const struct x86_state *s)
{
    size_t at = 0;

    while (at < ARRAY_SIZE(kvm_msrs)) {
        struct kvm_msr_buf b = { .head.nmsrs = (uint32_t)(ARRAY_SIZE(kvm_msrs) - at) };
        int ret;

        for (size_t i = at; i < ARRAY_SIZE(kvm_msrs); i++)
            b.entry[i - at] = (struct kvm_msr_entry){ kvm_msrs[i].index, 0, kvm_msr_field(s, i) };
        ret = kvm_ioctl(kvm_vcpu_of(c)->fd, KVM_SET_MSRS, &b);
        if (ret < 0)
            return ret;
        at += (size_t)ret;
        if (at == ARRAY_SIZE(kvm_msrs))
            break;
        if (kvm_msr_field(s, at) && kvm_msrs[at].index != MSR_KVM_POLL_CONTROL) {
            log_warn("kvm", "this host's KVM refuses MSR %#x = %#llx", kvm_msrs[at].index,
                     (unsigned long long)kvm_msr_field(s, at));
            return -EINVAL;
        }
        at++;
    }
    return 0;
}

bool kvm_msr_equal(const struct x86_state *a, const struct x86_state *b)
{
    for (size_t i = 0; i < ARRAY_SIZE(kvm_msrs); i++)
        if (kvm_msr_field(a, i) != kvm_msr_field(b, i))
            return false;
    return true;
}
