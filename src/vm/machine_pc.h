/*
 * machine_pc.h: the `pc` machine: i440FX/PIIX3 layout. machine_pc.c is the only file with addresses and
 * irq numbers.
 */
#ifndef VM_MACHINE_PC_H
#define VM_MACHINE_PC_H

#include "vm/vm.h"

/* RAM, chips, buses, devices and boot payload of vm->cfg. */
must_check int machine_pc_create(struct vm *vm, struct err *e);
/* Puts kernel, tables and the BSP's registers in place; after creation and after every reset. */
must_check int machine_pc_boot(struct vm *vm, struct err *e);
void machine_pc_destroy(struct vm *vm); /* what is not a device: RAM regions, backends */
/* The host presses the power button. Loop thread. */
void machine_pc_power_button(struct vm *vm);

#endif
