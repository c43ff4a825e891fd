/*
 * lapic_route.c: who gets an interrupt message (SDM 3A 11.6.2 destinations, 11.11 MSI format), and
 * lapic_irqchip. Locking: no APIC's lock is held on entry; each target's own is taken in turn.
 */
#include "hw/lapic_impl.h"

#include "x86/msr.h"

struct lapic_msg {
    uint32_t dest;
    bool broadcast, logical;
    bool level, assert;
    uint8_t mode, vector;
};
enum { LAPIC_TO_DEST, LAPIC_TO_SELF, LAPIC_TO_ALL, LAPIC_TO_OTHERS }; /* ICR shorthand */

static bool lapic_match_logical(struct lapic *l, uint32_t dest)
{
    uint32_t ldr, dfr, id = l->vcpu->apic_id;
    bool x2apic;

    lapic_lock(l);
    ldr = *lapic_reg(l, APIC_LDR) >> 24;
    dfr = *lapic_reg(l, APIC_DFR) >> 28;
    x2apic = lapic_x2apic(l);
    lapic_unlock(l);
    if (x2apic)
        return dest >> 16 == id >> 4 && (dest & BIT(id & 0xf));
    if (dfr == 0xf)
        return (dest & 0xff & ldr) != 0;
    return (dest >> 4 & 0xf) == ldr >> 4 && (dest & ldr & 0xf);
}

static bool lapic_match(struct lapic *l, const struct lapic_msg *m)
{
    if (m->broadcast)
        return true;
    return m->logical ? lapic_match_logical(l, m->dest) : l->vcpu->apic_id == m->dest;
}

static void lapic_accept(struct lapic *l, const struct lapic_msg *m)
{
    switch (m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        lapic_lock(l);
        lapic_set_irr(l, m->vector, m->level);
        lapic_unlock(l);
        break;
    case APIC_EXTINT:
        lapic_lock(l);
        l->extint = lapic_sw_enabled(l);
        lapic_unlock(l);
        break;
    case APIC_NMI:
        vcpu_request(l->vcpu, VCPU_REQ_NMI);
        break;
    case APIC_INIT:
        if (!m->level || m->assert) /* "INIT level de-assert" only means something to a Pentium */
            vcpu_request(l->vcpu, VCPU_REQ_INIT);
        break;
    case APIC_SIPI:
        atomic_store(&l->vcpu->sipi_vector, m->vector);
        vcpu_request(l->vcpu, VCPU_REQ_SIPI);
        break;
    default: /* SMI: there is no system management mode */
        break;
    }
}

/* Lower is better; UINT32_MAX: does not take part. */
static uint32_t lapic_arbitrate(struct lapic *l)
{
    uint32_t ppr;

    lapic_lock(l);
    ppr = lapic_sw_enabled(l) ? *lapic_reg(l, APIC_PPR) : UINT32_MAX;
    lapic_unlock(l);
    return ppr;
}

/* The least busy of the addressed processors; among equals the vector decides, so caches stay warm. */
static void lapic_deliver_lowest(struct vm *vm, const struct lapic_msg *m)
{
    struct lapic *best = NULL;
    uint32_t best_ppr = UINT32_MAX;

    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct lapic *l = vm->vcpu[(i + m->vector) % vm->nvcpus]->lapic;
        uint32_t ppr = lapic_match(l, m) ? lapic_arbitrate(l) : UINT32_MAX;

        if (ppr < best_ppr) {
            best = l;
            best_ppr = ppr;
        }
    }
    if (best)
        lapic_accept(best, m);
}

/* except: the sender of an IPI to all but itself, or NULL. */
static void lapic_deliver(struct vm *vm, const struct lapic_msg *m, const struct lapic *except)
{
    if (m->mode == APIC_LOWEST && !except) {
        lapic_deliver_lowest(vm, m);
        return;
    }
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct lapic *l = vm->vcpu[i]->lapic;

        if (l != except && lapic_match(l, m))
            lapic_accept(l, m);
    }
}

void lapic_send_ipi(struct lapic *l, uint64_t icr)
{
    unsigned shorthand = (unsigned)(icr >> 18 & 3);
    uint32_t all = l->base & APIC_BASE_X2APIC ? UINT32_MAX : 0xff;
    struct lapic_msg m = {
        .dest = (uint32_t)(icr >> 32),
        .logical = icr & BIT(11),
        .assert = icr & BIT(14),
        .level = icr & BIT(15),
        .mode = (uint8_t)(icr >> 8 & 7),
        .vector = (uint8_t)icr,
    };

    if (m.mode == APIC_FIXED || m.mode == APIC_LOWEST) {
        m.level = false; /* only INIT knows levels; an IPI never asks for an EOI broadcast */
        if (m.vector < 16) {
            lapic_lock(l);
            lapic_error(l, APIC_ESR_SEND_VECTOR);
            lapic_unlock(l);
        }
    }
    m.broadcast = m.dest == all || shorthand != LAPIC_TO_DEST;
    if (shorthand == LAPIC_TO_SELF)
        lapic_accept(l, &m);
    else
        lapic_deliver(l->vcpu->vm, &m, shorthand == LAPIC_TO_OTHERS ? l : NULL);
}

/* Address: 0xfee, destination 19:12 (bits 14:8 of it in 11:5), DM in 2. Data: trigger, level, mode, vector. */
static void lapic_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
    uint32_t dest = (uint32_t)(addr >> 12 & 0xff), high = (uint32_t)(addr >> 5 & 0x7f);
    struct lapic_msg m = {
        .dest = high << 8 | dest,
        .broadcast = dest == 0xff && !high,
        .logical = addr & BIT(2),
        .level = data & BIT(15),
        .assert = data & BIT(14),
        .mode = (uint8_t)(data >> 8 & 7),
        .vector = (uint8_t)data,
    };

    if ((addr & 0xfff00000) != APIC_DEFAULT_GPA)
        return; /* a write to nowhere: the guest programmed no interrupt */
    lapic_deliver(vm, &m, NULL);
}

static void lapic_intr(struct vm *vm, bool level)
{
    struct lapic *l = vm->nvcpus ? vm->vcpu[0]->lapic : NULL;

    if (!l)
        return;
    lapic_lock(l);
    if (level && !l->intr && lapic_hw_enabled(l))
        lapic_lvt_fire(l, APIC_LVT_LINT0);
    l->intr = level;
    lapic_unlock(l);
}

/* The NMI pin is LINT1. */
static void lapic_nmi(struct vm *vm, struct vcpu *c)
{
    struct lapic *l = c->lapic;

    (void)vm;
    lapic_lock(l);
    if (lapic_hw_enabled(l))
        lapic_lvt_fire(l, APIC_LVT_LINT1);
    else
        vcpu_request(c, VCPU_REQ_NMI);
    lapic_unlock(l);
}

const struct irqchip_ops lapic_irqchip = {
    .msi = lapic_msi,
    .intr = lapic_intr,
    .nmi = lapic_nmi,
};
