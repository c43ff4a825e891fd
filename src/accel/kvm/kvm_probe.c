/*
 * kvm_probe.c: a bare VM of one page in flat protected mode, and what it measures: a counting loop, timed
 * (long enough to outweigh the cost of entering and leaving a guest under nested virtualization), and
 * what CPUID answers.
 */
#include "accel/kvm/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PROBE_GPA = 0x1000,
    PROBE_LEAVES = 0x400, /* in the page: leaf, subleaf, EAX, EBX, ECX, EDX of each */
    PROBE_LEAF_LEN = 24,
    PROBE_WARM_UP = 10,
    PROBE_ROUNDS = 3,
    PROBE_SHORT = 1000, /* iterations of the loop */
    PROBE_LONG = 5000,
    /* An iteration: hardware takes less than 2, plus its share of the exit; emulators 200 and more. */
    PROBE_REAL_NS = 30,      /* no need to look longer */
    PROBE_EMULATED_NS = 100, /* from here on; what is between is hardware of a host with no time */
};

struct probe {
    int dev, vm, cpu;
    uint8_t *page;
    struct kvm_run *run;
    size_t run_size;
};

/* mov ecx from [0x1800]; dec ecx; jnz; out 0x80, al; and again */
static const uint8_t probe_code[] = {
    0x8b, 0x0d, 0x00, 0x18, 0x00, 0x00, 0x49, 0x75, 0xfd, 0xe6, 0x80, 0xeb, 0xf3,
};

/* mov esi, leaves; 1: mov eax, [esi]; mov ecx, [esi+4]; cpuid; all four into [esi+8]; next; out 0x80, al */
static const uint8_t probe_cpuid_code[] = {
    0xbe, 0x00, 0x14, 0x00, 0x00, 0x8b, 0x06, 0x8b, 0x4e, 0x04, 0x0f, 0xa2,
    0x89, 0x46, 0x08, 0x89, 0x5e, 0x0c, 0x89, 0x4e, 0x10, 0x89, 0x56, 0x14,
    0x83, 0xc6, 0x18, 0x83, 0x3e, 0xff, 0x75, 0xe5, 0xe6, 0x80, 0xeb, 0xfe,
};

static int probe_fail(struct accel_probe *p, const char *what)
{
    snprintf(p->reason, sizeof(p->reason), "KVM is not usable: %s: %s", what, strerror(errno));
    return -1;
}

static int probe_open(struct probe *b, struct accel_probe *p)
{
    struct kvm_userspace_memory_region m = { .guest_phys_addr = PROBE_GPA,
                                             .memory_size = PAGE_SIZE };
    int size;

    b->dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (b->dev < 0 && errno == EACCES) {
        snprintf(p->reason, sizeof(p->reason), "no permission for /dev/kvm: %s",
                 accel_kvm_permission());
        return -1;
    }
    if (b->dev < 0)
        return probe_fail(p, "/dev/kvm");
    b->vm = ioctl(b->dev, KVM_CREATE_VM, 0);
    if (b->vm < 0)
        return probe_fail(p, "creating a virtual machine");
    ioctl(b->vm, KVM_SET_TSS_ADDR, 0xfeffd000); /* only some Intel CPUs need it */
    b->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b->page == MAP_FAILED)
        return probe_fail(p, "memory");
    m.userspace_addr = (uintptr_t)b->page;
    if (ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &m) < 0)
        return probe_fail(p, "mapping memory");
    b->cpu = ioctl(b->vm, KVM_CREATE_VCPU, 0);
    if (b->cpu < 0)
        return probe_fail(p, "creating a vCPU");
    size = ioctl(b->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
    b->run_size = size > 0 ? (size_t)size : PAGE_SIZE;
    b->run = mmap(NULL, b->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->cpu, 0);
    return b->run == MAP_FAILED ? probe_fail(p, "mapping the vCPU") : 0;
}

static int probe_set_mode(struct probe *b, struct accel_probe *p, const uint8_t *code_bytes,
                          size_t len)
{
    struct kvm_segment code = {
        .limit = ~0u, .selector = 0x10, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1
    };
    struct kvm_segment data = code;
    struct kvm_regs regs = { .rip = PROBE_GPA, .rflags = 2 };
    struct kvm_sregs sregs;

    data.selector = 0x18;
    data.type = 3;
    memcpy(b->page, code_bytes, len);
    if (ioctl(b->cpu, KVM_GET_SREGS, &sregs) < 0)
        return probe_fail(p, "reading registers");
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.cr0 |= CR0_PE;
    if (ioctl(b->cpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(b->cpu, KVM_SET_REGS, &regs) < 0)
        return probe_fail(p, "setting registers");
    return 0;
}

/* Runs the guest to its next OUT; did it get there? */
static bool probe_run(struct probe *b)
{
    int ret;

    do
        ret = ioctl(b->cpu, KVM_RUN, 0);
    while (ret < 0 && errno == EINTR);
    return ret >= 0 && b->run->exit_reason == KVM_EXIT_IO;
}

/* Nanoseconds for n iterations; 0 if the guest did not run as it should. */
static uint64_t probe_time(struct probe *b, uint32_t n)
{
    uint64_t start;

    memcpy(b->page + 0x800, &n, sizeof(n));
    start = util_monotonic_ns();
    if (!probe_run(b))
        return 0;
    return max_u64(util_monotonic_ns() - start, 1);
}

/* The best of some rounds, in ns; the first that is good enough is enough. */
static uint64_t probe_best(struct probe *b, uint32_t n)
{
    uint64_t best = ~0ull;

    for (unsigned i = 0; i < PROBE_ROUNDS && best > (uint64_t)n * PROBE_REAL_NS; i++) {
        uint64_t ns = probe_time(b, n);

        if (ns)
            best = min_u64(best, ns);
    }
    return best;
}

/*
 * ns an iteration. Where the short loop is slow, entering and leaving the guest may be what is (nested
 * virtualization, a busy host): then what the long loop takes beyond it tells.
 */
static double probe_loop(struct probe *b)
{
    uint64_t few = probe_best(b, PROBE_SHORT), many;

    if (few <= (uint64_t)PROBE_SHORT * PROBE_REAL_NS)
        return (double)few / PROBE_SHORT;
    many = probe_best(b, PROBE_LONG);
    return many > few ? (double)(many - few) / (PROBE_LONG - PROBE_SHORT)
                      : (double)many / PROBE_LONG;
}

static void probe_measure(struct probe *b, struct accel_probe *p)
{
    errno = EIO;
    if (!probe_time(b, PROBE_WARM_UP)) {
        probe_fail(p, "running a test guest");
        return;
    }
    p->loop_ns = probe_loop(b);
    if (p->loop_ns < PROBE_EMULATED_NS) {
        p->kvm = ACCEL_KVM_REAL;
        snprintf(p->reason, sizeof(p->reason),
                 "KVM runs on hardware (%.1f ns an iteration of a test loop)", p->loop_ns);
    } else {
        p->kvm = ACCEL_KVM_EMULATED;
        snprintf(
            p->reason, sizeof(p->reason),
            "KVM is emulated here: %.0f ns an iteration of a test loop, hardware takes about 1",
            p->loop_ns);
    }
}

static void probe_close(struct probe *b)
{
    if (b->run != MAP_FAILED)
        munmap(b->run, b->run_size);
    if (b->page != MAP_FAILED)
        munmap(b->page, PAGE_SIZE);
    util_close(&b->cpu);
    util_close(&b->vm);
    util_close(&b->dev);
}

void kvm_probe(struct accel_probe *p)
{
    struct probe b = { .dev = -1, .vm = -1, .cpu = -1, .page = MAP_FAILED, .run = MAP_FAILED };

    *p = (struct accel_probe){ .kvm = ACCEL_KVM_ABSENT };
    if (!probe_open(&b, p) && !probe_set_mode(&b, p, probe_code, sizeof(probe_code)))
        probe_measure(&b, p);
    probe_close(&b);
}

static bool probe_ask_cpuid(struct probe *b, struct cpuid_words *seen)
{
    uint32_t *leaf = (uint32_t *)(void *)(b->page + PROBE_LEAVES);
    unsigned reg;

    for (unsigned i = 0; i < CPUID_WORDS; i++)
        cpuid_word_place((enum cpuid_word)i, &leaf[6 * i], &leaf[6 * i + 1], &reg);
    leaf[6 * CPUID_WORDS] = ~0u;
    errno = EIO;
    if (!probe_run(b))
        return false;
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        cpuid_word_place((enum cpuid_word)i, &leaf[6 * i], &leaf[6 * i + 1], &reg);
        seen->word[i] = leaf[6 * i + 2 + reg];
    }
    return true;
}

int kvm_probe_cpuid(const struct kvm_cpuid2 *given, struct cpuid_words *seen, struct err *e)
{
    struct probe b = { .dev = -1, .vm = -1, .cpu = -1, .page = MAP_FAILED, .run = MAP_FAILED };
    struct accel_probe p = { .kvm = ACCEL_KVM_ABSENT };
    int ret = -EIO;

    errno = 0;
    _Static_assert(PROBE_LEAVES + PROBE_LEAF_LEN * (CPUID_WORDS + 1) <= PAGE_SIZE, "one page");
    memset(seen, 0, sizeof(*seen));
    if (!probe_open(&b, &p) &&
        !probe_set_mode(&b, &p, probe_cpuid_code, sizeof(probe_cpuid_code)) &&
        ioctl(b.cpu, KVM_SET_CPUID2, given) >= 0 && probe_ask_cpuid(&b, seen))
        ret = 0;
    probe_close(&b);
    return ret ? err_set(e, EIO, "KVM does not show what its guests see of the CPU: %s",
                         strerror(errno ? errno : EIO))
               : 0;
}
