/*
 * acpi_pm.h: ACPI fixed hardware: PM1 events and control, PM timer, a GPE block without events.
 */
#ifndef HW_ACPI_PM_H
#define HW_ACPI_PM_H

#include "bus/bus.h"

enum { ACPI_PM_EVT = 0, ACPI_PM_CNT = 4, ACPI_PM_TMR = 8, ACPI_PM_GPE_LEN = 4 };

struct acpi_pm;

/*
 * Registers at base + ACPI_PM_* (0: nowhere, until acpi_pm_move()), GPE0 status and enable at gpe0. Sleep type s5_type powers the VM off,
 * s3_type suspends it to RAM until the power button or an enabled RTC alarm wakes it.
 */
struct acpi_pm_sleep {
    uint8_t s3_type, s5_type;
};
struct acpi_pm *acpi_pm_create(struct vm *vm, uint16_t base, uint16_t gpe0,
                               const struct acpi_pm_sleep *sleep, struct irq sci, struct err *e);
/* The registers are at base from now on, or nowhere (0). Any thread; calls do not overlap. */
void acpi_pm_move(struct acpi_pm *pm, uint16_t base);
struct irq acpi_pm_rtc_alarm(struct acpi_pm *pm); /* a rising level is an alarm */
/* What woke the machine (PM1 status), to be told to acpi_pm_woken() after the reset of waking up. */
uint16_t acpi_pm_wake_cause(struct acpi_pm *pm);
void acpi_pm_woken(struct acpi_pm *pm, uint16_t cause);
void acpi_pm_press_power(struct acpi_pm *pm); /* any thread */

#endif
