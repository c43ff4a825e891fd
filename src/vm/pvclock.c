/*
 * pvclock.c: see pvclock.h. The TSC is invariant and the same on all vCPUs, so one reference point
 * {TSC, ns} serves them all and the pages change only when the guest clock was stopped.
 */
#include "vm/pvclock.h"

#include "vm/vm.h"
#include "x86/msr.h"

enum { PVCLOCK_TSC_STABLE = 1, PVCLOCK_ENABLED = 1 };

struct pvclock_page { /* pvclock_vcpu_time_info */
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad[2];
};
struct pvclock_wall { /* pvclock_wall_clock */
    uint32_t version, sec, nsec;
};

/* ns = ((tsc << shift) * mul) >> 32, with mul in [2^31, 2^32). */
static void pvclock_scale(uint32_t khz, uint32_t *mul, int8_t *shift)
{
    uint128 ratio = ((uint128)1000000 << 64) / khz; /* ns per cycle, 64 fraction bits */
    int sh = 0;

    while (ratio >> 64) {
        ratio >>= 1;
        sh++;
    }
    while (!(ratio >> 63)) {
        ratio <<= 1;
        sh--;
    }
    *mul = (uint32_t)(ratio >> 32);
    *shift = (int8_t)sh;
}

static void pvclock_write_page(struct vcpu *c)
{
    uint64_t gpa = c->pv_system_time & ~(uint64_t)PVCLOCK_ENABLED;
    struct physmap *mem = &c->vm->mem;
    struct pvclock_page page = {
        .tsc_timestamp = c->vm->pv_tsc,
        .system_time = c->vm->pv_ns,
        .flags = PVCLOCK_TSC_STABLE,
    };
    uint32_t version;

    if (!(c->pv_system_time & PVCLOCK_ENABLED) || !guest_read(mem, gpa, &version, sizeof(version)))
        return;
    /* Odd while being written: a reader on another vCPU sees it and tries again. */
    version = (version | 1);
    if (!guest_write(mem, gpa, &version, sizeof(version)))
        return;
    page.version = version + 1;
    pvclock_scale(clock_tsc_khz(c->vm->clock), &page.tsc_to_system_mul, &page.tsc_shift);
    if (!guest_write(mem, gpa + 4, (char *)&page + 4, sizeof(page) - 4))
        return;
    if (!guest_write(mem, gpa, &page.version, sizeof(page.version)))
        return;
}

/* Wall clock at system time 0. */
static void pvclock_write_wall(struct vcpu *c, uint64_t gpa)
{
    uint64_t boot = clock_wall_ns(c->vm->clock) - clock_now_ns(c->vm->clock);
    struct pvclock_wall wall = {
        .version = 2,
        .sec = (uint32_t)(boot / 1000000000u),
        .nsec = (uint32_t)(boot % 1000000000u),
    };

    if (!guest_write(&c->vm->mem, gpa, &wall, sizeof(wall)))
        log_debug("pvclock", "the wall clock page %#llx is not RAM", (unsigned long long)gpa);
}

bool pvclock_msr(struct vcpu *c, uint32_t index, bool write, uint64_t *val)
{
    bool system = index == MSR_KVM_SYSTEM_TIME || index == MSR_KVM_SYSTEM_TIME_OLD;
    uint64_t *msr = system ? &c->pv_system_time : &c->pv_wall_clock;

    if (!write) {
        *val = *msr;
        return true;
    }
    *msr = *val;
    if (system)
        pvclock_write_page(c);
    else
        pvclock_write_wall(c, *val);
    return true;
}

void pvclock_resume(struct vm *vm)
{
    vm->pv_tsc = clock_tsc(vm->clock);
    vm->pv_ns = clock_now_ns(vm->clock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        pvclock_write_page(vm->vcpu[i]);
}
