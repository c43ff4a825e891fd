/*
 * diff.h: instructions and programs on the host CPU, in the interpreter and in the translator, compared.
 *
 *   diff_gen.c       random instructions with operands that mostly make sense
 *   diff_program.c   random programs;  diff_shrink.c: the shortest that still does it
 *   diff_host.c      (with diff_enter.S) runs a batch on the host CPU, in a child process
 *   diff_guest.c     runs one on bt, in a bare VM with the same addresses mapped
 *   diff_compare.c   what differs between two results
 *   diff_programs.c  programs on all three, and what is said about a difference
 *   diff.c           the same for single instructions; the command line
 *
 * Single thread. Addresses are the same on both sides:
 *
 *   DIFF_DATA  3 pages read-write, 1 page read-only, then nothing
 *   DIFF_CODE  2 pages: an instruction at DIFF_CODE + slot * DIFF_SLOT, a program across both
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
    DIFF_CODE_LEN = 2 * PAGE_SIZE,
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
/* code32: 0 never, 1 half of the time, 2 always. only: what is in the mnemonic's name, or NULL. */
struct diff_gen *diff_gen_create(uint64_t seed, uint64_t xcr0, unsigned code32, const char *only);
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
enum { DIFF_ITEMS = 32, DIFF_ITEM_BYTES = 40, DIFF_PROGRAM_BYTES = DIFF_ITEMS * DIFF_ITEM_BYTES };
/* What a field of an item is filled with when the program is laid out: */
enum diff_fix {
    DIFF_FIX_NONE,
    DIFF_FIX_REL8, /* the way to item `to`, */
    DIFF_FIX_REL32,
    DIFF_FIX_ABS32, /* its address, */
    DIFF_FIX_PATCH, /* or that of its byte that may be overwritten */
};

/* Instructions that belong together. */
struct diff_item {
    uint8_t bytes[DIFF_ITEM_BYTES + 24];
    uint8_t len;
    enum diff_fix fix;
    uint8_t fix_at; /* offset of the field */
    uint8_t to;
    uint8_t
        patch; /* 1 + offset of a byte that others may overwrite by base | (n & mask); 0: none */
    uint8_t patch_base, patch_mask;
    bool dropped;
};

struct diff_program {
    uint64_t seed;
    struct diff_item item[DIFF_ITEMS];
    unsigned items;
    struct diff_regs regs;
    uint8_t loop[4]; /* what counters start with */
    unsigned loops;
    unsigned offset; /* in the code page */
    bool cold;       /* starts with an empty TLB */
    bool code32;
    bool plain; /* memory is zero but for the counters */
    bool host;  /* the host may run it */
    /* as laid out: */
    uint8_t code[DIFF_PROGRAM_BYTES];
    unsigned len;
};
void diff_program(uint64_t seed, bool code32, struct diff_program *p);
/* code and len from the items. */
void diff_program_lay_out(struct diff_program *p);
/* The data pages that it starts with. */
void diff_program_memory(const struct diff_program *p, uint8_t *mem);

/* --- both sides --- */
/* Run it to its HLT or another fault, or until it takes too long (trap DIFF_TIMEOUT). */
enum { DIFF_TIMEOUT = 2000, DIFF_TIMEOUT_MS = 500 };
void diff_guest_program(struct diff_guest *g, const struct diff_program *p, bool translated,
                        struct diff_result *r);
/* false: the child died. */
must_check bool diff_host_program(const struct diff_program *p, struct diff_result *r);

/* --- diff_compare.c --- */
struct diff_insn {
    const uint8_t *code; /* the instruction that was at work; NULL: unknown */
    unsigned len;
    bool code32;
};
struct diff_compare {
    uint64_t mask; /* of XCR0 */
    bool quiet;
    const char *one, *other; /* what the sides are called */
};
void diff_disassemble(const struct diff_insn *insn, uint64_t rip, char *text, size_t len);
/*
 * Reports what differs (unless quiet); true: something does. Normalizes both. host: r is the host's: what
 * processors do each in their own way is left out.
 */
bool diff_compare(const struct diff_compare *d, const struct diff_insn *insn, struct diff_result *r,
                  struct diff_result *b);
extern const char *const diff_gpr_name[16];

/* --- diff_shrink.c --- */
/* Does the program still show the difference? */
typedef bool (*diff_shows_fn)(void *ctx, const struct diff_program *p);
/* Takes out and simplifies what the difference does not need. shows(p) holds before and after. */
void diff_shrink(struct diff_program *p, diff_shows_fn shows, void *ctx);

/* --- diff_programs.c --- */
/*
 * Runs the programs of seeds from..from + count - 1 on interpreter, translator and host; shows the first
 * differences, shrunk. Returns how many there were.
 */
unsigned diff_programs(struct diff_guest *g, uint64_t mask, uint64_t from, unsigned long count,
                       unsigned code32);

#endif
