/*
 * kvm.c: the virtual machine: capabilities, memory slots, dirty log, ioeventfd. See kvm.h.
 * Not used: nested virtualization, SMM, Hyper-V and Xen interfaces, in-kernel PIC, IOAPIC and PIT.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/log.h"

/* Intel CPUs without unrestricted guest need four pages that the guest must leave alone. */
#define KVM_IDENTITY_MAP_GPA 0xfeffc000u
#define KVM_TSS_GPA          0xfeffd000u

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    int ret = ioctl(fd, request, arg);

    return ret < 0 ? -errno : ret;
}

int kvm_ioctl_num(int fd, unsigned long request, unsigned long arg)
{
    int ret = ioctl(fd, request, arg);

    return ret < 0 ? -errno : ret;
}

static int kvm_open(struct kvm_vm *k, struct err *e)
{
    int version;

    k->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (k->dev_fd < 0 && (errno == EACCES || errno == EPERM))
        return err_set(e, errno, "no permission for /dev/kvm: %s, or use --accel bt",
                       accel_kvm_permission());
    if (k->dev_fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
        return err_set(
            e, ENOENT,
            "this host has no KVM (/dev/kvm is missing): enable VT-x or AMD-V in the firmware "
            "and load kvm_intel or kvm_amd, or use --accel bt");
    if (k->dev_fd < 0)
        return err_set(e, errno, "cannot open /dev/kvm: %s; use --accel bt", strerror(errno));
    version = kvm_ioctl_num(k->dev_fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return err_set(e, ENOTSUP, "/dev/kvm speaks version %d of its interface, not %d", version,
                       KVM_API_VERSION);
    return 0;
}

static int kvm_cap(const struct kvm_vm *k, unsigned long cap)
{
    int ret = kvm_ioctl_num(k->fd, KVM_CHECK_EXTENSION, cap);

    return ret < 0 ? 0 : ret;
}

/* Those without which there is no sense in trying. */
static int kvm_require_caps(struct kvm_vm *k, struct err *e)
{
    static const struct {
        unsigned long cap;
        const char *name;
    } required[] = {
        { KVM_CAP_SPLIT_IRQCHIP, "split irqchip" },   { KVM_CAP_SIGNAL_MSI, "signal MSI" },
        { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" }, { KVM_CAP_IRQ_ROUTING, "irq routing" },
        { KVM_CAP_SET_TSS_ADDR, "TSS address" },      { KVM_CAP_XSAVE, "XSAVE" },
        { KVM_CAP_VCPU_EVENTS, "vCPU events" },       { KVM_CAP_MP_STATE, "MP state" },
        { KVM_CAP_USER_MEMORY, "user memory" },       { KVM_CAP_EXT_CPUID, "CPUID" },
        { KVM_CAP_DEBUGREGS, "debug registers" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(required); i++)
        if (!kvm_cap(k, required[i].cap))
            return err_set(e, ENOTSUP,
                           "the KVM of this host's kernel is too old (it has no %s): use a kernel "
                           "from 4.11 on, or --accel bt",
                           required[i].name);
    return 0;
}

int kvm_enable(int fd, uint32_t cap, uint64_t arg)
{
    struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

    return kvm_ioctl(fd, KVM_ENABLE_CAP, &c);
}

static int kvm_setup(struct kvm_vm *k, struct err *e)
{
    uint64_t identity = KVM_IDENTITY_MAP_GPA;
    int ret = kvm_ioctl(k->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);

    if (!ret)
        ret = kvm_ioctl_num(k->fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA);
    if (!ret)
        ret = kvm_enable(k->fd, KVM_CAP_SPLIT_IRQCHIP, KVM_EOI_ROUTES);
    if (ret)
        return err_set(e, -ret, "KVM cannot set up a virtual machine: %s", strerror(-ret));
    k->caps = (struct kvm_caps){
        .guest_debug = kvm_cap(k, KVM_CAP_SET_GUEST_DEBUG),
        .block_irqs = kvm_cap(k, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ,
        .readonly_mem = kvm_cap(k, KVM_CAP_READONLY_MEM),
        .xcrs = kvm_cap(k, KVM_CAP_XCRS),
        .tsc_deadline = kvm_cap(k, KVM_CAP_TSC_DEADLINE_TIMER),
        .pvm = access("/sys/module/kvm_pvm", F_OK) == 0, /* kvm_clock.c, kvm_cpuid.c */
        .kvmclock_ctrl = kvm_cap(k, KVM_CAP_KVMCLOCK_CTRL),
        .max_vcpus = kvm_cap(k, KVM_CAP_MAX_VCPUS),
        .nr_slots = kvm_cap(k, KVM_CAP_NR_MEMSLOTS),
    };
    /* Without them KVM answers with #GP and #UD itself, or stops at privileged code only. */
    k->caps.user_msr = kvm_cap(k, KVM_CAP_X86_USER_SPACE_MSR) &&
                       !kvm_enable(k->fd, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
    k->caps.emulation_exit = kvm_cap(k, KVM_CAP_EXIT_ON_EMULATION_FAILURE) &&
                             !kvm_enable(k->fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
    /* AMD's oldest counters are there whatever CPUID says, and not in struct x86_state. */
    kvm_enable(k->fd, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
    return 0;
}

static void kvm_vm_free(struct kvm_vm *k)
{
    util_close(&k->fd);
    util_close(&k->dev_fd);
    free(k->supported);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

static int kvm_vm_init(struct vm *vm, struct err *e)
{
    struct kvm_vm *k = calloc(1, sizeof(*k));
    int ret;

    if (!k)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&k->lock, NULL);
    k->fd = k->dev_fd = -1;
    ret = kvm_open(k, e);
    if (ret)
        goto fail;
    do /* the kernel may be interrupted while it allocates */
        k->fd = kvm_ioctl_num(k->dev_fd, KVM_CREATE_VM, 0);
    while (k->fd == -EINTR);
    if (k->fd < 0) {
        ret = err_set(e, -k->fd, "KVM cannot create a virtual machine: %s", strerror(-k->fd));
        k->fd = -1;
        goto fail;
    }
    k->run_size = (size_t)kvm_ioctl_num(k->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    ret = kvm_require_caps(k, e);
    if (!ret)
        ret = kvm_setup(k, e);
    if (!ret)
        ret = kvm_cpuid_learn(k, e);
    if (!ret)
        ret = kvm_cpu_signal_init(e);
    if (ret)
        goto fail;
    if (k->caps.pvm)
        log_warn("kvm",
                 "this KVM has no hardware underneath and emulates the guest's kernel: a Linux "
                 "does not get to its end; --accel bt is hundreds of times faster here");
    kvm_irq_init(k);
    vm->accel_data = k;
    return 0;
fail:
    kvm_vm_free(k);
    return ret;
}

static void kvm_vm_fini(struct vm *vm)
{
    if (vm->accel_data)
        kvm_vm_free(vm->accel_data);
    vm->accel_data = NULL;
}

static struct kvm_slot *kvm_slot_find(struct kvm_vm *k, const struct ram_region *r)
{
    for (unsigned i = 0; i < KVM_MAX_SLOTS; i++)
        if (k->slot[i].region == r)
            return &k->slot[i];
    return NULL;
}

static int kvm_slot_set(struct kvm_vm *k, struct kvm_slot *s, bool log, bool remove)
{
    struct kvm_userspace_memory_region m = {
        .slot = (uint32_t)(s - k->slot),
        .flags = (log ? KVM_MEM_LOG_DIRTY_PAGES : 0) | (s->readonly ? KVM_MEM_READONLY : 0),
        .guest_phys_addr = s->gpa,
        .memory_size = remove ? 0 : s->len,
        .userspace_addr = (uintptr_t)s->hva,
    };

    return kvm_ioctl(k->fd, KVM_SET_USER_MEMORY_REGION, &m);
}

/* ORs the kernel's log of a slot into the region's own, which devices' writes are in; it is empty then. */
static int kvm_dirty_gather(struct kvm_vm *k, const struct kvm_slot *s, struct ram_region *r)
{
    size_t words = bitmap_words(r->len >> PAGE_SHIFT);
    uint64_t *bits = calloc(words, sizeof(*bits));
    struct kvm_dirty_log log = { .slot = (uint32_t)(s - k->slot), .dirty_bitmap = bits };
    int ret = bits ? kvm_ioctl(k->fd, KVM_GET_DIRTY_LOG, &log) : -ENOMEM;

    for (size_t i = 0; !ret && i < words; i++)
        __atomic_fetch_or(&r->dirty[i], bits[i], __ATOMIC_ACQ_REL);
    free(bits);
    return ret;
}

/* The kernel's log goes with the slot, so what it has is kept: all pages, if it cannot be told. */
static void kvm_ram_unmap(struct vm *vm, struct ram_region *r)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_slot *s = kvm_slot_find(k, r);

    if (!s)
        return;
    if (r->dirty && s->logged && kvm_dirty_gather(k, s, r))
        for (uint64_t page = 0; page < r->len >> PAGE_SHIFT; page++)
            bitmap_set_atomic(r->dirty, page);
    kvm_slot_set(k, s, false, true);
    *s = (struct kvm_slot){ 0 };
}

/* KVM changes the dirty-log flag of a slot in place; anything else is a new slot. */
static int kvm_ram_map(struct vm *vm, struct ram_region *r)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_slot *s = kvm_slot_find(k, r);
    int ret;

    if (r->readonly && !k->caps.readonly_mem)
        return -ENOTSUP;
    if (s &&
        (s->gpa != r->gpa || s->len != r->len || s->hva != r->hva || s->readonly != r->readonly)) {
        kvm_ram_unmap(vm, r);
        s = NULL;
    }
    if (!s)
        s = kvm_slot_find(k, NULL);
    if (!s)
        return -ENOSPC;
    *s = (struct kvm_slot){ r, r->gpa, r->len, r->hva, r->readonly, r->dirty };
    ret = kvm_slot_set(k, s, s->logged, false);
    if (ret)
        *s = (struct kvm_slot){ 0 };
    return ret;
}

/* What vCPUs wrote (the kernel's log) and what devices wrote (the region's own bitmap). */
static int kvm_dirty_fetch(struct vm *vm, struct ram_region *r, uint64_t *bits)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_slot *s = kvm_slot_find(k, r);
    struct kvm_dirty_log log = { .dirty_bitmap = bits };
    int ret;

    if (!r->dirty || (s && !s->logged))
        return -EINVAL;
    memset(bits, 0, bitmap_words(r->len >> PAGE_SHIFT) * sizeof(*bits));
    if (s) {
        log.slot = (uint32_t)(s - k->slot);
        ret = kvm_ioctl(k->fd, KVM_GET_DIRTY_LOG, &log);
        if (ret < 0)
            return ret;
    }
    for (size_t i = 0; i < bitmap_words(r->len >> PAGE_SHIFT); i++)
        bits[i] |= __atomic_exchange_n(&r->dirty[i], 0, __ATOMIC_ACQ_REL);
    return 0;
}

static int kvm_doorbell(struct vm *vm, uint64_t gpa, unsigned size, int eventfd, bool on)
{
    struct kvm_ioeventfd io = {
        .addr = gpa,
        .len = size,
        .fd = eventfd,
        .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
    };

    return kvm_ioctl(kvm_of(vm)->fd, KVM_IOEVENTFD, &io);
}

const struct accel_ops accel_kvm = {
    .name = "kvm",
    .irqchip = &kvm_irqchip,
    .limits = kvm_cpuid_limits,
    .vm_init = kvm_vm_init,
    .vm_fini = kvm_vm_fini,
    .vcpu_init = kvm_cpu_init,
    .vcpu_fini = kvm_cpu_fini,
    .run = kvm_cpu_run,
    .kick = kvm_cpu_kick,
    .get_state = kvm_state_get,
    .set_state = kvm_state_set,
    .ram_map = kvm_ram_map,
    .ram_unmap = kvm_ram_unmap,
    .dirty_fetch = kvm_dirty_fetch,
    .doorbell = kvm_doorbell,
    .set_debug = kvm_debug_set,
    .debug_int3 = kvm_debug_int3,
};
