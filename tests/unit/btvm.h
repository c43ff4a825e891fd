/*
 * btvm.h: a processor of accelerator bt in a bare VM with 4 MiB of RAM, for tests that run a few bytes of
 * code. Code ends with UD2: without an IDT that is a triple fault, which leaves the registers as they are.
 */
#ifndef TESTS_BTVM_H
#define TESTS_BTVM_H

#include "accel/bt/bt.h"

enum {
    BTVM_RAM = 4 * MIB,
    BTVM_CODE = 0x10000,
    BTVM_DATA = 0x20000,
    BTVM_STACK = 0x30000, /* RSP at the start */
    BTVM_TABLES = 0x100000,
};

struct btvm {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct bt_cpu *c;
    struct x86_state s; /* what btvm_run() starts from, and where it ended */
};

struct btvm *btvm_create(void);
void btvm_destroy(struct btvm *t);
/* Flat segments, CPL 0: 64-bit code with RAM mapped one to one, 32-bit without paging, real mode. */
void btvm_mode64(struct btvm *t);
void btvm_mode32(struct btvm *t);
void btvm_mode16(struct btvm *t);
/* Puts code and a UD2 at BTVM_CODE and runs it from t->s. */
enum run_exit btvm_run(struct btvm *t, const void *code, size_t len);
/* The same from what memory holds already. */
enum run_exit btvm_go(struct btvm *t);
#define BTVM_RUN(t, ...)                                                                           \
    btvm_run(t, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

#endif
