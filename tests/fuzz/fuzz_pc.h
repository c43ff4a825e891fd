/*
 * fuzz_pc.h: the whole `pc` machine with firmware, flash and VGA for fuzz targets: 2 processors of accelerator
 * bt that nobody runs, a clock that is moved by hand, a network that reaches nobody. Single thread.
 */
#ifndef TESTS_FUZZ_FUZZ_PC_H
#define TESTS_FUZZ_FUZZ_PC_H

#include "vm/vm.h"

enum { FUZZ_PC_RAM = 2 * MIB, FUZZ_PC_IMAGE = 64 * KIB, FUZZ_PC_FLASH_LEN = 16 * KIB };
#define FUZZ_PC_FLASH 0xffc00000ull
#define FUZZ_PC_VRAM  0xd0000000ull

struct fuzz_pc {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region flash;
    struct bt_cpu *stepper[2];
    struct x86_state regs;
};

void fuzz_pc_create(struct fuzz_pc *pc);
/* Back to power-on, with addresses for the BARs of the first functions and decoding enabled. */
void fuzz_pc_reset(struct fuzz_pc *pc);
/* Handles what the machine has posted to its loop. */
void fuzz_pc_poll(struct fuzz_pc *pc);

/* A processor runs one instruction, or delivers what is pending, or stays where it is. */
void fuzz_pc_step(struct fuzz_pc *pc, unsigned cpu);

#endif
