/*
 * bt_hypercall.c: VMCALL with KVM's numbers (Linux, Documentation/virt/kvm/x86/hypercalls.rst), as far as
 * the CPUID leaves promise them.
 */
#include "accel/bt/bt_sysops.h"

enum {
    HC_VAPIC_POLL_IRQ = 1,
    HC_SEND_IPI = 10,
    HC_EPERM = 1,
    HC_EINVAL = 22,
    HC_ENOSYS = 1000,
    ICR_DELIVERY = 0x47ff, /* vector, mode, assert: the same bits as in an MSI's data */
    ICR_SHORTHAND = 3 << 18,
    MSI_DEST_SHIFT = 12,
    MSI_DEST_MAX = 255,
};
#define MSI_ADDRESS 0xfee00000u

/* One IPI to each of the APICs min + n whose bit n is set; how many there were. */
static uint64_t hypercall_ipi_map(struct bt_cpu *c, uint64_t map, uint64_t min, uint32_t data)
{
    uint64_t count = 0;

    for (; map; map &= map - 1) {
        uint64_t id = min + (unsigned)__builtin_ctzll(map);

        for (unsigned i = 0; i < c->vm->nvcpus; i++) {
            if (c->vm->vcpu[i]->apic_id != id || id >= MSI_DEST_MAX)
                continue;
            c->vm->irqchip->msi(c->vm, MSI_ADDRESS | (uint32_t)id << MSI_DEST_SHIFT, data);
            count++;
        }
    }
    return count;
}

/* RBX, RCX: bitmap; RDX: the APIC id of its first bit; RSI: ICR. */
static uint64_t hypercall_send_ipi(struct bt_cpu *c, unsigned width)
{
    uint64_t icr = bt_gpr_get(c, X86_RSI, width), min = (uint32_t)c->s.gpr[X86_RDX];
    uint32_t data = (uint32_t)icr & ICR_DELIVERY;

    if (!c->vm->irqchip)
        return 0 - (uint64_t)HC_ENOSYS;
    if (icr >> 32 || (icr & ICR_SHORTHAND))
        return 0 - (uint64_t)HC_EINVAL;
    return hypercall_ipi_map(c, bt_gpr_get(c, X86_RBX, width), min, data) +
           hypercall_ipi_map(c, bt_gpr_get(c, X86_RCX, width), min + 8 * width, data);
}

int bt_op_vmcall(struct bt_cpu *c, const struct bt_insn *in)
{
    unsigned width = c->code_size == 8 ? 8 : 4;
    uint64_t ret;

    if (!bt_has(c, BT_HAS_KVM))
        return bt_sys_ud(c, in);
    bt_fpu_store(c);
    if (c->cpl)
        ret = 0 - (uint64_t)HC_EPERM;
    else if (bt_gpr_get(c, X86_RAX, width) == HC_SEND_IPI)
        ret = hypercall_send_ipi(c, width);
    else if (bt_gpr_get(c, X86_RAX, width) == HC_VAPIC_POLL_IRQ)
        ret = 0;
    else
        ret = 0 - (uint64_t)HC_ENOSYS;
    bt_gpr_set(c, X86_RAX, width, ret);
    return BT_NEXT;
}
