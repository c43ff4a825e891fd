/*
 * kvm_cpuid.c: what KVM can offer, and the VM's CPUID table into its vCPUs. KVM fills in what changes while
 * the guest runs (OSXSAVE, the size of the XSAVE area).
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

enum { CPUID_SUPPORTED_MAX = 256, EBX = 1, ECX = 2, EDX = 3 };

int kvm_cpuid_load_supported(struct kvm_vm *k, struct err *e)
{
    int ret;

    k->supported =
        calloc(1, sizeof(*k->supported) + CPUID_SUPPORTED_MAX * sizeof(k->supported->entries[0]));
    if (!k->supported)
        return err_set(e, ENOMEM, "out of memory");
    k->supported->nent = CPUID_SUPPORTED_MAX;
    ret = kvm_ioctl(k->dev_fd, KVM_GET_SUPPORTED_CPUID, k->supported);
    if (ret)
        return err_set(e, -ret, "KVM cannot say what its CPUs support: %s", strerror(-ret));
    return 0;
}

static const struct kvm_cpuid_entry2 *kvm_cpuid_find(const struct kvm_vm *k, uint32_t leaf,
                                                     uint32_t subleaf)
{
    for (uint32_t i = 0; i < k->supported->nent; i++) {
        const struct kvm_cpuid_entry2 *s = &k->supported->entries[i];

        if (s->function == leaf &&
            (s->index == subleaf || !(s->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
            return s;
    }
    return NULL;
}

static bool kvm_cpuid_has(const struct kvm_vm *k, uint32_t leaf, unsigned reg, unsigned bit)
{
    const struct kvm_cpuid_entry2 *s = kvm_cpuid_find(k, leaf, 0);

    if (!s)
        return false;
    return (reg == EBX ? s->ebx : reg == ECX ? s->ecx : s->edx) >> bit & 1;
}

void kvm_cpuid_limits(struct vm *vm, struct cpuid_limits *l)
{
    const struct kvm_vm *k = kvm_of(vm);

    *l = (struct cpuid_limits){
        .tsc_deadline = k->caps.tsc_deadline,
        .x2apic = kvm_cpuid_has(k, 1, ECX, 21),
        .kvm_pv = kvm_cpuid_find(k, 0x40000001, 0),
        .pcid = kvm_cpuid_has(k, 1, ECX, 17),
        .invpcid = kvm_cpuid_has(k, 7, EBX, 10),
        .smap = kvm_cpuid_has(k, 7, EBX, 20),
        .smep = kvm_cpuid_has(k, 7, EBX, 7),
        .umip = kvm_cpuid_has(k, 7, ECX, 2),
        .fsgsbase = kvm_cpuid_has(k, 7, EBX, 0),
        .pku = kvm_cpuid_has(k, 7, ECX, 3),
        .la57 = kvm_cpuid_has(k, 7, ECX, 16),
        .xsave = kvm_cpuid_has(k, 1, ECX, 26),
        .avx = kvm_cpuid_has(k, 1, ECX, 28),
        .avx512 = kvm_cpuid_has(k, 7, EBX, 16),
        .tsc_khz = l->tsc_khz,
    };
}

/* Feature bits that KVM does not know must not be offered; those it leaves to us stay. */
static void kvm_cpuid_mask(const struct kvm_vm *k, struct kvm_cpuid_entry2 *e)
{
    static const struct {
        uint32_t leaf, subleaf;
        uint32_t own_eax, own_ebx, own_ecx, own_edx;
    } masks[] = {
        /* ours: EAX signature, EBX ids; TSC deadline, hypervisor, OSXSAVE; HTT */
        { 1, 0, ~0u, ~0u, BIT(24) | BIT(27) | BIT(31), BIT(28) },
        { 7, 0, ~0u, 0, BIT(4), 0 },
        { 7, 1, 0, 0, 0, 0 },
        { 0xd, 1, 0, ~0u, ~0u, ~0u },
        { 0x40000001, 0, 0, ~0u, ~0u, ~0u },
        { 0x80000001, 0, ~0u, ~0u, 0, 0 },
        { 0x80000008, 0, ~0u, 0, ~0u, ~0u },
    };

    for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
        const struct kvm_cpuid_entry2 *s = kvm_cpuid_find(k, e->function, e->index);
        const struct kvm_cpuid_entry2 none = { 0 };

        if (masks[i].leaf != e->function || masks[i].subleaf != e->index)
            continue;
        if (!s)
            s = &none;
        e->eax &= s->eax | masks[i].own_eax;
        e->ebx &= s->ebx | masks[i].own_ebx;
        e->ecx &= s->ecx | masks[i].own_ecx;
        e->edx &= s->edx | masks[i].own_edx;
    }
}

int kvm_cpuid_set(struct vcpu *c, struct err *e)
{
    const struct cpuid *from = &c->vm->cpuid;
    struct kvm_cpuid2 *to = calloc(1, sizeof(*to) + CPUID_MAX * sizeof(to->entries[0]));
    int ret;

    if (!to)
        return err_set(e, ENOMEM, "out of memory");
    for (unsigned i = 0; i < from->n; i++) {
        const struct cpuid_entry *f = &from->entry[i];
        struct kvm_cpuid_entry2 *t = &to->entries[to->nent++];
        uint32_t out[4];

        cpuid_query(from, f->leaf, f->subleaf, c->apic_id, 0, XCR0_X87, out);
        *t = (struct kvm_cpuid_entry2){ .function = f->leaf,
                                        .index = f->subleaf,
                                        .flags =
                                            f->any_subleaf ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                        .eax = out[0],
                                        .ebx = out[1],
                                        .ecx = out[2],
                                        .edx = out[3] };
        kvm_cpuid_mask(kvm_of(c->vm), t);
    }
    ret = kvm_ioctl(kvm_vcpu_of(c)->fd, KVM_SET_CPUID2, to);
    free(to);
    if (ret)
        return err_set(e, -ret, "KVM refuses CPU model '%s': %s", from->model, strerror(-ret));
    return 0;
}
