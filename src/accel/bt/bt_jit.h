/*
 * bt_jit.h: the translator: hot guest code becomes host code that runs from unit to unit without C.
 *
 *   bt_jit.c         units: when, entering, links, what a write to code does to them
 *   bt_jit_slow.c    what translated code leaves to C: misses, instructions of the interpreter, exits
 *   bt_jit_decode.c  guest bytes to struct bt_jit_insn
 *   bt_jit_code32.c  what is different in 32-bit code
 *   bt_jit_x87.c     and of what the FPU has to be like
 *   bt_jit_plan.c    over a unit: which flags are needed where, which accesses share a check
 *   bt_jit_gen.c     struct bt_jit_insn to host code;  bt_jit_mem.c: its operands and the soft TLB
 *   bt_jit_flags.c   where the guest's arithmetic flags are;  bt_jit_branch.c: control flow
 *   bt_jit_thunk.c   the way in and out;  bt_jit_buf.c: the code buffer
 *   bt_emit.h        an assembler;  bt_exec.c: memory that can be executed
 *
 * A unit is a straight run of instructions in one page, with side exits. Guest and host are the same
 * architecture, so most instructions are emitted as they are, with their registers renamed and a memory
 * operand replaced by [T0]:
 *
 *   RAX..RDI R8 R9 R12 R13   the guest's, but for RSP
 *   R15                      the guest's RSP
 *   R10 R11                  scratch: T0, T1. The guest's R10, R11, R14, R15 live in struct bt_cpu
 *   R14                      soft TLB of the current mode (frame.tlb)
 *   RSP                      struct bt_cpu; nothing is pushed but flags, at [RSP - 8]
 *
 * Everything that translated code does not do itself (a TLB miss, an instruction with no translation) is
 * done by the interpreter with the registers stored, one instruction at a time, so exceptions are its own:
 * a unit changes nothing before the check that may send it there.
 *
 * User code is position independent (frame.page_lin), for it is mapped anywhere; kernel code is not.
 *
 * vCPU thread, except bt_jit_kick().
 */
#ifndef ACCEL_BT_BT_JIT_H
#define ACCEL_BT_BT_JIT_H

#include "accel/bt/bt_block.h"

enum {
    BT_JIT_T0 = X86_R10,
    BT_JIT_T1 = X86_R11,
    BT_JIT_TLB = X86_R14,
    BT_JIT_RSP = X86_R15,    /* holds the guest's RSP */
    BT_JIT_HOT = 12,         /* executions of a block before it is translated */
    BT_JIT_BELOW = 64 * KIB, /* of struct bt_cpu: host signals are delivered on it */
    BT_JIT_JC_BITS = 16,
};

enum { BT_JIT_STACK_NEAR = 8, BT_JIT_STACK_WIDE = 128 };

/* Right below struct bt_cpu, within the red zone of [RSP]. */
struct bt_jit_frame {
    /*
     * The page of the stack: accesses near RSP look here before they look into the soft TLB. Spans: offsets in
     * it from which on they do not, for up to BT_JIT_STACK_NEAR bytes and for any group; 0: nothing is known.
     */
    uint64_t stack_lin, stack_hva, stack_span[2];
    _Atomic(uint64_t) safe; /* address that safepoints load from; NULL: kicked, the load faults */
    uint64_t keep[3];       /* across the parts of one instruction */
    uint64_t found;         /* where to go on with the host's address, frame.t0, in T0 */
    uint32_t id;            /* BT_JIT_ID_*: which point or exit calls C */
    int32_t ret;            /* enum bt_ret, when translated code is left */
    uint64_t t0;            /* the address of an access that missed the TLB */
    const struct bt_tlb_entry *tlb;
    uint64_t context;  /* of linear addresses: bt_jit_key() */
    uint64_t page_lin; /* linear address of the page that executes (position independent units) */
    uint64_t host_rsp;
    uint64_t
        flags; /* the guest's arithmetic flags; the rest as PUSHF pushes it in a host process */
};
_Static_assert(sizeof(struct bt_jit_frame) == 128, "the red zone");
#define BT_JIT_FRAME(field)                                                                        \
    ((int)offsetof(struct bt_jit_frame, field) - (int)sizeof(struct bt_jit_frame))

static inline struct bt_jit_frame *bt_jit_frame(struct bt_cpu *c)
{
    return (struct bt_jit_frame *)(void *)c - 1;
}

/* Jump cache: linear address and context in one key, to the entry of a unit. Right above struct bt_cpu. */
struct bt_jit_jc {
    struct bt_jit_jc_entry {
        uint64_t key, code;
    } entry[1 << BT_JIT_JC_BITS];
};
struct bt_jit_cpu {
    _Alignas(64) uint8_t below[BT_JIT_BELOW];
    struct bt_jit_frame frame;
    _Alignas(64) struct bt_cpu cpu;
    struct bt_jit_jc jc;
};
_Static_assert(offsetof(struct bt_jit_cpu, cpu) ==
                   offsetof(struct bt_jit_cpu, frame) + sizeof(struct bt_jit_frame),
               "the frame is right below");
#define BT_JIT_JC_HASH 0x9e3779b1u
/*
 * In the context of 32-bit code, so that its keys are nobody else's: contexts leave bit 63 alone, where
 * canonical addresses have the same as here.
 */
#define BT_JIT_CODE32 BIT64(47)
enum {
    BT_JIT_JC_KEY = offsetof(struct bt_jit_cpu, jc.entry[0].key) - offsetof(struct bt_jit_cpu, cpu),
    BT_JIT_JC_CODE =
        offsetof(struct bt_jit_cpu, jc.entry[0].code) - offsetof(struct bt_jit_cpu, cpu),
};
static inline struct bt_jit_jc *bt_jit_jc(struct bt_cpu *c)
{
    return (struct bt_jit_jc *)(void *)((uint8_t *)c - offsetof(struct bt_jit_cpu, cpu) +
                                        offsetof(struct bt_jit_cpu, jc));
}

/* --- units --- */
struct bt_jit_exit {
    uint32_t unit, site; /* offset in the buffer of the rel32 of its jump, */
    uint32_t stub;       /* and of where that leads when not linked */
    int32_t target;      /* from the start of the unit's page */
    uint32_t next;       /* of the exits linked to the same unit; 0: last */
    uint32_t next_far;   /* of bt_jit.far; 0: last */
    uint32_t to;         /* unit it is linked to; 0: none */
    bool listed;         /* in bt_jit.far */
    bool saved;          /* flags are in frame.flags at the jump; else in EFLAGS */
};

/* Units by where their code is, for jumps that the jump cache does not know; as much as fits. */
struct bt_jit_known {
    uint64_t hva, lin; /* lin 0: good for any linear address */
    uint32_t key;      /* bt_cpu.code_key that it is for */
    uint32_t unit, saved_entry;
};

/* A place where C runs instructions for a unit. */
struct bt_jit_point {
    uint32_t unit;
    uint32_t retry, resume; /* offsets in the buffer; resume 0: go on at RIP */
    uint32_t
        found; /* BT_JIT_MISS_READ, _WRITE: behind the check, with the host's address in T0; or 0 */
    uint16_t off;         /* of its first instruction from the start of the page */
    uint8_t count;        /* instructions; 0: none, see bt_jit_called() */
    uint8_t access;       /* BT_JIT_MISS_* */
    uint8_t crossed;      /* times that a group lay in two pages */
    uint16_t size;        /* bytes of the access; BT_JIT_MISS_JUMP: that RSP moves by */
    struct bt_block *one; /* the decoded instruction, if it is still that of `flushes` */
    uint64_t flushes;
};
/* BT_JIT_MISS_JUMP: a jump, to frame.t0 XOR frame.context, that missed the jump cache; nothing else is left to do. */
enum { BT_JIT_MISS_NONE, BT_JIT_MISS_READ, BT_JIT_MISS_WRITE, BT_JIT_MISS_JUMP };
#define BT_JIT_ID_EXIT (1u << 31) /* frame.id is an exit's number, */
#define BT_JIT_ID_GONE (1u << 30) /* or a unit's that is stale; else a point's */
enum { BT_JIT_JUMP = 5 };         /* bytes of jmp rel32 */

/* Host instructions that may fault on the guest's behalf: where to go on then. Ascending in `at`. */
struct bt_jit_fault {
    uint32_t at, stub;
};

struct bt_jit_unit {
    struct bt_block *block; /* what it starts with */
    struct bt_jit_unit *page_next;
    uint64_t lin, gpa;
    const uint8_t *hva;
    uint8_t *bytes;                   /* what it was made from */
    uint32_t saved_entry, host_entry; /* offsets in the buffer: flags in frame.flags, in EFLAGS */
    uint32_t code, end, late, late_end;
    uint32_t key;              /* bt_cpu.code_key that it is for */
    uint32_t links, far_links; /* exits that lead here: from its own page, from others */
    uint32_t first_exit, n_exits;
    uint16_t len;
    bool fixed; /* good for lin only */
    bool fpu;   /* the guest's FPU state is in the registers in its later part */
    bool stale; /* the page was written, or the unit is dropped: its entries lead to `gone` */
    uint32_t gone_host, gone_saved; /* where, in the buffer: to C, which looks for another unit */
    uint8_t entry_bytes[2][BT_JIT_JUMP]; /* of saved_entry, host_entry, while it is stale */
};

/* A page of code as this vCPU has translated it. */
struct bt_jit_page {
    struct bt_code_page *page;
    struct bt_jit_unit *units; /* those that a write to it closes */
    struct bt_jit_page *next;  /* of bt_jit.pages */
    uint32_t version;
};

enum {
    BT_JIT_CODE = 128 * MIB,
    BT_JIT_LATE_AT = 72 * MIB, /* from there on: late code, so that what is hot lies together */
    BT_JIT_UNITS = 1 << 19,
    BT_JIT_EXITS = 1 << 21,
    BT_JIT_POINTS = 1 << 22,
    BT_JIT_FAULTS = 1 << 21,
    BT_JIT_PAGES = 1 << 14,
    BT_JIT_KNOWN_BITS = 17,
    BT_JIT_ARENA = 128 * MIB,
};

/* All arrays are reserved at their greatest size and touched as needed. */
struct bt_jit {
    uint8_t *w;       /* the code buffer as it is written, */
    const uint8_t *x; /* and as it is executed */
    uint32_t used, late_used, thunks_end;
    uint32_t huge[2]; /* so far it was made huge pages: up to BT_JIT_LATE_AT, and behind */
    uint32_t enter, call, found, stack[2]; /* thunks; [write] */
    uint32_t n_units, n_exits, n_points, n_faults, n_pages;
    struct bt_jit_unit *unit; /* [0] is not used, nor are exit[0] and point[0] */
    struct bt_jit_exit *exit;
    struct bt_jit_point *point;
    struct bt_jit_fault *fault;
    struct bt_jit_known *known; /* hash table, [1 << BT_JIT_KNOWN_BITS] */
    struct bt_jit_page *page;   /* hash table by page */
    struct bt_jit_page *pages;  /* those in use */
    uint32_t far;               /* exits that lead, or led, into another page */
    uint8_t *arena;             /* bytes of units */
    uint32_t arena_used;
    struct bt_jit_scratch *scratch;
    uint32_t hot;                 /* BT_JIT_HOT; tests want it sooner */
    uint64_t translated, flushes; /* statistics: instructions; times that all was dropped */
    uint32_t jc_key[2];           /* code_key of the 64-bit code in the jump cache: [user code] */
    bool off;
};

must_check int bt_jit_create(struct bt_cpu *c, struct err *e);
void bt_jit_destroy(struct bt_cpu *c);

/* b, at rip, is about to run and has become hot: translates it if that can be done. */
void bt_jit_heat(struct bt_cpu *c, struct bt_block *b, uint64_t rip);
/* Runs translated code from b's unit on: enum bt_ret. */
int bt_jit_enter(struct bt_cpu *c, const struct bt_block *b, uint64_t rip);
/* May b's unit be entered at rip? */
bool bt_jit_ready(struct bt_cpu *c, const struct bt_block *b, uint64_t rip);
/* All decoded blocks go, and all units with them. */
void bt_jit_flush(struct bt_cpu *c);
/* The page of gpa was, by this vCPU. */
void bt_jit_recheck_at(struct bt_cpu *c, uint64_t gpa);
/* The jump cache is emptied: contexts were numbered anew. */
void bt_jit_empty(struct bt_cpu *c);
/* Pages may have been written by others: those whose version changed are cut off. */
void bt_jit_recheck(struct bt_cpu *c);
/* Executable mappings changed: linear addresses of kernel code may mean something else. */
void bt_jit_unlink_fixed(struct bt_cpu *c);
/* The unit's groups of accesses do not pay: it is dropped, its block soon translated without. */
void bt_jit_take_apart(struct bt_cpu *c, struct bt_jit_unit *u);
/* Somebody came to u, which is stale, and other code is there now: nobody shall come again. */
void bt_jit_replaced(struct bt_cpu *c, struct bt_jit_unit *u);
/* Jumps of exit go to the unit from now on. */
void bt_jit_link(struct bt_jit *j, uint32_t exit, uint32_t unit);
/* Any thread, after c->kick was set: translated code leaves at its next safepoint. */
void bt_jit_kick(struct bt_cpu *c);
/* A host fault at pc, in translated code: where to go on, or NULL if it is none of ours. Signal handler. */
const uint8_t *bt_jit_fault(const struct bt_cpu *c, const uint8_t *pc);

static inline uint64_t bt_jit_key(const struct bt_cpu *c, uint64_t lin)
{
    return lin ^ ((const struct bt_jit_frame *)(const void *)c - 1)->context;
}

/* As translated code computes it: the offset of the entry. */
enum { BT_JIT_JC_MASK = ((1 << BT_JIT_JC_BITS) - 1) * (int)sizeof(struct bt_jit_jc_entry) };
static inline struct bt_jit_jc_entry *bt_jit_jc_slot(struct bt_cpu *c, uint64_t key)
{
    uint32_t at = (uint32_t)key * BT_JIT_JC_HASH & BT_JIT_JC_MASK;

    return &bt_jit_jc(c)->entry[at / sizeof(struct bt_jit_jc_entry)];
}

static inline struct bt_jit_known *bt_jit_known_slot(struct bt_jit *j, uint64_t hva)
{
    return &j->known[hva * 0x9e3779b97f4a7c15ull >> (64 - BT_JIT_KNOWN_BITS)];
}

/* --- bt_jit_slow.c --- */
/* frame.id calls: where to go on in the buffer, or NULL to leave with frame.ret. */
const uint8_t *bt_jit_called(struct bt_cpu *c);
/*
 * The entry of the unit at c->s.rip for flags in frame.flags, and its number; NULL: the run loop is to go on
 * with *ret. indirect: the jump cache learns it.
 */
const uint8_t *bt_jit_goto(struct bt_cpu *c, bool indirect, uint32_t *unit, int *ret);
/* frame from c->s, before translated code runs. */
void bt_jit_frame_in(struct bt_cpu *c);

/* --- bt_jit_buf.c --- */
must_check int bt_jit_buf_create(struct bt_jit *j, struct err *e);
void bt_jit_buf_destroy(struct bt_jit *j);
/* Before `room` bytes of code, and of late code, are written. */
void bt_jit_buf_reach(struct bt_jit *j, size_t room);

/* --- bt_jit_thunk.c --- */
void bt_jit_thunks(struct bt_jit *j);

/* --- translation --- */
/* Makes the unit at hva; NULL: there is no room, or nothing that can be translated. */
bool bt_jit_full(const struct bt_jit *j);
struct bt_jit_unit *bt_jit_translate(struct bt_cpu *c, struct bt_block *b, uint64_t rip);

#endif
