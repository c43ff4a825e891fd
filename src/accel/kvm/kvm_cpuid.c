/*
 * kvm_cpuid.c: what KVM can offer, and the VM's CPUID table into its vCPUs. KVM fills in what changes while
 * the guest runs (OSXSAVE, the size of the XSAVE area).
 *
 * A KVM with hardware shows a guest the table that it was given. PVM, which runs guests at user level,
 * shows the host's bits in leaves 1, 7 and 0xd, because the instructions behind them run anyway: there
 * two small guests tell what is always seen and what can be seen at most, and the VM's table says so too.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "accel/kvm/kvm_probe.h"

enum { CPUID_SUPPORTED_MAX = 256 };

static int kvm_cpuid_load_supported(struct kvm_vm *k, struct err *e)
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

/* What KVM says that it supports, as feature words. */
static void kvm_cpuid_words(const struct kvm_vm *k, struct cpuid_words *w)
{
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        const struct kvm_cpuid_entry2 *s;
        uint32_t leaf, subleaf;
        unsigned reg;

        cpuid_word_place((enum cpuid_word)i, &leaf, &subleaf, &reg);
        s = kvm_cpuid_find(k, leaf, subleaf);
        w->word[i] = !s ? 0 : reg == 0 ? s->eax : reg == 1 ? s->ebx : reg == 2 ? s->ecx : s->edx;
    }
}

/* PVM: by one guest that is given everything, and one whose leaves are all empty. */
static int kvm_cpuid_ask_guests(struct kvm_vm *k, struct err *e)
{
    uint32_t n = k->supported->nent;
    struct kvm_cpuid2 *empty = calloc(1, sizeof(*empty) + n * sizeof(empty->entries[0]));
    int ret;

    if (!empty)
        return err_set(e, ENOMEM, "out of memory");
    empty->nent = n;
    for (uint32_t i = 0; i < n; i++) {
        empty->entries[i].function = k->supported->entries[i].function;
        empty->entries[i].index = k->supported->entries[i].index;
        empty->entries[i].flags = k->supported->entries[i].flags;
    }
    ret = kvm_probe_cpuid(empty, &k->forced, e);
    if (!ret)
        ret = kvm_probe_cpuid(k->supported, &k->offered, e);
    free(empty);
    return ret;
}

int kvm_cpuid_learn(struct kvm_vm *k, struct err *e)
{
    int ret = kvm_cpuid_load_supported(k, e);

    if (ret)
        return ret;
    kvm_cpuid_words(k, &k->offered);
    if (k->caps.pvm)
        ret = kvm_cpuid_ask_guests(k, e);
    /* What KVM leaves to us to say: the deadline timer has a capability, the others always hold. */
    if (k->caps.tsc_deadline)
        k->offered.word[CPUID_1_ECX] |= BIT(24);
    k->offered.word[CPUID_1_ECX] |= BIT(31);        /* hypervisor: KVMs before 6.14 leave it out */
    k->offered.word[CPUID_6_EAX] |= BIT(2);         /* ARAT */
    k->offered.word[CPUID_INVARIANT_EDX] |= BIT(8); /* constant TSC */
    return ret;
}

void kvm_cpuid_limits(struct vm *vm, struct cpuid_limits *l)
{
    const struct kvm_vm *k = kvm_of(vm);

    *l = (struct cpuid_limits){
        .tsc_deadline = k->caps.tsc_deadline,
        .kvm_pv = kvm_cpuid_find(k, 0x40000001, 0),
        .tsc_khz = l->tsc_khz,
        .offered = &k->offered,
        .forced = &k->forced,
        /* these by the words above */
        .x2apic = true,
        .pcid = true,
        .invpcid = true,
        .smap = true,
        .smep = true,
        .umip = true,
        .fsgsbase = true,
        .pku = true,
        .la57 = true,
        .xsave = true,
        .avx = true,
        .avx512 = true,
    };
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
    }
    ret = kvm_ioctl(kvm_vcpu_of(c)->fd, KVM_SET_CPUID2, to);
    free(to);
    if (ret)
        return err_set(e, -ret, "KVM refuses CPU model '%s': %s", from->model, strerror(-ret));
    return 0;
}
