/*
 * diff.h: one instruction on the host CPU and in the interpreter, compared.
 *
 *   diff_gen.c     random instructions with operands that mostly make sense
 *   diff_host.c    (with diff_enter.S) runs a batch on the host CPU, in a child process
 *   diff_guest.c   runs one on bt, in a bare VM with the same addresses mapped
 *   diff.c         compares, minimizes, reports
 *
 * Single thread. Addresses are the same on both sides:
 *
 *   DIFF_DATA  3 pages read-write, 1 page read-only, then nothing
 *   DIFF_CODE  1 page: an instruction at DIFF_CODE + slot * DIFF_SLOT
 */
#ifndef TESTS_DIFF_H
#define TESTS_DIFF_H

#include "base/util.h"
#include "x86/regs.h"

#define DIFF_DATA 0x10000000ull
#define DIFF_CODE 0x10010000ull
enum {
    DIFF_RW = 3 * PAGE_SIZE,
    DIFF_MEM = 4 * PAGE_SIZE,
    DIFF_SLOT = 64,
    DIFF_SLOTS = PAGE_SIZE / DIFF_SLOT,
    DIFF_BATCH = 32,
    DIFF_XSAVE = 2816, /* X86_XSAVE_SIZE, rounded up to 64 */
};

struct diff_regs {
    _Alignas(64) uint8_t xsave[DIFF_XSAVE];
    uint64_t gpr[16], rflags, rip;
};

struct diff_case {
    struct diff_regs regs;
    uint8_t mem[DIFF_MEM];
    uint8_t code[16];
    unsigned len;
    unsigned slot;
    bool code32; /* compatibility mode */
};

struct diff_result {
    struct diff_regs regs;
    uint8_t mem[DIFF_RW];
    int trap; /* vector, -1: none */
    uint32_t error;
    uint64_t cr2;
};

/* --- diff_gen.c --- */
struct diff_gen;
/* code32: 0 never, 1 half of the time, 2 always. */
struct diff_gen *diff_gen_create(uint64_t seed, uint64_t xcr0, unsigned code32);
void diff_gen_destroy(struct diff_gen *g);
void diff_gen_next(struct diff_gen *g, struct diff_case *c);

/* --- diff_host.c --- */
/* XCR0 components that are compared. */
uint64_t diff_host_mask(void);
must_check int diff_host_start(void);
void diff_host_stop(void);
/* Runs n <= DIFF_BATCH cases in the child. false: the child died at case *at. */
must_check bool diff_host_run(const struct diff_case *c, struct diff_result *r, unsigned n,
                              unsigned *at);

/* --- diff_guest.c --- */
struct diff_guest;
struct diff_guest *diff_guest_create(uint64_t xcr0);
void diff_guest_destroy(struct diff_guest *g);
/* translated: by the translator, where the mode has one; else by the interpreter. */
void diff_guest_run(struct diff_guest *g, const struct diff_case *c, bool translated,
                    struct diff_result *r);

/* --- diff_program.c --- */
struct diff_program {
    uint8_t code[640];
    unsigned len, offset; /* in the code page */
    uint64_t gpr[16], rflags;
    bool cold; /* starts with an empty TLB */
    bool code32;
};
void diff_program(uint64_t seed, bool code32, struct diff_program *p);
/* Runs it to its HLT or a fault. */
void diff_guest_program(struct diff_guest *g, const struct diff_program *p, bool translated,
                        struct diff_result *r);

#endif
