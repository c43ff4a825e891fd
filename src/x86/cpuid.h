/*
 * cpuid.h: what CPUID answers, by named CPU model, so that a VM can move between hosts and accelerators.
 * The table is built once per VM and is read-only afterwards (any thread).
 */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include "base/err.h"

enum { CPUID_MAX = 96 };

struct cpuid_entry {
    uint32_t leaf, subleaf;
    bool any_subleaf; /* the leaf ignores ECX */
    uint32_t eax, ebx, ecx, edx;
};
struct cpuid {
    struct cpuid_entry entry[CPUID_MAX];
    unsigned n;
    uint64_t xcr0; /* bits XSETBV accepts */
    unsigned ncpus;
    bool isolated;      /* struct cpuid_limits */
    unsigned phys_bits; /* MAXPHYADDR */
    char model[32];     /* as asked for */
    char vendor[12];    /* "GenuineIntel"; not a string */
};

/* The registers that feature bits stand in (cpuid_features.def). Saved in states: only append. */
enum cpuid_word {
    CPUID_1_ECX,
    CPUID_1_EDX,
    CPUID_6_EAX,
    CPUID_7_EBX,
    CPUID_7_ECX,
    CPUID_7_EDX,
    CPUID_7_1_EAX,
    CPUID_D_1_EAX,
    CPUID_KVM_EAX,
    CPUID_EXT_ECX,
    CPUID_EXT_EDX,
    CPUID_INVARIANT_EDX,
    CPUID_7_2_EDX,
    CPUID_WORDS
};
struct cpuid_words {
    uint32_t word[CPUID_WORDS];
};

/* What the accelerator can run; bits it lacks are cleared from every model (and named in the error). */
struct cpuid_limits {
    bool tsc_deadline, x2apic, kvm_pv; /* kvmclock leaves 0x40000000.. */
    bool pcid, invpcid, smap, smep, umip, fsgsbase, pku, la57, xsave, avx, avx512;
    bool
        isolated; /* bt: guest code never shares predictors or buffers with anything it could attack */
    uint32_t tsc_khz;   /* 0: not known */
    unsigned phys_bits; /* of physical address, if the host has as many; 0: as the host */
    const struct cpuid_words *offered; /* NULL: any; else nothing beyond it */
    const struct cpuid_words *forced;  /* NULL: none; shown to guests whatever the model says */
};

enum { CPUID_LAPIC_KHZ = 1000000 }; /* input clock of the local APIC's timer, as under KVM */

/*
 * model: "x86-64-v2", "x86-64-v3", "x86-64-v4", "host" (all the host has that we support), and for old systems
 * the 32-bit processors "pentium" and "pentium3".
 * -ENOTSUP with a sentence naming the missing features if this host lacks some of the model's.
 */
must_check int cpuid_build(struct cpuid *c, const char *model, const struct cpuid_limits *limits,
                           unsigned ncpus, struct err *e);
/*
 * CPUID for one vCPU: out = eax, ebx, ecx, edx. Leaves that depend on the vCPU's registers (APIC id,
 * OSXSAVE from cr4, XSAVE size from xcr0) are filled in here. Beyond the last leaf: as Intel does.
 */
void cpuid_query(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
                 uint64_t cr4, uint64_t xcr0, uint32_t out[4]);
/* The features of the table that are set; nothing of a vCPU, no OSXSAVE. */
void cpuid_features_of(const struct cpuid *c, struct cpuid_words *w);
/* Is something of `need` not in c? names: " avx avx2", to be shown. */
bool cpuid_lacks(const struct cpuid *c, const struct cpuid_words *need, char *names, size_t len);
void cpuid_word_place(enum cpuid_word w, uint32_t *leaf, uint32_t *subleaf, unsigned *reg);
/* Is bit `bit` of register reg (0 eax .. 3 edx) of the leaf set in the model? */
bool cpuid_has(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit);
/* IA32_ARCH_CAPABILITIES under bt: no bug that a guest would have to mitigate. 0 if it is not offered. */
uint64_t cpuid_arch_capabilities(const struct cpuid *c);
/* CPUID of this host. */
void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif
