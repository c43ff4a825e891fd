/*
 * kvm_cpu.c: a vCPU under KVM: KVM_RUN and what it returns with.
 *
 * A kick sets immediate_exit and sends a signal, so that it is seen whether the thread is inside KVM_RUN or
 * on its way there. KVM finishes an I/O instruction at the next KVM_RUN, also when that one only returns
 * EINTR; RUN_KICKED is returned after EINTR alone, so that the registers are whole then.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/exit.h"

static void kvm_cpu_on_signal(int sig)
{
    (void)sig; /* its arrival is all there is to it */
}

static int kvm_cpu_signal(void)
{
    return SIGRTMIN + 4;
}

int kvm_cpu_signal_init(struct err *e)
{
    struct sigaction sa = { .sa_handler = kvm_cpu_on_signal };

    if (sigaction(kvm_cpu_signal(), &sa, NULL))
        return err_set(e, errno, "cannot set up the kick signal: %s", strerror(errno));
    return 0;
}

int kvm_cpu_init(struct vcpu *c, struct err *e)
{
    struct kvm_vm *vm = kvm_of(c->vm);
    struct kvm_vcpu *k;
    int ret;

    if (posix_memalign((void **)&k, 64, sizeof(*k)))
        return err_set(e, ENOMEM, "out of memory");
    memset(k, 0, sizeof(*k));
    k->run = MAP_FAILED;
    k->pic_vector = -1;
    c->accel = k;
    k->fd = kvm_ioctl_num(vm->fd, KVM_CREATE_VCPU, c->apic_id);
    if (k->fd < 0) {
        ret = err_set(e, -k->fd, "KVM cannot create vCPU %u (it allows %d): %s", c->index,
                      vm->caps.max_vcpus, strerror(-k->fd));
        goto fail;
    }
    k->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
    if (k->run == MAP_FAILED) {
        ret = err_set(e, errno, "cannot map the state of vCPU %u: %s", c->index, strerror(errno));
        goto fail;
    }
    ret = kvm_cpuid_set(c, e);
    if (ret)
        goto fail;
    /* What CPUID does not offer is #GP: its state would not be saved. Kernels before 5.10 cannot. */
    kvm_enable(k->fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
    return 0;
fail:
    kvm_cpu_fini(c);
    return ret;
}

void kvm_cpu_fini(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);

    if (!k)
        return;
    kvm_step_fini(k);
    if (k->run != MAP_FAILED)
        munmap(k->run, kvm_of(c->vm)->run_size);
    util_close(&k->fd);
    free(k);
    c->accel = NULL;
}

void kvm_cpu_kick(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    int tid;

    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    tid = atomic_load(&k->tid);
    if (tid)
        syscall(SYS_tgkill, getpid(), tid, kvm_cpu_signal());
}

/* First run on this thread: where kicks go, and that they arrive. */
static void kvm_cpu_adopt_thread(struct kvm_vcpu *k)
{
    int tid = (int)syscall(SYS_gettid);
    sigset_t set;

    if (atomic_load(&k->tid) == tid)
        return;
    sigemptyset(&set);
    sigaddset(&set, kvm_cpu_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    atomic_store(&k->tid, tid);
}

static void kvm_cpu_pio(struct vcpu *c, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    /* count > 1: a string instruction, whose elements KVM has gathered or expects in a row */
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
        exit_pio(c, run->io.port, run->io.size, run->io.direction == KVM_EXIT_IO_OUT, data);
}

static void kvm_cpu_mmio(struct vcpu *c, struct kvm_run *run)
{
    exit_mmio(c, run->mmio.phys_addr, run->mmio.len, run->mmio.is_write, run->mmio.data);
}

static void kvm_cpu_msr(struct vcpu *c, struct kvm_run *run)
{
    bool write = run->exit_reason == KVM_EXIT_X86_WRMSR;
    uint64_t val = run->msr.data;

    run->msr.error = !exit_msr(c, run->msr.index, write, &val);
    if (!write)
        run->msr.data = val;
}

static enum run_exit kvm_cpu_error(struct vcpu *c, const char *what, uint64_t code)
{
    snprintf(c->reason, sizeof(c->reason), "KVM stopped: %s (%#llx)", what,
             (unsigned long long)code);
    return RUN_ERROR;
}

static enum run_exit kvm_cpu_internal_error(struct vcpu *c, struct kvm_run *run)
{
    switch (run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return kvm_step(c);
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return kvm_cpu_error(c, "an event hit an unexpected exit during its delivery",
                             run->internal.ndata > 1 ? run->internal.data[1] : 0);
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return kvm_cpu_error(c, "unexpected exit of the CPU",
                             run->internal.ndata ? run->internal.data[0] : 0);
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return kvm_cpu_error(c, "one exception during another that KVM cannot put together",
                             run->internal.ndata ? run->internal.data[0] : 0);
    default:
        return kvm_cpu_error(c, "internal error", run->internal.suberror);
    }
}

/* RUN_KICKED: handled, go on; everything else leaves accel->run with it. */
static enum run_exit kvm_cpu_exit(struct vcpu *c, struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        kvm_cpu_pio(c, run);
        return RUN_KICKED;
    case KVM_EXIT_MMIO:
        kvm_cpu_mmio(c, run);
        return RUN_KICKED;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kvm_cpu_msr(c, run);
        return RUN_KICKED;
    case KVM_EXIT_IOAPIC_EOI:
        exit_eoi(c->vm, run->eoi.vector);
        return RUN_KICKED;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
        return RUN_KICKED;
    case KVM_EXIT_HLT:
        return RUN_HALT;
    case KVM_EXIT_SHUTDOWN:
        return RUN_SHUTDOWN;
    case KVM_EXIT_DEBUG:
        return kvm_debug_exit(c, run);
    case KVM_EXIT_INTERNAL_ERROR:
        return kvm_cpu_internal_error(c, run);
    case KVM_EXIT_FAIL_ENTRY:
        return kvm_cpu_error(c, "the CPU refused to enter the guest",
                             run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_UNKNOWN:
        return kvm_cpu_error(c, "the CPU left the guest for a reason that KVM does not know",
                             run->hw.hardware_exit_reason);
    default: /* of features that are not switched on, or of a later KVM */
        return kvm_cpu_error(c, "it left the guest for a reason that Ruche never asked for",
                             run->exit_reason);
    }
}

static enum run_exit kvm_cpu_run_failed(struct vcpu *c, int error)
{
    static const struct {
        int error;
        const char *what;
    } known[] = {
        { -EFAULT,
          "the host cannot give it a page of the guest's memory (is the host out of memory, "
          "or the file behind it cut off?)" },
        { -EHWPOISON,
          "a page of the guest's memory is broken (the host reported a machine check)" },
        { -ENOMEM, "the host is out of memory" },
    };
    const char *what = strerror(-error);

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (known[i].error == error)
            what = known[i].what;
    snprintf(c->reason, sizeof(c->reason), "KVM cannot run the guest: %s", what);
    return RUN_ERROR;
}

enum run_exit kvm_cpu_run(struct vcpu *c)
{
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    enum run_exit why;

    kvm_cpu_adopt_thread(k);
    kvm_clock_sync(c);
    if (k->stale_pdptes && kvm_state_refresh_pdptes(k))
        return kvm_cpu_error(c, "the page directory pointers cannot be read", 0);
    do {
        int ret;

        if (c->index == 0)
            kvm_irq_inject_pic(c);
        ret = kvm_ioctl_num(k->fd, KVM_RUN, 0);
        kvm_irq_pic_ran(k, ret);
        if (ret == -EINTR || ret == -EAGAIN) {
            /* EAGAIN: it became runnable (an INIT or SIPI came in) but has not run yet */
            __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            return RUN_KICKED;
        }
        if (ret < 0)
            return kvm_cpu_run_failed(c, ret);
        why = kvm_cpu_exit(c, k->run);
    } while (why == RUN_KICKED);
    return why;
}
