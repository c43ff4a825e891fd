/*
 * exit.c: from an accelerator to buses, APIC and clock. See exit.h.
 */
#include "vm/exit.h"

#include "hw/lapic.h"
#include "vm/pvclock.h"
#include "vm/vm.h"
#include "x86/msr.h"

void exit_pio(struct vcpu *c, uint16_t port, unsigned size, bool write, void *data)
{
    if (write)
        bus_write(&c->vm->pio, port, size, data);
    else
        bus_read(&c->vm->pio, port, size, data);
}

/* Each processor sees its own APIC at the same address, so the bus cannot hold it. */
static bool exit_apic(struct vcpu *c, uint64_t gpa, unsigned size, bool write, void *data)
{
    uint64_t base;
    uint32_t val = 0;
    unsigned off;

    if (!c->lapic || !lapic_mmio_base(c->lapic, &base) || gpa - base >= PAGE_SIZE)
        return false;
    off = (unsigned)(gpa - base);
    if (write) {
        __builtin_memcpy(&val, data, min_u64(size, 4));
        lapic_mmio_write(c->lapic, off, val);
    } else {
        __builtin_memset(data, 0, size);
        val = lapic_mmio_read(c->lapic, off & ~3u) >> (8 * (off & 3));
        __builtin_memcpy(data, &val, min_u64(size, 4 - (off & 3)));
    }
    return true;
}

void exit_mmio(struct vcpu *c, uint64_t gpa, unsigned size, bool write, void *data)
{
    if (exit_apic(c, gpa, size, write, data))
        return;
    if (write)
        bus_write(&c->vm->mmio, gpa, size, data);
    else
        bus_read(&c->vm->mmio, gpa, size, data);
}

bool exit_msr(struct vcpu *c, uint32_t index, bool write, uint64_t *val)
{
    switch (index) {
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_OLD:
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_OLD:
        return pvclock_msr(c, index, write, val);
    default:
        break;
    }
    if (!c->lapic)
        return false;
    return write ? lapic_msr_write(c->lapic, index, *val) : lapic_msr_read(c->lapic, index, val);
}

bool exit_intr_pending(struct vcpu *c)
{
    return c->lapic && lapic_pending(c->lapic);
}

int exit_intr_ack(struct vcpu *c)
{
    if (!c->lapic) /* in-kernel APIC: only the 8259 is ours */
        return c->vm->inta ? c->vm->inta(c->vm) : -1;
    return lapic_ack(c->lapic);
}

bool exit_nmi_take(struct vcpu *c)
{
    unsigned req = atomic_load_explicit(&c->req, memory_order_relaxed), bit;

    do {
        if (!(req & VCPU_REQ_NMI))
            return false;
        bit = req & VCPU_REQ_NMI2 ? VCPU_REQ_NMI2 : VCPU_REQ_NMI;
    } while (!atomic_compare_exchange_weak(&c->req, &req, req & ~bit));
    return true;
}

uint8_t exit_tpr_get(struct vcpu *c)
{
    return lapic_tpr_get(c->lapic);
}

void exit_tpr_set(struct vcpu *c, uint8_t cr8)
{
    lapic_tpr_set(c->lapic, cr8);
}

void exit_eoi(struct vm *vm, uint8_t vector)
{
    if (vm->eoi)
        vm->eoi(vm, vector);
}
