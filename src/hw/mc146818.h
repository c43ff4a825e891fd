/*
 * mc146818.h: real-time clock and CMOS memory of a PC.
 */
#ifndef HW_MC146818_H
#define HW_MC146818_H

#include "bus/bus.h"

struct mc146818;

/* Index and data port at base. Time comes from clock_wall_ns(), in UTC. */
struct mc146818 *mc146818_create(struct vm *vm, uint16_t base, struct irq irq8, struct err *e);
/* Where an alarm that is enabled goes besides irq8: to power management. A pulse. Before the vCPUs run. */
void mc146818_set_alarm(struct mc146818 *r, struct irq alarm);
/* Tells firmware the RAM sizes in bytes, by the CMOS bytes that it reads. Before the vCPUs run. */
void mc146818_set_memory(struct mc146818 *r, uint64_t below_4g, uint64_t above_4g);
/* One byte of the battery-backed memory, not a register of the clock. vCPUs stopped. */
void mc146818_set_cmos(struct mc146818 *r, uint8_t index, uint8_t val);

#endif
