/*
 * ioapic.h: I/O APIC with 24 pins. Wires may be set from any thread.
 */
#ifndef HW_IOAPIC_H
#define HW_IOAPIC_H

#include "bus/bus.h"

enum { IOAPIC_PINS = 24 };

struct ioapic;

/* Claims its page at gpa; interrupts leave by vm_msi(). */
struct ioapic *ioapic_create(struct vm *vm, uint64_t gpa, struct err *e);
struct irq ioapic_irq(struct ioapic *io, unsigned pin);
/* A local APIC ended a level-triggered vector. Any thread, no APIC lock held. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
/*
 * The message that the pin sends, as programmed; false: masked. Any thread; for tables kept outside
 * (KVM's GSI routing). changed() says when to look again: it is called with the device lock held, from
 * the thread that changed it, and may only read through ioapic_route_locked().
 */
bool ioapic_route(struct ioapic *io, unsigned pin, uint64_t *addr, uint32_t *data);
bool ioapic_route_locked(struct ioapic *io, unsigned pin, uint64_t *addr, uint32_t *data);
void ioapic_on_change(struct ioapic *io,
                      void (*changed)(void *opaque, struct ioapic *io, unsigned pin), void *opaque);

#endif
