/*
 * hpet.h: high precision event timer, three comparators. The legacy wires may be set from any thread.
 */
#ifndef HW_HPET_H
#define HW_HPET_H

#include "bus/bus.h"

enum { HPET_GSIS = 24, HPET_LEGACY_PIT = 0, HPET_LEGACY_RTC = 1 };
#define HPET_ID 0x8086a201u /* event timer block id, for the ACPI table */

struct hpet;

/*
 * Claims its block at gpa. gsi: the I/O APIC's pins. legacy[HPET_LEGACY_*]: where the PIT's and the RTC's
 * interrupts go; both pass through the HPET, which takes them over in legacy replacement mode.
 */
struct hpet *hpet_create(struct vm *vm, uint64_t gpa, const struct irq gsi[HPET_GSIS],
                         const struct irq legacy[2], struct err *e);
/* What the PIT (the RTC) drives instead of its wire. */
struct irq hpet_legacy_irq(struct hpet *h, unsigned which);

#endif
