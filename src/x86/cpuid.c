/*
 * cpuid.c: CPU models and the answers of CPUID (SDM 2A, CPUID; KVM's leaves:
 * Documentation/virt/kvm/x86/cpuid.rst).
 *
 * A model fixes the feature bits. Vendor, family, brand and cache sizes stay the host's, because code on
 * the host's own CPU behaves like that CPU (flags that are undefined on paper above all).
 * Never offered: AMX, CET, TSX, SGX, VMX/SVM, XSAVES, WAITPKG, MONITOR, performance counters.
 */
#include "x86/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "x86/regs.h"

enum { EAX, EBX, ECX, EDX };
enum { LEVEL_ANY = 10, LEVEL_HOST };
enum cpuid_source { SOURCE_CPU, SOURCE_SOFT, SOURCE_SAFE };
enum {
    LEAF_FEATURES = 1,
    LEAF_CACHE = 4,
    LEAF_POWER = 6,
    LEAF_EXTENDED_FEATURES = 7,
    LEAF_TOPOLOGY = 0xb,
    LEAF_XSAVE = 0xd,
    LEAF_TSC = 0x15,
    LEAF_FREQUENCY = 0x16,
    LEAF_TOPOLOGY2 = 0x1f,
    LEAF_BASIC_MAX = LEAF_TOPOLOGY2,
};
#define LEAF_KVM          0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_KVM_TIMING   0x40000010u
#define LEAF_EXT          0x80000000u
#define LEAF_EXT_FEATURES 0x80000001u
#define LEAF_BRAND        0x80000002u
#define LEAF_L2           0x80000006u
#define LEAF_INVARIANT    0x80000007u
#define LEAF_SIZES        0x80000008u

#define XCR0_AVX512 (XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)

struct cpuid_feature {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, reg, bit, models, source;
    uint8_t limit; /* offset of a bool in struct cpuid_caps */
};

/* The limits and what follows from them, so that the table can name one of them a line. */
struct cpuid_caps {
    struct cpuid_limits l;
    bool always, avx, avx512;
};

enum {
    ANY = LEVEL_ANY,
    HOST = LEVEL_HOST,
    CPU = SOURCE_CPU,
    SOFT = SOURCE_SOFT,
    SAFE = SOURCE_SAFE
};
#define CAP_always       offsetof(struct cpuid_caps, always)
#define CAP_avx          offsetof(struct cpuid_caps, avx)
#define CAP_avx512       offsetof(struct cpuid_caps, avx512)
#define CAP_kvm_pv       offsetof(struct cpuid_caps, l.kvm_pv)
#define CAP_pcid         offsetof(struct cpuid_caps, l.pcid)
#define CAP_invpcid      offsetof(struct cpuid_caps, l.invpcid)
#define CAP_x2apic       offsetof(struct cpuid_caps, l.x2apic)
#define CAP_tsc_deadline offsetof(struct cpuid_caps, l.tsc_deadline)
#define CAP_xsave        offsetof(struct cpuid_caps, l.xsave)
#define CAP_fsgsbase     offsetof(struct cpuid_caps, l.fsgsbase)
#define CAP_smep         offsetof(struct cpuid_caps, l.smep)
#define CAP_smap         offsetof(struct cpuid_caps, l.smap)
#define CAP_umip         offsetof(struct cpuid_caps, l.umip)
#define CAP_pku          offsetof(struct cpuid_caps, l.pku)
#define CAP_la57         offsetof(struct cpuid_caps, l.la57)

static const struct cpuid_feature cpuid_features[] = {
#define F(name, leaf, subleaf, reg, bit, models, source, limit)                                    \
    { name, leaf, subleaf, reg, bit, models, source, (uint8_t)CAP_##limit },
#include "x86/cpuid_features.def"
#undef F
};

/* Where the words of struct cpuid_words stand, by enum cpuid_word. */
static const struct {
    uint32_t leaf;
    uint8_t subleaf, reg;
} cpuid_word_at[CPUID_WORDS] = {
    [CPUID_1_ECX] = { LEAF_FEATURES, 0, ECX },
    [CPUID_1_EDX] = { LEAF_FEATURES, 0, EDX },
    [CPUID_6_EAX] = { LEAF_POWER, 0, EAX },
    [CPUID_7_EBX] = { LEAF_EXTENDED_FEATURES, 0, EBX },
    [CPUID_7_ECX] = { LEAF_EXTENDED_FEATURES, 0, ECX },
    [CPUID_7_EDX] = { LEAF_EXTENDED_FEATURES, 0, EDX },
    [CPUID_7_1_EAX] = { LEAF_EXTENDED_FEATURES, 1, EAX },
    [CPUID_D_1_EAX] = { LEAF_XSAVE, 1, EAX },
    [CPUID_KVM_EAX] = { LEAF_KVM_FEATURES, 0, EAX },
    [CPUID_EXT_ECX] = { LEAF_EXT_FEATURES, 0, ECX },
    [CPUID_EXT_EDX] = { LEAF_EXT_FEATURES, 0, EDX },
    [CPUID_INVARIANT_EDX] = { LEAF_INVARIANT, 0, EDX },
    [CPUID_7_2_EDX] = { LEAF_EXTENDED_FEATURES, 2, EDX },
};

/* Processors of old, for systems that a later one's answers confuse: 32 bits, and no leaf after max. */
#define OLD_PENTIUM 0x008003bdu                 /* fpu de pse tsc msr mce cx8 apic mmx */
#define OLD_P6      (OLD_PENTIUM | 0x0303f840u) /* pae sep mtrr pge mca cmov pat pse36 fxsr sse */

static const struct cpuid_model {
    const char *name;
    unsigned level;
    uint32_t features; /* of leaf 1 EDX, and no others; 0: those of the level */
    uint32_t signature, max;
} cpuid_models[] = {
    { "pentium", 1, OLD_PENTIUM, 0x543, 1 }, { "pentium3", 1, OLD_P6, 0x686, 2 },
    { .name = "x86-64-v2", .level = 2 },     { .name = "x86-64-v3", .level = 3 },
    { .name = "x86-64-v4", .level = 4 },     { .name = "host", .level = LEVEL_HOST },
};

void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    if ((uint32_t)__get_cpuid_max(leaf & 0x80000000u, NULL) < leaf)
        memset(out, 0, 4 * sizeof(out[0]));
    else
        __cpuid_count(leaf, subleaf, out[EAX], out[EBX], out[ECX], out[EDX]);
}

static struct cpuid_entry *cpuid_entry(struct cpuid *c, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->entry[i].leaf == leaf && (c->entry[i].any_subleaf || c->entry[i].subleaf == subleaf))
            return &c->entry[i];
    return NULL;
}

static const struct cpuid_entry *cpuid_find(const struct cpuid *c, uint32_t leaf, uint32_t subleaf)
{
    return cpuid_entry((struct cpuid *)c, leaf, subleaf);
}

static struct cpuid_entry *cpuid_add(struct cpuid *c, uint32_t leaf, uint32_t subleaf, bool any)
{
    struct cpuid_entry *e = cpuid_entry(c, leaf, subleaf);

    if (e)
        return e;
    BUG_ON(c->n == CPUID_MAX);
    e = &c->entry[c->n++];
    *e = (struct cpuid_entry){ .leaf = leaf, .subleaf = subleaf, .any_subleaf = any };
    return e;
}

static void cpuid_set(struct cpuid *c, uint32_t leaf, uint32_t subleaf, bool any,
                      const uint32_t out[4])
{
    struct cpuid_entry *e = cpuid_add(c, leaf, subleaf, any);

    e->eax = out[EAX];
    e->ebx = out[EBX];
    e->ecx = out[ECX];
    e->edx = out[EDX];
}

static uint32_t *cpuid_reg(struct cpuid_entry *e, unsigned reg)
{
    uint32_t *const regs[4] = { &e->eax, &e->ebx, &e->ecx, &e->edx };

    return regs[reg & 3];
}

bool cpuid_has(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
    const struct cpuid_entry *e = cpuid_find(c, leaf, subleaf);

    return e && (*cpuid_reg((struct cpuid_entry *)e, reg) >> bit & 1);
}

static bool cpuid_host_has(const struct cpuid_feature *f)
{
    uint32_t out[4];

    cpuid_host(f->leaf, f->subleaf, out);
    return out[f->reg] >> f->bit & 1;
}

static bool cpuid_is_amd(void)
{
    uint32_t out[4];

    cpuid_host(0, 0, out);
    return out[EBX] == 0x68747541; /* "Auth" */
}

static enum cpuid_word cpuid_word(const struct cpuid_feature *f)
{
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        if (cpuid_word_at[i].leaf == f->leaf && cpuid_word_at[i].subleaf == f->subleaf &&
            cpuid_word_at[i].reg == f->reg)
            return (enum cpuid_word)i;
    BUG_ON(true); /* a line of the table has a register that cpuid_word_at lacks */
}

static bool cpuid_in(const struct cpuid_words *w, const struct cpuid_feature *f)
{
    return w->word[cpuid_word(f)] >> f->bit & 1;
}

static bool cpuid_possible(const struct cpuid_feature *f, unsigned level,
                           const struct cpuid_caps *caps)
{
    if (!*((const bool *)caps + f->limit) || (caps->l.offered && !cpuid_in(caps->l.offered, f)))
        return false;
    return f->source == SOURCE_SOFT || cpuid_host_has(f) ||
           (f->source == SOURCE_SAFE && caps->l.isolated && level == LEVEL_HOST);
}

static void cpuid_put(struct cpuid *c, const struct cpuid_feature *f)
{
    bool any = f->leaf != LEAF_EXTENDED_FEATURES && f->leaf != LEAF_XSAVE;

    *cpuid_reg(cpuid_add(c, f->leaf, f->subleaf, any), f->reg) |= BIT(f->bit);
}

static size_t cpuid_name(char *names, size_t at, size_t len, const char *name)
{
    int n = at < len ? snprintf(names + at, len - at, " %s", name) : 0;

    return at + (size_t)(n > 0 ? n : 0);
}

static bool cpuid_wanted(const struct cpuid_model *m, const struct cpuid_feature *f)
{
    if (m->features)
        return f->leaf == LEAF_FEATURES && f->reg == EDX && (m->features >> f->bit & 1);
    return f->models == LEVEL_ANY || f->models <= m->level;
}

/* Sets every feature of the model that host and limits allow; what it requires and lacks is named. */
static int cpuid_build_features(struct cpuid *c, const struct cpuid_model *m,
                                const struct cpuid_caps *caps, struct err *e)
{
    char missing[256] = "", forced[80] = "";
    size_t n_missing = 0, n_forced = 0;

    for (size_t i = 0; i < ARRAY_SIZE(cpuid_features); i++) {
        const struct cpuid_feature *f = &cpuid_features[i];
        bool wanted = cpuid_wanted(m, f);

        if (wanted && cpuid_possible(f, m->level, caps)) {
            cpuid_put(c, f);
        } else if (caps->l.forced && cpuid_in(caps->l.forced, f)) {
            cpuid_put(c, f);
            n_forced = cpuid_name(forced, n_forced, sizeof(forced), f->name);
        } else if (wanted && f->models <= m->level && m->level < LEVEL_ANY) {
            n_missing = cpuid_name(missing, n_missing, sizeof(missing), f->name);
        }
    }
    if (n_forced)
        log_warn("cpu", "this host's KVM shows its guests more than CPU model %s has:%s%s",
                 c->model, forced, n_forced < sizeof(forced) ? "" : "...");
    if (!n_missing)
        return 0;
    return err_set(e, ENOTSUP,
                   "CPU model %s cannot run here, this host (or its KVM) lacks:%s; choose a lower "
                   "model or \"host\"",
                   c->model, missing);
}

void cpuid_features_of(const struct cpuid *c, struct cpuid_words *w)
{
    memset(w, 0, sizeof(*w));
    for (size_t i = 0; i < ARRAY_SIZE(cpuid_features); i++) {
        const struct cpuid_feature *f = &cpuid_features[i];

        if (cpuid_has(c, f->leaf, f->subleaf, f->reg, f->bit))
            w->word[cpuid_word(f)] |= BIT(f->bit);
    }
}

bool cpuid_lacks(const struct cpuid *c, const struct cpuid_words *need, char *names, size_t len)
{
    struct cpuid_words have, left;
    size_t at = 0;

    cpuid_features_of(c, &have);
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        left.word[i] = need->word[i] & ~have.word[i];
    names[0] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(cpuid_features); i++) {
        if (!cpuid_in(&left, &cpuid_features[i]))
            continue;
        at = cpuid_name(names, at, len, cpuid_features[i].name);
        left.word[cpuid_word(&cpuid_features[i])] &= ~BIT(cpuid_features[i].bit);
    }
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        if (left.word[i]) /* of a newer version */
            at = cpuid_name(names, at, len, "others");
    return at;
}

void cpuid_word_place(enum cpuid_word w, uint32_t *leaf, uint32_t *subleaf, unsigned *reg)
{
    *leaf = cpuid_word_at[w].leaf;
    *subleaf = cpuid_word_at[w].subleaf;
    *reg = cpuid_word_at[w].reg;
}

/* A power of two that is at least n: APIC ids of a level are counted in such. */
static unsigned cpuid_round(unsigned n)
{
    unsigned r = 1;

    while (r < n)
        r *= 2;
    return r;
}

static void cpuid_build_identity(struct cpuid *c)
{
    uint32_t out[4];
    struct cpuid_entry *e;

    cpuid_host(0, 0, out);
    out[EAX] = LEAF_BASIC_MAX;
    cpuid_set(c, 0, 0, true, out);
    memcpy(c->vendor, &out[EBX], 4);
    memcpy(c->vendor + 4, &out[EDX], 4);
    memcpy(c->vendor + 8, &out[ECX], 4);
    cpuid_host(1, 0, out);
    e = cpuid_add(c, LEAF_FEATURES, 0, true);
    e->eax = out[EAX];
    e->ebx = (out[EBX] & 0xff00) | cpuid_round(c->ncpus)
                                       << 16; /* CLFLUSH size, logical processors */
    if (c->ncpus > 1)
        e->edx |= BIT(28); /* HTT: the count above is valid */
    cpuid_host(2, 0, out);
    cpuid_set(c, 2, 0, true, out);
    for (uint32_t leaf = LEAF_BRAND; leaf <= LEAF_L2; leaf++) {
        cpuid_host(leaf, 0, out);
        cpuid_set(c, leaf, 0, true, out);
    }
    /* Leaves between that have nothing to say, so that they do not read as "beyond the last". */
    memset(out, 0, sizeof(out));
    for (uint32_t leaf = 3; leaf < LEAF_BASIC_MAX; leaf++)
        if (leaf != LEAF_CACHE && leaf != LEAF_EXTENDED_FEATURES && leaf != LEAF_TOPOLOGY &&
            leaf != LEAF_XSAVE && !cpuid_find(c, leaf, 0))
            cpuid_set(c, leaf, 0, true, out);
}

/* Deterministic caches: the host's, the last level shared by all cores, the others private. */
static void cpuid_build_caches(struct cpuid *c)
{
    enum { TYPE = 0x1f, LEVEL_SHIFT = 5, KEEP = 0x3fff }; /* APIC ids of a package: bits 31:26 */
    unsigned n = cpuid_round(c->ncpus);
    uint32_t out[4];

    for (uint32_t i = 0; i < 8; i++) {
        cpuid_host(LEAF_CACHE, i, out);
        if (!(out[EAX] & TYPE))
            break;
        bool shared = (out[EAX] >> LEVEL_SHIFT & 7) >= 3;

        out[EAX] = (out[EAX] & KEEP) | (shared ? n - 1 : 0) << 14 | (n < 64 ? n - 1 : 63) << 26;
        cpuid_set(c, LEAF_CACHE, i, false, out);
    }
}

/* One package, N cores, one thread each. EDX is the vCPU's own APIC id: cpuid_query(). */
static void cpuid_build_topology(struct cpuid *c)
{
    enum { SMT = 1, CORE = 2 };
    uint32_t shift = (uint32_t)__builtin_ctz(cpuid_round(c->ncpus));
    const uint32_t smt[4] = { 0, 1, SMT << 8 | 0, 0 };
    const uint32_t core[4] = { shift, c->ncpus, CORE << 8 | 1, 0 };

    cpuid_set(c, LEAF_TOPOLOGY, 0, false, smt);
    cpuid_set(c, LEAF_TOPOLOGY, 1, false, core);
    cpuid_set(c, LEAF_TOPOLOGY2, 0, false, smt);
    cpuid_set(c, LEAF_TOPOLOGY2, 1, false, core);
}

/* Sizes and offsets are the host's: the state's xsave area has the host's standard format. */
static void cpuid_build_xsave(struct cpuid *c)
{
    uint32_t out[4], size = 576;

    c->xcr0 = XCR0_X87;
    if (!cpuid_has(c, LEAF_FEATURES, 0, ECX, 26)) {
        memset(out, 0, sizeof(out));
        cpuid_set(c, LEAF_XSAVE, 0, false, out);
        return;
    }
    c->xcr0 |= XCR0_SSE;
    if (cpuid_has(c, LEAF_FEATURES, 0, ECX, 28))
        c->xcr0 |= XCR0_AVX;
    if (cpuid_has(c, LEAF_EXTENDED_FEATURES, 0, EBX, 16))
        c->xcr0 |= XCR0_AVX512;
    if (cpuid_has(c, LEAF_EXTENDED_FEATURES, 0, ECX, 3))
        c->xcr0 |= XCR0_PKRU;
    for (uint32_t i = 2; i < 63; i++) {
        if (!(c->xcr0 >> i & 1))
            continue;
        cpuid_host(LEAF_XSAVE, i, out);
        BUG_ON(out[EAX] + out[EBX] > X86_XSAVE_SIZE);
        size = (uint32_t)max_u64(size, out[EAX] + out[EBX]);
        cpuid_set(c, LEAF_XSAVE, i, false, out);
    }
    out[EAX] = (uint32_t)c->xcr0;
    out[EBX] = out[ECX] = size;
    out[EDX] = 0;
    cpuid_set(c, LEAF_XSAVE, 0, false, out);
}

static uint32_t cpuid_gcd(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t r = a % b;

        a = b;
        b = r;
    }
    return a;
}

/*
 * Leaf 0x15 states the TSC as a fraction of a crystal, and Linux takes the crystal for the APIC timer's
 * clock and multiplies in 32 bits: it is given only where that is exact, else 0 (the guest measures).
 */
static void cpuid_build_clocks(struct cpuid *c, const struct cpuid_limits *l)
{
    uint32_t khz = l->tsc_khz, gcd = cpuid_gcd(khz, CPUID_LAPIC_KHZ);
    uint32_t mhz = (khz + 500) / 1000, product;
    const uint32_t frequency[4] = { mhz, mhz, 100, 0 };

    if (!khz)
        return;
    if (!ckd_mul(&product, khz / gcd, CPUID_LAPIC_KHZ)) {
        const uint32_t tsc[4] = { CPUID_LAPIC_KHZ / gcd, khz / gcd, CPUID_LAPIC_KHZ * 1000u, 0 };

        cpuid_set(c, LEAF_TSC, 0, true, tsc);
    }
    cpuid_set(c, LEAF_FREQUENCY, 0, true, frequency);
}

static void cpuid_build_kvm(struct cpuid *c, const struct cpuid_limits *l)
{
    const uint32_t signature[4] = { LEAF_KVM_TIMING, 0x4b4d564b, 0x564b4d56,
                                    0x4d }; /* "KVMKVMKVM" */
    const uint32_t timing[4] = { l->tsc_khz, CPUID_LAPIC_KHZ };

    if (!l->kvm_pv)
        return;
    cpuid_set(c, LEAF_KVM, 0, true, signature);
    cpuid_add(c, LEAF_KVM_FEATURES, 0, true);
    cpuid_set(c, LEAF_KVM_TIMING, 0, true, timing);
}

static void cpuid_build_extended(struct cpuid *c, const struct cpuid_limits *l)
{
    enum { DUPLICATED = 0x0183f3ff }; /* AMD repeats these of leaf 1 EDX here */
    uint32_t out[4], max[4] = { LEAF_SIZES };
    struct cpuid_entry *features = cpuid_add(c, LEAF_EXT_FEATURES, 0, true);
    bool la57 = cpuid_has(c, LEAF_EXTENDED_FEATURES, 0, ECX, 16);

    cpuid_host(LEAF_EXT, 0, out);
    memcpy(&max[EBX], &out[EBX], 3 * sizeof(out[0]));
    cpuid_set(c, LEAF_EXT, 0, true, max);
    cpuid_host(LEAF_SIZES, 0, out);
    c->phys_bits = out[EAX] & 0xff;
    if (l->phys_bits && l->phys_bits < c->phys_bits)
        c->phys_bits = l->phys_bits;
    out[EAX] = (la57 ? 57u : 48u) << 8 | c->phys_bits;
    out[EBX] = out[ECX] = out[EDX] = 0;
    if (cpuid_is_amd()) {
        features->edx |= cpuid_find(c, LEAF_FEATURES, 0)->edx & DUPLICATED;
        out[ECX] = (uint32_t)__builtin_ctz(cpuid_round(c->ncpus)) << 12 | (c->ncpus - 1);
    }
    cpuid_set(c, LEAF_SIZES, 0, true, out);
}

static void cpuid_build_old(struct cpuid *c, const struct cpuid_model *m)
{
    const uint32_t vendor[4] = { m->max, 0x756e6547, 0x6c65746e, 0x49656e69 };
    const uint32_t caches[4] = { 0x03020101, 0, 0, 0x0c040882 }; /* 16K, 16K, 256K */

    cpuid_set(c, 0, 0, true, vendor);
    memcpy(c->vendor, "GenuineIntel", sizeof(c->vendor));
    cpuid_add(c, LEAF_FEATURES, 0, true)->eax = m->signature;
    if (m->max >= 2)
        cpuid_set(c, 2, 0, true, caches);
    c->xcr0 = XCR0_X87;
    c->phys_bits = 36;
}

static void cpuid_build_rest(struct cpuid *c, const struct cpuid_limits *limits)
{
    for (uint32_t sub = 1; sub <= 2; sub++)
        if (cpuid_find(c, LEAF_EXTENDED_FEATURES, sub))
            cpuid_add(c, LEAF_EXTENDED_FEATURES, 0, false)->eax = sub; /* the highest */
    cpuid_build_clocks(c, limits);
    cpuid_build_identity(c);
    cpuid_build_caches(c);
    cpuid_build_topology(c);
    cpuid_build_xsave(c);
    cpuid_build_kvm(c, limits);
    cpuid_build_extended(c, limits);
}

int cpuid_build(struct cpuid *c, const char *model, const struct cpuid_limits *limits,
                unsigned ncpus, struct err *e)
{
    struct cpuid_caps caps = { .l = *limits, .always = true };
    const struct cpuid_model *m = NULL;
    int r;

    caps.avx = limits->avx && limits->xsave;
    caps.avx512 = limits->avx512 && caps.avx;
    for (size_t i = 0; i < ARRAY_SIZE(cpuid_models); i++)
        if (!strcmp(model, cpuid_models[i].name))
            m = &cpuid_models[i];
    if (!m)
        return err_set(e, EINVAL,
                       "there is no CPU model \"%s\"; choose pentium, pentium3, x86-64-v2, "
                       "x86-64-v3, x86-64-v4 or host",
                       model);
    memset(c, 0, sizeof(*c));
    snprintf(c->model, sizeof(c->model), "%s", model);
    c->ncpus = ncpus;
    c->isolated = limits->isolated;
    r = cpuid_build_features(c, m, &caps, e);
    if (r)
        return r;
    if (m->features)
        cpuid_build_old(c, m);
    else
        cpuid_build_rest(c, limits);
    return 0;
}

/* Intel: beyond the last leaf, of either range, the last basic one answers. */
static uint32_t cpuid_leaf(const struct cpuid *c, uint32_t leaf)
{
    const struct cpuid_entry *ext = cpuid_find(c, LEAF_EXT, 0);
    uint32_t max;

    if (leaf >> 28 == LEAF_KVM >> 28 || memcmp(c->vendor, "GenuineIntel", sizeof(c->vendor)))
        return leaf;
    max = cpuid_find(c, 0, 0)->eax;
    if (leaf < LEAF_EXT)
        return leaf > max ? max : leaf;
    return ext && leaf <= ext->eax ? leaf : max;
}

/* Bytes of an XSAVE area for the components of mask; compact: XSAVEC's format. */
static uint32_t cpuid_xsave_size(const struct cpuid *c, uint64_t mask, bool compact)
{
    enum { LEGACY = 576, ALIGN64 = BIT(1) };
    uint64_t size = LEGACY;

    for (uint32_t i = 2; i < 63; i++) {
        const struct cpuid_entry *e = mask >> i & 1 ? cpuid_find(c, LEAF_XSAVE, i) : NULL;

        if (!e)
            continue;
        if (!compact)
            size = max_u64(size, e->ebx + e->eax);
        else
            size = align_up(size, e->ecx & ALIGN64 ? 64 : 1) + e->eax;
    }
    return (uint32_t)size;
}

/* What of an answer depends on the asking vCPU. */
static void cpuid_personal(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
                           uint64_t cr4, uint64_t xcr0, uint32_t out[4])
{
    enum { OSXSAVE = BIT(27), OSPKE = BIT(4), PKU = BIT(3) };

    switch (leaf) {
    case LEAF_FEATURES:
        out[EBX] |= apic_id << 24;
        if (cr4 & CR4_OSXSAVE)
            out[ECX] |= OSXSAVE;
        break;
    case LEAF_EXTENDED_FEATURES:
        if (subleaf == 0 && (out[ECX] & PKU) && (cr4 & CR4_PKE))
            out[ECX] |= OSPKE;
        break;
    case LEAF_TOPOLOGY:
    case LEAF_TOPOLOGY2:
        if (subleaf > 1)
            out[ECX] = subleaf & 0xff;
        out[EDX] = apic_id;
        break;
    case LEAF_XSAVE:
        if (out[EAX] && subleaf < 2)
            out[EBX] = cpuid_xsave_size(c, xcr0, subleaf == 1);
        break;
    default:
        break;
    }
}

void cpuid_query(const struct cpuid *c, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
                 uint64_t cr4, uint64_t xcr0, uint32_t out[4])
{
    const struct cpuid_entry *e;

    leaf = cpuid_leaf(c, leaf);
    e = cpuid_find(c, leaf, subleaf);
    memset(out, 0, 4 * sizeof(out[0]));
    if (e) {
        out[EAX] = e->eax;
        out[EBX] = e->ebx;
        out[ECX] = e->ecx;
        out[EDX] = e->edx;
    }
    cpuid_personal(c, leaf, subleaf, apic_id, cr4, xcr0, out);
}

uint64_t cpuid_arch_capabilities(const struct cpuid *c)
{
    enum { /* IA32_ARCH_CAPABILITIES, SDM 4 table 2-2 */
           RDCL_NO = 0,
           IBRS_ALL = 1,
           SKIP_L1DFL = 3,
           SSB_NO = 4,
           MDS_NO = 5,
           PSCHANGE_MC_NO = 6,
           TAA_NO = 8,
           SBDR_SSDP_NO = 13,
           FBSDP_NO = 14,
           PSDP_NO = 15,
           BHI_NO = 20,
           PBRSB_NO = 24,
           GDS_NO = 26,
           RFDS_NO = 27,
           ITS_NO = 62,
    };

    if (!c->isolated)
        return 0;
    return BIT64(RDCL_NO) | BIT64(IBRS_ALL) | BIT64(SKIP_L1DFL) | BIT64(SSB_NO) | BIT64(MDS_NO) |
           BIT64(PSCHANGE_MC_NO) | BIT64(TAA_NO) | BIT64(SBDR_SSDP_NO) | BIT64(FBSDP_NO) |
           BIT64(PSDP_NO) | BIT64(BHI_NO) | BIT64(PBRSB_NO) | BIT64(GDS_NO) | BIT64(RFDS_NO) |
           BIT64(ITS_NO);
}
