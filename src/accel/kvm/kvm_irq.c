/*
 * kvm_irq.c: interrupts into KVM's local APICs. The IOAPIC and the 8259 are ours (split irqchip).
 *
 * KVM tells us of an EOI only for messages that are in its routing table as those of an IOAPIC: a
 * level-triggered message is entered there when it is first sent, so that any chip may send one. There are
 * more entries than IOAPIC pins; the one longest unused is replaced.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vm/exit.h"

enum {
    MSI_ADDR_DEST_SHIFT = 12,
    MSI_DATA_NMI = 4 << 8,
    MSI_DATA_LEVEL = BIT(15),
    IRQ_ROUTES = KVM_EOI_ROUTES + KVM_IRQFDS,
};
#define MSI_ADDR_BASE 0xfee00000ull

void kvm_irq_init(struct kvm_vm *k)
{
    for (unsigned i = 0; i < KVM_IRQFDS; i++)
        k->irqfd_route[i].eventfd = -1;
}

static void kvm_irq_route_entry(struct kvm_irq_routing_entry *e, uint32_t gsi,
                                const struct kvm_route *r)
{
    *e = (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = { .address_lo = (uint32_t)r->addr,
                   .address_hi = (uint32_t)(r->addr >> 32),
                   .data = r->data },
    };
}

/* The whole table, as KVM wants it. Under the lock. */
static int kvm_irq_set_routes(struct kvm_vm *k)
{
    struct kvm_irq_routing *table =
        calloc(1, sizeof(*table) + IRQ_ROUTES * sizeof(table->entries[0]));
    int ret;

    if (!table)
        return -ENOMEM;
    for (uint32_t i = 0; i < KVM_EOI_ROUTES; i++)
        if (k->eoi_route[i].used)
            kvm_irq_route_entry(&table->entries[table->nr++], i, &k->eoi_route[i]);
    for (uint32_t i = 0; i < KVM_IRQFDS; i++)
        if (k->irqfd_route[i].used)
            kvm_irq_route_entry(&table->entries[table->nr++], KVM_EOI_ROUTES + i,
                                &k->irqfd_route[i]);
    ret = kvm_ioctl(k->fd, KVM_SET_GSI_ROUTING, table);
    free(table);
    return ret;
}

static void kvm_irq_learn_level(struct kvm_vm *k, uint64_t addr, uint32_t data)
{
    struct kvm_route *oldest = &k->eoi_route[0];

    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < KVM_EOI_ROUTES; i++) {
        struct kvm_route *r = &k->eoi_route[i];

        if (r->used && r->addr == addr && r->data == data) {
            r->last_used = ++k->route_clock;
            pthread_mutex_unlock(&k->lock);
            return;
        }
        if (r->last_used < oldest->last_used)
            oldest = r;
    }
    *oldest = (struct kvm_route){ addr, data, true, -1, ++k->route_clock };
    if (kvm_irq_set_routes(k))
        log_warn("kvm", "an interrupt route cannot be set: level-triggered interrupts may stop");
    pthread_mutex_unlock(&k->lock);
}

void kvm_irq_learn_vector(struct vcpu *c, uint8_t vector)
{
    kvm_irq_learn_level(kvm_of(c->vm), MSI_ADDR_BASE | (uint64_t)c->apic_id << MSI_ADDR_DEST_SHIFT,
                        MSI_DATA_LEVEL | vector);
}

static void kvm_irq_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_msi msi = { .address_lo = (uint32_t)addr,
                           .address_hi = (uint32_t)(addr >> 32),
                           .data = data };

    if (data & MSI_DATA_LEVEL)
        kvm_irq_learn_level(k, addr, data);
    kvm_ioctl(k->fd, KVM_SIGNAL_MSI, &msi); /* an error: nobody was there to take it */
}

/* KVM_INTERRUPT is the vCPU thread's: tell it. */
static void kvm_irq_intr(struct vm *vm, bool level)
{
    struct kvm_vm *k = kvm_of(vm);

    if (atomic_exchange(&k->intr, level) != level && level && vm->nvcpus)
        vcpu_wake(vm->vcpu[0]);
}

void kvm_irq_inject_pic(struct vcpu *c)
{
    struct kvm_vm *vm = kvm_of(c->vm);
    struct kvm_vcpu *k = kvm_vcpu_of(c);
    struct kvm_interrupt intr;
    int vector;

    k->run->request_interrupt_window = 0;
    if (!atomic_load(&vm->intr))
        return;
    if (!k->run->ready_for_interrupt_injection) {
        k->run->request_interrupt_window = 1;
        return;
    }
    vector = exit_intr_ack(c);
    if (vector < 0)
        return;
    intr.irq = (uint32_t)vector;
    if (kvm_ioctl(k->fd, KVM_INTERRUPT, &intr))
        log_warn("kvm", "interrupt %d of the 8259 was refused", vector);
    else
        k->pic_vector = vector;
    /* One at a time: KVM says when the next can be taken. */
    k->run->ready_for_interrupt_injection = 0;
    k->run->request_interrupt_window = atomic_load(&vm->intr);
}

/*
 * A kick between KVM_INTERRUPT and the guest's next instruction leaves the vector inside of KVM, where no
 * ioctl shows it. It was taken if the guest ran at all, if KVM can take the next one, or if the guest
 * masked interrupts since.
 */
void kvm_irq_pic_ran(struct kvm_vcpu *k, int ret)
{
    if (ret >= 0 || k->run->ready_for_interrupt_injection || !k->run->if_flag)
        k->pic_vector = -1;
}

/* KVM_NMI would wait for the vCPU to leave KVM_RUN; a message does not. */
static void kvm_irq_nmi(struct vm *vm, struct vcpu *c)
{
    kvm_irq_msi(vm, MSI_ADDR_BASE | (uint64_t)c->apic_id << MSI_ADDR_DEST_SHIFT, MSI_DATA_NMI);
}

static struct kvm_route *kvm_irq_find_irqfd(struct kvm_vm *k, int eventfd)
{
    for (unsigned i = 0; i < KVM_IRQFDS; i++)
        if (k->irqfd_route[i].eventfd == eventfd)
            return &k->irqfd_route[i];
    return NULL;
}

static int kvm_irq_bind(struct kvm_vm *k, const struct kvm_route *r, bool on)
{
    struct kvm_irqfd fd = {
        .fd = (uint32_t)r->eventfd,
        .gsi = (uint32_t)(KVM_EOI_ROUTES + (r - k->irqfd_route)),
        .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
    };

    return kvm_ioctl(k->fd, KVM_IRQFD, &fd);
}

static int kvm_irq_irqfd_on(struct kvm_vm *k, int eventfd, uint64_t addr, uint32_t data)
{
    struct kvm_route *r = kvm_irq_find_irqfd(k, eventfd);
    bool bound = r;
    int ret;

    if (!r)
        r = kvm_irq_find_irqfd(k, -1);
    if (!r)
        return -ENOSPC;
    *r = (struct kvm_route){ addr, data, true, eventfd, 0 };
    ret = kvm_irq_set_routes(k);
    if (!ret && !bound)
        ret = kvm_irq_bind(k, r, true);
    if (ret && !bound)
        *r = (struct kvm_route){ .eventfd = -1 };
    return ret;
}

static int kvm_irq_irqfd(struct vm *vm, int eventfd, uint64_t addr, uint32_t data, bool on)
{
    struct kvm_vm *k = kvm_of(vm);
    struct kvm_route *r;
    int ret = 0;

    if (eventfd < 0 || data & MSI_DATA_LEVEL)
        return -EINVAL;
    pthread_mutex_lock(&k->lock);
    if (on) {
        ret = kvm_irq_irqfd_on(k, eventfd, addr, data);
    } else {
        r = kvm_irq_find_irqfd(k, eventfd);
        ret = r ? kvm_irq_bind(k, r, false) : -ENOENT;
        if (r)
            *r = (struct kvm_route){ .eventfd = -1 };
    }
    pthread_mutex_unlock(&k->lock);
    return ret;
}

const struct irqchip_ops kvm_irqchip = {
    .msi = kvm_irq_msi,
    .intr = kvm_irq_intr,
    .nmi = kvm_irq_nmi,
    .irqfd = kvm_irq_irqfd,
};
