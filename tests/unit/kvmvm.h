/*
 * kvmvm.h: a bare VM with 4 MiB of RAM and a few registers of its own, for tests that run a few instructions
 * under accel_kvm. Code ends by writing to the exit port.
 */
#ifndef TESTS_KVMVM_H
#define TESTS_KVMVM_H

#include "boot/boot_place.h"
#include "vm/vm.h"

enum {
    KVMVM_RAM = 4 * MIB,
    KVMVM_BOOT_AREA = 0x1000, /* for descriptors and page tables */
    KVMVM_CODE = 0x100000,
    KVMVM_IDT = 0x180000,
    KVMVM_STACK = 0x200000,
    KVMVM_PORT_ECHO = 0x510, /* reads what was written, plus one */
    KVMVM_PORT_EXIT = 0x5f4,
    KVMVM_HOLE = 0x20000000, /* MMIO */
};

struct kvmvm {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct device dev;
    struct boot_params boot;
    struct boot_place place;
    struct x86_state s;
    uint64_t last, mmio_last, mmio_off;
    unsigned writes;
    uint8_t log[64]; /* bytes written to KVMVM_PORT_ECHO */
    struct loop_timer timer;
    unsigned eois;
    uint8_t eoi_vector;
    int irqfd;
};

struct kvmvm *kvmvm_create(const struct accel_ops *accel, unsigned cpus);
void kvmvm_destroy(struct kvmvm *f);

/* Guest code: assembled with the test, between name_start and name_end; loaded at KVMVM_CODE. */
#define GUEST(name, bits, text)                                                                    \
    __asm__(".pushsection .rodata\n.code" #bits "\n.intel_syntax noprefix\n" #name                 \
            "_start:\n" text "\n" #name "_end:\n.att_syntax\n.code64\n.popsection\n");             \
    extern const char name##_start[], name##_end[];
#define LOAD(f, name) kvmvm_load(f, name##_start, name##_end)
void kvmvm_load(struct kvmvm *f, const char *start, const char *end);
/* 64-bit mode at KVMVM_CODE. */
void kvmvm_start64(struct kvmvm *f);
/* From f->s to the exit port: what was written there. */
int kvmvm_run(struct kvmvm *f);
/* A 64-bit interrupt gate to `handler`. */
void kvmvm_set_gate(struct kvmvm *f, unsigned vector, uint64_t handler);
bool kvmvm_is_emulated(void);

#endif
