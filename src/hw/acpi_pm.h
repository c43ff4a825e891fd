/*
 * acpi_pm.h: ACPI fixed hardware: PM1 events and control, PM timer, a GPE block without events.
 */
#ifndef HW_ACPI_PM_H
#define HW_ACPI_PM_H

#include "bus/bus.h"

enum { ACPI_PM_EVT = 0, ACPI_PM_CNT = 4, ACPI_PM_TMR = 8, ACPI_PM_GPE_LEN = 4 };

struct acpi_pm;

/*
 * Registers at base + ACPI_PM_*, GPE0 status and enable at gpe0. Sleep type s5_type powers the VM off.
 */
struct acpi_pm *acpi_pm_create(struct vm *vm, uint16_t base, uint16_t gpe0, uint8_t s5_type,
                               struct irq sci, struct err *e);
void acpi_pm_press_power(struct acpi_pm *pm); /* any thread */

#endif
